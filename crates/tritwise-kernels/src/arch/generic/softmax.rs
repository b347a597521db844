//! The softmax over a chunk's scores, and how those of several chunks become one.

use crate::arch::{ATTEND_CHUNK, Softmax};

use super::exp::{exp, exp_one};
use super::{LANES, Lanes, load_at, store_at};

/// One chunk's scores, and then exponentials, of one query.
pub(super) type Scores = [[f32; LANES]; ATTEND_CHUNK / LANES];

/// Makes the scores `first..seen` `exp(score − max)`, and zero those before them and the rest of the last vector.
/// If that is all of them there is no softmax.
#[inline(always)]
pub(super) fn soften<L: Lanes>(isa: L, scores: &mut Scores, first: usize, seen: usize) -> Option<Softmax> {
    let scores = &mut scores[..seen.div_ceil(LANES)];
    if first >= seen {
        scores.as_flattened_mut().fill(0.0);
        return None;
    }
    // What the query does not see may be anything.
    if let Some(last) = scores.last_mut() {
        *last = seen_of(last, 0, (seen - 1) % LANES + 1);
    }
    let (unseen, begun) = (first / LANES, first % LANES);
    scores[..unseen].as_flattened_mut().fill(f32::NEG_INFINITY);
    if begun > 0 {
        scores[unseen] = seen_of(&scores[unseen], begun, LANES);
    }
    let mut maxima = isa.splat(f32::NEG_INFINITY);
    for block in scores.iter() {
        maxima = isa.max(isa.load(block), maxima);
    }
    let max = largest_seen(isa, maxima);

    let mut sums = isa.splat(0.0);
    for block in scores {
        let e = exp(isa, isa.sub(isa.load(block), isa.splat(max)));
        isa.store(e, block);
        sums = isa.add(sums, e);
    }
    Some(Softmax { max, sum: isa.sum(sums) })
}

/// Lanes `first..end` of `scores`, and −∞ in place of the others.
#[inline(always)]
fn seen_of(scores: &[f32; LANES], first: usize, end: usize) -> [f32; LANES] {
    let seen = (1_u32 << end) - (1_u32 << first);
    let mut lanes = [0.0; LANES];
    for i in 0..LANES {
        // Without a branch, so that it is a few operations on vectors.
        let keep = 0_u32.wrapping_sub(seen >> i & 1);
        lanes[i] = f32::from_bits(scores[i].to_bits() & keep | f32::NEG_INFINITY.to_bits() & !keep);
    }
    lanes
}

/// The largest lane, none of which is NaN. Which of two zeros is left open: nothing that is made of it depends on that.
#[inline(always)]
fn largest_seen<L: Lanes>(isa: L, x: L::F32) -> f32 {
    let mut lanes = [0.0; LANES];
    isa.store(x, &mut lanes);
    let mut n = LANES / 2;
    while n > 0 {
        for i in 0..n {
            lanes[i] = if lanes[i + n] > lanes[i] { lanes[i + n] } else { lanes[i] };
        }
        n /= 2;
    }
    lanes[0]
}

/// How two parts of a softmax become one.
#[derive(Clone, Copy)]
pub(super) struct Merge {
    /// `exp(max_a − max)`, or none where the right part is the first.
    left: Option<f32>,
    /// `exp(max_b − max)`, or none where the right part is of nothing.
    right: Option<f32>,
}

impl Merge {
    /// Where there is nothing on the left.
    pub(super) const FIRST: Self = Self { left: None, right: Some(1.0) };

    /// Where there is nothing on the right.
    pub(super) const NOTHING: Self = Self { left: None, right: None };

    /// Of `left`, which becomes the whole, with `right`.
    #[inline(always)]
    pub(super) fn new<L: Lanes>(isa: L, left: &mut Softmax, right: Softmax) -> Self {
        if left.sum == 0.0 {
            *left = right;
            return Self::FIRST;
        }
        let max = if left.max > right.max { left.max } else { right.max };
        let (a, b) = (exp_one(isa, left.max - max), exp_one(isa, right.max - max));
        *left = Softmax { max, sum: left.sum.mul_add(a, right.sum * b) };
        Self { left: Some(a), right: Some(b) }
    }

    /// Merges sixteen weighted values of the right part into `out[start..]`, or as many as there are.
    #[inline(always)]
    pub(super) fn store<L: Lanes>(&self, isa: L, right: L::F32, out: &mut [f32], start: usize) {
        let (Some(factor), true) = (self.right, start < out.len()) else {
            return;
        };
        let merged = match self.left {
            None => right,
            Some(left) => isa.fma(load_at(isa, out, start), isa.splat(left), isa.mul(right, isa.splat(factor))),
        };
        store_at(isa, merged, out, start);
    }
}

/// A row's attention from the parts that its chunks came to, in ascending order.
///
/// A part is the weighted values of all heads, then their maxima, then their sums.
#[inline(always)]
pub(in crate::arch) fn join_chunks<L: Lanes>(isa: L, parts: &[f32], heads: usize, out: &mut [f32]) {
    let part_len = out.len() + 2 * heads;
    assert!(heads > 0 && out.len().is_multiple_of(heads), "whole heads");
    assert!(!parts.is_empty() && parts.len().is_multiple_of(part_len), "whole parts");
    let head_dim = out.len() / heads;
    for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
        let mut whole = Softmax::default();
        for part in parts.chunks_exact(part_len) {
            let (o, state) = part.split_at(heads * head_dim);
            let merge = Merge::new(isa, &mut whole, Softmax { max: state[head], sum: state[heads + head] });
            for start in (0..head_dim).step_by(LANES) {
                merge.store(isa, load_at(isa, &o[head * head_dim..][..head_dim], start), out, start);
            }
        }
        divide(isa, out, whole.sum);
    }
}

/// `x = x / by`.
#[inline(always)]
pub(in crate::arch) fn divide<L: Lanes>(isa: L, x: &mut [f32], by: f32) {
    for start in (0..x.len()).step_by(LANES) {
        let y = isa.div(load_at(isa, x, start), isa.splat(by));
        store_at(isa, y, x, start);
    }
}
