//! From any checkpoint to a GGUF file.

mod metadata;
mod plan;
mod tokenizer;
mod verify;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use tritwise_gguf::{TensorData, WriteError, Writer};
use tritwise_tensor::{Checkpoint, CheckpointError, DenseEncoding, I2sLayout, Scales, TernaryEncoding};

use crate::Options;
use crate::error::{file_error, io_error, tensor_error};
use crate::source::Source;
use plan::{Kind, Plan, Planned};

pub use verify::verify;

/// What a conversion writes. The default is I2_S, with tables as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conversion {
    /// For the linear layers: I2_S in layout A, which holds any scale exactly; TQ1_0 or TQ2_0, which round scales to
    /// F16 and hold only layers whose inputs are a multiple of 256. (bitnet.cpp's kernels misread I2_S where the inputs
    /// are no multiple of 128; this project reads it at any width.) BASE3, this project's own and no other's, is the
    /// smallest, and the one to open in place.
    pub linear: TernaryEncoding,
    /// For the token embedding; `None` keeps the checkpoint's own.
    pub embedding: Option<DenseEncoding>,
    /// For the output head of an untied model; `None` keeps the checkpoint's own.
    pub head: Option<DenseEncoding>,
    /// The model's name (`general.name`); `None` keeps that of a GGUF file.
    pub name: Option<String>,
    /// Leave the tokenizer out, where it cannot be carried over.
    pub without_tokenizer: bool,
}

impl Default for Conversion {
    fn default() -> Self {
        Self {
            linear: TernaryEncoding::I2S(I2sLayout::A),
            embedding: None,
            head: None,
            name: None,
            without_tokenizer: false,
        }
    }
}

/// How far a conversion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Tensors done in this stage.
    pub done: usize,
    /// Tensors in all.
    pub total: usize,
}

/// The stages of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Tensors are written.
    Write,
    /// The written file is compared with the source.
    Verify,
}

/// Converts `source` to a GGUF file at `to`, and compares every weight of the result with the source.
///
/// The file appears under its name only when the comparison has succeeded; until then it is
/// `to` with `.partial` appended. At most one tensor is in memory at a time.
///
/// The architecture written is `bitnet-b1.58` (sub-norms and squared ReLU), `bitnet` (sub-norms and SiLU)
/// or `llama`. For `llama`, rows of the query and key layers are put into the
/// interleaved order that the architecture's rotary embedding expects.
///
/// # Errors
/// A tensor or the tokenizer cannot be carried over, the file cannot be written, or the
/// comparison fails.
pub fn convert(
    source: &Source,
    to: impl AsRef<Path>,
    conversion: &Conversion,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), CheckpointError> {
    let to = to.as_ref();
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let file = File::create(partial).map_err(|error| io_error(partial, &error))?;
    let done = write_gguf(source, BufWriter::with_capacity(1 << 20, file), conversion, progress)
        .and_then(|file| file.into_inner().map_err(|error| io_error(partial, error.error())))
        .and_then(|file| file.sync_all().map_err(|error| io_error(partial, &error)))
        .and_then(|()| crate::open(partial, &Options::default()))
        .and_then(|written| verify(source, &written, conversion, progress))
        .and_then(|()| std::fs::rename(partial, to).map_err(|error| io_error(to, &error)));
    if done.is_err() {
        // What failed is worth reporting; that a useless file remains is not.
        let _ = std::fs::remove_file(partial);
    }
    done
}

/// Writes `source` to `sink` as a GGUF file, without the comparison of [`convert`]; returns the sink.
///
/// # Errors
/// A tensor or the tokenizer cannot be carried over, or the sink fails.
pub fn write_gguf<W: Write>(
    source: &Source,
    sink: W,
    conversion: &Conversion,
    progress: &mut dyn FnMut(Progress),
) -> Result<W, CheckpointError> {
    let plan = Plan::new(source, conversion)?;
    let mut writer = Writer::new();
    metadata::write(source, conversion, &plan, &mut writer)?;
    for tensor in &plan.tensors {
        writer
            .tensor(&tensor.name, &tensor.dims(), tensor.type_id(), tensor.bytes as u64)
            .map_err(|error| file_error(OUTPUT, error))?;
    }
    let mut output = Output { source, data: writer.start(sink).map_err(write_error)? };
    for (done, tensor) in plan.tensors.iter().enumerate() {
        progress(Progress { stage: Stage::Write, done, total: plan.tensors.len() });
        output.write(tensor)?;
    }
    progress(Progress { stage: Stage::Write, done: plan.tensors.len(), total: plan.tensors.len() });
    source.finish()?;
    output.data.finish().map_err(write_error)
}

/// How errors name what is being written.
const OUTPUT: &str = "the GGUF file being written";

fn write_error(error: WriteError) -> CheckpointError {
    file_error(OUTPUT, error)
}

struct Output<'a, W> {
    source: &'a Source,
    data: TensorData<W>,
}

impl<W: Write> Output<'_, W> {
    fn write(&mut self, tensor: &Planned) -> Result<(), CheckpointError> {
        match tensor.kind {
            Kind::Vector => {
                let values = self.source.vector(tensor.id, tensor.cols)?;
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                self.append(tensor, &bytes)
            }
            Kind::Table(encoding) => self.write_table(tensor, encoding),
            Kind::Linear(encoding) => self.write_linear(tensor, encoding),
        }
    }

    fn write_table(&mut self, tensor: &Planned, encoding: DenseEncoding) -> Result<(), CheckpointError> {
        let table = self.source.dense(tensor.id, tensor.rows, tensor.cols)?;
        if table.encoding() == encoding {
            return self.append(tensor, table.bytes());
        }
        // A whole table of floats can take gigabytes; rows are encoded independently.
        let rows_at_once = (CHUNK / tensor.cols).max(1);
        let mut values = vec![0.0; rows_at_once * tensor.cols];
        for first in (0..tensor.rows).step_by(rows_at_once) {
            let rows = rows_at_once.min(tensor.rows - first);
            let chunk = &mut values[..rows * tensor.cols];
            for (row, out) in chunk.chunks_exact_mut(tensor.cols).enumerate() {
                table.read_row(first + row, out);
            }
            let bytes =
                encoding.encode(chunk, rows, tensor.cols).map_err(|error| tensor_error(OUTPUT, &tensor.name, error))?;
            self.append(tensor, &bytes)?;
        }
        Ok(())
    }

    fn write_linear(&mut self, tensor: &Planned, encoding: TernaryEncoding) -> Result<(), CheckpointError> {
        let &Planned { id, rows, cols, .. } = tensor;
        let matrix = self.source.ternary(id, rows, cols)?;
        let mut trits = vec![0; rows * cols];
        for (row, out) in trits.chunks_exact_mut(cols).enumerate() {
            matrix.read_row(tensor.source_row(row), out);
        }
        let scales = permute(matrix.scales(), tensor);
        let bytes = encoding.encode(&trits, rows, cols, &scales).map_err(|error| {
            tensor_error(self.source.name(), &tensor.name, format_args!("{error}; convert to another encoding"))
        })?;
        self.append(tensor, &bytes)
    }

    fn append(&mut self, tensor: &Planned, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.data.append(&tensor.name, bytes).map_err(write_error)
    }
}

/// Values of a table that are encoded at once.
const CHUNK: usize = 1 << 20;

/// The scales of the rows as they are written.
fn permute(scales: &Scales, tensor: &Planned) -> Scales {
    let rows = || (0..tensor.rows).map(|row| tensor.source_row(row));
    match scales {
        Scales::Tensor(scale) => Scales::Tensor(*scale),
        Scales::Rows(values) => Scales::Rows(rows().map(|row| values[row]).collect()),
        Scales::Groups { cols, values } => {
            let groups = tensor.cols / cols;
            let values = rows().flat_map(|row| &values[row * groups..][..groups]).copied().collect();
            Scales::Groups { cols: *cols, values }
        }
    }
}
