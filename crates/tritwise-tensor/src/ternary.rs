//! Ternary matrices in the encodings of their files.

use std::fmt;

use crate::float::FloatKind;
use crate::{Bytes, TensorError, shape};

mod base3;
mod float;
mod hf_packed;
mod i2_s;
mod scales;
mod tq1_0;
mod tq2_0;
mod two_bit;

pub use i2_s::I2sLayout;
pub use scales::Scales;

/// How a ternary matrix is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TernaryEncoding {
    /// bitnet.cpp's 2-bit planes with one `f32` scale at the end.
    I2S(I2sLayout),
    /// ggml's 1.6875-bit blocks of 256 with an F16 scale each.
    Tq1_0,
    /// ggml's 2.0625-bit blocks of 256 with an F16 scale each.
    Tq2_0,
    /// This project's 1.6-bit panels of 80 rows with one `f32` scale at the end, to compute with where they lie.
    Base3,
    /// Hugging Face's `uint8 [rows/4, cols]`; the scale is a tensor of its own.
    HfPacked,
    /// Float weights, made ternary by the given rule.
    Float(FloatKind, Ternarize),
}

/// How float weights become trits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ternarize {
    /// BitNet b1.58's absmean rule: `clamp(round(w / mean|W|), -1, 1)`, with `mean|W|` as the scale.
    Absmean,
    /// The weights already are `{-s, 0, +s}` for one `s`; anything else is an error.
    Exact,
}

impl TernaryEncoding {
    /// Every encoding that is written, one of each [`name`](Self::name): I2_S in the layout of all published files,
    /// floats as `{-s, 0, +s}`.
    pub const WRITABLE: [Self; 8] = [
        Self::I2S(I2sLayout::A),
        Self::Tq1_0,
        Self::Tq2_0,
        Self::Base3,
        Self::HfPacked,
        Self::Float(FloatKind::F32, Ternarize::Exact),
        Self::Float(FloatKind::F16, Ternarize::Exact),
        Self::Float(FloatKind::Bf16, Ternarize::Exact),
    ];

    /// The encoding of [`WRITABLE`](Self::WRITABLE) with that name, in upper or lower case and with `-` for a space.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.replace('-', " ");
        Self::WRITABLE.into_iter().find(|encoding| encoding.name().eq_ignore_ascii_case(&name))
    }

    /// `scale` as a matrix in this encoding keeps it: rounded, where scales are not kept as `f32`.
    pub fn stored_scale(self, scale: f32) -> f32 {
        match self {
            Self::Tq1_0 | Self::Tq2_0 => FloatKind::F16.round(scale),
            Self::Float(kind, _) => kind.round(scale),
            Self::I2S(_) | Self::Base3 | Self::HfPacked => scale,
        }
    }

    /// The encoding's usual name, such as `I2_S` or `TQ1_0`.
    pub fn name(self) -> &'static str {
        match self {
            Self::I2S(_) => "I2_S",
            Self::Tq1_0 => "TQ1_0",
            Self::Tq2_0 => "TQ2_0",
            Self::Base3 => "BASE3",
            Self::HfPacked => "HF packed",
            Self::Float(kind, _) => kind.name(),
        }
    }

    /// Bytes of a `rows` × `cols` matrix.
    ///
    /// # Errors
    /// The shape is empty, breaks a rule of the encoding, or its size overflows.
    pub fn encoded_len(self, rows: usize, cols: usize) -> Result<usize, TensorError> {
        let name = self.name();
        let elements = shape::elements(name, rows, cols)?;
        let broken = match self {
            Self::I2S(layout) => i2_s::broken_rule(layout, rows, elements),
            Self::Tq1_0 | Self::Tq2_0 => shape::broken_block(cols, tq1_0::BLOCK),
            Self::HfPacked => hf_packed::broken_rule(rows),
            Self::Base3 | Self::Float(..) => None,
        };
        if let Some(rule) = broken {
            return Err(TensorError::Shape { encoding: name, rows, cols, rule });
        }
        let len = match self {
            Self::I2S(_) => i2_s::len(elements),
            Self::Tq1_0 => (elements / tq1_0::BLOCK).checked_mul(tq1_0::BYTES),
            Self::Tq2_0 => (elements / tq2_0::BLOCK).checked_mul(tq2_0::BYTES),
            Self::Base3 => base3::len(rows, cols),
            Self::HfPacked => Some(elements / 4),
            Self::Float(kind, _) => elements.checked_mul(kind.size()),
        };
        len.ok_or(TensorError::Shape { encoding: name, rows, cols, rule: shape::OVERFLOW })
    }

    /// Writes `trits` (-1, 0, +1; row after row) with `scales` as the bytes that
    /// [`TernaryMatrix::new`] reads back to the same trits and scales.
    ///
    /// Scales are rounded to the type the encoding stores: F16 for TQ1_0 and TQ2_0, the float's own
    /// for [`Float`](Self::Float). [`HfPacked`](Self::HfPacked) has no place for the scale, which
    /// the caller writes elsewhere.
    ///
    /// # Errors
    /// The encoding cannot hold the shape or the scales: more than one scale where there is place for
    /// one, a scale that is not finite or that rounding would make infinite or zero, and
    /// [`Ternarize::Absmean`], because the mean of ternary weights is not their scale. A value is not a
    /// trit, or there are more or fewer than the shape has.
    pub fn encode(self, trits: &[i8], rows: usize, cols: usize, scales: &Scales) -> Result<Vec<u8>, TensorError> {
        let name = self.name();
        self.encoded_len(rows, cols)?;
        shape::check_count(rows, cols, trits.len())?;
        scales.check(name, rows, cols)?;
        if let Some(i) = trits.iter().position(|trit| !(-1..=1).contains(trit)) {
            return Err(TensorError::Weight { row: i / cols, what: format!("{} is not -1, 0 or +1", trits[i]) });
        }
        Ok(match self {
            Self::I2S(layout) => i2_s::encode(layout, trits, cols, scales.single(name)?),
            Self::Tq1_0 => tq1_0::encode(trits, scales.to_blocks(name, rows, cols, tq1_0::BLOCK)?),
            Self::Tq2_0 => tq2_0::encode(trits, scales.to_blocks(name, rows, cols, tq2_0::BLOCK)?),
            Self::Base3 => base3::encode(trits, rows, cols, scales.single(name)?),
            Self::HfPacked => {
                scales.single(name)?;
                hf_packed::encode(trits)
            }
            Self::Float(kind, Ternarize::Exact) => float::encode(kind, trits, scales.single(name)?)?,
            Self::Float(_, Ternarize::Absmean) => {
                return Err(TensorError::Scales {
                    encoding: name,
                    rule: "the mean of ternary weights is not their scale; write them with Ternarize::Exact",
                });
            }
        })
    }
}

impl fmt::Display for TernaryEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A rows × cols matrix of trits with scales, still in the bytes of its file.
///
/// `rows` are output features, `cols` input features. Every byte was checked when the value was
/// made, so reading cannot fail, and may happen on many threads at once.
///
/// ```
/// use tritwise_tensor::{I2sLayout, Scales, TernaryEncoding, TernaryMatrix};
///
/// let encoding = TernaryEncoding::I2S(I2sLayout::A);
/// let trits: Vec<i8> = (0..256).map(|i| i as i8 % 2).collect();
/// let bytes = encoding.encode(&trits, 2, 128, &Scales::Tensor(0.5))?;
///
/// let matrix = TernaryMatrix::new(encoding, 2, 128, &bytes, None)?;
/// let mut row = [0; 128];
/// matrix.read_row(1, &mut row);
/// assert_eq!(row, trits[128..]);
/// assert_eq!(matrix.scales(), &Scales::Tensor(0.5));
///
/// let error = TernaryMatrix::new(encoding, 2, 128, &bytes[1..], None).unwrap_err();
/// assert_eq!(error.to_string(), "I2_S 2×128 takes 96 bytes, found 95");
/// # Ok::<(), tritwise_tensor::TensorError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct TernaryMatrix<'a> {
    encoding: TernaryEncoding,
    rows: usize,
    cols: usize,
    bytes: Bytes<'a>,
    scales: Scales,
}

impl<'a> TernaryMatrix<'a> {
    /// Takes `bytes` as `rows` × `cols` in `encoding`, and checks all of them.
    ///
    /// `scale` is the scale that lives outside the bytes, as the multiplier of
    /// the trits: needed for [`TernaryEncoding::HfPacked`], not allowed for the others.
    ///
    /// # Errors
    /// Size or shape do not fit, a scale is not finite, a code is one that is never written, float
    /// weights are not finite or do not obey [`Ternarize::Exact`].
    pub fn new(
        encoding: TernaryEncoding,
        rows: usize,
        cols: usize,
        bytes: impl Into<Bytes<'a>>,
        scale: Option<f32>,
    ) -> Result<Self, TensorError> {
        let bytes = bytes.into();
        let name = encoding.name();
        shape::check_len(name, rows, cols, encoding.encoded_len(rows, cols)?, bytes.len())?;
        let scales = match (encoding, scale) {
            (TernaryEncoding::HfPacked, None) => return Err(TensorError::MissingScale { encoding: name }),
            (TernaryEncoding::HfPacked, Some(scale)) => {
                hf_packed::validate(rows, cols, &bytes)?;
                TensorError::check_scale(0, scale)?;
                Scales::Tensor(scale)
            }
            (_, Some(_)) => return Err(TensorError::SurplusScale { encoding: name }),
            (TernaryEncoding::I2S(layout), None) => i2_s::validate(layout, cols, &bytes)?,
            (TernaryEncoding::Base3, None) => base3::validate(cols, &bytes)?,
            (TernaryEncoding::Tq1_0, None) => {
                Scales::of_blocks(tq1_0::validate(&bytes)?, cols / tq1_0::BLOCK, tq1_0::BLOCK)
            }
            (TernaryEncoding::Tq2_0, None) => {
                Scales::of_blocks(tq2_0::validate(cols, &bytes)?, cols / tq2_0::BLOCK, tq2_0::BLOCK)
            }
            (TernaryEncoding::Float(kind, rule), None) => Scales::Tensor(float::validate(kind, rule, cols, &bytes)?),
        };
        Ok(Self { encoding, rows, cols, bytes, scales })
    }

    /// How the matrix is stored.
    pub fn encoding(&self) -> TernaryEncoding {
        self.encoding
    }

    /// Number of rows (output features).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (input features).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The scales; one for the matrix wherever all stored scales are equal.
    ///
    /// A stored scale of 0 counts as equal to any, and its block reads as zero trits.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// The stored bytes.
    pub fn bytes(&self) -> &Bytes<'a> {
        &self.bytes
    }

    /// Writes row `row` as trits (-1, 0, +1) into `out`, which has `cols` elements.
    ///
    /// # Panics
    /// `row` is out of range or `out` has another length.
    pub fn read_row(&self, row: usize, out: &mut [i8]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "a row has {} columns", self.cols);
        match self.encoding {
            TernaryEncoding::I2S(layout) => i2_s::read_row(layout, &self.bytes, row, out),
            TernaryEncoding::Tq1_0 => tq1_0::read_row(&self.bytes, row, out),
            TernaryEncoding::Tq2_0 => tq2_0::read_row(&self.bytes, row, out),
            TernaryEncoding::Base3 => base3::read_row(&self.bytes, row, out),
            TernaryEncoding::HfPacked => hf_packed::read_row(self.rows, &self.bytes, row, out),
            TernaryEncoding::Float(kind, rule) => {
                let Scales::Tensor(scale) = self.scales else { unreachable!("float weights have one scale") };
                float::read_row(kind, rule, scale, &self.bytes, row, out);
            }
        }
    }
}

/// Shape and encoding; the bytes would fill screens.
impl fmt::Debug for TernaryMatrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TernaryMatrix({} {}×{}, {} bytes)", self.encoding, self.rows, self.cols, self.bytes.len())
    }
}
