//! Every instruction set's float operations: the scalar one's bits, and near the exact value.
//!
//! Outputs are filled with NaN before each call and what must not be read holds NaN, so an element that
//! was skipped or a lane that leaked shows.

mod support;

use support::{Random, bits, same_bits, scalar, tree, ulps};
use tritwise_kernels::arch::{
    Angles, KV_BLOCK, KvLayout, KvType, Layout, Line, NormWeight, Panels, TableRows, available,
};
use tritwise_tensor::{Activation, DenseEncoding, RopeStyle};

/// Lengths around the lane count, and some that models have.
const LENGTHS: [usize; 18] = [1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 47, 64, 100, 127, 256, 257, 640, 699];

/// Rows to try at each length: plain, wild, and with what is not a number.
fn rows(random: &mut Random, len: usize) -> Vec<Vec<f32>> {
    let mut special = random.plain(len);
    special[random.below(len)] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][random.below(3)];
    vec![random.plain(len), random.wild(len), vec![0.0; len], special, random.any(len)]
}

#[test]
fn exp_is_accurate_everywhere() {
    // The others have the scalar one's bits, which is another test.
    let isa = available()[0];
    // Every 251st pattern of both signs, and every one near the ends of the range.
    let mut x: Vec<f32> = (0..=u32::MAX / 251).map(|i| f32::from_bits(i * 251)).collect();
    for edge in [-104.0_f32, -103.972_08, -87.336_55, -0.0, 0.0, 0.346_573_6, 88.722_84, 89.0] {
        x.extend((0..2000).map(|i| f32::from_bits(edge.to_bits().wrapping_add(i).wrapping_sub(1000))));
    }
    let mut y = x.clone();
    isa.exp(&mut y);
    let mut worst = (0.0, 0.0);
    for (x, y) in x.iter().zip(&y) {
        if x.is_nan() {
            assert!(y.is_nan(), "exp({x}) = {y}");
            continue;
        }
        let error = ulps(*y, f64::from(*x).exp());
        if error > worst.0 {
            worst = (error, *x);
        }
    }
    println!("worst: {} ulp at {}", worst.0, worst.1);
    assert!(worst.0 <= 1.01, "{} ulp at {}", worst.0, worst.1);
}

#[test]
fn exp_at_its_ends() {
    for isa in available() {
        let mut x = [f32::NEG_INFINITY, -200.0, -104.0, -0.0, 0.0, 1.0, 89.0, f32::INFINITY, f32::NAN];
        isa.exp(&mut x);
        assert_eq!(bits(&x[..5]), bits(&[0.0, 0.0, 0.0, 1.0, 1.0]), "{}", isa.name());
        assert_eq!(bits(&x[6..]), bits(&[f32::INFINITY, f32::INFINITY, f32::NAN]), "{}", isa.name());
    }
}

#[test]
fn exp_has_the_same_bits() {
    let mut random = Random(1);
    let mut x: Vec<f32> = (0..100_000).map(|_| 110.0 * random.unit()).collect();
    x.extend(random.any(100_000));
    // Where results are subnormal, which some CPUs are slow to make, and some of these instruction sets make by another way.
    x.extend((0..200_000).map(|i| -87.0 - i as f32 / 200_000.0 * 17.5));
    same_bits("exp", |isa| {
        let mut y = x.clone();
        isa.exp(&mut y);
        bits(&y)
    });
}

/// `Σ x²` as it is defined: sixteen partials, then the tree.
fn sum_of_squares(x: &[f32]) -> f32 {
    let mut partials = [0.0_f32; 16];
    for (i, x) in x.iter().enumerate() {
        partials[i % 16] = x.mul_add(*x, partials[i % 16]);
    }
    tree(partials)
}

#[test]
fn normalize_is_its_formula() {
    let mut random = Random(2);
    for len in LENGTHS {
        let weight = random.plain(len);
        for x in rows(&mut random, len) {
            let got = same_bits("normalize", |isa| {
                let mut out = vec![f32::NAN; len];
                isa.normalize(&x, NormWeight { weight: &weight, eps: 1e-5 }, &mut out);
                bits(&out)
            });
            let r = 1.0 / (sum_of_squares(&x) / len as f32 + 1e-5).sqrt();
            let expected: Vec<f32> = x.iter().zip(&weight).map(|(x, g)| (x * r) * g).collect();
            assert_eq!(got, bits(&expected), "len={len}");
        }
    }
}

#[test]
fn quantize_is_its_formula() {
    let mut random = Random(3);
    for len in LENGTHS {
        let weight = random.plain(len);
        for (x, normed) in rows(&mut random, len).into_iter().flat_map(|x| [(x.clone(), false), (x, true)]) {
            let norm = normed.then_some(NormWeight { weight: &weight, eps: 1e-6 });
            let (codes, scale, sum) = same_bits("quantize", |isa| {
                let mut codes = vec![99; len];
                let (scale, sum) = isa.quantize(&x, norm, &mut codes);
                (codes, bits(&[scale]), sum)
            });
            let mut row = x.clone();
            if let Some(norm) = norm {
                scalar().normalize(&x, norm, &mut row);
            }
            if row.iter().any(|x| !x.is_finite()) {
                assert_eq!((codes, scale, sum), (vec![0; len], bits(&[f32::NAN]), 0), "len={len}");
                continue;
            }
            let absmax = row.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            let s = 127.0 / absmax.max(1e-5);
            let expected: Vec<i8> = row.iter().map(|x| (x * s).round_ties_even().clamp(-128.0, 127.0) as i8).collect();
            assert_eq!((&codes, scale), (&expected, bits(&[s])), "len={len}");
            assert_eq!(sum, expected.iter().map(|q| i32::from(*q)).sum::<i32>());
        }
    }
}

#[test]
fn quantize_rounds_ties_to_even() {
    // The largest is 127, so the factor is 1.
    let x = [127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -126.5, 126.5];
    for isa in available() {
        let mut codes = [0; 9];
        assert_eq!(isa.quantize(&x, None, &mut codes), (1.0, 127));
        assert_eq!(codes, [127, 0, 2, 2, 0, -2, -2, -126, 126], "{}", isa.name());
    }
}

#[test]
fn quantize_to_16_bits_is_its_formula() {
    let mut random = Random(13);
    for len in LENGTHS {
        let weight = random.plain(len);
        for (x, normed) in rows(&mut random, len).into_iter().flat_map(|x| [(x.clone(), false), (x, true)]) {
            let norm = normed.then_some(NormWeight { weight: &weight, eps: 1e-6 });
            let (high, low, scale, sums) = same_bits("quantize16", |isa| {
                let (mut high, mut low, mut sums) = (vec![99; len], vec![99; len], vec![99; len.div_ceil(16)]);
                let scale = isa.quantize16(&x, norm, &mut high, &mut low, &mut sums);
                (high, low, bits(&[scale]), sums)
            });
            let mut row = x.clone();
            if let Some(norm) = norm {
                scalar().normalize(&x, norm, &mut row);
            }
            let codes: Vec<i32> = high.iter().zip(&low).map(|(h, l)| 256 * i32::from(*h) + i32::from(*l)).collect();
            let running = |i: usize| codes.iter().take(16 * (i + 1)).sum::<i32>();
            assert_eq!(sums, (0..len.div_ceil(16)).map(running).collect::<Vec<_>>(), "len={len}");
            if row.iter().any(|x| !x.is_finite()) {
                assert_eq!((codes, scale), (vec![0; len], bits(&[f32::NAN])), "len={len}");
                continue;
            }
            let s = 32639.0 / row.iter().fold(1e-30_f32, |max, x| max.max(x.abs()));
            let expected: Vec<i32> = row.iter().map(|x| (x * s).round_ties_even() as i32).collect();
            assert_eq!((&codes, scale), (&expected, bits(&[s])), "len={len}");
            assert!(codes.iter().all(|q| q.abs() <= 32639));
        }
    }
}

#[test]
fn sums_of_16_bit_codes_fit_32_bits_in_any_width() {
    for (len, most) in [(65_795, 32_639), (65_796, 32_638), (1_000_000, 2147)] {
        for isa in available() {
            let (mut high, mut low, mut sums) = (vec![0; len], vec![0; len], vec![0; len.div_ceil(16)]);
            let scale = isa.quantize16(&vec![-1.0; len], None, &mut high, &mut low, &mut sums);
            assert_eq!(scale, most as f32, "{} columns on {}", len, isa.name());
            assert_eq!(sums.last(), Some(&-(most * len as i32)));
        }
    }
}

#[test]
fn trit_sums_are_their_formula() {
    let mut random = Random(14);
    for (panels, lines, tokens, gap) in
        [(1, 1, 1, 0), (3, 4, 1, 0), (9, 2, 1, 3), (1, 7, 2, 1), (2, 3, 7, 5), (5, 1, 4, 0)]
    {
        let codes: Vec<Line> =
            (0..panels * lines).map(|_| Line(std::array::from_fn(|_| random.bits() as u8))).collect();
        let packed = Panels::new(Layout::TwoBit, &codes, lines);
        let (rows, cols) = (packed.rows(), packed.cols());
        for numbers in [Random::plain, Random::wild, Random::any] {
            // What must not be read holds NaN.
            let mut x = vec![f32::NAN; tokens * (cols + gap)];
            for x in x.chunks_mut(cols + gap) {
                x[..cols].copy_from_slice(&numbers(&mut random, cols));
            }
            let got = same_bits("trit_sums", |isa| {
                let mut out = vec![f32::NAN; tokens * rows];
                isa.trit_sums(packed, &x[..x.len() - gap], cols + gap, &mut out);
                bits(&out)
            });
            let sum = |i: usize| {
                let (x, row) = (&x[i / rows * (cols + gap)..][..cols], i % rows);
                let panel = &codes[row / 16 * lines..];
                let trit = |col: usize| f32::from(panel[col / 16].code(Layout::TwoBit, row % 16, col % 16)) - 1.0;
                x.iter().enumerate().fold(0.0, |sum, (col, x)| sum + trit(col) * x)
            };
            let expected: Vec<f32> = (0..tokens * rows).map(sum).collect();
            assert_eq!(got, bits(&expected), "{panels} panels of {lines} lines, {tokens} tokens");
        }
    }
}

#[test]
fn gate_is_its_formula() {
    let mut random = Random(4);
    for len in LENGTHS {
        for x in rows(&mut random, len) {
            let up = random.plain(len);
            for activation in [Activation::SquaredRelu, Activation::Silu, Activation::GeluTanh] {
                let got = same_bits("gate", |isa| {
                    let mut gate = x.clone();
                    isa.gate(activation, &mut gate, &up);
                    bits(&gate)
                });
                for ((got, x), up) in got.iter().zip(&x).zip(&up) {
                    let expected = match activation {
                        Activation::SquaredRelu if x.is_nan() => f32::NAN,
                        Activation::SquaredRelu => x.max(0.0) * x.max(0.0) * up,
                        Activation::Silu => {
                            let mut e = [-x];
                            scalar().exp(&mut e);
                            x / (1.0 + e[0]) * up
                        }
                        Activation::GeluTanh => {
                            let mut e = [-(x * (x * x).mul_add(0.071_354_814, 1.595_769_2))];
                            scalar().exp(&mut e);
                            x / (1.0 + e[0]) * up
                        }
                    };
                    assert_eq!(bits(&[f32::from_bits(*got)]), bits(&[expected]), "{activation:?}({x}) · {up}");
                }
            }
        }
    }
}

#[test]
fn gelu_is_close_to_its_definition() {
    // Torch's `gelu(x, approximate="tanh")`, in f64.
    for i in -200..=200 {
        let x = f64::from(i) / 20.0;
        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        let expected = x / 2.0 * (1.0 + u.tanh());
        let mut gate = [x as f32];
        scalar().gate(Activation::GeluTanh, &mut gate, &[1.0]);
        assert!((f64::from(gate[0]) - expected).abs() <= 1e-6 * x.abs(), "gelu({x}) is {}, not {expected}", gate[0]);
    }
}

#[test]
fn add_adds() {
    let mut random = Random(5);
    for len in LENGTHS {
        for x in rows(&mut random, len) {
            let y = random.wild(len);
            let got = same_bits("add", |isa| {
                let mut sum = x.clone();
                isa.add(&mut sum, &y);
                bits(&sum)
            });
            let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
            assert_eq!(got, bits(&expected));
        }
    }
}

/// Factors of every size, and what is no number. Most are near one, where a division may be products instead.
#[test]
fn scaled_sums_are_their_formula() {
    let mut random = Random(31);
    for round in 0..300 {
        let len = LENGTHS[round % LENGTHS.len()];
        let mut sums: Vec<i32> = (0..len).map(|_| random.bits() as i32 >> (random.bits() % 32)).collect();
        let less = sums[random.bits() as usize % len];
        sums.push(less);
        let mut factor = || match random.bits() % 4 {
            0 => f32::from_bits(random.bits() as u32),
            _ => (random.unit() + 1.5) * 2.0_f32.powi(random.bits() as i32 % 50),
        };
        let (scale, by) = (factor(), factor());
        scaled_sums_are_exact(&sums, less, scale, by);
        scaled_sums_are_exact(&sums, less, -scale, by);
    }
}

/// Quotients so near the middle of two numbers that a hundredth of a last place rounds them wrongly.
#[test]
fn scaled_sums_are_rounded_to_nearest() {
    let mut random = Random(37);
    for round in 0..200 {
        // Divisors of 1..2: just above one, just below two, and others.
        let mantissa = match round % 4 {
            0 => 1 << (random.bits() % 8),
            1 => 0x7f_ffff - random.bits() as u32 % 4,
            _ => random.bits() as u32 & 0x7f_ffff,
        };
        let by = f32::from_bits(127 << 23 | mantissa);
        let mut sums = Vec::new();
        for _ in 0..1 << 14 {
            // In 2²²..2²³ a last place is a half.
            let middle = f64::from((1 << 24) + 2 * (random.bits() as u32 & 0x7f_ffff) + 1) / 4.0;
            let dividend = f64::from(by) * middle;
            if (dividend - dividend.round()).abs() < 0.005 {
                sums.push(dividend.round() as i32);
            }
        }
        assert!(sums.len() > 16, "vectors of {by}");
        scaled_sums_are_exact(&sums, 0, 1.0, by);
        scaled_sums_are_exact(&sums, 0, 2.0_f32.powi(-30), by * 2.0_f32.powi(21));
    }
}

fn scaled_sums_are_exact(sums: &[i32], less: i32, scale: f32, by: f32) {
    let expected: Vec<f32> = sums.iter().map(|sum| sum.wrapping_sub(less) as f32 * scale / by).collect();
    for isa in available() {
        let mut out = vec![f32::NAN; sums.len()];
        isa.scale_sums(sums, less, scale, by, &mut out);
        for ((got, expected), sum) in out.iter().zip(&expected).zip(sums) {
            let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
            assert!(same, "({sum} - {less}) · {scale:e} / {by:e} on {}: {got:e}, not {expected:e}", isa.name());
        }
    }
}

#[test]
fn rotate_turns_pairs() {
    let mut random = Random(6);
    for head_dim in [2, 8, 30, 32, 50, 64, 96, 100, 128, 256] {
        for style in [RopeStyle::Halves, RopeStyle::Interleaved] {
            let partner = |i: usize| match style {
                RopeStyle::Halves => (i + head_dim / 2) % head_dim,
                RopeStyle::Interleaved => i ^ 1,
            };
            let angle = random.plain(head_dim);
            let theta = |i: usize| angle[i.min(partner(i))];
            let cos: Vec<f32> = (0..head_dim).map(|i| theta(i).cos()).collect();
            let sin: Vec<f32> =
                (0..head_dim).map(|i| if i < partner(i) { -theta(i).sin() } else { theta(i).sin() }).collect();
            let heads = random.plain(3 * head_dim);
            let got = same_bits("rotate", |isa| {
                let mut heads = heads.clone();
                isa.rotate(style, Angles { cos: &cos, sin: &sin }, &mut heads);
                bits(&heads)
            });
            for (head, got) in heads.chunks(head_dim).zip(got.chunks(head_dim)) {
                for i in 0..head_dim {
                    let (a, b) = (head[i], head[partner(i)]);
                    let product = b * theta(i).sin();
                    let expected = a.mul_add(theta(i).cos(), if i < partner(i) { -product } else { product });
                    assert_eq!(got[i], expected.to_bits(), "{style:?} head_dim={head_dim} i={i}");
                }
            }
        }
    }
}

#[test]
fn every_binary16_decodes() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let got = same_bits("decode F16", |isa| {
        let mut out = vec![9.0; 1 << 16];
        isa.decode(TableRows::new(DenseEncoding::F16, 1, 1 << 16, &all), &mut out);
        bits(&out)
    });
    for (bits, got) in (0..=u16::MAX).zip(got) {
        // The definition, in exact arithmetic.
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023) / 1024.0);
        let magnitude = match exponent {
            0 => fraction * 2_f32.powi(-14),
            31 if fraction == 0.0 => f32::INFINITY,
            31 => f32::NAN,
            _ => (1.0 + fraction) * 2_f32.powi(exponent - 15),
        };
        let expected = if bits >> 15 == 0 { magnitude } else { -magnitude };
        assert_eq!(got, support::bits(&[expected])[0], "{bits:#06x}");
    }
}

#[test]
fn binary16_rounds_to_nearest_even() {
    let mut random = Random(7);
    let mut x = random.any(200_000);
    x.extend(random.plain(50_000));
    // The places where rounding decides: every binary16, the middle to its neighbour, and one bit to each side.
    for half in 0..0x7c00_u16 {
        let (low, high) = (half::f16::from_bits(half).to_f32(), half::f16::from_bits(half + 1).to_f32());
        let middle = if high.is_infinite() { 65520.0 } else { (low + high) / 2.0 };
        x.extend([low, middle.next_down(), middle, middle.next_up(), -middle]);
    }
    x.resize(x.len().next_multiple_of(KV_BLOCK), 0.0);
    let got = same_bits("store_kv", |isa| {
        let layout = KvLayout::new(KvType::F16, x.len(), 1);
        let mut lines = vec![[0xff; 64]; layout.lines()];
        isa.store_kv(layout, &mut lines, 0, &x, &x);
        // The first position of every tile of values.
        let tiles = lines[x.len()..].chunks(layout.positions()).map(|tile| tile[0]);
        let halves = tiles.flat_map(|line| line.as_chunks::<2>().0.to_vec()).map(u16::from_le_bytes);
        // All NaNs alike.
        halves.map(|h| if h & 0x7fff > 0x7c00 { 0x7e00 } else { h }).collect::<Vec<u16>>()
    });
    for (x, got) in x.iter().zip(got) {
        let got = half::f16::from_bits(got).to_f64();
        if x.is_nan() {
            assert!(got.is_nan(), "{x}");
            continue;
        }
        // The nearest multiple of the last place, which is that of subnormal numbers at least; beyond the largest by
        // half a step, infinite. (`half::f16::from_f64` is no help: without F16C it drops the last bits before it rounds.)
        let magnitude = f64::from(x.abs());
        let place = 2_f64.powi((magnitude.log2().floor() as i32).clamp(-14, 15) - 10);
        let rounded = (magnitude / place).round_ties_even() * place;
        let expected = if magnitude >= 65520.0 { f64::INFINITY } else { rounded }.copysign(f64::from(*x));
        assert_eq!(got.to_bits(), expected.to_bits(), "{x}");
    }
}
