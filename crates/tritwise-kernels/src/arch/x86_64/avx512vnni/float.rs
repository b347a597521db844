//! Floating-point operations on AVX-512.

use super::Avx512Vnni;
use crate::arch::FloatOps;

impl FloatOps for Avx512Vnni {}
