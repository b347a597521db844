//! Any bytes as a checkpoint: every tensor the graph could ask for is an error or readable to its last row.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tritwise_tensor::{Checkpoint, LayerTensor, TensorId};

fuzz_target!(|bytes: &[u8]| {
    let Ok(source) = tritwise_loader::open_bytes("fuzz", bytes.to_vec(), &Default::default()) else { return };
    let config = source.config().clone();
    let _ = source.tokenizer();
    let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    if let Ok(table) = source.dense(TensorId::TokenEmbedding, config.vocab, config.hidden) {
        table.read_row(config.vocab - 1, &mut vec![0.0; config.hidden]);
    }
    for (tensor, rows, cols) in [
        (LayerTensor::Query, q, config.hidden),
        (LayerTensor::Key, kv, config.hidden),
        (LayerTensor::AttnOutput, config.hidden, q),
        (LayerTensor::Down, config.hidden, config.ffn),
    ] {
        if let Ok(matrix) = source.ternary(TensorId::Layer(0, tensor), rows, cols) {
            let mut row = vec![0; cols];
            matrix.read_row(rows - 1, &mut row);
            assert!(row.iter().all(|trit| (-1..=1).contains(trit)));
        }
    }
    let _ = source.vector(TensorId::OutputNorm, config.hidden);
    let _ = source.finish();
});
