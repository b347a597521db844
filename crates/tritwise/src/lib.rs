//! Runs ternary and 1-bit language models (BitNet b1.58 and its relatives) on
//! ordinary CPUs.
//!
//! ```no_run
//! # fn main() -> Result<(), tritwise::Error> {
//! let model = tritwise::Model::open("model.gguf")?;
//! let mut session = model.session();
//! session.push("Once upon a time")?;
//! for piece in session.generate(&tritwise::Sampling::default().max_tokens(64))? {
//!     print!("{}", piece?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Model`] is a checkpoint ready to run: shared, immutable, opened from a
//! GGUF file or a Hugging Face folder, or refused with the reason. [`Session`]
//! is one text in progress. [`Generation`] is an iterator over new text;
//! dropping it, or setting a [`Cancel`] from another thread, stops it. [`Chat`] is a
//! conversation by the model's own template. [`Model::complete`]
//! continues many texts at once, and [`Model::embed`] makes vectors of texts.
//!
//! A text's logits have the same bits on every instruction set, with every
//! number of threads, and however the prompt is cut; with the same seed the
//! text is the same on every machine.
//!
//! With the feature `download`, a model is also opened by its name on the Hugging Face hub:
//! `Model::open("hf:owner/name/file.gguf")`. With the feature `grammar`, text follows a JSON schema, a regular expression
//! or a grammar: `Model::grammar`, `Sampling::grammar`.
//!
//! Everything is synchronous; a host with an event loop runs it on a thread of
//! its own. The crates underneath can be used alone and are re-exported here.
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

mod batch;
mod cancel;
mod chat;
mod draft;
mod embedding;
mod error;
mod fingerprint;
mod generation;
#[cfg(feature = "grammar")]
mod grammar;
mod logprobs;
mod model;
mod sampling;
mod score;
mod session;
mod stopwatch;
mod writer;

pub use batch::{Completion, Completions};
pub use cancel::Cancel;
pub use chat::{Chat, Reply};
pub use draft::{Draft, DraftModel, PromptLookup};
pub use error::{Error, RestoreError};
pub use fingerprint::Fingerprint;
pub use generation::{Generation, Piece, StopReason, Summary};
#[cfg(feature = "grammar")]
pub use grammar::{Constraint, Grammar, GrammarError};
pub use logprobs::TokenLogprob;
pub use model::{Model, ModelBuilder};
pub use sampling::Sampling;
pub use session::{Overflow, Session};
pub use tritwise_kernels::cpu::{HeadMode, KvType};
#[cfg(feature = "download")]
pub use tritwise_loader::download;
pub use tritwise_model::Progress;
pub use tritwise_sampling::{Params, Step};
pub use tritwise_tensor::{Activation, Config, I2sLayout, Inputs, Pooling};
pub use tritwise_tokenizer::chat::{ChatTemplate, Message};

pub use tritwise_kernels as kernels;
pub use tritwise_loader as loader;
pub use tritwise_model as transformer;
pub use tritwise_sampling as sampling_stages;
pub use tritwise_tensor as tensor;
pub use tritwise_tokenizer as tokenizer;
