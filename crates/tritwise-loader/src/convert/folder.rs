//! A Hugging Face folder: `config.json`, `model.safetensors`, and the tokenizer's files.
//!
//! ```text
//! model.safetensors   u64 length │ {"name": {"dtype", "shape", "data_offsets"}, …} │ data, without gaps
//! a linear layer      name         U8 [rows / 4, cols]
//!                     name_scale   F32 [1], which the trits are multiplied by
//! ```
//!
//! The scale follows its layer at once, so that a layer is read once. It is F32, which holds any scale, and it is a
//! multiplier (`autobitlinear`, `offline`), for Llama too: transformers' older `bitlinear` divides, and not every scale
//! is the reciprocal of a float.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use tritwise_tensor::{CheckpointError, TernaryEncoding};
use tritwise_tokenizer::Tokenizer;

use super::plan::{Kind, Plan, Planned};
use super::{Conversion, Input, Meter, Progress, config_json, finish, pieces};
use crate::error::{file_error, unwritten};
use crate::vocabulary::{DEFAULT_TEMPLATE, Folder, Vocabulary, additional_templates};

/// Writes the checkpoint of `plan` into `folder`, which is there and empty.
pub(super) fn write(
    input: &Input<'_>,
    plan: &Plan<'_>,
    folder: &Path,
    conversion: &Conversion,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), CheckpointError> {
    let config = config_json::make(input, plan, conversion)?;
    write_json(&folder.join("config.json"), &config)?;
    config_json::pooling(input.weights.config()).map_or(Ok(()), |pooling| {
        let path = folder.join("1_Pooling");
        fs::create_dir(&path).map_err(|error| unwritten(&path, &error))?;
        write_json(&path.join("config.json"), &pooling)
    })?;
    match input.vocabulary {
        Some(Vocabulary::Folder(original)) => copy_files(original, folder, conversion)?,
        Some(vocabulary @ Vocabulary::Gguf(_)) if !conversion.without_tokenizer => {
            if let Some(tokenizer) = vocabulary.tokenizer(input.label)? {
                write_tokenizer(input, vocabulary, &tokenizer, folder)?;
            }
        }
        _ => {}
    }

    let path = folder.join("model.safetensors");
    let file = File::create(&path).map_err(|error| unwritten(&path, &error))?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let header = header(plan);
    let start = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
    file.write_all(&start).map_err(|error| unwritten(&path, &error))?;
    let mut meter = Meter::new(plan, progress);
    pieces::write(input, plan, &mut meter, |_, bytes| file.write_all(bytes).map_err(|error| unwritten(&path, &error)))?;
    finish(file, &path)
}

/// The JSON before the data, padded to a multiple of 8 bytes as the format's own writers do.
fn header(plan: &Plan<'_>) -> Vec<u8> {
    let mut entries = Map::new();
    entries.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut start = 0;
    let mut add = |name: &str, dtype: &str, shape: &[usize], bytes: usize| {
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, start + bytes]});
        entries.insert(name.to_owned(), entry);
        start += bytes;
    };
    for Planned { name, rows, cols, kind, bytes, .. } in &plan.tensors {
        match kind {
            Kind::Norm(_) | Kind::Divisors(_) => add(name, "F32", &[*cols], *bytes),
            Kind::Table(.., encoding) => add(name, encoding.name(), &[*rows, *cols], *bytes),
            Kind::Linear(_, TernaryEncoding::Float(kind, _)) => add(name, kind.name(), &[*rows, *cols], *bytes),
            Kind::Linear(..) => {
                add(name, "U8", &[rows / 4, *cols], *bytes);
                add(&format!("{name}_scale"), "F32", &[1], 4);
            }
        }
    }
    let mut header = Value::Object(entries).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    header
}

fn write_json(path: &Path, value: &Value) -> Result<(), CheckpointError> {
    fs::write(path, format!("{value:#}\n")).map_err(|error| unwritten(path, &error))
}

/// Files of a folder that say how text becomes tokens.
const TOKENIZER_FILES: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
];

/// Others that hold for the converted model as well.
const OTHER_FILES: [&str; 4] =
    ["generation_config.json", "modules.json", "config_sentence_transformers.json", "LICENSE"];

fn copy_files(original: &Folder, folder: &Path, conversion: &Conversion) -> Result<(), CheckpointError> {
    let tokenizer: &[&str] = if conversion.without_tokenizer { &[] } else { &TOKENIZER_FILES };
    for name in tokenizer.iter().chain(&OTHER_FILES) {
        let (from, to) = (original.path.join(name), folder.join(name));
        if from.is_file() {
            fs::copy(&from, &to).map_err(|error| unwritten(&to, &error))?;
        }
    }
    if !conversion.without_tokenizer {
        for from in additional_templates(&original.path) {
            let to = folder.join(from.strip_prefix(&original.path).unwrap_or(&from));
            let parent = to.parent().unwrap_or(folder);
            fs::create_dir_all(parent).map_err(|error| unwritten(parent, &error))?;
            fs::copy(&from, &to).map_err(|error| unwritten(&to, &error))?;
        }
    }
    Ok(())
}

/// The tokenizer of a GGUF file, in the files of a folder.
fn write_tokenizer(
    input: &Input<'_>,
    vocabulary: &Vocabulary,
    tokenizer: &Tokenizer,
    folder: &Path,
) -> Result<(), CheckpointError> {
    let refuse = |message: &dyn std::fmt::Display| {
        file_error(
            input.label,
            format_args!("{message}: its tokenizer has no tokenizer.json; to convert the weights alone, leave it out"),
        )
    };
    let Some(json) = vocabulary.to_json(input.label)? else {
        return Ok(());
    };
    let path = folder.join("tokenizer.json");
    fs::write(&path, &json).map_err(|error| unwritten(&path, &error))?;

    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id));
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": tokenizer.add_bos(),
        "add_eos_token": tokenizer.add_eos(),
        "bos_token": text(tokenizer.bos()),
        "eos_token": text(tokenizer.eos()),
        "clean_up_tokenization_spaces": false,
        "model_max_length": input.weights.config().context,
    });
    let template: Value = match &vocabulary.chat_templates()[..] {
        [] => Value::Null,
        [(name, source)] if name == DEFAULT_TEMPLATE => source.as_str().into(),
        several => several.iter().map(|(name, source)| json!({"name": name, "template": source})).collect(),
    };
    #[expect(clippy::indexing_slicing, reason = "an object takes any key")]
    if !template.is_null() {
        config["chat_template"] = template;
    }
    write_json(&folder.join("tokenizer_config.json"), &config)?;
    let generation = json!({"bos_token_id": tokenizer.bos(), "eos_token_id": ends(tokenizer)});
    write_json(&folder.join("generation_config.json"), &generation)?;
    // Read back at once: what is no tokenizer is better known before gigabytes are written.
    let written = Folder::read(folder)?.tokenizer().map_err(|error| refuse(&error))?;
    let written = written.ok_or_else(|| refuse(&"it is not found"))?;
    super::tokenizer::compare(tokenizer, &written).map_err(|error| refuse(&error))
}

/// The tokens that end a generation, *the* EOS first.
fn ends(tokenizer: &Tokenizer) -> Vec<u32> {
    let others = tokenizer.eog().iter().copied().filter(|&id| Some(id) != tokenizer.eos());
    tokenizer.eos().into_iter().chain(others).collect()
}
