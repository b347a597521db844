//! Floating-point operations on AVX2 and FMA.

use super::Avx2;
use crate::arch::FloatOps;

impl FloatOps for Avx2 {}
