//! From any checkpoint to a Hugging Face folder.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value as Json, json};
use support::*;
use tritwise_loader::{Conversion, Error, Options, Source};
use tritwise_tensor::{
    Checkpoint, DenseEncoding, FloatKind, LayerTensor, Scales, TensorId, Ternarize, TernaryEncoding,
};
use tritwise_tokenizer::Special;

fn packed() -> Conversion {
    let mut conversion = Conversion::default();
    conversion.linear = TernaryEncoding::HfPacked;
    conversion
}

fn open(path: &Path) -> Source {
    tritwise_loader::open(path, &Options::default()).unwrap()
}

fn convert(source: &Source, to: &Path, conversion: &Conversion) -> Result<Source, Error> {
    tritwise_loader::convert(source, to, conversion, &mut |_| {})?;
    Ok(open(to))
}

fn json(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn folders_keep_every_row_and_the_meaning_of_scales() {
    for architecture in ["BitNetForCausalLM", "LlamaForCausalLM"] {
        for stored in [Stored::Multiply, Stored::Divide, Stored::Floats(FloatKind::F16)] {
            let folder = tempfile::tempdir().unwrap();
            let mut original = Folder::new(architecture, stored);
            if let Stored::Floats(_) = stored {
                // Else their activations are not rounded.
                original.config["quantization_config"] = json!({"quant_method": "bitnet",
                    "linear_class": "autobitlinear", "quantization_mode": "online"});
                assert_is_absmean(&original, folder.path());
                continue;
            }
            let to = folder.path().join("packed");
            let written = convert(&original.open().unwrap(), &to, &packed()).unwrap();
            assert_reads_right(&written, scale);
            let config = json(&to.join("config.json"));
            let expected =
                json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"});
            assert_eq!(config["quantization_config"], expected);
            assert_eq!(config["architectures"], json!([architecture]));
            assert_eq!(config["rms_norm_eps"], json!(1e-5));
            let tensors = written.describe().tensors;
            let of = |name: &str| tensors.iter().find(|tensor| tensor.name == name).unwrap();
            let query = of("model.layers.1.self_attn.q_proj.weight");
            assert_eq!((query.encoding.as_str(), &query.shape[..]), ("U8", &[HIDDEN / 4, HIDDEN][..]));
            let beside = of("model.layers.1.self_attn.q_proj.weight_scale");
            assert_eq!((beside.encoding.as_str(), &beside.shape[..]), ("F32", &[1][..]));
        }
    }
}

/// Master weights are made ternary on the way.
fn assert_is_absmean(original: &Folder, folder: &Path) {
    let source = original.open().unwrap();
    let written = convert(&source, &folder.join("packed"), &packed()).unwrap();
    for Tensor { id, rows, cols, .. } in linear_ids() {
        let (a, b) = (source.ternary(id, rows, cols).unwrap(), written.ternary(id, rows, cols).unwrap());
        assert_eq!((b.encoding(), a.scales()), (TernaryEncoding::HfPacked, b.scales()), "{id}");
    }
}

#[test]
fn a_scale_that_is_no_reciprocal_is_kept_to_the_bit() {
    // 1/x is never this float: multiplying and dividing by a stored float differ.
    let scale = (1..1000u32).map(|n| f32::from_bits(0.24f32.to_bits() + n)).find(|s| (1.0 / s).recip() != *s).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut original = Gguf::new("llama", I2S);
    let id = TensorId::Layer(0, LayerTensor::Down);
    original.tensor("blk.0.ffn_down.weight").3 =
        I2S.encode(&trits(id, HIDDEN, FFN), HIDDEN, FFN, &Scales::Tensor(scale)).unwrap();
    let written = convert(&original.open().unwrap(), &folder.path().join("a"), &packed()).unwrap();
    assert_eq!(*written.ternary(id, HIDDEN, FFN).unwrap().scales(), Scales::Tensor(scale));
}

#[test]
fn rows_of_a_gguf_llama_return_to_their_halves() {
    let folder = tempfile::tempdir().unwrap();
    let source = Gguf::new("llama", I2S).open().unwrap();
    let written = convert(&source, &folder.path().join("a"), &packed()).unwrap();
    for Tensor { id, rows, cols, .. } in linear_ids() {
        let (original, matrix) = (trits(id, rows, cols), written.ternary(id, rows, cols).unwrap());
        let rotates = matches!(id, TensorId::Layer(_, LayerTensor::Query | LayerTensor::Key));
        let mut found = vec![0; cols];
        for row in 0..rows {
            // Row i of the first half stood at 2i, that of the second at 2i + 1.
            let (head, half, pair) = (row / HEAD_DIM, row % HEAD_DIM / (HEAD_DIM / 2), row % (HEAD_DIM / 2));
            let from = if rotates { head * HEAD_DIM + 2 * pair + half } else { row };
            matrix.read_row(row, &mut found);
            assert_eq!(found, original[from * cols..][..cols], "{id} row {row}");
        }
    }
}

#[test]
fn tables_of_blocks_become_floats() {
    let folder = tempfile::tempdir().unwrap();
    let mut original = Gguf::new("llama", I2S);
    let id = TensorId::TokenEmbedding;
    let table = original.tensor("token_embd.weight");
    table.2 = tritwise_gguf::types::Q6_K;
    table.3 = DenseEncoding::Q6K.encode(&floats(id, VOCAB * HIDDEN), VOCAB, HIDDEN).unwrap();
    let source = original.open().unwrap();
    let written = convert(&source, &folder.path().join("a"), &packed()).unwrap();
    let (a, b) = (source.dense(id, VOCAB, HIDDEN).unwrap(), written.dense(id, VOCAB, HIDDEN).unwrap());
    assert_eq!(b.encoding(), DenseEncoding::F32);
    let (mut x, mut y) = (vec![0.0; HIDDEN], vec![0.0; HIDDEN]);
    for row in 0..VOCAB {
        a.read_row(row, &mut x);
        b.read_row(row, &mut y);
        assert_eq!(x, y);
    }
    let mut conversion = packed();
    (conversion.embedding, conversion.head) = (Some(DenseEncoding::Bf16), Some(DenseEncoding::F16));
    let written = convert(&source, &folder.path().join("b"), &conversion).unwrap();
    assert_eq!(written.dense(id, VOCAB, HIDDEN).unwrap().encoding(), DenseEncoding::Bf16);
    assert_eq!(json(&folder.path().join("b/config.json"))["torch_dtype"], "bfloat16");
    conversion.head = Some(DenseEncoding::Q8_0);
    let refused = convert(&source, &folder.path().join("c"), &conversion).unwrap_err().to_string();
    assert!(refused.contains("lm_head.weight") && refused.contains("F32, F16 or BF16"), "{refused}");
}

#[test]
fn files_of_a_folder_come_along_and_its_config_is_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    let mut original = Folder::new("BitNetForCausalLM", Stored::Divide);
    original.config["bos_token_id"] = json!(7);
    original.config["auto_map"] = json!({"AutoConfig": "configuration_bitnet.BitnetConfig"});
    original.config["rope_scaling"] = json!({"type": "linear", "factor": 2.0});
    original.config["transformers_version"] = json!("4.30");
    original.write(&from);
    for (name, text) in
        [("generation_config.json", "{\"eos_token_id\": [1, 2]}"), ("LICENSE", "as is"), ("other.txt", "")]
    {
        fs::write(from.join(name), text).unwrap();
    }
    let written = convert(&open(&from), &to, &packed()).unwrap();
    assert_eq!(written.config(), open(&from).config());
    let config = json(&to.join("config.json"));
    assert_eq!((&config["bos_token_id"], &config["auto_map"]), (&json!(7), &Json::Null));
    assert_eq!(config["rope_parameters"], json!({"rope_type": "linear", "rope_theta": 500_000.0, "factor": 2.0}));
    let mut names: Vec<_> =
        fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["LICENSE", "config.json", "generation_config.json", "model.safetensors"]);
}

#[test]
fn llama_3_1s_rope_is_carried_over_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut original = Folder::new("LlamaForCausalLM", Stored::Divide);
    let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 16});
    original.config["rope_scaling"] = scaling.clone();
    let source = original.open().unwrap();
    let written = convert(&source, &folder.path().join("a"), &packed()).unwrap();
    assert_eq!(written.config(), source.config());
    // By way of a GGUF file, which has the divisors and not the rule.
    let gguf = convert(&source, &folder.path().join("a.gguf"), &Conversion::default()).unwrap();
    assert_eq!(gguf.config().rope.scaling, source.config().rope.scaling);
    let refused = convert(&gguf, &folder.path().join("b"), &packed()).unwrap_err().to_string();
    assert!(refused.contains("config.json has no field"), "{refused}");
}

#[test]
fn tokenizers_of_gguf_files_become_json() {
    let folder = tempfile::tempdir().unwrap();
    let mut sentence = Gguf::new("llama", I2S).with_tokenizer();
    sentence.set("tokenizer.ggml.eot_token_id", 9u32);
    sentence.set("tokenizer.chat_template.tool_use", "{{ tools }}");
    for (n, original) in [sentence, Gguf::new("bitnet", I2S).with_byte_level_tokenizer()].iter().enumerate() {
        let source = original.open().unwrap();
        let to = folder.path().join(n.to_string());
        let written = convert(&source, &to, &packed()).unwrap();
        let (a, b) = (source.tokenizer().unwrap().unwrap(), written.tokenizer().unwrap().unwrap());
        for text in ["a ab b  abab", "b<s>a</s>", "<|begin|>ab", "öäü\n\t12"] {
            for special in [Special::Text, Special::Parse] {
                assert_eq!(a.encode_prompt(text, special).ok(), b.encode_prompt(text, special).ok(), "{text:?}");
            }
        }
        assert_eq!((a.bos(), a.eos(), a.eog(), a.add_bos()), (b.bos(), b.eos(), b.eog(), b.add_bos()));
        assert_eq!(source.chat_templates(), written.chat_templates());
        // And back into a file.
        let back = convert(&written, &folder.path().join(format!("{n}.gguf")), &Conversion::default()).unwrap();
        assert_eq!(source.chat_templates(), back.chat_templates());
    }
}

#[test]
fn what_has_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let to = |name: &str| folder.path().join(name);
    let refusal = |source: &Source, name: &str, conversion: &Conversion| match convert(source, &to(name), conversion) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => {
            assert!(!folder.path().join(format!("{name}.partial")).exists(), "{error}");
            error.to_string()
        }
    };
    let source = Folder::new("LlamaForCausalLM", Stored::Divide).open().unwrap();
    fs::create_dir(to("empty")).unwrap();
    fs::create_dir(to("full")).unwrap();
    fs::write(to("full/notes.txt"), "mine").unwrap();
    fs::write(to("file"), "mine").unwrap();
    fs::create_dir(to("left.partial")).unwrap();

    let id = TensorId::Layer(0, LayerTensor::Up);
    let by_row = Scales::Rows((1..=FFN).map(|row| row as f32).collect());
    let mut several = Gguf::new("bitnet", TernaryEncoding::Tq2_0);
    several.tensor("blk.0.ffn_up.weight").3 =
        TernaryEncoding::Tq2_0.encode(&trits(id, FFN, HIDDEN), FFN, HIDDEN, &by_row).unwrap();
    let several = several.open().unwrap();
    let ternary_floats = Folder::new("LlamaForCausalLM", Stored::Floats(FloatKind::F16)).open().unwrap();
    let mut masters = packed();
    masters.linear = TernaryEncoding::Float(FloatKind::Bf16, Ternarize::Absmean);
    let left = tritwise_loader::convert(&source, to("left"), &packed(), &mut |_| {}).unwrap_err().to_string();
    let one_file = tritwise_loader::write_gguf(&source, Vec::new(), &packed(), &mut |_| {}).unwrap_err().to_string();
    let mut unknown = Gguf::new("llama", I2S).with_tokenizer();
    unknown.set("tokenizer.ggml.model", "bert");
    let unknown = unknown.open().unwrap();
    let mut without = packed();
    without.without_tokenizer = true;
    assert_refusals(vec![
        ("an empty folder", refusal(&source, "empty", &packed()), &["accepted"]),
        ("a folder with something in it", refusal(&source, "full", &packed()), &["full", "not an empty folder"]),
        ("a file of that name", refusal(&source, "file", &packed()), &["file", "there already"]),
        ("nowhere", refusal(&source, "no/such/folder", &packed()), &["no/such/folder", "cannot be written"]),
        ("what a run left that was interrupted", left, &["left.partial", "delete it"]),
        ("one file", one_file, &["HF packed", "makes a folder"]),
        (
            "several scales",
            refusal(&several, "a", &packed()),
            &["layers.0.mlp.up_proj.weight", "place for one scale", "it can be written as TQ1_0, TQ2_0"],
        ),
        (
            "activations that are not rounded",
            refusal(&ternary_floats, "b", &packed()),
            &["activations are not rounded"],
        ),
        ("masters that are none", refusal(&source, "c", &masters), &["Ternarize::Exact", "it can be written as I2_S"]),
        ("an unknown tokenizer", refusal(&unknown, "d", &packed()), &["bert"]),
        ("the same without", refusal(&unknown, "d", &without), &["accepted"]),
    ]);
    assert_eq!(fs::read_to_string(to("full/notes.txt")).unwrap(), "mine");
    assert!(to("left.partial").exists(), "it may be somebody's");
}
