//! Random checkpoints: the same from the same seed, and every one opens and reads.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::Path;

use clap::ValueEnum;
use support::Dense;
use support::dummy::{Dummy, MASTERS};
use support::shapes::{Graph, SHAPES};
use tritwise::Config;
use tritwise::loader::{self, Conversion, Options};
use tritwise::tensor::{Checkpoint, DenseEncoding, Inputs, LayerShape, LayerTensor, TensorId, TernaryEncoding};

/// A published shape, small enough for a test.
fn small(graph: Graph) -> Config {
    let shape = SHAPES.iter().find(|shape| shape.name == "125m").expect("a shape of that name");
    let mut config = shape.config(Some(graph));
    (config.hidden, config.ffn, config.vocab) = (256, 512, 300);
    // Of Gemma's, the sixth layer is the first without a window.
    config.layers = if graph == Graph::Gemma3 { 7 } else { 2 };
    (config.heads, config.kv_heads, config.head_dim) = (4, 2, 64);
    if config.embedding_scale != 1.0 {
        config.embedding_scale = 16.0;
    }
    if let Some(window) = &mut config.window {
        window.layers.truncate(config.layers);
    }
    config
}

fn write(dummy: &Dummy, to: &Path) -> Result<(), loader::Error> {
    let mut conversion = Conversion::default();
    conversion.linear = dummy.linear;
    loader::write(dummy, to, &conversion, &mut |_| {})
}

/// Of a file, or of all files in a folder with their names.
fn hash(path: &Path, state: &mut DefaultHasher) {
    if !path.is_dir() {
        return fs::read(path).unwrap().hash(state);
    }
    let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        entry.file_name().hash(state);
        hash(&entry, state);
    }
}

fn hash_of(path: &Path) -> u64 {
    let mut state = DefaultHasher::new();
    hash(path, &mut state);
    state.finish()
}

/// Opens what was written and reads all of it.
fn read_all(path: &Path, expected: &Config) {
    let source = loader::open(path, &Options::default()).unwrap();
    let found = source.config();
    let expected = Config { architecture: found.architecture.clone(), rope: found.rope.clone(), ..expected.clone() };
    assert_eq!(*found, expected);
    let &Config { hidden, vocab, layers, tied, .. } = found;
    source.dense(TensorId::TokenEmbedding, vocab, hidden).unwrap().check_finite().unwrap();
    if !tied {
        source.dense(TensorId::Output, vocab, hidden).unwrap().check_finite().unwrap();
    }
    source.vector(TensorId::OutputNorm, hidden).unwrap();
    for (layer, tensor) in (0..layers).flat_map(|layer| LayerTensor::ALL.map(|tensor| (layer, tensor))) {
        let id = TensorId::Layer(layer, tensor);
        match tensor.shape(found) {
            Some(LayerShape::Norm(len)) => drop(source.vector(id, len).unwrap()),
            Some(LayerShape::Linear(rows, cols)) => drop(source.ternary(id, rows, cols).unwrap()),
            None => {}
        }
    }
    source.finish().unwrap();
}

#[test]
fn every_graph_in_every_encoding_is_the_same_twice_and_opens() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let encodings = TernaryEncoding::WRITABLE.into_iter().chain([MASTERS]);
    for (&graph, linear) in Graph::value_variants().iter().flat_map(|graph| encodings.clone().map(move |e| (graph, e)))
    {
        let config = small(graph);
        let in_folder = linear == TernaryEncoding::HfPacked || linear == MASTERS;
        let dummy = |seed| Dummy { config: config.clone(), linear, table: DenseEncoding::F16, seed };
        let written = write(&dummy(1), &a);
        if in_folder && config.inputs == Inputs::Float {
            assert!(written.unwrap_err().to_string().contains("not rounded"), "{graph:?} {linear}");
            continue;
        }
        written.unwrap_or_else(|error| panic!("{graph:?} {linear}: {error}"));
        write(&dummy(1), &b).unwrap();
        assert_eq!(hash_of(&a), hash_of(&b), "{graph:?} {linear}");
        read_all(&a, &config);
        // What the disk is asked for is what is written, but for the header.
        let (expected, found) = (dummy(1).bytes().unwrap(), support::size(&a).unwrap());
        assert!((expected..expected + 40_000).contains(&found), "{graph:?} {linear}: {found} of {expected}");
        for path in [&a, &b] {
            if in_folder { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
}

#[test]
fn another_seed_is_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let hashes = [0, 1, u64::MAX].map(|seed| {
        let path = folder.path().join(seed.to_string());
        let linear = TernaryEncoding::Base3;
        write(&Dummy { config: small(Graph::Llama), linear, table: DenseEncoding::F16, seed }, &path).unwrap();
        hash_of(&path)
    });
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
}

#[test]
fn every_table_opens() {
    let folder = tempfile::tempdir().unwrap();
    for &table in Dense::value_variants() {
        let path = folder.path().join(format!("{table:?}"));
        let config = small(Graph::Llama);
        let dummy = Dummy { config: config.clone(), linear: TernaryEncoding::Base3, table: table.into(), seed: 0 };
        write(&dummy, &path).unwrap();
        read_all(&path, &config);
    }
}

#[test]
fn shapes_are_those_of_their_names() {
    let parameters = |name: &str| {
        let shape = SHAPES.iter().find(|shape| shape.name == name).expect("a shape of that name");
        let config = shape.config(None);
        assert!(shape.is(&config));
        (config.layers as u64 * config.layer_parameters(), config.parameters())
    };
    for (name, ternary, all) in [
        ("2b-4t", 2_084_044_800, 2_412_380_160),
        ("8b", 6_979_321_856, 8_029_995_008),
        ("embedding-0.6b", 440_401_920, 595_984_384),
    ] {
        assert_eq!(parameters(name), (ternary, all), "{name}");
    }
    // The numbers in the other names are round ones, of all weights but for the embedding.
    for (name, billions) in [("125m", 0.085), ("7b", 7.0), ("13b", 13.0), ("30b", 30.0), ("70b", 70.0), ("100b", 100.0)]
    {
        let (ternary, _) = parameters(name);
        assert!((ternary as f64 / 1e9 / billions - 1.0).abs() < 0.16, "{name} has {ternary}");
    }
}
