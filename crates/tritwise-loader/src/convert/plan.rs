//! Which tensors a conversion writes, and how.

use std::ops::Range;

use tritwise_tensor::{
    CheckpointError, Config, DenseEncoding, DenseMatrix, LayerShape, LayerTensor, RopeScaling, RopeStyle, Scales,
    TensorId, TernaryEncoding,
};

use super::graph::Graph;
use super::{Conversion, Input};
use crate::error::tensor_error;

/// The checkpoint that will be written.
pub(super) struct Plan<'a> {
    pub(super) graph: Graph,
    pub(super) tensors: Vec<Planned<'a>>,
}

/// One tensor of it.
pub(super) struct Planned<'a> {
    pub(super) name: String,
    /// 1 for a norm.
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) kind: Kind<'a>,
    /// Size in the file.
    pub(super) bytes: usize,
    pub(super) order: Order,
}

pub(super) enum Kind<'a> {
    /// As F32.
    Norm(TensorId),
    /// With the source's, which is looked at once: for some encodings that means all its bytes.
    Table(TensorId, DenseMatrix<'a>, DenseEncoding),
    Linear(TensorId, TernaryEncoding),
    /// What rotary frequencies are divided by, as F32: a tensor of GGUF files that is none of the graph.
    Divisors(&'a [f32]),
}

/// Which row of the source is written where.
///
/// A rotary embedding turns pairs of a head's rows: rows half a head apart, or neighbours. Where source and
/// target differ in that, the rows of the query and the key layer change places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Same,
    /// In a head of that many rows, what was half a head apart becomes neighbours.
    Interleave(usize),
    /// The other way round.
    Halve(usize),
}

/// Rows of a tensor that are written at once.
pub(super) struct Piece<'a, 'p> {
    /// Which tensor of the plan.
    pub(super) index: usize,
    pub(super) tensor: &'p Planned<'a>,
    pub(super) rows: Range<usize>,
}

/// Weights of a table that are written at once: its rows are encoded independently, and a whole table of floats can
/// take gigabytes.
const PIECE: usize = 4 << 20;

impl<'a> Plan<'a> {
    pub(super) fn new(input: &Input<'a>, conversion: &Conversion) -> Result<Self, CheckpointError> {
        let config = input.weights.config();
        let graph = Graph::of(input, conversion.linear)?;
        let mut builder = Builder { input, conversion, config, graph: &graph, tensors: Vec::new() };
        builder.add_all()?;
        Ok(Self { tensors: builder.tensors, graph })
    }

    /// All tensors in pieces, in the order of the file.
    pub(super) fn pieces(&self) -> Vec<Piece<'a, '_>> {
        let mut pieces = Vec::new();
        for (index, tensor) in self.tensors.iter().enumerate() {
            let rows = match tensor.kind {
                Kind::Table(..) => (PIECE / tensor.cols).max(1),
                // A scale belongs to all rows, and some encodings mix them.
                _ => tensor.rows,
            };
            for first in (0..tensor.rows).step_by(rows) {
                pieces.push(Piece { index, tensor, rows: first..tensor.rows.min(first + rows) });
            }
        }
        pieces
    }
}

struct Builder<'a, 'b> {
    input: &'b Input<'a>,
    conversion: &'b Conversion,
    config: &'a Config,
    graph: &'b Graph,
    tensors: Vec<Planned<'a>>,
}

impl<'a> Builder<'a, '_> {
    fn add_all(&mut self) -> Result<(), CheckpointError> {
        self.table(TensorId::TokenEmbedding, self.conversion.embedding)?;
        if let (RopeScaling::Divisors(divisors), Some(name)) = (&self.config.rope.scaling, self.graph.divisors_name()) {
            self.add(name.to_owned(), 1, divisors.len(), Kind::Divisors(divisors), Order::Same)?;
        }
        for layer in 0..self.config.layers {
            for tensor in LayerTensor::ALL {
                match tensor.shape(self.config) {
                    Some(LayerShape::Norm(len)) => self.norm(TensorId::Layer(layer, tensor), len)?,
                    Some(LayerShape::Linear(rows, cols)) => self.linear(layer, tensor, rows, cols)?,
                    None => {}
                }
            }
        }
        self.norm(TensorId::OutputNorm, self.config.hidden)?;
        if !self.config.tied {
            self.table(TensorId::Output, self.conversion.head)?;
        }
        Ok(())
    }

    fn norm(&mut self, id: TensorId, len: usize) -> Result<(), CheckpointError> {
        self.add(self.graph.tensor_name(id), 1, len, Kind::Norm(id), Order::Same)
    }

    fn table(&mut self, id: TensorId, encoding: Option<DenseEncoding>) -> Result<(), CheckpointError> {
        let (rows, cols) = (self.config.vocab, self.config.hidden);
        let name = self.graph.tensor_name(id);
        let table = self.input.weights.dense(id, rows, cols)?;
        let encoding = self.graph.table_encoding(encoding, table.encoding());
        let encoding = encoding.map_err(|message| tensor_error(self.input.label, &name, message))?;
        self.add(name, rows, cols, Kind::Table(id, table, encoding), Order::Same)
    }

    fn linear(&mut self, layer: usize, tensor: LayerTensor, rows: usize, cols: usize) -> Result<(), CheckpointError> {
        let head = self.config.head_dim;
        let rotated = matches!(tensor, LayerTensor::Query | LayerTensor::Key);
        let order = match (self.config.rope.style, self.graph.rope_style()) {
            (RopeStyle::Halves, RopeStyle::Interleaved) if rotated => Order::Interleave(head),
            (RopeStyle::Interleaved, RopeStyle::Halves) if rotated => Order::Halve(head),
            _ => Order::Same,
        };
        let id = TensorId::Layer(layer, tensor);
        self.add(self.graph.tensor_name(id), rows, cols, Kind::Linear(id, self.conversion.linear), order)
    }

    fn add(
        &mut self,
        name: String,
        rows: usize,
        cols: usize,
        kind: Kind<'a>,
        order: Order,
    ) -> Result<(), CheckpointError> {
        let bytes = match kind {
            Kind::Norm(_) | Kind::Divisors(_) => Ok(cols * 4),
            Kind::Table(.., encoding) => encoding.encoded_len(rows, cols),
            Kind::Linear(_, encoding) => encoding.encoded_len(rows, cols),
        };
        let bytes = bytes
            .map_err(|error| tensor_error(self.input.label, &name, format_args!("{error}; choose another encoding")))?;
        self.tensors.push(Planned { name, rows, cols, kind, bytes, order });
        Ok(())
    }
}

impl Order {
    /// The row of the source that is written as row `row`.
    pub(super) fn source_row(self, row: usize) -> usize {
        match self {
            Self::Same => row,
            Self::Interleave(head) => {
                let within = row % head;
                row - within + within / 2 + (within % 2) * (head / 2)
            }
            Self::Halve(head) => {
                let within = row % head;
                row - within + 2 * (within % (head / 2)) + within / (head / 2)
            }
        }
    }

    /// The scales of the rows as they are written.
    #[expect(clippy::indexing_slicing, reason = "a matrix of as many rows was made with these scales")]
    pub(super) fn scales(self, scales: &Scales, rows: usize, cols: usize) -> Scales {
        let rows = || (0..rows).map(|row| self.source_row(row));
        match scales {
            Scales::Tensor(scale) => Scales::Tensor(*scale),
            Scales::Rows(values) => Scales::Rows(rows().map(|row| values[row]).collect()),
            Scales::Groups { cols: group, values } => {
                let groups = cols / group;
                let values = rows().flat_map(|row| &values[row * groups..][..groups]).copied().collect();
                Scales::Groups { cols: *group, values }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaving_pairs_what_was_half_a_head_apart() {
        let rows = |order: Order| (0..12).map(|row| order.source_row(row)).collect::<Vec<_>>();
        let interleaved = rows(Order::Interleave(6));
        assert_eq!(interleaved, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
        let halved = rows(Order::Halve(6));
        assert_eq!(halved, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
        for row in 0..12 {
            assert_eq!(interleaved[halved[row]], row);
        }
    }
}
