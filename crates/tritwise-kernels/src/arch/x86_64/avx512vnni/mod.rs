//! AVX-512 with VNNI: Ice Lake and Cascade Lake servers (2019), Zen 4 (2022) and later.

mod base3;
mod binary;
mod float;
mod integer;
mod lanes;
mod sketch;
mod two_bit;

use crate::arch::Isa;
use crate::arch::sealed::Sealed;

/// Proof that this CPU has AVX-512 F, BW, VL and VNNI, and what stands below them: AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch) struct Avx512Vnni {
    /// Whether it has AVX-512 VBMI too (Ice Lake, Zen 4), which the base-3 kernels look codes up with.
    vbmi: bool,
    /// Whether it has AVX-512 VPOPCNTDQ (the same ones), which counts ones.
    vpopcntdq: bool,
}

impl Avx512Vnni {
    /// The instruction set, where this CPU has it.
    pub(in crate::arch) fn detect() -> Option<&'static Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let (vbmi, vpopcntdq) = (is_x86_feature_detected!("avx512vbmi"), is_x86_feature_detected!("avx512vpopcntdq"));
        found.then_some(match (vbmi, vpopcntdq) {
            (false, false) => &Self { vbmi: false, vpopcntdq: false },
            (false, true) => &Self { vbmi: false, vpopcntdq: true },
            (true, false) => &Self { vbmi: true, vpopcntdq: false },
            (true, true) => &Self { vbmi: true, vpopcntdq: true },
        })
    }
}

impl Sealed for Avx512Vnni {}

impl Isa for Avx512Vnni {
    fn name(&self) -> &'static str {
        "x86_64-avx512vnni"
    }
}
