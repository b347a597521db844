//! A checkpoint in memory whose matrices can be put into other encodings.

use std::collections::BTreeMap;
use std::sync::Arc;

use tritwise::Config;
use tritwise::tensor::{
    Checkpoint, CheckpointError, DenseEncoding, DenseMatrix, I2sLayout, LayerShape, LayerTensor, Scales, SharedBytes,
    TensorId, TernaryEncoding, TernaryMatrix,
};

/// All tensors of a model, each in bytes that begin a cache line, as a mapped file's would.
#[derive(Clone)]
pub(crate) struct Held {
    config: Config,
    linear: BTreeMap<TensorId, Linear>,
    tables: BTreeMap<TensorId, Table>,
    norms: BTreeMap<TensorId, Vec<f32>>,
}

#[derive(Clone)]
struct Linear {
    encoding: TernaryEncoding,
    rows: usize,
    cols: usize,
    bytes: SharedBytes,
    /// Where the encoding has no place for it.
    scale: Option<f32>,
}

#[derive(Clone)]
struct Table {
    encoding: DenseEncoding,
    bytes: SharedBytes,
}

impl Held {
    /// Everything that `checkpoint` has, in the encodings it has it in.
    pub(crate) fn new(checkpoint: &dyn Checkpoint) -> Self {
        let config = checkpoint.config().clone();
        let (vocab, hidden) = (config.vocab, config.hidden);
        let mut held = Self { config, linear: BTreeMap::new(), tables: BTreeMap::new(), norms: BTreeMap::new() };
        let heads = if held.config.tied {
            &[TensorId::TokenEmbedding][..]
        } else {
            &[TensorId::TokenEmbedding, TensorId::Output]
        };
        for id in heads {
            let table = checkpoint.dense(*id, vocab, hidden).unwrap_or_else(|e| panic!("{e}"));
            held.tables.insert(*id, Table { encoding: table.encoding(), bytes: aligned(table.bytes()) });
        }
        let mut norm = |id, len| held.norms.insert(id, checkpoint.vector(id, len).unwrap_or_else(|e| panic!("{e}")));
        norm(TensorId::OutputNorm, hidden);
        for (layer, tensor) in (0..held.config.layers).flat_map(|layer| LayerTensor::ALL.map(|tensor| (layer, tensor)))
        {
            let id = TensorId::Layer(layer, tensor);
            match tensor.shape(&held.config) {
                None => {}
                Some(LayerShape::Norm(len)) => {
                    norm(id, len);
                }
                Some(LayerShape::Linear(rows, cols)) => {
                    let matrix = checkpoint.ternary(id, rows, cols).unwrap_or_else(|e| panic!("{e}"));
                    held.linear.insert(id, Linear::new(matrix.encoding(), &matrix, matrix.bytes()));
                }
            }
        }
        held
    }

    /// The same weights with linear layers in another encoding, which may round scales; `None` where it cannot hold them.
    pub(crate) fn with_linear(&self, encoding: TernaryEncoding) -> Option<Self> {
        let mut held = self.clone();
        for linear in held.linear.values_mut() {
            let matrix = linear.matrix();
            let (rows, cols) = (linear.rows, linear.cols);
            let mut trits = vec![0; rows * cols];
            trits.chunks_exact_mut(cols).enumerate().for_each(|(row, trits)| matrix.read_row(row, trits));
            let bytes = encoding.encode(&trits, rows, cols, matrix.scales()).ok()?;
            *linear = Linear::new(encoding, &matrix, &bytes);
        }
        Some(held)
    }

    /// The same weights with embedding and head rounded to another encoding; `None` where it cannot hold them.
    pub(crate) fn with_tables(&self, encoding: DenseEncoding) -> Option<Self> {
        let mut held = self.clone();
        let (rows, cols) = (self.config.vocab, self.config.hidden);
        for table in held.tables.values_mut() {
            let matrix = table.matrix(rows, cols);
            let mut values = vec![0.0; rows * cols];
            values.chunks_exact_mut(cols).enumerate().for_each(|(row, values)| matrix.read_row(row, values));
            *table = Table { encoding, bytes: aligned(&encoding.encode(&values, rows, cols).ok()?) };
        }
        Some(held)
    }

    /// The same weights with another configuration of the same shapes.
    pub(crate) fn with_config(&self, config: Config) -> Self {
        Self { config, ..self.clone() }
    }

    /// The encoding of the linear layers, of the first one if they differ.
    pub(crate) fn linear(&self) -> TernaryEncoding {
        self.linear.values().next().expect("a model has layers").encoding
    }

    /// Whether every linear layer can be computed with row by row, where it lies.
    pub(crate) fn is_in_rows(&self) -> bool {
        self.linear
            .values()
            .all(|linear| linear.encoding == TernaryEncoding::I2S(I2sLayout::A) && linear.cols.is_multiple_of(256))
    }
}

impl Linear {
    fn new(encoding: TernaryEncoding, like: &TernaryMatrix<'_>, bytes: &[u8]) -> Self {
        let scale = match (encoding, like.scales()) {
            (TernaryEncoding::HfPacked, Scales::Tensor(scale)) => Some(*scale),
            _ => None,
        };
        Self { encoding, rows: like.rows(), cols: like.cols(), bytes: aligned(bytes), scale }
    }

    fn matrix(&self) -> TernaryMatrix<'static> {
        let Self { encoding, rows, cols, bytes, scale } = self;
        TernaryMatrix::new(*encoding, *rows, *cols, bytes.clone(), *scale).unwrap_or_else(|e| panic!("{e}"))
    }
}

impl Table {
    fn matrix(&self, rows: usize, cols: usize) -> DenseMatrix<'static> {
        DenseMatrix::new(self.encoding, rows, cols, self.bytes.clone()).unwrap_or_else(|e| panic!("{e}"))
    }
}

/// A copy of `bytes` that begins a cache line.
fn aligned(bytes: &[u8]) -> SharedBytes {
    let mut storage = vec![0; bytes.len() + 64];
    let start = storage.as_ptr().align_offset(64);
    storage[start..][..bytes.len()].copy_from_slice(bytes);
    SharedBytes::new(Arc::new(storage), start..start + bytes.len())
}

impl Checkpoint for Held {
    fn config(&self) -> &Config {
        &self.config
    }

    fn ternary(&self, id: TensorId, _rows: usize, _cols: usize) -> Result<TernaryMatrix<'_>, CheckpointError> {
        Ok(self.linear[&id].matrix())
    }

    fn dense(&self, id: TensorId, rows: usize, cols: usize) -> Result<DenseMatrix<'_>, CheckpointError> {
        Ok(self.tables[&id].matrix(rows, cols))
    }

    fn vector(&self, id: TensorId, _len: usize) -> Result<Vec<f32>, CheckpointError> {
        Ok(self.norms[&id].clone())
    }

    fn finish(&self) -> Result<(), CheckpointError> {
        Ok(())
    }
}
