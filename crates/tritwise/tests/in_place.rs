//! Weights computed with where they lie in a mapped file: the same bits as packed ones, or a refusal. (Of weights in
//! memory, exactness/ compares more ways.)

use std::path::{Path, PathBuf};

use tritwise::kernels::arch::{self, Layout};
use tritwise::loader::{self, Conversion};
use tritwise::tensor::TernaryEncoding;
use tritwise::transformer::{Turn, Wanted};
use tritwise::{Model, ModelBuilder};

/// The bundled model in another encoding, as a file that goes away with its folder.
fn converted(folder: &Path, linear: TernaryEncoding) -> PathBuf {
    let bundled: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../assets/stories-8m.gguf"].iter().collect();
    let source = loader::open(bundled, &Default::default()).unwrap_or_else(|e| panic!("{e}"));
    let mut conversion = Conversion::default();
    conversion.linear = linear;
    let path = folder.join(format!("{linear}.gguf"));
    loader::convert(&source, &path, &conversion, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    path
}

/// Logits of 40 tokens, in calls of `cut`.
fn logits(builder: ModelBuilder, path: &Path, cut: usize) -> Vec<u32> {
    let model = builder.open(path).unwrap_or_else(|e| panic!("{e}"));
    let network = model.network();
    let (mut sequence, mut workspace) = (network.sequence(40), network.workspace());
    let tokens: Vec<u32> = (0..40).map(|i| i * 97 % 4000).collect();
    let mut bits = Vec::new();
    for tokens in tokens.chunks(cut) {
        let turn = Turn { sequence: &mut sequence, tokens, wanted: Wanted::All };
        let logits = network.forward(&mut workspace, &mut [turn]).expect("tokens fit");
        bits.extend(logits.as_slice().iter().map(|x| x.to_bits()));
    }
    bits
}

#[test]
fn logits_are_those_of_packed_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = converted(folder.path(), TernaryEncoding::Base3);
    let expected = logits(Model::builder().isa("scalar").layout("2bit").threads(1), &path, 40);
    for isa in arch::available() {
        if !isa.layouts().contains(&Layout::Base3) {
            println!("skipped: {} has no kernels for BASE3", isa.name());
            continue;
        }
        let builder = || Model::builder().isa(isa.name()).threads(2);
        assert!(logits(builder().in_place(true), &path, 7) == expected, "{} in place", isa.name());
        assert!(logits(builder(), &path, 7) == expected, "{} packed", isa.name());
    }
}

#[test]
fn i2s_is_computed_with_row_by_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = converted(folder.path(), TernaryEncoding::I2S(Default::default()));
    let expected = logits(Model::builder().isa("scalar").layout("2bit").threads(1), &path, 40);
    for isa in arch::available() {
        let builder = Model::builder().isa(isa.name()).threads(2).in_place(true);
        assert!(logits(builder, &path, 7) == expected, "{}", isa.name());
    }
}

#[test]
fn what_has_no_kernel_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = converted(folder.path(), TernaryEncoding::Base3);
    for isa in arch::available().into_iter().filter(|isa| !isa.layouts().contains(&Layout::Base3)) {
        let error = Model::builder().isa(isa.name()).in_place(true).open(&path).unwrap_err().to_string();
        assert!(error.contains("layer 0 Query") && error.contains("without in-place mode"), "{error}");
    }
    // Bytes in memory begin wherever they like, which is refused or right.
    let bytes = std::fs::read(&path).unwrap();
    let _ = Model::builder().in_place(true).open_bytes("in memory", bytes);
}
