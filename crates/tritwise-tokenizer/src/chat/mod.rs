//! Conversations as the text that a model was trained on.
//!
//! ```text
//! messages ─┐                  Rendered              encode_rendered
//! template ─┴─► ChatTemplate ──► text, borders ──► Tokenizer ──► ids
//! ```
//!
//! A checkpoint brings a template in Jinja, written for `apply_chat_template` of Hugging Face's `transformers`; it is
//! rendered here to the same text, character for character. What people and tools say stays text: a control token that
//! is spelled in a message never becomes one (the file `borders.rs` says how).
//!
//! Templates come from strangers. A rendering has a budget of steps and bytes, and limits of depth; when it is over, it is an error. What
//! that does not bound, docs/chat.md says.
//!
//! ```
//! use tritwise_tokenizer::chat::{ChatTemplate, Inputs, Message};
//! # use tritwise_tokenizer::{GgufVocab, Tokenizer};
//! # let tokenizer = Tokenizer::from_gguf(GgufVocab {
//! #     model: "llama".into(),
//! #     tokens: ["<unk>", "<s>", "</s>", "▁", "a", "▁a"].map(String::from).to_vec(),
//! #     token_types: vec![2, 3, 3, 1, 1, 1],
//! #     scores: vec![0.0, 0.0, 0.0, -3.0, -2.0, -1.0],
//! #     ..GgufVocab::default()
//! # })?;
//!
//! let template = ChatTemplate::built_in("chatml")?;
//! let messages = [Message::system("Be brief."), Message::user("Why is the sky blue?")];
//! let rendered = template.render(&messages, &Inputs::default(), &tokenizer)?;
//! assert!(rendered.text.ends_with("Why is the sky blue?<|im_end|>\n<|im_start|>assistant\n"));
//! # Ok::<(), tritwise_tokenizer::Error>(())
//! ```

pub(crate) mod borders;
mod choose;
mod clock;
mod constants;
mod json;
mod message;
mod python;
mod template;

pub use choose::BUILT_IN;
pub use message::Message;
pub use template::{ChatTemplate, Ending, Inputs, Origin, Rendered};
