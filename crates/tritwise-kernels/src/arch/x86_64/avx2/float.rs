//! Floating-point operations on AVX2 and FMA.

use super::Avx2;
use crate::arch::generic::float_ops;

float_ops!(Avx2, "avx2,fma,f16c");
