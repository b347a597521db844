//! Writes the logits of given tokens to a file, for comparing engines.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use support::{Compute, ModelPath, Result, fail};
use tritwise::transformer::{Turn, Wanted};

/// Write the logits after each of the given tokens: raw little-endian f32, tokens × vocab.
///
/// Needs no tokenizer in the checkpoint.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    model: ModelPath,
    /// Token ids, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    tokens: Vec<u32>,
    /// The file to write.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    compute: Compute,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let model = args.compute.open(&args.model)?;
    let network = model.network();
    let mut sequence = network.sequence(args.tokens.len());
    let mut workspace = network.workspace();
    let turn = Turn { sequence: &mut sequence, tokens: &args.tokens, wanted: Wanted::All };
    let logits = network.forward(&mut workspace, &mut [turn])?;

    let mut out = BufWriter::new(std::fs::File::create(&args.out).map_err(|e| format!("{}: {e}", args.out.display()))?);
    for logit in logits.as_slice() {
        out.write_all(&logit.to_le_bytes())?;
    }
    out.flush()?;
    eprintln!("{} × {} logits in {}", logits.len(), network.config().vocab, args.out.display());
    Ok(())
}
