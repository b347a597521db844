//! Instruction sets of x86-64.

mod avx2;
mod avx512;
mod rows;
mod sse41;
mod stream;

pub(super) use avx2::Avx2;
pub(super) use avx512::Avx512;
pub(super) use sse41::Sse41;

/// The least `n` for which `x · 2ⁿ` cannot be subnormal, with `x` in ½..2.
///
/// Products that are subnormal, or vanish, took an Intel server a hundred nanoseconds for sixteen (docs/speed.md). So
/// below this `n` one is made as its bits are, the nearest whole number of 2⁻¹⁴⁹: a product that is not small, and its
/// conversion to an integer.
const LEAST_NORMAL: i32 = -125;

/// What makes 2⁻¹⁴⁹, the smallest number above zero, 1.
const TO_UNITS: i32 = 149;
