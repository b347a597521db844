//! Everything that can go wrong, in sentences a person can act on.

use std::io;

use tritwise_kernels::cpu::KvType;

use crate::Fingerprint;

/// Why the facade could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint could not be opened or understood.
    #[error(transparent)]
    Open(#[from] tritwise_tensor::CheckpointError),
    /// The forced instruction set or thread count cannot be had.
    #[error(transparent)]
    Cpu(#[from] tritwise_kernels::cpu::CpuError),
    /// The graph could not be built, or a forward call could not run.
    #[error(transparent)]
    Model(#[from] tritwise_model::Error),
    /// Text could not be turned into tokens.
    #[error(transparent)]
    Tokenizer(#[from] tritwise_tokenizer::Error),
    /// A sampling parameter is out of range, or the logits are not numbers.
    #[error(transparent)]
    Sampling(#[from] tritwise_sampling::Error),
    /// A grammar was refused, or could not be followed.
    #[cfg(feature = "grammar")]
    #[error(transparent)]
    Grammar(#[from] crate::GrammarError),
    /// Text was given to a checkpoint that has no tokenizer.
    #[error("{0} has no tokenizer: use token ids (Session::push_tokens), or put tokenizer.json beside the weights")]
    NoTokenizer(String),
    /// A checkpoint that was not made for embeddings, or does not say so.
    #[error(
        "{0} does not say how its vectors become a text's embedding: it is no embedding model, or lacks the key or \
         1_Pooling/config.json that says it; choose with Model::embed_with"
    )]
    NoPooling(String),
    /// A text to embed has no tokens.
    #[error("text {index} is empty and the model asks for no token around it: leave it out")]
    EmptyText {
        /// Which of the texts.
        index: usize,
    },
    /// There is nothing to continue.
    #[error("the session is empty and the model has no beginning-of-text token: push some text first")]
    EmptyPrompt,
    /// The text does not fit the session's context.
    #[error(
        "the session holds {len} of {capacity} tokens and {adding} more do not fit: \
         shorten the text, or open the model with a larger context"
    )]
    ContextFull {
        /// Tokens in the session.
        len: usize,
        /// Tokens to be added.
        adding: usize,
        /// Tokens the session can hold.
        capacity: usize,
    },
    /// A model cannot draft for another one.
    #[error("{small} cannot draft for {large}: token {token} is not the same in both, and drafts are tokens")]
    Vocabularies {
        /// The model that was to draft.
        small: String,
        /// The other one.
        large: String,
        /// The first token that differs.
        token: u32,
    },
    /// A session could not be written.
    #[error("{file}: {source}; the session was not saved")]
    Save {
        /// The file, or what stands for it.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A saved session was refused. The one that was to hold it stays as it was.
    #[error("{file}: {reason}")]
    Restore {
        /// The file, or what stands for it.
        file: String,
        /// Why.
        reason: RestoreError,
    },
}

/// Why a saved session was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It ends too early.
    #[error("ends before the session does: it was cut short, so read the text anew or save it again")]
    Truncated,
    /// Something other than a session.
    #[error("is not a saved session")]
    NotASession,
    /// Another version of the format.
    #[error(
        "is a session in version {found} of the format, and this program reads version {known}: read the text anew"
    )]
    Version {
        /// The file's.
        found: u32,
        /// This program's.
        known: u32,
    },
    /// Another model's session.
    #[error("is a session of model {found}, and this is {model}: open the model that it was saved with")]
    Model {
        /// The file's.
        found: Fingerprint,
        /// This one's.
        model: Fingerprint,
    },
    /// Keys and values of another type.
    #[error("holds keys and values as {found}, and this session as {session:?}: make one with Model::session_with")]
    KvType {
        /// The file's.
        found: String,
        /// This session's.
        session: KvType,
    },
    /// Keys and values that were computed in another way.
    #[error(
        "holds keys and values of inputs that were {}: open the model {} exact inputs",
        if *.exact { "not rounded" } else { "rounded" },
        if *.exact { "with" } else { "without" }
    )]
    ExactInputs {
        /// Whether the file's are those of [`exact_inputs`](crate::ModelBuilder::exact_inputs).
        exact: bool,
    },
    /// More tokens than the session has room for.
    #[error("holds {tokens} tokens, and this session has room for {capacity}: open the model with a larger context")]
    TooLong {
        /// The file's.
        tokens: u64,
        /// This session's.
        capacity: usize,
    },
    /// The checksum does not fit, or what no program writes.
    #[error("is damaged: {0}; read the text anew or save it again")]
    Damaged(String),
}
