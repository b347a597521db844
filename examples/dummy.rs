//! Writes a checkpoint of random weights in the shape of a published model.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Parser, ValueEnum};
use support::dummy::{self, Head, SHAPES, Ternary};
use support::{Result, bar, fail, plant};

/// Write a structurally valid GGUF file of random weights, for measuring speed
/// and memory without downloading anything. It has no tokenizer, and what it
/// says makes no sense.
///
///   cargo run --release --example dummy -- --shape 2b-4t /tmp/2b.gguf
///   cargo run --release --example bench -- --model /tmp/2b.gguf
///
/// The largest shape takes 21 GB, and is meant to be opened in place:
///
///   cargo run --release --example dummy -- --shape 100b --type base3 --head q6_k /tmp/100b.gguf
///   cargo run --release --example bench -- --model /tmp/100b.gguf --in-place
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Args {
    /// Whose shape.
    #[arg(long, default_value = "2b-4t", value_parser = PossibleValuesParser::new(SHAPES.map(|s| s.name)))]
    shape: String,
    /// Encoding of the ternary matrices.
    #[arg(long = "type", value_enum, default_value_t = Ternary::I2S)]
    ternary: Ternary,
    /// Encoding of the embedding and the head.
    #[arg(long, value_enum, default_value_t = Head::F16)]
    head: Head,
    /// How far the likeliest tokens stand out. `trained` plants, for each of the 128 positions that
    /// bench decodes from an empty cache, 32 rows of an F16 head whose cosines with the hidden vector are
    /// those of the best 32 tokens at one position of a story by the bundled model (whose width is 256);
    /// all other rows stay random. A screened head then finds one token to stand out as far as it
    /// does in that small model; how far it does in a large one is not known here.
    #[arg(long, value_enum, default_value_t = Margins::Random)]
    margins: Margins,
    /// The same seed writes the same file.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The file to write.
    dst: PathBuf,
}

/// See [`support::plant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Margins {
    /// As the weights are drawn.
    Random,
    /// As those of the bundled model.
    Trained,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let shape = SHAPES.iter().find(|s| s.name == args.shape).ok_or("no such shape")?;
    let bytes = dummy::data_bytes(shape, args.ternary, args.head)?;
    let file = File::create(&args.dst).map_err(|e| format!("{}: {e}", args.dst.display()))?;
    match free_bytes(&file) {
        Some(free) if free < bytes + RESERVE => {
            let gb = |bytes: u64| bytes as f64 / 1e9;
            return Err(format!(
                "{}: takes {:.1} GB, and of the disk's free {:.1} GB at least {:.0} are to remain; free some, or write it elsewhere",
                args.dst.display(),
                gb(bytes),
                gb(free),
                gb(RESERVE),
            )
            .into());
        }
        _ => {}
    }
    let bar = bar("writing", bytes);
    dummy::write(shape, args.ternary, args.head, args.seed, BufWriter::with_capacity(1 << 20, file), &mut |bytes| {
        bar.inc(bytes);
    })?;
    bar.finish_and_clear();
    if args.margins == Margins::Trained {
        let mut file = std::fs::read(&args.dst)?;
        plant::plant(&mut file)?;
        std::fs::write(&args.dst, file)?;
    }
    eprintln!("{}: {} bytes", args.dst.display(), std::fs::metadata(&args.dst)?.len());
    Ok(())
}

/// What the file must leave free on its disk.
const RESERVE: u64 = 1_000_000_000;

/// Free bytes on the disk that `file` is on, where the system says.
fn free_bytes(file: &File) -> Option<u64> {
    #[cfg(unix)]
    {
        let disk = rustix::fs::fstatvfs(file).ok()?;
        Some(disk.f_bavail * disk.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        None
    }
}
