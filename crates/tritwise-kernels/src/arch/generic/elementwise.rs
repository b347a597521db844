//! Element by element: the feed-forward gate and the residual sum.

use tritwise_tensor::Activation;

use super::exp::exp;
use super::{LANES, Lanes, load_at, store_at};

/// `gate = activation(gate) · up`.
#[inline(always)]
pub(in crate::arch) fn gate<L: Lanes>(isa: L, activation: Activation, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "one gate per feature");
    for start in (0..gate.len()).step_by(LANES) {
        let x = load_at(isa, gate, start);
        let y = match activation {
            Activation::SquaredRelu => squared_relu(isa, x),
            Activation::Silu => silu(isa, x),
            Activation::GeluTanh => gelu_tanh(isa, x),
        };
        store_at(isa, isa.mul(y, load_at(isa, up, start)), gate, start);
    }
}

/// `m · m` with `m = max(x, 0)`; NaN stays NaN.
#[inline(always)]
fn squared_relu<L: Lanes>(isa: L, x: L::F32) -> L::F32 {
    // In this order `max` passes a NaN on.
    let m = isa.max(isa.splat(0.0), x);
    isa.mul(m, m)
}

/// `x / (1 + e^-x)`; NaN where the formula has none, at -∞.
#[inline(always)]
fn silu<L: Lanes>(isa: L, x: L::F32) -> L::F32 {
    let e = exp(isa, isa.sub(isa.splat(-0.0), x));
    isa.div(x, isa.add(isa.splat(1.0), e))
}

/// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`; NaN at -∞.
///
/// Since `(1 + tanh(u/2)) / 2 = 1 / (1 + e^-u)`, that is `x / (1 + e^-u)` with `u = x · (a + b·x²)`.
#[inline(always)]
fn gelu_tanh<L: Lanes>(isa: L, x: L::F32) -> L::F32 {
    // 2 √(2/π), and 0.044715 times that.
    const A: f32 = 1.595_769_2;
    const B: f32 = 0.071_354_814;
    let u = isa.mul(x, isa.fma(isa.mul(x, x), isa.splat(B), isa.splat(A)));
    let e = exp(isa, isa.sub(isa.splat(-0.0), u));
    isa.div(x, isa.add(isa.splat(1.0), e))
}

/// `x = x + y`.
#[inline(always)]
pub(in crate::arch) fn add<L: Lanes>(isa: L, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "rows of one width");
    for start in (0..x.len()).step_by(LANES) {
        let sum = isa.add(load_at(isa, x, start), load_at(isa, y, start));
        store_at(isa, sum, x, start);
    }
}

/// `(sum - less) · scale / by`, each step rounded.
///
/// Where vectors are wide, division is what this waits for, and it is five products instead, with the same result. With `y`, the
/// reciprocal of `b` rounded to nearest, a quotient of `a` and `b` that is wrong by less than its last place is made the right
/// one by `q + (a - b·q) · y`, each operation rounded once (Markstein's theorem: J.-M. Muller and others, *Handbook of
/// Floating-Point Arithmetic*, in the chapter on division). `a · y` may be wrong by a little more than that, and the same
/// step takes it there; so there are two. That holds while nothing is subnormal or infinite: for factors that are
/// near one enough. A zero keeps its sign if the factor is positive.
#[inline(always)]
pub(in crate::arch) fn scale_sums<L: Lanes>(isa: L, sums: &[i32], less: i32, scale: f32, by: f32, out: &mut [f32]) {
    assert_eq!(sums.len(), out.len(), "one output per sum");
    let product = |sum: i32| sum.wrapping_sub(less) as f32 * scale;
    let near_one = 2.0_f32.powi(-40)..2.0_f32.powi(40);
    let vectors = if L::WIDE && near_one.contains(&scale) && near_one.contains(&by) { out.len() / LANES } else { 0 };
    let (whole, rest) = out.split_at_mut(vectors * LANES);
    let (minus_by, inverse) = (isa.splat(-by), isa.splat(1.0 / by));
    for (out, sums) in whole.as_chunks_mut().0.iter_mut().zip(sums.as_chunks::<LANES>().0) {
        let mut dividends = [0.0; LANES];
        for i in 0..LANES {
            dividends[i] = product(sums[i]);
        }
        let a = isa.load(&dividends);
        let mut quotient = isa.mul(a, inverse);
        for _ in 0..2 {
            quotient = isa.fma(isa.fma(minus_by, quotient, a), inverse, quotient);
        }
        isa.store(quotient, out);
    }
    // A loop as plain as this one becomes vector instructions of whatever set it is compiled for.
    for (y, sum) in rest.iter_mut().zip(&sums[vectors * LANES..]) {
        *y = product(*sum) / by;
    }
}
