//! Floating-point operations on AVX-512.

use super::Avx512Vnni;
use crate::arch::generic::float_ops;

float_ops!(Avx512Vnni, "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c");
