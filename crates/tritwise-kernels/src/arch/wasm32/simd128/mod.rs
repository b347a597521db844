//! 128-bit SIMD of WebAssembly 2.0: every browser since 2021 (Safari: 2023), Node 16, Wasmtime.
//!
//! Relaxed SIMD is not used: what its instructions give is left to the engine, and results must be the same everywhere.
//!
//! Calls of functions with target features are safe here, because an engine checks all instructions before it runs any.

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

/// The instructions this module was compiled for.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch) struct Simd128 {
    _proof: (),
}

impl Simd128 {
    pub(in crate::arch) fn new() -> &'static Self {
        &Self { _proof: () }
    }
}

impl Sealed for Simd128 {}

impl Isa for Simd128 {
    fn name(&self) -> &'static str {
        "wasm32-simd128"
    }
}
