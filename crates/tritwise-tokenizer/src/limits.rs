//! Caps on what a file may ask for; each names the attack it stops.

/// Most tokens in a vocabulary, eight times the largest published one. Stops a
/// single huge id in `tokenizer.json` from sizing a table.
pub(crate) const MAX_TOKENS: usize = 1 << 21;

/// Most bytes in one token's text. Stops a token as long as the file from
/// growing the automaton that looks for special tokens to many times its size.
pub(crate) const MAX_TOKEN_BYTES: usize = 1 << 14;

/// Most bytes in all tokens that are looked for in text before anything else.
/// The automaton takes some tens of bytes for each of them.
pub(crate) const MAX_ADDED_BYTES: usize = 1 << 22;
