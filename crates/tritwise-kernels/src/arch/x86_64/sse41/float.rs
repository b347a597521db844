//! Floating-point operations on SSE4.1.

use super::Sse41;
use crate::arch::generic::float_ops;

float_ops!(Sse41, "ssse3,sse4.1");
