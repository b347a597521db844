//! Opens checkpoints of ternary language models, or refuses them with the reason.
//!
//! [`open`] takes a GGUF file or a Hugging Face folder and gives a [`Source`],
//! which is a [`Checkpoint`](tritwise_tensor::Checkpoint): tensors by their role, with checked shapes. Whatever
//! a file leaves open is decided by its own metadata, type numbers and sizes;
//! what those do not decide is refused. A model that runs on misunderstood
//! weights prints fluent nonsense, and nobody notices.
//!
//! | container | architectures | linear layers | tables |
//! |---|---|---|---|
//! | GGUF v2, v3, split or whole | `bitnet-b1.58`, `bitnet-25`, `bitnet`, `llama`, `qwen3`, `gemma3` | every [`TernaryEncoding`](tritwise_tensor::TernaryEncoding) but the packed one | every [`DenseEncoding`](tritwise_tensor::DenseEncoding) |
//! | safetensors | `BitNetForCausalLM`, `BitnetForCausalLM`, `LlamaForCausalLM`, `Qwen3ForCausalLM`, `Gemma3ForCausalLM` | packed U8; F32, F16, BF16 | F32, F16, BF16 |
//!
//! Float matrices are taken as they are if they are ternary already (one value,
//! its negative, and zero, in the matrix, in each row or in groups of columns). Otherwise they are master weights, to be made
//! ternary by the absmean rule of BitNet b1.58 (arXiv 2402.17764), where the
//! checkpoint says that it was trained so: in GGUF files of the `bitnet`
//! architectures, and under the `online` mode of transformers.
//!
//! With the feature `download`, `download::Hub` fetches checkpoints from the Hugging Face hub.
//!
//! [`convert`] writes any of them as a GGUF file or a folder; [`describe`] lists what is in a file, also in one that [`open`] refuses.
#![deny(unsafe_code)]
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

mod bytes;
mod config;
mod container;
mod convert;
mod describe;
#[cfg(feature = "download")]
pub mod download;
mod error;
mod gguf;
mod hf;
pub mod limits;
mod open;
mod source;
mod vocabulary;

pub use convert::{Conversion, Progress, Stage, convert, verify, write, write_gguf};
pub use describe::{Description, TensorDescription, describe};
pub use open::{Options, open, open_bytes};
pub use source::Source;
pub use tritwise_gguf::types::Project;
pub use tritwise_tensor::{Activation, CheckpointError as Error, I2sLayout, Inputs};
