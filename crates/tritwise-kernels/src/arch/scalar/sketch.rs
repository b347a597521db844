//! Sketches as they are defined.

use super::Scalar;
use crate::arch::SketchOps;

impl SketchOps for Scalar {}
