//! A checkpoint of random weights, and a generator to make it from.

use std::collections::BTreeMap;

use tritwise_tensor::{
    Activation, Checkpoint, CheckpointError, Config, DenseEncoding, DenseMatrix, FloatKind, Inputs, LayerShape,
    LayerTensor, Norms, Rope, RopeScaling, RopeStyle, SlidingWindow, TensorId, Ternarize, TernaryEncoding,
    TernaryMatrix,
};

/// SplitMix64 (Steele, Lea, Flood 2014): three lines, and the same on every platform.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [-1, 1).
    pub(crate) fn symmetric(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn below(&mut self, n: u32) -> u32 {
        (self.next() % u64::from(n)) as u32
    }
}

/// A small BitNet: grouped-query attention, sub-norms, squared ReLU, tied head.
pub(crate) fn bitnet() -> Config {
    Config {
        architecture: "random".into(),
        hidden: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        ffn: 96,
        vocab: 50,
        context: 1024,
        norm_eps: 1e-5,
        input_norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, style: RopeStyle::Halves, scaling: RopeScaling::None },
        activation: Activation::SquaredRelu,
        window: None,
        norms: Norms { sub: true, ..Norms::default() },
        embedding_scale: 1.0,
        inputs: Inputs::Int8,
        pooling: None,
        tied: true,
    }
}

/// A small Llama: interleaved RoPE, SiLU, its own head, heads wider than the stream.
pub(crate) fn llama() -> Config {
    Config {
        heads: 3,
        kv_heads: 3,
        head_dim: 32,
        rope: Rope { theta: 500.0, style: RopeStyle::Interleaved, scaling: RopeScaling::Linear { factor: 2.0 } },
        activation: Activation::Silu,
        norms: Norms::default(),
        tied: false,
        ..bitnet()
    }
}

/// A small embedding model on Gemma's trunk: every norm there is, GELU, scaled embeddings, a window on the
/// first layer that ends inside an attention chunk, and YaRN on the other.
pub(crate) fn gemma() -> Config {
    let rope = |theta, scaling| Rope { theta, style: RopeStyle::Halves, scaling };
    let (factor, original_context, beta_fast, beta_slow) = (4.0, 64, 32.0, 1.0);
    let yarn = RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, magnitude: 1.1 };
    Config {
        head_dim: 32,
        rope: rope(10_000.0, yarn),
        window: Some(SlidingWindow { width: 21, layers: vec![true, false], rope: rope(500.0, RopeScaling::None) }),
        activation: Activation::GeluTanh,
        norms: Norms { sub: true, heads: true, inputs: true, post: true },
        input_norm_eps: 1e-3,
        embedding_scale: 8.0,
        ..bitnet()
    }
}

/// Random tensors for a configuration.
pub(crate) struct RandomCheckpoint {
    pub(crate) config: Config,
    /// Tensors as `f32`: matrices row-major, linear layers already `{-s, 0, s}`.
    pub(crate) tensors: BTreeMap<TensorId, Vec<f32>>,
}

impl RandomCheckpoint {
    pub(crate) fn new(config: Config, seed: u64) -> Self {
        let mut random = Random(seed);
        let hidden = config.hidden;
        let mut tensors = BTreeMap::new();
        let mut dense = |n: usize| (0..n).map(|_| random.symmetric()).collect::<Vec<_>>();
        tensors.insert(TensorId::TokenEmbedding, dense(config.vocab * hidden));
        tensors.insert(TensorId::OutputNorm, dense(hidden));
        if !config.tied {
            tensors.insert(TensorId::Output, dense(config.vocab * hidden));
        }
        let norm = |random: &mut Random, n: usize| (0..n).map(|_| 1.0 + 0.5 * random.symmetric()).collect::<Vec<_>>();
        let ternary = |random: &mut Random, n: usize| {
            let scale = 0.5 + 0.25 * random.symmetric();
            (0..n).map(|_| scale * (random.below(3) as f32 - 1.0)).collect::<Vec<_>>()
        };
        for layer in 0..config.layers {
            for tensor in LayerTensor::ALL {
                let value = match tensor.shape(&config) {
                    Some(LayerShape::Norm(len)) => norm(&mut random, len),
                    Some(LayerShape::Linear(rows, cols)) => ternary(&mut random, rows * cols),
                    None => continue,
                };
                tensors.insert(TensorId::Layer(layer, tensor), value);
            }
        }
        Self { config, tensors }
    }

    fn bytes(&self, id: TensorId, len: usize) -> Result<Vec<u8>, CheckpointError> {
        Ok(self.values(id, len)?.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn values(&self, id: TensorId, len: usize) -> Result<&[f32], CheckpointError> {
        let error = |message: &str| CheckpointError {
            file: "random".into(),
            tensor: Some(id.to_string()),
            message: message.into(),
        };
        let values = self.tensors.get(&id).ok_or_else(|| error("missing"))?;
        if values.len() == len { Ok(values) } else { Err(error("another length")) }
    }
}

impl Checkpoint for RandomCheckpoint {
    fn config(&self) -> &Config {
        &self.config
    }

    fn ternary(&self, id: TensorId, rows: usize, cols: usize) -> Result<TernaryMatrix<'_>, CheckpointError> {
        let encoding = TernaryEncoding::Float(FloatKind::F32, Ternarize::Exact);
        Ok(TernaryMatrix::new(encoding, rows, cols, self.bytes(id, rows * cols)?, None).expect("weights are ternary"))
    }

    fn dense(&self, id: TensorId, rows: usize, cols: usize) -> Result<DenseMatrix<'_>, CheckpointError> {
        Ok(DenseMatrix::new(DenseEncoding::F32, rows, cols, self.bytes(id, rows * cols)?).expect("sizes fit"))
    }

    fn vector(&self, id: TensorId, len: usize) -> Result<Vec<f32>, CheckpointError> {
        Ok(self.values(id, len)?.to_vec())
    }

    fn finish(&self) -> Result<(), CheckpointError> {
        Ok(())
    }
}
