//! Hyperparameters from GGUF metadata.
//!
//! Keys begin with the architecture's name. Those that would change the graph
//! in a way this project does not build are refused unless they say what is
//! built anyway: a window as long as the context, a scale of one.

use tritwise_gguf::{Array, Error, Metadata, Value};
use tritwise_tensor::{
    Activation, CheckpointError, Config, Inputs, LayerTensor, Norms, Pooling, Rope, RopeScaling, RopeStyle,
    SlidingWindow, TensorId,
};

use super::{OUTPUT, ROPE_DIVISORS, TOKEN_EMBEDDING, to_usize};
use crate::container::Container;
use crate::error::file_error;
use crate::hf::yarn_magnitude;
use crate::source::FloatRule;
use crate::{Options, config, limits};

pub(super) fn read(
    container: &Container,
    metadata: &Metadata,
    options: &Options,
) -> Result<(Config, FloatRule), CheckpointError> {
    Reader { container, metadata, options }.read()
}

struct Reader<'a> {
    container: &'a Container,
    metadata: &'a Metadata,
    options: &'a Options,
}

/// The size of BitNet b1.58 2B-4T: hidden, feed-forward, vocabulary.
const SHAPE_2B_4T: (usize, usize, usize) = (2560, 6912, 128_256);

impl Reader<'_> {
    fn read(&self) -> Result<(Config, FloatRule), CheckpointError> {
        let file_error = |message: String| file_error(&self.container.label, message);
        let architecture = self.metadata.string("general.architecture").map_err(|e| file_error(e.to_string()))?;
        let Some(architecture) = architecture else {
            return Err(file_error(
                "has no metadata key general.architecture; it is no model, or was written wrongly".into(),
            ));
        };
        let trunk = match architecture {
            "bitnet-b1.58" | "bitnet-25" | "bitnet" => Norms { sub: true, ..Norms::default() },
            "llama" => Norms::default(),
            "qwen3" => Norms { heads: true, ..Norms::default() },
            "gemma3" => Norms { heads: true, post: true, ..Norms::default() },
            other => {
                return Err(file_error(format!(
                    "is of architecture {other:?}{}; supported are bitnet-b1.58, bitnet-25, bitnet, llama, qwen3 and gemma3 \
                     (with ternary or binary weights)",
                    config::obstacle(other)
                )));
            }
        };
        let (bitnet, gemma) = (trunk.sub, trunk.post);
        // Norms of the projections' own inputs have no other mark in the file than being there.
        let own_norm = super::name(TensorId::Layer(0, LayerTensor::QueryInputNorm), trunk);
        let inputs = self.container.find(&own_norm).is_some();
        let norms = Norms { inputs, sub: trunk.sub || inputs, ..trunk };
        self.refuse_other_graphs(architecture)?;

        let keys = Keys { reader: self, architecture };
        let vocab = match self.container.find(TOKEN_EMBEDDING).map(|stored| stored.shape.as_slice()) {
            Some(&[rows, _]) => rows,
            _ => {
                return Err(file_error(format!("has no matrix {TOKEN_EMBEDDING}: it holds a vocabulary only")));
            }
        };
        let hidden = keys.required("embedding_length")?;
        let heads = keys.required("attention.head_count")?;
        let kv_heads = keys.optional("attention.head_count_kv")?.unwrap_or(heads);
        let head_dim = keys.head_dim(hidden, heads)?;
        let ffn = keys.required("feed_forward_length")?;
        let config = Config {
            architecture: architecture.to_owned(),
            hidden,
            layers: keys.required("block_count")?,
            heads,
            kv_heads,
            head_dim,
            ffn,
            vocab,
            context: keys.required("context_length")?,
            norm_eps: keys.required_float("attention.layer_norm_rms_epsilon")?,
            input_norm_eps: keys.required_float("attention.layer_norm_rms_epsilon")?,
            rope: Rope {
                theta: keys.float("rope.freq_base")?.unwrap_or(10_000.0),
                style: if architecture == "llama" { RopeStyle::Interleaved } else { RopeStyle::Halves },
                scaling: self.rope_divisors(head_dim, keys.rope_scaling()?)?,
            },
            activation: keys.activation((hidden, ffn, vocab))?,
            window: keys.window(gemma)?,
            norms,
            embedding_scale: if gemma { config::gemma_embedding_scale(hidden) } else { 1.0 },
            inputs: self.inputs(bitnet || inputs)?,
            pooling: keys.pooling()?,
            tied: self.container.find(OUTPUT).is_none(),
        };
        config::check(&config).map_err(file_error)?;
        self.check_vocabulary(&keys, &config)?;
        keys.check_attention_scale(head_dim)?;
        Ok((config, if norms.sub { FloatRule::ExactOrAbsmean } else { FloatRule::Exact }))
    }

    /// What linear layers are multiplied with: what `tritwise.inputs` says, which only this project's files have;
    /// else `int8` in a graph that only BitNet models have; else what the linear layers' encoding is used for.
    fn inputs(&self, bitnet: bool) -> Result<Inputs, CheckpointError> {
        if let Some(inputs) = self.options.inputs {
            return Ok(inputs);
        }
        let fail = |message: &dyn std::fmt::Display| Err(file_error(&self.container.label, message));
        match self.metadata.string(INPUTS) {
            Ok(Some("int8")) => Ok(Inputs::Int8),
            Ok(Some("float")) => Ok(Inputs::Float),
            Ok(Some(other)) => {
                fail(&format_args!("metadata key {INPUTS} is {other:?}; supported are \"int8\" and \"float\""))
            }
            Ok(None) if bitnet => Ok(Inputs::Int8),
            Ok(None) => {
                let first = super::name(TensorId::Layer(0, LayerTensor::Query), Norms::default());
                Ok(self.container.find(&first).map_or(Inputs::Int8, |stored| stored.encoding.usual_inputs()))
            }
            Err(error) => fail(&error),
        }
    }

    /// Refuses what the file says about itself when it means another graph.
    fn refuse_other_graphs(&self, architecture: &str) -> Result<(), CheckpointError> {
        let refuse = |key: &str, value: &dyn std::fmt::Display, why: &str| {
            Err(file_error(&self.container.label, format_args!("metadata key {key} is {value}: {why}")))
        };
        if let Some((key, value)) = self.metadata.iter().find(|(key, _)| key.starts_with("prism.hadamard.")) {
            return refuse(
                key,
                value,
                "its weights stand behind Hadamard transforms, which are not built, and without them it would print nonsense",
            );
        }
        for (key, neutral, why) in FOREIGN_KEYS {
            let key = format!("{architecture}.{key}");
            if let Some(value) = self.metadata.value(&key)
                && !is_number(value, *neutral)
            {
                return refuse(&key, value, why);
            }
        }
        Ok(())
    }

    fn check_vocabulary(&self, keys: &Keys<'_>, config: &Config) -> Result<(), CheckpointError> {
        let tokens =
            self.metadata.strings("tokenizer.ggml.tokens").map_err(|e| file_error(&self.container.label, e))?;
        let claims = [
            ("tokenizer.ggml.tokens", tokens.map(|tokens| tokens.len())),
            ("vocab_size", keys.optional("vocab_size")?),
        ];
        for (what, count) in claims {
            if let Some(count) = count
                && count > config.vocab
            {
                return Err(file_error(
                    &self.container.label,
                    format_args!("{what} counts {count} tokens, but {TOKEN_EMBEDDING} has {} rows", config.vocab),
                ));
            }
        }
        Ok(())
    }

    /// `scaling`, or the divisors in `rope_freqs.weight`, which are Llama 3.1's rule spelled out.
    fn rope_divisors(&self, head_dim: usize, scaling: RopeScaling) -> Result<RopeScaling, CheckpointError> {
        let Some(stored) = self.container.take(ROPE_DIVISORS) else {
            return Ok(scaling);
        };
        self.container.check_shape(stored, &[head_dim / 2])?;
        let divisors = self.container.floats(stored)?;
        if let Some(divisor) = divisors.iter().find(|&&divisor| divisor <= 0.0) {
            return Err(self.container.refuse(
                stored,
                format_args!("holds {divisor}, and rotary frequencies are divided by it; the file is damaged"),
            ));
        }
        if divisors.iter().all(|&divisor| divisor == 1.0) {
            return Ok(scaling);
        }
        match scaling {
            RopeScaling::None => Ok(RopeScaling::Divisors(divisors)),
            _ => Err(self.container.refuse(
                stored,
                "divides rotary frequencies that the metadata scales as well; only one of the two is supported",
            )),
        }
    }
}

/// This project's key for [`Inputs`].
pub(crate) const INPUTS: &str = "tritwise.inputs";

/// Keys that change the graph, the value at which they do not, and what they ask for.
const FOREIGN_KEYS: &[(&str, f64, &str)] = &[
    ("final_logit_softcapping", 0.0, "soft-capped logits are not supported"),
    ("attn_logit_softcapping", 0.0, "soft-capped attention is not supported"),
    ("attention.max_alibi_bias", 0.0, "ALiBi is not supported"),
    ("attention.clamp_kqv", 0.0, "clamped queries and keys are not supported"),
    ("expert_count", 0.0, "mixtures of experts are not supported"),
    ("logit_scale", 1.0, "scaled logits are not supported"),
    ("embedding_scale", 1.0, "scaled embeddings are not supported"),
    ("residual_scale", 1.0, "scaled residuals are not supported"),
    ("attention.causal", 1.0, "attention to later tokens is not supported"),
    ("use_parallel_residual", 0.0, "parallel residuals are not supported"),
    ("rope.scaling.yarn_ext_factor", 1.0, "YaRN with an extrapolation factor is not supported"),
    ("rope.scaling.yarn_log_multiplier", 0.0, "YaRN with a multiplier of its logarithm is not supported"),
];

fn is_number(value: &Value, wanted: f64) -> bool {
    match value {
        Value::F32(number) => f64::from(*number) == wanted,
        Value::F64(number) => *number == wanted,
        Value::Bool(flag) => f64::from(u8::from(*flag)) == wanted,
        #[expect(clippy::cast_precision_loss, reason = "the numbers wanted are small, and these round to no small one")]
        integer => integer.as_i64().is_some_and(|number| number as f64 == wanted),
    }
}

/// The keys of one architecture.
struct Keys<'a> {
    reader: &'a Reader<'a>,
    architecture: &'a str,
}

impl Keys<'_> {
    fn file_error(&self, message: impl std::fmt::Display) -> CheckpointError {
        file_error(&self.reader.container.label, message)
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn missing(&self, key: &str) -> CheckpointError {
        self.file_error(format_args!(
            "has no metadata key {}, without which the model's shape is unknown; it was written wrongly: convert it again",
            self.full(key)
        ))
    }

    fn required(&self, key: &str) -> Result<usize, CheckpointError> {
        self.optional(key)?.ok_or_else(|| self.missing(key))
    }

    /// A count; also one given once per layer, if all layers agree.
    fn optional(&self, key: &str) -> Result<Option<usize>, CheckpointError> {
        let full = self.full(key);
        let metadata = self.reader.metadata;
        if let Some(Value::Array(array)) = metadata.value(&full) {
            return self.uniform(&full, array).map(Some);
        }
        Ok(metadata.unsigned(&full).map_err(|error| self.file_error(error))?.map(to_usize))
    }

    fn uniform(&self, key: &str, array: &Array) -> Result<usize, CheckpointError> {
        let first = array.value(0).and_then(|value| value.as_u64());
        match first {
            Some(first) if (1..array.len()).all(|i| array.value(i).and_then(|value| value.as_u64()) == Some(first)) => {
                Ok(to_usize(first))
            }
            _ => Err(self.file_error(format_args!(
                "metadata key {key} is {array}: layers of different shape are not supported"
            ))),
        }
    }

    fn float(&self, key: &str) -> Result<Option<f32>, CheckpointError> {
        self.reader.metadata.float(&self.full(key)).map_err(|error| self.file_error(error))
    }

    fn required_float(&self, key: &str) -> Result<f32, CheckpointError> {
        self.float(key)?.ok_or_else(|| self.missing(key))
    }

    fn string(&self, key: &str) -> Result<Option<&str>, CheckpointError> {
        self.reader.metadata.string(&self.full(key)).map_err(|error: Error| self.file_error(error))
    }

    fn head_dim(&self, hidden: usize, heads: usize) -> Result<usize, CheckpointError> {
        let by_division = hidden.checked_div(heads).filter(|_| hidden.is_multiple_of(heads));
        let head_dim = match (self.optional("attention.key_length")?, by_division) {
            (Some(length), _) => length,
            (None, Some(length)) => length,
            (None, None) => {
                return Err(self.file_error(format_args!(
                    "has an embedding of {hidden} that {heads} heads do not divide, and no metadata key {}",
                    self.full("attention.key_length")
                )));
            }
        };
        for (key, what) in [("attention.value_length", "values"), ("rope.dimension_count", "rotary embeddings")] {
            if let Some(other) = self.optional(key)?
                && other != head_dim
            {
                return Err(self.file_error(format_args!(
                    "metadata key {} is {other} while heads are {head_dim} wide: {what} of another width are not supported",
                    self.full(key)
                )));
            }
        }
        Ok(head_dim)
    }

    fn rope_scaling(&self) -> Result<RopeScaling, CheckpointError> {
        // As llama.cpp's loader has it: a factor without a type is linear, the
        // older key stands in for a missing factor, and 0 says that there is none.
        let factor = self.float("rope.scaling.factor")?.or(self.float("rope.scale_linear")?);
        let attention = self.float("rope.scaling.attn_factor")?.or(self.float("rope.scaling.yarn_attn_factor")?);
        let kind = self.string("rope.scaling.type")?;
        if kind == Some("yarn") {
            let factor = match factor {
                Some(factor) => factor,
                None => self.required_float("rope.scaling.factor")?,
            };
            return Ok(RopeScaling::Yarn {
                factor,
                original_context: match self.optional("rope.scaling.original_context_length")? {
                    Some(context) => context,
                    None => self.required("context_length")?,
                },
                beta_fast: self.float("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: self.float("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                magnitude: attention.unwrap_or(1.0) * yarn_magnitude(factor),
            });
        }
        if let Some(attention) = attention.filter(|&attention| attention != 1.0) {
            return Err(self.file_error(format_args!(
                "metadata key {} is {attention}: scaled attention without YaRN is not supported",
                self.full("rope.scaling.attn_factor")
            )));
        }
        match (kind, factor) {
            (Some("none"), _) | (None, None) | (None | Some("linear"), Some(0.0 | 1.0)) => Ok(RopeScaling::None),
            (None | Some("linear"), Some(factor)) => Ok(RopeScaling::Linear { factor }),
            (Some("linear"), None) => Ok(RopeScaling::Linear { factor: self.required_float("rope.scaling.factor")? }),
            (Some(other), _) => Err(self.file_error(format_args!(
                "metadata key {} is {other:?}; supported are \"none\", \"linear\" and \"yarn\"",
                self.full("rope.scaling.type")
            ))),
        }
    }

    /// GGUF files of this family rarely name their activation; the architecture does.
    fn activation(&self, shape: (usize, usize, usize)) -> Result<Activation, CheckpointError> {
        if let Some(activation) = self.reader.options.activation {
            return Ok(activation);
        }
        match (self.string("hidden_activation")?, self.architecture) {
            (Some("relu2" | "relu_sqr"), _) => Ok(Activation::SquaredRelu),
            (Some("silu" | "swiglu"), _) => Ok(Activation::Silu),
            (Some("gelu" | "gelu_pytorch_tanh"), _) => Ok(Activation::GeluTanh),
            (Some(other), _) => Err(self.file_error(format_args!(
                "metadata key {} is {other:?}; supported are \"silu\", \"relu2\" and \"gelu\"",
                self.full("hidden_activation")
            ))),
            (None, "bitnet-b1.58" | "bitnet-25") => Ok(Activation::SquaredRelu),
            // llama.cpp's converter writes the 2B-4T model under the name of its older relatives.
            (None, "bitnet") if shape == SHAPE_2B_4T => Ok(Activation::SquaredRelu),
            (None, "gemma3") => Ok(Activation::GeluTanh),
            (None, _) => Ok(Activation::Silu),
        }
    }

    /// Gemma's window, on all layers but every sixth, as llama.cpp has it; a window as long as the context is none.
    fn window(&self, gemma: bool) -> Result<Option<SlidingWindow>, CheckpointError> {
        let context = self.required("context_length")?;
        let Some(width) = self.optional("attention.sliding_window")?.filter(|&width| width != 0 && width < context)
        else {
            return Ok(None);
        };
        if !gemma {
            return Err(self.file_error(format_args!(
                "metadata key {} is {width}: attention to a sliding window is not supported",
                self.full("attention.sliding_window")
            )));
        }
        let layers = self.required("block_count")?;
        if layers as u64 > limits::LAYERS {
            return Ok(None); // refused by the general checks
        }
        Ok(Some(SlidingWindow {
            width,
            layers: self.window_pattern(layers)?,
            rope: Rope {
                theta: self.float("rope.freq_base_swa")?.unwrap_or(10_000.0),
                style: RopeStyle::Halves,
                scaling: RopeScaling::None,
            },
        }))
    }

    /// For each layer whether it has a window: as `attention.sliding_window_pattern` lists, or all but every so many.
    fn window_pattern(&self, layers: usize) -> Result<Vec<bool>, CheckpointError> {
        let key = self.full("attention.sliding_window_pattern");
        let period = match self.reader.metadata.value(&key) {
            Some(Value::Array(array)) => {
                let listed: Option<Vec<bool>> = (0..array.len())
                    .map(|i| match array.value(i)? {
                        Value::Bool(flag) => Some(flag),
                        other => Some(other.as_u64()? != 0),
                    })
                    .collect();
                return match listed {
                    Some(listed) if listed.len() == layers => Ok(listed),
                    _ => Err(self.file_error(format_args!(
                        "metadata key {key} is {array}; expected one flag for each of {layers} layers"
                    ))),
                };
            }
            _ => self.optional("attention.sliding_window_pattern")?.unwrap_or(6).max(1),
        };
        Ok((1..=layers).map(|layer| layer % period != 0).collect())
    }

    /// llama.cpp's numbers; 0 is none.
    fn pooling(&self) -> Result<Option<Pooling>, CheckpointError> {
        match self.optional("pooling_type")? {
            None | Some(0) => Ok(None),
            Some(1) => Ok(Some(Pooling::Mean)),
            Some(2) => Ok(Some(Pooling::Cls)),
            Some(3) => Ok(Some(Pooling::Last)),
            Some(other) => Err(self.file_error(format_args!(
                "metadata key {} is {other}; supported are 0 (none), 1 (mean), 2 (first token) and 3 (last token)",
                self.full("pooling_type")
            ))),
        }
    }

    fn check_attention_scale(&self, head_dim: usize) -> Result<(), CheckpointError> {
        #[expect(clippy::cast_precision_loss, reason = "the rounding is within what is tolerated")]
        let usual = 1.0 / (head_dim as f32).sqrt();
        if let Some(scale) = self.float("attention.scale")?
            && scale != 0.0
            && (scale.is_nan() || (scale - usual).abs() > 1e-6 * usual)
        {
            return Err(self.file_error(format_args!(
                "metadata key {} is {scale}; only the usual {usual} is supported",
                self.full("attention.scale")
            )));
        }
        Ok(())
    }
}
