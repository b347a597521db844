//! (module documentation)

use std::arch::is_x86_feature_detected;

use crate::arch::sealed::Sealed;
use crate::arch::{FloatOps, IntegerOps, Isa, Panels, scalar::Scalar};

/// Proof that this CPU has these features.
#[derive(Debug)]
pub(in crate::arch) struct Avx512Vnni {
    _proof: (),
}

impl Avx512Vnni {
    pub(in crate::arch) fn detect() -> Option<&'static Self> {
        let found = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        found.then_some(&Self { _proof: () })
    }
}

impl Sealed for Avx512Vnni {}

impl Isa for Avx512Vnni {
    fn name(&self) -> &'static str {
        "x86_64-avx512vnni"
    }
}

impl FloatOps for Avx512Vnni {}

impl IntegerOps for Avx512Vnni {
    fn gemv(&self, panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
        Scalar::new().gemv(panels, x, out);
    }
    fn gemm(&self, panels: Panels<'_>, x: &[i8], tokens: usize, out: &mut [i32]) {
        Scalar::new().gemm(panels, x, tokens, out);
    }
}
