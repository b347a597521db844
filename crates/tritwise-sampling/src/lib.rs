//! From logits to a token: a chain of documented stages, then one seeded draw.
//!
//! ```text
//! logits ──► Candidates ──► Stage ──► Stage ──► … ──► draw ──► Pick { id, logprob }
//!                             ▲ the last tokens, through Sampler::accept
//! ```
//!
//! [`Params`] holds the usual knobs and builds the usual chain; a [`Chain`]
//! built by hand takes any order and any [`Stage`] of your own. The result is
//! a function of the logits, the accepted tokens and the seed alone: no
//! platform, thread or library version has a say (see [`Sampler`]).
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

mod candidates;
mod error;
mod logprobs;
mod params;
mod random;
mod sampler;
mod softmax;
mod stage;
mod stages;
mod step;

pub use candidates::{Candidate, Candidates};
pub use error::Error;
pub use logprobs::Logprobs;
pub use params::Params;
pub use random::Random;
pub use sampler::{Pick, Sampler};
pub use softmax::logprob;
pub use stage::{Chain, Effect, Needs, Stage};
pub use stages::{
    Ban, Dry, DynamicTemperature, Greedy, LogitBias, MinP, Mirostat, Penalties, Temperature, TopK, TopNSigma, TopP,
    TypicalP, Xtc,
};
pub use step::Step;
