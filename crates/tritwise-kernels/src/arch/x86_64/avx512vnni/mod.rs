//! AVX-512 with VNNI: Ice Lake and Cascade Lake servers (2019), Zen 4 (2022) and later.

mod amx;
mod base3;
mod binary;
mod float;
mod integer;
mod lanes;
mod pairs;
mod sketch;
mod two_bit;

use crate::arch::Isa;
use crate::arch::sealed::Sealed;

/// Proof that this CPU has AVX-512 F, BW, VL and VNNI, and what stands below them: AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch) struct Avx512Vnni {
    /// Whether it has AVX-512 VBMI and GFNI too (Ice Lake, Zen 4), which the base-3 kernels look codes up and pick them out with.
    vbmi: bool,
    /// Whether it has AVX-512 VPOPCNTDQ (the same ones), which counts ones.
    vpopcntdq: bool,
    /// Whether this value is the instruction set with AMX, and proof of that and of VBMI too.
    amx: bool,
}

impl Avx512Vnni {
    /// The instruction set with AMX, where this CPU has it and the system permits it.
    pub(in crate::arch) fn detect_amx() -> Option<&'static Self> {
        let below = Self::detect().filter(|isa| isa.vbmi && isa.vpopcntdq);
        below.filter(|_| amx::detect()).map(|_| &Self { vbmi: true, vpopcntdq: true, amx: true })
    }

    /// The instruction set without AMX, where this CPU has it.
    pub(in crate::arch) fn detect() -> Option<&'static Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let vbmi = is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("gfni");
        let (vbmi, vpopcntdq) = (vbmi, is_x86_feature_detected!("avx512vpopcntdq"));
        found.then_some(match (vbmi, vpopcntdq) {
            (false, false) => &Self { vbmi: false, vpopcntdq: false, amx: false },
            (false, true) => &Self { vbmi: false, vpopcntdq: true, amx: false },
            (true, false) => &Self { vbmi: true, vpopcntdq: false, amx: false },
            (true, true) => &Self { vbmi: true, vpopcntdq: true, amx: false },
        })
    }
}

impl Sealed for Avx512Vnni {}

impl Isa for Avx512Vnni {
    fn name(&self) -> &'static str {
        if self.amx { "x86_64-amx" } else { "x86_64-avx512vnni" }
    }
}
