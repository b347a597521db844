//! Keys, values and attention on every instruction set: the scalar one's bits, the formulas of
//! docs/kernels.md in plain code, and near the exact value.
//!
//! Outputs are filled with NaN before each call and what must not be read holds bytes of all ones (NaN, or
//! the code -1), so an element that was skipped or a position that leaked shows.

mod support;

use support::{Random, bits, same_bits, scalar, tree};
use tritwise_kernels::arch::{
    ATTEND_CHUNK, Isa, KV_BLOCK, KvChunk, KvLayout, KvLine, KvType, Queries, QueryValues, Softmax, available,
};

const KV_TYPES: [KvType; 3] = [KvType::F16, KvType::F32, KvType::Int8];

/// A row as the cache keeps it, and what is stored for each number: the definition of rounding.
fn stored(kv: KvType, row: &[f32]) -> (Vec<f64>, Vec<Vec<u8>>, f32) {
    match kv {
        KvType::F16 => {
            let halves = row.iter().map(|x| half::f16::from_f32(*x));
            (halves.clone().map(f64::from).collect(), halves.map(|h| h.to_le_bytes().to_vec()).collect(), 1.0)
        }
        KvType::F32 => {
            (row.iter().map(|x| f64::from(*x)).collect(), row.iter().map(|x| x.to_le_bytes().to_vec()).collect(), 1.0)
        }
        KvType::Int8 => {
            let max = row.iter().fold(1e-30_f32, |max, x| max.max(x.abs()));
            let codes: Vec<i8> = row.iter().map(|x| (x * (127.0 / max)).round_ties_even() as i8).collect();
            let scale = max / 127.0;
            let numbers = codes.iter().map(|c| f64::from(*c) * f64::from(scale)).collect();
            (numbers, codes.iter().map(|c| vec![c.cast_unsigned()]).collect(), scale)
        }
        _ => unreachable!("all are listed"),
    }
}

#[test]
fn keys_and_values_go_to_their_places() {
    let mut random = Random(8);
    for kv in KV_TYPES {
        for head_dim in [1, 2, 30, 64, 100] {
            let layout = KvLayout::new(kv, head_dim, 50);
            assert_eq!(layout.positions(), 64);
            let rows: Vec<[Vec<f32>; 2]> = (0..50).map(|_| [0; 2].map(|_| random.plain(head_dim))).collect();
            let lines = same_bits("store_kv", |isa| {
                let mut lines = vec![[0xff; 64]; layout.lines()];
                for (pos, [key, value]) in rows.iter().enumerate() {
                    isa.store_kv(layout, &mut lines, pos, key, value);
                }
                lines
            });
            // The drawing, by bytes: numbers per lane, and bytes of a number.
            let (pair, size) = match kv {
                KvType::F16 => (1, 2),
                KvType::F32 => (1, 4),
                _ => (2, 1),
            };
            let bytes = lines.as_flattened();
            let (dims, tiles) = (head_dim.div_ceil(pair), head_dim.div_ceil(32));
            let values = 2 * dims * 32 * pair * size;
            let scales = values + tiles * 64 * 32 * size;
            for (pos, row) in rows.iter().enumerate() {
                let [key, value] = row.each_ref().map(|row| stored(kv, row));
                for d in 0..head_dim {
                    let line = pos / 32 * dims + d / pair;
                    let place = ((line * 32 + pos % 32) * pair + d % pair) * size;
                    assert_eq!(bytes[place..][..size], key.1[d], "{kv:?} head_dim={head_dim}: key {pos}, {d}");
                    let line = d / 32 * (64 / pair) + pos / pair;
                    let place = values + ((line * 32 + d % 32) * pair + pos % pair) * size;
                    assert_eq!(bytes[place..][..size], value.1[d], "{kv:?} head_dim={head_dim}: value {pos}, {d}");
                }
                if kv == KvType::Int8 {
                    assert_eq!(bytes[scales + 4 * pos..][..4], key.2.to_le_bytes());
                    assert_eq!(bytes[scales + 4 * (64 + pos)..][..4], value.2.to_le_bytes());
                }
            }
            let end = if kv == KvType::Int8 { scales + 2 * 4 * 64 } else { scales };
            assert_eq!(bytes.len(), end);
        }
    }
}

/// A past of `len` positions whose unused places hold NaN, or what comes near it.
struct Past {
    head_dim: usize,
    chunks: Vec<(KvLayout, Vec<KvLine>)>,
    /// As rounded, `[position][head_dim]`.
    k: Vec<Vec<f64>>,
    v: Vec<Vec<f64>>,
}

impl Past {
    fn new(random: &mut Random, kv: KvType, head_dim: usize, len: usize) -> Self {
        let rows: Vec<_> = (0..len).map(|_| [0; 2].map(|_| random.plain(head_dim))).collect();
        Self::of(kv, head_dim, &rows)
    }

    fn of(kv: KvType, head_dim: usize, rows: &[[Vec<f32>; 2]]) -> Self {
        let layout = |chunk: &[_]| KvLayout::new(kv, head_dim, (chunk.len() + KV_BLOCK).min(ATTEND_CHUNK));
        let chunks = rows.chunks(ATTEND_CHUNK).map(|rows| {
            let layout = layout(rows);
            let mut lines = vec![[0xff; 64]; layout.lines()];
            for (pos, [key, value]) in rows.iter().enumerate() {
                scalar().store_kv(layout, &mut lines, pos, key, value);
            }
            (layout, lines)
        });
        let numbers = |i: usize| rows.iter().map(|row| stored(kv, &row[i]).0).collect();
        Self { head_dim, chunks: chunks.collect(), k: numbers(0), v: numbers(1) }
    }

    fn kv(&self) -> KvType {
        self.chunks[0].0.kv()
    }

    fn chunk(&self, chunk: usize) -> KvChunk<'_> {
        let (layout, lines) = &self.chunks[chunk];
        KvChunk { layout: *layout, base: chunk * ATTEND_CHUNK, lines }
    }

    /// Takes queries through `chunks`, without the division at the end.
    fn walk(
        &self,
        isa: &dyn Isa,
        asked: Asked<'_>,
        chunks: std::ops::Range<usize>,
        softmax: &mut [Softmax],
        out: &mut [f32],
    ) {
        let Asked { q, stride, rows, heads, start, .. } = asked;
        let padded = self.head_dim.next_multiple_of(2);
        let (mut codes, mut scales) = (vec![99; rows * heads * padded], vec![f32::NAN; rows * heads]);
        for (i, (codes, scale)) in codes.chunks_mut(padded).zip(&mut scales).enumerate() {
            *scale = isa.round_query(&q[i / heads * stride + i % heads * self.head_dim..][..self.head_dim], codes);
        }
        let values = match self.kv() {
            KvType::Int8 => QueryValues::Rounded { codes: &codes, scales: &scales },
            _ => QueryValues::Plain(q),
        };
        for chunk in chunks {
            isa.attend_chunk(
                self.chunk(chunk),
                Queries { values, stride, rows, heads, start, window: asked.window },
                softmax,
                out,
            );
        }
    }

    /// Attention of all queries, in poisoned memory.
    fn attend(&self, isa: &dyn Isa, asked: Asked<'_>) -> Vec<f32> {
        let Asked { q, stride, rows, heads, start, .. } = asked;
        let mut out = vec![f32::NAN; q.len()];
        let mut softmax = vec![Softmax::default(); rows * heads];
        self.walk(isa, asked, 0..(start + rows - 1) / ATTEND_CHUNK + 1, &mut softmax, &mut out);
        for (i, softmax) in softmax.iter().enumerate() {
            isa.divide(&mut out[i / heads * stride + i % heads * self.head_dim..][..self.head_dim], softmax.sum);
        }
        out
    }

    /// Softmax attention of one query over the last `window` positions up to `pos`, in `f64`.
    fn exact(&self, q: &[f32], pos: usize, window: usize) -> Vec<f64> {
        let first = (pos + 1).saturating_sub(window);
        let scale = 1.0 / (self.head_dim as f64).sqrt();
        let score = |k: &Vec<f64>| k.iter().zip(q).map(|(k, q)| k * f64::from(*q)).sum::<f64>() * scale;
        let scores: Vec<f64> = self.k[first..=pos].iter().map(score).collect();
        let max = scores.iter().fold(f64::NEG_INFINITY, |max, s| max.max(*s));
        let e: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
        let sum: f64 = e.iter().sum();
        let weighed = |d: usize| e.iter().zip(&self.v[first..]).map(|(e, v)| e * v[d]).sum::<f64>() / sum;
        (0..self.head_dim).map(weighed).collect()
    }
}

/// Rows of queries: what [`Queries`] holds before rounding.
#[derive(Clone, Copy)]
struct Asked<'a> {
    q: &'a [f32],
    stride: usize,
    rows: usize,
    heads: usize,
    start: usize,
    window: usize,
}

/// A window that ends inside a chunk, at its border, or nowhere.
const WINDOWS: [usize; 5] = [usize::MAX, 1, 9, 256, 300];

#[test]
fn attend_is_softmax_attention() {
    let mut random = Random(9);
    for kv in KV_TYPES {
        // In int8, queries and weights are rounded to 16 bits.
        let tolerance = if kv == KvType::Int8 { 2e-3 } else { 2e-5 };
        for head_dim in [2, 64, 96, 99, 100, 128, 256] {
            for pos in [0, 1, 15, 16, 31, 32, 255, 256, 257, 600] {
                let past = Past::new(&mut random, kv, head_dim, pos + 1);
                for heads in [1, 2, 3, 4, 5, 8, 13] {
                    let q = random.plain(heads * head_dim);
                    let window = WINDOWS[(heads + pos) % WINDOWS.len()];
                    let asked = Asked { q: &q, stride: q.len(), rows: 1, heads, start: pos, window };
                    let got = same_bits("attend", |isa| bits(&past.attend(isa, asked)));
                    for (q, got) in q.chunks(head_dim).zip(got.chunks(head_dim)) {
                        for (got, exact) in got.iter().zip(past.exact(q, pos, window)) {
                            let got = f64::from(f32::from_bits(*got));
                            assert!(
                                (got - exact).abs() < tolerance,
                                "{kv:?} head_dim={head_dim} pos={pos} window={window}: {got} for {exact}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn rows_of_a_prompt_attend_as_one_by_one() {
    let mut random = Random(10);
    for kv in KV_TYPES {
        for (head_dim, heads) in [(64, 1), (128, 4), (100, 3), (96, 40)] {
            for (start, rows) in [(0, 40), (250, 12), (256, 5), (500, 33)] {
                let past = Past::new(&mut random, kv, head_dim, start + rows);
                let stride = heads * head_dim + 24;
                let q = random.plain(rows * stride);
                for (isa, window) in available().into_iter().flat_map(|isa| WINDOWS.map(|window| (isa, window))) {
                    let together = past.attend(isa, Asked { q: &q, stride, rows, heads, start, window });
                    for row in 0..rows {
                        for head in 0..heads {
                            let first = row * stride + head * head_dim;
                            let q = &q[first..][..head_dim];
                            let alone = Asked { q, stride: head_dim, rows: 1, heads: 1, start: start + row, window };
                            let out = past.attend(isa, alone);
                            assert_eq!(out, together[first..][..head_dim], "{} row={row} head={head}", isa.name());
                        }
                        // What lies between the rows is not the operation's.
                        assert!(together[row * stride..][heads * head_dim..stride].iter().all(|x| x.is_nan()));
                    }
                }
            }
        }
    }
}

/// `exp` of one number, as the kernels compute it.
fn exp(x: f32) -> f32 {
    let mut x = [x];
    scalar().exp(&mut x);
    x[0]
}

/// Softmax, and weighted values, of one query over each chunk of a past.
type ChunkSums = Vec<(f32, f32, Vec<f32>)>;

/// Chunks merged and divided, in plain code.
fn merged(chunks: ChunkSums) -> Vec<f32> {
    let whole = chunks.into_iter().reduce(|(max_a, sum_a, o_a), (max, sum, o)| {
        let m = max_a.max(max);
        let (a, b) = (exp(max_a - m), exp(max - m));
        let o = o_a.iter().zip(&o).map(|(o_a, o)| o_a.mul_add(a, o * b)).collect();
        (m, sum_a.mul_add(a, sum * b), o)
    });
    let (_, sum, o) = whole.unwrap();
    o.iter().map(|o| o / sum).collect()
}

/// The sum of a chunk's exponentials: sixteen partials, then the tree.
fn sum_of(e: &[f32]) -> f32 {
    let mut partials = [0.0; 16];
    for (j, e) in e.iter().enumerate() {
        partials[j % 16] += e;
    }
    tree(partials)
}

#[test]
fn float_attention_is_its_formula() {
    let mut random = Random(11);
    for kv in [KvType::F16, KvType::F32] {
        let (head_dim, len) = (32, 2 * ATTEND_CHUNK + 70);
        let past = Past::new(&mut random, kv, head_dim, len);
        let q = random.plain(head_dim);
        let out = past
            .attend(scalar(), Asked { q: &q, stride: head_dim, rows: 1, heads: 1, start: len - 1, window: usize::MAX });

        let scale = 1.0 / (head_dim as f32).sqrt();
        let chunks = past.k.chunks(ATTEND_CHUNK).zip(past.v.chunks(ATTEND_CHUNK)).map(|(k, v)| {
            let dot = |k: &Vec<f64>| k.iter().zip(&q).fold(0.0_f32, |sum, (k, q)| q.mul_add(*k as f32, sum));
            let scores: Vec<f32> = k.iter().map(|k| dot(k) * scale).collect();
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let e: Vec<f32> = scores.iter().map(|s| exp(s - max)).collect();
            let weigh = |d: usize| e.iter().zip(v).fold(0.0_f32, |o, (e, v)| e.mul_add(v[d] as f32, o));
            (max, sum_of(&e), (0..head_dim).map(weigh).collect())
        });
        assert_eq!(bits(&out), bits(&merged(chunks.collect())), "{kv:?}");
    }
}

#[test]
fn int8_attention_is_its_formula() {
    let mut random = Random(16);
    let (head_dim, len) = (51, 2 * ATTEND_CHUNK + 71);
    let rows: Vec<_> = (0..len).map(|_| [0; 2].map(|_| random.plain(head_dim))).collect();
    let past = Past::of(KvType::Int8, head_dim, &rows);
    let q = random.plain(head_dim);
    let out =
        past.attend(scalar(), Asked { q: &q, stride: head_dim, rows: 1, heads: 1, start: len - 1, window: usize::MAX });

    let codes = |row: &[f32]| {
        let (_, codes, scale) = stored(KvType::Int8, row);
        (codes.iter().map(|c| i64::from(c[0].cast_signed())).collect::<Vec<_>>(), scale)
    };
    let q_max = q.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let q_codes: Vec<i64> = q.iter().map(|x| (x * (32_767.0 / q_max)).round_ties_even() as i64).collect();
    let scale = q_max / 32_767.0 * (1.0 / (head_dim as f32).sqrt());
    let chunks = rows.chunks(ATTEND_CHUNK).map(|rows| {
        let score = |[key, _]: &[Vec<f32>; 2]| {
            let (k, k_scale) = codes(key);
            let sum: i64 = k.iter().zip(&q_codes).map(|(k, q)| k * q).sum();
            sum as f32 * (k_scale * scale)
        };
        let scores: Vec<f32> = rows.iter().map(score).collect();
        let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let e: Vec<f32> = scores.iter().map(|s| exp(s - max)).collect();
        let v: Vec<_> = rows.iter().map(|[_, value]| codes(value)).collect();
        let w: Vec<f32> = e.iter().zip(&v).map(|(e, (_, scale))| e * scale).collect();
        let w_max = w.iter().copied().fold(0.0, f32::max);
        let p: Vec<i64> = w.iter().map(|w| (w * (32_767.0 / w_max)).round_ties_even() as i64).collect();
        let weigh = |d: usize| p.iter().zip(&v).map(|(p, (v, _))| p * v[d]).sum::<i64>() as f32 * (w_max / 32_767.0);
        (max, sum_of(&e), (0..head_dim).map(weigh).collect())
    });
    assert_eq!(bits(&out), bits(&merged(chunks.collect())));
}

#[test]
fn int8_sums_do_not_overflow() {
    // All codes at their ends, in as wide a head as any has and in one where queries have fewer bits.
    for head_dim in [256, 516, 517, 4096] {
        for sign in [1.0, -1.0] {
            let row = [vec![1.0; head_dim], vec![sign; head_dim]];
            let past = Past::of(KvType::Int8, head_dim, &vec![row; ATTEND_CHUNK]);
            let q = vec![sign; head_dim];
            let asked =
                Asked { q: &q, stride: head_dim, rows: 1, heads: 1, start: ATTEND_CHUNK - 1, window: usize::MAX };
            let got = same_bits("attend", |isa| bits(&past.attend(isa, asked)));
            assert!(got.iter().all(|x| (f32::from_bits(*x) - sign).abs() < 1e-6), "head_dim={head_dim}");
            // The score itself, which the softmax of equal ones does not show.
            let score = sign * (head_dim as f32).sqrt();
            let mut softmax = [Softmax::default()];
            past.walk(scalar(), asked, 0..1, &mut softmax, &mut vec![0.0; head_dim]);
            assert!((softmax[0].max - score).abs() < 1e-3 * score.abs(), "{} for {score}", softmax[0].max);
        }
    }
}

#[test]
fn chunks_join_to_the_whole() {
    let mut random = Random(15);
    for kv in KV_TYPES {
        for (head_dim, heads) in [(64, 1), (100, 3), (32, 40)] {
            for pos in [0, 255, 256, 700] {
                let past = Past::new(&mut random, kv, head_dim, pos + 1);
                let q = random.plain(heads * head_dim);
                let asked = Asked { q: &q, stride: q.len(), rows: 1, heads, start: pos, window: usize::MAX };
                same_bits("attend_chunk", |isa| {
                    let whole = past.attend(isa, asked);
                    let part_len = heads * (head_dim + 2);
                    let mut parts = vec![f32::NAN; (pos / ATTEND_CHUNK + 1) * part_len];
                    for (chunk, part) in parts.chunks_mut(part_len).enumerate() {
                        let (o, state) = part.split_at_mut(heads * head_dim);
                        let mut softmax = vec![Softmax::default(); heads];
                        past.walk(isa, asked, chunk..chunk + 1, &mut softmax, o);
                        for (head, softmax) in softmax.iter().enumerate() {
                            (state[head], state[heads + head]) = (softmax.max, softmax.sum);
                        }
                    }
                    let mut joined = vec![f32::NAN; heads * head_dim];
                    isa.join_chunks(&parts, heads, &mut joined);
                    assert_eq!(bits(&joined), bits(&whole), "{kv:?} {} pos={pos}", isa.name());
                    bits(&joined)
                });
            }
        }
    }
}

#[test]
fn what_is_not_a_number_makes_nan() {
    let mut random = Random(12);
    for kv in KV_TYPES {
        let plain = Past::new(&mut random, kv, 64, 300);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut q = random.plain(64);
            // So that an infinite key makes an infinite score, and not one whose exponential is 0.
            q[5] = 1.0;
            let finite = q.clone();
            q[3] = bad;
            let asked = |q| Asked { q, stride: 64, rows: 1, heads: 1, start: 299, window: usize::MAX };
            let got = same_bits("attend", |isa| bits(&plain.attend(isa, asked(&q))));
            assert_eq!(got, bits(&[f32::NAN; 64]), "{kv:?}: in a query");

            // In a key, for all features; in a value, for its own at least.
            for (i, place) in [(0, 7), (1, 7), (0, 280), (1, 280)] {
                let mut rows: Vec<_> = (0..300).map(|_| [0; 2].map(|_| random.plain(64))).collect();
                rows[place][i][5] = bad;
                let past = Past::of(kv, 64, &rows);
                let got = same_bits("attend", |isa| bits(&past.attend(isa, asked(&finite))));
                let all = i == 0 || kv == KvType::Int8;
                let not_finite = got.iter().filter(|x| !f32::from_bits(**x).is_finite()).count();
                assert_eq!(not_finite, if all { 64 } else { 1 }, "{kv:?} {place} {i}");
                // A query before it does not see it.
                let before = Asked { start: place - 1, ..asked(&finite) };
                let got = same_bits("attend", |isa| bits(&past.attend(isa, before)));
                assert!(got.iter().all(|x| f32::from_bits(*x).is_finite()), "{kv:?} {place} {i}");
            }
        }
    }
}
