//! NEON, which every 64-bit Arm has; and the same with instructions for products of bytes, which
//! some kernels are made of: `sdot` (Armv8.2 with FEAT_DotProd: Cortex-A55 and A76, Neoverse N1,
//! Apple M1) and `smmla` (Armv8.2 with FEAT_I8MM: Cortex-X2, Neoverse V1, Apple M2).
//!
//! The Rust intrinsics for both are unstable (`stdarch_neon_dotprod`, `stdarch_neon_i8mm`), so they
//! are one-line assembly here, as are conversions of binary16, stable since Rust 1.94.

mod binary;
mod dotprod;
mod float;
mod i8mm;
mod integer;
mod lanes;
mod panels;
mod products;
mod sketch;

use std::arch::is_aarch64_feature_detected;

use crate::arch::Isa;
use crate::arch::sealed::Sealed;

/// Proof that this CPU has NEON.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch) struct Neon {
    level: Level,
}

/// Which products of bytes a [`Neon`] value stands for, and proof of those too. Each level has the
/// instructions of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Base,
    DotProd,
    I8mm,
}

impl Neon {
    /// The instruction set of NEON alone, where this CPU has it.
    pub(in crate::arch) fn detect() -> Option<&'static Self> {
        is_aarch64_feature_detected!("neon").then_some(&Self { level: Level::Base })
    }

    /// The instruction set with `sdot`, where this CPU has it.
    pub(in crate::arch) fn detect_dotprod() -> Option<&'static Self> {
        let found = Self::detect().is_some() && is_aarch64_feature_detected!("dotprod");
        found.then_some(&Self { level: Level::DotProd })
    }

    /// The instruction set with `sdot` and `smmla`, where this CPU has both.
    pub(in crate::arch) fn detect_i8mm() -> Option<&'static Self> {
        let found = Self::detect_dotprod().is_some() && is_aarch64_feature_detected!("i8mm");
        found.then_some(&Self { level: Level::I8mm })
    }
}

impl Sealed for Neon {}

impl Isa for Neon {
    fn name(&self) -> &'static str {
        match self.level {
            Level::Base => "aarch64-neon",
            Level::DotProd => "aarch64-dotprod",
            Level::I8mm => "aarch64-i8mm",
        }
    }
}
