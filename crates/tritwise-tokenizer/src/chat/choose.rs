//! Which template: the checkpoint's, or one by name.

use super::{ChatTemplate, Origin};
use crate::{Error, Tokenizer};

/// The templates that this crate has, by name: published forms that some checkpoints need and do not carry.
///
/// | name | form |
/// |---|---|
/// | `bitnet-2b-4t` | BitNet b1.58 2B-4T: `User: …<\|eot_id\|>` |
/// | `llama-3` | `<\|start_header_id\|>user<\|end_header_id\|>`, a blank line, `…<\|eot_id\|>` |
/// | `chatml` | `<\|im_start\|>user`, a line break, `…<\|im_end\|>` |
/// | `falcon3` | `<\|user\|>`, a line break, `…` |
/// | `alpaca` | `### Instruction:`, a line break, `…` |
pub const BUILT_IN: [&str; 5] = ["bitnet-2b-4t", "llama-3", "chatml", "falcon3", "alpaca"];

impl ChatTemplate {
    /// The template called `name` in [`BUILT_IN`].
    ///
    /// # Errors
    /// [`Error::NoSuchTemplate`]: there is none of that name.
    pub fn built_in(name: &str) -> Result<Self, Error> {
        let sources = [
            include_str!("templates/bitnet-2b-4t.jinja"),
            include_str!("templates/llama-3.jinja"),
            include_str!("templates/chatml.jinja"),
            include_str!("templates/falcon3.jinja"),
            include_str!("templates/alpaca.jinja"),
        ];
        let found = BUILT_IN.into_iter().zip(sources).find(|(known, _)| *known == name);
        let (name, source) = found.ok_or_else(|| Error::NoSuchTemplate(name.to_owned()))?;
        Self::new(Origin::BuiltIn(name), source)
    }

    /// The template of a checkpoint of `architecture`, as GGUF or `config.json` names it: of `templates`, which
    /// are the checkpoint's by name, the one called `tool_use` if `tools` are to be told and there is one, else `default`.
    ///
    /// GGUF files of BitNet b1.58 2B-4T have a placeholder or nothing in its place, and get the built-in one.
    ///
    /// # Errors
    /// * [`Error::NoTemplate`]: there is none, and nothing says which one the model was trained with.
    /// * [`Error::Template`]: it is no Jinja.
    pub fn of_checkpoint(
        templates: &[(String, String)],
        architecture: &str,
        tokenizer: &Tokenizer,
        tools: bool,
    ) -> Result<Self, Error> {
        let named = |name: &str| templates.iter().find(|(known, _)| known == name);
        let found = named("tool_use").filter(|_| tools).or_else(|| named("default"));
        match found.filter(|(_, source)| !source.contains(PLACEHOLDER)) {
            Some((name, source)) => Self::new(Origin::File(name.clone()), source),
            None if found.is_some() || is_2b_4t(architecture, tokenizer) => Self::built_in("bitnet-2b-4t"),
            None => {
                let names: Vec<&str> = templates.iter().map(|(name, _)| name.as_str()).collect();
                Err(Error::NoTemplate { others: names.join(", ") })
            }
        }
    }
}

/// What stands in the template of the published GGUF file of BitNet b1.58 2B-4T, which is none.
const PLACEHOLDER: &str = "BITNETAssistant";

/// Its graph and Llama 3's vocabulary, which no other published model has together.
fn is_2b_4t(architecture: &str, tokenizer: &Tokenizer) -> bool {
    ["bitnet-b1.58", "bitnet-25", "BitNetForCausalLM"].contains(&architecture)
        && tokenizer.vocab_size() == 128_256
        && tokenizer.id_of("<|eot_id|>") == Some(128_009)
}
