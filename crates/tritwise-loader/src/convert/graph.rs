//! What a container calls a graph, and whether it has a name for it.

use tritwise_tensor::{
    Activation, CheckpointError, Config, DenseEncoding, Inputs, Norms, RopeScaling, RopeStyle, SlidingWindow, TensorId,
    Ternarize, TernaryEncoding,
};

use super::Input;
use crate::config::gemma_embedding_scale;
use crate::error::file_error;
use crate::{gguf, hf};

/// The model's graph in the words of the container that is written.
pub(super) struct Graph {
    /// `general.architecture` of a GGUF file, the first of `architectures` in a folder's `config.json`.
    pub(super) architecture: &'static str,
    pub(super) container: Container,
    norms: Norms,
}

/// What is written.
#[derive(Clone, Copy)]
pub(super) enum Container {
    Gguf,
    /// A Hugging Face folder.
    Folder(hf::Naming),
}

impl Graph {
    /// The graph of `input`, with its linear layers in `linear`.
    pub(super) fn of(input: &Input<'_>, linear: TernaryEncoding) -> Result<Self, CheckpointError> {
        let config = input.weights.config();
        let refuse = |why: String| file_error(input.label, why);
        let norms = config.norms;
        match linear {
            TernaryEncoding::HfPacked | TernaryEncoding::Float(_, Ternarize::Absmean) => {
                let architecture = folder_architecture(config).map_err(refuse)?;
                let naming = hf::Naming::transformers(norms);
                Ok(Self { architecture, container: Container::Folder(naming), norms })
            }
            _ if gguf::linear_type(linear).is_some() && TernaryEncoding::WRITABLE.contains(&linear) => {
                let architecture = gguf_architecture(config).map_err(refuse)?;
                Ok(Self { architecture, container: Container::Gguf, norms })
            }
            other => {
                let names: Vec<&str> = TernaryEncoding::WRITABLE.iter().map(|encoding| encoding.name()).collect();
                let layout = if other.name() == "I2_S" { " in this layout" } else { "" };
                Err(refuse(format!(
                    "cannot be converted to {other}{layout}: what is written is one of {}, I2_S in layout A",
                    names.join(", ")
                )))
            }
        }
    }

    /// The name of tensor `id`.
    pub(super) fn tensor_name(&self, id: TensorId) -> String {
        match self.container {
            Container::Gguf => gguf::name(id, self.norms),
            Container::Folder(naming) => naming.name(id),
        }
    }

    /// The tensor of what rotary frequencies are divided by, where that is a tensor.
    pub(super) fn divisors_name(&self) -> Option<&'static str> {
        matches!(self.container, Container::Gguf).then_some(gguf::ROPE_DIVISORS)
    }

    /// What norm `id` is less in the file than in the graph.
    pub(super) fn norm_offset(&self, id: TensorId) -> f32 {
        match self.container {
            Container::Folder(naming) if naming.is_less_one(id) => 1.0,
            _ => 0.0,
        }
    }

    /// Which elements of a head form a rotated pair.
    pub(super) fn rope_style(&self) -> RopeStyle {
        match self.architecture {
            "llama" => RopeStyle::Interleaved,
            _ => RopeStyle::Halves,
        }
    }

    /// How a table is written that is in `own` and wanted in `wish`.
    pub(super) fn table_encoding(
        &self,
        wish: Option<DenseEncoding>,
        own: DenseEncoding,
    ) -> Result<DenseEncoding, String> {
        let is_float = |encoding| matches!(encoding, DenseEncoding::F32 | DenseEncoding::F16 | DenseEncoding::Bf16);
        match (self.container, wish) {
            (Container::Folder(_), Some(wish)) if !is_float(wish) => {
                Err(format!("cannot be {wish} in a folder: safetensors hold tables as F32, F16 or BF16"))
            }
            // Of the floats, only F32 holds every value of a block with a scale.
            (Container::Folder(_), None) if !is_float(own) => Ok(DenseEncoding::F32),
            (_, wish) => Ok(wish.unwrap_or(own)),
        }
    }
}

fn gguf_architecture(config: &Config) -> Result<&'static str, String> {
    let &Config { activation, norms, .. } = config;
    // Norms of the projections' own inputs are known by their tensors, whatever the architecture.
    let trunk = Norms { sub: norms.sub && !norms.inputs, inputs: false, ..norms };
    let of = |sub, heads, post| trunk == Norms { sub, heads, post, inputs: false };
    let architecture = match activation {
        Activation::SquaredRelu if of(true, false, false) => "bitnet-b1.58",
        Activation::Silu if of(true, false, false) => "bitnet",
        Activation::Silu if of(false, false, false) => "llama",
        Activation::Silu if of(false, true, false) => "qwen3",
        Activation::GeluTanh if of(false, true, true) => "gemma3",
        _ => {
            return Err(format!(
                "has {activation:?} as its activation and {norms:?}, a graph for which GGUF has no architecture"
            ));
        }
    };
    if norms.inputs && (!norms.sub || config.input_norm_eps != config.norm_eps) {
        return Err(format!(
            "has norms of its projections' inputs with another epsilon ({}) than the others' ({}), or none for the inner \
             projections: GGUF has no key for that",
            config.input_norm_eps, config.norm_eps
        ));
    }
    check_embedding_scale(config, architecture == "gemma3")?;
    match &config.window {
        Some(_) if architecture != "gemma3" => {
            Err(format!("has layers with a sliding window, which GGUF's architecture {architecture} has not"))
        }
        Some(SlidingWindow { rope, .. }) if rope.scaling != RopeScaling::None => {
            Err("has layers with a sliding window whose rotary embedding is scaled, for which GGUF has no key"
                .to_owned())
        }
        _ => Ok(architecture),
    }
}

fn folder_architecture(config: &Config) -> Result<&'static str, String> {
    let &Config { hidden, heads, head_dim, norms, .. } = config;
    if config.inputs == Inputs::Float {
        return Err("is a model whose activations are not rounded, but transformers rounds those of packed weights; \
                    convert it to an encoding of GGUF"
            .to_owned());
    }
    let trunk = (norms.sub && !norms.inputs, norms.heads, norms.post);
    let architecture = match trunk {
        (true, false, false) if heads * head_dim != hidden => {
            return Err(format!(
                "has {heads} heads of {head_dim} in a model {hidden} wide; transformers' BitNetForCausalLM has a sub-norm as \
                 wide as the model"
            ));
        }
        (true, false, false) => "BitNetForCausalLM",
        (false, false, false) => "LlamaForCausalLM",
        (false, true, false) => "Qwen3ForCausalLM",
        (false, true, true) => "Gemma3ForCausalLM",
        _ => return Err(format!("has {norms:?}, a graph for which transformers has no architecture")),
    };
    let windows = matches!(architecture, "Qwen3ForCausalLM" | "Gemma3ForCausalLM");
    if config.window.is_some() && !windows {
        return Err(format!("has layers with a sliding window, which transformers' {architecture} has not"));
    }
    check_embedding_scale(config, architecture == "Gemma3ForCausalLM")?;
    Ok(architecture)
}

/// Gemma's embedding is scaled by the root of its width, all others' by 1.
fn check_embedding_scale(config: &Config, gemma: bool) -> Result<(), String> {
    let expected = if gemma { gemma_embedding_scale(config.hidden) } else { 1.0 };
    match config.embedding_scale == expected {
        true => Ok(()),
        false => Err(format!(
            "scales its embedding by {}, for which there is no key; {expected} is implied by its architecture",
            config.embedding_scale
        )),
    }
}
