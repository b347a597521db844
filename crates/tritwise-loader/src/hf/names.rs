//! The names of tensors in Hugging Face checkpoints: those of transformers' models, which differ by
//! family in what they call the norms of a block.

use tritwise_tensor::{LayerTensor, Norms, TensorId};

use crate::container::Container;

/// What one checkpoint calls what others call otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Naming {
    /// `model.`; empty where the trunk was saved without a head.
    prefix: &'static str,
    /// Norms before the two inner projections are those of the 1bitLLM checkpoints' own modelling file
    /// (`inner_attn_ln`, `ffn_layernorm`), not those of transformers' `BitNetForCausalLM`.
    one_bit: bool,
    /// What a projection's norm of its own input is called, beside its weight.
    input_norm: &'static str,
    /// Which norms there are.
    norms: Norms,
    /// The trunk's own norms multiply by one more than what is stored (Gemma).
    less_one: bool,
}

impl Naming {
    /// `norms` and `less_one` are the family's; `rms_norm` says that transformers' linear layers hold norms.
    /// Those of BitNet embedding models have no other mark than being there.
    pub(super) fn of(container: &Container, norms: Norms, rms_norm: bool, less_one: bool) -> Self {
        let prefix = if container.find("embed_tokens.weight").is_some() { "" } else { "model." };
        let has = |name: &str| container.find(&format!("{prefix}layers.0.{name}.weight")).is_some();
        let inputs = rms_norm || has("self_attn.q_proj.norm");
        Self {
            prefix,
            one_bit: has("self_attn.inner_attn_ln"),
            input_norm: if rms_norm { "rms_norm" } else { "norm" },
            norms: Norms { inputs, sub: norms.sub || inputs, ..norms },
            less_one,
        }
    }

    /// As transformers' own models have it, for a block with `norms`.
    pub(crate) fn transformers(norms: Norms) -> Self {
        // Norms on either side of a half are Gemma's.
        Self { prefix: "model.", one_bit: false, input_norm: "rms_norm", norms, less_one: norms.post }
    }

    /// The norms of a block: the family's, and those of projections where the tensors are there.
    pub(super) fn norms(&self) -> Norms {
        self.norms
    }

    /// Whether one is to be added to what is stored for norm `id`.
    pub(crate) fn is_less_one(&self, id: TensorId) -> bool {
        let own = match id {
            TensorId::Layer(_, tensor) => self.own_norm(tensor).is_some(),
            _ => false,
        };
        self.less_one && !own
    }

    /// The name of tensor `id`.
    pub(crate) fn name(&self, id: TensorId) -> String {
        let prefix = self.prefix;
        match id {
            TensorId::TokenEmbedding => format!("{prefix}embed_tokens.weight"),
            TensorId::OutputNorm => format!("{prefix}norm.weight"),
            TensorId::Output => OUTPUT.to_owned(),
            TensorId::Layer(layer, tensor) => match self.own_norm(tensor) {
                Some(module) => format!("{prefix}layers.{layer}.{module}.{}.weight", self.input_norm),
                None => format!("{prefix}layers.{layer}.{}.weight", self.module(tensor)),
            },
        }
    }

    /// The projection whose own norm `tensor` is, if it is one.
    fn own_norm(&self, tensor: LayerTensor) -> Option<&'static str> {
        let projection = match tensor {
            LayerTensor::QueryInputNorm => LayerTensor::Query,
            LayerTensor::KeyInputNorm => LayerTensor::Key,
            LayerTensor::ValueInputNorm => LayerTensor::Value,
            LayerTensor::AttnSubNorm => LayerTensor::AttnOutput,
            LayerTensor::GateInputNorm => LayerTensor::Gate,
            LayerTensor::UpInputNorm => LayerTensor::Up,
            LayerTensor::FfnSubNorm => LayerTensor::Down,
            _ => return None,
        };
        self.norms.inputs.then(|| self.module(projection))
    }

    fn module(&self, tensor: LayerTensor) -> &'static str {
        match tensor {
            LayerTensor::AttnNorm => "input_layernorm",
            LayerTensor::Query | LayerTensor::QueryInputNorm => "self_attn.q_proj",
            LayerTensor::Key | LayerTensor::KeyInputNorm => "self_attn.k_proj",
            LayerTensor::Value | LayerTensor::ValueInputNorm => "self_attn.v_proj",
            LayerTensor::QueryNorm => "self_attn.q_norm",
            LayerTensor::KeyNorm => "self_attn.k_norm",
            LayerTensor::AttnSubNorm if self.one_bit => "self_attn.inner_attn_ln",
            LayerTensor::AttnSubNorm => "self_attn.attn_sub_norm",
            LayerTensor::AttnOutput => "self_attn.o_proj",
            // Gemma has a norm on either side of each half, and gives the old name to another one.
            LayerTensor::FfnNorm if self.norms.post => "pre_feedforward_layernorm",
            LayerTensor::FfnNorm | LayerTensor::PostAttnNorm => "post_attention_layernorm",
            LayerTensor::Gate | LayerTensor::GateInputNorm => "mlp.gate_proj",
            LayerTensor::Up | LayerTensor::UpInputNorm => "mlp.up_proj",
            LayerTensor::FfnSubNorm if self.one_bit => "mlp.ffn_layernorm",
            LayerTensor::FfnSubNorm => "mlp.ffn_sub_norm",
            LayerTensor::Down => "mlp.down_proj",
            LayerTensor::PostFfnNorm => "post_feedforward_layernorm",
        }
    }
}

pub(crate) const OUTPUT: &str = "lm_head.weight";
