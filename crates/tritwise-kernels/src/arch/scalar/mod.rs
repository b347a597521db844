//! The specification: plain, safe Rust that runs everywhere.

mod binary;
mod float;
mod integer;
mod lanes;
mod sketch;

use super::Isa;
use super::sealed::Sealed;

/// No instruction set beyond the compiler's baseline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar {
    _proof: (),
}

impl Scalar {
    pub(crate) fn new() -> &'static Self {
        &Self { _proof: () }
    }
}

impl Sealed for Scalar {}

impl Isa for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }
}
