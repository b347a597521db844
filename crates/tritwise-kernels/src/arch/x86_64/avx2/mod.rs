//! AVX2 with FMA and F16C: every x86-64 server and laptop since Haswell (2013) and Zen (2017).

mod float;
mod integer;
mod lanes;

use crate::arch::Isa;
use crate::arch::sealed::Sealed;

/// Proof that this CPU has AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch) struct Avx2 {
    _proof: (),
}

impl Avx2 {
    /// The instruction set, where this CPU has it.
    pub(in crate::arch) fn detect() -> Option<&'static Self> {
        let found =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        found.then_some(&Self { _proof: () })
    }
}

impl Sealed for Avx2 {}

impl Isa for Avx2 {
    fn name(&self) -> &'static str {
        "x86_64-avx2"
    }
}
