//! Structurally valid checkpoints of random weights, for measuring speed.
//!
//! Weights are drawn as *bytes* that the encoding could have written, not
//! encoded from numbers, so that a file is made at the speed of the disk.

use std::io::Write;

use clap::ValueEnum;
use tritwise::Config;
use tritwise_gguf::{Writer, types};

use crate::Result;

/// The shape of a published model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// The name by which it is asked for.
    pub name: &'static str,
    architecture: &'static str,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    ffn: usize,
    vocab: usize,
    context: usize,
    theta: f32,
    tied: bool,
}

/// BitNet b1.58 2B-4T (its `config.json`), 1bitLLM's `large` and `3B`, Llama3-8B-1.58, and the smallest and the largest
/// shape of bitnet.cpp's figures (`utils/generate-dummy-bitnet-model.py`), the largest with the vocabulary of Llama 3.
pub const SHAPES: [Shape; 6] = [
    Shape {
        name: "2b-4t",
        architecture: "bitnet-b1.58",
        hidden: 2560,
        layers: 30,
        heads: 20,
        kv_heads: 5,
        head_dim: 128,
        ffn: 6912,
        vocab: 128_256,
        context: 4096,
        theta: 500_000.0,
        tied: true,
    },
    Shape {
        name: "large",
        architecture: "bitnet",
        hidden: 1536,
        layers: 24,
        heads: 16,
        kv_heads: 16,
        head_dim: 96,
        ffn: 4096,
        vocab: 32_002,
        context: 2048,
        theta: 10_000.0,
        tied: true,
    },
    Shape {
        name: "3b",
        architecture: "bitnet",
        hidden: 3200,
        layers: 26,
        heads: 32,
        kv_heads: 32,
        head_dim: 100,
        ffn: 8640,
        vocab: 32_002,
        context: 2048,
        theta: 10_000.0,
        tied: true,
    },
    Shape {
        name: "8b",
        architecture: "llama",
        hidden: 4096,
        layers: 32,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        ffn: 14_336,
        vocab: 128_256,
        context: 8192,
        theta: 500_000.0,
        tied: false,
    },
    Shape {
        name: "125m",
        architecture: "bitnet",
        hidden: 768,
        layers: 12,
        heads: 12,
        kv_heads: 12,
        head_dim: 64,
        ffn: 2048,
        vocab: 32_002,
        context: 2048,
        theta: 10_000.0,
        tied: true,
    },
    Shape {
        name: "100b",
        architecture: "bitnet",
        hidden: 8192,
        layers: 72,
        heads: 64,
        kv_heads: 64,
        head_dim: 128,
        ffn: 45_568,
        vocab: 128_256,
        context: 2048,
        theta: 10_000.0,
        tied: true,
    },
];

impl Shape {
    /// Whether a model has this shape.
    pub fn is(&self, config: &Config) -> bool {
        (self.hidden, self.layers, self.ffn, self.vocab) == (config.hidden, config.layers, config.ffn, config.vocab)
    }

    /// Transformer blocks.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// Ternary weights of all blocks.
    pub fn ternary_weights(&self) -> u64 {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        (self.layers * self.hidden * (2 * q + 2 * kv + 3 * self.ffn)) as u64
    }

    /// Weights of the output head.
    pub fn head_weights(&self) -> u64 {
        (self.vocab * self.hidden) as u64
    }
}

/// Encoding of the ternary matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Ternary {
    /// 2 bits per weight, as bitnet.cpp writes it.
    #[value(name = "i2_s")]
    I2S,
    /// 1.6875 bits per weight.
    #[value(name = "tq1_0")]
    Tq1_0,
    /// 2.0625 bits per weight.
    #[value(name = "tq2_0")]
    Tq2_0,
    /// 1.6 bits per weight, to be computed with in place.
    #[value(name = "base3")]
    Base3,
}

/// Encoding of the embedding and the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Head {
    /// 16 bits per weight.
    #[value(name = "f16")]
    F16,
    /// 6.5625 bits per weight.
    #[value(name = "q6_k")]
    Q6K,
}

/// Writes a checkpoint of `shape` to `sink`; `progress` is told the bytes written.
pub fn write(
    shape: &Shape,
    ternary: Ternary,
    head: Head,
    seed: u64,
    sink: impl Write,
    progress: &mut dyn FnMut(u64),
) -> Result {
    let tensors = tensors(shape, ternary, head)?;
    let mut writer = metadata(shape)?;
    if ternary == Ternary::Base3 {
        writer.metadata("general.alignment", 64u32)?;
    }
    for tensor in &tensors {
        writer.tensor(&tensor.name, &tensor.dims, tensor.kind.type_id(), tensor.bytes())?;
    }
    let mut data = writer.start(sink)?;
    let mut random = Random(seed);
    let mut buffer = Vec::new();
    for tensor in &tensors {
        let mut left = tensor.elements();
        while left > 0 {
            // A multiple of every block length (of 256 and of 320), and no more than a few megabytes.
            let now = left.min(1280 << 11);
            left -= now;
            buffer.clear();
            tensor.kind.fill(now, left == 0, &mut random, &mut buffer);
            data.append(&tensor.name, &buffer)?;
            progress(buffer.len() as u64);
        }
    }
    data.finish()?;
    Ok(())
}

/// Bytes of tensor data that [`write()`] will write, for a progress bar.
pub fn data_bytes(shape: &Shape, ternary: Ternary, head: Head) -> Result<u64> {
    Ok(tensors(shape, ternary, head)?.iter().map(Tensor::bytes).sum())
}

fn metadata(shape: &Shape) -> Result<Writer> {
    let mut writer = Writer::new();
    let a = shape.architecture;
    writer.metadata("general.architecture", a)?;
    writer.metadata("general.name", format!("random weights, {} shape", shape.name).as_str())?;
    for (key, value) in [
        ("context_length", shape.context),
        ("embedding_length", shape.hidden),
        ("block_count", shape.layers),
        ("feed_forward_length", shape.ffn),
        ("attention.head_count", shape.heads),
        ("attention.head_count_kv", shape.kv_heads),
        ("attention.key_length", shape.head_dim),
        ("attention.value_length", shape.head_dim),
        ("rope.dimension_count", shape.head_dim),
        ("vocab_size", shape.vocab),
    ] {
        writer.metadata(&format!("{a}.{key}"), u32::try_from(value)?)?;
    }
    writer.metadata(&format!("{a}.attention.layer_norm_rms_epsilon"), 1e-5f32)?;
    writer.metadata(&format!("{a}.rope.freq_base"), shape.theta)?;
    Ok(writer)
}

fn tensors(shape: &Shape, ternary: Ternary, head: Head) -> Result<Vec<Tensor>> {
    let (hidden, ffn) = (shape.hidden, shape.ffn);
    let (q, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let widest_block = match ternary {
        Ternary::I2S => 4,
        Ternary::Base3 => 1,
        Ternary::Tq1_0 | Ternary::Tq2_0 => 256,
    };
    if let Some(cols) = [hidden, ffn, q].into_iter().find(|cols| cols % widest_block != 0) {
        return Err(format!("{ternary:?} needs widths that are multiples of 256, and {} has {cols}", shape.name).into());
    }
    let table = match head {
        Head::F16 => Kind::F16,
        Head::Q6K if hidden % 256 == 0 => Kind::Q6K,
        Head::Q6K => return Err(format!("Q6_K needs a width that is a multiple of 256, not {hidden}").into()),
    };
    let matrix = |name: &str, rows, cols| Tensor::new(name, Kind::Ternary(ternary), &[cols, rows]);
    let norm = |name: &str, width| Tensor::new(name, Kind::Norm, &[width]);

    let mut all = vec![Tensor::new("token_embd.weight", table, &[hidden, shape.vocab])];
    if !shape.tied {
        all.push(Tensor::new("output.weight", table, &[hidden, shape.vocab]));
    }
    for n in 0..shape.layers {
        let name = |part: &str| format!("blk.{n}.{part}.weight");
        all.extend([
            norm(&name("attn_norm"), hidden),
            matrix(&name("attn_q"), q, hidden),
            matrix(&name("attn_k"), kv, hidden),
            matrix(&name("attn_v"), kv, hidden),
            matrix(&name("attn_output"), hidden, q),
            norm(&name("ffn_norm"), hidden),
            matrix(&name("ffn_gate"), ffn, hidden),
            matrix(&name("ffn_up"), ffn, hidden),
            matrix(&name("ffn_down"), hidden, ffn),
        ]);
        if shape.architecture != "llama" {
            all.extend([norm(&name("attn_sub_norm"), q), norm(&name("ffn_sub_norm"), ffn)]);
        }
    }
    all.push(norm("output_norm.weight", hidden));
    Ok(all)
}

struct Tensor {
    name: String,
    kind: Kind,
    /// Fastest first, as GGUF has it.
    dims: Vec<u64>,
}

impl Tensor {
    fn new(name: &str, kind: Kind, dims: &[usize]) -> Self {
        Self { name: name.into(), kind, dims: dims.iter().map(|&d| d as u64).collect() }
    }

    /// Elements, padding included.
    fn elements(&self) -> u64 {
        match (self.kind, &self.dims[..]) {
            (Kind::Ternary(Ternary::Base3), [cols, rows]) => rows.next_multiple_of(80) * cols.next_multiple_of(4),
            (_, dims) => dims.iter().product(),
        }
    }

    fn bytes(&self) -> u64 {
        let n = self.elements();
        match self.kind {
            Kind::Norm => 4 * n,
            Kind::F16 => 2 * n,
            Kind::Q6K => n / 256 * 210,
            Kind::Ternary(Ternary::I2S) => n / 4 + 32,
            Kind::Ternary(Ternary::Tq1_0) => n / 256 * 54,
            Kind::Ternary(Ternary::Tq2_0) => n / 256 * 66,
            Kind::Ternary(Ternary::Base3) => n / 5 + 64,
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Norm,
    F16,
    Q6K,
    Ternary(Ternary),
}

/// 1/32 as F16 and `f32`: a scale of the size that trained models have.
const SCALE_F16: [u8; 2] = 0x2800u16.to_le_bytes();
const SCALE_F32: [u8; 4] = 0.03125f32.to_le_bytes();

impl Kind {
    fn type_id(self) -> u32 {
        match self {
            Self::Norm => types::F32,
            Self::F16 => types::F16,
            Self::Q6K => types::Q6_K,
            Self::Ternary(Ternary::I2S) => types::I2_S,
            Self::Ternary(Ternary::Tq1_0) => types::TQ1_0,
            Self::Ternary(Ternary::Tq2_0) => types::TQ2_0,
            Self::Ternary(Ternary::Base3) => types::BASE3,
        }
    }

    /// Appends the bytes of the next `n` elements, `last` being the tensor's last ones.
    fn fill(self, n: u64, last: bool, random: &mut Random, out: &mut Vec<u8>) {
        match self {
            // Around 1: the upper half of [0.75, 1.25).
            Self::Norm => (0..n).for_each(|_| out.extend((0.75 + 0.5 * random.unit()).to_le_bytes())),
            // Both signs, exponents 2^-6 to 2^-5.
            Self::F16 => random.words(n.div_ceil(4), |word| {
                for half in word.to_le_bytes().chunks_exact(2) {
                    let bits = u16::from_le_bytes([half[0], half[1]]);
                    out.extend((0x2400 | (bits & 0x87ff)).to_le_bytes());
                }
            }),
            Self::Q6K => (0..n / 256).for_each(|_| {
                random.words(26, |word| out.extend(word.to_le_bytes()));
                out.extend(SCALE_F16);
            }),
            Self::Ternary(Ternary::I2S) => {
                random.words(n / 32, |word| out.extend(word.to_le_bytes().map(codes)));
                (0..n / 4 % 8).for_each(|_| out.push(codes(random.next() as u8)));
                if last {
                    out.extend(SCALE_F32);
                    out.resize(out.len() + 28, 0);
                }
            }
            Self::Ternary(Ternary::Tq2_0) => (0..n / 256).for_each(|_| {
                random.words(8, |word| out.extend(word.to_le_bytes().map(codes)));
                out.extend(SCALE_F16);
            }),
            // Whole lines of 64 bytes.
            Self::Ternary(Ternary::Base3) => {
                random.words(n / 40, |word| out.extend(word.to_le_bytes().map(five_trits)));
                if last {
                    out.extend(SCALE_F32);
                    out.resize(out.len() + 60, 0);
                }
            }
            Self::Ternary(Ternary::Tq1_0) => (0..n / 256).for_each(|_| {
                // 48 bytes of five trits, four bytes of four.
                random.words(6, |word| out.extend(word.to_le_bytes().map(|b| base3(u32::from(b) % 243))));
                (0..4).for_each(|_| out.push(base3(random.next() as u32 % 81 * 3)));
                out.extend(SCALE_F16);
            }),
        }
    }
}

/// A random byte as one that holds five trits: one of the 243 lowest.
fn five_trits(byte: u8) -> u8 {
    ((u16::from(byte) * 243) >> 8) as u8
}

/// A random byte as four 2-bit codes 0, 1 or 2: where both bits are set, one is cleared.
fn codes(byte: u8) -> u8 {
    byte & !((byte & 0x55) << 1 & byte)
}

/// Five base-3 digits as ggml's TQ1_0 stores them: a fixed-point fraction of 256.
fn base3(digits: u32) -> u8 {
    (256 * digits).div_ceil(243) as u8
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

    fn words(&mut self, n: u64, mut take: impl FnMut(u64)) {
        (0..n).for_each(|_| take(self.next()));
    }
}
