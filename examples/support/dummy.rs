//! Checkpoints of random weights, for measuring speed and memory without downloading anything.
//!
//! A dummy is a [`Checkpoint`] that makes each tensor when it is asked for, in the encoding that is to be written; the
//! loader writes it as it would any other. A tensor's numbers follow from the seed and its role alone, so
//! the same seed gives the same file however many threads make it.

use tritwise::Config;
use tritwise::tensor::{
    Checkpoint, CheckpointError, DenseEncoding, DenseMatrix, FloatKind, LayerShape, LayerTensor, Scales, TensorError,
    TensorId, Ternarize, TernaryEncoding, TernaryMatrix,
};

/// A checkpoint of random weights.
#[derive(Debug)]
pub struct Dummy {
    /// The graph and its shape.
    pub config: Config,
    /// Of the linear layers; master weights are `Float(Bf16, Absmean)`.
    pub linear: TernaryEncoding,
    /// Of the embedding and the head.
    pub table: DenseEncoding,
    /// The same seed gives the same weights.
    pub seed: u64,
}

/// Master weights of a training, to be made ternary by their mean.
pub const MASTERS: TernaryEncoding = TernaryEncoding::Float(FloatKind::Bf16, Ternarize::Absmean);

/// A scale of the size that trained models have, which no encoding rounds.
const SCALE: f32 = 0.03125;

impl Dummy {
    /// Bytes of all tensors together.
    ///
    /// # Errors
    /// An encoding cannot hold one of the shapes.
    pub fn bytes(&self) -> Result<u64, TensorError> {
        let &Config { hidden, vocab, layers, tied, .. } = &self.config;
        let tables = if tied { 1 } else { 2 } * self.table.encoded_len(vocab, hidden)?;
        let mut block = 0;
        for shape in LayerTensor::ALL.into_iter().filter_map(|tensor| tensor.shape(&self.config)) {
            block += match shape {
                LayerShape::Norm(len) => 4 * len,
                LayerShape::Linear(rows, cols) => self.linear.encoded_len(rows, cols)?,
            };
        }
        Ok((tables + layers * block + 4 * hidden) as u64)
    }

    fn random(&self, id: TensorId) -> Random {
        // FNV-1a of the role's name.
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        Random(id.to_string().bytes().fold(self.seed ^ 0xcbf2_9ce4_8422_2325, mix))
    }

    fn matrix(&self, id: TensorId, rows: usize, cols: usize) -> Result<TernaryMatrix<'static>, TensorError> {
        let mut random = self.random(id);
        if self.linear == MASTERS {
            return TernaryMatrix::new(MASTERS, rows, cols, masters(rows * cols, &mut random), None);
        }
        let trits =
            if holds_zeros(self.linear) { trits(rows * cols, &mut random) } else { signs(rows * cols, &mut random) };
        let bytes = self.linear.encode(&trits, rows, cols, &Scales::Tensor(SCALE))?;
        let beside = (self.linear == TernaryEncoding::HfPacked).then_some(SCALE);
        TernaryMatrix::new(self.linear, rows, cols, bytes, beside)
    }
}

impl Checkpoint for Dummy {
    fn config(&self) -> &Config {
        &self.config
    }

    fn ternary(&self, id: TensorId, rows: usize, cols: usize) -> Result<TernaryMatrix<'_>, CheckpointError> {
        self.matrix(id, rows, cols).map_err(|error| refuse(id, &error))
    }

    fn dense(&self, id: TensorId, rows: usize, cols: usize) -> Result<DenseMatrix<'_>, CheckpointError> {
        let bytes = self.table.encoded_len(rows, cols).map(|len| table(self.table, len, &mut self.random(id)));
        let matrix = bytes.and_then(|bytes| DenseMatrix::new(self.table, rows, cols, bytes));
        matrix.map_err(|error| refuse(id, &error))
    }

    /// Around 1: in 0.75 .. 1.25.
    fn vector(&self, id: TensorId, len: usize) -> Result<Vec<f32>, CheckpointError> {
        let mut random = self.random(id);
        Ok((0..len).map(|_| 0.75 + 0.5 * random.unit()).collect())
    }

    fn finish(&self) -> Result<(), CheckpointError> {
        Ok(())
    }
}

fn refuse(id: TensorId, error: &TensorError) -> CheckpointError {
    CheckpointError {
        file: "random weights".into(),
        tensor: Some(id.to_string()),
        message: format!("{error}; choose another encoding or shape"),
    }
}

/// Whether the encoding has a code for 0; one for binary weights has not.
fn holds_zeros(encoding: TernaryEncoding) -> bool {
    // A shape that every encoding holds.
    const ROWS: usize = 4;
    const COLS: usize = 256;
    encoding.encode(&[0; ROWS * COLS], ROWS, COLS, &Scales::Tensor(SCALE)).is_ok()
}

/// The five trits that a byte below 243 holds.
const FIVE: [[i8; 5]; 243] = {
    let mut table = [[0; 5]; 243];
    let mut byte = 0;
    while byte < 243 {
        let mut rest = byte;
        let mut at = 0;
        while at < 5 {
            table[byte][at] = (rest % 3) as i8 - 1;
            rest /= 3;
            at += 1;
        }
        byte += 1;
    }
    table
};

fn trits(n: usize, random: &mut Random) -> Vec<i8> {
    let mut trits = vec![0; n];
    for out in trits.chunks_mut(40) {
        let bytes = random.next().to_le_bytes();
        for (out, byte) in out.chunks_mut(5).zip(bytes) {
            // As good as even: one of 243 from 256.
            let five = &FIVE[usize::from(byte) * 243 / 256];
            out.copy_from_slice(&five[..out.len()]);
        }
    }
    trits
}

fn signs(n: usize, random: &mut Random) -> Vec<i8> {
    let mut signs = vec![0; n];
    for out in signs.chunks_mut(64) {
        let bits = random.next();
        out.iter_mut().enumerate().for_each(|(i, sign)| *sign = if bits >> i & 1 == 1 { 1 } else { -1 });
    }
    signs
}

/// BF16, even in -1/8 .. 1/8: a quarter of them become zeros.
fn masters(n: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; 2 * n];
    for out in bytes.chunks_mut(8) {
        let word = random.next().to_le_bytes();
        for (out, half) in out.chunks_exact_mut(2).zip(word.chunks_exact(2)) {
            let value = f32::from(i16::from_le_bytes([half[0], half[1]])) / 262_144.0;
            out.copy_from_slice(&value.to_bits().to_le_bytes()[2..]);
        }
    }
    bytes
}

/// A table as bytes that its encoding could have written.
fn table(encoding: DenseEncoding, len: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for out in bytes.chunks_mut(8) {
        out.copy_from_slice(&random.next().to_le_bytes()[..out.len()]);
    }
    // Floats keep their sign and mantissa and get an exponent of 2^-6 or 2^-5; blocks get a scale.
    let scale = |block: &mut [u8], at: usize| block[at..at + 2].copy_from_slice(&0x2800u16.to_le_bytes());
    match encoding {
        DenseEncoding::F16 => bytes.chunks_exact_mut(2).for_each(|b| b[1] = b[1] & 0x87 | 0x24),
        DenseEncoding::Bf16 => bytes.chunks_exact_mut(2).for_each(|b| b[1] = b[1] & 0x80 | 0x3c),
        DenseEncoding::F32 => bytes.chunks_exact_mut(4).for_each(|b| b[3] = b[3] & 0x80 | 0x3c),
        DenseEncoding::Q8_0 => bytes.chunks_exact_mut(34).for_each(|block| scale(block, 0)),
        DenseEncoding::Q6K => bytes.chunks_exact_mut(210).for_each(|block| scale(block, 208)),
        DenseEncoding::Q4_0 => bytes.chunks_exact_mut(18).for_each(|block| scale(block, 0)),
        DenseEncoding::Q4K => {
            bytes.chunks_exact_mut(144).for_each(|block| [0, 2].into_iter().for_each(|at| scale(block, at)))
        }
        other => unreachable!("tables are not written in {}", other.name()),
    }
    bytes
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }
}
