//! How byte-level vocabularies split text before merging, by the name in `tokenizer.ggml.pre`.
//!
//! GGUF does not store the expressions, only a name that stands for them (the
//! list is `llama-vocab.cpp` in ggml-org/llama.cpp). A wrong one gives other
//! tokens for a few words in a hundred and no error, so an unknown name is refused.

/// The splitting rule that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Expressions applied one after the other, each to the pieces left by the one before.
    pub(crate) splits: &'static [&'static str],
    /// Whether a piece that is a token as a whole skips the merges.
    pub(crate) ignore_merges: bool,
    /// Whether a text starts with the BOS token when the file does not say.
    pub(crate) add_bos: bool,
}

/// The rule called `name`.
pub(crate) fn rule(name: &str) -> Option<Rule> {
    let splits: &[&str] = match name {
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon_e" | "falcon-e" | "falcon-h1" | "pixtral" => {
            return Some(Rule { splits: &[LLAMA3], ignore_merges: true, add_bos: true });
        }
        "dbrx" | "smaug-bpe" => &[LLAMA3],
        "qwen2" | "deepseek-r1-qwen" | "stablelm2" | "megrez" | "hunyuan" => &[QWEN2],
        "qwen35" => &[QWEN35],
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "exaone4" | "modern-bert" | "roberta-bpe" | "jina-es"
        | "jina-de" | "jina-v1-en" | "jina-v2-es" | "jina-v2-de" | "jina-v2-code" => &[GPT2],
        "falcon" => &[PUNCTUATION_AND_BACKTICK, GPT2, THREE_DIGITS],
        "default" => &[PUNCTUATION, GPT2, r"\p{N}+", THREE_DIGITS],
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => &[r"\p{N}", GPT2],
        _ => return None,
    };
    Some(Rule { splits, ignore_merges: false, add_bos: false })
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";
const PUNCTUATION_AND_BACKTICK: &str = r"[\p{P}\$\+<=>\^~\|`]+";
const THREE_DIGITS: &str = r"[0-9][0-9][0-9]";
