//! GGUF type numbers: which of several meanings a tensor has, and what the file does not say at all.

mod support;

use std::path::Path;

use support::*;
use tritwise_gguf::types;
use tritwise_loader::{Options, Project, Source};
use tritwise_tensor::{Checkpoint, DenseEncoding, Group, LayerTensor, Scales, TensorId, TernaryEncoding, Tile};

const TL1: TernaryEncoding = TernaryEncoding::Tl1(Tile { rows: 64, cols: 32, block_rows: 32 });
const TL2: TernaryEncoding = TernaryEncoding::Tl2(Tile { rows: 64, cols: 96, block_rows: 32 });

/// The tile for every shape of the test model.
fn tiles(encoding: TernaryEncoding) -> Options {
    let (TernaryEncoding::Tl1(tile) | TernaryEncoding::Tl2(tile)) = encoding else { panic!("no tile") };
    let mut options = Options::default();
    options.tiles = linear_ids().map(|tensor| ([tensor.rows, tensor.cols], tile)).collect();
    options
}

/// The test model with its scales behind the codes, as the forks' own GGUF writers have put them.
fn with_tails(encoding: TernaryEncoding) -> Gguf {
    let mut gguf = Gguf::new("llama", encoding);
    for Tensor { id, .. } in linear_ids() {
        let bytes = &mut gguf.tensor(&gguf_name(id)).3;
        bytes.resize(bytes.len().next_multiple_of(32), 0xff);
        bytes.extend(scale(id).to_le_bytes());
        bytes.extend([0xff; 28]);
    }
    gguf
}

/// The test model with a tensor for each scale, of no dimension, as other GGUF writers put NumPy's scalars.
fn with_scales_beside(encoding: TernaryEncoding) -> Gguf {
    let mut gguf = Gguf::new("llama", encoding);
    for Tensor { id, .. } in linear_ids() {
        gguf.add_tensor(&format!("{}_scale", gguf_name(id)), &[], types::F32, scale(id).to_le_bytes().to_vec());
    }
    gguf
}

#[test]
fn lookup_tables_have_their_scale_behind_them_or_beside() {
    for encoding in [TL1, TL2] {
        for gguf in [with_tails(encoding), with_scales_beside(encoding)] {
            assert_reads_right(&gguf.open_with(&tiles(encoding)).unwrap(), scale);
        }
    }
    // The number that bitnet.cpp has given TL2 since.
    let mut gguf = with_tails(TL2);
    linear_ids().for_each(|tensor| gguf.tensor(&gguf_name(tensor.id)).2 = types::Q2_0);
    assert_reads_right(&gguf.open_with(&tiles(TL2)).unwrap(), scale);
}

const QUERY: &str = "blk.0.attn_q.weight";

#[test]
fn lookup_tables_without_a_tile_are_refused() {
    let remedy = &["kernel_config.ini", "Options::tiles", "I2_S", "safetensors"][..];
    let unknown = |encoding, name| {
        let message = with_tails(encoding).refusal();
        assert_refusals(vec![
            (name, message.clone(), remedy),
            (name, message, &[QUERY, name, "256×256", "no kernels"]),
        ]);
    };
    unknown(TL1, "TL1");
    unknown(TL2, "TL2");

    let mut wrong = tiles(TL1);
    wrong.tiles[0].1.rows = 96;
    let refused = with_tails(TL1).open_with(&wrong).and_then(|source| read_all(&source)).unwrap_err().to_string();
    let mut missing = with_scales_beside(TL2);
    missing.remove_tensor(&format!("{QUERY}_scale"));
    let unscaled = missing.open_with(&tiles(TL2)).and_then(|source| read_all(&source)).unwrap_err().to_string();
    let mut infinite = with_tails(TL2);
    let bytes = &mut infinite.tensor(QUERY).3;
    let at = bytes.len() - 32;
    bytes[at..at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let infinite = infinite.open_with(&tiles(TL2)).and_then(|source| read_all(&source)).unwrap_err().to_string();
    assert_refusals(vec![
        (
            "a tile that does not fit",
            refused,
            &["TL1 cannot hold", "a tile's blocks divide its rows", "Options::tiles"],
        ),
        ("no scale", unscaled, &["blk.0.attn_q.weight_scale", "missing", "the scale of blk.0.attn_q.weight"]),
        ("an infinite scale", infinite, &[QUERY, "scale 0 is inf"]),
    ]);
}

#[test]
fn lookup_tables_of_published_shapes() {
    let (rows, cols) = (1536, 1536);
    for (encoding, type_id) in [
        (TernaryEncoding::Tl1(Tile::tl1(rows, cols)[0]), types::TL1),
        (TernaryEncoding::Tl2(Tile::tl2(rows, cols)[0]), types::TL2),
    ] {
        let mut gguf = wide(rows, 12);
        let id = TensorId::Layer(0, LayerTensor::Query);
        let trits = trits(id, rows, cols);
        let mut bytes = encoding.encode(&trits, rows, cols, &Scales::Tensor(0.5)).unwrap();
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(0.5_f32.to_le_bytes());
        bytes.extend([0; 28]);
        gguf.add_tensor(QUERY, &[cols as u64, rows as u64], type_id, bytes);
        let source = gguf.open().unwrap();
        let matrix = source.ternary(id, rows, cols).unwrap();
        let mut row = vec![9; cols];
        matrix.read_row(700, &mut row);
        assert_eq!((&row[..], matrix.scales()), (&trits[700 * cols..701 * cols], &Scales::Tensor(0.5)));
    }
}

#[test]
fn lookup_tables_that_two_builds_write_in_two_orders() {
    let (rows, cols) = (4096, 4096);
    let mut gguf = wide(rows, 32);
    gguf.add_tensor(QUERY, &[cols as u64, rows as u64], types::TL1, vec![0x44; rows * cols / 4 + 32]);
    let read = |options: &Options| {
        let source = gguf.open_with(options).unwrap();
        source.ternary(TensorId::Layer(0, LayerTensor::Query), rows, cols).map(drop).map_err(|error| error.to_string())
    };
    let message = read(&Options::default()).unwrap_err();
    assert_refusals(vec![("two tiles", message, &[QUERY, "TL1 of 4096×4096", "in 2 orders", "Options::tiles"])]);
    let mut options = Options::default();
    options.tiles = vec![([rows, cols], Tile::tl1(rows, cols)[1])];
    read(&options).unwrap();
}

/// A model of this width, of which only what is asked for need be there.
fn wide(hidden: usize, heads: u32) -> Gguf {
    let mut gguf = Gguf::new("llama", I2S);
    gguf.tensors.retain(|tensor| tensor.0 != QUERY);
    gguf.set("llama.embedding_length", hidden as u32);
    gguf.set("llama.attention.head_count", heads);
    gguf.set("llama.attention.head_count_kv", heads);
    gguf
}

/// A small Q2_0 key projection, whose size would also fit PrismML's groups of 128, in a model of which the rest is
/// I2_S.
fn small_q2_0(cols: usize) -> Gguf {
    let mut gguf = Gguf::new("llama", I2S);
    let bytes = TernaryEncoding::Q2_0(Group::Of64).encode(&vec![1; 4 * cols], 4, cols, &Scales::Tensor(1.0)).unwrap();
    gguf.add_tensor("small", &[cols as u64, 4], types::Q2_0, bytes);
    gguf
}

/// The encoding under which the tensor `name` is listed, and why it cannot be read.
fn described(gguf: &Gguf, options: &Options, name: &str) -> (String, Option<String>) {
    let source = gguf.open_with(options).unwrap();
    let tensor = source.describe().tensors.into_iter().find(|tensor| tensor.name == name).unwrap();
    (tensor.encoding, tensor.unreadable)
}

#[test]
fn what_size_does_not_decide_is_decided_by_the_rest_of_the_file_or_by_the_user() {
    let ambiguous = small_q2_0(256);
    let (_, why) = described(&ambiguous, &Options::default(), "small");
    let why = why.unwrap();
    assert!(why.contains("may be Q2_0 (ggml) or Q2_0 in groups of 128 (PrismML)"), "{why}");
    assert!(why.contains("Options::written_by"), "{why}");

    for (project, name) in [(Project::Ggml, "Q2_0"), (Project::PrismMl, "PQ2_0")] {
        let mut options = Options::default();
        options.written_by = Some(project);
        assert_eq!(described(&ambiguous, &options, "small"), (name.to_owned(), None));
    }
    // A project that gives the number neither meaning decides nothing.
    let mut options = Options::default();
    options.written_by = Some(Project::IkLlamaCpp);
    assert!(described(&ambiguous, &options, "small").1.is_some());

    // Another tensor of the same number that can only be one of them.
    for (group, name) in [(Group::Of64, "Q2_0"), (Group::Of128, "PQ2_0")] {
        let mut gguf = small_q2_0(256);
        let large = TernaryEncoding::Q2_0(group).encode(&[1; 64 * 256], 64, 256, &Scales::Tensor(1.0)).unwrap();
        gguf.add_tensor("large", &[256, 64], types::Q2_0, large);
        assert_eq!(described(&gguf, &Options::default(), "small"), (name.to_owned(), None));
        assert_eq!(described(&gguf, &Options::default(), "large"), (name.to_owned(), None));
        // It goes before what the user says.
        let mut options = Options::default();
        options.written_by = Some(if group == Group::Of64 { Project::PrismMl } else { Project::Ggml });
        assert_eq!(described(&gguf, &options, "small"), (name.to_owned(), None));
    }
    // One that is of no known size has no say.
    let mut gguf = small_q2_0(256);
    gguf.add_tensor("broken", &[256, 64], types::Q2_0, vec![0; 64 * 256]);
    assert!(described(&gguf, &Options::default(), "small").1.unwrap().contains("Options::written_by"));
}

/// A checkpoint of the facade's fixtures.
fn fixture(name: &str) -> Source {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tritwise/tests/fixtures").join(name);
    tritwise_loader::open(path, &Options::default()).unwrap()
}

/// The weights of a linear layer.
fn weights(source: &Source, id: TensorId, rows: usize, cols: usize) -> Vec<f32> {
    let matrix = source.ternary(id, rows, cols).unwrap();
    let mut weights = Vec::new();
    let mut trits = vec![0; cols];
    for row in 0..rows {
        matrix.read_row(row, &mut trits);
        weights.extend(trits.iter().enumerate().map(|(col, trit)| {
            f32::from(*trit)
                * match matrix.scales() {
                    Scales::Tensor(scale) => *scale,
                    Scales::Rows(values) => values[row],
                    Scales::Groups { cols: group, values } => values[row * (cols / group) + col / group],
                }
        }));
    }
    weights
}

#[test]
fn files_of_other_hands_hold_the_weights_of_their_folder() {
    for (folder, file, encoding) in [
        ("qwen3-bonsai", "qwen3-bonsai.q1_0.gguf", TernaryEncoding::Q1_0(Group::Of128)),
        ("qwen3-ternary-bonsai", "qwen3-ternary-bonsai.q2_0.gguf", TernaryEncoding::Q2_0(Group::Of64)),
        ("qwen3-ternary-bonsai", "qwen3-ternary-bonsai.pq2_0.gguf", TernaryEncoding::Q2_0(Group::Of128)),
        ("qwen3-ternary-bonsai", "qwen3-ternary-bonsai.ptq1_0.gguf", TernaryEncoding::Ptq1_0),
    ] {
        let (folder, file) = (fixture(folder), fixture(&format!("gguf/{file}")));
        for Tensor { id, rows, cols, linear } in tensors_of(folder.config()) {
            if linear {
                assert_eq!(weights(&file, id, rows, cols), weights(&folder, id, rows, cols), "{id}");
                assert_eq!(file.ternary(id, rows, cols).unwrap().encoding(), encoding, "{id}");
            } else if rows > 1 {
                let (a, b) = (folder.dense(id, rows, cols).unwrap(), file.dense(id, rows, cols).unwrap());
                assert_eq!(a.encoding(), DenseEncoding::F16);
                let (mut x, mut y) = (vec![0.0; cols], vec![0.0; cols]);
                for row in 0..rows {
                    a.read_row(row, &mut x);
                    b.read_row(row, &mut y);
                    assert_eq!(x, y, "{id} row {row}");
                }
            }
        }
    }
}

#[test]
fn folders_of_several_devices_have_a_scale_for_each_one_s_rows_or_columns() {
    let folder = fixture("llama-trilm-shards");
    for Tensor { id, rows, cols, linear } in tensors_of(folder.config()) {
        let TensorId::Layer(_, tensor) = id else { continue };
        if linear {
            let scales = folder.ternary(id, rows, cols).unwrap().scales().clone();
            match tensor {
                LayerTensor::AttnOutput | LayerTensor::Down => assert!(matches!(scales, Scales::Groups { .. }), "{id}"),
                _ => assert!(matches!(scales, Scales::Rows(_)), "{id}"),
            }
        }
    }
}
