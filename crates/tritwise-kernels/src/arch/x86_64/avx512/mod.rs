//! AVX-512: with VNNI Cascade Lake (2019), Ice Lake, Zen 4 (2022) and later; without Skylake's servers and
//! workstations (2017).

mod amx;
mod base3;
mod binary;
mod float;
mod integer;
mod lanes;
mod maddubs;
mod pairs;
mod sketch;
mod two_bit;

use crate::arch::Isa;
use crate::arch::sealed::Sealed;

/// Proof that this CPU has AVX-512 F, BW and VL, and what stands below them: AVX2, FMA and F16C; with `VNNI`, that too.
///
/// Two types, since kernels are compiled for one or the other.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch) struct Avx512<const VNNI: bool> {
    /// Whether it has AVX-512 VBMI and GFNI too (Ice Lake, Zen 4), which the base-3 kernels look codes up and pick them out with.
    vbmi: bool,
    /// Whether it has AVX-512 VPOPCNTDQ (the same ones), which counts ones.
    vpopcntdq: bool,
    /// Whether this value is the instruction set with AMX, and proof of that and of VBMI too.
    amx: bool,
}

impl Avx512<true> {
    /// The instruction set with AMX, where this CPU has it and the system permits it.
    pub(in crate::arch) fn detect_amx() -> Option<&'static Self> {
        let below = Self::detect().filter(|isa| isa.vbmi && isa.vpopcntdq);
        below.filter(|_| amx::detect()).map(|_| &Self { vbmi: true, vpopcntdq: true, amx: true })
    }

    /// The instruction set with VNNI and without AMX, where this CPU has it.
    pub(in crate::arch) fn detect() -> Option<&'static Self> {
        let found = Avx512::<false>::detect().is_some() && is_x86_feature_detected!("avx512vnni");
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

impl Avx512<false> {
    /// The instruction set without VNNI, where this CPU has it. It makes no use of other extensions.
    pub(in crate::arch) fn detect() -> Option<&'static Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        found.then_some(&Self { vbmi: false, vpopcntdq: false, amx: false })
    }
}

impl<const VNNI: bool> Sealed for Avx512<VNNI> {}

impl Isa for Avx512<true> {
    fn name(&self) -> &'static str {
        if self.amx { "x86_64-amx" } else { "x86_64-avx512vnni" }
    }
}

impl Isa for Avx512<false> {
    fn name(&self) -> &'static str {
        "x86_64-avx512"
    }
}
