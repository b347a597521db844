//! The metadata of a converted file.

use tritwise_gguf::{Error, Value, Writer};
use tritwise_tensor::{Activation, Checkpoint, CheckpointError, RopeScaling, TernaryEncoding};

use super::plan::Plan;
use super::{Conversion, OUTPUT, tokenizer};
use crate::error::file_error;
use crate::source::Source;
use crate::vocabulary::Vocabulary;

pub(super) fn write(
    source: &Source,
    conversion: &Conversion,
    plan: &Plan,
    writer: &mut Writer,
) -> Result<(), CheckpointError> {
    let written = hyperparameters(source, conversion, plan, writer);
    written.map_err(|error| file_error(OUTPUT, error))?;
    match &source.vocabulary {
        Vocabulary::Gguf(header) => {
            for (key, value) in header.metadata().iter().filter(|(key, _)| carried(key, conversion)) {
                writer.metadata(key, value.clone()).map_err(|error| file_error(OUTPUT, error))?;
            }
            Ok(())
        }
        Vocabulary::Folder(_) if conversion.without_tokenizer => Ok(()),
        Vocabulary::Folder(folder) => tokenizer::write(source, folder, writer),
    }
}

/// Whether a key of a GGUF file still holds after conversion.
fn carried(key: &str, conversion: &Conversion) -> bool {
    const WRITTEN_ANEW: [&str; 4] =
        ["general.architecture", "general.alignment", "general.file_type", "general.quantization_version"];
    let general = key.starts_with("general.") && !WRITTEN_ANEW.contains(&key);
    let renamed = key == "general.name" && conversion.name.is_some();
    let tokenizer = key.starts_with("tokenizer.") && !conversion.without_tokenizer;
    (general && !renamed) || tokenizer
}

fn hyperparameters(source: &Source, conversion: &Conversion, plan: &Plan, writer: &mut Writer) -> Result<(), Error> {
    let config = source.config();
    let architecture = plan.architecture;
    writer.metadata("general.architecture", architecture)?;
    if conversion.linear == TernaryEncoding::Base3 {
        // Its lines are computed with where they lie in the file, and a line is 64 bytes.
        writer.metadata("general.alignment", 64u32)?;
    }
    if let Some(name) = &conversion.name {
        writer.metadata("general.name", name.as_str())?;
    }
    writer.metadata("general.file_type", file_type(conversion.linear))?;
    writer.metadata("general.quantization_version", 2u32)?;

    let mut put = |key: &str, value: Value| writer.metadata(&format!("{architecture}.{key}"), value).map(drop);
    // Counts were checked against limits far below 2³².
    let count = |value: usize| Value::U32(value as u32);
    put("vocab_size", count(config.vocab))?;
    put("context_length", count(config.context))?;
    put("embedding_length", count(config.hidden))?;
    put("block_count", count(config.layers))?;
    put("feed_forward_length", count(config.ffn))?;
    put("attention.head_count", count(config.heads))?;
    put("attention.head_count_kv", count(config.kv_heads))?;
    put("attention.key_length", count(config.head_dim))?;
    put("attention.value_length", count(config.head_dim))?;
    put("attention.layer_norm_rms_epsilon", Value::F32(config.norm_eps))?;
    put("rope.dimension_count", count(config.head_dim))?;
    put("rope.freq_base", Value::F32(config.rope.theta))?;
    if let RopeScaling::Linear { factor } = config.rope.scaling {
        put("rope.scaling.type", "linear".into())?;
        put("rope.scaling.factor", Value::F32(factor))?;
    }
    if config.norms.sub {
        // The architecture's name implies it, but not to every reader.
        let activation = match config.activation {
            Activation::SquaredRelu => "relu2",
            Activation::Silu => "silu",
            Activation::GeluTanh => "gelu",
        };
        put("hidden_activation", activation.into())?;
    }
    Ok(())
}

/// What writers of each encoding have put into `general.file_type`; nothing should be decided by it.
fn file_type(encoding: TernaryEncoding) -> u32 {
    match encoding {
        TernaryEncoding::Tq1_0 => 36,
        TernaryEncoding::Tq2_0 => 37,
        _ => 40,
    }
}
