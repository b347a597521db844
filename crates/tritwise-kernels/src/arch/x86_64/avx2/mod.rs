//! AVX2 with FMA and F16C: every x86-64 server and laptop since Haswell (2013) and Zen (2017);
//! and the same with AVX-VNNI, whose integer kernels are others.

pub(in crate::arch::x86_64) mod binary;
mod float;
pub(in crate::arch::x86_64) mod integer;
mod lanes;
mod pairs;
pub(in crate::arch::x86_64) mod sketch;
mod vnni;

use crate::arch::Isa;
use crate::arch::sealed::Sealed;

/// Proof that this CPU has AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch) struct Avx2 {
    /// Whether this value is the instruction set with AVX-VNNI, and proof of that too.
    vnni: bool,
}

impl Avx2 {
    /// The instruction set without AVX-VNNI, where this CPU has it.
    pub(in crate::arch) fn detect() -> Option<&'static Self> {
        let found =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        found.then_some(&Self { vnni: false })
    }

    /// The instruction set with AVX-VNNI, where this CPU has it.
    pub(in crate::arch) fn detect_vnni() -> Option<&'static Self> {
        let found = Self::detect().is_some() && is_x86_feature_detected!("avxvnni");
        found.then_some(&Self { vnni: true })
    }
}

impl Sealed for Avx2 {}

impl Isa for Avx2 {
    fn name(&self) -> &'static str {
        if self.vnni { "x86_64-avxvnni" } else { "x86_64-avx2" }
    }
}
