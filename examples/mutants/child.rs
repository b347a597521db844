//! The process that opens mutants, under limits of its own, and says what became of each.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use serde_json::json;
use support::Result;
use tritwise::tokenizer::Special;
use tritwise::{Error, HeadMode, KvType, Model, ModelBuilder, Sampling, Session, loader};

use crate::mutant::Mutant;
use crate::random::Random;
use crate::sound;

/// Most bytes of a refusal: a message is for people.
const MOST_MESSAGE: usize = 4096;

/// Opens the mutants of `seeds` and writes a line about each.
pub(crate) fn run(seeds: std::ops::Range<u64>, memory: u64) -> Result {
    let sound = sound::checkpoints()?;
    limit(memory)?;
    let folder = tempfile::tempdir()?;
    // From here on the clock runs.
    println!("{}", json!({"ready": true}));
    for seed in seeds {
        let mutant = Mutant::new(seed, &sound);
        let path = write(&mutant, folder.path())?;
        reset_peak();
        let start = Instant::now();
        let mut random = mutant.random.clone();
        let (outcome, message) = match open(&path, &mut random) {
            Ok(()) => ("ran", String::new()),
            Err(Refusal::Opening(message)) => ("refused when opened", message),
            Err(Refusal::Running(message)) => ("refused when run", message),
            Err(Refusal::Wrong(message)) => ("WRONG", message),
        };
        let line = json!({
            "seed": seed,
            "outcome": outcome,
            "message": message,
            "checkpoint": mutant.checkpoint.name,
            "ms": start.elapsed().as_millis() as u64,
            "bytes": mutant.checkpoint.files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(),
            "peak": peak(),
        });
        println!("{line}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Writes the files of a mutant to an empty folder; gives the path to open.
pub(crate) fn write(mutant: &Mutant, folder: &Path) -> Result<std::path::PathBuf> {
    let folder = folder.join("mutant");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir(&folder)?;
    for (name, bytes) in &mutant.checkpoint.files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        fs::write(path, bytes)?;
    }
    Ok(folder.join(&mutant.checkpoint.open))
}

enum Refusal {
    Opening(String),
    Running(String),
    /// Not a refusal: something that must not be.
    Wrong(String),
}

/// Opens and runs a model in one of the ways there are.
fn open(path: &Path, random: &mut Random) -> std::result::Result<(), Refusal> {
    if let Err(error) = loader::describe(path) {
        check_message(&error.to_string())?;
    }
    let builder = builder(random);
    if random.once_in(6)
        && let Ok(model) = Model::builder().threads(1).in_place(true).open(path)
    {
        // Few encodings can be computed with so.
        return run_model(&model, random);
    }
    match builder.open(path) {
        Ok(model) => run_model(&model, random),
        Err(error) => Err(Refusal::Opening(check_message(&error.to_string())?)),
    }
}

fn builder(random: &mut Random) -> ModelBuilder {
    let kv = [KvType::F16, KvType::F16, KvType::F32, KvType::Int8];
    let builder = Model::builder().threads(1 + random.below(2)).kv(*random.pick(&kv).unwrap_or(&kv[0]));
    match random.below(6) {
        0 => builder.no_mmap(true),
        1 => builder.exact_inputs(true),
        2 => builder.head(HeadMode::Full),
        3 => builder.head(HeadMode::Q8_0),
        _ => builder,
    }
}

/// Runs the model on tokens and, where it can, on text, a conversation and a text to embed. The first refusal counts.
fn run_model(model: &Model, random: &mut Random) -> std::result::Result<(), Refusal> {
    let vocab = model.config().vocab;
    let mut session = model.session();
    let tokens = [1, 2, vocab - 1].map(|token| (token % vocab) as u32);
    let count = tokens.len().min(session.capacity());
    let mut refused = Ok(());
    let mut note = |result: std::result::Result<(), Error>| -> std::result::Result<(), Refusal> {
        if let Err(error) = result {
            let message = check_message(&error.to_string())?;
            if refused.is_ok() {
                refused = Err(Refusal::Running(message));
            }
        }
        Ok(())
    };
    note(session.push_tokens(&tokens[..count]))?;
    match session.logits() {
        Ok(logits) if !logits.iter().all(|x| x.is_finite()) => {
            return Err(Refusal::Wrong("logits that are not finite".to_owned()));
        }
        logits => note(logits.map(drop))?,
    }
    if let Ok(tokenizer) = model.tokenizer() {
        // Small vocabularies lack most of it, which is no refusal of the file.
        let text = "It's the 3rd of <s>äöü</s> 🦀 \n";
        if let Err(error) = tokenizer.encode(text, Special::Parse).map(|ids| tokenizer.decode(&ids)) {
            check_message(&error.to_string())?;
        }
        let text = String::from_utf8_lossy(tokenizer.token_bytes(tokens[0])).into_owned();
        note(tokenizer.encode(&text, Special::Text).map(drop).map_err(Error::from))?;
        let seed = random.next();
        note(generate(&mut session, &Sampling::default().seed(seed).max_tokens(3)))?;
        note(generate(&mut model.session(), &Sampling::greedy().max_tokens(3)))?;
        // Most have no template, which is no refusal of the file.
        if let Ok(chat) = model.chat() {
            let mut chat = chat.sampling(Sampling::greedy().max_tokens(2));
            let replied = chat.say(&text).and_then(|mut reply| reply.try_for_each(|piece| piece.map(drop)));
            note(replied)?;
        }
        if model.config().pooling.is_some() {
            match model.embed(&[text.as_str(), "b"]) {
                Ok(vectors) if !vectors.iter().flatten().all(|x| x.is_finite()) => {
                    return Err(Refusal::Wrong("an embedding that is not finite".to_owned()));
                }
                vectors => note(vectors.map(drop))?,
            }
        }
    }
    refused
}

fn generate(session: &mut Session, sampling: &Sampling) -> std::result::Result<(), Error> {
    session.generate(sampling)?.try_for_each(|piece| piece.map(drop))
}

/// Refuses a message that is none, or does what messages must not do to a terminal.
fn check_message(message: &str) -> std::result::Result<String, Refusal> {
    match message {
        "" => Err(Refusal::Wrong("a refusal without a word".to_owned())),
        _ if message.len() > MOST_MESSAGE => Err(Refusal::Wrong(format!("a message of {} bytes", message.len()))),
        _ if message.chars().any(|c| c.is_control() && c != '\n') => {
            Err(Refusal::Wrong(format!("a message with control characters: {message:?}")))
        }
        _ => Ok(message.to_owned()),
    }
}

/// Limits the address space of this process, and so all memory that it can have.
fn limit(bytes: u64) -> Result {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let limit = Some(bytes);
        setrlimit(Resource::As, Rlimit { current: limit, maximum: limit })?;
    }
    #[cfg(not(unix))]
    eprintln!("no limit of {bytes} bytes on this system");
    Ok(())
}

/// Forgets how much memory this process has had.
fn reset_peak() {
    // Where it cannot be, the largest of all mutants so far is told.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The most bytes of memory this process has had since then; 0 where the system does not say.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kb.unwrap_or_default() * 1024
}
