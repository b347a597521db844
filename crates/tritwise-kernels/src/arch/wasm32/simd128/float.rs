//! Floating-point operations on 128-bit SIMD.
#![allow(unused_unsafe, reason = "the macro is written for CPUs, where such calls are unsafe")]

use super::Simd128;
use crate::arch::generic::float_ops;

float_ops!(Simd128, "simd128");
