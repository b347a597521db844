//! Writes `seeds/`, with which every target begins, and looks whether what targets spoil is sound:
//! `cargo +nightly run --manifest-path fuzz/Cargo.toml --example seeds`.

use std::fs;
use std::path::Path;

use tritwise::Model;
use tritwise::loader::{self, Conversion, write_gguf};
use tritwise::tensor::{FloatKind, I2sLayout, Ternarize, TernaryEncoding};

const TINY: &str = "../crates/tritwise-tokenizer/tests/fixtures/";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR"))?;
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new("seeds").join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    };

    let folder = tritwise_fuzz::folder(&[]);
    let source = loader::open(folder, &Default::default())?;
    for (name, linear) in [
        ("i2_s", TernaryEncoding::I2S(I2sLayout::A)),
        ("base3", TernaryEncoding::Base3),
        ("f16", TernaryEncoding::Float(FloatKind::F16, Ternarize::Exact)),
    ] {
        let mut conversion = Conversion::default();
        conversion.linear = linear;
        let file = write_gguf(&source, Vec::new(), &conversion, &mut |_| {})?;
        put("gguf", name, &file)?;
    }

    tritwise_fuzz::run(&Model::open(folder)?);
    for file in tritwise_fuzz::gguf() {
        tritwise_fuzz::run(&Model::builder().open_bytes("sound", file.clone())?);
    }

    put("safetensors", "llama", &fs::read(folder.join("model.safetensors"))?)?;

    let rope = r#""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
"high_freq_factor": 4.0, "original_max_position_embeddings": 16}, "rope_theta""#;
    let yarn =
        r#""rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}, "rope_theta""#;
    let quantized = r#""quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear",
"quantization_mode": "online"}, "rope_theta""#;
    let plain = tritwise_fuzz::CONFIG;
    let special = r#"{"bos_token": "<|end|>", "eos_token": {"content": "<|end|>"}, "add_bos_token": true,
"chat_template": [{"name": "default", "template": "{{ messages }}"}]}"#;
    let beside = format!(
        "{plain}\0{special}\0{{\"eos_token_id\": [0, 1]}}\0{{\"pooling_mode_mean_tokens\": true}}\0{{{{ messages }}}}"
    );
    for (name, text) in [
        ("plain", plain.to_owned()),
        ("llama3", plain.replace("\"rope_theta\"", rope)),
        ("yarn", plain.replace("\"rope_theta\"", yarn)),
        ("quantized", plain.replace("\"rope_theta\"", quantized)),
        ("beside", beside),
    ] {
        put("hf_config", name, text.as_bytes())?;
    }
    for config in ["qwen3-bonsai", "gemma3-embedding", "bitnet-2b4t-online", "llama-rms-norm"] {
        let path = format!("../crates/tritwise/tests/fixtures/{config}/config.json");
        put("hf_config", config, &fs::read(path)?)?;
    }

    let text = "It's the 3rd\n\n <|end|> of <s>this</s>: äöü 🦀 ";
    let json = |bytes: &[u8]| [b"\0", text.as_bytes(), b"\0", bytes].concat();
    put("tokenizer", "bytes", &json(tritwise_fuzz::TOKENIZER))?;
    put("tokenizer", "byte-level", &json(&fs::read(format!("{TINY}byte-level.tokenizer.json"))?))?;
    put("tokenizer", "sentence-piece", &json(&fs::read(format!("{TINY}sentence-piece.tokenizer.json"))?))?;
    let words = "<unk>\n<s>\n</s>\n▁\na\nb\n▁a\n▁b\nab\nĠ\nĠa\nĊ";
    for kind in [1u8, 2] {
        // What `arbitrary` makes of bytes is not written down: the words at the end, and a bit of everything.
        let numbers: Vec<u8> = (0..64u8).map(|i| i.wrapping_mul(37) % 11).collect();
        put(
            "tokenizer",
            &format!("gguf-{kind}"),
            &[&[kind], text.as_bytes(), b"\0", &numbers, words.as_bytes()].concat(),
        )?;
    }

    let chatml = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + \
                  '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    let tools = "{{ bos_token }}{% macro show(x) %}{{ x | tojson(indent=2) }}{% endmacro %}{% if tools %}{{ show(tools) }}\
                 {% endif %}{% set ns = namespace(i=0) %}{% for m in messages if m.role != 'system' %}{% set ns.i = ns.i + 1 %}\
                 {{ m.content.split('<')[0] ~ ns.i ~ m.content[1:-1] ~ loop.index0 }}{% else %}{{ raise_exception('none') }}\
                 {% endfor %}{{ strftime_now('%d %b %Y') }}{{ range(3) | list | join(',') }}";
    let messages = "Be brief.\0What is <|end|> and <|en?\0{\"role\": \"assistant\", \"content\": null, \"tool_calls\": \
                    [{\"function\": {\"name\": \"f\", \"arguments\": {\"x\": 1}}}]}\0d|>";
    for (name, template) in
        [("chatml", chatml), ("tools", tools), ("loop", "{% for i in range(99999) %}{{ i }}{% endfor %}")]
    {
        put("chat_template", name, format!("{template}\0{messages}").as_bytes())?;
    }

    // These read structures: any bytes are sound, and more of them are more.
    let bytes: Vec<u8> = (0..256u32).map(|i| (i * i * 31 >> 3) as u8).collect();
    for target in ["session_file", "encoding_roundtrip", "gemv_differential", "model_load"] {
        for len in [16, 64, 256] {
            put(target, &format!("{len}-bytes"), &bytes[..len])?;
        }
    }
    Ok(())
}
