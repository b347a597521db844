//! What a file says decides on no allocation: opening one of n bytes takes at most a multiple of n and a constant, whether
//! it is honest or lies.
//!
//! The lies are *all* that can be told with one number or one value: each number in the header of a GGUF file
//! becomes each of ten others, each value of a folder's JSON each of some others. Then come mutants, which lie several times.
#![allow(dead_code, reason = "the program needs the rest of its modules")]
#![allow(clippy::unwrap_used, reason = "it is a test")]

#[path = "../bytes.rs"]
mod bytes;
#[path = "../folder.rs"]
mod folder;
#[path = "../gguf.rs"]
mod gguf;
#[path = "../mutant.rs"]
mod mutant;
#[path = "../random.rs"]
mod random;
#[path = "../sound.rs"]
mod sound;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use gguf::Raw;
use mutant::Mutant;
use serde_json::{Value as Json, json};
use sound::{Checkpoint, checkpoints};
use tritwise::loader::{self, Options, Source};
use tritwise::tokenizer::chat::{ChatTemplate, Origin};
use tritwise::{KvType, Model};
use tritwise_gguf::{Array, Strings, Value};

/// Bytes that opening may take for each byte of the files, and beside.
const PEAK: (usize, usize) = (128, 1 << 20);
/// The same of a single allocation.
const LARGEST: (usize, usize) = (80, 512 << 10);

/// The system's allocator, with a count of the bytes that are out.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK_SO_FAR: AtomicUsize = AtomicUsize::new(0);
static LARGEST_SO_FAR: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    PEAK_SO_FAR.fetch_max(NOW.fetch_add(bytes, Relaxed) + bytes, Relaxed);
    LARGEST_SO_FAR.fetch_max(bytes, Relaxed);
}

// SAFETY: everything is passed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract, which is this one's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; `ptr` came from `alloc`, so from the system.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The count is the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// How much was taken beside the multiple, at most, and by what.
#[derive(Debug, Default)]
struct Worst {
    peak: (usize, String),
    largest: (usize, String),
    opened: usize,
    files: usize,
}

impl Worst {
    /// Runs `open`, which says whether it succeeded, on files of `len` bytes.
    fn measure(&mut self, what: &dyn Fn() -> String, len: usize, open: impl FnOnce() -> bool) {
        let start = NOW.load(Relaxed);
        PEAK_SO_FAR.store(start, Relaxed);
        LARGEST_SO_FAR.store(0, Relaxed);
        self.opened += usize::from(open());
        self.files += 1;
        let peak = PEAK_SO_FAR.load(Relaxed) - start;
        let largest = LARGEST_SO_FAR.load(Relaxed);
        let found = [(peak, PEAK, &mut self.peak), (largest, LARGEST, &mut self.largest)];
        for (found, (times, most), worst) in found {
            let beside = found.saturating_sub(times * len);
            assert!(beside <= most, "{}: {found} bytes for {len} ({peak} in all, {largest} at once)", what());
            if beside > worst.0 {
                *worst = (beside, what());
            }
        }
    }
}

/// All that is made of a checkpoint before its weights are packed; whether it is one.
fn understand(source: Result<Source, loader::Error>) -> bool {
    let Ok(source) = source else { return false };
    drop(source.describe());
    let whole = source.tokenizer().is_ok();
    for (name, template) in source.chat_templates() {
        drop(ChatTemplate::new(Origin::File(name), &template));
    }
    whole
}

fn all_bytes(checkpoint: &Checkpoint) -> usize {
    checkpoint.files.iter().map(|(_, bytes)| bytes.len()).sum()
}

/// Writes a checkpoint's files to an empty folder; gives the path to open.
fn write(checkpoint: &Checkpoint, folder: &Path) -> PathBuf {
    let folder = folder.join("checkpoint");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    for (name, bytes) in &checkpoint.files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder.join(&checkpoint.open)
}

#[test]
fn honest_files_and_mutants() {
    let _alone = ALONE.lock().unwrap();
    let (sound, folder) = (checkpoints().unwrap(), tempfile::tempdir().unwrap());
    let mut worst = Worst::default();
    let mut open = |name: &dyn Fn() -> String, checkpoint: &Checkpoint| {
        let path = write(checkpoint, folder.path());
        worst.measure(name, all_bytes(checkpoint), || understand(loader::open(&path, &Options::default())));
        let mut read = Options::default();
        read.no_mmap = true;
        worst.measure(name, all_bytes(checkpoint), || understand(loader::open(&path, &read)));
        worst.measure(name, all_bytes(checkpoint), || Model::builder().threads(1).open(&path).is_ok());
    };
    for checkpoint in &sound {
        open(&|| checkpoint.name.clone(), checkpoint);
    }
    // The range that the program `mutants` takes by default begins at 0.
    for seed in 1_000_000..1_000_300 {
        let mutant = Mutant::new(seed, &sound);
        open(&|| format!("{seed}: {} with {:?}", mutant.checkpoint.name, mutant.changes), &mutant.checkpoint);
    }
    println!("{worst:?}");
    assert!(worst.opened > 3 * sound.len(), "the sound ones, and some mutants");
}

/// Of different architectures, and kinds of vocabulary.
const LIARS: [&str; 2] = ["gemma3-embedding-full.i2_s.gguf", "llama-autobitlinear-offline.iq1_bn.gguf"];

#[test]
fn every_number_in_a_gguf_header_lies() {
    let _alone = ALONE.lock().unwrap();
    let mut worst = Worst::default();
    for checkpoint in checkpoints().unwrap().iter().filter(|checkpoint| LIARS.contains(&&*checkpoint.name)) {
        let (file, numbers) = Raw::read(&checkpoint.files[0].1).unwrap().write_noting();
        // Tensors of later layers have the numbers of those of the first.
        for number in numbers.iter().filter(|number| !number.what.contains("blk.1.")) {
            let range = number.at..number.at + number.width;
            let old = file[range.clone()].iter().rev().fold(0u64, |old, byte| old << 8 | u64::from(*byte));
            for lie in lies(old, number.width) {
                let mut file = file.clone();
                file[range.clone()].copy_from_slice(&lie.to_le_bytes()[..number.width]);
                let what = || format!("{}: {} says {lie} and not {old}", checkpoint.name, number.what);
                worst.measure(&what, file.len(), || understand(loader::open_bytes("lie", file, &Options::default())));
            }
        }
    }
    println!("{worst:?}");
}

/// Other numbers of as many bytes.
fn lies(old: u64, width: usize) -> Vec<u64> {
    let most = if width == 8 { u64::MAX } else { (1 << (8 * width)) - 1 };
    let near = [0, old.wrapping_add(1), old.wrapping_mul(2)];
    let far = [1 << 20, (1 << 31) - 1, (1 << 42) + 1, 1 << 62, u64::MAX];
    // Floats that are no numbers.
    let floats = [u64::from(f32::NAN.to_bits()), f64::NAN.to_bits()];
    let mut lies: Vec<u64> = near.into_iter().chain(far).chain(floats).map(|lie| lie & most).collect();
    lies.sort_unstable();
    lies.dedup();
    lies.retain(|lie| *lie != old);
    lies
}

#[test]
fn every_value_in_the_json_of_a_folder_lies() {
    let _alone = ALONE.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut worst = Worst::default();
    let all = checkpoints().unwrap();
    let folders = all
        .iter()
        .filter(|checkpoint| ["gemma3-embedding", "llama-trilm, in shards"].contains(&checkpoint.name.as_str()));
    for checkpoint in folders {
        for (at, (name, bytes)) in checkpoint.files.iter().enumerate() {
            // JSON, or the JSON header of a safetensors file and what follows it.
            let (json, data) = match name.ends_with(".safetensors") {
                true => {
                    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
                    (&bytes[8..8 + len], Some(&bytes[8 + len..]))
                }
                false => (&bytes[..], None),
            };
            let Ok(json) = serde_json::from_slice::<Json>(json) else { continue };
            for (pointer, lie) in json_lies(&json) {
                let mut changed = json.clone();
                *changed.pointer_mut(&pointer).unwrap() = lie.clone();
                let text = serde_json::to_vec(&changed).unwrap();
                let mut checkpoint = checkpoint.clone();
                checkpoint.files[at].1 = match data {
                    Some(data) => [&(text.len() as u64).to_le_bytes()[..], &text, data].concat(),
                    None => text,
                };
                let path = write(&checkpoint, folder.path());
                let what = || format!("{}, {name}: {pointer} is {lie:.80}", checkpoint.name);
                worst.measure(&what, all_bytes(&checkpoint), || understand(loader::open(&path, &Options::default())));
            }
        }
    }
    println!("{worst:?}");
}

/// Pointers to values of `json` (of long lists and objects, to the first and the last) and what is put in their place.
fn json_lies(json: &Json) -> Vec<(String, Json)> {
    fn pointers(json: &Json, at: String, all: &mut Vec<(String, bool)>) {
        all.push((at.clone(), json.is_number()));
        let parts: Vec<(String, &Json)> = match json {
            Json::Array(items) => items.iter().enumerate().map(|(i, item)| (i.to_string(), item)).collect(),
            Json::Object(fields) => {
                fields.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
            }
            _ => Vec::new(),
        };
        let last = parts.len().saturating_sub(1);
        let some = parts.iter().enumerate().filter(|(i, _)| last < 40 || *i == 0 || *i == last);
        some.for_each(|(_, (key, value))| pointers(value, format!("{at}/{key}"), all));
    }
    let mut all = Vec::new();
    pointers(json, String::new(), &mut all);
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    let others = [json!(null), json!("x"), json!([]), json!({}), json!(true), deep, json!("x".repeat(10_000))];
    let numbers = [0, -1, 1 << 20, i64::from(i32::MAX), (1 << 42) + 1].map(|n| json!(n));
    let numbers = numbers.into_iter().chain([json!(u64::MAX), json!(1e300)]).collect::<Vec<_>>();
    let lies = all.into_iter().flat_map(|(pointer, is_number)| {
        let numbers = if is_number { &numbers[..] } else { &numbers[5..6] };
        others.iter().chain(numbers).map(move |lie| (pointer.clone(), lie.clone())).collect::<Vec<_>>()
    });
    lies.collect()
}

/// Text that comes to at least a megabyte.
fn megabyte(one: impl Fn(usize) -> String) -> String {
    let mut all = String::new();
    for i in 0.. {
        if all.len() >= 1 << 20 {
            break;
        }
        all += &one(i);
    }
    all
}

#[test]
fn files_that_are_made_to_take_much() {
    let _alone = ALONE.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut worst = Worst::default();
    let all = checkpoints().unwrap();
    let sound = all.iter().find(|checkpoint| checkpoint.name == "llama-bitlinear-divide").unwrap();
    let list = |one: &str, end: &str| format!("[{}{end}]", megabyte(|_| format!("{one},")));
    let object = |value: &str| format!("{{{}\"end\":0}}", megabyte(|i| format!("\"{i}\":{value},")));
    // The smallest values, of which each takes as much memory as any.
    let dense = [list("0", "0"), list("[]", "0"), list("{\"\":0}", "0"), object("0")];
    let mut change = |name: &str, what: &str, text: String| {
        let mut checkpoint = sound.clone();
        match checkpoint.files.iter_mut().find(|(file, _)| file == name) {
            Some((_, bytes)) => *bytes = text.into_bytes(),
            None => checkpoint.files.push((name.to_owned(), text.into_bytes())),
        }
        let path = write(&checkpoint, folder.path());
        let what = || format!("{name}, {what:.60}");
        worst.measure(&what, all_bytes(&checkpoint), || understand(loader::open(&path, &Options::default())));
    };
    let config = String::from_utf8(sound.files.iter().find(|file| file.0 == "config.json").unwrap().1.clone()).unwrap();
    for (i, json) in dense.iter().enumerate() {
        change("config.json", json, config.replacen('{', &format!("{{\"more\": {json},"), 1));
        change("generation_config.json", json, format!("{{\"eos_token_id\": {json}}}"));
        change("tokenizer_config.json", json, format!("{{\"chat_template\": {json}}}"));
        change("tokenizer.json", json, json.clone());
        if i == 3 {
            change("tokenizer.json", json, format!(r#"{{"model": {{"type": "BPE", "vocab": {json}, "merges": []}}}}"#));
        }
    }
    for (what, text) in [
        ("words", megabyte(|i| format!("{{% if a{i} %}}"))),
        ("numbers", format!("{{{{ [{}] }}}}", megabyte(|_| "1,".into()))),
        ("names", format!("{{{{ [{}] }}}}", megabyte(|_| "a,".into()))),
        ("operators", megabyte(|_| format!("{{{{ {}1 }}}}", "a~".repeat(200)))),
        ("filters", format!("{{{{ a{} }}}}", megabyte(|_| "|e".into()))),
        ("text", megabyte(|i| format!("{{{{a}}}}{i}"))),
    ] {
        // Longer ones are refused unread.
        change("chat_template.jinja", what, text[..1 << 16].to_owned());
        let mut end = text[..1 << 16].rfind(',').map_or(1 << 16, |end| end + 1);
        end = end.min(text.len());
        change("chat_template.jinja", what, format!("{}{}", &text[..end], if end < 1 << 16 { "] }}" } else { " }}" }));
    }
    let vocabulary = |count: usize, text: &dyn Fn(usize) -> String| {
        let vocab: serde_json::Map<String, Json> = (0..count).map(|i| (text(i), json!(i))).collect();
        json!({"model": {"type": "BPE", "vocab": vocab, "merges": []}}).to_string()
    };
    change(
        "tokenizer.json",
        "short tokens",
        vocabulary(100_000, &|i| char::from_u32(0x1_0000 + i as u32).unwrap().into()),
    );
    change("tokenizer.json", "long tokens", vocabulary(1000, &|i| "a".repeat(i)));
    let added: Vec<Json> =
        (0..20_000).map(|i| json!({"id": 96 + i, "content": format!("<{i}>"), "special": true})).collect();
    let tokenizer = sound.files.iter().find(|file| file.0 == "tokenizer.json").unwrap().1.clone();
    let mut json: Json = serde_json::from_slice(&tokenizer).unwrap();
    json["added_tokens"] = added.into();
    change("tokenizer.json", "added tokens", json.to_string());
    let tensors = megabyte(|i| format!("\"{i}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}},"));
    let dims = format!("\"a\":{{\"dtype\":\"U8\",\"shape\":[{}0],\"data_offsets\":[0,0]}},", megabyte(|_| "0,".into()));
    for header in [tensors, dims] {
        let header = format!("{{{}}}", header.trim_end_matches(','));
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        let mut checkpoint = sound.clone();
        checkpoint.files.iter_mut().find(|file| file.0 == "model.safetensors").unwrap().1 = file;
        let path = write(&checkpoint, folder.path());
        let what = || format!("safetensors, {header:.60}");
        worst.measure(&what, all_bytes(&checkpoint), || understand(loader::open(&path, &Options::default())));
    }
    println!("{worst:?}");
    assert!(worst.opened > 15, "{} of {}", worst.opened, worst.files);
}

#[test]
fn gguf_files_that_are_made_to_take_much() {
    let _alone = ALONE.lock().unwrap();
    let mut worst = Worst::default();
    let texts = |count: usize, text: &dyn Fn(usize) -> String| (0..count).map(text).collect::<Strings>();
    let sound = checkpoints().unwrap();
    for name in ["llama-bitlinear-divide.i2_s.gguf", "gemma3-embedding-full.i2_s.gguf"] {
        let checkpoint = sound.iter().find(|checkpoint| checkpoint.name == name).unwrap();
        let raw = Raw::read(&checkpoint.files[0].1).unwrap();
        let mut change = |what: &str, entries: Vec<(String, Value)>| {
            let mut raw = raw.clone();
            raw.put_all(&entries);
            let file = raw.write();
            worst.measure(&|| format!("{name}: {what}"), file.len(), || {
                understand(loader::open_bytes("much", file, &Options::default()))
            });
        };
        let tokens =
            |strings: Strings| vec![("tokenizer.ggml.tokens".to_owned(), Value::Array(Array::String(strings)))];
        change("entries", (0..60_000).map(|i| (format!("{i}"), Value::U8(0))).collect());
        change("empty texts", tokens(texts(1 << 17, &|_| String::new())));
        change("short tokens", tokens(texts(90_000, &|i| char::from_u32(0x1_0000 + i as u32).unwrap().into())));
        change("long tokens", tokens(texts(2000, &|i| "a".repeat(i + 1))));
        let pairs = texts(1 << 16, &|i| format!("{} {}", i % 256, i / 256));
        change("merges", vec![("tokenizer.ggml.merges".to_owned(), Value::Array(Array::String(pairs)))]);
        let template = "{{a}}".repeat(1 << 14);
        let templates = (0..12).map(|i| (format!("tokenizer.chat_template.{i}"), Value::String(template.clone())));
        change("templates", templates.collect());
        for (what, count) in [("normal", 1), ("control", 3), ("added", 4)] {
            let count_of = 20_000;
            let kinds = Value::Array(Array::I32(vec![count; count_of]));
            let mut entries = tokens(texts(count_of, &|i| format!("<{i}>")));
            entries.push(("tokenizer.ggml.token_type".to_owned(), kinds));
            entries.push(("tokenizer.ggml.scores".to_owned(), Value::Array(Array::F32(vec![0.0; count_of]))));
            change(what, entries);
        }
    }
    println!("{worst:?}");
}

#[test]
fn every_number_in_a_saved_session_lies() {
    let _alone = ALONE.lock().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/tritwise/tests/fixtures/llama-bitlinear-divide");
    let model = Model::builder().threads(1).context(32).open(path).unwrap();
    for kv in [KvType::F16, KvType::F32, KvType::Int8] {
        let mut session = model.session_with(kv);
        session.push_tokens(&[3, 1, 4, 1, 5]).unwrap();
        session.logits().unwrap();
        let mut file = Vec::new();
        session.save_to(&mut file).unwrap();
        let mut honest = Worst::default();
        honest.measure(&|| "honest".to_owned(), file.len(), || session.restore_from(&file[..]).is_ok());
        assert_eq!(honest.opened, 1);
        let mut worst = Worst::default();
        for (at, width) in [(8, 4), (12, 1), (13, 1), (14, 2), (48, 8), (56, 8), (64, 4), (80, 4)] {
            let old = file[at..at + width].iter().rev().fold(0u64, |old, byte| old << 8 | u64::from(*byte));
            for lie in lies(old, width) {
                let mut file = file.clone();
                file[at..at + width].copy_from_slice(&lie.to_le_bytes()[..width]);
                // The checksum at the end is wrong now, and is looked at last.
                let what = || format!("{kv:?}: byte {at} says {lie} and not {old}");
                worst.measure(&what, file.len(), || session.restore_from(&file[..]).is_ok());
            }
        }
        println!("{worst:?}");
    }
}
