//! Fused multiply-add on every instruction set, held against `f32::mul_add` where rounding twice, or in the wrong order, would show.
//!
//! It has no call of its own in [`FloatOps`](tritwise_kernels::arch::FloatOps); a rotation is one, with sines of one:
//! `x'[i] = fma(x[i], cos[i], x[partner(i)] · 1)`.

mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::bits;
use tritwise_kernels::arch::{Angles, available};
use tritwise_tensor::RopeStyle;

/// `a · b + c` for each triple, by every instruction set.
fn check(triples: &[[f32; 3]]) {
    let expected: Vec<f32> = triples.iter().map(|[a, b, c]| a.mul_add(*b, *c)).collect();
    let column = |i: usize| triples.iter().map(move |triple| triple[i]);
    let (cos, sin) = (column(1).chain(column(1)).collect::<Vec<_>>(), vec![1.0; 2 * triples.len()]);
    for isa in available() {
        let mut head: Vec<f32> = column(0).chain(column(2)).collect();
        isa.rotate(RopeStyle::Halves, Angles { cos: &cos, sin: &sin }, &mut head);
        for (([a, b, c], got), expected) in triples.iter().zip(head).zip(&expected) {
            assert_eq!(bits(&[got]), bits(&[*expected]), "fma({a:e}, {b:e}, {c:e}) on {}: {got:e}", isa.name());
        }
    }
}

#[test]
fn all_triples_of_numbers_at_the_ends_of_ranges() {
    let ulp = f32::EPSILON;
    let subnormal = f32::from_bits(1);
    let magnitudes = [
        0.0,
        subnormal,
        3.0 * subnormal,
        f32::MIN_POSITIVE.next_down(),
        f32::MIN_POSITIVE,
        f32::MIN_POSITIVE.next_up(),
        // Squares of these are halves of the smallest number, and of the largest number's last place.
        2_f32.powi(-75),
        2_f32.powi(-75).next_up(),
        2_f32.powi(51).next_down(),
        2_f32.powi(51).next_up(),
        ulp / 2.0,
        1.0 - ulp / 2.0,
        1.0 - ulp,
        1.0,
        1.0 + ulp,
        1.5,
        4097.0,
        16_777_215.0,
        2_f32.powi(64),
        2_f32.powi(103),
        f32::MAX.next_down(),
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
    ];
    let numbers: Vec<f32> = magnitudes.into_iter().flat_map(|x| [x, -x]).collect();
    for a in &numbers {
        let pairs = numbers.iter().flat_map(|b| numbers.iter().map(|c| [*a, *b, *c]));
        check(&pairs.collect::<Vec<_>>());
    }
}

/// `x · 2ⁿ`, rounded if it is subnormal.
fn scaled(x: f32, n: i32) -> f32 {
    x * 2_f32.powi(n / 2) * 2_f32.powi(n - n / 2)
}

/// Finite numbers whose exponents are anywhere, and those near 1.
fn any_finite() -> impl Strategy<Value = f32> {
    prop_oneof![prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO, -2.0..2.0f32]
}

/// Triples whose sum is a midpoint of two numbers, or next to one by less than binary64 shows, and sums that cancel.
fn hard() -> impl Strategy<Value = [f32; 3]> {
    let sign = || prop_oneof![Just(1.0f32), Just(-1.0)];
    // Half of c's last place, or that times 1 − x² with x = 2⁻²³ or 2⁻²²: off by 2⁻⁴⁶ of a half at most.
    let beside_half = (1.0..2.0f32, -140..127i32, sign(), sign(), 0..3u32).prop_map(|(c, n, s, t, steps)| {
        let x = steps as f32 * f32::EPSILON;
        [scaled(s * (1.0 + x), n - 24), 1.0 - x, scaled(t * c, n)]
    });
    // A product that is a midpoint itself, and a little more or less of any size.
    let odd_product =
        (1024..2048u32, 2048..4096u32, -120..60i32, 1..200i32, sign(), sign()).prop_map(|(a, b, n, below, s, t)| {
            [s * (2 * a + 1) as f32, scaled((2 * b + 1) as f32, n), scaled(t, n - below)]
        });
    // What is left of the product when its rounding is taken away, or nearly so.
    let cancelling = (any_finite(), any_finite(), -2..3i32).prop_map(|(a, b, steps)| {
        let product = -(a * b);
        [a, b, f32::from_bits(product.to_bits().wrapping_add_signed(steps))]
    });
    // At the threshold of infinity, which is the largest number and half of its last place.
    let overflowing = (0..4u32, -3..4i32, sign()).prop_map(|(down, steps, s)| {
        let c = f32::from_bits(f32::MAX.to_bits() - down);
        let x = steps as f32 * f32::EPSILON;
        [s * scaled(1.0 + x, 103), 1.0 - x, s * c]
    });
    let anything = [any_finite(), any_finite(), any_finite()];
    prop_oneof![beside_half, odd_product, cancelling, overflowing, anything, any::<[f32; 3]>()]
}

#[test]
fn sums_at_midpoints_and_sums_that_cancel() {
    let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
    let triples = prop::collection::vec(hard(), 100);
    let result = TestRunner::new(config).run(&triples, |triples| {
        check(&triples);
        Ok(())
    });
    result.unwrap();
}
