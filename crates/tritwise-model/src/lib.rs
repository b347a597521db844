//! The BitNet b1.58 transformer, generic over a compute [`Backend`].
//!
//! Three things, as small inference programs have always split it: the
//! [`Model`] (weights and graph, immutable, shared), the [`Sequence`] (one
//! text's keys and values, owned by whoever writes that text) and the
//! [`Workspace`] (scratch for one forward call, owned by whoever calls).
//!
//! One call, [`Model::forward`], takes a batch of [`Turn`]s: some tokens for
//! each of some sequences. A prompt, a decoding step, the verification of a
//! speculative draft and several users at once are the same code, and each
//! token's logits have the same bits however the calls are cut.
//!
//! This crate opens no file and names no instruction set.
//!
//! [`Backend`]: tritwise_kernels::Backend
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

mod error;
mod forward;
mod model;
mod sequence;
mod workspace;

pub use error::Error;
pub use forward::{Logits, Turn, Wanted};
pub use model::{Model, Progress};
pub use sequence::Sequence;
pub use tritwise_kernels::{HeadReads, Keep};
pub use workspace::Workspace;
