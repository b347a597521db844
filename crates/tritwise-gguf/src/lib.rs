//! GGUF files: bytes to typed metadata and tensor windows, and back.
//!
//! GGUF is the container of ggml and llama.cpp. This crate reads versions 2 and
//! 3 from a byte slice, checks everything a hostile file could lie about, and
//! hands out plain types: after [`Header::parse`] succeeds, every tensor's
//! window lies inside the file and no two share a byte. It does not interpret
//! tensor data, because a type number alone does not say how data is stored;
//! [`types`] lists what each number has meant.
//!
//! ```no_run
//! let file = std::fs::read("model.gguf")?;
//! let header = tritwise_gguf::Header::parse(&file)?;
//! println!("{:?}", header.metadata().string("general.architecture")?);
//! for tensor in header.tensors() {
//!     println!("{} {:?} {}", tensor.name, tensor.dims, tritwise_gguf::types::describe(tensor.type_id));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Writer`] makes such files, streaming tensor data so that a model never has to be in memory.
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

mod cursor;
mod error;
mod header;
pub mod limits;
mod metadata;
pub mod types;
mod value;
mod writer;

pub use error::{Error, WriteError};
pub use header::{DEFAULT_ALIGNMENT, Header, Tensor};
pub use metadata::Metadata;
pub use value::{Array, Strings, Value};
pub use writer::{TensorData, Writer};
