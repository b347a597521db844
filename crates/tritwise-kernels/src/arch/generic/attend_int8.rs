//! Attention of a few queries over a chunk of int8 keys and values, in integers.
//!
//! ```text
//! score_j = f32(Σ_d q[d] · k[j][d]) · (s_k[j] · c)    q of 16 bits, k of 8; c = s_q / √head_dim
//! m, e_j, l                                           as for binary16
//! w       = max_j e_j · s_v[j]
//! p_j     = round(e_j · s_v[j] · (32767 / w))         16 bits
//! o[d]    = f32(Σ_j p_j · v[j][d]) · (w / 32767)
//! ```
//!
//! Widened to 16 bits, two features of a key, or two values of a feature, are one
//! lane of a 16-bit dot product (`vpmaddwd`, `vpdpwssd`): twice the arithmetic of
//! `f32` per instruction, at half the bytes. Rounding queries and weights to 8
//! bits would double it again; with 16 they add nothing to see to the error of
//! the cache itself. Sums are exact in 32 bits: |p · v| over a chunk stays below
//! 256 · 32,767 · 127 < 2³¹, and queries are rounded so that theirs do.

use bytemuck::cast_slice;

use crate::arch::{ATTEND_CHUNK, KV_BLOCK, KvChunk, Softmax};

use super::attend::{Past, Places, ask};
use super::kv::{Codes, Parts};
use super::softmax::{Merge, Scores, soften};
use super::{LANES, Lanes, largest};

/// The largest weight.
const WEIGHT_MAX: f32 = 32_767.0;

const _: () = assert!(ATTEND_CHUNK as i64 * WEIGHT_MAX as i64 * 127 <= i32::MAX as i64);

/// Two numbers of one lane.
type Pair = [i16; 2];

/// One chunk's weights of one query.
type Weights = [[i16; LANES]; ATTEND_CHUNK / LANES];

/// Keys and values of a chunk, and the queries, as integers with scales.
pub(super) struct Int8<'a> {
    positions: usize,
    /// Lines of a block of keys, and pairs of a query.
    pairs: usize,
    keys: &'a [[Codes; 2]],
    values: &'a [[Codes; 2]],
    /// Sixteen lanes each.
    key_scales: &'a [[f32; LANES]],
    value_scales: &'a [[f32; LANES]],
    queries: &'a [Pair],
    query_scales: &'a [f32],
    /// `1 / √head_dim`.
    scale: f32,
}

impl<'a> Int8<'a> {
    #[inline(always)]
    pub(super) fn new(chunk: &KvChunk<'a>, codes: &'a [i16], scales: &'a [f32]) -> Self {
        let parts = Parts::new(chunk.layout, chunk.lines);
        let head_dim = chunk.layout.head_dim();
        Self {
            positions: chunk.layout.positions(),
            pairs: head_dim.div_ceil(2),
            keys: cast_slice(parts.keys),
            values: cast_slice(parts.values),
            key_scales: parts.key_scales.as_chunks().0,
            value_scales: parts.value_scales.as_chunks().0,
            queries: codes.as_chunks().0,
            query_scales: scales,
            scale: 1.0 / (head_dim as f32).sqrt(),
        }
    }
}

impl Past for Int8<'_> {
    #[inline(always)]
    fn attend<L: Lanes, const Q: usize, const N: usize>(
        &self,
        isa: L,
        places: &Places<'_>,
        index: usize,
        softmax: &mut [Softmax; Q],
        out: &mut [f32],
    ) {
        let mut queries: [&[Pair]; Q] = [&[]; Q];
        let (mut first, mut seen) = ([0; Q], [0; Q]);
        for q in 0..Q {
            queries[q] = &self.queries[(index + q) * self.pairs..][..self.pairs];
            (first[q], seen[q]) = places.view(index + q);
        }
        let most = seen[Q - 1];

        let mut scores: [Scores; Q] = [[[0.0; LANES]; _]; Q];
        for (block, keys) in self.keys.chunks_exact(self.pairs).take(most.div_ceil(KV_BLOCK)).enumerate() {
            for half in (0..2).step_by(N) {
                let sums = match isa.is_amd() {
                    true => dots::<L, Q, N, true>(isa, keys, half, &queries),
                    false => dots::<L, Q, N, false>(isa, keys, half, &queries),
                };
                for q in 0..Q {
                    let scale = isa.splat(self.query_scales[index + q] * self.scale);
                    for n in 0..N {
                        let vector = 2 * block + half + n;
                        let scale = isa.mul(isa.load(&self.key_scales[vector]), scale);
                        isa.store(isa.mul(isa.i32_to_f32(sums[q][n]), scale), &mut scores[q][vector]);
                    }
                }
            }
        }

        let mut weights: [Weights; Q] = [[[0; LANES]; _]; Q];
        let mut units = [0.0; Q];
        let mut merges = [Merge::FIRST; Q];
        for q in 0..Q {
            let Some(chunk) = soften(isa, &mut scores[q], first[q], seen[q]) else {
                merges[q] = Merge::NOTHING;
                continue;
            };
            merges[q] = Merge::new(isa, &mut softmax[q], chunk);
            units[q] = round_weights(isa, &mut scores[q], seen[q], self.value_scales, &mut weights[q]);
        }
        // Weights of what a query does not see are zero, and so are the products of what lies there.
        let mut weights_of: [&[Pair]; Q] = [&[]; Q];
        for q in 0..Q {
            weights_of[q] = &weights[q].as_flattened().as_chunks().0[..most.div_ceil(2)];
        }

        for (tile, values) in self.values.chunks_exact(self.positions / 2).enumerate() {
            for half in (0..2).step_by(N) {
                let values = &values[..most.div_ceil(2)];
                let sums = match isa.is_amd() {
                    true => dots::<L, Q, N, true>(isa, values, half, &weights_of),
                    false => dots::<L, Q, N, false>(isa, values, half, &weights_of),
                };
                for q in 0..Q {
                    let out = &mut out[places.offset(index + q)..][..places.head_dim];
                    for n in 0..N {
                        let o = isa.mul(isa.i32_to_f32(sums[q][n]), isa.splat(units[q]));
                        merges[q].store(isa, o, out, tile * KV_BLOCK + (half + n) * LANES);
                    }
                }
            }
        }
    }
}

/// Sums of `N` vectors of each line, pair by pair, times the factors of `Q` queries.
#[inline(always)]
fn dots<L: Lanes, const Q: usize, const N: usize, const AMD: bool>(
    isa: L,
    lines: &[[Codes; 2]],
    half: usize,
    factors: &[&[Pair]; Q],
) -> [[L::I32; N]; Q] {
    let mut sums = [[isa.zero_i32(); N]; Q];
    for (i, line) in lines.iter().enumerate() {
        ask::<L, AMD>(isa, &line[half]);
        let mut pairs = [isa.load_pairs(&line[half]); N];
        for n in 1..N {
            pairs[n] = isa.load_pairs(&line[half + n]);
        }
        for q in 0..Q {
            for n in 0..N {
                sums[q][n] = isa.dot_pairs(sums[q][n], pairs[n], factors[q][i]);
            }
        }
    }
    sums
}

/// Makes 16-bit weights of a query's exponentials and the values' scales; returns what one is worth.
#[inline(always)]
fn round_weights<L: Lanes>(
    isa: L,
    scores: &mut Scores,
    seen: usize,
    scales: &[[f32; LANES]],
    weights: &mut Weights,
) -> f32 {
    let vectors = seen.div_ceil(LANES);
    let mut max = isa.splat(0.0);
    for (scores, scales) in scores[..vectors].iter_mut().zip(scales) {
        isa.store(isa.mul(isa.load(scores), isa.load(scales)), scores);
    }
    // Scales of what the query does not see may be anything.
    scores[..vectors].as_flattened_mut()[seen..].fill(0.0);
    for scores in &scores[..vectors] {
        max = isa.max_magnitude(max, isa.load(scores));
    }
    let max = largest(isa, max);
    if !max.is_finite() {
        return f32::NAN;
    }
    let factor = isa.splat(WEIGHT_MAX / max);
    for (weights, scores) in weights.iter_mut().zip(&scores[..vectors]) {
        isa.store_i16(isa.mul(isa.load(scores), factor), weights);
    }
    max / WEIGHT_MAX
}
