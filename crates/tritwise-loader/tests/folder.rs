//! Hugging Face folders: what is understood, and how.

mod support;

use std::path::Path;

use serde_json::json;
use support::*;
use tritwise_loader::{Activation, Error, Options, Source};
use tritwise_tensor::{Checkpoint, DenseEncoding, FloatKind, LayerTensor, RopeScaling, RopeStyle, Scales, TensorId};

fn open(path: &Path) -> Result<Source, Error> {
    tritwise_loader::open(path, &Options::default())
}

const BF16: Stored = Stored::Floats(FloatKind::Bf16);

#[test]
fn scales_multiply_or_divide_as_the_linear_class_says() {
    for architecture in ["BitNetForCausalLM", "LlamaForCausalLM"] {
        for stored in [Stored::Multiply, Stored::Divide] {
            assert_reads_right(&Folder::new(architecture, stored).open().unwrap(), scale);
        }
    }
    // The same weights under the other class: the reciprocal.
    let mut folder = Folder::new("BitNetForCausalLM", Stored::Multiply);
    folder.config["quantization_config"]["linear_class"] = json!("bitlinear");
    assert_reads_right(&folder.open().unwrap(), |id| 1.0 / scale(id));
    // The mode is `offline` unless it says otherwise.
    let mut folder = Folder::new("BitNetForCausalLM", Stored::Multiply);
    folder.config["quantization_config"].as_object_mut().unwrap().remove("quantization_mode");
    assert_reads_right(&folder.open().unwrap(), scale);
}

#[test]
fn scales_of_any_float_type_and_either_shape() {
    for (encoding, dtype) in [
        (DenseEncoding::F32, safetensors::Dtype::F32),
        (DenseEncoding::F16, safetensors::Dtype::F16),
        (DenseEncoding::Bf16, safetensors::Dtype::BF16),
    ] {
        for shape in [vec![], vec![1]] {
            let mut folder = Folder::new("LlamaForCausalLM", Stored::Multiply);
            for Tensor { id, .. } in linear_ids() {
                let bytes = encoding.encode(&[scale(id)], 1, 1).unwrap();
                folder.tensors.insert(format!("{}_scale", hf_name(id)), (dtype, shape.clone(), bytes));
            }
            assert_reads_right(&folder.open().unwrap(), scale);
        }
    }
}

#[test]
fn weights_that_are_ternary_already() {
    for kind in [FloatKind::F32, FloatKind::F16, FloatKind::Bf16] {
        for architecture in ["BitNetForCausalLM", "LlamaForCausalLM"] {
            assert_reads_right(&Folder::new(architecture, Stored::Floats(kind)).open().unwrap(), scale);
        }
    }
}

#[test]
fn online_quantisation_takes_the_mean_even_of_ternary_weights() {
    let mut folder = Folder::new("BitNetForCausalLM", BF16);
    folder.config["quantization_config"] =
        json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"});
    let source = folder.open().unwrap();
    read_all(&source).unwrap();
    for Tensor { id, rows, cols, .. } in linear_ids() {
        let not_zero = trits(id, rows, cols).iter().filter(|&&trit| trit != 0).count();
        let mean = scale(id) * not_zero as f32 / (rows * cols) as f32;
        let Scales::Tensor(found) = *source.ternary(id, rows, cols).unwrap().scales() else { panic!("one scale") };
        assert!((found - mean).abs() < 1e-5 * mean, "{id}: {found} {mean}");
    }
}

#[test]
fn the_1bitllm_modelling_file() {
    let mut folder = Folder::new("BitnetForCausalLM", Stored::Floats(FloatKind::F16));
    folder.config["model_type"] = json!("llama");
    folder.config["hidden_act"] = json!("silu");
    folder.config["weight_bits"] = json!(1);
    folder.config["input_bits"] = json!(8);
    folder.tensors = std::mem::take(&mut folder.tensors)
        .into_iter()
        .map(|(name, tensor)| {
            (name.replace("attn_sub_norm", "inner_attn_ln").replace("ffn_sub_norm", "ffn_layernorm"), tensor)
        })
        .collect();
    let source = folder.open().unwrap();
    assert_eq!((source.config().activation, source.config().norms.sub), (Activation::Silu, true));
    read_all(&source).unwrap();
    let id = TensorId::Layer(1, LayerTensor::FfnSubNorm);
    assert_eq!(source.vector(id, FFN).unwrap(), floats(id, FFN));
    folder.config["weight_bits"] = json!(2);
    assert_refusals(vec![("two bits", folder.refusal(), &["weight_bits", "2"])]);
}

#[test]
fn configuration() {
    let source = Folder::new("BitNetForCausalLM", BF16).open().unwrap();
    let config = source.config();
    assert_eq!(config.architecture, "BitNetForCausalLM");
    assert_eq!((config.hidden, config.layers, config.heads, config.kv_heads), (HIDDEN, LAYERS, HEADS, KV_HEADS));
    assert_eq!((config.head_dim, config.ffn, config.vocab, config.context), (HEAD_DIM, FFN, VOCAB, 64));
    assert_eq!((config.norm_eps, config.rope.theta), (1e-5, 500_000.0));
    assert_eq!((config.rope.style, &config.rope.scaling), (RopeStyle::Halves, &RopeScaling::None));
    assert_eq!((config.activation, config.norms.sub, config.tied), (Activation::SquaredRelu, true, true));
    let source = Folder::new("LlamaForCausalLM", BF16).open().unwrap();
    let config = source.config();
    assert_eq!((config.activation, config.norms.sub, config.tied), (Activation::Silu, false, false));
    assert_eq!(config.rope.style, RopeStyle::Halves);
}

#[test]
fn architecture_by_model_type() {
    let mut folder = Folder::new("BitNetForCausalLM", BF16);
    folder.config.as_object_mut().unwrap().remove("architectures");
    assert!(folder.open().unwrap().config().norms.sub);
}

#[test]
fn rotary_settings_of_old_and_new_transformers() {
    let rope = |change: fn(&mut serde_json::Value)| {
        let mut folder = Folder::new("LlamaForCausalLM", BF16);
        change(&mut folder.config);
        let rope = folder.open().unwrap().config().rope.clone();
        (rope.theta, rope.scaling)
    };
    let remove = |config: &mut serde_json::Value| config.as_object_mut().unwrap().remove("rope_theta");
    assert_eq!(rope(|config| config["rope_scaling"] = json!(null)), (500_000.0, RopeScaling::None));
    let linear = || RopeScaling::Linear { factor: 2.0 };
    assert_eq!(rope(|config| config["rope_scaling"] = json!({"type": "linear", "factor": 2.0})), (500_000.0, linear()));
    assert_eq!(
        rope(|config| config["rope_scaling"] = json!({"rope_type": "linear", "type": "linear", "factor": 2.0})),
        (500_000.0, linear())
    );
    assert_eq!(
        rope(|config| config["rope_scaling"] = json!({"rope_type": "linear", "factor": 2})),
        (500_000.0, linear())
    );
    let new = rope(|config| config["rope_parameters"] = json!({"rope_theta": 1000042.0, "rope_type": "default"}));
    assert_eq!(new, (1_000_042.0, RopeScaling::None));
    let mut folder = Folder::new("LlamaForCausalLM", BF16);
    remove(&mut folder.config);
    assert_eq!(folder.open().unwrap().config().rope.theta, 10_000.0);
    let mut folder = Folder::new("BitNetForCausalLM", BF16);
    remove(&mut folder.config);
    assert_eq!(folder.open().unwrap().config().rope.theta, 500_000.0);
}

#[test]
fn whether_the_head_is_the_embedding() {
    let mut folder = Folder::new("LlamaForCausalLM", BF16);
    folder.config.as_object_mut().unwrap().remove("tie_word_embeddings");
    assert!(!folder.open().unwrap().config().tied);
    folder.tensors.remove("lm_head.weight");
    assert!(folder.open().unwrap().config().tied);

    // Some exports store a tied head all the same.
    folder.config["tie_word_embeddings"] = json!(true);
    let embedding = folder.tensors["model.embed_tokens.weight"].clone();
    folder.tensors.insert("lm_head.weight".to_owned(), embedding);
    assert_eq!(folder.refusal(), "accepted");
    folder.tensors.get_mut("lm_head.weight").unwrap().2[7] ^= 1;
    assert_refusals(vec![("another head", folder.refusal(), &["lm_head.weight", "tie_word_embeddings"])]);
}

#[test]
fn stored_rotary_frequencies_are_checked() {
    let mut folder = Folder::new("LlamaForCausalLM", BF16);
    let mut frequencies: Vec<f32> =
        (0..HEAD_DIM / 2).map(|i| 500_000f32.powf(-2.0 * i as f32 / HEAD_DIM as f32)).collect();
    let name = "model.layers.1.self_attn.rotary_emb.inv_freq".to_owned();
    let stored = |frequencies: &[f32]| {
        let bytes = DenseEncoding::F32.encode(frequencies, 1, HEAD_DIM / 2).unwrap();
        (safetensors::Dtype::F32, vec![HEAD_DIM / 2], bytes)
    };
    folder.tensors.insert(name.clone(), stored(&frequencies));
    assert_eq!(folder.refusal(), "accepted");
    frequencies[9] *= 1.1;
    folder.tensors.insert(name.clone(), stored(&frequencies));
    assert_refusals(vec![("another base", folder.refusal(), &[&name, "at 9", "500000"])]);
}

/// Writes `checkpoint` as two shards and their index.
fn write_shards(checkpoint: &Folder, folder: &Path) {
    std::fs::write(folder.join("config.json"), checkpoint.config.to_string()).unwrap();
    let shard = |name: &str| match name.contains("layers.1.") {
        true => "model-00002-of-00002.safetensors",
        false => "model-00001-of-00002.safetensors",
    };
    for file in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
        std::fs::write(folder.join(file), checkpoint.safetensors(|name| shard(name) == file)).unwrap();
    }
    let map: serde_json::Map<_, _> = checkpoint.tensors.keys().map(|name| (name.clone(), json!(shard(name)))).collect();
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn shards() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Folder::new("LlamaForCausalLM", Stored::Divide);
    write_shards(&checkpoint, folder.path());
    assert_reads_right(&open(folder.path()).unwrap(), scale);
    // Any of the shards stands for all.
    assert_reads_right(&open(&folder.path().join("model-00002-of-00002.safetensors")).unwrap(), scale);
}

#[test]
fn a_file_beside_its_config() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Folder::new("BitNetForCausalLM", Stored::Multiply);
    checkpoint.write(folder.path());
    std::fs::rename(folder.path().join("model.safetensors"), folder.path().join("other.safetensors")).unwrap();
    assert_reads_right(&open(&folder.path().join("other.safetensors")).unwrap(), scale);
    let message = open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("other.safetensors"), "{message}");
}

#[test]
fn shards_that_disagree() {
    let index = |change: &dyn Fn(&mut serde_json::Value, &Path)| {
        let folder = tempfile::tempdir().unwrap();
        write_shards(&Folder::new("LlamaForCausalLM", Stored::Divide), folder.path());
        let path = folder.path().join("model.safetensors.index.json");
        let mut index = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut index, folder.path());
        std::fs::write(&path, index.to_string()).unwrap();
        match open(folder.path()).and_then(|source| read_all(&source)) {
            Ok(()) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    };
    let shard = |name: &'static str| index(&move |index, _| index["weight_map"]["model.norm.weight"] = json!(name));
    assert_refusals(vec![
        ("unchanged", index(&|_, _| ()), &["accepted"]),
        ("in another shard", shard("model-00002-of-00002.safetensors"), &["model.norm.weight", "00002-of-00002"]),
        ("a shard that is missing", shard("model-00003.safetensors"), &["model-00003.safetensors", "cannot be read"]),
        ("out of the folder", shard("../model.safetensors"), &["index.json", "\"../model.safetensors\"", "own folder"]),
        ("absolute", shard("/etc/model.safetensors"), &["index.json", "/etc/model.safetensors", "own folder"]),
        ("with a backslash", shard("..\\model.safetensors"), &["index.json", "own folder"]),
        ("the folder itself", shard(".."), &["index.json", "own folder"]),
        ("another kind of file", shard("config.json"), &["index.json", "config.json"]),
        ("no shards", index(&|index, _| index["weight_map"] = json!({})), &["index.json", "no shard"]),
        (
            "thousands of shards",
            index(&|index, _| {
                index["weight_map"] = (0..2000).map(|i| (i.to_string(), json!(format!("{i}.safetensors")))).collect();
            }),
            &["2000 shards", "1024"],
        ),
        ("no map", index(&|index, _| *index = json!({"metadata": {}})), &["index.json", "weight_map"]),
        (
            "a tensor in both",
            index(&|_, folder| {
                let mut checkpoint = Folder::new("LlamaForCausalLM", Stored::Divide);
                checkpoint.tensors.retain(|name, _| name.contains("layers.1.") || name == "model.norm.weight");
                std::fs::write(folder.join("model-00002-of-00002.safetensors"), checkpoint.safetensors(|_| true))
                    .unwrap();
            }),
            &["model.norm.weight", "00001-of-00002.safetensors", "00002-of-00002.safetensors"],
        ),
        (
            "a tensor that the index leaves out is still surplus",
            index(&|_, folder| {
                let mut checkpoint = Folder::new("LlamaForCausalLM", Stored::Divide);
                checkpoint.tensors.retain(|name, _| name.contains("layers.1."));
                let surplus = checkpoint.tensors["model.layers.1.input_layernorm.weight"].clone();
                checkpoint.tensors.insert("model.layers.1.self_attn.q_norm.weight".to_owned(), surplus);
                std::fs::write(folder.join("model-00002-of-00002.safetensors"), checkpoint.safetensors(|_| true))
                    .unwrap();
            }),
            &["model.layers.1.self_attn.q_norm.weight", "no part of the model's graph"],
        ),
    ]);
}

/// Of bytes and nothing else, but with two tokens that begin and end a text.
fn tokenizer_json() -> serde_json::Value {
    let bytes = (0..256u32).map(|byte| match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from_u32(byte).unwrap(),
        0..=0x20 => char::from_u32(256 + byte).unwrap(),
        0x7f..=0xa0 => char::from_u32(256 + 33 + byte - 0x7f).unwrap(),
        _ => char::from_u32(256 + 67).unwrap(),
    });
    let vocab: serde_json::Map<_, _> = bytes.enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
    let added = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(256, "<|begin|>"), added(257, "<|finish|>"), added(258, "<|turn|>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []},
    })
}

#[test]
fn tokenizer_and_the_files_that_complete_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    let named = |name: &str, source: &str| (name.to_owned(), source.to_owned());
    let templates = || open(folder.path()).unwrap().chat_templates();
    Folder::new("BitNetForCausalLM", Stored::Multiply).write(folder.path());
    assert!(open(folder.path()).unwrap().tokenizer().unwrap().is_none());
    assert_eq!(templates(), []);

    write("tokenizer.json", tokenizer_json().to_string());
    write("generation_config.json", json!({"bos_token_id": 256, "eos_token_id": [257, 258]}).to_string());
    let tokenizer = open(folder.path()).unwrap().tokenizer().unwrap().unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.eog()), (Some(256), Some(257), &[257, 258][..]));
    assert!(!tokenizer.add_bos());

    let config = json!({
        "bos_token": {"content": "<|begin|>"}, "eos_token": "<|turn|>", "add_bos_token": true, "chat_template": "one",
    });
    write("tokenizer_config.json", config.to_string());
    let source = open(folder.path()).unwrap();
    let tokenizer = source.tokenizer().unwrap().unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.eog()), (Some(256), Some(258), &[257, 258][..]));
    assert!(tokenizer.add_bos());
    assert_eq!(templates(), [named("default", "one")]);

    let several = json!([{"name": "tool_use", "template": "two"}, {"name": "default", "template": "three"}]);
    write("tokenizer_config.json", json!({"chat_template": several}).to_string());
    assert_eq!(templates(), [named("tool_use", "two"), named("default", "three")]);
    write("chat_template.jinja", "four".to_owned());
    assert_eq!(templates(), [named("tool_use", "two"), named("default", "four")]);
    std::fs::create_dir(folder.path().join("additional_chat_templates")).unwrap();
    write("additional_chat_templates/rag.jinja", "five".to_owned());
    write("additional_chat_templates/README", "no template".to_owned());
    assert_eq!(templates(), [named("tool_use", "two"), named("default", "four"), named("rag", "five")]);

    write("tokenizer.json", "{}".to_owned());
    let source = open(folder.path()).unwrap();
    read_all(&source).unwrap();
    let message = source.tokenizer().unwrap_err().to_string();
    assert!(message.contains("tokenizer.json"), "{message}");
    write("tokenizer_config.json", "{".to_owned());
    let message = open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("tokenizer_config.json"), "{message}");
}

#[test]
fn description() {
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoint = Folder::new("LlamaForCausalLM", Stored::Divide);
    checkpoint.config["architectures"] = json!(["MambaForCausalLM"]);
    checkpoint.write(folder.path());
    let description = tritwise_loader::describe(folder.path()).unwrap();
    assert_eq!(description.format, "safetensors");
    assert_eq!(description.architecture.as_deref(), Some("MambaForCausalLM"));
    assert!(description.metadata.contains(&("hidden_size".to_owned(), HIDDEN.to_string())));
    let query =
        description.tensors.iter().find(|tensor| tensor.name == "model.layers.0.self_attn.q_proj.weight").unwrap();
    assert_eq!((&query.shape[..], query.encoding.as_str(), query.bytes), (&[64, 256][..], "U8", 64 * 256));
}
