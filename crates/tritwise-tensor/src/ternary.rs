//! Ternary matrices in the encodings of their files.

use std::fmt;

use half::f16;

use crate::blocks::Blocks;
use crate::float::FloatKind;
use crate::{Bytes, TensorError, shape};

mod base3;
mod float;
mod hf_packed;
mod i2_s;
mod iq_bn;
pub(crate) mod q_0;
mod scales;
mod tl;
pub(crate) mod tq1_0;
pub(crate) mod tq2_0;
mod two_bit;

pub use i2_s::I2sLayout;
use iq_bn::Bn;
pub use q_0::Group;
pub use scales::Scales;
pub use tl::Tile;
use tl::{tl1, tl2};

/// How a ternary matrix is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TernaryEncoding {
    /// bitnet.cpp's 2-bit planes with one `f32` scale at the end.
    I2S(I2sLayout),
    /// ggml's 1.6875-bit blocks of 256 with an F16 scale each.
    Tq1_0,
    /// ggml's 2.0625-bit blocks of 256 with an F16 scale each.
    Tq2_0,
    /// PrismML's 1.75-bit blocks of 128 with an F16 scale each.
    Ptq1_0,
    /// ggml's sign bits with an F16 scale per group (of 128; PrismML's early files of 32). There is no 0.
    Q1_0(Group),
    /// ggml's two-bit codes with an F16 scale per group (of 64; PrismML's, also named PQ2_0, of 128).
    Q2_0(Group),
    /// ik_llama.cpp's 1.625-bit blocks of 64 with an F16 scale per row.
    Iq1Bn,
    /// ik_llama.cpp's 2-bit blocks of 64 with an `f32` scale per row.
    Iq2Bn,
    /// The same with four rows interleaved.
    Iq2BnR4,
    /// bitnet.cpp's pairs for lookup tables on Arm, in the order of a kernel; the scale is elsewhere.
    Tl1(Tile),
    /// bitnet.cpp's triples for lookup tables on x86, in the order of a kernel; the scale is elsewhere.
    Tl2(Tile),
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
    /// The weights already are `{-s, 0, +s}`, for one `s`, or one per row, or one per group of columns that is a
    /// multiple of 32; anything else is an error.
    Exact,
}

impl TernaryEncoding {
    /// Every encoding that is written, one of each [`name`](Self::name): I2_S in the layout of all published files,
    /// floats as `{-s, 0, +s}`.
    ///
    /// Not among them are TL1 and TL2, which are for one build of bitnet.cpp each, and Q1_0 and Q2_0 in groups
    /// that only early files have.
    pub const WRITABLE: [Self; 15] = [
        Self::I2S(I2sLayout::A),
        Self::Tq1_0,
        Self::Tq2_0,
        Self::Ptq1_0,
        Self::Q1_0(Group::Of128),
        Self::Q2_0(Group::Of64),
        Self::Q2_0(Group::Of128),
        Self::Iq1Bn,
        Self::Iq2Bn,
        Self::Iq2BnR4,
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
        match self.form() {
            Form::Blocks(_) => FloatKind::F16.round(scale),
            Form::Bn(bn) => bn.scale_kind().round(scale),
            Form::Float(kind, _) => kind.round(scale),
            Form::I2S(_) | Form::Base3 | Form::HfPacked | Form::Tl1(_) | Form::Tl2(_) => scale,
        }
    }

    /// The encoding's usual name, such as `I2_S` or `TQ1_0`.
    pub fn name(self) -> &'static str {
        match self {
            Self::I2S(_) => "I2_S",
            Self::Tq1_0 => "TQ1_0",
            Self::Tq2_0 => "TQ2_0",
            Self::Ptq1_0 => "PTQ1_0",
            Self::Q1_0(group) => group.q1_0_name(),
            Self::Q2_0(group) => group.q2_0_name(),
            Self::Iq1Bn => "IQ1_BN",
            Self::Iq2Bn => "IQ2_BN",
            Self::Iq2BnR4 => "IQ2_BN_R4",
            Self::Tl1(_) => "TL1",
            Self::Tl2(_) => "TL2",
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
        let broken = match self.form() {
            Form::Blocks(form) => shape::broken_block(cols, form.blocks.weights),
            Form::Bn(bn) => shape::broken_block(cols, iq_bn::BLOCK).or(bn.broken_rule(rows)),
            Form::I2S(layout) => i2_s::broken_rule(layout, rows, elements),
            Form::Tl1(tile) => tl1::broken_rule(tile, rows, cols),
            Form::Tl2(tile) => tl2::broken_rule(tile, rows, cols),
            Form::HfPacked => hf_packed::broken_rule(rows),
            Form::Base3 | Form::Float(..) => None,
        };
        if let Some(rule) = broken {
            return Err(TensorError::Shape { encoding: name, rows, cols, rule });
        }
        let len = match self.form() {
            Form::Blocks(form) => (elements / form.blocks.weights).checked_mul(form.blocks.bytes),
            Form::Bn(bn) => bn.len(rows, cols),
            Form::I2S(_) => i2_s::len(elements),
            Form::Tl2(_) => tl2::len(rows, cols),
            Form::Base3 => base3::len(rows, cols),
            Form::Tl1(_) | Form::HfPacked => Some(elements / 4),
            Form::Float(kind, _) => elements.checked_mul(kind.size()),
        };
        len.ok_or(TensorError::Shape { encoding: name, rows, cols, rule: shape::OVERFLOW })
    }

    /// Writes `trits` (-1, 0, +1; row after row) with `scales` as the bytes that
    /// [`TernaryMatrix::new`] reads back to the same trits and scales.
    ///
    /// Scales are rounded to the type the encoding stores: F16 but for the `f32` of I2_S, BASE3, IQ2_BN and
    /// IQ2_BN_R4 and the float's own of [`Float`](Self::Float). [`HfPacked`](Self::HfPacked), [`Tl1`](Self::Tl1) and
    /// [`Tl2`](Self::Tl2) have no place for the scale, which the caller writes elsewhere.
    ///
    /// # Errors
    /// The encoding cannot hold the shape, the scales or a trit: more scales than there is place for, a
    /// scale that is not finite or that rounding would make infinite or zero, a 0 in
    /// [`Q1_0`](Self::Q1_0), and [`Ternarize::Absmean`], because the mean of ternary weights is not their scale. A
    /// value is not a trit, or there are more or fewer than the shape has.
    pub fn encode(self, trits: &[i8], rows: usize, cols: usize, scales: &Scales) -> Result<Vec<u8>, TensorError> {
        let name = self.name();
        let len = self.encoded_len(rows, cols)?;
        shape::check_count(rows, cols, trits.len())?;
        scales.check(name, rows, cols)?;
        if let Some((i, trit)) = trits.iter().enumerate().find(|(_, trit)| !(-1..=1).contains(*trit)) {
            return Err(TensorError::Weight { row: i / cols, what: format!("{trit} is not -1, 0 or +1") });
        }
        if let (Self::Q1_0(_), Some(i)) = (self, trits.iter().position(|trit| *trit == 0)) {
            let what = format!("{name} has no code for 0, only for -1 and +1; choose another encoding");
            return Err(TensorError::Weight { row: i / cols, what });
        }
        Ok(match self.form() {
            Form::Blocks(form) => {
                form.encode(trits, &scales.to_blocks(name, FloatKind::F16, rows, cols, form.blocks.weights)?)
            }
            Form::Bn(bn) => bn.encode(trits, cols, &scales.to_blocks(name, bn.scale_kind(), rows, cols, cols)?),
            Form::I2S(layout) => i2_s::encode(layout, trits, cols, scales.single(name)?),
            Form::Base3 => base3::encode(trits, rows, cols, scales.single(name)?),
            Form::Tl1(tile) => scales.single(name).map(|_| tl1::encode(tile, trits, cols))?,
            Form::Tl2(tile) => scales.single(name).map(|_| tl2::encode(tile, trits, rows, cols, len))?,
            Form::HfPacked => scales.single(name).map(|_| hf_packed::encode(trits))?,
            Form::Float(kind, Ternarize::Exact) => float::encode(kind, trits, scales.runs(rows, cols))?,
            Form::Float(_, Ternarize::Absmean) => {
                return Err(TensorError::Scales {
                    encoding: name,
                    rule: "the mean of ternary weights is not their scale; write them with Ternarize::Exact",
                });
            }
        })
    }

    /// Whether the scale is no part of the bytes.
    fn scale_is_elsewhere(self) -> bool {
        matches!(self, Self::HfPacked | Self::Tl1(_) | Self::Tl2(_))
    }

    fn form(self) -> Form {
        let form = |blocks, two_bit, pack| Form::Blocks(TritBlocks { blocks, two_bit, pack });
        match self {
            Self::Tq1_0 => form(tq1_0::TQ1_0, false, tq1_0::pack_tq1_0),
            Self::Tq2_0 => form(tq2_0::TQ2_0, true, tq2_0::pack),
            Self::Ptq1_0 => form(tq1_0::PTQ1_0, false, tq1_0::pack_ptq1_0),
            Self::Q1_0(group) => form(group.q1_0(), false, q_0::pack_q1_0),
            Self::Q2_0(group) => form(group.q2_0(), true, q_0::pack_q2_0),
            Self::Iq1Bn => Form::Bn(Bn::One),
            Self::Iq2Bn => Form::Bn(Bn::Two),
            Self::Iq2BnR4 => Form::Bn(Bn::TwoR4),
            Self::I2S(layout) => Form::I2S(layout),
            Self::Tl1(tile) => Form::Tl1(tile),
            Self::Tl2(tile) => Form::Tl2(tile),
            Self::Base3 => Form::Base3,
            Self::HfPacked => Form::HfPacked,
            Self::Float(kind, rule) => Form::Float(kind, rule),
        }
    }
}

/// [`TernaryEncoding`] with those of one make taken together.
enum Form {
    Blocks(TritBlocks),
    Bn(Bn),
    I2S(I2sLayout),
    Tl1(Tile),
    Tl2(Tile),
    Base3,
    HfPacked,
    Float(FloatKind, Ternarize),
}

/// Blocks whose codes are trits.
struct TritBlocks {
    blocks: Blocks,
    /// Whether codes are two bits, of which 3 is no trit.
    two_bit: bool,
    /// Writes trits as all the bytes of a block but the scale, which are zero.
    pack: fn(&[i8], &mut [u8]),
}

impl TritBlocks {
    /// Checks every code and returns the scales. `bytes` has the right length.
    fn validate(&self, cols: usize, bytes: &[u8]) -> Result<Scales, TensorError> {
        let Blocks { weights, bytes: len, .. } = self.blocks;
        let mut blocks = bytes.chunks_exact(len);
        if self.two_bit
            && let Some(block) = blocks.position(|block| two_bit::any_three(self.blocks.split(block).1))
        {
            return Err(TensorError::code_three(block * weights / cols));
        }
        Ok(Scales::of_blocks(scales::checked(self.blocks.scales(bytes))?, cols / weights, weights))
    }

    /// `scales` has one value per block.
    fn encode(&self, trits: &[i8], scales: &[f32]) -> Vec<u8> {
        let mut bytes = vec![0; scales.len() * self.blocks.bytes];
        let blocks = bytes.chunks_exact_mut(self.blocks.bytes).zip(trits.chunks_exact(self.blocks.weights));
        for ((block, trits), scale) in blocks.zip(scales) {
            (self.pack)(trits, self.blocks.start(block, f16::from_f32(*scale)));
        }
        bytes
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
    /// `scale` is the scale that lives outside the bytes, as the multiplier of the trits: needed for
    /// [`TernaryEncoding::HfPacked`], [`TernaryEncoding::Tl1`] and [`TernaryEncoding::Tl2`], not allowed for the others.
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
        let beside = match (encoding.scale_is_elsewhere(), scale) {
            (true, None) => return Err(TensorError::MissingScale { encoding: name }),
            (false, Some(_)) => return Err(TensorError::SurplusScale { encoding: name }),
            (_, scale) => scale.unwrap_or(0.0),
        };
        TensorError::check_scale(0, beside)?;
        let scales = match encoding.form() {
            Form::Blocks(form) => form.validate(cols, &bytes)?,
            Form::Bn(bn) => bn.validate(cols, &bytes)?,
            Form::I2S(layout) => i2_s::validate(layout, cols, &bytes)?,
            Form::Base3 => base3::validate(cols, &bytes)?,
            Form::Tl1(tile) => tl1::validate(tile, rows, cols, &bytes).map(|()| Scales::Tensor(beside))?,
            Form::Tl2(tile) => tl2::validate(tile, rows, cols, &bytes).map(|()| Scales::Tensor(beside))?,
            Form::HfPacked => hf_packed::validate(rows, cols, &bytes).map(|()| Scales::Tensor(beside))?,
            Form::Float(kind, rule) => float::validate(kind, rule, cols, &bytes)?,
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
    #[expect(clippy::indexing_slicing, reason = "the length was compared with the shape, and `row` with the rows")]
    pub fn read_row(&self, row: usize, out: &mut [i8]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "a row has {} columns", self.cols);
        match self.encoding.form() {
            Form::Blocks(TritBlocks { blocks, .. }) => {
                let len = self.cols / blocks.weights * blocks.bytes;
                blocks.read_codes(&self.bytes[row * len..][..len], out);
            }
            Form::Bn(bn) => bn.read_row(&self.bytes, row, out),
            Form::I2S(layout) => i2_s::read_row(layout, &self.bytes, row, out),
            Form::Base3 => base3::read_row(&self.bytes, row, out),
            Form::Tl1(tile) => tl1::read_row(tile, &self.bytes, row, out),
            Form::Tl2(tile) => tl2::read_row(tile, self.rows, &self.bytes, row, out),
            Form::HfPacked => hf_packed::read_row(self.rows, &self.bytes, row, out),
            Form::Float(kind, rule) => float::read_row(kind, rule, &self.scales, &self.bytes, row, out),
        }
    }
}

/// Shape and encoding; the bytes would fill screens.
impl fmt::Debug for TernaryMatrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TernaryMatrix({} {}×{}, {} bytes)", self.encoding, self.rows, self.cols, self.bytes.len())
    }
}
