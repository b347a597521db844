//! The CPU backend's float operations over batches: no result depends on the
//! instruction set, on the number of threads, or on how a batch was cut.

mod support;

use support::{Random, bits};
use tritwise_kernels::arch::{Isa, NormWeight, available};
use tritwise_kernels::cpu::{KvType, Quantized, Rounding, Rows};
use tritwise_kernels::{Backend, CpuBackend};
use tritwise_tensor::{
    Activation, Config, DenseEncoding, DenseMatrix, Group, Inputs, Norms, Rope, RopeScaling, RopeStyle, Scales,
    TernaryEncoding, TernaryMatrix,
};

fn cpu(isa: &str, threads: usize, kv: KvType) -> CpuBackend {
    CpuBackend::builder().isa(isa).threads(threads).kv(kv).build().unwrap()
}

/// The best instruction set on one to four threads and with another number for decoding, and the others on two.
fn backends(kv: KvType) -> Vec<CpuBackend> {
    let isas = available();
    let threads = (1..=4).map(|threads| cpu(isas[0].name(), threads, kv));
    let decoding = [(3, 1), (1, 3)].map(|(threads, decode)| {
        let builder = CpuBackend::builder().isa(isas[0].name()).threads(threads).decode_threads(decode);
        builder.kv(kv).build().unwrap()
    });
    threads.chain(decoding).chain(isas[1..].iter().map(|isa| cpu(isa.name(), 2, kv))).collect()
}

/// Calls `f` with every backend and holds its result against the first one's.
fn same_bits<T: PartialEq>(what: &str, f: impl Fn(&CpuBackend) -> T) -> T {
    same_bits_of(what, &backends(KvType::F16), f)
}

fn same_bits_of<T: PartialEq>(what: &str, backends: &[CpuBackend], f: impl Fn(&CpuBackend) -> T) -> T {
    let expected = f(&backends[0]);
    for cpu in &backends[1..] {
        assert!(f(cpu) == expected, "{what}: {} on {} threads differs", cpu.isa().name(), cpu.threads());
    }
    expected
}

fn rows(random: &mut Random, tokens: usize, width: usize) -> Rows {
    let mut rows = Rows::new(width);
    rows.set_tokens(tokens);
    rows.as_mut_slice().copy_from_slice(&random.plain(tokens * width));
    rows
}

/// Rows `range` of `from`, as a batch of their own.
fn some_rows(from: &Rows, range: std::ops::Range<usize>) -> Rows {
    let mut rows = Rows::new(from.width());
    rows.set_tokens(range.len());
    rows.as_mut_slice().copy_from_slice(&from.as_slice()[range.start * from.width()..range.end * from.width()]);
    rows
}

fn config(heads: usize, kv_heads: usize, head_dim: usize) -> Config {
    Config {
        architecture: "test".into(),
        hidden: heads * head_dim,
        layers: 2,
        heads,
        kv_heads,
        head_dim,
        ffn: 64,
        vocab: 100,
        context: 1024,
        norm_eps: 1e-5,
        input_norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, style: RopeStyle::Halves, scaling: RopeScaling::None },
        activation: Activation::Silu,
        window: None,
        norms: Norms { sub: false, ..Norms::default() },
        embedding_scale: 1.0,
        inputs: Inputs::Int8,
        pooling: None,
        tied: true,
    }
}

/// Attention over `len` positions, given to the cache in pieces of `pieces` rows, by turns in two layers.
fn attention(cpu: &CpuBackend, config: &Config, pieces: &[usize], [q, k, v]: &[Rows; 3]) -> Vec<f32> {
    let len = pieces.iter().sum();
    let mut cache = cpu.cache(config, len);
    let mut all = vec![f32::NAN; len * q.width()];
    let mut start = 0;
    for &piece in pieces {
        // Other rows before and behind, as in a batch of several sequences.
        let batch = |from: &Rows| {
            let mut batch = Rows::new(from.width());
            batch.set_tokens(piece + 3);
            batch.as_mut_slice().fill(f32::NAN);
            let values = &from.as_slice()[start * from.width()..][..piece * from.width()];
            batch.as_mut_slice()[2 * from.width()..][..values.len()].copy_from_slice(values);
            batch
        };
        let (q, k, v) = (batch(q), batch(k), batch(v));
        for layer in 0..2 {
            let mut out = Rows::new(q.width());
            out.set_tokens(piece + 3);
            out.as_mut_slice().fill(f32::NAN);
            cpu.attend(layer, &mut cache, start, usize::MAX, 2..2 + piece, &q, &k, &v, &mut out);
            let outside = out.row(0).iter().chain(out.row(1)).chain(out.row(piece + 2));
            assert!(outside.copied().all(f32::is_nan), "rows outside the range are not the operation's");
            all[start * q.width()..][..piece * q.width()]
                .copy_from_slice(&out.as_slice()[2 * q.width()..][..piece * q.width()]);
        }
        start += piece;
    }
    all
}

#[test]
fn attention_does_not_depend_on_threads_or_cuts() {
    let mut random = Random(1);
    for kv in [KvType::F16, KvType::F32, KvType::Int8] {
        let backends = backends(kv);
        for (heads, kv_heads, head_dim, len) in [(4, 1, 64, 530), (6, 2, 100, 270), (3, 3, 96, 270), (40, 1, 2, 530)] {
            let config = config(heads, kv_heads, head_dim);
            let width = kv_heads * head_dim;
            let qkv = [
                rows(&mut random, len, heads * head_dim),
                rows(&mut random, len, width),
                rows(&mut random, len, width),
            ];
            // The scalar kernels walk the whole prompt once; the cuts are tried on the best ones.
            let whole = same_bits_of("attend", &backends, |cpu| bits(&attention(cpu, &config, &[len], &qkv)));
            let one_by_one = [&[246][..], &[1; 24], if len > 270 { &[260] } else { &[] }].concat();
            for pieces in [&[255, 2, len - 257][..], &[5, 11, 240, len - 256], &[64, len - 64], &one_by_one] {
                let cut = bits(&attention(&backends[1], &config, pieces, &qkv));
                assert!(cut == whole, "{kv:?} heads={heads} kv_heads={kv_heads} head_dim={head_dim} {pieces:?}");
            }
        }
    }
}

#[test]
fn attention_over_binary32_is_near_the_exact_value() {
    let mut random = Random(2);
    let config = config(4, 2, 48);
    let len = 300;
    let [q, k, v] = [rows(&mut random, len, 4 * 48), rows(&mut random, len, 96), rows(&mut random, len, 96)];
    let out = attention(&cpu("scalar", 1, KvType::F32), &config, &[len], &[q.clone(), k.clone(), v.clone()]);
    for (pos, out) in out.chunks(4 * 48).enumerate() {
        for (head, out) in out.chunks(48).enumerate() {
            let q = &q.row(pos)[head * 48..][..48];
            let kv = head / 2 * 48..head / 2 * 48 + 48;
            let dot = |k: &[f32]| q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
            let e: Vec<f64> = (0..=pos).map(|j| (dot(&k.row(j)[kv.clone()]) / 48_f64.sqrt()).exp()).collect();
            let sum: f64 = e.iter().sum();
            for (d, out) in out.iter().enumerate() {
                let exact = e.iter().enumerate().map(|(j, e)| e * f64::from(v.row(j)[kv.start + d])).sum::<f64>() / sum;
                assert!((f64::from(*out) - exact).abs() < 1e-5, "pos={pos} head={head} d={d}: {out} for {exact}");
            }
        }
    }
}

#[test]
fn a_fork_goes_its_own_way() {
    let mut random = Random(3);
    for kv in [KvType::F16, KvType::F32, KvType::Int8] {
        let cpu = cpu(available()[0].name(), 2, kv);
        let config = config(2, 1, 32);
        let [q, k, v] = [rows(&mut random, 60, 64), rows(&mut random, 60, 32), rows(&mut random, 60, 32)];
        let step = |cache: &mut _, range: std::ops::Range<usize>, pos| {
            let [q, k, v] = [&q, &k, &v].map(|rows| some_rows(rows, range.clone()));
            let mut out = Rows::new(64);
            cpu.attend(1, cache, pos, usize::MAX, 0..range.len(), &q, &k, &v, &mut out);
            bits(out.as_slice())
        };
        let mut original = cpu.cache(&config, 50);
        step(&mut original, 0..40, 0);
        let mut fork = cpu.fork(&original, 21);
        let other = step(&mut fork, 45..50, 21);
        // The original goes on as if there were no fork …
        let mut fresh = cpu.cache(&config, 50);
        step(&mut fresh, 0..40, 0);
        assert!(step(&mut original, 40..44, 40) == step(&mut fresh, 40..44, 40));
        // … and the fork as a sequence that was cut there.
        let mut cut = cpu.cache(&config, 50);
        step(&mut cut, 0..21, 0);
        assert!(step(&mut cut, 45..50, 21) == other);
    }
}

#[test]
#[should_panic(expected = "positions of 8")]
fn a_full_cache_takes_no_more() {
    let mut random = Random(4);
    let cpu = cpu("scalar", 1, KvType::F16);
    let [q, k, v] = [rows(&mut random, 3, 32), rows(&mut random, 3, 32), rows(&mut random, 3, 32)];
    let mut cache = cpu.cache(&config(1, 1, 32), 8);
    cpu.attend(0, &mut cache, 6, usize::MAX, 0..3, &q, &k, &v, &mut Rows::new(32));
}

#[test]
fn a_cache_tells_its_size() {
    // Two layers of one head of 100: positions in whole blocks of 32, values padded to 128.
    let numbers = |positions: usize| 2 * positions * (100 + 128);
    for (kv, per_number, per_position) in [(KvType::F16, 2, 0), (KvType::F32, 4, 0), (KvType::Int8, 1, 2 * 2 * 4)] {
        let cpu = cpu("scalar", 1, kv);
        for (capacity, positions) in [(17, 32), (256, 256), (300, 320), (0, 0)] {
            let bytes = numbers(positions) * per_number + positions * per_position;
            assert_eq!(cpu.cache_bytes(&config(1, 1, 100), capacity), bytes, "{kv:?}");
        }
        assert_eq!(cpu.cache_bytes(&config(1, 1, 64), usize::MAX), usize::MAX);
    }
}

#[test]
fn rope_turns_rows_by_their_position() {
    let mut random = Random(5);
    for (style, scaling) in [
        (RopeStyle::Halves, RopeScaling::None),
        (RopeStyle::Interleaved, RopeScaling::None),
        (RopeStyle::Halves, RopeScaling::Linear { factor: 4.0 }),
        (RopeStyle::Interleaved, RopeScaling::Divisors((0..64).map(|i| 1.0 + i as f32 / 8.0).collect())),
        (RopeStyle::Halves, YARN),
    ] {
        for (head_dim, heads, tokens) in [(64, 3, 5), (100, 2, 3), (128, 20, 40)] {
            let rope = Rope { theta: 500_000.0, style, scaling: scaling.clone() };
            for start in [0, 250, 4000] {
                let x = rows(&mut random, tokens, heads * head_dim);
                let turned = same_bits("rope", |cpu| {
                    let rotary = cpu.rotary(&rope, head_dim, 4096);
                    let mut x = x.clone();
                    cpu.rope(&mut x, 1..tokens, start, &rotary);
                    bits(x.as_slice())
                });
                let turned: Vec<f32> = turned.into_iter().map(f32::from_bits).collect();
                assert_eq!(turned[..x.width()], *x.row(0), "the first row is outside the range");
                for token in 1..tokens {
                    let pairs = turned[token * x.width()..].chunks(head_dim).zip(x.row(token).chunks(head_dim));
                    for (turned, x) in pairs {
                        for i in 0..head_dim / 2 {
                            let (a, b) = match style {
                                RopeStyle::Halves => (i, i + head_dim / 2),
                                RopeStyle::Interleaved => (2 * i, 2 * i + 1),
                            };
                            let inv_freq = 1.0 / 500_000_f64.powf((2 * i) as f64 / head_dim as f64);
                            let (inv_freq, magnitude) = match &scaling {
                                RopeScaling::None => (inv_freq as f32, 1.0),
                                RopeScaling::Linear { factor } => (inv_freq as f32 / factor, 1.0),
                                RopeScaling::Divisors(divisors) => (inv_freq as f32 / divisors[i], 1.0),
                                RopeScaling::Yarn { .. } => ((inv_freq * yarn_factor(i, head_dim)) as f32, 1.25),
                            };
                            let (sin, cos) = f64::from((start + token - 1) as f32 * inv_freq).sin_cos();
                            let (sin, cos) = (sin * magnitude, cos * magnitude);
                            let exact = [
                                f64::from(x[a]) * cos - f64::from(x[b]) * sin,
                                f64::from(x[b]) * cos + f64::from(x[a]) * sin,
                            ];
                            for (turned, exact) in [turned[a], turned[b]].into_iter().zip(exact) {
                                assert!((f64::from(turned) - exact).abs() < 1e-6, "{turned} for {exact}");
                            }
                        }
                    }
                }
            }
        }
    }
}

const YARN: RopeScaling =
    RopeScaling::Yarn { factor: 4.0, original_context: 1024, beta_fast: 32.0, beta_slow: 1.0, magnitude: 1.25 };

/// What YaRN multiplies the frequency of pair `i` by: 1 where it turns 32 times and more within 1,024
/// positions, 1/4 where it turns once or less, and in between along a line in `i` between whole pairs.
fn yarn_factor(i: usize, head_dim: usize) -> f64 {
    // Pair i turns 1024 · 500000^(-2i/d) / 2π times.
    let pair =
        |turns: f64| (1024.0 / (2.0 * std::f64::consts::PI * turns)).ln() / 500_000_f64.ln() * head_dim as f64 / 2.0;
    let (fast, slow) = (pair(32.0).floor(), pair(1.0).ceil());
    let along = ((i as f64 - fast) / (slow - fast)).clamp(0.0, 1.0);
    (1.0 - along) + along / 4.0
}

#[test]
fn norms_take_whole_rows_or_heads() {
    let mut random = Random(6);
    for (width, len, tokens) in [(64, 64, 3), (128, 32, 40), (2560, 128, 9), (300, 100, 1)] {
        let (x, weight) = (rows(&mut random, tokens, width), random.plain(len));
        let found = same_bits("normalize", |cpu| {
            let mut out = Rows::new(width);
            cpu.normalize(&x, &cpu.norm(&weight, 1e-6), &mut out);
            bits(out.as_slice())
        });
        for (x, found) in x.as_slice().chunks(len).zip(found.chunks(len)) {
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / len as f64;
            for ((x, weight), found) in x.iter().zip(&weight).zip(found) {
                let exact = f64::from(*x) / (mean + 1e-6).sqrt() * f64::from(*weight);
                assert!((f64::from(f32::from_bits(*found)) - exact).abs() < 1e-5, "{exact}");
            }
        }
    }
    let (x, cpu) = (rows(&mut random, 5, 64), cpu("scalar", 1, KvType::F16));
    let norm = cpu.norm(&random.plain(64), 1e-6);
    let (mut all, mut some) = (Rows::new(64), vec![f32::NAN; 2 * 64]);
    cpu.normalize(&x, &norm, &mut all);
    cpu.hidden(&x, &[4, 1], &norm, &mut some);
    assert_eq!(some, [all.row(4), all.row(1)].concat());
}

#[test]
fn positions_can_be_asked_for_from_many_threads_at_once() {
    let cpu = cpu("scalar", 1, KvType::F16);
    let rope = Rope { theta: 10_000.0, style: RopeStyle::Halves, scaling: RopeScaling::None };
    let rotary = cpu.rotary(&rope, 16, 1000);
    let expected: Vec<Vec<f32>> = (0..1000).map(|pos| rotary.angles(pos).cos.to_vec()).collect();
    let fresh = cpu.rotary(&rope, 16, 1000);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (fresh, expected) = (&fresh, &expected);
            scope.spawn(move || {
                for i in 0..1000 {
                    let pos = (i * 7 + worker * 251) % 1000;
                    assert_eq!(fresh.angles(pos).cos, expected[pos]);
                }
            });
        }
    });
}

/// What a [`Quantized`] holds.
fn quantized(x: &Quantized) -> (Vec<i8>, Vec<u32>, Vec<u32>, Vec<i32>) {
    let floats = if x.rounding() == Rounding::Float { x.floats() } else { &[] };
    let sums = (0..x.tokens()).map(|token| x.sum(token, 0..x.padded_width()));
    (x.codes().to_vec(), bits(floats), bits(x.scales()), sums.collect())
}

/// The same of one row, by an instruction set's operations.
fn quantized_row(isa: &dyn Isa, x: &[f32], norm: NormWeight<'_>, rounding: Rounding) -> (Vec<i8>, Vec<u32>, u32, i32) {
    let padded = x.len().next_multiple_of(16);
    let (mut high, mut low, mut floats, mut sums) =
        (vec![0; padded], vec![0; padded], vec![0.0; padded], vec![0; padded / 16]);
    match rounding {
        Rounding::Int8 => {
            let (scale, sum) = isa.quantize(x, Some(norm), &mut high[..x.len()]);
            (high, Vec::new(), scale.to_bits(), sum)
        }
        Rounding::Int16 => {
            let scale = isa.quantize16(x, Some(norm), &mut high[..x.len()], &mut low[..x.len()], &mut sums);
            ([high, low].concat(), Vec::new(), scale.to_bits(), *sums.last().unwrap())
        }
        Rounding::Float => {
            isa.normalize(x, norm, &mut floats[..x.len()]);
            (Vec::new(), bits(&floats), 1.0_f32.to_bits(), 0)
        }
    }
}

#[test]
fn large_batches_are_their_rows() {
    let mut random = Random(6);
    // The first stays on the calling thread; the others are for all.
    for (tokens, width) in [(3, 100), (40, 700), (9, 4099)] {
        let (x, y) = (rows(&mut random, tokens, width), rows(&mut random, tokens, width));
        let weight = random.plain(width);
        let isa = available()[0];

        for rounding in [Rounding::Int8, Rounding::Int16, Rounding::Float] {
            let got = same_bits("quantize", |cpu| {
                let mut out = Quantized::new(width, rounding);
                cpu.quantize(&x, Some(&cpu.norm(&weight, 1e-6)), &mut out);
                quantized(&out)
            });
            let norm = NormWeight { weight: &weight, eps: 1e-6 };
            let rows: Vec<_> = (0..tokens).map(|token| quantized_row(isa, x.row(token), norm, rounding)).collect();
            assert_eq!(got.0, rows.iter().flat_map(|row| row.0.clone()).collect::<Vec<_>>());
            assert_eq!(got.1, rows.iter().flat_map(|row| row.1.clone()).collect::<Vec<_>>());
            assert_eq!((got.2, got.3), rows.iter().map(|row| (row.2, row.3)).unzip());
        }

        let got = same_bits("add", |cpu| {
            let mut x = x.clone();
            cpu.add(&mut x, &y);
            bits(x.as_slice())
        });
        let expected: Vec<f32> = x.as_slice().iter().zip(y.as_slice()).map(|(x, y)| x + y).collect();
        assert_eq!(got, bits(&expected));

        for activation in [Activation::SquaredRelu, Activation::Silu] {
            let got = same_bits("gate", |cpu| {
                let mut x = x.clone();
                cpu.gate(activation, &mut x, &y);
                bits(x.as_slice())
            });
            for token in 0..tokens {
                let mut row = x.row(token).to_vec();
                isa.gate(activation, &mut row, y.row(token));
                assert_eq!(got[token * width..][..width], bits(&row));
            }
        }
    }
}

#[test]
fn a_gate_with_its_products_is_the_gate_of_them() {
    const COLS: usize = 256;
    let mut random = Random(29);
    // One scale for a matrix, and one for each row; one panel of rows, parts of one, and several.
    for (encoding, rows) in [(TernaryEncoding::Tq2_0, 80), (TernaryEncoding::Tq2_0, 333), (TernaryEncoding::Iq2Bn, 100)]
    {
        let [gate, up] = [0.25, 2.0].map(|scale| {
            let trits: Vec<i8> = random.plain(rows * COLS).iter().map(|x| x.round().clamp(-1.0, 1.0) as i8).collect();
            let scales = match encoding {
                TernaryEncoding::Iq2Bn => Scales::Rows((0..rows).map(|row| scale + row as f32).collect()),
                _ => Scales::Tensor(scale),
            };
            encoding.encode(&trits, rows, COLS, &scales).unwrap()
        });
        for (tokens, inputs) in
            [(1, Inputs::Int8), (2, Inputs::Int8), (7, Inputs::Float), (64, Inputs::Int8), (130, Inputs::Int8)]
        {
            let x = self::rows(&mut random, tokens, COLS);
            same_bits("gated_matmul", |cpu| {
                let pack = |bytes: &Vec<u8>| {
                    cpu.pack(&TernaryMatrix::new(encoding, rows, COLS, bytes.clone(), None).unwrap()).unwrap()
                };
                let (gate, up) = (pack(&gate), pack(&up));
                let mut q = cpu.quantized(COLS, inputs);
                cpu.quantize(&x, None, &mut q);
                let [mut gated, mut scratch, mut gates, mut ups] = [0; 4].map(|_| cpu.rows(rows));
                cpu.gated_matmul(&q, [&gate, &up], Activation::Silu, &mut gated, &mut scratch);
                cpu.matmul(&q, &[&gate, &up], &mut [&mut gates, &mut ups]);
                cpu.gate(Activation::Silu, &mut gates, &ups);
                assert_eq!(bits(gated.as_slice()), bits(gates.as_slice()), "{rows} rows, {tokens} tokens");
                bits(gated.as_slice())
            });
        }
    }
}

/// A table of plain weights in `encoding`, through random bytes where it has blocks.
fn table(random: &mut Random, encoding: DenseEncoding, rows: usize, cols: usize) -> DenseMatrix<'static> {
    let weights = random.plain(rows * cols);
    let scale = half::f16::from_f32(0.01).to_le_bytes();
    let bytes: Vec<u8> = match encoding {
        DenseEncoding::F32 => weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
        DenseEncoding::F16 => weights.iter().flat_map(|w| half::f16::from_f32(*w).to_le_bytes()).collect(),
        DenseEncoding::Bf16 => weights.iter().flat_map(|w| half::bf16::from_f32(*w).to_le_bytes()).collect(),
        DenseEncoding::Q8_0 => {
            (0..rows * cols / 32).flat_map(|_| [scale.to_vec(), random.bytes(32)].concat()).collect()
        }
        DenseEncoding::Q6K => {
            (0..rows * cols / 256).flat_map(|_| [random.bytes(208), scale.to_vec()].concat()).collect()
        }
        DenseEncoding::Q4K => {
            let block = |random: &mut Random| [&scale[..], &scale[..], &random.bytes(140)].concat();
            (0..rows * cols / 256).flat_map(|_| block(random)).collect()
        }
        other => {
            // Those that are left begin with their scale.
            let (block, len) = other.block();
            (0..rows * cols / block).flat_map(|_| [scale.to_vec(), random.bytes(len - 2)].concat()).collect()
        }
    };
    DenseMatrix::new(encoding, rows, cols, bytes).unwrap()
}

const ENCODINGS: [(DenseEncoding, usize); 9] = [
    (DenseEncoding::F32, 100),
    (DenseEncoding::F16, 100),
    (DenseEncoding::Bf16, 40),
    (DenseEncoding::Q8_0, 96),
    (DenseEncoding::Q6K, 256),
    (DenseEncoding::Q4_0, 96),
    (DenseEncoding::Q4K, 256),
    (DenseEncoding::Q1_0(Group::Of128), 128),
    (DenseEncoding::Q2_0(Group::Of128), 256),
];

#[test]
fn embedding_is_the_tables_row() {
    let mut random = Random(7);
    for (encoding, cols) in ENCODINGS {
        let matrix = table(&mut random, encoding, 50, cols);
        let tokens = [0, 49, 7, 7, 31];
        let got = same_bits("embed", |cpu| {
            let mut out = cpu.rows(cols);
            cpu.embed(&cpu.table(&matrix), &tokens, 1.0, &mut out);
            bits(out.as_slice())
        });
        for (token, got) in tokens.iter().zip(got.chunks(cols)) {
            let mut expected = vec![f32::NAN; cols];
            matrix.read_row(*token as usize, &mut expected);
            // The numbers and not the bits: the sign of a zero is the encoding's own affair.
            let got: Vec<f32> = got.iter().map(|bits| f32::from_bits(*bits)).collect();
            assert_eq!(got, expected, "{encoding:?}");
        }
    }
}

#[test]
fn logits_are_near_the_exact_value_and_do_not_depend_on_the_batch() {
    let mut random = Random(8);
    for (encoding, cols) in ENCODINGS {
        let vocab = 2003;
        let matrix = table(&mut random, encoding, vocab, cols);
        let weight = random.plain(cols);
        let x = rows(&mut random, 23, cols);
        let wanted: Vec<usize> = vec![3, 0, 22, 3, 17, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        let got = same_bits("logits", |cpu| {
            let mut out = vec![f32::NAN; wanted.len() * vocab];
            let (norm, table) = (cpu.norm(&weight, 1e-5), cpu.table(&matrix));
            cpu.logits(&x, &wanted, &norm, &table, &mut out);
            // A narrower table must not see what this one left behind.
            let narrow = DenseMatrix::new(DenseEncoding::F32, 1, 1, 1.0_f32.to_le_bytes().to_vec()).unwrap();
            let mut one = Rows::new(1);
            one.set_tokens(1);
            one.row_mut(0)[0] = 2.0;
            let mut logit = [f32::NAN];
            cpu.logits(&one, &[0], &cpu.norm(&[1.0], 0.0), &cpu.table(&narrow), &mut logit);
            assert_eq!(logit, [1.0]);
            bits(&out)
        });

        let cpu = &backends(KvType::F16)[1];
        let (norm, table) = (cpu.norm(&weight, 1e-5), cpu.table(&matrix));
        let mut row = vec![0.0; cols];
        for (i, token) in wanted.iter().enumerate() {
            let mut alone = vec![f32::NAN; vocab];
            cpu.logits(&x, &[*token], &norm, &table, &mut alone);
            assert_eq!(bits(&alone), got[i * vocab..][..vocab], "{encoding:?} token={token}");

            let x: Vec<f64> = x.row(*token).iter().map(|x| f64::from(*x)).collect();
            let r = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / cols as f64 + 1e-5).sqrt();
            for v in (0..vocab).step_by(101) {
                matrix.read_row(v, &mut row);
                let products = row.iter().zip(&x).zip(&weight).map(|((w, x), g)| f64::from(*w) * x * r * f64::from(*g));
                let (exact, size) = products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
                assert!((f64::from(alone[v]) - exact).abs() < 1e-6 * size, "{encoding:?}: {} for {exact}", alone[v]);
            }
        }
    }
}

#[test]
fn what_is_not_a_number_reaches_the_logits() {
    let trits: Vec<i8> = (0..256 * 256).map(|i| (i % 3) as i8 - 1).collect();
    let bytes = TernaryEncoding::Tq2_0.encode(&trits, 256, 256, &Scales::Tensor(0.5)).unwrap();
    let matrix = TernaryMatrix::new(TernaryEncoding::Tq2_0, 256, 256, bytes, None).unwrap();
    let mut random = Random(9);
    let head = table(&mut random, DenseEncoding::F16, 40, 256);
    for cpu in backends(KvType::F16) {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = rows(&mut Random(10), 3, 256);
            x.row_mut(1)[77] = bad;
            let mut y = cpu.rows(256);
            for inputs in [Inputs::Int8, Inputs::Float] {
                let mut q = cpu.quantized(256, inputs);
                cpu.quantize(&x, None, &mut q);
                cpu.matmul(&q, &[&cpu.pack(&matrix).unwrap()], &mut [&mut y]);
                assert!(y.row(1).iter().all(|y| y.is_nan()), "{}: all of the row", cpu.isa().name());
                assert!(y.row(0).iter().chain(y.row(2)).all(|y| y.is_finite()), "and of no other");
            }
            let mut logits = vec![0.0; 3 * 40];
            cpu.logits(&y, &[0, 1, 2], &cpu.norm(&[1.0; 256], 1e-5), &cpu.table(&head), &mut logits);
            assert!(logits[40..80].iter().all(|x| x.is_nan()));
            assert!(logits[..40].iter().chain(&logits[80..]).all(|x| x.is_finite()));
        }
    }
}
