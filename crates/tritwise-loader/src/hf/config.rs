//! Hyperparameters and quantisation from `config.json`.
//!
//! The same packed weights mean different things under different settings.
//! In transformers (`integrations/bitnet.py`) the linear class decides:
//!
//! ```text
//! linear_class     quantization_mode   stored               weight
//! bitlinear        –                   trits, weight_scale  trit / weight_scale
//! autobitlinear    offline             trits, weight_scale  trit * weight_scale
//! autobitlinear    online              master weights       absmean of them
//! ```
//!
//! Published checkpoints use all three, and nothing in the weights tells them
//! apart, so whatever this table does not name is refused.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tritwise_tensor::{
    Activation, CheckpointError, Config, DenseEncoding, I2sLayout, Inputs, Norms, RopeScaling, TensorId,
};

use super::names::{Naming, OUTPUT};
use super::rope::{RopeFields, rope, window};
use super::{pooling, read_small};
use crate::container::{Container, Encoding};
use crate::error::file_error;
use crate::source::{FloatRule, Linear};
use crate::{Options, config, limits};

/// The fields of `config.json` that matter here; others belong to training or to generation.
#[derive(Deserialize)]
pub(super) struct File {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    model_type: Option<String>,
    hidden_size: usize,
    intermediate_size: usize,
    vocab_size: usize,
    pub(super) num_hidden_layers: usize,
    num_attention_heads: usize,
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    head_dim: Option<usize>,
    pub(super) max_position_embeddings: usize,
    rms_norm_eps: f32,
    #[serde(alias = "hidden_activation")]
    hidden_act: String,
    #[serde(default)]
    query_pre_attn_scalar: Option<f32>,
    #[serde(default)]
    pub(super) sliding_window: Option<usize>,
    #[serde(default)]
    pub(super) use_sliding_window: Option<bool>,
    #[serde(default)]
    pub(super) sliding_window_pattern: Option<usize>,
    #[serde(default)]
    pub(super) max_window_layers: Option<usize>,
    #[serde(default)]
    pub(super) layer_types: Option<Vec<String>>,
    #[serde(default)]
    pub(super) rope_local_base_freq: Option<f32>,
    #[serde(default)]
    pub(super) rope_theta: Option<f32>,
    #[serde(default)]
    pub(super) rope_scaling: Option<RopeFields>,
    #[serde(default)]
    pub(super) rope_parameters: Option<RopeFields>,
    #[serde(default)]
    tie_word_embeddings: Option<bool>,
    #[serde(default)]
    quantization_config: Option<Quantization>,
    /// Of the 1bitLLM checkpoints.
    #[serde(default)]
    weight_bits: Option<u32>,
    /// Of the 1bitLLM checkpoints.
    #[serde(default)]
    input_bits: Option<u32>,
}

#[derive(Deserialize)]
struct Quantization {
    #[serde(default)]
    quant_method: Option<String>,
    #[serde(default)]
    linear_class: Option<String>,
    #[serde(default)]
    quantization_mode: Option<String>,
    #[serde(default)]
    use_rms_norm: Option<bool>,
    #[serde(default)]
    rms_norm_eps: Option<f32>,
    #[serde(default)]
    modules_to_not_convert: Option<Vec<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// transformers' `BitNetForCausalLM`.
    BitNet,
    /// `BitnetForCausalLM` of the 1bitLLM checkpoints, with a modelling file of their own.
    OneBit,
    Llama,
    Qwen3,
    /// Gemma 3's text model.
    Gemma3,
}

/// What `config.json` calls the architecture: the first of `architectures`, else `model_type`.
pub(crate) fn architecture(config: &Value) -> Option<String> {
    let first = config.pointer("/architectures/0").and_then(Value::as_str);
    first.or_else(|| config["model_type"].as_str()).map(str::to_owned)
}

pub(super) fn read(
    path: &Path,
    container: &Container,
    options: &Options,
) -> Result<(Config, Linear, Naming), CheckpointError> {
    let label = path.display().to_string();
    let Some(bytes) = read_small(path, limits::JSON_BYTES)? else {
        return Err(file_error(
            &label,
            "is missing; without it the shape of the model is unknown: download the whole folder",
        ));
    };
    let fail = |message: String| file_error(&label, message);
    let not_as_expected = |error: serde_json::Error| fail(format!("is not as expected: {error}"));
    let file: File = serde_json::from_slice(&bytes).map_err(not_as_expected)?;
    let fields: Value = serde_json::from_slice(&bytes).map_err(not_as_expected)?;
    let family = family(&file).map_err(fail)?;
    let head_dim = head_dim(&file).map_err(fail)?;
    config::check_lists(file.num_hidden_layers, head_dim).map_err(fail)?;
    refuse_other_graphs(&fields).map_err(fail)?;
    check_attention_scale(&file, head_dim).map_err(fail)?;
    let quantization = file.quantization_config.as_ref();
    let rms_norm = quantization.and_then(|quantization| quantization.use_rms_norm) == Some(true);
    let naming = Naming::of(container, family.norms(), rms_norm, family == Family::Gemma3);
    let norms = naming.norms();
    if family.norms().sub && norms.inputs {
        return Err(fail(
            "asks for norms inside the linear layers beside sub-norms, a graph that is not built".to_owned(),
        ));
    }
    let (linear, inputs) = linear(&file, family, norms).map_err(fail)?;
    let config = Config {
        architecture: file
            .architectures
            .iter()
            .flatten()
            .next()
            .or(file.model_type.as_ref())
            .cloned()
            .unwrap_or_default(),
        hidden: file.hidden_size,
        layers: file.num_hidden_layers,
        heads: file.num_attention_heads,
        kv_heads: file.num_key_value_heads.unwrap_or(file.num_attention_heads),
        head_dim,
        ffn: file.intermediate_size,
        vocab: file.vocab_size,
        context: file.max_position_embeddings,
        norm_eps: file.rms_norm_eps,
        input_norm_eps: match quantization {
            // transformers' own default.
            Some(quantization) if rms_norm => quantization.rms_norm_eps.unwrap_or(1e-6),
            _ => file.rms_norm_eps,
        },
        rope: rope(&file, family, head_dim).map_err(fail)?,
        window: window(&file, family, head_dim).map_err(fail)?,
        activation: match options.activation {
            Some(activation) => activation,
            None => activation(&file.hidden_act).map_err(fail)?,
        },
        norms,
        embedding_scale: match family {
            Family::Gemma3 => config::gemma_embedding_scale(file.hidden_size),
            _ => 1.0,
        },
        inputs: options.inputs.unwrap_or(inputs),
        tied: file.tie_word_embeddings.unwrap_or(container.find(OUTPUT).is_none()),
        pooling: pooling::read(path)?,
    };
    config::check(&config).map_err(fail)?;
    accept_derived_tensors(container, &config, &naming)?;
    Ok((config, linear, naming))
}

fn family(file: &File) -> Result<Family, String> {
    let named = file.architectures.iter().flatten().next().map(String::as_str);
    match (named, file.model_type.as_deref()) {
        (Some("BitNetForCausalLM"), _) | (None, Some("bitnet")) => Ok(Family::BitNet),
        (Some("BitnetForCausalLM"), _) => Ok(Family::OneBit),
        (Some("LlamaForCausalLM"), _) | (None, Some("llama")) => Ok(Family::Llama),
        (Some("Qwen3ForCausalLM" | "Qwen3Model"), _) | (None, Some("qwen3")) => Ok(Family::Qwen3),
        (Some("Gemma3ForCausalLM" | "Gemma3TextModel"), _) | (None, Some("gemma3_text")) => Ok(Family::Gemma3),
        (named, model_type) => {
            let name = named.or(model_type).unwrap_or("(none)");
            Err(format!(
                "is of architecture {name:?}{}; supported are BitNetForCausalLM, BitnetForCausalLM, LlamaForCausalLM, \
                 Qwen3ForCausalLM and Gemma3ForCausalLM",
                config::obstacle(name)
            ))
        }
    }
}

impl Family {
    /// The norms of a block, those of projections' own inputs left out.
    fn norms(self) -> Norms {
        match self {
            Self::BitNet | Self::OneBit => Norms { sub: true, ..Norms::default() },
            Self::Llama => Norms::default(),
            Self::Qwen3 => Norms { heads: true, ..Norms::default() },
            Self::Gemma3 => Norms { heads: true, post: true, ..Norms::default() },
        }
    }
}

/// Settings of graphs that are not built here, with the value at which they change nothing.
fn refuse_other_graphs(fields: &Value) -> Result<(), String> {
    let neutral: &[(&str, Value, &str)] = &[
        ("attention_bias", false.into(), "biases in attention are not supported"),
        ("mlp_bias", false.into(), "biases in the feed-forward block are not supported"),
        ("partial_rotary_factor", 1.0.into(), "partly rotated heads are not supported"),
        ("num_experts", 0.into(), "mixtures of experts are not supported"),
        ("num_local_experts", 0.into(), "mixtures of experts are not supported"),
        ("final_logit_softcapping", Value::Null, "soft-capped logits are not supported"),
        ("attn_logit_softcapping", Value::Null, "soft-capped attention is not supported"),
        ("use_bidirectional_attention", false.into(), "attention to later tokens is not supported"),
    ];
    for (key, neutral, why) in neutral {
        if let Some(value) = fields.get(*key)
            && !value.is_null()
            && value != neutral
            && value.as_f64().is_none_or(|number| Some(number) != neutral.as_f64())
        {
            return Err(format!("sets {key} to {value}: {why}"));
        }
    }
    Ok(())
}

/// Gemma names the scale of attention scores; only the usual one is built.
fn check_attention_scale(file: &File, head_dim: usize) -> Result<(), String> {
    #[expect(clippy::cast_precision_loss, reason = "exact up to limits::WIDTH, beyond which nothing is loaded")]
    let usual = head_dim as f32;
    match file.query_pre_attn_scalar {
        Some(scalar) if scalar != usual => Err(format!(
            "sets query_pre_attn_scalar to {scalar} while heads are {head_dim} wide: only the usual scale of attention is \
             supported"
        )),
        _ => Ok(()),
    }
}

fn head_dim(file: &File) -> Result<usize, String> {
    if let Some(head_dim) = file.head_dim {
        return Ok(head_dim);
    }
    match file.hidden_size.checked_div(file.num_attention_heads) {
        Some(head_dim) if file.hidden_size.is_multiple_of(file.num_attention_heads) => Ok(head_dim),
        _ => Err(format!(
            "has hidden_size {}, which {} heads do not divide, and no head_dim",
            file.hidden_size, file.num_attention_heads
        )),
    }
}

fn activation(name: &str) -> Result<Activation, String> {
    match name {
        "relu2" => Ok(Activation::SquaredRelu),
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        other => {
            Err(format!("sets hidden_act to {other:?}; supported are \"relu2\", \"silu\" and \"gelu_pytorch_tanh\""))
        }
    }
}

/// How linear layers are stored, and what they are multiplied with.
fn linear(file: &File, family: Family, norms: Norms) -> Result<(Linear, Inputs), String> {
    let floats = |floats| Ok((Linear::ByType { i2s: I2sLayout::A, floats }, Inputs::Int8));
    let Some(quantization) = &file.quantization_config else {
        // Models with norms of the projections' inputs were trained as BitNet's, whatever trunk they have.
        if norms.inputs {
            return floats(FloatRule::Absmean);
        }
        // What is ternary without an announcement had its weights alone quantised.
        if family != Family::OneBit {
            return Ok((Linear::ByType { i2s: I2sLayout::A, floats: FloatRule::Exact }, Inputs::Float));
        }
        // The 1bitLLM modelling file quantises its weights by absmean at every step.
        return match (file.weight_bits, file.input_bits) {
            (None | Some(1), None | Some(8)) => floats(FloatRule::Absmean),
            (weights, inputs) => {
                Err(format!("sets weight_bits to {weights:?} and input_bits to {inputs:?}; supported are 1 and 8"))
            }
        };
    };
    let packed = |reciprocal| Ok((Linear::Packed { reciprocal }, Inputs::Int8));
    let of = |name: &str, value: &str, supported: &str| {
        Err(format!("sets quantization_config.{name} to {value:?}; supported: {supported}"))
    };
    match quantization.quant_method.as_deref() {
        Some("bitnet") => {}
        other => return of("quant_method", other.unwrap_or("(none)"), "\"bitnet\""),
    }
    if let Some(module) =
        quantization.modules_to_not_convert.iter().flatten().find(|&module| !DENSE_MODULES.contains(&module.as_str()))
    {
        return of("modules_to_not_convert", module, "the embedding and the head, which are dense anyway");
    }
    match quantization.linear_class.as_deref() {
        None | Some("bitlinear") => packed(true),
        Some("autobitlinear") => match quantization.quantization_mode.as_deref() {
            None | Some("offline") => packed(false),
            Some("online") => floats(FloatRule::Absmean),
            Some(other) => of("quantization_mode", other, "\"offline\" and \"online\""),
        },
        Some(other) => of("linear_class", other, "\"bitlinear\" and \"autobitlinear\""),
    }
}

const DENSE_MODULES: [&str; 4] = ["lm_head", "model.embed_tokens", "embed_tokens", "model.norm"];

/// Marks as read what old exports store although it follows from the rest: tables of rotary
/// frequencies, and a head that is the embedding.
fn accept_derived_tensors(container: &Container, config: &Config, naming: &Naming) -> Result<(), CheckpointError> {
    for layer in 0..config.layers {
        let name = format!("model.layers.{layer}.self_attn.rotary_emb.inv_freq");
        let Some(stored) = container.take(&name) else { continue };
        container.check_shape(stored, &[config.head_dim / 2])?;
        let floats = container.floats(stored)?;
        let wrong = floats.iter().enumerate().find(|&(i, &stored)| {
            #[expect(clippy::cast_precision_loss, reason = "both are at most limits::WIDTH")]
            let expected = config.rope.theta.powf(-2.0 * i as f32 / config.head_dim as f32);
            let divisor = match &config.rope.scaling {
                RopeScaling::Divisors(divisors) => divisors.get(i).copied(),
                _ => None,
            };
            let expected = expected / divisor.unwrap_or(1.0);
            // Eight bits are what bf16 keeps.
            (stored - expected).abs() > expected / 128.0
        });
        if let Some((i, frequency)) = wrong {
            return Err(container.refuse(
                stored,
                format_args!("has frequency {frequency} at {i}, which a base of {} does not give", config.rope.theta),
            ));
        }
    }
    if config.tied
        && let (Some(head), Some(embedding)) =
            (container.find(OUTPUT), container.find(&naming.name(TensorId::TokenEmbedding)))
    {
        let same = head.shape == embedding.shape
            && head.encoding == embedding.encoding
            && matches!(head.encoding, Encoding::Dense(DenseEncoding::F32 | DenseEncoding::F16 | DenseEncoding::Bf16))
            && container.same_bytes(head, embedding);
        if !same {
            return Err(container.refuse(
                head,
                "differs from model.embed_tokens.weight, although config.json says tie_word_embeddings: true; \
                 set it to false if the head is meant",
            ));
        }
        container.take(OUTPUT);
    }
    Ok(())
}
