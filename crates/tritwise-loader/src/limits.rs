//! Every cap on what a checkpoint may claim, and the attack it stops.

/// Largest JSON file but for a tokenizer, in bytes: a parsed JSON tree takes up to a hundred
/// times the memory of its text. The largest published ones, lists of added tokens, take about 2 MB.
pub const JSON_BYTES: u64 = 8 << 20;

/// Largest `tokenizer.json`, in bytes, for the same reason; those of vocabularies of
/// 256 k tokens take about 35 MB.
pub const TOKENIZER_BYTES: u64 = 256 << 20;

/// Most chat templates beside the default one: a folder may have any number of files.
pub const CHAT_TEMPLATES: usize = 64;

/// Largest listing of a repository on the hub, in bytes, for the same reason; an entry takes about 50.
#[cfg(feature = "download")]
pub const LISTING_BYTES: u64 = 16 << 20;

/// Most redirects on the way to a file on the hub, which one answer after the other could ask for.
#[cfg(feature = "download")]
pub const REDIRECTS: usize = 5;

/// Most files in a sharded checkpoint: each is an open, mapped file, of which an
/// index of a few kilobytes could ask for thousands.
pub const SHARDS: usize = 1024;

/// Most transformer blocks: names of tensors, and lists of them, are made for each.
pub const LAYERS: u64 = 4096;

/// Widest residual stream, feed-forward block or row of heads: buffers of this
/// width are allocated per token.
pub const WIDTH: u64 = 1 << 20;

/// Most entries in a vocabulary: logits of this size are allocated per sequence.
pub const VOCAB: u64 = 1 << 22;

/// Longest context: a cache of keys and values grows with it.
pub const CONTEXT: u64 = 1 << 24;
