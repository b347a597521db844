//! Which tensors a conversion writes, and how.

use tritwise_gguf::types;
use tritwise_tensor::{
    Activation, Checkpoint, CheckpointError, Config, DenseEncoding, I2sLayout, LayerShape, LayerTensor, Norms,
    RopeStyle, TensorId, TernaryEncoding,
};

use super::Conversion;
use crate::error::{file_error, tensor_error};
use crate::gguf;
use crate::source::Source;

/// The file that will be written.
pub(super) struct Plan {
    /// What GGUF calls the graph.
    pub(super) architecture: &'static str,
    pub(super) tensors: Vec<Planned>,
}

/// One tensor of it.
pub(super) struct Planned {
    pub(super) id: TensorId,
    pub(super) name: String,
    /// 1 for a vector.
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) kind: Kind,
    /// Size in the file.
    pub(super) bytes: usize,
    /// If the rows of each head are to be interleaved, the rows of a head.
    interleave: Option<usize>,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A norm, as F32.
    Vector,
    Table(DenseEncoding),
    Linear(TernaryEncoding),
}

impl Plan {
    pub(super) fn new(source: &Source, conversion: &Conversion) -> Result<Self, CheckpointError> {
        let config = source.config();
        let architecture = match (config.norms.sub, config.activation) {
            (true, Activation::SquaredRelu) => "bitnet-b1.58",
            (true, Activation::Silu) => "bitnet",
            (false, Activation::Silu) => "llama",
            _ => {
                return Err(file_error(
                    source.name(),
                    format_args!(
                        "has {:?} as its activation and {:?}, a graph for which GGUF has no architecture",
                        config.activation, config.norms
                    ),
                ));
            }
        };
        // The rotary embedding of GGUF's llama pairs neighbours; transformers' pairs halves.
        let interleave = architecture == "llama" && config.rope.style == RopeStyle::Halves;
        let builder = Builder { source, conversion, config, interleave };
        Ok(Self { architecture, tensors: builder.tensors()? })
    }
}

struct Builder<'a> {
    source: &'a Source,
    conversion: &'a Conversion,
    config: &'a Config,
    interleave: bool,
}

impl Builder<'_> {
    fn tensors(&self) -> Result<Vec<Planned>, CheckpointError> {
        let &Config { hidden, vocab, .. } = self.config;
        let mut tensors = vec![self.table(TensorId::TokenEmbedding, vocab, hidden, self.conversion.embedding)?];
        for layer in 0..self.config.layers {
            for tensor in LayerTensor::ALL {
                let id = TensorId::Layer(layer, tensor);
                let rotated = matches!(tensor, LayerTensor::Query | LayerTensor::Key);
                let interleave = (self.interleave && rotated).then_some(self.config.head_dim);
                match tensor.shape(self.config) {
                    Some(LayerShape::Norm(len)) => tensors.push(vector(id, self.config.norms, len)),
                    Some(LayerShape::Linear(rows, cols)) => tensors.push(self.linear(id, rows, cols, interleave)?),
                    None => {}
                }
            }
        }
        tensors.push(vector(TensorId::OutputNorm, self.config.norms, hidden));
        if !self.config.tied {
            tensors.push(self.table(TensorId::Output, vocab, hidden, self.conversion.head)?);
        }
        Ok(tensors)
    }

    fn table(
        &self,
        id: TensorId,
        rows: usize,
        cols: usize,
        encoding: Option<DenseEncoding>,
    ) -> Result<Planned, CheckpointError> {
        let encoding = match encoding {
            Some(encoding) => encoding,
            None => self.source.dense(id, rows, cols)?.encoding(),
        };
        self.planned(id, rows, cols, Kind::Table(encoding), None)
    }

    fn linear(
        &self,
        id: TensorId,
        rows: usize,
        cols: usize,
        interleave: Option<usize>,
    ) -> Result<Planned, CheckpointError> {
        match self.conversion.linear {
            TernaryEncoding::I2S(I2sLayout::A)
            | TernaryEncoding::Tq1_0
            | TernaryEncoding::Tq2_0
            | TernaryEncoding::Base3 => {}
            other => {
                return Err(file_error(
                    self.source.name(),
                    format_args!(
                        "cannot be converted to {other}: GGUF files hold I2_S in layout A, TQ1_0, TQ2_0 or BASE3"
                    ),
                ));
            }
        }
        self.planned(id, rows, cols, Kind::Linear(self.conversion.linear), interleave)
    }

    fn planned(
        &self,
        id: TensorId,
        rows: usize,
        cols: usize,
        kind: Kind,
        interleave: Option<usize>,
    ) -> Result<Planned, CheckpointError> {
        let name = gguf::name(id, self.config.norms);
        let bytes = match kind {
            Kind::Vector => Ok(cols * 4),
            Kind::Table(encoding) => encoding.encoded_len(rows, cols),
            Kind::Linear(encoding) => encoding.encoded_len(rows, cols),
        };
        let bytes = bytes.map_err(|error| {
            tensor_error(self.source.name(), &name, format_args!("{error}; choose another encoding"))
        })?;
        Ok(Planned { id, name, rows, cols, kind, bytes, interleave })
    }
}

fn vector(id: TensorId, norms: Norms, len: usize) -> Planned {
    Planned {
        id,
        name: gguf::name(id, norms),
        rows: 1,
        cols: len,
        kind: Kind::Vector,
        bytes: 4 * len,
        interleave: None,
    }
}

impl Planned {
    /// The shape, fastest dimension first.
    pub(super) fn dims(&self) -> Vec<u64> {
        match self.kind {
            Kind::Vector => vec![self.cols as u64],
            Kind::Table(_) | Kind::Linear(_) => vec![self.cols as u64, self.rows as u64],
        }
    }

    pub(super) fn type_id(&self) -> u32 {
        match self.kind {
            Kind::Vector | Kind::Table(DenseEncoding::F32) => types::F32,
            Kind::Table(DenseEncoding::F16) => types::F16,
            Kind::Table(DenseEncoding::Bf16) => types::BF16,
            Kind::Table(DenseEncoding::Q8_0) => types::Q8_0,
            Kind::Table(DenseEncoding::Q6K) => types::Q6_K,
            Kind::Linear(TernaryEncoding::Tq1_0) => types::TQ1_0,
            Kind::Linear(TernaryEncoding::Tq2_0) => types::TQ2_0,
            Kind::Linear(TernaryEncoding::Base3) => types::BASE3,
            Kind::Linear(_) => types::I2_S,
        }
    }

    /// The row of the source that is written as row `row`.
    ///
    /// Interleaving takes rows `0, d/2, 1, d/2 + 1, …` of a head of `d` rows, so that what
    /// rotated as a pair of halves rotates as a pair of neighbours.
    pub(super) fn source_row(&self, row: usize) -> usize {
        match self.interleave {
            None => row,
            Some(head_dim) => {
                let within = row % head_dim;
                row - within + within / 2 + (within % 2) * (head_dim / 2)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaving_pairs_what_was_half_a_head_apart() {
        let mut planned = vector(TensorId::OutputNorm, Norms::default(), 1);
        planned.interleave = Some(6);
        let rows: Vec<usize> = (0..12).map(|row| planned.source_row(row)).collect();
        assert_eq!(rows, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }
}
