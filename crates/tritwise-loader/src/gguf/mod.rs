//! Checkpoints in GGUF files.

mod config;
mod encoding;
mod split;

use std::path::Path;
use std::sync::Arc;

use tritwise_gguf::types::Project;
use tritwise_gguf::{Header, Metadata};
use tritwise_tensor::{CheckpointError, Config, LayerTensor, Norms, Storage, TensorId};

use crate::Options;
use crate::bytes;
use crate::container::Container;
use crate::error::{file_error, io_error};
use crate::source::FloatRule;
use split::Part;

pub(crate) use config::INPUTS;
pub(crate) use encoding::{TABLES, linear_type, table_type};

/// The tensors and metadata of the GGUF file at `path`, and of the other parts where it is one of several.
pub(crate) fn open(label: &str, path: &Path, options: &Options) -> Result<(Container, Header), CheckpointError> {
    let storage = bytes::open(path, options.no_mmap).map_err(|error| io_error(path, &error))?;
    let header = parse(label, &*storage)?;
    match Part::of(label, header.metadata())? {
        Some(part) => split::open(label, path, part, options),
        None => whole(label, header, storage, options.written_by),
    }
}

/// The tensors and metadata of a GGUF file, whatever its architecture.
pub(crate) fn read(
    label: &str,
    storage: Arc<dyn Storage>,
    written_by: Option<Project>,
) -> Result<(Container, Header), CheckpointError> {
    let header = parse(label, &*storage)?;
    match Part::of(label, header.metadata())? {
        Some(part) => Err(file_error(
            label,
            format_args!(
                "metadata key split.count is {}: the other parts are found beside a file, not beside bytes; open it by \
                 its path, or join the parts with llama.cpp's gguf-split --merge",
                part.count
            ),
        )),
        None => whole(label, header, storage, written_by),
    }
}

fn parse(label: &str, storage: &dyn Storage) -> Result<Header, CheckpointError> {
    Header::parse(storage.bytes()).map_err(|error| file_error(label, error))
}

fn whole(
    label: &str,
    header: Header,
    storage: Arc<dyn Storage>,
    written_by: Option<Project>,
) -> Result<(Container, Header), CheckpointError> {
    let mut container = Container::new(label.to_owned());
    add(&mut container, label, &header, storage, written_by)?;
    Ok((container, header))
}

/// Adds the file `label` and its tensors.
fn add(
    container: &mut Container,
    label: &str,
    header: &Header,
    storage: Arc<dyn Storage>,
    written_by: Option<Project>,
) -> Result<(), CheckpointError> {
    let file = container.add_file(label.to_owned(), storage);
    let meanings = encoding::Meanings::of(header, written_by);
    for tensor in header.tensors() {
        let (encoding, range) = meanings.settle(tensor);
        #[expect(clippy::cast_possible_truncation, reason = "tritwise_gguf::limits::DIM is 2³¹")]
        let shape = tensor.dims.iter().rev().map(|&dim| dim as usize).collect();
        container.push(&file, tensor.name.clone(), shape, encoding, range)?;
    }
    Ok(())
}

/// The hyperparameters of a GGUF file, and how its float matrices become ternary.
pub(crate) fn understand(
    container: &Container,
    metadata: &Metadata,
    options: &Options,
) -> Result<(Config, FloatRule), CheckpointError> {
    config::read(container, metadata, options)
}

/// The name of tensor `id`; ggml's names, with `.weight`.
///
/// Where every projection has a norm of its own input, those of the two inner projections are called as the others'.
pub(crate) fn name(id: TensorId, norms: Norms) -> String {
    match id {
        TensorId::TokenEmbedding => TOKEN_EMBEDDING.to_owned(),
        TensorId::OutputNorm => "output_norm.weight".to_owned(),
        TensorId::Output => OUTPUT.to_owned(),
        TensorId::Layer(layer, tensor) => format!("blk.{layer}.{}.weight", layer_name(tensor, norms)),
    }
}

/// What rotary frequencies are divided by: not a weight, but a hyperparameter in a tensor.
pub(crate) const ROPE_DIVISORS: &str = "rope_freqs.weight";
pub(crate) const TOKEN_EMBEDDING: &str = "token_embd.weight";
pub(crate) const OUTPUT: &str = "output.weight";

fn layer_name(tensor: LayerTensor, norms: Norms) -> &'static str {
    match tensor {
        LayerTensor::AttnNorm => "attn_norm",
        LayerTensor::QueryInputNorm => "attn_q_norm_in",
        LayerTensor::Query => "attn_q",
        LayerTensor::KeyInputNorm => "attn_k_norm_in",
        LayerTensor::Key => "attn_k",
        LayerTensor::ValueInputNorm => "attn_v_norm_in",
        LayerTensor::Value => "attn_v",
        LayerTensor::QueryNorm => "attn_q_norm",
        LayerTensor::KeyNorm => "attn_k_norm",
        LayerTensor::AttnSubNorm if norms.inputs => "attn_output_norm_in",
        LayerTensor::AttnSubNorm => "attn_sub_norm",
        LayerTensor::AttnOutput => "attn_output",
        LayerTensor::PostAttnNorm => "post_attention_norm",
        LayerTensor::FfnNorm => "ffn_norm",
        LayerTensor::GateInputNorm => "ffn_gate_norm_in",
        LayerTensor::Gate => "ffn_gate",
        LayerTensor::UpInputNorm => "ffn_up_norm_in",
        LayerTensor::Up => "ffn_up",
        LayerTensor::FfnSubNorm if norms.inputs => "ffn_down_norm_in",
        LayerTensor::FfnSubNorm => "ffn_sub_norm",
        LayerTensor::Down => "ffn_down",
        LayerTensor::PostFfnNorm => "post_ffw_norm",
    }
}

/// A count that is yet to be compared with its limit; what this machine cannot count is beyond every limit.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
