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

/// Longest chat template; published ones have up to 20 kB. Stops one as long as the file from being compiled.
pub(crate) const MAX_TEMPLATE_BYTES: usize = 1 << 17;

/// Bytes of stack for each byte of a template while it is compiled: minijinja counts the depth of brackets, but not of
/// `not not not`. Stops such a template from ending the program.
pub(crate) const STACK_PER_BYTE: usize = 2048;

/// Most operators in one tag of a template; published ones have some tens. Stops chains of them, of which the compiler looks at every part
/// again for each part.
pub(crate) const TAG_OPERATORS: usize = 256;

/// Steps of a template beyond those for the conversation's own bytes, in the units of minijinja: an instruction, or 64
/// bytes of text made. Twice what a template takes for a thousand messages. Stops a template that does not end, or doubles
/// a text until memory is full.
pub(crate) const TEMPLATE_FUEL: u64 = 1 << 18;

/// Steps more for each message, beyond those for its bytes.
pub(crate) const FUEL_PER_MESSAGE: u64 = 100;

/// Bytes of stack for each step. A list in a list takes a template two steps, and unoptimised code up to 2 kB of stack to
/// look at. Stops one of lists nested by the ten thousand from ending the program.
pub(crate) const STACK_PER_FUEL: usize = 1024;

/// Depth of a template's calls. Stops macros that call themselves from using up the stack.
pub(crate) const TEMPLATE_DEPTH: usize = 100;

/// Longest rendered conversation: many times the longest context. Stops a template that repeats a message.
pub(crate) const MAX_RENDERED_BYTES: usize = 1 << 26;
