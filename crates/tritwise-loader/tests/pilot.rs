//! A trained checkpoint, where one is at hand: set `TRITWISE_SHARED` to a folder that holds `pilot/`.

use std::path::PathBuf;

use tritwise_loader::Conversion;
use tritwise_tensor::{
    Checkpoint, Config, DenseEncoding, I2sLayout, LayerShape, LayerTensor, TensorId, TernaryEncoding,
};

/// Asks for every tensor of the graph, as a model does.
fn read_all(source: &impl Checkpoint) {
    let &Config { hidden, vocab, layers, tied, .. } = source.config();
    source.dense(TensorId::TokenEmbedding, vocab, hidden).unwrap();
    source.vector(TensorId::OutputNorm, hidden).unwrap();
    if !tied {
        source.dense(TensorId::Output, vocab, hidden).unwrap();
    }
    for layer in 0..layers {
        for tensor in LayerTensor::ALL {
            let id = TensorId::Layer(layer, tensor);
            match tensor.shape(source.config()) {
                Some(LayerShape::Norm(len)) => drop(source.vector(id, len).unwrap()),
                Some(LayerShape::Linear(rows, cols)) => drop(source.ternary(id, rows, cols).unwrap()),
                None => {}
            }
        }
    }
    source.finish().unwrap();
}

#[test]
fn pilot_opens_and_every_tensor_is_read() {
    let Some(shared) = std::env::var_os("TRITWISE_SHARED") else {
        eprintln!("skipped: TRITWISE_SHARED is not set");
        return;
    };
    let source = tritwise_loader::open(PathBuf::from(shared).join("pilot"), &Default::default()).unwrap();
    assert_eq!(source.config().layers, 8);
    read_all(&source);
    let tokenizer = source.tokenizer().unwrap().expect("the folder has a tokenizer.json");
    assert_eq!(tokenizer.vocab_size(), 4096);
}

#[test]
fn pilot_converts_to_every_encoding() {
    let Some(shared) = std::env::var_os("TRITWISE_SHARED") else {
        eprintln!("skipped: TRITWISE_SHARED is not set");
        return;
    };
    let source = tritwise_loader::open(PathBuf::from(shared).join("pilot"), &Default::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ggml = [TernaryEncoding::I2S(I2sLayout::A), TernaryEncoding::Tq1_0, TernaryEncoding::Tq2_0];
    for linear in ggml.into_iter().chain([TernaryEncoding::Base3]) {
        for embedding in [None, Some(DenseEncoding::F16), Some(DenseEncoding::Q8_0), Some(DenseEncoding::Q6K)] {
            let path = folder.path().join("pilot.gguf");
            let mut conversion = Conversion::default();
            (conversion.linear, conversion.embedding) = (linear, embedding);
            // The comparison with the source is part of the conversion.
            tritwise_loader::convert(&source, &path, &conversion, &mut |_| {}).unwrap();
            read_all(&tritwise_loader::open(&path, &Default::default()).unwrap());
            println!("{linear} {embedding:?}: {} bytes", path.metadata().unwrap().len());
        }
    }
}
