//! The metadata of a converted file.

use tritwise_gguf::{Array, Error, Value, Writer};
use tritwise_tensor::{
    Activation, CheckpointError, Config, FloatKind, Inputs, Pooling, RopeScaling, SlidingWindow, TernaryEncoding,
};

use super::plan::Plan;
use super::{Conversion, Input, OUTPUT, tokenizer};
use crate::error::file_error;
use crate::gguf::INPUTS;
use crate::hf::yarn_magnitude;
use crate::vocabulary::{NORMALIZER, Vocabulary};

pub(super) fn write(
    input: &Input<'_>,
    conversion: &Conversion,
    plan: &Plan<'_>,
    writer: &mut Writer,
) -> Result<(), CheckpointError> {
    let config = input.weights.config();
    general(conversion, plan, writer)
        .and_then(|()| Keys { writer, architecture: plan.graph.architecture }.put_all(config))
        .map_err(|error| file_error(OUTPUT, error))?;
    match input.vocabulary {
        Some(Vocabulary::Gguf(header)) => {
            for (key, value) in header.metadata().iter().filter(|(key, _)| carried(key, conversion)) {
                writer.metadata(key, value.clone()).map_err(|error| file_error(OUTPUT, error))?;
            }
            Ok(())
        }
        Some(Vocabulary::Folder(folder)) if !conversion.without_tokenizer => tokenizer::write(folder, config, writer),
        _ => Ok(()),
    }
}

/// Whether a key of a GGUF file still holds after conversion.
fn carried(key: &str, conversion: &Conversion) -> bool {
    const WRITTEN_ANEW: [&str; 4] =
        ["general.architecture", "general.alignment", "general.file_type", "general.quantization_version"];
    let general = key.starts_with("general.") && !WRITTEN_ANEW.contains(&key);
    let renamed = key == "general.name" && conversion.name.is_some();
    let tokenizer = is_tokenizer(key) && !conversion.without_tokenizer;
    (general && !renamed) || tokenizer
}

/// Whether a key says how text becomes tokens.
pub(super) fn is_tokenizer(key: &str) -> bool {
    key.starts_with("tokenizer.") || key == NORMALIZER
}

fn general(conversion: &Conversion, plan: &Plan<'_>, writer: &mut Writer) -> Result<(), Error> {
    writer.metadata("general.architecture", plan.graph.architecture)?;
    if conversion.linear == TernaryEncoding::Base3 {
        // Its lines are computed with where they lie in the file, and a line is 64 bytes.
        writer.metadata("general.alignment", 64u32)?;
    }
    if let Some(name) = &conversion.name {
        writer.metadata("general.name", name.as_str())?;
    }
    writer.metadata("general.file_type", file_type(conversion.linear))?;
    writer.metadata("general.quantization_version", 2u32)?;
    Ok(())
}

/// The keys that begin with the architecture's name.
struct Keys<'a> {
    writer: &'a mut Writer,
    architecture: &'static str,
}

impl Keys<'_> {
    fn put(&mut self, key: &str, value: impl Into<Value>) -> Result<(), Error> {
        self.writer.metadata(&format!("{}.{key}", self.architecture), value).map(drop)
    }

    #[expect(clippy::cast_possible_truncation, reason = "counts were checked against limits far below 2³²")]
    fn count(&mut self, key: &str, value: usize) -> Result<(), Error> {
        self.put(key, value as u32)
    }

    fn put_all(&mut self, config: &Config) -> Result<(), Error> {
        self.count("vocab_size", config.vocab)?;
        self.count("context_length", config.context)?;
        self.count("embedding_length", config.hidden)?;
        self.count("block_count", config.layers)?;
        self.count("feed_forward_length", config.ffn)?;
        self.count("attention.head_count", config.heads)?;
        self.count("attention.head_count_kv", config.kv_heads)?;
        self.count("attention.key_length", config.head_dim)?;
        self.count("attention.value_length", config.head_dim)?;
        self.put("attention.layer_norm_rms_epsilon", config.norm_eps)?;
        self.count("rope.dimension_count", config.head_dim)?;
        self.put("rope.freq_base", config.rope.theta)?;
        self.scaling(&config.rope.scaling)?;
        if let Some(window) = &config.window {
            self.window(window)?;
        }
        if let Some(pooling) = config.pooling {
            // llama.cpp's numbers.
            let number = match pooling {
                Pooling::Mean => 1,
                Pooling::Cls => 2,
                Pooling::Last => 3,
            };
            self.count("pooling_type", number)?;
        }
        if self.architecture.starts_with("bitnet") {
            // The architecture's name implies it, but not to every reader.
            let activation = match config.activation {
                Activation::SquaredRelu => "relu2",
                Activation::Silu => "silu",
                Activation::GeluTanh => "gelu",
            };
            self.put("hidden_activation", activation)?;
        }
        let inputs = match config.inputs {
            Inputs::Int8 => "int8",
            Inputs::Float => "float",
        };
        self.writer.metadata(INPUTS, inputs).map(drop)
    }

    fn scaling(&mut self, scaling: &RopeScaling) -> Result<(), Error> {
        match *scaling {
            // Divisors are a tensor.
            RopeScaling::None | RopeScaling::Divisors(_) => Ok(()),
            RopeScaling::Linear { factor } => {
                self.put("rope.scaling.type", "linear")?;
                self.put("rope.scaling.factor", factor)
            }
            RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, magnitude } => {
                self.put("rope.scaling.type", "yarn")?;
                self.put("rope.scaling.factor", factor)?;
                self.count("rope.scaling.original_context_length", original_context)?;
                self.put("rope.scaling.yarn_beta_fast", beta_fast)?;
                self.put("rope.scaling.yarn_beta_slow", beta_slow)?;
                let usual = yarn_magnitude(factor);
                if magnitude != usual {
                    self.put("rope.scaling.attn_factor", quotient(magnitude, usual))?;
                }
                Ok(())
            }
        }
    }

    fn window(&mut self, window: &SlidingWindow) -> Result<(), Error> {
        self.count("attention.sliding_window", window.width)?;
        // All but every so many have a window, or else a flag says it for each.
        let period = window.layers.iter().position(|windowed| !windowed).unwrap_or(window.layers.len()) + 1;
        if window.layers.iter().enumerate().all(|(layer, &windowed)| windowed == ((layer + 1) % period != 0)) {
            self.count("attention.sliding_window_pattern", period)?;
        } else {
            self.put("attention.sliding_window_pattern", Value::Array(Array::Bool(window.layers.clone())))?;
        }
        self.put("rope.freq_base_swa", window.rope.theta)
    }
}

/// What `b` is multiplied by to give exactly `a`, if there is such a number near `a / b`; else `a / b`.
fn quotient(a: f32, b: f32) -> f32 {
    let quotient = a / b;
    let near = [quotient, quotient.next_up(), quotient.next_down()];
    near.into_iter().find(|factor| factor * b == a).unwrap_or(quotient)
}

/// What writers of each encoding have put into `general.file_type`; nothing should be decided by it.
fn file_type(encoding: TernaryEncoding) -> u32 {
    match encoding {
        TernaryEncoding::Tq1_0 => 36,
        TernaryEncoding::Tq2_0 => 37,
        TernaryEncoding::Float(FloatKind::F32, _) => 0,
        TernaryEncoding::Float(FloatKind::F16, _) => 1,
        TernaryEncoding::Float(FloatKind::Bf16, _) => 32,
        _ => 40,
    }
}
