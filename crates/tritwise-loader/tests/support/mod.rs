//! Small checkpoints, put together in memory so that tests can take them apart.
#![allow(dead_code, reason = "each test file uses another part")]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value as Json, json};
use tritwise_gguf::{Header, Strings, Value, Writer, types};
use tritwise_loader::{Error, Options, Source};
use tritwise_tensor::{
    Activation, Checkpoint, Config, DenseEncoding, FloatKind, Group, I2sLayout, Inputs, LayerShape, LayerTensor, Norms,
    Rope, RopeScaling, RopeStyle, Scales, TensorId, Ternarize, TernaryEncoding,
};

pub(crate) const HIDDEN: usize = 256;
pub(crate) const LAYERS: usize = 2;
pub(crate) const HEADS: usize = 4;
pub(crate) const KV_HEADS: usize = 2;
pub(crate) const HEAD_DIM: usize = 64;
pub(crate) const FFN: usize = 512;
pub(crate) const VOCAB: usize = 40;

/// A tensor of the test model.
pub(crate) struct Tensor {
    pub(crate) id: TensorId,
    /// 1 for a norm.
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) linear: bool,
}

/// Every tensor of the test model.
pub(crate) fn tensors(layers: usize, norms: Norms, tied: bool) -> Vec<Tensor> {
    tensors_of(&Config {
        architecture: String::new(),
        hidden: HIDDEN,
        layers,
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_dim: HEAD_DIM,
        ffn: FFN,
        vocab: VOCAB,
        context: 1,
        norm_eps: 1e-5,
        input_norm_eps: 1e-5,
        rope: Rope { theta: 1e4, style: RopeStyle::Halves, scaling: RopeScaling::None },
        window: None,
        activation: Activation::Silu,
        norms,
        embedding_scale: 1.0,
        inputs: Inputs::Int8,
        tied,
        pooling: None,
    })
}

/// Every tensor of a model of this configuration.
pub(crate) fn tensors_of(config: &Config) -> Vec<Tensor> {
    let vector = |id, cols| Tensor { id, rows: 1, cols, linear: false };
    let matrix = |id, rows, cols, linear| Tensor { id, rows, cols, linear };
    let table = |id| matrix(id, config.vocab, config.hidden, false);
    let mut all = vec![table(TensorId::TokenEmbedding), vector(TensorId::OutputNorm, config.hidden)];
    if !config.tied {
        all.push(table(TensorId::Output));
    }
    for layer in 0..config.layers {
        for tensor in LayerTensor::ALL {
            let id = TensorId::Layer(layer, tensor);
            match tensor.shape(config) {
                Some(LayerShape::Norm(len)) => all.push(vector(id, len)),
                Some(LayerShape::Linear(rows, cols)) => all.push(matrix(id, rows, cols, true)),
                None => {}
            }
        }
    }
    all
}

/// Asks `source` for every tensor of the test model, and that it hold no more.
pub(crate) fn read_all(source: &Source) -> Result<(), Error> {
    for Tensor { id, rows, cols, linear } in tensors_of(source.config()) {
        match (rows, linear) {
            (1, _) => drop(source.vector(id, cols)?),
            (_, true) => drop(source.ternary(id, rows, cols)?),
            (_, false) => drop(source.dense(id, rows, cols)?),
        }
    }
    source.finish()
}

/// A different sequence for every tensor.
fn numbers(id: TensorId) -> impl Iterator<Item = u64> {
    let seed = format!("{id}")
        .bytes()
        .fold(1469598103934665603u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(1099511628211));
    std::iter::successors(Some(seed | 1), |x| {
        let x = x ^ (x << 13);
        let x = x ^ (x >> 7);
        Some(x ^ (x << 17))
    })
    .skip(8)
}

pub(crate) fn trits(id: TensorId, rows: usize, cols: usize) -> Vec<i8> {
    numbers(id).map(|x| (x >> 20) % 3).map(|x| x as i8 - 1).take(rows * cols).collect()
}

/// The multiplier of the trits; a power of two, so that no encoding rounds it.
pub(crate) fn scale(id: TensorId) -> f32 {
    0.25 * (1 << (numbers(id).next().unwrap_or_default() % 4)) as f32
}

/// Multiples of 1/16 in -4..4, which every float type holds.
pub(crate) fn floats(id: TensorId, len: usize) -> Vec<f32> {
    numbers(id).map(|x| ((x >> 20) % 128) as f32 / 16.0 - 4.0).take(len).collect()
}

pub(crate) fn linear_ids() -> impl Iterator<Item = Tensor> {
    tensors(LAYERS, Norms::default(), true).into_iter().filter(|tensor| tensor.linear)
}

/// Whether `source` gives the trits, scales and floats that belong to each tensor.
pub(crate) fn assert_reads_right(source: &Source, scale_of: impl Fn(TensorId) -> f32) {
    for Tensor { id, rows, cols, linear } in tensors_of(source.config()) {
        if linear {
            let matrix = source.ternary(id, rows, cols).unwrap();
            let mut found = vec![0; rows * cols];
            found.chunks_exact_mut(cols).enumerate().for_each(|(row, out)| matrix.read_row(row, out));
            assert_eq!(found, trits(id, rows, cols), "{id}");
            assert_eq!(*matrix.scales(), Scales::Tensor(scale_of(id)), "{id}");
        } else if rows == 1 {
            assert_eq!(source.vector(id, cols).unwrap(), floats(id, cols), "{id}");
        } else {
            let matrix = source.dense(id, rows, cols).unwrap();
            let mut found = vec![0.0; rows * cols];
            found.chunks_exact_mut(cols).enumerate().for_each(|(row, out)| matrix.read_row(row, out));
            assert_eq!(found, floats(id, rows * cols), "{id}");
        }
    }
    source.finish().unwrap();
}

// ---------------------------------------------------------------------------------------------------------------- GGUF

/// Name, shape (fastest first), type number, bytes.
pub(crate) type GgufTensor = (String, Vec<u64>, u32, Vec<u8>);

/// A GGUF file in parts.
#[derive(Clone)]
pub(crate) struct Gguf {
    pub(crate) metadata: Vec<(String, Value)>,
    pub(crate) tensors: Vec<GgufTensor>,
}

pub(crate) fn gguf_name(id: TensorId) -> String {
    match id {
        TensorId::TokenEmbedding => "token_embd.weight".into(),
        TensorId::OutputNorm => "output_norm.weight".into(),
        TensorId::Output => "output.weight".into(),
        TensorId::Layer(n, tensor) => {
            let name = match tensor {
                LayerTensor::AttnNorm => "attn_norm",
                LayerTensor::Query => "attn_q",
                LayerTensor::Key => "attn_k",
                LayerTensor::Value => "attn_v",
                LayerTensor::AttnSubNorm => "attn_sub_norm",
                LayerTensor::AttnOutput => "attn_output",
                LayerTensor::FfnNorm => "ffn_norm",
                LayerTensor::Gate => "ffn_gate",
                LayerTensor::Up => "ffn_up",
                LayerTensor::FfnSubNorm => "ffn_sub_norm",
                LayerTensor::Down => "ffn_down",
                other => unreachable!("the test model has no {other:?}"),
            };
            format!("blk.{n}.{name}.weight")
        }
    }
}

pub(crate) fn type_id(encoding: TernaryEncoding) -> u32 {
    match encoding {
        TernaryEncoding::I2S(_) => types::I2_S,
        TernaryEncoding::Tq1_0 => types::TQ1_0,
        TernaryEncoding::Tq2_0 => types::TQ2_0,
        TernaryEncoding::Ptq1_0 => types::PTQ1_0,
        TernaryEncoding::Q1_0(_) => types::Q1_0,
        TernaryEncoding::Q2_0(Group::Of128) => types::PQ2_0,
        TernaryEncoding::Q2_0(_) => types::Q2_0,
        TernaryEncoding::Iq1Bn => types::IQ1_BN,
        TernaryEncoding::Iq2Bn => types::IQ2_BN,
        TernaryEncoding::Iq2BnR4 => types::IQ2_BN_R4,
        TernaryEncoding::Tl1(_) => types::TL1,
        TernaryEncoding::Tl2(_) => types::TL2,
        TernaryEncoding::Base3 => types::BASE3,
        TernaryEncoding::Float(FloatKind::F32, _) => types::F32,
        TernaryEncoding::Float(FloatKind::F16, _) => types::F16,
        TernaryEncoding::Float(FloatKind::Bf16, _) => types::BF16,
        TernaryEncoding::HfPacked => panic!("not a GGUF type"),
    }
}

pub(crate) const I2S: TernaryEncoding = TernaryEncoding::I2S(I2sLayout::A);

impl Gguf {
    /// The test model under `architecture`; tied if it has sub-norms.
    pub(crate) fn new(architecture: &str, encoding: TernaryEncoding) -> Self {
        let sub_norms = architecture != "llama";
        let mut gguf = Self { metadata: Vec::new(), tensors: Vec::new() };
        gguf.set("general.architecture", architecture);
        for (key, value) in [
            ("embedding_length", HIDDEN),
            ("block_count", LAYERS),
            ("feed_forward_length", FFN),
            ("attention.head_count", HEADS),
            ("attention.head_count_kv", KV_HEADS),
            ("context_length", 64),
        ] {
            gguf.set(&format!("{architecture}.{key}"), value as u32);
        }
        gguf.set(&format!("{architecture}.attention.layer_norm_rms_epsilon"), 1e-5f32);
        gguf.set(&format!("{architecture}.rope.freq_base"), 500_000f32);
        let norms = Norms { sub: sub_norms, ..Norms::default() };
        for Tensor { id, rows, cols, linear } in tensors(LAYERS, norms, sub_norms) {
            let name = gguf_name(id);
            if linear {
                let bytes = encoding.encode(&trits(id, rows, cols), rows, cols, &Scales::Tensor(scale(id))).unwrap();
                gguf.tensors.push((name, vec![cols as u64, rows as u64], type_id(encoding), bytes));
            } else {
                let bytes = DenseEncoding::F32.encode(&floats(id, rows * cols), rows, cols).unwrap();
                let dims = if rows == 1 { vec![cols as u64] } else { vec![cols as u64, rows as u64] };
                gguf.tensors.push((name, dims, types::F32, bytes));
            }
        }
        gguf
    }

    /// With the key, in place of an old value if there is one.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.metadata.retain(|(existing, _)| existing != key);
        self.metadata.push((key.to_owned(), value.into()));
    }

    pub(crate) fn remove_key(&mut self, key: &str) {
        let before = self.metadata.len();
        self.metadata.retain(|(existing, _)| existing != key);
        assert_eq!(self.metadata.len() + 1, before, "{key}");
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut GgufTensor {
        self.tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap()
    }

    pub(crate) fn remove_tensor(&mut self, name: &str) {
        let before = self.tensors.len();
        self.tensors.retain(|tensor| tensor.0 != name);
        assert_eq!(self.tensors.len() + 1, before, "{name}");
    }

    pub(crate) fn add_tensor(&mut self, name: &str, dims: &[u64], type_id: u32, bytes: Vec<u8>) {
        self.tensors.push((name.to_owned(), dims.to_vec(), type_id, bytes));
    }

    /// With a SentencePiece vocabulary of as many tokens as the embedding has rows.
    pub(crate) fn with_tokenizer(mut self) -> Self {
        let words = ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "▁b", "ab"].map(str::to_owned);
        let rest = (words.len()..VOCAB).map(|i| format!("w{i}"));
        let tokens: Strings = words.into_iter().chain(rest).collect();
        let types: Vec<i32> = (0..VOCAB).map(|i| [2, 3, 3].get(i).copied().unwrap_or(1)).collect();
        self.set("tokenizer.ggml.model", "llama");
        self.set("tokenizer.ggml.tokens", tokens);
        self.set("tokenizer.ggml.scores", (0..VOCAB).map(|i| -(i as f32)).collect::<Vec<_>>());
        self.set("tokenizer.ggml.token_type", types);
        self.set("tokenizer.ggml.bos_token_id", 1u32);
        self.set("tokenizer.ggml.eos_token_id", 2u32);
        self.set("tokenizer.chat_template", "{{ messages }}");
        self
    }

    /// With a byte-level vocabulary: the bytes that matter, two merges and two control tokens.
    pub(crate) fn with_byte_level_tokenizer(mut self) -> Self {
        let words = [
            "a",
            "b",
            "c",
            "Ġ",
            "Ċ",
            "ĉ",
            "1",
            "2",
            "Ã",
            "¶",
            "<",
            ">",
            "s",
            "/",
            "|",
            "ab",
            "Ġa",
            "<|begin|>",
            "</s>",
        ];
        let words = words.map(str::to_owned);
        let types: Vec<i32> = (0..VOCAB)
            .map(|i| match i {
                17 | 18 => 3,
                _ if i < words.len() => 1,
                _ => 5,
            })
            .collect();
        let rest = (words.len()..VOCAB).map(|i| format!("[PAD{i}]"));
        let tokens: Strings = words.into_iter().chain(rest).collect();
        self.set("tokenizer.ggml.model", "gpt2");
        self.set("tokenizer.ggml.pre", "qwen2");
        self.set("tokenizer.ggml.tokens", tokens);
        self.set("tokenizer.ggml.token_type", types);
        self.set("tokenizer.ggml.merges", ["a b", "Ġ a"].into_iter().collect::<Strings>());
        self.set("tokenizer.ggml.bos_token_id", 17u32);
        self.set("tokenizer.ggml.eos_token_id", 18u32);
        self.set("tokenizer.ggml.add_bos_token", true);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        for (key, value) in &self.metadata {
            writer.metadata(key, value.clone()).unwrap();
        }
        for (name, dims, type_id, bytes) in &self.tensors {
            writer.tensor(name, dims, *type_id, bytes.len() as u64).unwrap();
        }
        let mut data = writer.start(Vec::new()).unwrap();
        for (name, _, _, bytes) in &self.tensors {
            data.append(name, bytes).unwrap();
        }
        let bytes = data.finish().unwrap();
        Header::parse(&bytes).expect("what is tested here is not the container");
        bytes
    }

    pub(crate) fn open(&self) -> Result<Source, Error> {
        self.open_with(&Options::default())
    }

    pub(crate) fn open_with(&self, options: &Options) -> Result<Source, Error> {
        tritwise_loader::open_bytes("test.gguf", self.bytes(), options)
    }

    /// What is said when the file is opened and read.
    pub(crate) fn refusal(&self) -> String {
        match self.open().and_then(|source| read_all(&source)) {
            Ok(()) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

// -------------------------------------------------------------------------------------------------------------- folders

/// A Hugging Face folder in parts.
#[derive(Clone)]
pub(crate) struct Folder {
    pub(crate) config: Json,
    /// Name → dtype, shape, bytes.
    pub(crate) tensors: BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>,
}

/// How the linear layers of a folder are stored.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Stored {
    /// Packed, with `weight_scale` = scale.
    Multiply,
    /// Packed, with `weight_scale` = 1 / scale.
    Divide,
    /// Floats that are scale times trit.
    Floats(FloatKind),
}

pub(crate) fn hf_name(id: TensorId) -> String {
    match id {
        TensorId::TokenEmbedding => "model.embed_tokens.weight".into(),
        TensorId::OutputNorm => "model.norm.weight".into(),
        TensorId::Output => "lm_head.weight".into(),
        TensorId::Layer(n, tensor) => {
            let name = match tensor {
                LayerTensor::AttnNorm => "input_layernorm",
                LayerTensor::Query => "self_attn.q_proj",
                LayerTensor::Key => "self_attn.k_proj",
                LayerTensor::Value => "self_attn.v_proj",
                LayerTensor::AttnSubNorm => "self_attn.attn_sub_norm",
                LayerTensor::AttnOutput => "self_attn.o_proj",
                LayerTensor::FfnNorm => "post_attention_layernorm",
                LayerTensor::Gate => "mlp.gate_proj",
                LayerTensor::Up => "mlp.up_proj",
                LayerTensor::FfnSubNorm => "mlp.ffn_sub_norm",
                LayerTensor::Down => "mlp.down_proj",
                other => unreachable!("the test model has no {other:?}"),
            };
            format!("model.layers.{n}.{name}.weight")
        }
    }
}

impl Folder {
    /// The test model as `BitNetForCausalLM` (tied) or `LlamaForCausalLM`.
    pub(crate) fn new(architecture: &str, stored: Stored) -> Self {
        let bitnet = architecture != "LlamaForCausalLM";
        let mut config = json!({
            "architectures": [architecture],
            "model_type": if bitnet { "bitnet" } else { "llama" },
            "hidden_size": HIDDEN,
            "intermediate_size": FFN,
            "vocab_size": VOCAB,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500_000.0,
            "hidden_act": if bitnet { "relu2" } else { "silu" },
            "tie_word_embeddings": bitnet,
        });
        match stored {
            Stored::Multiply => {
                config["quantization_config"] =
                    json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"});
            }
            Stored::Divide => config["quantization_config"] = json!({"quant_method": "bitnet"}),
            Stored::Floats(_) => {}
        }
        let mut folder = Self { config, tensors: BTreeMap::new() };
        for Tensor { id, rows, cols, linear } in tensors(LAYERS, Norms { sub: bitnet, ..Norms::default() }, bitnet) {
            folder.put(id, rows, cols, linear, stored);
        }
        folder
    }

    fn put(&mut self, id: TensorId, rows: usize, cols: usize, linear: bool, stored: Stored) {
        let name = hf_name(id);
        if !linear {
            let shape = if rows == 1 { vec![cols] } else { vec![rows, cols] };
            let bytes = DenseEncoding::Bf16.encode(&floats(id, rows * cols), rows, cols).unwrap();
            self.tensors.insert(name, (safetensors::Dtype::BF16, shape, bytes));
            return;
        }
        let (encoding, dtype, stored_rows) = match stored {
            Stored::Floats(kind) => {
                let dtype = match kind {
                    FloatKind::F32 => safetensors::Dtype::F32,
                    FloatKind::F16 => safetensors::Dtype::F16,
                    FloatKind::Bf16 => safetensors::Dtype::BF16,
                };
                (TernaryEncoding::Float(kind, Ternarize::Exact), dtype, rows)
            }
            Stored::Multiply | Stored::Divide => (TernaryEncoding::HfPacked, safetensors::Dtype::U8, rows / 4),
        };
        let scale = scale(id);
        let bytes = encoding.encode(&trits(id, rows, cols), rows, cols, &Scales::Tensor(scale)).unwrap();
        self.tensors.insert(name.clone(), (dtype, vec![stored_rows, cols], bytes));
        if let Stored::Multiply | Stored::Divide = stored {
            let stored_scale = if stored == Stored::Divide { 1.0 / scale } else { scale };
            let bytes = DenseEncoding::Bf16.encode(&[stored_scale], 1, 1).unwrap();
            self.tensors.insert(format!("{name}_scale"), (safetensors::Dtype::BF16, vec![1], bytes));
        }
    }

    /// One safetensors file of the tensors that `choose` picks.
    pub(crate) fn safetensors(&self, choose: impl Fn(&str) -> bool) -> Vec<u8> {
        let views = self.tensors.iter().filter(|(name, _)| choose(name)).map(|(name, (dtype, shape, bytes))| {
            (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        safetensors::serialize(views, None).unwrap()
    }

    pub(crate) fn write(&self, folder: &Path) {
        std::fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        std::fs::write(folder.join("model.safetensors"), self.safetensors(|_| true)).unwrap();
    }

    pub(crate) fn open(&self) -> Result<Source, Error> {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        // The files stay readable while they are mapped.
        tritwise_loader::open(folder.path(), &Options::default())
    }

    /// What is said when the folder is opened and read.
    pub(crate) fn refusal(&self) -> String {
        match self.open().and_then(|source| read_all(&source)) {
            Ok(()) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

/// Runs every case and reports all that do not say what they should.
pub(crate) fn assert_refusals(cases: Vec<(&str, String, &[&str])>) {
    let wrong: Vec<String> = cases
        .iter()
        .filter(|(_, message, words)| !words.iter().all(|word| message.contains(word)))
        .map(|(case, message, words)| format!("{case}: expected {words:?} in: {message}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (case, message, words) in &cases {
        assert!(!words.is_empty(), "{case} expects nothing");
        assert!(message.len() < 1000, "{case}: {message}");
    }
}
