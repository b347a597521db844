//! From any checkpoint to GGUF and back, weight by weight.

mod support;

use std::path::Path;

use support::*;
use tritwise_gguf::{Header, types};
use tritwise_loader::{Activation, Conversion, Error, Options, Progress, Source, Stage};
use tritwise_tensor::{
    Checkpoint, DenseEncoding, FloatKind, I2sLayout, LayerTensor, Norms, RopeScaling, RopeStyle, Scales, TensorId,
    Ternarize, TernaryEncoding,
};

/// Every encoding of GGUF files that holds zeros.
fn linear() -> impl Iterator<Item = TernaryEncoding> {
    let others = |encoding: &TernaryEncoding| !matches!(encoding, TernaryEncoding::HfPacked | TernaryEncoding::Q1_0(_));
    TernaryEncoding::WRITABLE.into_iter().filter(others)
}

fn to(linear: TernaryEncoding) -> Conversion {
    let mut conversion = Conversion::default();
    conversion.linear = linear;
    conversion
}

/// Converts in memory.
fn convert(source: &Source, conversion: &Conversion) -> Result<Source, Error> {
    let bytes = tritwise_loader::write_gguf(source, Vec::new(), conversion, &mut |_| {})?;
    tritwise_loader::open_bytes("converted", bytes, &Options::default())
}

#[test]
fn folders_with_sub_norms_keep_every_row() {
    for stored in [Stored::Multiply, Stored::Divide, Stored::Floats(FloatKind::Bf16)] {
        let source = Folder::new("BitNetForCausalLM", stored).open().unwrap();
        for linear in linear() {
            let written = convert(&source, &to(linear)).unwrap();
            assert_eq!(written.config().architecture, "bitnet-b1.58");
            assert_reads_right(&written, scale);
        }
    }
}

#[test]
fn folders_of_llamas_get_interleaved_heads() {
    let source = Folder::new("LlamaForCausalLM", Stored::Divide).open().unwrap();
    for linear in linear() {
        let written = convert(&source, &to(linear)).unwrap();
        let config = written.config();
        assert_eq!((config.architecture.as_str(), config.rope.style), ("llama", RopeStyle::Interleaved));
        for Tensor { id, rows, cols, .. } in linear_ids() {
            let (original, matrix) = (trits(id, rows, cols), written.ternary(id, rows, cols).unwrap());
            let rotates = matches!(id, TensorId::Layer(_, LayerTensor::Query | LayerTensor::Key));
            let mut found = vec![0; cols];
            for row in 0..rows {
                matrix.read_row(row, &mut found);
                // Written as llama.cpp's converter does: view [heads, 2, d/2, cols], swap the middle axes.
                let (head, pair, half) = (row / HEAD_DIM, row % HEAD_DIM / 2, row % 2);
                let from = if rotates { head * HEAD_DIM + half * (HEAD_DIM / 2) + pair } else { row };
                assert_eq!(found, original[from * cols..][..cols], "{id} row {row}");
            }
        }
    }
}

#[test]
fn gguf_files_keep_every_row_and_their_metadata() {
    for architecture in ["bitnet-b1.58", "bitnet", "llama"] {
        let mut original =
            Gguf::new(architecture, TernaryEncoding::Float(FloatKind::F16, Ternarize::Exact)).with_tokenizer();
        original.set("general.name", "test");
        original.set("general.license", "mit");
        original.set("general.file_type", 1u32);
        original.set("general.alignment", 64u32);
        original.set(&format!("{architecture}.rope.scaling.type"), "linear");
        original.set(&format!("{architecture}.rope.scaling.factor"), 2f32);
        let source = original.open().unwrap();
        for linear in linear() {
            let written = convert(&source, &to(linear)).unwrap();
            assert_reads_right(&written, scale);
            assert_eq!(written.config(), source.config());
            assert_eq!(written.config().rope.scaling, RopeScaling::Linear { factor: 2.0 });
            assert_eq!(written.chat_templates(), source.chat_templates());
            assert_eq!(written.tokenizer().unwrap().unwrap().vocab_size(), VOCAB);
            let metadata = written.describe().metadata;
            let value = |key: &str| metadata.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
            assert_eq!((value("general.name"), value("general.license")), (Some("\"test\""), Some("\"mit\"")));
            let alignment = (linear == TernaryEncoding::Base3).then_some("64");
            assert_eq!(value("general.alignment"), alignment);
        }
        let mut conversion = to(I2S);
        (conversion.name, conversion.without_tokenizer) = (Some("other".to_owned()), true);
        let written = convert(&source, &conversion).unwrap();
        assert!(written.tokenizer().unwrap().is_none());
        assert!(written.describe().metadata.contains(&("general.name".to_owned(), "\"other\"".to_owned())));
    }
}

#[test]
fn the_activation_survives_where_the_shape_would_imply_another() {
    let mut original = Gguf::new("bitnet-b1.58", I2S);
    original.set("bitnet-b1.58.hidden_activation", "silu");
    let written = convert(&original.open().unwrap(), &to(I2S)).unwrap();
    assert_eq!((written.config().architecture.as_str(), written.config().activation), ("bitnet", Activation::Silu));
    let metadata = written.describe().metadata;
    assert!(metadata.contains(&("bitnet.hidden_activation".to_owned(), "\"silu\"".to_owned())));
}

#[test]
fn tables_in_every_encoding() {
    let source = Folder::new("LlamaForCausalLM", Stored::Divide).open().unwrap();
    for (encoding, tolerance) in [
        (DenseEncoding::F32, 0.0),
        (DenseEncoding::F16, 0.0),
        (DenseEncoding::Bf16, 0.0),
        (DenseEncoding::Q8_0, 0.02),
        (DenseEncoding::Q6K, 0.13),
    ] {
        let mut conversion = to(I2S);
        (conversion.embedding, conversion.head) = (Some(encoding), Some(encoding));
        let written = convert(&source, &conversion).unwrap();
        for id in [TensorId::TokenEmbedding, TensorId::Output] {
            let matrix = written.dense(id, VOCAB, HIDDEN).unwrap();
            assert_eq!(matrix.encoding(), encoding);
            let original = floats(id, VOCAB * HIDDEN);
            let mut row = vec![0.0; HIDDEN];
            for (n, expected) in original.chunks_exact(HIDDEN).enumerate() {
                matrix.read_row(n, &mut row);
                let worst = row.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst <= tolerance, "{encoding}: {worst}");
            }
        }
    }
    // Without a wish, as they are.
    let written = convert(&source, &to(I2S)).unwrap();
    assert_eq!(written.dense(TensorId::Output, VOCAB, HIDDEN).unwrap().encoding(), DenseEncoding::Bf16);
}

/// Scales that differ from row to row, permuted with the rows.
#[test]
fn scales_by_row_travel_with_their_rows() {
    let id = TensorId::Layer(0, LayerTensor::Query);
    let by_row: Vec<f32> = (0..HIDDEN).map(|row| (row + 1) as f32).collect();
    let mut original = Gguf::new("llama", TernaryEncoding::Tq2_0);
    let scales = Scales::Rows(by_row.clone());
    original.tensor("blk.0.attn_q.weight").3 =
        TernaryEncoding::Tq2_0.encode(&trits(id, HIDDEN, HIDDEN), HIDDEN, HIDDEN, &scales).unwrap();
    let source = original.open().unwrap();
    let written = convert(&source, &to(TernaryEncoding::Tq1_0)).unwrap();
    assert_eq!(*written.ternary(id, HIDDEN, HIDDEN).unwrap().scales(), scales);
    let refused = convert(&source, &to(I2S)).unwrap_err().to_string();
    assert!(refused.contains("blk.0.attn_q.weight") && refused.contains("I2_S"), "{refused}");
}

#[test]
fn what_cannot_be_converted() {
    let source = Folder::new("LlamaForCausalLM", Stored::Divide).open().unwrap();
    let refusal = |source: &Source, conversion: &Conversion| match convert(source, conversion) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    };
    let mut narrow = Gguf::new("llama", I2S);
    narrow.set("llama.attention.key_length", 32u32);
    for layer in 0..LAYERS {
        for (tensor, rows, cols) in [
            (LayerTensor::Query, 128, HIDDEN),
            (LayerTensor::Key, 64, HIDDEN),
            (LayerTensor::Value, 64, HIDDEN),
            (LayerTensor::AttnOutput, HIDDEN, 128),
        ] {
            let tensor = narrow.tensor(&gguf_name(TensorId::Layer(layer, tensor)));
            tensor.1 = vec![cols as u64, rows as u64];
            tensor.3 = I2S.encode(&vec![1; rows * cols], rows, cols, &Scales::Tensor(1.0)).unwrap();
        }
    }
    let narrow = narrow.open().unwrap();
    let mut options = Options::default();
    options.activation = Some(Activation::SquaredRelu);
    let squared = Gguf::new("llama", I2S).open_with(&options).unwrap();
    let mut surplus = Gguf::new("llama", I2S);
    surplus.add_tensor("blk.0.attn_q.bias", &[4], types::F32, vec![0; 16]);
    assert_refusals(vec![
        ("layout B", refusal(&source, &to(TernaryEncoding::I2S(I2sLayout::B))), &["layout A"]),
        (
            "master weights that are none",
            refusal(&source, &to(TernaryEncoding::Float(FloatKind::F16, Ternarize::Absmean))),
            &["makes a folder"],
        ),
        (
            "widths that TQ2_0 cannot hold",
            refusal(&narrow, &to(TernaryEncoding::Tq2_0)),
            &["blk.0.attn_output.weight", "TQ2_0"],
        ),
        ("the same in I2_S", refusal(&narrow, &to(I2S)), &["accepted"]),
        ("a graph without a name", refusal(&squared, &to(I2S)), &["SquaredRelu", "GGUF has no architecture"]),
        ("a surplus tensor", refusal(&surplus.open().unwrap(), &to(I2S)), &["blk.0.attn_q.bias"]),
    ]);
}

#[test]
fn files_appear_whole_and_verified_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let files = || {
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let source = Folder::new("LlamaForCausalLM", Stored::Multiply).open().unwrap();
    let mut seen: Vec<Progress> = Vec::new();
    tritwise_loader::convert(&source, &path, &to(I2S), &mut |progress| {
        assert_ne!(files(), [Path::new("model.gguf")], "only at the end");
        seen.push(progress);
    })
    .unwrap();
    assert_eq!(files(), [Path::new("model.gguf")]);
    let weights: usize = tensors(LAYERS, Norms::default(), false).iter().map(|tensor| tensor.rows * tensor.cols).sum();
    for stage in [Stage::Write, Stage::Verify] {
        let done: Vec<u64> = seen.iter().filter(|seen| seen.stage == stage).map(|seen| seen.done).collect();
        assert!(done[0] == 0 && done.is_sorted() && done[done.len() - 1] == weights as u64, "{done:?}");
    }
    assert!(seen.iter().all(|seen| seen.total == weights as u64));
    // A failure leaves what was there.
    let before = std::fs::read(&path).unwrap();
    let mut surplus = Gguf::new("llama", I2S);
    surplus.add_tensor("blk.0.attn_q.bias", &[4], types::F32, vec![0; 16]);
    tritwise_loader::convert(&surplus.open().unwrap(), &path, &to(I2S), &mut |_| {}).unwrap_err();
    assert_eq!(files(), [Path::new("model.gguf")]);
    assert!(std::fs::read(&path).unwrap() == before);
    // Converting a file onto itself works: it is replaced, not overwritten.
    let source = tritwise_loader::open(&path, &Options::default()).unwrap();
    tritwise_loader::convert(&source, &path, &to(TernaryEncoding::Tq2_0), &mut |_| {}).unwrap();
    let description = tritwise_loader::describe(&path).unwrap();
    assert!(description.tensors.iter().any(|tensor| tensor.encoding == "TQ2_0"));
    let nowhere = folder.path().join("no/such/folder.gguf");
    let message = tritwise_loader::convert(&source, &nowhere, &to(I2S), &mut |_| {}).unwrap_err().to_string();
    assert!(message.contains("no/such/folder.gguf"), "{message}");
}

#[test]
fn comparison_finds_any_difference() {
    let source = Folder::new("LlamaForCausalLM", Stored::Divide).open().unwrap();
    let conversion = to(I2S);
    let bytes = tritwise_loader::write_gguf(&source, Vec::new(), &conversion, &mut |_| {}).unwrap();
    let verify = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        let written = tritwise_loader::open_bytes("converted", bytes, &Options::default()).unwrap();
        match tritwise_loader::verify(&source, &written, &conversion, &mut |_| {}) {
            Ok(()) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    };
    let header = Header::parse(&bytes).unwrap();
    let window = |name: &str| header.tensors().iter().find(|tensor| tensor.name == name).unwrap().window.clone();
    let flip = |name: &'static str, at: usize, bit: u8| {
        let at = window(name).start + at;
        verify(&move |bytes| bytes[at] ^= bit)
    };
    // The lowest byte of a float; the lowest bit of a trit, where the trit is not 0 (its code is 1, and 3 is never written).
    let weights = HIDDEN * HIDDEN / 4;
    let query = window("blk.0.attn_q.weight").start;
    let trit = (0..weights).find(|&at| bytes[query + at] & 3 != 1).unwrap();
    assert_refusals(vec![
        ("no difference", verify(&|_| ()), &["accepted"]),
        (
            "one trit",
            verify(&|bytes| bytes[query + trit] = bytes[query + trit] & !3 | 1),
            &["blk.0.attn_q.weight", "differs"],
        ),
        ("one scale", flip("blk.1.ffn_up.weight", FFN * HIDDEN / 4, 1), &["blk.1.ffn_up.weight", "differs"]),
        ("one norm", flip("output_norm.weight", 8, 1), &["output_norm.weight", "differs"]),
        ("one weight of a table", flip("token_embd.weight", 100, 1), &["token_embd.weight", "differs"]),
    ]);
    let mut other = to(I2S);
    other.head = Some(DenseEncoding::Q8_0);
    let lossy = convert(&source, &other).unwrap();
    tritwise_loader::verify(&source, &lossy, &other, &mut |_| {}).unwrap();

    let deeper = Gguf::new("llama", I2S).open().unwrap();
    let message = tritwise_loader::verify(&source, &deeper, &conversion, &mut |_| {}).unwrap_err().to_string();
    assert!(message.contains("differs"), "heads that are not interleaved: {message}");
}
