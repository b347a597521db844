//! Floating-point operations of the scalar reference.

use super::Scalar;
use crate::arch::FloatOps;

impl FloatOps for Scalar {}
