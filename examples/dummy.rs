//! Writes a checkpoint of random weights in the shape of a published model.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use support::dummy::{self, Head, SHAPES, Ternary};
use support::{Result, bar, fail};

/// Write a structurally valid GGUF file of random weights, for measuring speed
/// and memory without downloading anything. It has no tokenizer, and what it
/// says makes no sense.
///
///   cargo run --release --example dummy -- --shape 2b-4t /tmp/2b.gguf
///   cargo run --release --example bench -- --model /tmp/2b.gguf
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
    /// The same seed writes the same file.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The file to write.
    dst: PathBuf,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let shape = SHAPES.iter().find(|s| s.name == args.shape).ok_or("no such shape")?;
    let file = File::create(&args.dst).map_err(|e| format!("{}: {e}", args.dst.display()))?;
    let bar = bar("writing", dummy::data_bytes(shape, args.ternary, args.head)?);
    dummy::write(shape, args.ternary, args.head, args.seed, BufWriter::with_capacity(1 << 20, file), &mut |bytes| {
        bar.inc(bytes);
    })?;
    bar.finish_and_clear();
    eprintln!("{}: {} bytes", args.dst.display(), std::fs::metadata(&args.dst)?.len());
    Ok(())
}
