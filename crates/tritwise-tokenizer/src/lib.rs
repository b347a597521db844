//! Text to token ids and back, from `tokenizer.json` or GGUF metadata, with UTF-8-safe streaming; conversations to text.
//!
//! ```text
//! tokenizer.json ─┐                  encode: text ──► ids
//!                 ├──► Tokenizer ──►
//! GGUF metadata ──┘                  token_bytes: id ──► bytes ──► Utf8Stream ──► StopStrings ──► text
//! ```
//!
//! Two kinds of vocabulary are known: byte-level BPE (GPT-2, Llama 3, Falcon,
//! Qwen, BitNet b1.58 2B-4T) and SentencePiece BPE (Llama 2, the 1bitLLM
//! models). Normalising, finding added tokens and splitting by regular
//! expressions are the `tokenizers` crate's, without its C dependencies; reading
//! the files, merging, and everything that faces a stream of tokens is here.
//!
//! A file that cannot be understood completely is refused: a tokenizer that is
//! nearly right gives text that is nearly right, and nobody notices.
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

mod alphabet;
mod bpe;
pub mod chat;
mod error;
mod export;
mod gguf;
mod json;
mod limits;
mod normalize;
mod pre;
mod stop;
mod stream;
mod tokenizer;
mod vocabulary;

pub use error::Error;
pub use gguf::GgufVocab;
pub use json::{SpecialTokens, TokenRef};
pub use pre::{GPT2 as GPT2_SPLIT, splitting_rule};
pub use stop::StopStrings;
pub use stream::Utf8Stream;
pub use tokenizer::{Special, Tokenizer};
