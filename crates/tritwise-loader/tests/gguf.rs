//! GGUF files: what is understood, and how.

mod support;

use support::*;
use tritwise_gguf::types;
use tritwise_loader::{Activation, Options};
use tritwise_tensor::{
    Checkpoint, DenseEncoding, FloatKind, Group, I2sLayout, RopeScaling, RopeStyle, Scales, TensorId, Ternarize,
    TernaryEncoding,
};

#[test]
fn every_ternary_encoding_reads_back() {
    let float = |kind| TernaryEncoding::Float(kind, Ternarize::Exact);
    for encoding in [
        I2S,
        TernaryEncoding::Tq1_0,
        TernaryEncoding::Tq2_0,
        TernaryEncoding::Ptq1_0,
        TernaryEncoding::Q2_0(Group::Of64),
        TernaryEncoding::Q2_0(Group::Of128),
        TernaryEncoding::Iq1Bn,
        TernaryEncoding::Iq2Bn,
        TernaryEncoding::Iq2BnR4,
        TernaryEncoding::Base3,
        float(FloatKind::F32),
        float(FloatKind::F16),
        float(FloatKind::Bf16),
    ] {
        for architecture in ["bitnet-b1.58", "llama"] {
            assert_reads_right(&Gguf::new(architecture, encoding).open().unwrap(), scale);
        }
    }
}

#[test]
fn i2s_layouts_by_option() {
    for layout in [I2sLayout::B, I2sLayout::C, I2sLayout::D] {
        let gguf = Gguf::new("bitnet-b1.58", TernaryEncoding::I2S(layout));
        let mut options = Options::default();
        options.i2s_layout = layout;
        assert_reads_right(&gguf.open_with(&options).unwrap(), scale);
    }
}

#[test]
fn every_table_encoding_is_accepted() {
    let written = [
        (DenseEncoding::F32, types::F32),
        (DenseEncoding::F16, types::F16),
        (DenseEncoding::Bf16, types::BF16),
        (DenseEncoding::Q8_0, types::Q8_0),
        (DenseEncoding::Q6K, types::Q6_K),
        (DenseEncoding::Q4_0, types::Q4_0),
        (DenseEncoding::Q4K, types::Q4_K),
    ];
    let encode =
        |encoding: DenseEncoding| encoding.encode(&floats(TensorId::Output, VOCAB * HIDDEN), VOCAB, HIDDEN).unwrap();
    let written = written.map(|(encoding, type_id)| (encoding, type_id, encode(encoding)));
    // Those that are only read: of zeros, but for Q1_0, of which a bit that is 0 is a -0.
    let read = [
        (DenseEncoding::Iq4Nl, types::IQ4_NL),
        (DenseEncoding::Q1_0(Group::Of128), types::Q1_0),
        (DenseEncoding::Q1_0(Group::Of32), types::Q1_0_OF_32),
        (DenseEncoding::Q2_0(Group::Of64), types::Q2_0),
        (DenseEncoding::Q2_0(Group::Of128), types::Q2_0),
        (DenseEncoding::Ptq1_0, types::PTQ1_0),
        (DenseEncoding::Tq1_0, types::TQ1_0),
        (DenseEncoding::Tq2_0, types::TQ2_0),
    ];
    let zeros = |encoding: DenseEncoding| vec![0; encoding.encoded_len(VOCAB, HIDDEN).unwrap()];
    let read = read.map(|(encoding, type_id)| (encoding, type_id, zeros(encoding)));
    for (encoding, type_id, bytes) in written.into_iter().chain(read) {
        let mut gguf = Gguf::new("llama", I2S);
        for name in ["token_embd.weight", "output.weight"] {
            let tensor = gguf.tensor(name);
            (tensor.2, tensor.3) = (type_id, bytes.clone());
        }
        let source = gguf.open().unwrap();
        read_all(&source).unwrap();
        assert_eq!(source.dense(TensorId::Output, VOCAB, HIDDEN).unwrap().encoding(), encoding);
    }
}

#[test]
fn norms_of_half_precision() {
    for (encoding, type_id) in [(DenseEncoding::F16, types::F16), (DenseEncoding::Bf16, types::BF16)] {
        let mut gguf = Gguf::new("bitnet", I2S);
        let tensor = gguf.tensor("output_norm.weight");
        (tensor.2, tensor.3) = (type_id, encoding.encode(&floats(TensorId::OutputNorm, HIDDEN), 1, HIDDEN).unwrap());
        assert_reads_right(&gguf.open().unwrap(), scale);
    }
}

#[test]
fn configuration() {
    let source = Gguf::new("llama", I2S).open().unwrap();
    let config = source.config();
    assert_eq!((config.hidden, config.layers, config.heads, config.kv_heads), (HIDDEN, LAYERS, HEADS, KV_HEADS));
    assert_eq!((config.head_dim, config.ffn, config.vocab, config.context), (HEAD_DIM, FFN, VOCAB, 64));
    assert_eq!((config.norm_eps, config.rope.theta, &config.rope.scaling), (1e-5, 500_000.0, &RopeScaling::None));
    assert!(!config.tied);
    assert_eq!(source.name(), "test.gguf");
    assert!(source.tokenizer().unwrap().is_none());
}

#[test]
fn architectures_differ_in_rope_norms_and_activation() {
    use Activation::{Silu, SquaredRelu};
    use RopeStyle::{Halves, Interleaved};
    for (architecture, style, sub_norms, activation) in [
        ("bitnet-b1.58", Halves, true, SquaredRelu),
        ("bitnet-25", Halves, true, SquaredRelu),
        ("bitnet", Halves, true, Silu),
        ("llama", Interleaved, false, Silu),
    ] {
        let source = Gguf::new(architecture, I2S).open().unwrap();
        let config = source.config();
        let found = (config.architecture.as_str(), config.rope.style, config.norms.sub, config.activation);
        assert_eq!(found, (architecture, style, sub_norms, activation));
        read_all(&source).unwrap();
    }
}

#[test]
fn activation_by_key_and_by_option() {
    let mut gguf = Gguf::new("bitnet", I2S);
    gguf.set("bitnet.hidden_activation", "relu2");
    assert_eq!(gguf.open().unwrap().config().activation, Activation::SquaredRelu);
    gguf.set("bitnet.hidden_activation", "silu");
    assert_eq!(gguf.open().unwrap().config().activation, Activation::Silu);
    let mut options = Options::default();
    options.activation = Some(Activation::SquaredRelu);
    assert_eq!(gguf.open_with(&options).unwrap().config().activation, Activation::SquaredRelu);
    gguf.set("bitnet.hidden_activation", "tanh");
    assert_refusals(vec![("tanh", gguf.refusal(), &["bitnet.hidden_activation", "tanh", "silu"])]);
}

#[test]
fn the_2b_model_under_the_name_of_its_elders_has_squared_relu() {
    let mut gguf = Gguf::new("bitnet", I2S);
    gguf.set("bitnet.embedding_length", 2560u32);
    gguf.set("bitnet.feed_forward_length", 6912u32);
    gguf.set("bitnet.attention.head_count", 20u32);
    gguf.set("bitnet.attention.head_count_kv", 5u32);
    *gguf.tensor("token_embd.weight") =
        ("token_embd.weight".into(), vec![32, 128_256], types::Q8_0, vec![0; 34 * 128_256]);
    assert_eq!(gguf.open().unwrap().config().activation, Activation::SquaredRelu);
    gguf.set("bitnet.feed_forward_length", 6656u32);
    assert_eq!(gguf.open().unwrap().config().activation, Activation::Silu);
}

#[test]
fn numbers_of_other_integer_types_and_per_layer() {
    let mut gguf = Gguf::new("bitnet-b1.58", I2S);
    gguf.set("bitnet-b1.58.embedding_length", HIDDEN as u64);
    gguf.set("bitnet-b1.58.block_count", LAYERS as i32);
    gguf.set("bitnet-b1.58.attention.head_count", vec![HEADS as i32; LAYERS]);
    gguf.set("bitnet-b1.58.attention.head_count_kv", vec![KV_HEADS as u32; LAYERS]);
    gguf.set("bitnet-b1.58.feed_forward_length", vec![FFN as u64; LAYERS]);
    assert_reads_right(&gguf.open().unwrap(), scale);
}

#[test]
fn keys_that_say_what_is_built_anyway() {
    let mut gguf = Gguf::new("llama", I2S);
    gguf.set("llama.rope.dimension_count", HEAD_DIM as u32);
    gguf.set("llama.attention.key_length", HEAD_DIM as u32);
    gguf.set("llama.attention.value_length", HEAD_DIM as u32);
    gguf.set("llama.attention.sliding_window", 64u32);
    gguf.set("llama.attention.scale", 0.125f32);
    gguf.set("llama.final_logit_softcapping", 0f32);
    gguf.set("llama.expert_count", 0u32);
    gguf.set("llama.logit_scale", 1f32);
    gguf.set("llama.attention.causal", true);
    gguf.set("llama.rope.scaling.type", "none");
    gguf.set("llama.rope.scale_linear", 1f32);
    gguf.set("llama.vocab_size", VOCAB as u32);
    gguf.set("split.count", 1u16);
    let ones = DenseEncoding::F32.encode(&[1.0; HEAD_DIM / 2], 1, HEAD_DIM / 2).unwrap();
    gguf.add_tensor("rope_freqs.weight", &[HEAD_DIM as u64 / 2], types::F32, ones);
    assert_reads_right(&gguf.open().unwrap(), scale);
}

#[test]
fn linear_rope_scaling() {
    let mut gguf = Gguf::new("llama", I2S);
    gguf.set("llama.rope.scaling.type", "linear");
    gguf.set("llama.rope.scaling.factor", 4f32);
    assert_eq!(gguf.open().unwrap().config().rope.scaling, RopeScaling::Linear { factor: 4.0 });
    let mut gguf = Gguf::new("llama", I2S);
    gguf.set("llama.rope.scale_linear", 2f32);
    assert_eq!(gguf.open().unwrap().config().rope.scaling, RopeScaling::Linear { factor: 2.0 });
    let mut gguf = Gguf::new("llama", I2S);
    gguf.set("llama.rope.scaling.factor", 4f32);
    assert_eq!(
        gguf.open().unwrap().config().rope.scaling,
        RopeScaling::Linear { factor: 4.0 },
        "linear without its name"
    );
    let mut gguf = Gguf::new("llama", I2S);
    gguf.set("llama.rope.scaling.type", "linear");
    gguf.set("llama.rope.scaling.factor", 0f32);
    assert_eq!(gguf.open().unwrap().config().rope.scaling, RopeScaling::None, "0 is none");
}

#[test]
fn defaults_of_absent_keys() {
    let mut gguf = Gguf::new("llama", I2S);
    gguf.remove_key("llama.rope.freq_base");
    gguf.remove_key("llama.attention.head_count_kv");
    let source = gguf.open().unwrap();
    assert_eq!((source.config().rope.theta, source.config().kv_heads), (10_000.0, HEADS));
}

#[test]
fn master_weights_become_ternary_by_their_mean() {
    let mut gguf = Gguf::new("bitnet", I2S);
    let mut expected = Vec::new();
    for Tensor { id, rows, cols, .. } in linear_ids() {
        let values = floats(id, rows * cols);
        let mean = values.iter().map(|value| f64::from(value.abs())).sum::<f64>() / values.len() as f64;
        let trits: Vec<i8> =
            values.iter().map(|value| (f64::from(*value) / mean).round_ties_even().clamp(-1.0, 1.0) as i8).collect();
        let tensor = gguf.tensor(&gguf_name(id));
        (tensor.2, tensor.3) = (types::F32, DenseEncoding::F32.encode(&values, rows, cols).unwrap());
        expected.push((id, rows, cols, trits, mean));
    }
    let source = gguf.open().unwrap();
    for (id, rows, cols, trits, mean) in expected {
        let matrix = source.ternary(id, rows, cols).unwrap();
        let mut found = vec![0; rows * cols];
        found.chunks_exact_mut(cols).enumerate().for_each(|(row, out)| matrix.read_row(row, out));
        assert_eq!(found, trits, "{id}");
        let Scales::Tensor(scale) = *matrix.scales() else { panic!("one scale") };
        assert!((f64::from(scale) - mean).abs() < 1e-6 * mean, "{id}: {scale} {mean}");
    }
}

#[test]
fn scales_beside_the_weights_are_multiplied_in() {
    let factor = |id: TensorId| if id == first_query() { 1.0f32 } else { 0.75 };
    for encoding in [I2S, TernaryEncoding::Tq2_0] {
        let mut gguf = Gguf::new("bitnet", encoding);
        for Tensor { id, .. } in linear_ids() {
            let name = gguf_name(id).replace(".weight", ".scale");
            gguf.add_tensor(&name, &[1], types::F32, factor(id).to_le_bytes().to_vec());
        }
        assert_reads_right(&gguf.open().unwrap(), |id| scale(id) * factor(id));
    }
}

fn first_query() -> TensorId {
    linear_ids().next().unwrap().id
}

#[test]
fn tokenizer_and_template_come_along() {
    let source = Gguf::new("llama", I2S).with_tokenizer().open().unwrap();
    let tokenizer = source.tokenizer().unwrap().unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.bos(), tokenizer.eos()), (VOCAB, Some(1), Some(2)));
    assert_eq!(source.chat_templates(), [("default".to_owned(), "{{ messages }}".to_owned())]);
}

#[test]
fn a_file_without_final_padding_and_one_with_more() {
    // The last tensor's 32 trailing bytes are its own; a file may end right behind them or be padded.
    let mut gguf = Gguf::new("bitnet-b1.58", TernaryEncoding::Tq1_0);
    let norm = gguf.tensors.iter().position(|tensor| tensor.0 == "token_embd.weight").unwrap();
    let last = gguf.tensors.remove(norm);
    gguf.tensors.push(last);
    let mut bytes = gguf.bytes();
    let len = bytes.len();
    for extra in [0, 1, 31] {
        bytes.resize(len + extra, 0);
        assert_reads_right(
            &tritwise_loader::open_bytes("test.gguf", bytes.clone(), &Options::default()).unwrap(),
            scale,
        );
    }
    bytes.resize(len + 32, 0);
    let refused = tritwise_loader::open_bytes("test.gguf", bytes, &Options::default())
        .and_then(|source| read_all(&source))
        .unwrap_err();
    assert!(refused.to_string().contains("token_embd.weight"), "{refused}");
}

#[test]
fn description() {
    let source = Gguf::new("llama", I2S).with_tokenizer().open().unwrap();
    let description = source.describe();
    assert_eq!((description.format.as_str(), description.architecture.as_deref()), ("GGUF v3", Some("llama")));
    assert!(description.metadata.contains(&("llama.block_count".into(), LAYERS.to_string())));
    let tensor = &description.tensors[3];
    assert_eq!((tensor.name.as_str(), tensor.encoding.as_str()), ("blk.0.attn_norm.weight", "F32"));
    let tensor = &description.tensors[4];
    assert_eq!((&tensor.shape[..], tensor.encoding.as_str()), (&[HIDDEN, HIDDEN][..], "I2_S"));
    assert_eq!(tensor.bytes, HIDDEN * HIDDEN / 4 + 32);
    assert!(description.tensors.iter().all(|tensor| tensor.unreadable.is_none()));
}
