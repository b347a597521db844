//! Attention of a few queries over one chunk of one kv head's past.
//!
//! ```text
//! score_j = (Σ_d q[d] · k[j][d]) · scale   lanes over keys j, d in ascending order
//! m       = max_j score_j
//! e_j     = exp(score_j − m)
//! l       = Σ_j e_j                        sixteen partials
//! o[d]    = Σ_j e_j · v[j][d]              lanes over d, j in ascending order
//! merge (m, l, o) into those of the chunks before it
//! ```
//!
//! A query's result is a chain of operations on its own. What the code adds is
//! company: up to eight consecutive queries, the query heads of the kv head and
//! then those of the next row, go through the chunk together and share the loads
//! of keys and values. Where some see more positions than others, all go as far
//! as the one that sees least, and the rest on alone.

use std::hint::black_box;

use bytemuck::cast_slice;

use crate::arch::{KV_BLOCK, KvChunk, KvType, Queries, QueryValues, Softmax};

use super::kv::{Halves, Parts, Singles, Unit};
use super::softmax::{Merge, Scores, soften};
use super::{LANES, Lanes, attend_int8};

/// Takes every query through the positions of a chunk that it sees, and merges
/// the result into its softmax and its output.
#[inline(always)]
pub(in crate::arch) fn attend_chunk<L: Lanes>(
    isa: L,
    chunk: KvChunk<'_>,
    queries: Queries<'_>,
    softmax: &mut [Softmax],
    out: &mut [f32],
) {
    assert_eq!(softmax.len(), queries.rows * queries.heads, "one softmax per query");
    let (head_dim, positions) = (chunk.layout.head_dim(), chunk.layout.positions());
    let places = Places { head_dim, positions, base: chunk.base, queries };
    match (chunk.layout.kv(), queries.values) {
        (KvType::F16, QueryValues::Plain(values)) => {
            for_each_group::<L, Float<'_, Halves>>(isa, &Float::new(&chunk, values), &places, softmax, out);
        }
        (KvType::F32, QueryValues::Plain(values)) => {
            for_each_group::<L, Float<'_, Singles>>(isa, &Float::new(&chunk, values), &places, softmax, out);
        }
        (KvType::Int8, QueryValues::Rounded { codes, scales }) => {
            let past = attend_int8::Int8::new(&chunk, codes, scales);
            for_each_group::<L, attend_int8::Int8<'_>>(isa, &past, &places, softmax, out);
        }
        _ => panic!("int8 keys need rounded queries, other keys plain ones"),
    }
}

/// One representation of keys, values and queries.
pub(super) trait Past {
    /// Takes `Q` queries from `index` through the chunk, `N` of a line's two vectors at a time.
    /// The first sees a position at least, and no other's view ends before its own.
    fn attend<L: Lanes, const Q: usize, const N: usize>(
        &self,
        isa: L,
        places: &Places<'_>,
        index: usize,
        softmax: &mut [Softmax; Q],
        out: &mut [f32],
    );
}

/// Where queries stand, and where their outputs lie.
pub(super) struct Places<'a> {
    pub(super) head_dim: usize,
    positions: usize,
    base: usize,
    queries: Queries<'a>,
}

impl Places<'_> {
    /// Where the output of query `index` begins.
    #[inline(always)]
    pub(super) fn offset(&self, index: usize) -> usize {
        (index / self.queries.heads) * self.queries.stride + (index % self.queries.heads) * self.head_dim
    }

    /// The positions of the chunk that query `index` sees: from the first, up to the second.
    #[inline(always)]
    pub(super) fn view(&self, index: usize) -> (usize, usize) {
        let end = self.queries.start + index / self.queries.heads + 1;
        let first = end.saturating_sub(self.queries.window);
        (first.saturating_sub(self.base), end.saturating_sub(self.base).min(self.positions))
    }
}

/// As many queries at a time as registers hold.
#[inline(always)]
fn for_each_group<L: Lanes, P: Past>(isa: L, past: &P, places: &Places<'_>, softmax: &mut [Softmax], out: &mut [f32]) {
    let mut index = 0;
    while index < softmax.len() {
        let (first, end) = places.view(index);
        if first >= end {
            index += 1;
            continue;
        }
        let rest = &mut softmax[index..];
        index += match (rest.len(), L::WIDE) {
            (8.., true) => group::<L, P, 8, 2>(isa, past, places, index, rest, out),
            (4.., true) => group::<L, P, 4, 2>(isa, past, places, index, rest, out),
            (3, true) => group::<L, P, 3, 2>(isa, past, places, index, rest, out),
            (4.., false) => group::<L, P, 4, 1>(isa, past, places, index, rest, out),
            (3, false) => group::<L, P, 3, 1>(isa, past, places, index, rest, out),
            (2, _) => group::<L, P, 2, 2>(isa, past, places, index, rest, out),
            _ => group::<L, P, 1, 2>(isa, past, places, index, rest, out),
        };
    }
}

/// Calls [`Past::attend`] for `Q` queries, and returns `Q`.
#[inline(always)]
fn group<L: Lanes, P: Past, const Q: usize, const N: usize>(
    isa: L,
    past: &P,
    places: &Places<'_>,
    index: usize,
    softmax: &mut [Softmax],
    out: &mut [f32],
) -> usize {
    let softmax = softmax.first_chunk_mut().expect("as many queries as the caller counted");
    past.attend::<L, Q, N>(isa, places, index, softmax, out);
    Q
}

/// Keys and values in binary16 or binary32, and queries as they are.
struct Float<'a, U> {
    positions: usize,
    /// Blocks of `head_dim` lines.
    keys: &'a [[U; 2]],
    /// Tiles of `positions` lines.
    values: &'a [[U; 2]],
    queries: &'a [f32],
    /// `1 / √head_dim`.
    scale: f32,
}

impl<'a, U: Unit> Float<'a, U> {
    #[inline(always)]
    fn new(chunk: &KvChunk<'a>, queries: &'a [f32]) -> Self {
        let Parts { keys, values, .. } = Parts::new(chunk.layout, chunk.lines);
        Self {
            positions: chunk.layout.positions(),
            keys: cast_slice(keys),
            values: cast_slice(values),
            queries,
            scale: 1.0 / (chunk.layout.head_dim() as f32).sqrt(),
        }
    }
}

impl<U: Unit> Past for Float<'_, U> {
    #[inline(always)]
    fn attend<L: Lanes, const Q: usize, const N: usize>(
        &self,
        isa: L,
        places: &Places<'_>,
        index: usize,
        softmax: &mut [Softmax; Q],
        out: &mut [f32],
    ) {
        let head_dim = places.head_dim;
        let mut queries: [&[f32]; Q] = [&[]; Q];
        let (mut first, mut seen) = ([0; Q], [0; Q]);
        for q in 0..Q {
            queries[q] = &self.queries[places.offset(index + q)..][..head_dim];
            (first[q], seen[q]) = places.view(index + q);
        }
        let (least, most) = (seen[0], seen[Q - 1]);

        let mut scores: [Scores; Q] = [[[0.0; LANES]; _]; Q];
        for (block, keys) in self.keys.chunks_exact(head_dim).take(most.div_ceil(KV_BLOCK)).enumerate() {
            for half in (0..2).step_by(N) {
                let sums = match isa.is_amd() {
                    true => dots::<L, U, Q, N, true>(isa, keys, half, &queries),
                    false => dots::<L, U, Q, N, false>(isa, keys, half, &queries),
                };
                for q in 0..Q {
                    for n in 0..N {
                        isa.store(isa.mul(sums[q][n], isa.splat(self.scale)), &mut scores[q][2 * block + half + n]);
                    }
                }
            }
        }

        let mut merges = [Merge::FIRST; Q];
        for q in 0..Q {
            merges[q] = match soften(isa, &mut scores[q], first[q], seen[q]) {
                Some(chunk) => Merge::new(isa, &mut softmax[q], chunk),
                None => Merge::NOTHING,
            };
        }

        let mut weights: [&[f32]; Q] = [&[]; Q];
        for q in 0..Q {
            weights[q] = scores[q].as_flattened();
        }

        for (tile, values) in self.values.chunks_exact(self.positions).enumerate() {
            for half in (0..2).step_by(N) {
                let values = &values[..most];
                let sums = match isa.is_amd() {
                    true => weigh::<L, U, Q, N, true>(isa, values, half, least, &seen, &weights),
                    false => weigh::<L, U, Q, N, false>(isa, values, half, least, &seen, &weights),
                };
                for q in 0..Q {
                    let out = &mut out[places.offset(index + q)..][..head_dim];
                    for n in 0..N {
                        merges[q].store(isa, sums[q][n], out, tile * KV_BLOCK + (half + n) * LANES);
                    }
                }
            }
        }
    }
}

/// How far ahead of its reader a line of keys or values is asked for, in bytes. They are read once per token, in one
/// stream per thread, and Intel's servers deliver half of what a core can read where nobody asks.
const AHEAD: usize = 4096;

/// Asks for what is read after `line`, as this CPU wants it.
#[inline(always)]
pub(super) fn ask<L: Lanes, const AMD: bool>(isa: L, line: &[u8]) {
    if AMD { isa.prefetch_far(line) } else { isa.prefetch(line, AHEAD) }
}

/// The first `len` numbers of each row, for each of the `N` vectors that they are multiplied with.
///
/// A compiler loads a number to all lanes of a register if several operations want it. On AMD's CPUs that takes time from the
/// operations, unless each takes the number from memory itself. So half of the rows are another place for each vector, as far
/// as the compiler knows: enough to be as fast as with all of them, and as many as there are registers for addresses.
#[inline(always)]
fn for_each_vector<const Q: usize, const N: usize, const AMD: bool>(rows: [&[f32]; Q], len: usize) -> [[&[f32]; N]; Q] {
    let mut copies = [[&[] as &[f32]; N]; Q];
    for q in 0..Q {
        copies[q] = [&rows[q][..len]; N];
        if AMD && q % 2 == 0 {
            for n in 1..N {
                copies[q][n] = &black_box(rows[q])[..len];
            }
        }
    }
    copies
}

/// `Σ_i factors[q][i] · lines[i]` for `N` vectors of each line and `Q` queries: scores of keys, and outputs of values.
#[inline(always)]
fn dots<L: Lanes, U: Unit, const Q: usize, const N: usize, const AMD: bool>(
    isa: L,
    lines: &[[U; 2]],
    half: usize,
    factors: &[&[f32]; Q],
) -> [[L::F32; N]; Q] {
    // Cut there, and everything indexed by `i`, so that the loop compares with no other length. Where it could have ended
    // in a panic, a compiler stored the sums of eight queries in every step: 1.4 times the time (docs/speed.md).
    let factors = for_each_vector::<Q, N, AMD>(*factors, lines.len());
    let mut sums = [[isa.splat(0.0); N]; Q];
    for i in 0..lines.len() {
        let line = &lines[i];
        ask::<L, AMD>(isa, line[half].as_ref());
        let mut x = [isa.splat(0.0); N];
        for n in 0..N {
            x[n] = U::load(isa, &line[half + n]);
        }
        for q in 0..Q {
            for n in 0..N {
                sums[q][n] = isa.fma(isa.splat(factors[q][n][i]), x[n], sums[q][n]);
            }
        }
    }
    sums
}

/// `Σ_j e_j · v_j` for the features of `N` vectors of a tile: all queries as far as
/// `least` positions, then each as far as it sees.
#[inline(always)]
fn weigh<L: Lanes, U: Unit, const Q: usize, const N: usize, const AMD: bool>(
    isa: L,
    values: &[[U; 2]],
    half: usize,
    least: usize,
    seen: &[usize; Q],
    weights: &[&[f32]; Q],
) -> [[L::F32; N]; Q] {
    let mut sums = dots::<L, U, Q, N, AMD>(isa, &values[..least], half, weights);
    for q in 1..Q {
        for j in least..seen[q] {
            for n in 0..N {
                sums[q][n] = isa.fma(isa.splat(weights[q][j]), U::load(isa, &values[j][half + n]), sums[q][n]);
            }
        }
    }
    sums
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::arch::scalar::Scalar;

    const QUERIES: usize = 8;

    /// Eight queries' sums over values, all of `lines` seen by the last, as bits.
    fn outputs<L: Lanes, const AMD: bool>(isa: L, lines: &[[Halves; 2]], factors: &[Vec<f32>; QUERIES]) -> Vec<u32> {
        let factors = factors.each_ref().map(Vec::as_slice);
        let seen = std::array::from_fn(|q| lines.len() - (QUERIES - 1 - q) / 2);
        let sums = weigh::<L, Halves, QUERIES, 2, AMD>(isa, lines, 0, seen[0], &seen, &factors);
        let mut out = [[0.0; LANES]; 2 * QUERIES];
        for (out, sum) in out.iter_mut().zip(sums.as_flattened()) {
            isa.store(*sum, out);
        }
        out.as_flattened().iter().map(|x| x.to_bits()).collect()
    }

    /// One maker's loop is all that attention takes on a machine, so that other tests see only that.
    #[test]
    fn loops_for_all_makers_have_the_same_bits() {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
            state >> 16
        };
        for len in [4, 5, 37, 256] {
            // Binary16 of both signs, below 2 in magnitude.
            let lines: Vec<[Halves; 2]> = (0..len)
                .map(|_| bytemuck::cast(std::array::from_fn::<u16, KV_BLOCK, _>(|_| (noise() as u16) & 0xbbff)))
                .collect();
            let factors = std::array::from_fn(|_| (0..len).map(|_| noise() as f32 / 65_536.0 - 0.25).collect());
            let expected = outputs::<_, false>(*Scalar::new(), &lines, &factors);
            assert_eq!(expected, outputs::<_, true>(*Scalar::new(), &lines, &factors), "{len} lines");
            #[cfg(target_arch = "x86_64")]
            if let Some(isa) = crate::arch::x86_64::Avx512::<false>::detect() {
                assert_eq!(expected, outputs::<_, false>(*isa, &lines, &factors), "{len} lines, AVX-512");
                assert_eq!(expected, outputs::<_, true>(*isa, &lines, &factors), "{len} lines, AVX-512 as AMD has it");
            }
        }
    }
}
