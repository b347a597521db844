//! The checkpoints that mutants are made of: small and valid, of every architecture and most encodings.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};
use support::Result;
use support::dummy::Dummy;
use support::shapes::SHAPES;
use tritwise::Config;
use tritwise::loader::{self, Conversion};
use tritwise::tensor::{DenseEncoding, FloatKind, I2sLayout, Ternarize, TernaryEncoding};

use crate::gguf::Raw;

/// Files of a checkpoint, and which of them, or what folder, is opened.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    pub(crate) name: String,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// Empty for the folder itself.
    pub(crate) open: String,
}

impl Checkpoint {
    fn gguf(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        let open = "model.gguf".to_owned();
        Self { name: name.into(), files: vec![(open.clone(), bytes)], open }
    }

    pub(crate) fn is_gguf(&self) -> bool {
        self.open.ends_with(".gguf")
    }
}

/// All of them, in the same order every time.
pub(crate) fn checkpoints() -> Result<Vec<Checkpoint>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/tritwise/tests/fixtures");
    let mut all = Vec::new();
    for path in sorted(&fixtures.join("gguf"))? {
        let bytes = fs::read(&path)?;
        let name = file_name(&path);
        all.push(Checkpoint::gguf(&name, bytes.clone()));
        if name.starts_with("llama-bitlinear") || name.starts_with("qwen3-bonsai") {
            let [first, second] = Raw::read(&bytes)?.split().map(|part| part.write());
            let names = [1, 2].map(|no| format!("model-{no:05}-of-00002.gguf"));
            let open = names[0].clone();
            all.push(Checkpoint {
                name: format!("{name}, split"),
                files: names.into_iter().zip([first, second]).collect(),
                open,
            });
        }
    }
    for path in sorted(&fixtures)?.into_iter().filter(|path| path.join("config.json").exists()) {
        let folder = Checkpoint { name: file_name(&path), files: files(&path, &path)?, open: String::new() };
        if folder.name.starts_with("llama-trilm") || folder.name.starts_with("bitnet-2b4t-offline") {
            all.push(sharded(&folder)?);
        }
        all.push(folder);
    }
    all.extend(encodings()?);
    Ok(all)
}

/// Random weights in the encodings that no fixture has.
fn encodings() -> Result<Vec<Checkpoint>> {
    use DenseEncoding::{Bf16, F32, Q4_0, Q4K, Q6K, Q8_0};
    let shape = SHAPES.iter().find(|shape| shape.name == "2b-4t").ok_or("no shape is called so")?;
    let config = Config {
        hidden: 256,
        layers: 1,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        ffn: 256,
        vocab: 64,
        context: 64,
        ..shape.config(None)
    };
    let linear = [
        (TernaryEncoding::Base3, Q8_0),
        (TernaryEncoding::Tq1_0, Q6K),
        (TernaryEncoding::Tq2_0, Q4K),
        (TernaryEncoding::Iq2BnR4, Q4_0),
        (TernaryEncoding::I2S(I2sLayout::A), F32),
        (TernaryEncoding::Float(FloatKind::F16, Ternarize::Exact), Bf16),
    ];
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.gguf");
    let mut all = Vec::new();
    for (linear, table) in linear {
        let dummy = Dummy { config: config.clone(), linear, table, seed: 1 };
        let mut conversion = Conversion::default();
        conversion.linear = linear;
        loader::write(&dummy, &path, &conversion, &mut |_| {})?;
        all.push(Checkpoint::gguf(format!("random weights, {linear} and {}", table.name()), fs::read(&path)?));
    }
    Ok(all)
}

/// The folder with its weights in two files and an index.
fn sharded(folder: &Checkpoint) -> Result<Checkpoint> {
    let mut files = folder.files.clone();
    let at = files.iter().position(|(name, _)| name == "model.safetensors").ok_or("the fixture has no weights")?;
    let (_, weights) = files.remove(at);
    let (len, rest) = weights.split_first_chunk::<8>().ok_or("no header")?;
    let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
    let header: Map<String, Json> = serde_json::from_slice(header)?;
    let mut shards = [0; 2].map(|_| (Map::<String, Json>::new(), Vec::<u8>::new()));
    let mut index = Map::new();
    for (i, (name, entry)) in header.iter().filter(|(name, _)| *name != "__metadata__").enumerate() {
        let offset = |i: usize| entry["data_offsets"][i].as_u64().unwrap_or_default() as usize;
        let (header, bytes) = &mut shards[i % 2];
        let start = bytes.len();
        bytes.extend(&data[offset(0)..offset(1)]);
        let mut entry = entry.clone();
        entry["data_offsets"] = json!([start, bytes.len()]);
        header.insert(name.clone(), entry);
        index.insert(name.clone(), format!("model-{}.safetensors", i % 2).into());
    }
    for (i, (header, bytes)) in shards.iter().enumerate() {
        let header = serde_json::to_vec(header)?;
        let file = [&(header.len() as u64).to_le_bytes()[..], &header, bytes].concat();
        files.push((format!("model-{i}.safetensors"), file));
    }
    files.push(("model.safetensors.index.json".into(), serde_json::to_vec(&json!({ "weight_map": index }))?));
    Ok(Checkpoint { name: format!("{}, in shards", folder.name), files, open: String::new() })
}

/// The files of a folder that opening it may read.
fn files(root: &Path, folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for path in sorted(folder)? {
        if path.is_dir() {
            all.extend(files(root, &path)?);
        } else if !["logits.bin", "hidden.bin", "tokens.json", "embeddings.json"].contains(&file_name(&path).as_str()) {
            all.push((path.strip_prefix(root)?.display().to_string(), fs::read(&path)?));
        }
    }
    Ok(all)
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
