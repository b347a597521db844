//! From any checkpoint to a GGUF file or a Hugging Face folder.

mod ahead;
mod config_json;
mod folder;
mod graph;
mod metadata;
mod pieces;
mod plan;
mod tokenizer;
mod verify;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tritwise_gguf::{WriteError, Writer};
use tritwise_tensor::{Checkpoint, CheckpointError, DenseEncoding, I2sLayout, TernaryEncoding};

use crate::Options;
use crate::error::{file_error, unwritten};
use crate::gguf;
use crate::source::Source;
use crate::vocabulary::Vocabulary;
use graph::Container;
use plan::{Kind, Plan};

pub use verify::verify;

/// What a conversion writes. The default is I2_S, with tables as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conversion {
    /// For the linear layers, one of [`TernaryEncoding::WRITABLE`]; it decides what is written.
    /// [`HfPacked`](TernaryEncoding::HfPacked) makes a Hugging Face folder, all others a GGUF file.
    ///
    /// I2_S holds any scale exactly; TQ1_0 and TQ2_0 round scales to F16 and hold only layers whose inputs are a
    /// multiple of 256. (bitnet.cpp's kernels misread I2_S where the inputs are no multiple of 128; this project reads
    /// it at any width.) BASE3, this project's own and no other's, is the smallest, and the one to open in place.
    ///
    /// Master weights, `Float(kind, Absmean)`, are written to a folder too, where the checkpoint has them.
    pub linear: TernaryEncoding,
    /// For the token embedding; `None` keeps the checkpoint's own (in a folder, F32 for Q8_0 and Q6_K).
    pub embedding: Option<DenseEncoding>,
    /// For the output head of an untied model; `None` likewise.
    pub head: Option<DenseEncoding>,
    /// The model's name (`general.name` of a GGUF file); `None` keeps that of a GGUF file.
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
    /// Weights done in this stage.
    pub done: u64,
    /// Weights in all.
    pub total: u64,
}

/// The stages of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Tensors are written.
    Write,
    /// What was written is compared with the source.
    Verify,
}

/// Converts `source` to a GGUF file or a folder at `to`, and compares every weight of the result with the source.
///
/// The result appears under its name only when the comparison has succeeded; until then it is `to` with `.partial`
/// appended. A file that is there already is replaced, a folder is not.
///
/// Tensors pass through memory in pieces that together take at most 512 MB, or one linear layer where that is more;
/// what is read of a mapped file is given back at once.
///
/// In a GGUF file the architecture is `bitnet-b1.58` (sub-norms and squared ReLU), `bitnet` (sub-norms and SiLU), `llama`,
/// `qwen3` or `gemma3`; in a folder, transformers' BitNet, Llama, Qwen3 or Gemma 3. Where the two disagree about the
/// pairs that a rotary embedding turns, the rows of the query and key layers change places.
///
/// # Errors
/// The graph, a tensor or the tokenizer cannot be carried over, the result cannot be written, or the comparison fails.
pub fn convert(
    source: &Source,
    to: impl AsRef<Path>,
    conversion: &Conversion,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), CheckpointError> {
    create(&Input::of(source), to.as_ref(), conversion, progress, &mut |partial, progress| {
        verify(source, &crate::open(partial, &Options::default())?, conversion, progress)
    })
}

/// Writes `weights`, from whatever made them, to a GGUF file or a folder at `to`: as [`convert`], but without a
/// tokenizer, and without the comparison.
///
/// # Errors
/// As [`convert`].
pub fn write(
    weights: &dyn Checkpoint,
    to: impl AsRef<Path>,
    conversion: &Conversion,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), CheckpointError> {
    let input = Input { label: "the checkpoint", weights, vocabulary: None };
    create(&input, to.as_ref(), conversion, progress, &mut |_, _| Ok(()))
}

/// Writes `source` to `sink` as a GGUF file, without the comparison of [`convert`]; returns the sink.
///
/// # Errors
/// A tensor or the tokenizer cannot be carried over, the encoding is not one of GGUF, or the sink fails.
pub fn write_gguf<W: Write>(
    source: &Source,
    sink: W,
    conversion: &Conversion,
    progress: &mut dyn FnMut(Progress),
) -> Result<W, CheckpointError> {
    let input = Input::of(source);
    let plan = Plan::new(&input, conversion)?;
    match plan.graph.container {
        Container::Gguf => gguf_file(&input, &plan, sink, conversion, progress),
        Container::Folder(_) => Err(file_error(
            source.name(),
            format_args!("cannot be written to one file as {}, which makes a folder", conversion.linear),
        )),
    }
}

/// What is converted.
pub(crate) struct Input<'a> {
    /// How errors name it.
    label: &'a str,
    weights: &'a dyn Checkpoint,
    /// `None` for weights alone.
    vocabulary: Option<&'a Vocabulary>,
}

impl<'a> Input<'a> {
    fn of(source: &'a Source) -> Self {
        Self { label: source.name(), weights: source, vocabulary: Some(&source.vocabulary) }
    }
}

/// What follows the writing, with what was written.
type Then<'a> = dyn FnMut(&Path, &mut dyn FnMut(Progress)) -> Result<(), CheckpointError> + 'a;

/// Writes `to` under another name, and gives it its own if `then` agrees.
fn create(
    input: &Input<'_>,
    to: &Path,
    conversion: &Conversion,
    progress: &mut dyn FnMut(Progress),
    then: &mut Then<'_>,
) -> Result<(), CheckpointError> {
    let plan = Plan::new(input, conversion)?;
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    match plan.graph.container {
        Container::Gguf => {
            let file = File::create(&partial).map_err(|error| unwritten(&partial, &error))?;
            let sink = BufWriter::with_capacity(1 << 20, file);
            let done = gguf_file(input, &plan, sink, conversion, progress)
                .and_then(|file| finish(file, &partial))
                .and_then(|()| then(&partial, progress))
                .and_then(|()| fs::rename(&partial, to).map_err(|error| unwritten(to, &error)));
            if done.is_err() {
                // What failed is worth reporting; that a useless file remains is not.
                let _ = fs::remove_file(&partial);
            }
            done
        }
        Container::Folder(_) => {
            refuse_existing(to)?;
            // Also what an interrupted run left; only a folder made here is ever deleted.
            fs::create_dir(&partial).map_err(|error| unwritten(&partial, &error))?;
            let done = folder::write(input, &plan, &partial, conversion, progress)
                .and_then(|()| then(&partial, progress))
                .and_then(|()| {
                    let _ = fs::remove_dir(to);
                    fs::rename(&partial, to).map_err(|error| unwritten(to, &error))
                });
            if done.is_err() {
                let _ = fs::remove_dir_all(&partial);
            }
            done
        }
    }
}

/// Flushes what was written, to the disk.
fn finish(file: BufWriter<File>, path: &Path) -> Result<(), CheckpointError> {
    let file = file.into_inner().map_err(|error| unwritten(path, error.error()))?;
    file.sync_all().map_err(|error| unwritten(path, &error))
}

/// A folder is made anew: what is in one already would be taken for a part of the checkpoint.
fn refuse_existing(to: &Path) -> Result<(), CheckpointError> {
    let empty = match fs::read_dir(to) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    match empty {
        true => Ok(()),
        false => Err(file_error(
            &to.display().to_string(),
            "is there already, and not an empty folder; name one that is not there",
        )),
    }
}

fn gguf_file<W: Write>(
    input: &Input<'_>,
    plan: &Plan<'_>,
    sink: W,
    conversion: &Conversion,
    progress: &mut dyn FnMut(Progress),
) -> Result<W, CheckpointError> {
    let mut writer = Writer::new();
    metadata::write(input, conversion, plan, &mut writer)?;
    for tensor in &plan.tensors {
        let (type_id, dims) = match &tensor.kind {
            Kind::Norm(_) | Kind::Divisors(_) => (Some(tritwise_gguf::types::F32), vec![tensor.cols as u64]),
            Kind::Table(.., encoding) => (gguf::table_type(*encoding), matrix_dims(tensor)),
            Kind::Linear(_, encoding) => (gguf::linear_type(*encoding), matrix_dims(tensor)),
        };
        let type_id = type_id.ok_or_else(|| file_error(OUTPUT, "has no number for this encoding"))?;
        writer.tensor(&tensor.name, &dims, type_id, tensor.bytes as u64).map_err(|error| file_error(OUTPUT, error))?;
    }
    let mut data = writer.start(sink).map_err(write_error)?;
    let mut meter = Meter::new(plan, progress);
    pieces::write(input, plan, &mut meter, |tensor, bytes| data.append(&tensor.name, bytes).map_err(write_error))?;
    data.finish().map_err(write_error)
}

/// Fastest dimension first.
fn matrix_dims(tensor: &plan::Planned<'_>) -> Vec<u64> {
    vec![tensor.cols as u64, tensor.rows as u64]
}

/// How errors name what is being written.
const OUTPUT: &str = "the GGUF file being written";

fn write_error(error: WriteError) -> CheckpointError {
    file_error(OUTPUT, error)
}

/// Counts the weights that are done.
struct Meter<'a> {
    progress: &'a mut dyn FnMut(Progress),
    stage: Stage,
    done: u64,
    total: u64,
}

impl<'a> Meter<'a> {
    fn new(plan: &Plan<'_>, progress: &'a mut dyn FnMut(Progress)) -> Self {
        let total = plan.tensors.iter().map(|tensor| (tensor.rows * tensor.cols) as u64).sum();
        Self { progress, stage: Stage::Write, done: 0, total }
    }

    fn start(&mut self, stage: Stage) {
        (self.stage, self.done) = (stage, 0);
        self.advance(0);
    }

    fn advance(&mut self, weights: u64) {
        self.done += weights;
        (self.progress)(Progress { stage: self.stage, done: self.done, total: self.total });
    }
}
