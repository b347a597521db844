//! Everything that can go wrong, in sentences a person can act on.

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
}
