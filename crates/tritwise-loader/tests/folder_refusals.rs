//! Hugging Face folders that must not be run: each refusal names what is wrong.

mod support;

use serde_json::{Value as Json, json};
use support::*;
use tritwise_loader::Options;
use tritwise_tensor::{DenseEncoding, FloatKind};

const BF16: Stored = Stored::Floats(FloatKind::Bf16);

/// What is said about a llama of ternary floats with this setting.
fn with(key: &str, value: Json) -> String {
    let mut folder = Folder::new("LlamaForCausalLM", BF16);
    folder.config[key] = value;
    folder.refusal()
}

/// What is said about a packed model with this setting in `quantization_config`.
fn quantization(key: &str, value: Json) -> String {
    let mut folder = Folder::new("BitNetForCausalLM", Stored::Multiply);
    folder.config["quantization_config"][key] = value;
    folder.refusal()
}

fn after(stored: Stored, change: impl FnOnce(&mut Folder)) -> String {
    let mut folder = Folder::new("BitNetForCausalLM", stored);
    change(&mut folder);
    folder.refusal()
}

#[test]
fn configuration() {
    let without = |key: &str| {
        after(BF16, |folder| {
            folder.config.as_object_mut().unwrap().remove(key);
        })
    };
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 8192});
    assert_refusals(vec![
        ("no width", without("hidden_size"), &["config.json", "hidden_size"]),
        ("no epsilon", without("rms_norm_eps"), &["config.json", "rms_norm_eps"]),
        ("no activation", without("hidden_act"), &["config.json", "hidden_act"]),
        ("width as text", with("hidden_size", json!("256")), &["config.json", "line 1"]),
        ("negative width", with("hidden_size", json!(-256)), &["config.json", "-256"]),
        ("width 0", with("hidden_size", json!(0)), &["hidden size is 0"]),
        ("depth 0", with("num_hidden_layers", json!(0)), &["layers is 0"]),
        ("huge depth", with("num_hidden_layers", json!(1u64 << 60)), &["layers", "4096"]),
        ("heads 0", with("num_attention_heads", json!(0)), &["0 heads"]),
        ("uneven groups", with("num_key_value_heads", json!(3)), &["4 heads", "3 key/value heads"]),
        ("odd head size", with("head_dim", json!(63)), &["63", "even"]),
        ("huge head size", with("head_dim", json!(u64::MAX)), &["head size"]),
        ("heads that do not divide", with("num_attention_heads", json!(3)), &["256", "3 heads", "head_dim"]),
        ("another architecture", with("architectures", json!(["MambaForCausalLM"])), &["MambaForCausalLM", "Llama"]),
        ("gelu", with("hidden_act", json!("gelu")), &["hidden_act", "gelu", "silu"]),
        ("biases", with("attention_bias", json!(true)), &["attention_bias"]),
        ("more biases", with("mlp_bias", json!(true)), &["mlp_bias"]),
        ("experts", with("num_local_experts", json!(8)), &["num_local_experts", "8"]),
        ("sliding window", with("sliding_window", json!(16)), &["sliding_window", "16"]),
        ("llama3 scaling", with("rope_scaling", llama3.clone()), &["accepted"]),
        ("llama3 scaling, new", with("rope_parameters", llama3.clone()), &["accepted"]),
        (
            "llama3 scaling without factors",
            with("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0})),
            &["llama3", "low_freq_factor"],
        ),
        ("a scaling of tomorrow", with("rope_scaling", json!({"rope_type": "longrope"})), &["longrope", "\"yarn\""]),
        (
            "YaRN with another magnitude",
            with("rope_scaling", json!({"rope_type": "yarn", "factor": 4, "mscale": 2.0})),
            &["mscale"],
        ),
        (
            "YaRN",
            with("rope_scaling", json!({"type": "yarn", "factor": 4})),
            &["yarn", "original_max_position_embeddings"],
        ),
        ("linear without factor", with("rope_scaling", json!({"type": "linear"})), &["factor"]),
        ("partly rotated", with("partial_rotary_factor", json!(0.5)), &["partial_rotary_factor", "0.5"]),
        (
            "partly rotated, new",
            with("rope_parameters", json!({"rope_type": "default", "partial_rotary_factor": 0.5})),
            &["partial_rotary_factor", "0.5"],
        ),
        ("rotary base 0", with("rope_theta", json!(0)), &["rotary base is 0"]),
        ("another method", quantization("quant_method", json!("gptq")), &["quant_method", "gptq", "bitnet"]),
        ("no method", quantization("quant_method", Json::Null), &["quant_method"]),
        ("another class", quantization("linear_class", json!("bitlinear2")), &["linear_class", "bitlinear2"]),
        ("another mode", quantization("quantization_mode", json!("later")), &["quantization_mode", "later", "online"]),
        ("norms inside", quantization("use_rms_norm", json!(true)), &["norms inside the linear layers", "sub-norms"]),
        (
            "layers left out",
            quantization("modules_to_not_convert", json!(["lm_head", "model.layers.0"])),
            &["modules_to_not_convert", "model.layers.0"],
        ),
        ("the head left out", quantization("modules_to_not_convert", json!(["lm_head"])), &["accepted"]),
        ("no window", with("sliding_window", Json::Null), &["accepted"]),
        ("a window as long as the context", with("sliding_window", json!(64)), &["accepted"]),
        (
            "llama3 scaling of a huge head size",
            {
                let mut folder = Folder::new("LlamaForCausalLM", BF16);
                folder.config["rope_scaling"] = llama3.clone();
                folder.config["head_dim"] = json!(u64::MAX - 1);
                folder.refusal()
            },
            &["head size is 18446744073709551614"],
        ),
        (
            "a window in a huge depth",
            {
                let mut folder = Folder::new("Gemma3ForCausalLM", BF16);
                folder.config["sliding_window"] = json!(16);
                folder.config["num_hidden_layers"] = json!(1u64 << 63);
                folder.refusal()
            },
            &["layers is 9223372036854775808", "4096"],
        ),
        (
            "a window not in use",
            {
                let mut folder = Folder::new("LlamaForCausalLM", BF16);
                folder.config["sliding_window"] = json!(16);
                folder.config["use_sliding_window"] = json!(false);
                folder.refusal()
            },
            &["accepted"],
        ),
    ]);
}

#[test]
fn tensors() {
    const QUERY: &str = "model.layers.1.self_attn.q_proj.weight";
    const SCALE: &str = "model.layers.1.self_attn.q_proj.weight_scale";
    let of_scale = |value: f32| {
        move |folder: &mut Folder| {
            folder.tensors.get_mut(SCALE).unwrap().2 = value.to_le_bytes()[2..].to_vec();
        }
    };
    assert_refusals(vec![
        (
            "missing linear",
            after(BF16, |folder| drop(folder.tensors.remove(QUERY))),
            &[QUERY, "missing", "layer 1 Query"],
        ),
        (
            "missing scale",
            after(Stored::Multiply, |folder| drop(folder.tensors.remove(SCALE))),
            &[SCALE, "missing", "scale"],
        ),
        (
            "missing sub-norm",
            after(BF16, |folder| drop(folder.tensors.remove("model.layers.0.mlp.ffn_sub_norm.weight"))),
            &["model.layers.0.mlp.ffn_sub_norm.weight", "missing"],
        ),
        (
            "surplus norm inside a linear layer",
            after(Stored::Multiply, |folder| {
                let norm = folder.tensors["model.norm.weight"].clone();
                folder.tensors.insert("model.layers.0.self_attn.q_proj.rms_norm.weight".to_owned(), norm);
            }),
            &["model.layers.0.self_attn.q_proj.rms_norm.weight", "no part of the model's graph"],
        ),
        (
            "scale without packed weights",
            after(BF16, |folder| {
                let scale = (safetensors::Dtype::BF16, vec![1], vec![0, 0x3f]);
                folder.tensors.insert(SCALE.to_owned(), scale);
            }),
            &[SCALE],
        ),
        (
            "weights not packed",
            after(Stored::Multiply, |folder| {
                let bytes = vec![0; HIDDEN * HIDDEN / 4 * 2];
                folder.tensors.insert(QUERY.to_owned(), (safetensors::Dtype::BF16, vec![HIDDEN / 4, HIDDEN], bytes));
            }),
            &[QUERY, "BF16", "quantization_config", "online"],
        ),
        (
            "packed weights nobody announced",
            after(Stored::Multiply, |folder| {
                folder.config.as_object_mut().unwrap().remove("quantization_config");
            }),
            &["q_proj.weight", "[64, 256]", "[256, 256]"],
        ),
        (
            "transposed",
            after(Stored::Multiply, |folder| {
                let tensor = folder.tensors.get_mut("model.layers.0.mlp.down_proj.weight").unwrap();
                tensor.1.reverse();
            }),
            &["model.layers.0.mlp.down_proj.weight", "[512, 64]", "[64, 512]"],
        ),
        (
            "code that is never written",
            after(Stored::Multiply, |folder| folder.tensors.get_mut(QUERY).unwrap().2[5] = 0xff),
            &[QUERY],
        ),
        ("NaN scale", after(Stored::Multiply, of_scale(f32::NAN)), &[SCALE, "NaN"]),
        ("infinite scale", after(Stored::Multiply, of_scale(f32::INFINITY)), &[SCALE, "inf"]),
        ("division by zero", after(Stored::Divide, of_scale(0.0)), &[SCALE, "divided"]),
        (
            "two scales",
            after(Stored::Multiply, |folder| {
                folder.tensors.insert(SCALE.to_owned(), (safetensors::Dtype::BF16, vec![2], vec![0, 0x3f, 0, 0x3f]));
            }),
            &[SCALE, "[2]", "[1]"],
        ),
        (
            "NaN norm",
            after(BF16, |folder| {
                folder.tensors.get_mut("model.norm.weight").unwrap().2[..2].copy_from_slice(&[0xff, 0x7f])
            }),
            &["model.norm.weight", "NaN"],
        ),
        (
            "norm of integers",
            after(BF16, |folder| folder.tensors.get_mut("model.norm.weight").unwrap().0 = safetensors::Dtype::I16),
            &["model.norm.weight", "I16"],
        ),
        (
            "embedding of integers",
            after(BF16, |folder| {
                folder.tensors.get_mut("model.embed_tokens.weight").unwrap().0 = safetensors::Dtype::I16
            }),
            &["model.embed_tokens.weight", "I16"],
        ),
        (
            "another vocabulary",
            after(BF16, |folder| folder.config["vocab_size"] = json!(41)),
            &["model.embed_tokens.weight", "[40, 256]", "[41, 256]"],
        ),
        (
            "ordinary weights",
            after(BF16, |folder| {
                let values = floats(tritwise_tensor::TensorId::Output, HIDDEN * HIDDEN);
                let bytes = DenseEncoding::Bf16.encode(&values, HIDDEN, HIDDEN).unwrap();
                folder.tensors.get_mut(QUERY).unwrap().2 = bytes;
            }),
            &[QUERY, "must be already"],
        ),
    ]);
}

#[test]
fn truncated_at_every_64th() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Folder::new("LlamaForCausalLM", Stored::Divide);
    checkpoint.write(folder.path());
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for part in 0..64 {
        std::fs::write(&path, &bytes[..bytes.len() * part / 64]).unwrap();
        let refused = tritwise_loader::open(folder.path(), &Options::default()).expect_err(&format!("{part}/64"));
        assert!(refused.to_string().contains("model.safetensors: is not a whole safetensors file"), "{refused}");
    }
}

#[test]
fn headers_that_lie() {
    let folder = tempfile::tempdir().unwrap();
    Folder::new("LlamaForCausalLM", BF16).write(folder.path());
    let path = folder.path().join("model.safetensors");
    let header = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        std::fs::write(&path, bytes).unwrap();
        match tritwise_loader::open(folder.path(), &Options::default()) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    };
    let tensor = |dtype: &str, shape: &str, range: &str| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{range}}}"#)
    };
    let (a, b) = (tensor("F32", "[1]", "[0,4]"), tensor("U8", "[4]", "[0,4]"));
    assert_refusals(vec![
        ("an honest one", header(&format!(r#"{{"a":{a}}}"#), 4), &["accepted"]),
        ("a tensor twice", header(&format!(r#"{{"a":{a},"a":{b}}}"#), 4), &["model.safetensors", "\"a\"", "twice"]),
        ("overlapping tensors", header(&format!(r#"{{"a":{a},"b":{b}}}"#), 4), &["model.safetensors"]),
        (
            "wrapping shape",
            header(&format!(r#"{{"a":{}}}"#, tensor("F32", "[4294967296,4294967297]", "[0,4]")), 4),
            &["model.safetensors"],
        ),
        (
            "range beyond the end",
            header(&format!(r#"{{"a":{}}}"#, tensor("F32", "[2]", "[0,8]")), 4),
            &["model.safetensors"],
        ),
        (
            "range backwards",
            header(&format!(r#"{{"a":{}}}"#, tensor("F32", "[1]", "[4,0]")), 4),
            &["model.safetensors"],
        ),
        ("unknown type", header(&format!(r#"{{"a":{}}}"#, tensor("Q7", "[1]", "[0,4]")), 4), &["model.safetensors"]),
        ("nested to the end of the stack", header(&"[".repeat(200_000), 0), &["model.safetensors"]),
        ("bytes behind the last tensor", header(&format!(r#"{{"a":{a}}}"#), 5), &["model.safetensors"]),
    ]);
    std::fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    assert!(tritwise_loader::open(folder.path(), &Options::default()).is_err());
}

#[test]
fn folders_without_what_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let open = || tritwise_loader::open(folder.path(), &Options::default()).unwrap_err().to_string();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let empty = open();
    write("pytorch_model.bin", b"x");
    let pytorch = open();
    write("model.gguf", b"x");
    let gguf = open();
    let checkpoint = Folder::new("LlamaForCausalLM", BF16);
    write("model.safetensors", &checkpoint.safetensors(|_| true));
    let no_config = open();
    write("config.json", b"[1, 2");
    let bad_config = open();
    write("config.json", &[b"{\"a\": \"".as_slice(), &vec![b'x'; 65 << 20]].concat());
    let huge_config = open();
    assert_refusals(vec![
        ("empty", empty, &["neither model.safetensors nor model.safetensors.index.json"]),
        ("PyTorch", pytorch, &["safe_serialization"]),
        ("GGUF", gguf, &["model.gguf", "name the file itself"]),
        ("no config.json", no_config, &["config.json", "is missing"]),
        ("config.json is not JSON", bad_config, &["config.json", "not as expected"]),
        ("huge config.json", huge_config, &["config.json", "larger than"]),
    ]);
}
