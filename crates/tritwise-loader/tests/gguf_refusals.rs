//! GGUF files that must not be run: each refusal names what is wrong.

mod support;

use support::*;
use tritwise_gguf::{Value, types};
use tritwise_loader::Options;
use tritwise_tensor::{DenseEncoding, FloatKind, Ternarize, TernaryEncoding};

/// What is said about `gguf` after `change`.
fn after(architecture: &str, change: impl FnOnce(&mut Gguf)) -> String {
    let mut gguf = Gguf::new(architecture, I2S);
    change(&mut gguf);
    gguf.refusal()
}

fn with_key(key: &str, value: impl Into<Value>) -> String {
    after("llama", |gguf| gguf.set(key, value))
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn truncated_at_every_64th() {
    for encoding in [I2S, TernaryEncoding::Tq1_0, TernaryEncoding::Float(FloatKind::F16, Ternarize::Exact)] {
        let bytes = Gguf::new("bitnet-b1.58", encoding).bytes();
        for part in 0..64 {
            let cut = bytes[..bytes.len() * part / 64].to_vec();
            let refused = tritwise_loader::open_bytes("cut.gguf", cut, &Options::default())
                .and_then(|source| read_all(&source))
                .expect_err(&format!("{part}/64"));
            assert!(refused.to_string().starts_with("cut.gguf: "), "{refused}");
        }
    }
}

#[test]
fn every_prefix_of_the_metadata_and_every_damaged_byte_in_it() {
    let gguf = Gguf::new("llama", I2S).with_tokenizer();
    let bytes = gguf.bytes();
    let header_len = tritwise_gguf::Header::parse(&bytes).unwrap().tensors()[0].window.start;
    let open = |bytes: Vec<u8>| {
        let source = tritwise_loader::open_bytes("x", bytes, &Options::default())?;
        source.tokenizer()?;
        read_all(&source)
    };
    for len in (0..header_len).step_by(7) {
        assert!(open(bytes[..len].to_vec()).is_err());
    }
    // Some damage is not noticed, such as in a token's text; none may panic.
    for at in (4..header_len).step_by(5) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        let _ = open(damaged);
    }
}

#[test]
fn tensors() {
    const QUERY: &str = "blk.1.attn_q.weight";
    let query = |change: fn(&mut GgufTensor)| after("bitnet-b1.58", |gguf| change(gguf.tensor(QUERY)));
    let missing = |name: &str| after("bitnet-b1.58", |gguf| gguf.remove_tensor(name));
    let of_type = |type_id: u32, bytes: usize| {
        after("bitnet-b1.58", |gguf| {
            let tensor = gguf.tensor(QUERY);
            (tensor.2, tensor.3) = (type_id, vec![0; bytes]);
        })
    };
    let weights = HIDDEN * HEADS * HEAD_DIM;
    assert_refusals(vec![
        ("missing linear", missing(QUERY), &["test.gguf", QUERY, "missing", "layer 1 Query"]),
        ("missing norm", missing("output_norm.weight"), &["output_norm.weight", "missing"]),
        ("missing sub-norm", missing("blk.0.ffn_sub_norm.weight"), &["blk.0.ffn_sub_norm.weight", "missing"]),
        ("missing embedding", missing("token_embd.weight"), &["token_embd.weight", "vocabulary only"]),
        (
            "surplus tensor",
            after("bitnet", |gguf| gguf.add_tensor("blk.0.attn_q_norm.weight", &[4], types::F32, f32s(&[1.0; 4]))),
            &["blk.0.attn_q_norm.weight", "no part of the model's graph"],
        ),
        (
            "sub-norm in a llama",
            after("llama", |gguf| gguf.add_tensor("blk.0.attn_sub_norm.weight", &[4], types::F32, f32s(&[1.0; 4]))),
            &["blk.0.attn_sub_norm.weight"],
        ),
        (
            "bias",
            after("llama", |gguf| gguf.add_tensor("blk.0.attn_q.bias", &[4], types::F32, f32s(&[1.0; 4]))),
            &["blk.0.attn_q.bias"],
        ),
        (
            "layers beyond block_count",
            after("bitnet", |gguf| gguf.set("bitnet.block_count", 1u32)),
            &["11 tensors", "blk.1.attn_norm.weight"],
        ),
        (
            "layers that are not there",
            after("bitnet", |gguf| gguf.set("bitnet.block_count", 3u32)),
            &["blk.2.attn_norm.weight"],
        ),
        (
            "transposed",
            query(|tensor| tensor.1 = vec![HIDDEN as u64 / 2, HIDDEN as u64 * 2]),
            &[QUERY, "[512, 128]", "[256, 256]"],
        ),
        (
            "norm of another length",
            after("bitnet", |gguf| {
                let tensor = gguf.tensor("blk.0.attn_norm.weight");
                (tensor.1, tensor.3) = (vec![128], f32s(&[1.0; 128]));
            }),
            &["blk.0.attn_norm.weight", "[128]", "[256]"],
        ),
        (
            "NaN norm",
            after("bitnet", |gguf| {
                gguf.tensor("blk.0.ffn_norm.weight").3[20..24].copy_from_slice(&f32::NAN.to_le_bytes())
            }),
            &["blk.0.ffn_norm.weight", "element 5", "NaN"],
        ),
        (
            "infinite norm",
            after("bitnet", |gguf| {
                gguf.tensor("output_norm.weight").3[..4].copy_from_slice(&f32::INFINITY.to_le_bytes())
            }),
            &["output_norm.weight", "element 0", "inf"],
        ),
        (
            "quantised norm",
            after("bitnet", |gguf| {
                let bytes = DenseEncoding::Q8_0.encode(&[1.0; HIDDEN], 1, HIDDEN).unwrap();
                let tensor = gguf.tensor("output_norm.weight");
                (tensor.2, tensor.3) = (types::Q8_0, bytes);
            }),
            &["output_norm.weight", "Q8_0", "F32, F16 or BF16"],
        ),
        (
            "NaN scale",
            query(|tensor| {
                let at = tensor.3.len() - 32;
                tensor.3[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
            }),
            &[QUERY, "NaN"],
        ),
        ("code that is never written", query(|tensor| tensor.3[70] = 0xff), &[QUERY, "row 1"]),
        ("I2_S one byte short", of_type(types::I2_S, weights / 4 - 32), &[QUERY, "36", "I2_S takes 16416 bytes"]),
        ("I2_S too long", of_type(types::I2_S, weights / 4 + 96), &[QUERY, "36", "I2_S takes 16416 bytes"]),
        ("the removed type 36", of_type(36, weights / 32 * 18), &[QUERY, "IQ4_NL_4_4"]),
        ("TL1 too long", of_type(types::TL1, weights / 4 + 64), &[QUERY, "38", "TL1 takes 16416 bytes", "16384 bytes"]),
        ("TL2 of another size", of_type(39, weights / 5), &[QUERY, "39", "TL2 takes 16416 bytes", "MXFP4 takes"]),
        ("neither Q2_0 nor TL2", of_type(42, weights / 5), &[QUERY, "42", "Q2_0 takes 18432 bytes", "TL2 takes"]),
        (
            "code 3 of Q2_0",
            after("bitnet-b1.58", |gguf| {
                let tensor = gguf.tensor(QUERY);
                (tensor.2, tensor.3) = (types::Q2_0, vec![0x33; weights / 64 * 18]);
            }),
            &[QUERY, "row 0", "code 3"],
        ),
        ("MXFP4", of_type(39, weights / 32 * 17), &[QUERY, "MXFP4", "type 39 of ggml", "PQ2_0"]),
        ("NVFP4", of_type(40, weights / 64 * 36), &[QUERY, "NVFP4", "type 40 of ggml"]),
        ("Q4_0 of a linear layer", of_type(2, weights / 32 * 18), &[QUERY, "Q4_0", "no ternary layer"]),
        ("IQ2_TN or PQ2_0", of_type(142, HIDDEN * (4 + 64)), &[QUERY, "may be PQ2_0", "IQ2_TN", "Options::written_by"]),
        ("IQ1_TN", of_type(143, HIDDEN * (2 + 52)), &[QUERY, "IQ1_TN", "type 143 of ik_llama.cpp"]),
        ("IQ2_XXS", of_type(16, weights), &[QUERY, "IQ2_XXS"]),
        ("unknown type", of_type(9999, weights), &[QUERY, "9999", "unknown"]),
        ("type of the largest number", of_type(u32::MAX, weights), &[QUERY, "4294967295"]),
        ("linear layer in Q8_0", of_type(types::Q8_0, weights / 32 * 34), &[QUERY, "Q8_0", "no ternary layer"]),
        (
            "ternary embedding",
            after("bitnet", |gguf| {
                let tensor = gguf.tensor("token_embd.weight");
                (tensor.2, tensor.3) = (types::IQ2_BN, vec![0; VOCAB * (4 + HIDDEN / 4)]);
            }),
            &["token_embd.weight", "IQ2_BN", "Q6_K"],
        ),
        (
            "NaN scale in the embedding",
            after("bitnet", |gguf| {
                let mut bytes = DenseEncoding::Q8_0.encode(&[1.0; VOCAB * HIDDEN], VOCAB, HIDDEN).unwrap();
                bytes[34..36].copy_from_slice(&[0xff, 0x7f]);
                let tensor = gguf.tensor("token_embd.weight");
                (tensor.2, tensor.3) = (types::Q8_0, bytes);
            }),
            &["token_embd.weight", "NaN"],
        ),
        (
            "NaN scale beside the weights",
            after("bitnet", |gguf| gguf.add_tensor("blk.0.attn_q.scale", &[1], types::F32, f32s(&[f32::NAN]))),
            &["blk.0.attn_q.scale", "NaN"],
        ),
        (
            "several scales beside the weights",
            after("bitnet", |gguf| gguf.add_tensor("blk.0.attn_q.scale", &[2], types::F32, f32s(&[1.0; 2]))),
            &["blk.0.attn_q.scale", "[2]", "[1]"],
        ),
        (
            "rotary factors",
            after("llama", |gguf| {
                let mut factors = [1.0; HEAD_DIM / 2];
                factors[31] = -8.0;
                gguf.add_tensor("rope_freqs.weight", &[HEAD_DIM as u64 / 2], types::F32, f32s(&factors));
            }),
            &["rope_freqs.weight", "-8", "divided"],
        ),
        (
            "ordinary weights in a llama",
            after("llama", |gguf| {
                let tensor = gguf.tensor(QUERY);
                let values = floats(tritwise_tensor::TensorId::Output, weights);
                (tensor.2, tensor.3) = (types::F16, DenseEncoding::F16.encode(&values, HIDDEN, HIDDEN).unwrap());
            }),
            &[QUERY, "must be already"],
        ),
        (
            "NaN among master weights",
            after("bitnet", |gguf| {
                let tensor = gguf.tensor(QUERY);
                let mut values = vec![1.0f32; weights];
                values[HIDDEN * 3] = f32::NAN;
                (tensor.2, tensor.3) = (types::F32, f32s(&values));
            }),
            &[QUERY, "row 3", "NaN"],
        ),
    ]);
}

#[test]
fn metadata() {
    let without = |key: &str| after("llama", |gguf| gguf.remove_key(key));
    let huge = 1u64 << 40;
    assert_refusals(vec![
        ("no architecture", without("general.architecture"), &["general.architecture"]),
        ("unknown architecture", with_key("general.architecture", "mamba"), &["\"mamba\"", "bitnet-b1.58", "llama"]),
        ("architecture of another type", with_key("general.architecture", 7u32), &["general.architecture", "u32"]),
        ("no width", without("llama.embedding_length"), &["llama.embedding_length"]),
        ("no depth", without("llama.block_count"), &["llama.block_count"]),
        ("no heads", without("llama.attention.head_count"), &["llama.attention.head_count"]),
        ("no feed-forward width", without("llama.feed_forward_length"), &["llama.feed_forward_length"]),
        ("no context", without("llama.context_length"), &["llama.context_length"]),
        ("no epsilon", without("llama.attention.layer_norm_rms_epsilon"), &["llama.attention.layer_norm_rms_epsilon"]),
        ("width 0", with_key("llama.embedding_length", 0u32), &["hidden size is 0"]),
        ("depth 0", with_key("llama.block_count", 0u32), &["layers is 0"]),
        ("heads 0", with_key("llama.attention.head_count", 0u32), &["heads"]),
        ("KV heads 0", with_key("llama.attention.head_count_kv", 0u32), &["key/value heads is 0"]),
        ("feed-forward 0", with_key("llama.feed_forward_length", 0u32), &["feed-forward size is 0"]),
        ("context 0", with_key("llama.context_length", 0u32), &["context length is 0"]),
        ("huge width", with_key("llama.embedding_length", huge), &["expected 1 to 1048576"]),
        ("huge depth", with_key("llama.block_count", huge), &["layers", "4096"]),
        ("huge heads", with_key("llama.attention.head_count", huge), &["heads"]),
        ("huge KV heads", with_key("llama.attention.head_count_kv", huge), &["key/value heads"]),
        ("huge head", with_key("llama.attention.key_length", huge), &["head size"]),
        ("huge context", with_key("llama.context_length", huge), &["context length"]),
        ("negative width", with_key("llama.embedding_length", -1i32), &["llama.embedding_length", "-1"]),
        ("width as text", with_key("llama.embedding_length", "256"), &["llama.embedding_length", "string"]),
        ("uneven groups", with_key("llama.attention.head_count_kv", 3u32), &["4 heads", "3 key/value heads"]),
        ("more KV heads than heads", with_key("llama.attention.head_count_kv", 8u32), &["key/value heads is 8"]),
        ("odd head size", with_key("llama.attention.key_length", 63u32), &["head size is 63", "even"]),
        (
            "heads that do not divide",
            with_key("llama.attention.head_count", 3u32),
            &["256", "3 heads", "llama.attention.key_length"],
        ),
        (
            "layers of different shape",
            with_key("llama.attention.head_count_kv", vec![2u32, 4]),
            &["llama.attention.head_count_kv", "[2, 4]"],
        ),
        (
            "no layers in an array",
            with_key("llama.attention.head_count", Vec::<u32>::new()),
            &["llama.attention.head_count"],
        ),
        (
            "values of another width",
            with_key("llama.attention.value_length", 32u32),
            &["llama.attention.value_length", "32"],
        ),
        ("partly rotated heads", with_key("llama.rope.dimension_count", 32u32), &["llama.rope.dimension_count", "32"]),
        ("NaN epsilon", with_key("llama.attention.layer_norm_rms_epsilon", f32::NAN), &["epsilon is NaN"]),
        ("negative epsilon", with_key("llama.attention.layer_norm_rms_epsilon", -1f32), &["epsilon is -1"]),
        ("rotary base 0", with_key("llama.rope.freq_base", 0f32), &["rotary base is 0"]),
        ("infinite rotary base", with_key("llama.rope.freq_base", f32::INFINITY), &["rotary base is inf"]),
        ("YaRN without factor", with_key("llama.rope.scaling.type", "yarn"), &["llama.rope.scaling.factor"]),
        ("LongRoPE", with_key("llama.rope.scaling.type", "longrope"), &["llama.rope.scaling.type", "longrope", "yarn"]),
        ("linear without factor", with_key("llama.rope.scaling.type", "linear"), &["llama.rope.scaling.factor"]),
        ("sliding window", with_key("llama.attention.sliding_window", 16u32), &["llama.attention.sliding_window"]),
        ("attention scale", with_key("llama.attention.scale", 0.5f32), &["llama.attention.scale", "0.125"]),
        ("NaN attention scale", with_key("llama.attention.scale", f32::NAN), &["llama.attention.scale"]),
        ("soft cap", with_key("llama.final_logit_softcapping", 30f32), &["llama.final_logit_softcapping"]),
        ("experts", with_key("llama.expert_count", 8u32), &["llama.expert_count"]),
        ("logit scale", with_key("llama.logit_scale", 0.0625f32), &["llama.logit_scale"]),
        ("embeddings both ways", with_key("llama.attention.causal", false), &["llama.attention.causal"]),
        ("Hadamard", with_key("prism.hadamard.version", 1u32), &["prism.hadamard.version", "Hadamard"]),
        ("one part of several", with_key("split.count", 3u16), &["split.count", "gguf-split"]),
        ("more tokens than rows", with_key("llama.vocab_size", 41u32), &["vocab_size", "41", "40 rows"]),
        (
            "more texts than rows",
            with_key("tokenizer.ggml.tokens", Value::from(["x"; 41].into_iter().collect::<tritwise_gguf::Strings>())),
            &["tokenizer.ggml.tokens", "41", "40 rows"],
        ),
        (
            "another activation",
            with_key("llama.hidden_activation", "tanh"),
            &["llama.hidden_activation", "tanh", "gelu"],
        ),
    ]);
}

#[test]
fn tokenizers_that_are_wrong_do_not_stop_the_weights() {
    let mut gguf = Gguf::new("llama", I2S).with_tokenizer();
    gguf.set("tokenizer.ggml.eos_token_id", 4_000_000_000_000u64);
    let source = gguf.open().unwrap();
    read_all(&source).unwrap();
    let message = source.tokenizer().unwrap_err().to_string();
    assert!(message.starts_with("test.gguf: "), "{message}");
    gguf.set("tokenizer.ggml.scores", vec![1u8; VOCAB]);
    let message = gguf.open().unwrap().tokenizer().unwrap_err().to_string();
    assert!(message.contains("tokenizer.ggml.scores") && message.contains("[u8]"), "{message}");
}

#[test]
fn files_of_other_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        tritwise_loader::open(&path, &Options::default()).unwrap_err().to_string()
    };
    assert_refusals(vec![
        ("a zip file", write("model.bin", b"PK\x03\x04rest"), &["model.bin", r"PK\x03\x04", "GGUF"]),
        ("an empty file", write("empty.gguf", b""), &["empty.gguf", "GGUF"]),
        ("a header alone", write("short.gguf", b"GGUF"), &["short.gguf", "ends inside the version"]),
        (
            "nothing",
            tritwise_loader::open(folder.path().join("none.gguf"), &Options::default()).unwrap_err().to_string(),
            &["none.gguf", "cannot be read"],
        ),
    ]);
}

#[test]
fn unreadable_files_are_still_described() {
    let mut gguf = Gguf::new("llama", I2S);
    let tensor = gguf.tensor("blk.0.attn_q.weight");
    (tensor.2, tensor.3) = (39, vec![0; HIDDEN * HEADS * HEAD_DIM / 32 * 17]);
    gguf.set("general.architecture", "mamba");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, gguf.bytes()).unwrap();
    let description = tritwise_loader::describe(&path).unwrap();
    assert_eq!(description.architecture.as_deref(), Some("mamba"));
    let tensor = description.tensors.iter().find(|tensor| tensor.name == "blk.0.attn_q.weight").unwrap();
    assert_eq!(tensor.encoding, "MXFP4");
    assert!(tensor.unreadable.as_ref().unwrap().contains("which is not read"));
    assert_eq!(description.file_bytes, path.metadata().unwrap().len());
}

#[test]
fn a_name_on_the_hub_is_no_path() {
    let error = tritwise_loader::open("hf:owner/name/model.gguf", &Options::default()).unwrap_err().to_string();
    let remedy =
        if cfg!(feature = "download") { "fetch it (download::Hub::fetch)" } else { "features = [\"download\"]" };
    assert!(error.starts_with("hf:owner/name/model.gguf: is on the Hugging Face hub"), "{error}");
    assert!(error.contains(remedy), "{error}");
    assert_eq!(tritwise_loader::describe("hf:owner/name/model.gguf").unwrap_err().to_string(), error);
}
