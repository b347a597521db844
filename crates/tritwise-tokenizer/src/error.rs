//! What can be wrong with a vocabulary or with a text for it.

/// Why a tokenizer could not be built, or a text not be encoded.
///
/// The text names what was found and what to do; the caller, who knows the
/// file, puts its name in front.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `tokenizer.json` is not JSON.
    #[error("tokenizer.json is not valid JSON: {0}")]
    Json(String),
    /// `tokenizer.json` lacks a field or has one of another type.
    #[error("tokenizer.json: {field} must be {expected}")]
    Field {
        /// The path of the field.
        field: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A part of `tokenizer.json` that this crate does not implement.
    #[error("tokenizer.json: {part} of type {found:?} is not supported (supported: {supported})")]
    Part {
        /// Which part: model, normalizer, pre-tokenizer, …
        part: &'static str,
        /// Its type in the file.
        found: String,
        /// What this crate knows.
        supported: &'static str,
    },
    /// A GGUF vocabulary of a kind that this crate does not implement.
    #[error("tokenizer.ggml.model is {0:?}; supported are \"gpt2\" (byte-level BPE) and \"llama\" (SentencePiece BPE)")]
    Model(String),
    /// A GGUF byte-level vocabulary whose pre-tokenizer this crate does not know.
    #[error("tokenizer.ggml.pre is {0:?}, which is unknown: using another splitting rule would give other tokens")]
    Pre(String),
    /// A GGUF vocabulary whose texts are normalised in a way that this crate does not implement for it.
    #[error("tritwise.normalizer is {0:?}; supported is \"NFC\", for tokenizer.ggml.model \"gpt2\"")]
    Normalizer(String),
    /// A GGUF byte-level vocabulary that does not say how text is split.
    #[error(
        "tokenizer.ggml.pre is missing and the vocabulary is not Llama 3's: name the pre-tokenizer \
         (\"llama-bpe\", \"falcon\", \"gpt-2\", …), because a wrong one silently gives other tokens"
    )]
    MissingPre,
    /// Parallel tables of different lengths, or one that is missing.
    #[error("{table} has {found} entries for {tokens} tokens")]
    Length {
        /// The table.
        table: &'static str,
        /// Its entries.
        found: usize,
        /// The tokens.
        tokens: usize,
    },
    /// More tokens, or longer ones, than any real vocabulary has.
    #[error("{what} is {found}, more than the limit of {limit}")]
    Limit {
        /// What was measured.
        what: &'static str,
        /// Its size.
        found: usize,
        /// The most this crate accepts.
        limit: usize,
    },
    /// A token that cannot be what the file says it is.
    #[error("token {id} ({text:?}): {problem}")]
    Token {
        /// The token's id.
        id: u32,
        /// Its text.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A merge that names something outside the vocabulary.
    #[error("merge {index} ({merge:?}): {problem}")]
    Merge {
        /// Which merge, counted from 0.
        index: usize,
        /// The merge as the file has it.
        merge: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A special token that is not in the vocabulary.
    #[error("the {role} token is {found}, which is not in the vocabulary of {tokens} tokens")]
    Special {
        /// Its role: bos, eos, …
        role: &'static str,
        /// The id or text the file gives.
        found: String,
        /// The size of the vocabulary.
        tokens: usize,
    },
    /// The file wants a token added to every text, but does not say which.
    #[error("the file asks for a {role} token on every text but names none")]
    NoSuchToken {
        /// Its role: bos or eos.
        role: &'static str,
    },
    /// The text has a character for which the vocabulary has neither a token nor bytes.
    #[error("the vocabulary has no token for {0:?}")]
    Unencodable(String),
    /// The text defeats the file's splitting rules or model.
    #[error("the text cannot be encoded: {0}")]
    Encode(String),
    /// A message that is none.
    #[error("a message must be a JSON object with a role, which is a text; found {0}")]
    Message(String),
    /// A chat template failed, refused the conversation, or did not end.
    #[error("chat template {template}, line {line}: {message}")]
    Template {
        /// Which one.
        template: String,
        /// Where in it, counted from 1; 0 if it is not known.
        line: usize,
        /// What it said, or what was wrong with it.
        message: String,
    },
    /// There is no built-in chat template of this name.
    #[error("there is no built-in chat template {0:?}; there are {names}", names = crate::chat::BUILT_IN.join(", "))]
    NoSuchTemplate(String),
    /// The checkpoint does not say how a conversation becomes a text.
    #[error(
        "the checkpoint has no chat template{but}: it may be a model that only continues text. If you know \
         what it was trained with, name it ({names}), or give the template's text",
        but = if others.is_empty() { String::new() } else { format!(" called default, but {others}") },
        names = crate::chat::BUILT_IN.join(", ")
    )]
    NoTemplate {
        /// Names of templates that it has.
        others: String,
    },
    /// The chat template changes control tokens that are spelled in messages, so that they can't be told from its own.
    #[error(
        "chat template {template} takes the control token {token:?} in a message apart: take it out of the message"
    )]
    TakenApart {
        /// Which template.
        template: String,
        /// A control token that is spelled.
        token: String,
    },
    /// The text has all 32 noncharacters of Unicode's Arabic block, of which one is needed.
    #[error("the text has every character from U+FDD0 to U+FDEF, which are not for text: take them out")]
    NoMark,
    /// The last message has no text, or the chat template does not show it.
    #[error("there is no message to continue: the last one has no text, or the chat template leaves it out")]
    NothingToContinue,
    /// A stop string of no characters, which would match everywhere.
    #[error("stop string {0} is empty")]
    EmptyStop(usize),
}
