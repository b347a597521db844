//! Text that arrives in bytes, released in whole characters.
//!
//! A token may end inside a character: an emoji is four bytes and often two or
//! three tokens. What a program prints must not.

/// Releases whole characters from bytes that arrive in any pieces.
///
/// All releases together are what [`String::from_utf8_lossy`] makes of all
/// bytes together, wherever they were cut.
///
/// ```
/// let mut stream = tritwise_tokenizer::Utf8Stream::new();
/// let mut text = String::new();
/// stream.push(b"\xF0\x9F", &mut text);
/// assert_eq!(text, "");
/// stream.push(b"\xA6\x80!", &mut text);
/// assert_eq!(text, "🦀!");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Utf8Stream {
    /// The start of a character: at most three bytes between calls.
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// A stream at the start of a text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and appends the characters that are now whole to `out`.
    ///
    /// Bytes that cannot become a character are released as U+FFFD at once.
    pub fn push(&mut self, bytes: &[u8], out: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut unfinished = 0;
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            out.push_str(chunk.valid());
            let invalid = chunk.invalid();
            if chunks.peek().is_none() && is_start_of_character(invalid) {
                unfinished = invalid.len();
            } else if !invalid.is_empty() {
                out.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..self.pending.len() - unfinished);
    }

    /// Ends the text: a character that was never finished becomes U+FFFD.
    pub fn finish(&mut self, out: &mut String) {
        if !self.pending.is_empty() {
            self.pending.clear();
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Whether more bytes could complete `bytes` to a character.
fn is_start_of_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
