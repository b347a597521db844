//! The instruction-set seam: one folder per instruction set, one trait.
//!
//! An [`Isa`] is single-threaded and knows nothing of models: slices go in,
//! slices come out. Holding a value of a type in this module is the proof that
//! the CPU has the features its code is compiled for, which is what makes the
//! calls inside sound; the only way to such a value is [`available`].
//!
//! Every operation has one definition, the scalar one, and every instruction
//! set gives the same bits. Integer sums are exact in any order. Floating-point
//! results are made exact by fixing the order: lanes run over *outputs*, and
//! where a reduction must be vectorised it has one shape everywhere, sixteen
//! strided partial sums and a fixed tree (see [`FloatOps`]).

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod aarch64;
pub(crate) mod generic;
pub(crate) mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm32;
#[cfg(target_arch = "x86_64")]
mod x86_64;

mod binary;
mod float;
mod integer;
mod kv;
mod kv_record;
mod panels;
mod sketch;

pub use binary::{BIT_COLS, BinaryOps, BitOp, BitRows};
pub use float::{Angles, FloatOps, NormWeight, TableRows};
pub use integer::{Activations, IntegerOps};
pub use kv::{ATTEND_CHUNK, KV_BLOCK, KvChunk, KvLayout, KvLine, KvType, Queries, QueryValues, Softmax};
pub use panels::{Layout, Line, Panels};
pub(crate) use sketch::padded_cols;
pub use sketch::{
    CoarsePanels, FINE_BYTES, FINE_COLS, FineBlock, PANEL_ROWS, Probe, RowSketch, SKETCH_COLS, SKETCH_GROUP,
    SKETCH_LINES, SketchOps,
};

/// One instruction set's kernels.
///
/// Sealed: an implementation is trusted to be sound and exact, so it lives here.
pub trait Isa: IntegerOps + FloatOps + SketchOps + BinaryOps + std::fmt::Debug + Send + Sync {
    /// The name by which it is forced and reported: `scalar`, `x86_64-avx2`, ….
    fn name(&self) -> &'static str;
}

/// The instruction sets of this CPU, best first; the scalar one is always last.
pub fn available() -> Vec<&'static dyn Isa> {
    let mut all: Vec<&'static dyn Isa> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        all.extend(x86_64::Avx512::detect_amx().map(|isa| isa as &dyn Isa));
        all.extend(x86_64::Avx512::<true>::detect().map(|isa| isa as &dyn Isa));
        all.extend(x86_64::Avx2::detect_vnni().map(|isa| isa as &dyn Isa));
        all.extend(x86_64::Avx512::<false>::detect().map(|isa| isa as &dyn Isa));
        all.extend(x86_64::Avx2::detect().map(|isa| isa as &dyn Isa));
        all.extend(x86_64::Sse41::detect().map(|isa| isa as &dyn Isa));
    }
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    {
        all.extend(aarch64::Neon::detect_i8mm().map(|isa| isa as &dyn Isa));
        all.extend(aarch64::Neon::detect_dotprod().map(|isa| isa as &dyn Isa));
        all.extend(aarch64::Neon::detect().map(|isa| isa as &dyn Isa));
    }
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    all.push(wasm32::Simd128::new());
    all.push(scalar::Scalar::new());
    all
}

/// Keeps the traits of this module from being implemented elsewhere.
mod sealed {
    pub trait Sealed {}
}
