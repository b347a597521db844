//! What every checkpoint file comes down to: named tensors in byte ranges.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tritwise_tensor::{CheckpointError, DenseEncoding, DenseMatrix, Inputs, SharedBytes, Storage, TernaryEncoding};

use crate::error::{file_error, printable, tensor_error};

/// The tensors of one checkpoint, from one file or several shards.
#[derive(Debug)]
pub(crate) struct Container {
    /// The checkpoint as the user named it.
    pub(crate) label: String,
    files: Vec<Arc<ShardFile>>,
    tensors: Vec<Stored>,
    by_name: HashMap<String, usize>,
}

pub(crate) struct ShardFile {
    label: String,
    storage: Arc<dyn Storage>,
}

/// How many bytes; the bytes themselves would fill screens.
impl fmt::Debug for ShardFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardFile({:?}, {} bytes)", self.label, self.storage.bytes().len())
    }
}

/// One tensor in a file.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) name: String,
    /// Outermost dimension first: `[rows, cols]`.
    pub(crate) shape: Vec<usize>,
    pub(crate) encoding: Encoding,
    /// The tensor's own bytes, without padding.
    pub(crate) range: Range<usize>,
    file: Arc<ShardFile>,
    read: AtomicBool,
}

/// How a tensor's bytes are to be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Encoding {
    Dense(DenseEncoding),
    Ternary(TernaryEncoding),
    /// In a layout that the file does not say.
    I2S,
    /// In tiles that the file does not say; the scale is behind the codes, or a tensor of its own.
    Tl1,
    /// As `Tl1`.
    Tl2,
    /// `uint8`, which in this family means four trits per byte.
    Packed,
    /// Known by name at best; `why` completes a sentence that begins with the tensor.
    Unreadable {
        name: String,
        why: String,
    },
}

impl Encoding {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Dense(encoding) => encoding.name(),
            Self::Ternary(encoding) => encoding.name(),
            Self::I2S => "I2_S",
            Self::Tl1 => "TL1",
            Self::Tl2 => "TL2",
            Self::Packed => "U8",
            Self::Unreadable { name, .. } => name,
        }
    }

    /// What models are multiplied with whose linear layers come in this encoding, where nothing else says.
    ///
    /// bitnet.cpp's and ik_llama.cpp's types were made for models that round activations per token, ggml's
    /// and PrismML's hold any model whose weights are ternary.
    pub(crate) fn usual_inputs(&self) -> Inputs {
        use TernaryEncoding::{Base3, Iq1Bn, Iq2Bn, Iq2BnR4};
        match self {
            Self::I2S | Self::Tl1 | Self::Tl2 | Self::Packed | Self::Unreadable { .. } => Inputs::Int8,
            Self::Ternary(Base3 | Iq1Bn | Iq2Bn | Iq2BnR4) => Inputs::Int8,
            Self::Ternary(_) | Self::Dense(_) => Inputs::Float,
        }
    }

    /// Why tensors of this encoding cannot be read, if they cannot.
    pub(crate) fn problem(&self) -> Option<&str> {
        match self {
            Self::Unreadable { why, .. } => Some(why),
            _ => None,
        }
    }
}

impl Container {
    pub(crate) fn new(label: String) -> Self {
        Self { label, files: Vec::new(), tensors: Vec::new(), by_name: HashMap::new() }
    }

    /// Adds a file; its tensors follow with [`push`](Self::push).
    pub(crate) fn add_file(&mut self, label: String, storage: Arc<dyn Storage>) -> Arc<ShardFile> {
        let file = Arc::new(ShardFile { label, storage });
        self.files.push(Arc::clone(&file));
        file
    }

    /// Adds a tensor of `file`.
    pub(crate) fn push(
        &mut self,
        file: &Arc<ShardFile>,
        name: String,
        shape: Vec<usize>,
        encoding: Encoding,
        range: Range<usize>,
    ) -> Result<(), CheckpointError> {
        if let Some(other) = self.find(&name) {
            return Err(tensor_error(
                &file.label,
                &name,
                format_args!(
                    "is also in {}; a tensor may be stored only once: delete the stale shard",
                    self.file_of(other)
                ),
            ));
        }
        self.by_name.insert(name.clone(), self.tensors.len());
        let file = Arc::clone(file);
        self.tensors.push(Stored { name, shape, encoding, range, file, read: AtomicBool::new(false) });
        Ok(())
    }

    pub(crate) fn tensors(&self) -> &[Stored] {
        &self.tensors
    }

    /// Size of all files together.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.storage.bytes().len() as u64).sum()
    }

    /// The file that holds `stored`, as the user would name it.
    pub(crate) fn file_of<'a>(&self, stored: &'a Stored) -> &'a str {
        &stored.file.label
    }

    pub(crate) fn bytes_of(&self, stored: &Stored) -> SharedBytes {
        SharedBytes::new(Arc::clone(&stored.file.storage), stored.range.clone())
    }

    /// Whether two tensors hold the same bytes. Of each no more than a piece is in memory at a time: they are tables.
    pub(crate) fn same_bytes(&self, a: &Stored, b: &Stored) -> bool {
        const PIECE: usize = 16 << 20;
        let (a, b) = (self.bytes_of(a), self.bytes_of(b));
        a.len() == b.len()
            && a.chunks(PIECE).zip(b.chunks(PIECE)).enumerate().all(|(i, (in_a, in_b))| {
                let same = in_a == in_b;
                let range = i * PIECE..i * PIECE + in_a.len();
                a.release(range.clone());
                b.release(range);
                same
            })
    }

    /// The tensor `name`, without counting as a read.
    pub(crate) fn find(&self, name: &str) -> Option<&Stored> {
        self.by_name.get(name).and_then(|&index| self.tensors.get(index))
    }

    /// The tensor `name` if it is there; it counts as read from now on.
    pub(crate) fn take(&self, name: &str) -> Option<&Stored> {
        let stored = self.find(name)?;
        stored.read.store(true, Ordering::Relaxed);
        Some(stored)
    }

    /// The tensor `name`, which the graph needs as `role` in shape `shape`.
    pub(crate) fn need(
        &self,
        name: &str,
        role: &dyn fmt::Display,
        shape: &[usize],
    ) -> Result<&Stored, CheckpointError> {
        let stored = self.take(name).ok_or_else(|| {
            tensor_error(
                &self.label,
                name,
                format_args!(
                    "is missing, and the model needs it ({role}): \
                     the checkpoint is incomplete, or its architecture is not what it says"
                ),
            )
        })?;
        self.check_shape(stored, shape)?;
        Ok(stored)
    }

    /// Refuses any shape but `wanted`; dimensions of 1 on the outside do not count.
    pub(crate) fn check_shape(&self, stored: &Stored, wanted: &[usize]) -> Result<(), CheckpointError> {
        if without_outer_ones(&stored.shape) == without_outer_ones(wanted) {
            return Ok(());
        }
        Err(self.refuse(
            stored,
            format_args!(
                "has shape {:?}, but the hyperparameters ask for {wanted:?}; one of the two is wrong: get the file again",
                stored.shape
            ),
        ))
    }

    pub(crate) fn refuse(&self, stored: &Stored, message: impl fmt::Display) -> CheckpointError {
        tensor_error(self.file_of(stored), &stored.name, message)
    }

    /// The elements of a float tensor, all of them finite.
    pub(crate) fn floats(&self, stored: &Stored) -> Result<Vec<f32>, CheckpointError> {
        if let Some(why) = stored.encoding.problem() {
            return Err(self.refuse(stored, why));
        }
        let Encoding::Dense(encoding @ (DenseEncoding::F32 | DenseEncoding::F16 | DenseEncoding::Bf16)) =
            stored.encoding
        else {
            return Err(
                self.refuse(stored, format_args!("is stored as {}; expected F32, F16 or BF16", stored.encoding.name()))
            );
        };
        // The range was checked against the shape, so the product cannot overflow.
        let len = stored.shape.iter().product();
        let matrix =
            DenseMatrix::new(encoding, 1, len, self.bytes_of(stored)).map_err(|error| self.refuse(stored, error))?;
        let mut values = vec![0.0; len];
        matrix.read_row(0, &mut values);
        match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            None => Ok(values),
            Some((index, value)) => Err(self
                .refuse(stored, format_args!("element {index} is {value}, not a finite number; the file is damaged"))),
        }
    }

    /// The element of a float tensor that has one.
    pub(crate) fn float(&self, stored: &Stored) -> Result<f32, CheckpointError> {
        self.check_shape(stored, &[1])?;
        let values = self.floats(stored)?;
        values.first().copied().ok_or_else(|| self.refuse(stored, "has no element"))
    }

    /// Fails if a tensor was never taken.
    pub(crate) fn check_all_read(&self) -> Result<(), CheckpointError> {
        let mut unread: Vec<String> = self
            .tensors
            .iter()
            .filter(|stored| !stored.read.load(Ordering::Relaxed))
            .map(|stored| printable(&stored.name))
            .collect();
        const SHOWN: usize = 8;
        let count = unread.len();
        if count == 0 {
            return Ok(());
        }
        unread.truncate(SHOWN);
        Err(file_error(
            &self.label,
            format_args!(
                "{count} {} no part of the model's graph: {}{}. Running without would give wrong \
                 results: the checkpoint is of an architecture that is not supported, or was exported wrongly",
                if count == 1 { "tensor is" } else { "tensors are" },
                unread.join(", "),
                if count > SHOWN { ", …" } else { "" }
            ),
        ))
    }
}

fn without_outer_ones(mut shape: &[usize]) -> &[usize] {
    while let [1, inner @ ..] = shape {
        shape = inner;
    }
    shape
}
