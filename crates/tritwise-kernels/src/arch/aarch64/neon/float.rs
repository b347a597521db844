//! Floating-point operations on NEON.

use super::Neon;
use crate::arch::generic::float_ops;

float_ops!(Neon, "neon");
