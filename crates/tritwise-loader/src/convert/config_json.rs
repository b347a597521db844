//! `config.json` of a converted folder.
//!
//! What this project knows of the graph is written from [`Config`]; what it does not know of, such as the ids of special
//! tokens, is carried over from the source's `config.json`.

use serde_json::{Map, Value, json};
use tritwise_tensor::{
    Activation, CheckpointError, Config, DenseEncoding, Pooling, Rope, RopeScaling, TernaryEncoding,
};

use super::plan::{Kind, Plan};
use super::{Conversion, Input};
use crate::error::file_error;
use crate::hf::yarn_magnitude;
use crate::vocabulary::Vocabulary;

/// Fields that say what is written anew, or what holds for the source alone.
const STALE: [&str; 21] = [
    "architectures",
    "auto_map",
    "dtype",
    "hidden_act",
    "hidden_activation",
    "input_bits",
    "layer_types",
    "max_window_layers",
    "model_type",
    "quantization_config",
    "query_pre_attn_scalar",
    "rope_local_base_freq",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "sliding_window_pattern",
    "torch_dtype",
    "transformers_version",
    "use_sliding_window",
    "weight_bits",
];

/// The file, for the checkpoint of `plan`.
pub(super) fn make(input: &Input<'_>, plan: &Plan<'_>, conversion: &Conversion) -> Result<Value, CheckpointError> {
    let config = input.weights.config();
    let original = match input.vocabulary {
        Some(Vocabulary::Folder(folder)) => folder.config.as_object(),
        _ => None,
    };
    let mut fields = original.cloned().unwrap_or_default();
    fields.retain(|key, _| !STALE.contains(&key.as_str()));
    shape(config, plan, &mut fields);
    rope(config, plan, original, &mut fields).map_err(|message| file_error(input.label, message))?;
    let quantization = quantization(config, conversion.linear);
    fields.insert("quantization_config".to_owned(), quantization);
    if let (Some(vocabulary @ Vocabulary::Gguf(_)), false) = (input.vocabulary, conversion.without_tokenizer)
        && let Some(tokenizer) = vocabulary.tokenizer(input.label)?
    {
        fields.insert("bos_token_id".to_owned(), json!(tokenizer.bos()));
        fields.insert("eos_token_id".to_owned(), json!(tokenizer.eos()));
    }
    Ok(Value::Object(fields))
}

fn shape(config: &Config, plan: &Plan<'_>, fields: &mut Map<String, Value>) {
    let architecture = plan.graph.architecture;
    let (model_type, activation_field) = match architecture {
        "BitNetForCausalLM" => ("bitnet", "hidden_act"),
        "Qwen3ForCausalLM" => ("qwen3", "hidden_act"),
        "Gemma3ForCausalLM" => ("gemma3_text", "hidden_activation"),
        _ => ("llama", "hidden_act"),
    };
    let activation = match config.activation {
        Activation::SquaredRelu => "relu2",
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
    };
    // What transformers computes in, if nothing else is asked of it.
    let dtype = plan.tensors.iter().find_map(|tensor| match tensor.kind {
        Kind::Table(.., DenseEncoding::F16) => Some("float16"),
        Kind::Table(.., DenseEncoding::Bf16) => Some("bfloat16"),
        Kind::Table(..) => Some("float32"),
        _ => None,
    });
    let mut put = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
    put("architectures", json!([architecture]));
    put("model_type", model_type.into());
    put("torch_dtype", json!(dtype));
    put("vocab_size", config.vocab.into());
    put("hidden_size", config.hidden.into());
    put("intermediate_size", config.ffn.into());
    put("num_hidden_layers", config.layers.into());
    put("num_attention_heads", config.heads.into());
    put("num_key_value_heads", config.kv_heads.into());
    put("head_dim", config.head_dim.into());
    put("max_position_embeddings", config.context.into());
    put("rms_norm_eps", decimal(config.norm_eps));
    put(activation_field, activation.into());
    put("tie_word_embeddings", config.tied.into());
    put("attention_bias", false.into());
    if architecture == "Gemma3ForCausalLM" {
        put("query_pre_attn_scalar", config.head_dim.into());
    }
}

/// The rotary embedding, and the layers with a window.
fn rope(
    config: &Config,
    plan: &Plan<'_>,
    original: Option<&Map<String, Value>>,
    fields: &mut Map<String, Value>,
) -> Result<(), String> {
    let gemma = plan.graph.architecture == "Gemma3ForCausalLM";
    let mut put = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
    if let Some(window) = &config.window {
        let kind = |&windowed: &bool| if windowed { "sliding_attention" } else { "full_attention" };
        put("layer_types", window.layers.iter().map(kind).collect());
        put("sliding_window", window.width.into());
        put("use_sliding_window", true.into());
        if !gemma && window.rope != config.rope {
            return Err(format!(
                "turns layers with a sliding window by other angles, which transformers' {} does not",
                plan.graph.architecture
            ));
        }
    } else if gemma {
        // transformers' own default is a window on most layers, and it wants a width where no layer has one.
        put("layer_types", vec!["full_attention"; config.layers].into());
        put("sliding_window", config.context.into());
    }
    if let RopeScaling::Divisors(_) = config.rope.scaling {
        // The rule they follow from is in the source's own file, if anywhere.
        let Some(original) = original else {
            return Err("divides its rotary frequencies by numbers from a table, for which config.json has no field; \
                        convert it to an encoding of GGUF"
                .to_owned());
        };
        for key in ["rope_theta", "rope_scaling", "rope_parameters"] {
            original.get(key).into_iter().for_each(|value| put(key, value.clone()));
        }
        return Ok(());
    }
    let full = parameters(&config.rope)?;
    if gemma {
        let sliding = config.window.as_ref().map(|window| parameters(&window.rope)).transpose()?;
        // Layers of the kind that there are none of need an entry too.
        let sliding = sliding.unwrap_or_else(|| json!({"rope_type": "default", "rope_theta": 10_000.0}));
        put("rope_parameters", json!({"full_attention": full, "sliding_attention": sliding}));
    } else {
        // Readers from before `rope_parameters` look for these two.
        put("rope_theta", decimal(config.rope.theta));
        if config.rope.scaling != RopeScaling::None {
            put("rope_scaling", full.clone());
        }
        put("rope_parameters", full);
    }
    Ok(())
}

fn parameters(rope: &Rope) -> Result<Value, String> {
    let theta = decimal(rope.theta);
    Ok(match rope.scaling {
        RopeScaling::None => json!({"rope_type": "default", "rope_theta": theta}),
        RopeScaling::Linear { factor } => {
            json!({"rope_type": "linear", "rope_theta": theta, "factor": decimal(factor)})
        }
        RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, magnitude } => {
            let mut value = json!({
                "rope_type": "yarn",
                "rope_theta": theta,
                "factor": decimal(factor),
                "original_max_position_embeddings": original_context,
                "beta_fast": decimal(beta_fast),
                "beta_slow": decimal(beta_slow),
            });
            #[expect(clippy::indexing_slicing, reason = "an object takes any key")]
            if magnitude != yarn_magnitude(factor) {
                value["attention_factor"] = decimal(magnitude);
            }
            value
        }
        RopeScaling::Divisors(_) => {
            return Err(
                "divides the rotary frequencies of layers with a sliding window, for which config.json has no \
                        field"
                    .to_owned(),
            );
        }
    })
}

/// How linear layers are stored: packed, or as the master weights of a training.
#[expect(clippy::indexing_slicing, reason = "an object takes any key")]
fn quantization(config: &Config, linear: TernaryEncoding) -> Value {
    let mode = if linear == TernaryEncoding::HfPacked { "offline" } else { "online" };
    let mut value = json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": mode});
    if config.norms.inputs {
        value["use_rms_norm"] = true.into();
        value["rms_norm_eps"] = decimal(config.input_norm_eps);
    }
    value
}

/// `1_Pooling/config.json`, as sentence-transformers writes it; `None` for a model that is not for embeddings.
pub(super) fn pooling(config: &Config) -> Option<Value> {
    let pooling = config.pooling?;
    Some(json!({
        "word_embedding_dimension": config.hidden,
        "pooling_mode_cls_token": pooling == Pooling::Cls,
        "pooling_mode_mean_tokens": pooling == Pooling::Mean,
        "pooling_mode_lasttoken": pooling == Pooling::Last,
    }))
}

/// A number with the digits that an `f32` needs: 1e-5, not 9.999999747378752e-6.
fn decimal(value: f32) -> Value {
    value.to_string().parse::<f64>().unwrap_or(value.into()).into()
}
