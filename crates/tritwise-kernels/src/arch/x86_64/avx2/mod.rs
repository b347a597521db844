//! (module documentation)

use std::arch::is_x86_feature_detected;

use crate::arch::sealed::Sealed;
use crate::arch::{FloatOps, IntegerOps, Isa, Panels, scalar::Scalar};

/// Proof that this CPU has these features.
#[derive(Debug)]
pub(in crate::arch) struct Avx2 {
    _proof: (),
}

impl Avx2 {
    pub(in crate::arch) fn detect() -> Option<&'static Self> {
        let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        found.then_some(&Self { _proof: () })
    }
}

impl Sealed for Avx2 {}

impl Isa for Avx2 {
    fn name(&self) -> &'static str {
        "x86_64-avx2"
    }
}

impl FloatOps for Avx2 {}

impl IntegerOps for Avx2 {
    fn gemv(&self, panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
        Scalar::new().gemv(panels, x, out);
    }
    fn gemm(&self, panels: Panels<'_>, x: &[i8], tokens: usize, out: &mut [i32]) {
        Scalar::new().gemm(panels, x, tokens, out);
    }
}
