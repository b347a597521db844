//! Ternary and dense tensors as files hold them, and the [`Checkpoint`] trait
//! through which a model receives them.
//!
//! A BitNet b1.58 weight matrix has entries in {-1, 0, +1} ("trits") and a few
//! scales. Files store it in a dozen bit packings. This crate gives all of
//! them one face: a [`TernaryMatrix`] knows its shape, its encoding and its
//! scales, and writes any row as plain `i8` trits. A [`DenseMatrix`] does the
//! same for embeddings and norms, whose rows come out as `f32`. N encodings
//! decode to rows and M compute layouts pack from rows, so the project needs
//! N + M pieces of code and not N × M.
//!
//! | [`TernaryEncoding`] | from | bits per weight | scales | shape |
//! |---|---|---|---|---|
//! | `I2S` | bitnet.cpp's GGUF files | 2 | one, f32 | a multiple of 128 weights |
//! | `Tq1_0` | llama.cpp's GGUF files | 1.6875 | one per 256 columns, f16 | `cols % 256 == 0` |
//! | `Tq2_0` | llama.cpp's GGUF files | 2.0625 | one per 256 columns, f16 | `cols % 256 == 0` |
//! | `Ptq1_0` | PrismML's GGUF files | 1.75 | one per 128 columns, f16 | `cols % 128 == 0` |
//! | `Q1_0`, `Q2_0` | llama.cpp's and PrismML's GGUF files | 1 or 2, and the scales | one per 32, 64 or 128 columns, f16 | whole groups |
//! | `Iq1Bn` | ik_llama.cpp's GGUF files | 1.625 | one per row, f16 | `cols % 64 == 0` |
//! | `Iq2Bn`, `Iq2BnR4` | ik_llama.cpp's GGUF files | 2 | one per row, f32 | `cols % 64 == 0`; R4 `rows % 4 == 0` |
//! | `Tl1`, `Tl2` | bitnet.cpp's GGUF files | 2, about 1.67 | one, elsewhere | whole tiles |
//! | `Base3` | this project's GGUF files | 1.6 | one, f32 | any; padded to 80 rows, 4 columns |
//! | `HfPacked` | Hugging Face checkpoints | 2 | one, a tensor of its own | `rows % 4 == 0` |
//! | `Float` | master weights, unpacked models | 16 or 32 | computed | any |
//!
//! All are checked once, when the value is made, and can be written as well as read.
//!
//! Nothing here opens a file, and nothing here computes with the weights.
#![forbid(unsafe_code)]
// No input panics this library, and no number loses its value unnoticed: exceptions give their reasons.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss
    )
)]

mod blocks;
mod bytes;
mod checkpoint;
mod config;
mod dense;
mod error;
mod float;
mod shape;
mod ternary;

pub use bytes::{Bytes, SharedBytes, Storage};
pub use checkpoint::{Checkpoint, CheckpointError, LayerShape, LayerTensor, TensorId};
pub use config::{Activation, Config, Inputs, Norms, Pooling, Rope, RopeScaling, RopeStyle, SlidingWindow};
pub use dense::{DenseEncoding, DenseMatrix};
pub use error::TensorError;
pub use float::FloatKind;
pub use ternary::{Group, I2sLayout, Scales, Ternarize, TernaryEncoding, TernaryMatrix, Tile};
