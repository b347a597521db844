//! The instruction set of WebAssembly.
//!
//! A module says when it is compiled whether it uses SIMD, and an engine that lacks an instruction refuses the
//! whole module. So nothing is detected at run time: without `-C target-feature=+simd128` this is not compiled.

mod simd128;

pub(super) use simd128::Simd128;
