//! Rotary position embedding of one row's heads.
//!
//! Both pairings are one formula when the sign of the sine goes to the table:
//!
//! ```text
//! x'[i] = fma(x[i], cos[i], x[partner(i)] · sin[i])     sin[i] = −sin θ for the first of a pair, +sin θ for the second
//! ```
//!
//! A sign does not change how a product is rounded, so these are
//! `a' = fma(a, cos, −(b·sin))` and `b' = fma(b, cos, a·sin)` to the bit.

use tritwise_tensor::RopeStyle;

use crate::arch::Angles;

use super::{LANES, Lanes, load_at, store_at};

/// Rotates each head of `heads` by `angles`.
#[inline(always)]
pub(in crate::arch) fn rotate<L: Lanes>(isa: L, style: RopeStyle, angles: Angles<'_>, heads: &mut [f32]) {
    let head_dim = angles.cos.len();
    assert_eq!(head_dim, angles.sin.len(), "one sine per cosine");
    assert!(head_dim > 0 && head_dim.is_multiple_of(2), "pairs");
    assert!(heads.len().is_multiple_of(head_dim), "whole heads");
    for head in heads.chunks_exact_mut(head_dim) {
        match style {
            RopeStyle::Halves => halves(isa, angles, head),
            RopeStyle::Interleaved => interleaved(isa, angles, head),
        }
    }
}

/// Pairs `(i, i + d/2)`.
#[inline(always)]
fn halves<L: Lanes>(isa: L, angles: Angles<'_>, head: &mut [f32]) {
    let half = head.len() / 2;
    let (a, b) = head.split_at_mut(half);
    let (a_cos, b_cos) = angles.cos.split_at(half);
    let (a_sin, b_sin) = angles.sin.split_at(half);
    for start in (0..half).step_by(LANES) {
        let x = load_at(isa, a, start);
        let y = load_at(isa, b, start);
        store_at(isa, turned(isa, x, y, a_cos, a_sin, start), a, start);
        store_at(isa, turned(isa, y, x, b_cos, b_sin, start), b, start);
    }
}

/// Pairs `(2i, 2i + 1)`.
#[inline(always)]
fn interleaved<L: Lanes>(isa: L, angles: Angles<'_>, head: &mut [f32]) {
    for start in (0..head.len()).step_by(LANES) {
        let x = load_at(isa, head, start);
        let y = turned(isa, x, isa.swap_pairs(x), angles.cos, angles.sin, start);
        store_at(isa, y, head, start);
    }
}

/// `fma(x, cos, partner · sin)`.
#[inline(always)]
fn turned<L: Lanes>(isa: L, x: L::F32, partner: L::F32, cos: &[f32], sin: &[f32], start: usize) -> L::F32 {
    let cos = load_at(isa, cos, start);
    let sin = load_at(isa, sin, start);
    isa.fma(x, cos, isa.mul(partner, sin))
}
