//! Any bytes as a GGUF file: refused, or windows are in bounds, and every tensor that the graph could ask for is
//! refused or can be read to its last row.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tritwise::loader;
use tritwise::tensor::{Checkpoint, LayerShape, LayerTensor, TensorId};

fuzz_target!(|bytes: &[u8]| {
    let Ok(source) = loader::open_bytes("fuzz", bytes.to_vec(), &Default::default()) else { return };
    let _ = source.describe();
    let _ = source.tokenizer();
    let _ = source.chat_templates();
    let config = source.config();
    if let Ok(table) = source.dense(TensorId::TokenEmbedding, config.vocab, config.hidden) {
        table.read_row(config.vocab - 1, &mut vec![0.0; config.hidden]);
    }
    for tensor in LayerTensor::ALL {
        match tensor.shape(config) {
            Some(LayerShape::Norm(len)) => drop(source.vector(TensorId::Layer(0, tensor), len)),
            Some(LayerShape::Linear(rows, cols)) => {
                if let Ok(matrix) = source.ternary(TensorId::Layer(0, tensor), rows, cols) {
                    let mut row = vec![0; cols];
                    matrix.read_row(rows - 1, &mut row);
                    assert!(row.iter().all(|trit| (-1..=1).contains(trit)));
                }
            }
            None => {}
        }
    }
    let _ = source.finish();
});
