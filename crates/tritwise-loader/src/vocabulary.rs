//! The tokenizer of a checkpoint, and its chat template.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tritwise_gguf::{Header, Metadata, Strings};
use tritwise_tensor::CheckpointError;
use tritwise_tokenizer::{GgufVocab, SpecialTokens, TokenRef, Tokenizer};

use crate::error::file_error;
use crate::hf::read_small;
use crate::limits;

/// Where a checkpoint describes itself, beside its tensors.
#[derive(Debug)]
pub(crate) enum Vocabulary {
    /// The metadata of a GGUF file.
    Gguf(Header),
    /// The JSON files of a Hugging Face folder.
    Folder(Box<Folder>),
}

/// The small files of a Hugging Face folder.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    /// `config.json`; among much else, ids of special tokens.
    pub(crate) config: Value,
    /// `tokenizer.json`: the tokenizer itself.
    pub(crate) tokenizer: Option<Vec<u8>>,
    /// `tokenizer_config.json`: texts of special tokens, and often the chat template.
    tokenizer_config: Value,
    /// `generation_config.json`: above all the tokens that end a generation.
    generation_config: Value,
    /// The templates in files of their own, which go before those in `tokenizer_config.json`.
    jinja: Vec<(String, String)>,
}

impl Folder {
    /// Reads what there is; absent files become `null`.
    pub(crate) fn read(path: &Path) -> Result<Self, CheckpointError> {
        let label = |name: &str| path.join(name).display().to_string();
        let json = |name: &str| match read_small(&path.join(name), limits::JSON_BYTES)? {
            None => Ok(Value::Null),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| file_error(&label(name), format_args!("is not JSON: {error}"))),
        };
        Ok(Self {
            path: path.to_owned(),
            config: json("config.json")?,
            tokenizer: read_small(&path.join("tokenizer.json"), limits::TOKENIZER_BYTES)?,
            tokenizer_config: json("tokenizer_config.json")?,
            generation_config: json("generation_config.json")?,
            jinja: jinja_files(path)?,
        })
    }

    /// How errors name the tokenizer's file.
    pub(crate) fn tokenizer_label(&self) -> String {
        self.path.join("tokenizer.json").display().to_string()
    }

    /// Builds the tokenizer; `None` if the folder has none.
    pub(crate) fn tokenizer(&self) -> Result<Option<Tokenizer>, CheckpointError> {
        let Some(tokenizer) = &self.tokenizer else {
            return Ok(None);
        };
        let tokenizer = Tokenizer::from_json(tokenizer, &self.special_tokens());
        tokenizer.map(Some).map_err(|error| file_error(&self.tokenizer_label(), error))
    }

    fn special_tokens(&self) -> SpecialTokens {
        let configs = [&self.generation_config, &self.config];
        let tokenizer = &self.tokenizer_config;
        let (bos_text, eos_text) = (text(&tokenizer["bos_token"]), text(&tokenizer["eos_token"]));
        let bos_id = configs.iter().flat_map(|config| ids(&config["bos_token_id"])).next();
        let eos_ids = configs.iter().flat_map(|config| ids(&config["eos_token_id"]));
        SpecialTokens {
            bos: bos_text.or(bos_id),
            eos: eos_text.into_iter().chain(eos_ids).collect(),
            add_bos: tokenizer["add_bos_token"].as_bool(),
            add_eos: tokenizer["add_eos_token"].as_bool(),
        }
    }

    /// The Jinja templates that turn a conversation into text, by name.
    pub(crate) fn chat_templates(&self) -> Vec<(String, String)> {
        let mut templates = Vec::new();
        match self.tokenizer_config.get("chat_template").unwrap_or(&Value::Null) {
            Value::Array(several) => templates.extend(several.iter().filter_map(|template| {
                Some((template["name"].as_str()?.to_owned(), template["template"].as_str()?.to_owned()))
            })),
            one => templates.extend(one.as_str().map(|one| (DEFAULT_TEMPLATE.to_owned(), one.to_owned()))),
        }
        for (name, source) in &self.jinja {
            templates.retain(|(known, _)| known != name);
            templates.push((name.clone(), source.clone()));
        }
        templates
    }
}

/// How the template is called that is used unless another is asked for.
pub(crate) const DEFAULT_TEMPLATE: &str = "default";

/// `chat_template.jinja`, and what transformers 5 puts beside it for further templates.
fn jinja_files(path: &Path) -> Result<Vec<(String, String)>, CheckpointError> {
    let mut templates = Vec::new();
    for file in [path.join("chat_template.jinja")].into_iter().chain(additional_templates(path)) {
        let Some(bytes) = read_small(&file, limits::JSON_BYTES)? else { continue };
        let source = String::from_utf8(bytes);
        let source = source.map_err(|_| file_error(&file.display().to_string(), "is not UTF-8"))?;
        let name = file.file_stem().and_then(|stem| stem.to_str()).filter(|_| file.parent() != Some(path));
        templates.push((name.unwrap_or(DEFAULT_TEMPLATE).to_owned(), source));
    }
    Ok(templates)
}

/// The files `additional_chat_templates/NAME.jinja` of a folder, sorted.
pub(crate) fn additional_templates(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("additional_chat_templates")).into_iter().flatten();
    let files = entries.filter_map(Result::ok).map(|entry| entry.path());
    let named = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "jinja");
    let mut files: Vec<PathBuf> = files.filter(named).take(limits::CHAT_TEMPLATES).collect();
    files.sort();
    files
}

/// A special token as `tokenizer_config.json` spells it: a string, or an object with its content.
fn text(value: &Value) -> Option<TokenRef> {
    let text = value.as_str().or_else(|| value["content"].as_str());
    text.map(|text| TokenRef::Text(text.to_owned()))
}

/// One id or a list of them.
fn ids(value: &Value) -> Vec<TokenRef> {
    let several = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    several.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).map(TokenRef::Id).collect()
}

impl Vocabulary {
    /// Builds the tokenizer; `None` if the checkpoint has none.
    pub(crate) fn tokenizer(&self, label: &str) -> Result<Option<Tokenizer>, CheckpointError> {
        match self {
            Self::Gguf(header) if header.metadata().value("tokenizer.ggml.model").is_none() => Ok(None),
            Self::Gguf(header) => {
                let vocab = gguf_vocab(header.metadata()).map_err(|error| file_error(label, error))?;
                Tokenizer::from_gguf(vocab).map(Some).map_err(|error| file_error(label, error))
            }
            Self::Folder(folder) => folder.tokenizer(),
        }
    }

    /// The tokenizer of a GGUF file as a `tokenizer.json`; `None` if it has none.
    pub(crate) fn to_json(&self, label: &str) -> Result<Option<String>, CheckpointError> {
        match self {
            Self::Gguf(header) if header.metadata().value("tokenizer.ggml.model").is_some() => {
                let vocab = gguf_vocab(header.metadata()).map_err(|error| file_error(label, error))?;
                vocab.to_json().map(Some).map_err(|error| file_error(label, error))
            }
            _ => Ok(None),
        }
    }

    /// The chat templates by name; GGUF has the default one under `tokenizer.chat_template` and others under
    /// `tokenizer.chat_template.NAME`.
    pub(crate) fn chat_templates(&self) -> Vec<(String, String)> {
        match self {
            Self::Gguf(header) => {
                let named = header.metadata().iter().filter_map(|(key, value)| {
                    let name = match key.strip_prefix(CHAT_TEMPLATE)? {
                        "" => DEFAULT_TEMPLATE,
                        rest => rest.strip_prefix('.')?,
                    };
                    Some((name.to_owned(), value.as_str()?.to_owned()))
                });
                named.collect()
            }
            Self::Folder(folder) => folder.chat_templates(),
        }
    }

    /// Key and value of each piece of metadata, for people.
    pub(crate) fn describe(&self) -> Vec<(String, String)> {
        match self {
            Self::Gguf(header) => {
                header.metadata().iter().map(|(key, value)| (key.to_owned(), value.to_string())).collect()
            }
            Self::Folder(folder) => folder
                .config
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.to_string()))
                .collect(),
        }
    }
}

/// This project's key for what is done to a text before it is split; GGUF has none.
pub(crate) const NORMALIZER: &str = "tritwise.normalizer";

/// GGUF's key of the chat template.
pub(crate) const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

fn gguf_vocab(metadata: &Metadata) -> Result<GgufVocab, tritwise_gguf::Error> {
    let string = |key: &str| Ok(metadata.string(&format!("tokenizer.ggml.{key}"))?.map(str::to_owned));
    let strings = |key: &str| {
        let strings = metadata.strings(&format!("tokenizer.ggml.{key}"))?;
        Ok(strings.map(|strings: &Strings| strings.iter().map(str::to_owned).collect()).unwrap_or_default())
    };
    let flag = |key: &str| metadata.boolean(&format!("tokenizer.ggml.{key}"));
    // An id beyond u32 is beyond every vocabulary, which is the tokenizer's to say.
    let id = |key: &str| {
        let id = metadata.unsigned(&format!("tokenizer.ggml.{key}_token_id"))?;
        Ok(id.map(|id| u32::try_from(id).unwrap_or(u32::MAX)))
    };
    Ok(GgufVocab {
        model: string("model")?.unwrap_or_default(),
        pre: string("pre")?,
        normalizer: metadata.string(NORMALIZER)?.map(str::to_owned),
        tokens: strings("tokens")?,
        scores: metadata.floats("tokenizer.ggml.scores")?.unwrap_or_default().to_vec(),
        token_types: metadata.integers("tokenizer.ggml.token_type")?.unwrap_or_default().to_vec(),
        merges: strings("merges")?,
        bos: id("bos")?,
        eos: id("eos")?,
        eot: id("eot")?,
        eom: id("eom")?,
        unknown: id("unknown")?,
        padding: id("padding")?,
        add_bos: flag("add_bos_token")?,
        add_eos: flag("add_eos_token")?,
        add_space_prefix: flag("add_space_prefix")?,
    })
}
