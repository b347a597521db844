//! Floating-point operations on AVX-512.

use super::Avx512;
use crate::arch::generic::float_ops;

float_ops!(Avx512<true>, "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c");
float_ops!(Avx512<false>, "avx512f,avx512bw,avx512vl,avx2,fma,f16c");
