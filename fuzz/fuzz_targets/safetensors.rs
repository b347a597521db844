//! Any bytes as the safetensors file of a folder: refused, or a model whose logits are numbers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tritwise::{Model, loader};

fuzz_target!(|bytes: &[u8]| {
    let folder = tritwise_fuzz::folder(&[("model.safetensors", bytes)]);
    let _ = loader::describe(folder);
    if let Ok(model) = Model::builder().threads(1).open(folder) {
        tritwise_fuzz::run(&model);
    }
});
