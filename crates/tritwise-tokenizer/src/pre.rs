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

/// The name in `tokenizer.ggml.pre` of the rule that applies `splits`, one after the other; `None` if it has none.
///
/// `ignore_merges` is the field of that name in `tokenizer.json`: whether a piece that is a token as a whole skips the
/// merges.
pub fn splitting_rule(splits: &[&str], ignore_merges: bool) -> Option<&'static str> {
    // One name of each rule: the one that llama.cpp's converter gives.
    let names = ["llama-bpe", "smaug-bpe", "qwen2", "qwen35", "gpt-2", "falcon", "default", "smollm"];
    names
        .into_iter()
        .find(|name| rule(name).is_some_and(|rule| rule.splits == splits && rule.ignore_merges == ignore_merges))
}

/// GPT-2's expression: what the step `ByteLevel` of a `tokenizer.json` splits by where it says `use_regex`.
pub const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";
const PUNCTUATION_AND_BACKTICK: &str = r"[\p{P}\$\+<=>\^~\|`]+";
const THREE_DIGITS: &str = r"[0-9][0-9][0-9]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_name_that_stands_for_it() {
        for name in
            ["llama3", "falcon_e", "dbrx", "deepseek-r1-qwen", "qwen35", "olmo", "falcon", "default", "starcoder"]
        {
            let rule = rule(name).unwrap();
            let found = splitting_rule(rule.splits, rule.ignore_merges).unwrap();
            let same = super::rule(found).unwrap();
            assert_eq!((same.splits, same.ignore_merges), (rule.splits, rule.ignore_merges), "{name} is {found}");
        }
        assert_eq!(splitting_rule(&[GPT2], true), None);
        assert_eq!(splitting_rule(&[], false), None);
    }
}
