//! The bytes of a checkpoint's tensors, one piece after the other.
//!
//! ```text
//! source: pages of a mapped file ──► rows of trits ──► bytes in the target's encoding ──► sink
//!                given back as soon as they are read          a few pieces ahead of it
//! ```

use tritwise_tensor::{CheckpointError, DenseEncoding, DenseMatrix, Scales, TensorId, TernaryEncoding, TernaryMatrix};

use super::ahead::ahead;
use super::plan::{Kind, Piece, Plan, Planned};
use super::{Input, Meter, Stage};
use crate::error::tensor_error;

/// Makes every piece of the plan, and hands its bytes to `append`, in order.
pub(super) fn write(
    input: &Input<'_>,
    plan: &Plan<'_>,
    meter: &mut Meter<'_>,
    mut append: impl FnMut(&Planned<'_>, &[u8]) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    meter.start(Stage::Write);
    ahead(
        &plan.pieces(),
        Piece::memory,
        |piece| bytes(input, plan, piece),
        |piece, bytes| {
            append(piece.tensor, &bytes)?;
            meter.advance(piece.weights());
            Ok(())
        },
    )?;
    input.weights.finish()
}

fn bytes(input: &Input<'_>, plan: &Plan<'_>, piece: &Piece<'_, '_>) -> Result<Vec<u8>, CheckpointError> {
    let tensor = piece.tensor;
    match &tensor.kind {
        Kind::Norm(id) => {
            let offset = plan.graph.norm_offset(*id);
            let values = input.weights.vector(*id, tensor.cols)?;
            Ok(values.iter().flat_map(|value| (value - offset).to_le_bytes()).collect())
        }
        Kind::Divisors(divisors) => Ok(divisors.iter().flat_map(|divisor| divisor.to_le_bytes()).collect()),
        Kind::Table(_, table, encoding) => {
            let bytes = table_rows(table, *encoding, piece);
            bytes.map_err(|error| tensor_error(input.label, &tensor.name, error))
        }
        Kind::Linear(id, encoding) => linear(input, tensor, *id, *encoding),
    }
}

fn table_rows(
    table: &DenseMatrix<'_>,
    encoding: DenseEncoding,
    piece: &Piece<'_, '_>,
) -> Result<Vec<u8>, tritwise_tensor::TensorError> {
    let bytes = if table.encoding() == encoding {
        Ok(piece.bytes_in(table).to_vec())
    } else {
        let cols = table.cols();
        let mut values = vec![0.0; piece.rows.len() * cols];
        for (row, out) in piece.rows.clone().zip(values.chunks_exact_mut(cols)) {
            table.read_row(row, out);
        }
        encoding.encode(&values, piece.rows.len(), cols)
    };
    table.bytes().release(piece.range_in(table));
    bytes
}

fn linear(
    input: &Input<'_>,
    tensor: &Planned<'_>,
    id: TensorId,
    encoding: TernaryEncoding,
) -> Result<Vec<u8>, CheckpointError> {
    let &Planned { rows, cols, order, .. } = tensor;
    let matrix = input.weights.ternary(id, rows, cols)?;
    let scales = order.scales(matrix.scales(), rows, cols);
    if matrix.encoding() == encoding && is_master(encoding) {
        let bytes = matrix.bytes().to_vec();
        matrix.bytes().release(0..bytes.len());
        return Ok(bytes);
    }
    let trits = trits(&matrix, tensor);
    matrix.bytes().release(0..matrix.bytes().len());
    drop(matrix);
    let encoded = encoding.encode(&trits, rows, cols, &scales);
    let mut bytes = encoded.map_err(|error| {
        let others = others(&trits, rows, cols, &scales);
        tensor_error(input.label, &tensor.name, format_args!("{error}; {others}"))
    })?;
    if let (TernaryEncoding::HfPacked, Scales::Tensor(scale)) = (encoding, scales) {
        // The tensor that follows.
        bytes.extend(scale.to_le_bytes());
    }
    Ok(bytes)
}

/// Whether weights in `encoding` are more than their trits, so that they can only be copied.
fn is_master(encoding: TernaryEncoding) -> bool {
    !TernaryEncoding::WRITABLE.contains(&encoding)
}

/// The rows of `matrix` as they are written.
fn trits(matrix: &TernaryMatrix<'_>, tensor: &Planned<'_>) -> Vec<i8> {
    let mut trits = vec![0; tensor.rows * tensor.cols];
    for (row, out) in trits.chunks_exact_mut(tensor.cols).enumerate() {
        matrix.read_row(tensor.order.source_row(row), out);
    }
    trits
}

/// Which encodings hold what another one refused.
fn others(trits: &[i8], rows: usize, cols: usize, scales: &Scales) -> String {
    let holds = |encoding: &TernaryEncoding| encoding.encode(trits, rows, cols, scales).is_ok();
    let names: Vec<&str> = TernaryEncoding::WRITABLE.iter().filter(|e| holds(e)).map(|e| e.name()).collect();
    match names.is_empty() {
        true => "no encoding that is written here holds it".to_owned(),
        false => format!("it can be written as {}", names.join(", ")),
    }
}

impl Piece<'_, '_> {
    /// Weights in the piece.
    pub(super) fn weights(&self) -> u64 {
        (self.rows.len() * self.tensor.cols) as u64
    }

    /// An upper bound of what the piece takes in bytes while it is made: the source's pages, and what comes of them.
    pub(super) fn memory(&self) -> usize {
        let weights = self.rows.len() * self.tensor.cols;
        let made = self.tensor.bytes / self.tensor.rows * self.rows.len();
        match self.tensor.kind {
            // F32, and trits of one byte.
            Kind::Linear(..) => 5 * weights + made,
            _ => 8 * weights + made,
        }
    }

    /// Where the piece lies in the bytes of `table`.
    pub(super) fn range_in(&self, table: &DenseMatrix<'_>) -> std::ops::Range<usize> {
        let row = table.bytes().len() / table.rows();
        self.rows.start * row..self.rows.end * row
    }

    #[expect(clippy::indexing_slicing, reason = "pieces are made of the table's rows")]
    pub(super) fn bytes_in<'a>(&self, table: &'a DenseMatrix<'_>) -> &'a [u8] {
        &table.bytes()[self.range_in(table)]
    }
}
