//! An opened checkpoint.

use tritwise_tensor::{
    Checkpoint, CheckpointError, Config, DenseEncoding, DenseMatrix, FloatKind, I2sLayout, Scales, TensorError,
    TensorId, Ternarize, TernaryEncoding, TernaryMatrix, Tile,
};
use tritwise_tokenizer::Tokenizer;

use crate::container::{Container, Encoding, Stored};
use crate::vocabulary::Vocabulary;
use crate::{Description, gguf, hf};

/// A checkpoint, opened: its hyperparameters are known and its tensors can be read.
///
/// Tensors are checked when they are asked for, through [`Checkpoint`].
#[derive(Debug)]
pub struct Source {
    pub(crate) container: Container,
    pub(crate) config: Config,
    pub(crate) names: Names,
    pub(crate) linear: Linear,
    /// The tiles of TL1 and TL2 matrices of these shapes, which go before the published ones.
    pub(crate) tiles: Vec<([usize; 2], Tile)>,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) format: String,
}

/// Whose tensor names a checkpoint uses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Names {
    Gguf,
    HuggingFace(hf::Naming),
}

/// How the linear layers of a checkpoint are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Linear {
    /// Each tensor says, but for the byte order of I2_S and for what floats mean.
    ByType { i2s: I2sLayout, floats: FloatRule },
    /// Four rows to a byte, with the scale, or its reciprocal, beside it.
    Packed { reciprocal: bool },
}

/// How float matrices become ternary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FloatRule {
    /// They are the master weights of a quantisation-aware training.
    Absmean,
    /// They must be ternary already.
    Exact,
    /// Ternary if they are already, else master weights.
    ExactOrAbsmean,
}

impl Source {
    /// The checkpoint's files, metadata and tensors, for people to read.
    pub fn describe(&self) -> Description {
        let metadata = self.vocabulary.describe();
        Description::new(&self.container, &self.format, Some(self.config.architecture.clone()), metadata)
    }

    /// The checkpoint as the user named it: the path, or the name given with its bytes.
    pub fn name(&self) -> &str {
        &self.container.label
    }

    /// Builds the tokenizer; `None` if the checkpoint has none, with which only token ids can be used.
    ///
    /// # Errors
    /// There is one, but it is damaged or of a kind that is not supported.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>, CheckpointError> {
        self.vocabulary.tokenizer(&self.container.label)
    }

    /// The Jinja templates that turn a conversation into text, by name: the one that is used unless another is asked
    /// for is called `default`, another is often called `tool_use`.
    pub fn chat_templates(&self) -> Vec<(String, String)> {
        self.vocabulary.chat_templates()
    }

    fn tensor_name(&self, id: TensorId) -> String {
        match self.names {
            Names::Gguf => gguf::name(id, self.config.norms),
            Names::HuggingFace(naming) => naming.name(id),
        }
    }

    fn by_type(
        &self,
        stored: &Stored,
        rows: usize,
        cols: usize,
        i2s: I2sLayout,
        floats: FloatRule,
    ) -> Result<TernaryMatrix<'_>, CheckpointError> {
        let make = |encoding| TernaryMatrix::new(encoding, rows, cols, self.container.bytes_of(stored), None);
        let refuse = |error: TensorError| self.container.refuse(stored, error);
        match stored.encoding {
            Encoding::Ternary(encoding) => make(encoding).map_err(refuse),
            Encoding::I2S => make(TernaryEncoding::I2S(i2s)).map_err(refuse),
            Encoding::Tl1 => self.lookup_table(stored, rows, cols, Tile::tl1(rows, cols), TernaryEncoding::Tl1),
            Encoding::Tl2 => self.lookup_table(stored, rows, cols, Tile::tl2(rows, cols), TernaryEncoding::Tl2),
            Encoding::Dense(dense) if float_kind(dense).is_some() => {
                let kind = float_kind(dense).unwrap_or(FloatKind::F32);
                let exact = || make(TernaryEncoding::Float(kind, Ternarize::Exact));
                let absmean = || make(TernaryEncoding::Float(kind, Ternarize::Absmean)).map_err(refuse);
                match floats {
                    FloatRule::Absmean => absmean(),
                    FloatRule::ExactOrAbsmean => exact().or_else(|_| absmean()),
                    FloatRule::Exact => exact().map_err(|error| {
                        self.container.refuse(
                            stored,
                            format_args!(
                                "{error}. The checkpoint has nothing that says how to make its weights ternary, so \
                                 they must be already: this looks like an ordinary model, not a ternary one"
                            ),
                        )
                    }),
                }
            }
            Encoding::Unreadable { ref why, .. } => Err(self.container.refuse(stored, why)),
            Encoding::Dense(_) | Encoding::Packed => Err(self.container.refuse(
                stored,
                format_args!("is stored as {}, in which no ternary layer is expected", stored.encoding.name()),
            )),
        }
    }

    /// A matrix that was written for one of the `published` tiles, or for one that the options give.
    fn lookup_table(
        &self,
        stored: &Stored,
        rows: usize,
        cols: usize,
        published: &[Tile],
        of_tile: fn(Tile) -> TernaryEncoding,
    ) -> Result<TernaryMatrix<'_>, CheckpointError> {
        const REMEDY: &str = "give the tile of the build's kernel_config.ini (Options::tiles), or use the model's I2_S \
                              file or its safetensors folder";
        let refuse = |message: &dyn std::fmt::Display| self.container.refuse(stored, message);
        let name = stored.encoding.name();
        let given = self.tiles.iter().find(|(shape, _)| *shape == [rows, cols]).map(|(_, tile)| *tile);
        let tile = match (given, published) {
            (Some(tile), _) | (None, &[tile]) => tile,
            (None, []) => {
                return Err(refuse(&format_args!(
                    "is {name} of {rows}×{cols}, a shape for which bitnet.cpp has no kernels; the order of its bytes \
                     depends on the tiles of the build that wrote it, which the file does not record: {REMEDY}"
                )));
            }
            (None, _) => {
                return Err(refuse(&format_args!(
                    "is {name} of {rows}×{cols}, whose bytes bitnet.cpp's builds write in {} orders, and the file does not \
                     record which: {REMEDY}",
                    published.len()
                )));
            }
        };
        let encoding = of_tile(tile);
        let len = encoding.encoded_len(rows, cols).map_err(|error| refuse(&format_args!("{error}; {REMEDY}")))?;
        let bytes = self.container.bytes_of(stored);
        // Their size was compared with the shape, by the rule that they are of one length or the other.
        let scale = match bytes.get(len.next_multiple_of(32)..) {
            Some(&[a, b, c, d, ..]) => f32::from_le_bytes([a, b, c, d]),
            _ => self.scale_beside(stored)?.1,
        };
        TernaryMatrix::new(encoding, rows, cols, bytes.slice(0..len), Some(scale)).map_err(|error| refuse(&error))
    }

    /// The tensor with the scale of `stored`, and the scale.
    fn scale_beside(&self, stored: &Stored) -> Result<(&Stored, f32), CheckpointError> {
        let name = format!("{}_scale", stored.name);
        let scale = self.container.need(&name, &format_args!("the scale of {}", stored.name), &[1])?;
        Ok((scale, self.container.float(scale)?))
    }

    fn packed(
        &self,
        stored: &Stored,
        rows: usize,
        cols: usize,
        reciprocal: bool,
    ) -> Result<TernaryMatrix<'_>, CheckpointError> {
        if stored.encoding != Encoding::Packed {
            return Err(self.container.refuse(
                stored,
                format_args!(
                    "is stored as {}, but config.json's quantization_config announces packed U8; \
                     for master weights it must say \"linear_class\": \"autobitlinear\", \"quantization_mode\": \"online\"",
                    stored.encoding.name()
                ),
            ));
        }
        let (scale_stored, stored_scale) = self.scale_beside(stored)?;
        let scale = if reciprocal { stored_scale.recip() } else { stored_scale };
        if !scale.is_finite() {
            return Err(self.container.refuse(
                scale_stored,
                format_args!("is {stored_scale}, and weights are to be divided by it; the file is damaged"),
            ));
        }
        TernaryMatrix::new(TernaryEncoding::HfPacked, rows, cols, self.container.bytes_of(stored), Some(scale))
            .map_err(|error| self.container.refuse(stored, error))
    }

    /// `matrix` times the scale that some ports of the 1bitLLM models keep in a tensor beside it.
    fn with_side_car<'a>(
        &'a self,
        matrix: TernaryMatrix<'a>,
        name: &str,
    ) -> Result<TernaryMatrix<'a>, CheckpointError> {
        let side_car = format!("{}.scale", name.trim_end_matches(".weight"));
        let Some(stored) = self.container.take(&side_car) else {
            return Ok(matrix);
        };
        let factor = self.container.float(stored)?;
        if factor == 1.0 {
            return Ok(matrix);
        }
        let refuse = |message: &dyn std::fmt::Display| self.container.refuse(stored, message);
        let Scales::Tensor(scale) = *matrix.scales() else {
            return Err(refuse(&"is a scale beside a matrix that has several of its own, which is not supported"));
        };
        // Such files are rare and their matrices small: writing one anew is simpler than a matrix with two scales.
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let mut trits = vec![0; rows * cols];
        for (row, out) in trits.chunks_exact_mut(cols).enumerate() {
            matrix.read_row(row, out);
        }
        matrix.bytes().release(0..matrix.bytes().len());
        let encoding = TernaryEncoding::I2S(I2sLayout::A);
        encoding
            .encode(&trits, rows, cols, &Scales::Tensor(scale * factor))
            .and_then(|bytes| TernaryMatrix::new(encoding, rows, cols, bytes, None))
            .map_err(|error| refuse(&error))
    }
}

impl Checkpoint for Source {
    fn config(&self) -> &Config {
        &self.config
    }

    fn ternary(&self, id: TensorId, rows: usize, cols: usize) -> Result<TernaryMatrix<'_>, CheckpointError> {
        let name = self.tensor_name(id);
        match self.linear {
            Linear::ByType { i2s, floats } => {
                let stored = self.container.need(&name, &id, &[rows, cols])?;
                let matrix = self.by_type(stored, rows, cols, i2s, floats)?;
                self.with_side_car(matrix, &name)
            }
            Linear::Packed { reciprocal } => {
                let stored = self.container.need(&name, &id, &[rows / 4, cols])?;
                self.packed(stored, rows, cols, reciprocal)
            }
        }
    }

    fn dense(&self, id: TensorId, rows: usize, cols: usize) -> Result<DenseMatrix<'_>, CheckpointError> {
        let stored = self.container.need(&self.tensor_name(id), &id, &[rows, cols])?;
        let encoding = match &stored.encoding {
            Encoding::Dense(encoding) => Some(*encoding),
            Encoding::Ternary(encoding) => as_table(*encoding),
            Encoding::Unreadable { why, .. } => return Err(self.container.refuse(stored, why)),
            _ => None,
        };
        let Some(encoding) = encoding else {
            let message = format_args!("is stored as {}; expected is one of {}", stored.encoding.name(), gguf::TABLES);
            return Err(self.container.refuse(stored, message));
        };
        DenseMatrix::new(encoding, rows, cols, self.container.bytes_of(stored))
            .map_err(|error| self.container.refuse(stored, error))
    }

    fn vector(&self, id: TensorId, len: usize) -> Result<Vec<f32>, CheckpointError> {
        let stored = self.container.need(&self.tensor_name(id), &id, &[len])?;
        let mut values = self.container.floats(stored)?;
        if let Names::HuggingFace(naming) = self.names
            && naming.is_less_one(id)
        {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        Ok(values)
    }

    fn finish(&self) -> Result<(), CheckpointError> {
        self.container.check_all_read()
    }
}

/// What a ternary encoding is in a table of reals, if its bytes are read there.
fn as_table(encoding: TernaryEncoding) -> Option<DenseEncoding> {
    match encoding {
        TernaryEncoding::Q1_0(group) => Some(DenseEncoding::Q1_0(group)),
        TernaryEncoding::Q2_0(group) => Some(DenseEncoding::Q2_0(group)),
        TernaryEncoding::Tq1_0 => Some(DenseEncoding::Tq1_0),
        TernaryEncoding::Tq2_0 => Some(DenseEncoding::Tq2_0),
        TernaryEncoding::Ptq1_0 => Some(DenseEncoding::Ptq1_0),
        _ => None,
    }
}

fn float_kind(encoding: DenseEncoding) -> Option<FloatKind> {
    match encoding {
        DenseEncoding::F32 => Some(FloatKind::F32),
        DenseEncoding::F16 => Some(FloatKind::F16),
        DenseEncoding::Bf16 => Some(FloatKind::Bf16),
        _ => None,
    }
}
