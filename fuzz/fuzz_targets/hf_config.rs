//! Any bytes as the small files of a folder, with a zero byte between one and the next: refused, or a model whose
//! logits are numbers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tritwise::Model;

const FILES: [&str; 5] =
    ["config.json", "tokenizer_config.json", "generation_config.json", "1_Pooling/config.json", "chat_template.jinja"];

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|&byte| byte == 0);
    // Of a file that is not given, the contents say nothing.
    let files = FILES.map(|name| (name, parts.next().unwrap_or(if name.ends_with("json") { b"{}" } else { b"" })));
    // Without a pooling, as most folders are.
    let files = if files[3].1 == b"{}" { [&files[..3], &files[4..]].concat() } else { files.to_vec() };
    let folder = tritwise_fuzz::folder(&files);
    if let Ok(model) = Model::builder().threads(1).open(folder) {
        tritwise_fuzz::run(&model);
        let _ = model.embed(&["a b"]);
    }
    let _ = std::fs::remove_dir_all(folder.join("1_Pooling"));
});
