//! What people are told about the files they come with and that cannot be run, word for word.
//!
//! The other tests look for the words that matter. These sentences are what somebody reads who has downloaded four
//! gigabytes, so a change of one is seen here.

mod support;

use support::*;
use tritwise_gguf::{Value, types};
use tritwise_loader::Options;

/// What is said about the GGUF file of a test model after `change`.
fn gguf(architecture: &str, change: impl FnOnce(&mut Gguf)) -> String {
    let mut gguf = Gguf::new(architecture, I2S).with_byte_level_tokenizer();
    change(&mut gguf);
    let refusal = gguf.refusal();
    match gguf.open().map(|source| source.tokenizer()) {
        Ok(Err(error)) if refusal == "accepted" => error.to_string(),
        _ => refusal,
    }
}

fn key(key: &str, value: impl Into<Value>) -> String {
    gguf("llama", |gguf| gguf.set(key, value))
}

fn architecture(name: &str) -> String {
    gguf("llama", |gguf| gguf.set("general.architecture", name))
}

/// The query projection of layer 1 (256 × 256) as type `type_id`.
fn stored_as(type_id: u32, bytes: usize) -> String {
    gguf("bitnet-b1.58", |gguf| {
        let tensor = gguf.tensor("blk.1.attn_q.weight");
        (tensor.2, tensor.3) = (type_id, vec![0; bytes]);
    })
}

fn big_endian() -> String {
    let mut bytes = Gguf::new("llama", I2S).bytes();
    bytes[4..8].reverse();
    tritwise_loader::open_bytes("test.gguf", bytes, &Options::default()).unwrap_err().to_string()
}

/// A model in two files of which the second is cut short, or missing.
fn split(second: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let whole = Gguf::new("llama", I2S);
    let (first, rest) = whole.tensors.split_at(whole.tensors.len() / 2);
    let part = |no: u16, tensors: &[GgufTensor]| {
        let mut part = Gguf { metadata: whole.metadata.clone(), tensors: tensors.to_vec() };
        part.set("split.no", no);
        part.set("split.count", 2u16);
        part.set("split.tensors.count", whole.tensors.len() as i32);
        part.bytes()
    };
    let path = folder.path().join("m-00001-of-00002.gguf");
    std::fs::write(&path, part(0, first)).unwrap();
    if let Some(bytes) = second(part(1, rest)) {
        std::fs::write(folder.path().join("m-00002-of-00002.gguf"), bytes).unwrap();
    }
    let error = tritwise_loader::open(&path, &Options::default()).and_then(|source| read_all(&source)).unwrap_err();
    error.to_string().replace(&format!("{}/", folder.path().display()), "")
}

fn folder(change: impl FnOnce(&mut Folder)) -> String {
    let mut folder = Folder::new("LlamaForCausalLM", Stored::Divide);
    change(&mut folder);
    let message = folder.refusal();
    // The temporary folder has another name each time.
    let (place, rest) = message.split_once(": ").expect("a refusal names a file");
    let file = place.rsplit('/').next().filter(|file| file.contains(".json")).unwrap_or("the folder");
    format!("{file}: {rest}")
}

fn config(key: &str, value: serde_json::Value) -> String {
    folder(|folder| folder.config[key] = value)
}

#[test]
fn every_kind_of_refusal_says_this() {
    let table: Vec<(&str, String, &str)> = vec![
        (
            "unknown type number",
            stored_as(999, 20_000),
            "test.gguf: tensor blk.1.attn_q.weight: has type 999 (unknown) and shape [256, 256], which is not read; linear layers are read from I2_S, TL1, TL2, TQ1_0, TQ2_0, Q1_0, Q2_0, PQ2_0, PTQ1_0, IQ1_BN, IQ2_BN, IQ2_BN_R4, BASE3, F32, F16, BF16, tables from F32, F16, BF16, Q8_0, Q6_K, Q4_0, Q4_K, IQ4_NL, Q1_0, Q2_0, PQ2_0, PTQ1_0, TQ1_0, TQ2_0: convert the original checkpoint to one of these",
        ),
        (
            "MXFP4",
            stored_as(39, 17 * 256 * 256 / 32),
            "test.gguf: tensor blk.1.attn_q.weight: is stored as MXFP4 (type 39 of ggml), which is not read; linear layers are read from I2_S, TL1, TL2, TQ1_0, TQ2_0, Q1_0, Q2_0, PQ2_0, PTQ1_0, IQ1_BN, IQ2_BN, IQ2_BN_R4, BASE3, F32, F16, BF16, tables from F32, F16, BF16, Q8_0, Q6_K, Q4_0, Q4_K, IQ4_NL, Q1_0, Q2_0, PQ2_0, PTQ1_0, TQ1_0, TQ2_0: convert the original checkpoint to one of these",
        ),
        (
            "NVFP4",
            stored_as(40, 36 * 256 * 256 / 64),
            "test.gguf: tensor blk.1.attn_q.weight: is stored as NVFP4 (type 40 of ggml), which is not read; linear layers are read from I2_S, TL1, TL2, TQ1_0, TQ2_0, Q1_0, Q2_0, PQ2_0, PTQ1_0, IQ1_BN, IQ2_BN, IQ2_BN_R4, BASE3, F32, F16, BF16, tables from F32, F16, BF16, Q8_0, Q6_K, Q4_0, Q4_K, IQ4_NL, Q1_0, Q2_0, PQ2_0, PTQ1_0, TQ1_0, TQ2_0: convert the original checkpoint to one of these",
        ),
        (
            "Q5_K, an ordinary quantisation",
            stored_as(13, 176 * 256),
            "test.gguf: tensor blk.1.attn_q.weight: is stored as Q5_K (type 13 of ggml), which is not read; linear layers are read from I2_S, TL1, TL2, TQ1_0, TQ2_0, Q1_0, Q2_0, PQ2_0, PTQ1_0, IQ1_BN, IQ2_BN, IQ2_BN_R4, BASE3, F32, F16, BF16, tables from F32, F16, BF16, Q8_0, Q6_K, Q4_0, Q4_K, IQ4_NL, Q1_0, Q2_0, PQ2_0, PTQ1_0, TQ1_0, TQ2_0: convert the original checkpoint to one of these",
        ),
        (
            "a size that no meaning of the number has",
            stored_as(42, 10_000),
            "test.gguf: tensor blk.1.attn_q.weight: has type 42, shape [256, 256] and 10016 bytes in the file, padding included, but Q2_0 takes 18432 bytes, Q2_0 in groups of 128 takes 17408 bytes, TL2 takes 16416 bytes, TL2 takes 16384 bytes; the file is corrupt, or written by a program that gives the number another meaning",
        ),
        (
            "Hadamard transforms",
            key("prism.hadamard.version", 1u32),
            "test.gguf: metadata key prism.hadamard.version is 1: its weights stand behind Hadamard transforms, which are not built, and without them it would print nonsense",
        ),
        (
            "a hybrid with recurrent layers",
            architecture("qwen35"),
            "test.gguf: is of architecture \"qwen35\", a hybrid of attention and gated delta nets, which is not built; supported are bitnet-b1.58, bitnet-25, bitnet, llama, qwen3 and gemma3 (with ternary or binary weights)",
        ),
        (
            "a mixture of experts by its name",
            architecture("qwen3moe"),
            "test.gguf: is of architecture \"qwen3moe\", a mixture of experts, which is not built; supported are bitnet-b1.58, bitnet-25, bitnet, llama, qwen3 and gemma3 (with ternary or binary weights)",
        ),
        (
            "a mixture of experts by its key",
            key("llama.expert_count", 8u32),
            "test.gguf: metadata key llama.expert_count is 8: mixtures of experts are not supported",
        ),
        (
            "an architecture nobody knows",
            architecture("florence"),
            "test.gguf: is of architecture \"florence\", which is not built; supported are bitnet-b1.58, bitnet-25, bitnet, llama, qwen3 and gemma3 (with ternary or binary weights)",
        ),
        (
            "a tensor that nothing reads",
            gguf("llama", |gguf| gguf.add_tensor("blk.0.attn_q.bias", &[4], types::F32, vec![0; 16])),
            "test.gguf: 1 tensor is no part of the model's graph: blk.0.attn_q.bias. Running without would give wrong results: the checkpoint is of an architecture that is not supported, or was exported wrongly",
        ),
        (
            "a sub-norm that is missing",
            gguf("bitnet-b1.58", |gguf| gguf.remove_tensor("blk.0.attn_sub_norm.weight")),
            "test.gguf: tensor blk.0.attn_sub_norm.weight: is missing, and the model needs it (layer 0 AttnSubNorm): the checkpoint is incomplete, or its architecture is not what it says",
        ),
        (
            "a way to split text",
            key("tokenizer.ggml.pre", "klingon"),
            "test.gguf: tokenizer.ggml.pre is \"klingon\", which is unknown: using another splitting rule would give other tokens",
        ),
        (
            "a rotary scaling",
            key("llama.rope.scaling.type", "longrope"),
            "test.gguf: metadata key llama.rope.scaling.type is \"longrope\"; supported are \"none\", \"linear\" and \"yarn\"",
        ),
        (
            "big-endian",
            big_endian(),
            "test.gguf: this GGUF file is big-endian (version word 0x03000000); only little-endian files are read: convert it with gguf-py's gguf_convert_endian.py",
        ),
        (
            "a part cut short",
            split(|bytes| Some(bytes[..bytes.len() / 2].to_vec())),
            "m-00002-of-00002.gguf: tensor \"blk.1.ffn_norm.weight\": begins 115904 bytes into the data, beyond the end of the file (108240 bytes); it is cut short or corrupt, download it again",
        ),
        (
            "a part that is missing",
            split(|_| None),
            "m-00002-of-00002.gguf: cannot be read (No such file or directory (os error 2)), and the model that m-00001-of-00002.gguf is part of needs it: all 2 parts must lie in one folder",
        ),
        (
            "a folder: another architecture",
            config("architectures", serde_json::json!(["Qwen3MoeForCausalLM"])),
            "config.json: is of architecture \"Qwen3MoeForCausalLM\", a mixture of experts, which is not built; supported are BitNetForCausalLM, BitnetForCausalLM, LlamaForCausalLM, Qwen3ForCausalLM and Gemma3ForCausalLM",
        ),
        (
            "a folder: a rotary scaling",
            config("rope_scaling", serde_json::json!({"rope_type": "longrope"})),
            "config.json: asks for rotary scaling of type \"longrope\"; supported are \"default\", \"linear\", \"llama3\" and \"yarn\"",
        ),
        (
            "a folder: another quantisation",
            config("quantization_config", serde_json::json!({"quant_method": "gptq"})),
            "config.json: sets quantization_config.quant_method to \"gptq\"; supported: \"bitnet\"",
        ),
        (
            "a folder: a tensor that nothing reads",
            folder(|folder| {
                let norm = folder.tensors["model.norm.weight"].clone();
                folder.tensors.insert("model.layers.0.self_attn.q_norm.weight".to_owned(), norm);
            }),
            "the folder: 1 tensor is no part of the model's graph: model.layers.0.self_attn.q_norm.weight. Running without would give wrong results: the checkpoint is of an architecture that is not supported, or was exported wrongly",
        ),
    ];
    let mut wrong = Vec::new();
    for (kind, found, expected) in &table {
        if found != expected {
            wrong.push(format!("{kind}\n  says      {found:?}\n  and not   {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
