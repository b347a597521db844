//! SSSE3 and SSE4.1: CPUs before AVX2, from Penryn (2008), Bulldozer (2011) and Silvermont (2013) on.
//!
//! They have no fused multiply-add and no conversions of binary16; `fma` and `half` make up for these, to the bit.

mod binary;
mod float;
mod fma;
mod half;
mod integer;
mod lanes;
mod rows;
mod sketch;

use crate::arch::Isa;
use crate::arch::sealed::Sealed;

/// Proof that this CPU has SSSE3 and SSE4.1.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch) struct Sse41 {
    _proof: (),
}

impl Sse41 {
    /// The instruction set, where this CPU has it.
    pub(in crate::arch) fn detect() -> Option<&'static Self> {
        let found = is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1");
        found.then_some(&Self { _proof: () })
    }
}

impl Sealed for Sse41 {}

impl Isa for Sse41 {
    fn name(&self) -> &'static str {
        "x86_64-sse41"
    }
}
