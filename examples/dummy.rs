//! Writes a checkpoint of random weights in the shape of a published model.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Parser, ValueEnum};
use support::dummy::{Dummy, MASTERS};
use support::shapes::{Graph, SHAPES, parse_encoding};
use support::{Dense, Result, bar, fail, plant, size};
use tritwise::loader::{self, Conversion};
use tritwise::tensor::TernaryEncoding;

/// Write a valid checkpoint of random weights, for measuring speed and memory
/// without downloading anything. It has no tokenizer, and what it says makes no
/// sense.
///
///   cargo run --release --example dummy -- --shape 2b-4t /tmp/2b.gguf
///   cargo run --release --example bench -- --model /tmp/2b.gguf
///
/// What is written follows from the encoding of the ternary matrices: a GGUF file,
/// or a Hugging Face folder for hf-packed and for hf-master, the bf16 master weights
/// of a training:
///
///   cargo run --release --example dummy -- --shape 2b-4t --type hf-master /tmp/2b
///   cargo run --release --example convert -- --to tq2_0 /tmp/2b /tmp/2b-tq2_0.gguf
///
/// Any shape can have any graph (--graph), its own or that of another family. The
/// largest shape takes 21 GB, and is meant to be opened in place:
///
///   cargo run --release --example dummy -- --shape 100b --type base3 --head q6_k /tmp/100b.gguf
///   cargo run --release --example bench -- --model /tmp/100b.gguf --in-place
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Args {
    /// Whose shape.
    #[arg(long, default_value = "2b-4t", value_parser = PossibleValuesParser::new(SHAPES.map(|s| s.name)))]
    shape: String,
    /// Whose graph [default: the shape's own].
    #[arg(long, visible_alias = "arch")]
    graph: Option<Graph>,
    /// Encoding of the ternary matrices: i2_s, tq1_0, tq2_0, … (convert --help lists them), or hf-master.
    #[arg(long = "type", visible_alias = "to", default_value = "i2_s", value_parser = linear)]
    linear: TernaryEncoding,
    /// Encoding of the embedding and the head.
    #[arg(long, value_enum, default_value_t = Dense::F16)]
    head: Dense,
    /// How far the likeliest tokens stand out. `trained` plants, for each of the 128 positions that
    /// bench decodes from an empty cache, 32 rows of an F16 head whose cosines with the hidden vector are
    /// those of the best 32 tokens at one position of a story by the bundled model (whose width is 256);
    /// all other rows stay random. A screened head then finds one token to stand out as far as it
    /// does in that small model; how far it does in a large one is not known here.
    /// `copying` plants a cycle of 64 tokens in an F16 head of its own, which the model goes round in once
    /// its text does: what the example `draft` measures with.
    #[arg(long, value_enum, default_value_t = Margins::Random)]
    margins: Margins,
    /// The same seed writes the same file.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The file or folder to write.
    dst: PathBuf,
}

fn linear(name: &str) -> std::result::Result<TernaryEncoding, String> {
    match name {
        "hf-master" => Ok(MASTERS),
        name => parse_encoding(name).map_err(|message| format!("{message}, hf-master")),
    }
}

/// See [`support::plant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Margins {
    /// As the weights are drawn.
    Random,
    /// As those of the bundled model.
    Trained,
    /// Such that it copies a text.
    Copying,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let shape = SHAPES.iter().find(|s| s.name == args.shape).ok_or("no such shape")?;
    let mut config = shape.config(args.graph);
    config.tied &= args.margins != Margins::Copying;
    let dummy = Dummy { config, linear: args.linear, table: args.head.into(), seed: args.seed };
    let bytes = dummy.bytes()?;
    let folder = args.dst.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match free_bytes(folder) {
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
    let mut conversion = Conversion::default();
    conversion.linear = args.linear;
    conversion.name = Some(format!("random weights, {} shape", shape.name));
    let bar = bar("writing", 0);
    loader::write(&dummy, &args.dst, &conversion, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    })?;
    bar.finish_and_clear();
    if args.margins != Margins::Random {
        let mut file = std::fs::read(&args.dst)?;
        match args.margins {
            Margins::Copying => plant::plant_cycle(&mut file)?,
            _ => plant::plant(&mut file)?,
        }
        std::fs::write(&args.dst, file)?;
    }
    eprintln!("{}: {} bytes", args.dst.display(), size(&args.dst)?);
    Ok(())
}

/// What the file must leave free on its disk.
const RESERVE: u64 = 1_000_000_000;

/// Free bytes on the disk that `folder` is on, where the system says.
fn free_bytes(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(folder).ok()?;
        Some(disk.f_bavail * disk.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}
