//! e^x, one polynomial for every instruction set.
//!
//! The classical reduction (Cody and Waite, *Software Manual for the Elementary
//! Functions*, 1980): with n the integer nearest to x / ln 2 and r = x − n·ln 2,
//!
//! ```text
//! e^x = 2ⁿ · e^r,    |r| ≤ ln 2 / 2,    e^r ≈ 1 + r + r²·(c₂ + c₃ r + … + c₆ r⁴)
//! ```
//!
//! ln 2 is subtracted in two parts with fused multiply-adds, the first of them
//! exact. The coefficients are the minimax fit of `tools/fit_exp.py`, whose
//! relative error is 3.8e-9, a sixteenth of an ulp; what remains
//! (1.01 ulp at worst, over all inputs) is the rounding of the evaluation.
//!
//! Results are zero, subnormal or infinite where the exact value is: there is no
//! cut-off to agree on. NaN gives NaN.

use super::{LANES, Lanes, load_at, store_at};

/// Above ln of the largest `f32` by enough to overflow, and low enough for n ≤ 128.
const HIGHEST: f32 = 89.0;
/// e^-104 is less than half of the smallest subnormal number.
const LOWEST: f32 = -104.0;

/// ln 2 rounded to `f32`, and what the rounding left.
const LN_2_HIGH: f32 = std::f32::consts::LN_2;
const LN_2_LOW: f32 = -1.904_654_2e-9;

/// c₂ to c₆.
const COEFFICIENTS: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_717, 0.001_381_459_9];

/// `e^x`.
#[inline(always)]
pub(super) fn exp<L: Lanes>(isa: L, x: L::F32) -> L::F32 {
    // In this order `max` and `min` pass a NaN on.
    let x = isa.max(isa.splat(LOWEST), x);
    let x = isa.min(isa.splat(HIGHEST), x);
    let n = isa.round(isa.mul(x, isa.splat(std::f32::consts::LOG2_E)));
    let r = isa.fma(n, isa.splat(-LN_2_HIGH), x);
    let r = isa.fma(n, isa.splat(-LN_2_LOW), r);
    let [c2, c3, c4, c5, c6] = COEFFICIENTS;
    let q = isa.splat(c6);
    let q = isa.fma(q, r, isa.splat(c5));
    let q = isa.fma(q, r, isa.splat(c4));
    let q = isa.fma(q, r, isa.splat(c3));
    let q = isa.fma(q, r, isa.splat(c2));
    let p = isa.fma(q, isa.mul(r, r), r);
    isa.scale(isa.add(isa.splat(1.0), p), n)
}

/// `e^x` of one number.
#[inline(always)]
pub(super) fn exp_one<L: Lanes>(isa: L, x: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    isa.store(exp(isa, isa.splat(x)), &mut lanes);
    lanes[0]
}

/// `x = e^x`, element by element.
#[inline(always)]
pub(in crate::arch) fn exp_row<L: Lanes>(isa: L, x: &mut [f32]) {
    for start in (0..x.len()).step_by(LANES) {
        let y = exp(isa, load_at(isa, x, start));
        store_at(isa, y, x, start);
    }
}
