//! Hugging Face folders: `config.json` beside safetensors files.

mod config;
mod shards;

use std::io::Read;
use std::path::{Path, PathBuf};

use tritwise_tensor::{CheckpointError, LayerTensor, TensorId};

use crate::container::Container;
use crate::error::{file_error, io_error};
use crate::source::{Names, Source};
use crate::vocabulary::{Folder, Vocabulary};
use crate::{Options, limits};

pub(crate) use config::architecture;
pub(crate) use shards::read;

/// Opens the checkpoint whose weights are `weights`, a folder or one file in it.
pub(crate) fn open(label: &str, weights: &Path, options: &Options) -> Result<Source, CheckpointError> {
    let container = read(label, weights)?;
    let folder = folder_of(weights);
    let sub_norms = SubNorms::found_in(&container);
    let (config, linear) = config::read(&folder.join("config.json"), &container, options)?;
    Ok(Source {
        container,
        config,
        names: Names::HuggingFace(sub_norms),
        linear,
        vocabulary: Vocabulary::Folder(Folder::read(&folder)?),
        format: "safetensors".to_owned(),
    })
}

/// `weights` itself if it is a folder, else the folder it is in.
pub(crate) fn folder_of(weights: &Path) -> PathBuf {
    match weights.parent() {
        Some(parent) if !weights.is_dir() => parent.to_owned(),
        _ => weights.to_owned(),
    }
}

/// What the norms inside a block are called.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SubNorms {
    /// transformers' `BitNetForCausalLM`: `attn_sub_norm`, `ffn_sub_norm`.
    Transformers,
    /// The modelling file of the 1bitLLM checkpoints: `inner_attn_ln`, `ffn_layernorm`.
    OneBit,
}

impl SubNorms {
    fn found_in(container: &Container) -> Self {
        let one_bit = name(TensorId::Layer(0, LayerTensor::AttnSubNorm), Self::OneBit);
        if container.find(&one_bit).is_some() { Self::OneBit } else { Self::Transformers }
    }
}

/// The name of tensor `id`; those of transformers' models.
pub(crate) fn name(id: TensorId, sub_norms: SubNorms) -> String {
    let tensor = match id {
        TensorId::TokenEmbedding => return "model.embed_tokens.weight".to_owned(),
        TensorId::OutputNorm => return "model.norm.weight".to_owned(),
        TensorId::Output => return OUTPUT.to_owned(),
        TensorId::Layer(_, tensor) => match (tensor, sub_norms) {
            (LayerTensor::AttnNorm, _) => "input_layernorm",
            (LayerTensor::Query, _) => "self_attn.q_proj",
            (LayerTensor::Key, _) => "self_attn.k_proj",
            (LayerTensor::Value, _) => "self_attn.v_proj",
            (LayerTensor::AttnSubNorm, SubNorms::Transformers) => "self_attn.attn_sub_norm",
            (LayerTensor::AttnSubNorm, SubNorms::OneBit) => "self_attn.inner_attn_ln",
            (LayerTensor::AttnOutput, _) => "self_attn.o_proj",
            (LayerTensor::FfnNorm, _) => "post_attention_layernorm",
            (LayerTensor::Gate, _) => "mlp.gate_proj",
            (LayerTensor::Up, _) => "mlp.up_proj",
            (LayerTensor::FfnSubNorm, SubNorms::Transformers) => "mlp.ffn_sub_norm",
            (LayerTensor::FfnSubNorm, SubNorms::OneBit) => "mlp.ffn_layernorm",
            (LayerTensor::Down, _) => "mlp.down_proj",
        },
    };
    match id {
        TensorId::Layer(layer, _) => format!("model.layers.{layer}.{tensor}.weight"),
        _ => tensor.to_owned(),
    }
}

pub(crate) const OUTPUT: &str = "lm_head.weight";

/// The whole of a file of at most `most` bytes; `None` if there is none.
pub(crate) fn read_small(path: &Path, most: u64) -> Result<Option<Vec<u8>>, CheckpointError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path, &error)),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| io_error(path, &error))?;
    if bytes.len() as u64 > most {
        return Err(file_error(
            &path.display().to_string(),
            format_args!("is larger than {most} bytes, which no such file is"),
        ));
    }
    Ok(Some(bytes))
}

/// A JSON file of a type; `None` if there is none.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, CheckpointError> {
    let Some(bytes) = read_small(path, limits::JSON_BYTES)? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&bytes);
    value
        .map(Some)
        .map_err(|error| file_error(&path.display().to_string(), format_args!("is not as expected: {error}")))
}
