//! Opens spoilt model files and looks that each is refused or runs.

mod bytes;
mod child;
mod folder;
mod gguf;
mod mutant;
mod random;
mod sound;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value as Json, json};
use support::{Result, bar, fail, print_json};

/// Make model files of small, valid ones by changing bits, fields of headers, sizes, data
/// and what lies where; open each in a process with little memory, and run a few tokens.
///
/// Each must be refused with a message, or give logits that are finite numbers: no
/// crash, no hang, no more memory than the limit. A seed stands for one file:
/// the same seed makes the same one, so any range can be run alone or again.
///
///   cargo run --example mutants
///   cargo run --example mutants -- --seeds 10000..20000 --json
///   cargo run --example mutants -- --seeds 4711..4712 --keep /tmp/mutants
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Args {
    /// Which mutants, FIRST..END.
    #[arg(long, value_parser = range, default_value = "0..10000")]
    seeds: Range<u64>,
    /// Seconds that each may take.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Megabytes of address space that the process which opens them has (2²⁰ bytes each).
    #[arg(long, default_value_t = 1024)]
    memory: u64,
    /// Write the files of mutants that failed to folders in this one; of all, where the range is a single seed.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Print the message of every refusal.
    #[arg(long)]
    messages: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Open them in this process.
    #[arg(long, hide = true)]
    child: bool,
}

fn range(text: &str) -> std::result::Result<Range<u64>, String> {
    let parts = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    parts.filter(|seeds| !seeds.is_empty()).ok_or_else(|| "expected FIRST..END".to_owned())
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.child {
        return fail(child::run(args.seeds, args.memory << 20));
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(Err(error)),
    }
}

/// What became of all mutants so far.
#[derive(Debug, Default)]
struct Tally {
    outcomes: BTreeMap<String, u64>,
    /// Those that must not be: seed and what happened.
    failed: Vec<(u64, String)>,
    checkpoints: BTreeMap<String, u64>,
    /// Seed and number.
    slowest: (u64, u64),
    largest: (u64, u64),
}

/// Opens all; whether all is well.
fn run(args: &Args) -> Result<bool> {
    let progress = bar("mutants", args.seeds.end - args.seeds.start);
    let mut tally = Tally::default();
    let mut next = args.seeds.start;
    while next < args.seeds.end {
        let mut opener = Opener::start(args, next)?;
        while next < args.seeds.end {
            match opener.lines.recv_timeout(Duration::from_secs(args.seconds)) {
                Ok(line) => {
                    tally.add(next, &line, args.messages)?;
                    next += 1;
                    progress.inc(1);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => tally.fail(next, format!("takes more than {} s", args.seconds)),
                Err(RecvTimeoutError::Disconnected) => tally.fail(next, opener.end()?),
            }
            next += 1;
            progress.inc(1);
            break;
        }
    }
    progress.finish_and_clear();
    if let Some(folder) = &args.keep {
        let failed = tally.failed.iter().map(|(seed, _)| *seed);
        let single = (args.seeds.end - args.seeds.start == 1).then_some(args.seeds.start);
        keep(folder, failed.chain(single))?;
    }
    if args.json {
        print_json(&tally.json(args));
    } else {
        tally.print();
    }
    Ok(tally.failed.is_empty())
}

/// The process that opens mutants.
struct Opener {
    process: Child,
    lines: Receiver<Json>,
    errors: Option<JoinHandle<String>>,
}

impl Opener {
    fn start(args: &Args, next: u64) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--child", "--seeds", &format!("{next}..{}", args.seeds.end)])
            .args(["--memory", &args.memory.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
            for line in lines.map_while(|line| line.ok()).filter_map(|line| serde_json::from_str(&line).ok()) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            // What cannot be read is not told.
            let _ = stderr.map(|mut stderr| stderr.read_to_string(&mut text));
            text
        });
        let mut opener = Self { process, lines, errors: Some(errors) };
        // It makes the sound checkpoints first.
        match opener.lines.recv_timeout(Duration::from_secs(60)) {
            Ok(_) => Ok(opener),
            Err(RecvTimeoutError::Timeout) => Err("the process that opens mutants does not start".into()),
            Err(RecvTimeoutError::Disconnected) => Err(opener.end()?.into()),
        }
    }

    /// How it ended by itself.
    fn end(&mut self) -> Result<String> {
        let status = self.process.wait()?;
        let errors = self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
        Ok(format!("{status}: {}", errors.trim()))
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Tally {
    fn add(&mut self, seed: u64, line: &Json, messages: bool) -> Result {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| line[key].as_u64().unwrap_or_default();
        if number("seed") != seed {
            return Err(format!("the process answered for {} and not for {seed}: {line}", line["seed"]).into());
        }
        if messages && !text("message").is_empty() {
            eprintln!("{seed} {}: {}", text("outcome"), text("message"));
        }
        if text("outcome") == "WRONG" {
            self.fail(seed, text("message"));
        } else {
            *self.outcomes.entry(text("outcome")).or_default() += 1;
        }
        *self.checkpoints.entry(text("checkpoint")).or_default() += 1;
        self.slowest = self.slowest.max((number("ms"), seed));
        self.largest = self.largest.max((number("peak"), seed));
        Ok(())
    }

    fn fail(&mut self, seed: u64, how: String) {
        eprintln!("{seed}: {how}");
        *self.outcomes.entry("FAILED".to_owned()).or_default() += 1;
        self.failed.push((seed, how));
    }

    fn json(&self, args: &Args) -> Json {
        let failed: Vec<Json> = self.failed.iter().map(|(seed, how)| json!({"seed": seed, "how": how})).collect();
        json!({
            "seeds": [args.seeds.start, args.seeds.end],
            "outcomes": self.outcomes,
            "failed": failed,
            "checkpoints": self.checkpoints,
            "slowest": {"ms": self.slowest.0, "seed": self.slowest.1},
            "largest": {"peak_rss_bytes": self.largest.0, "seed": self.largest.1},
        })
    }

    fn print(&self) {
        for (outcome, count) in &self.outcomes {
            println!("{count:>8} {outcome}");
        }
        println!(
            "of {} checkpoints; at most {} ms (seed {}) and {} MB of memory (seed {})",
            self.checkpoints.len(),
            self.slowest.0,
            self.slowest.1,
            self.largest.0 / 1_000_000,
            self.largest.1
        );
        for (seed, how) in &self.failed {
            println!("seed {seed}: {how}");
        }
    }
}

/// Writes mutants to folders named after their seeds.
fn keep(folder: &Path, seeds: impl Iterator<Item = u64>) -> Result {
    let sound = sound::checkpoints()?;
    for seed in seeds {
        let mutant = mutant::Mutant::new(seed, &sound);
        let folder = folder.join(seed.to_string());
        fs::create_dir_all(&folder)?;
        let path = child::write(&mutant, &folder)?;
        eprintln!("{}: {} with {}", path.display(), mutant.checkpoint.name, mutant.changes.join("; "));
    }
    Ok(())
}
