//! Converts a checkpoint to a GGUF file or a Hugging Face folder.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory, FromArgMatches, Parser};
use serde_json::json;
use support::machine::peak_rss;
use support::shapes::{encoding_names, parse_encoding};
use support::{Dense, Result, bar, fail, local, print_json, size};
use tritwise::loader::{self, Conversion, Stage};
use tritwise::tensor::{Scales, TernaryEncoding};

/// Convert a Hugging Face folder or a GGUF file (any part of a split one) to a
/// GGUF file in another encoding, or to a folder of packed weights. The tokenizer
/// and the metadata are carried over; every weight of the result is compared with
/// the original before it gets its name.
///
///   cargo run --release --example convert -- path/to/folder model.gguf
///   cargo run --release --example convert -- --to tq1_0 --embedding q6_k path/to/folder small.gguf
///   cargo run --release --example convert -- --to hf-packed model.gguf path/to/new-folder
///
/// Which encoding? i2_s is bitnet.cpp's and keeps scales exactly. tq2_0 and tq1_0
/// are ggml's, for llama.cpp; they round scales to 16 bits and need layer widths
/// that are multiples of 256. base3 is this project's own: no other program reads it,
/// and this one computes with it where it lies, without a copy. hf-packed makes
/// a folder for transformers. What an encoding cannot hold is refused, with
/// the names of those that can.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Args {
    /// Encoding of the linear layers; the table below lists all.
    #[arg(long, visible_alias = "type", default_value = "i2_s", value_parser = parse_encoding)]
    to: TernaryEncoding,
    /// Encoding of the token embedding [default: as it is].
    #[arg(long, value_enum)]
    embedding: Option<Dense>,
    /// Encoding of the output head, if it is not the embedding [default: as it is].
    #[arg(long, value_enum)]
    head: Option<Dense>,
    /// The model's name in a GGUF file.
    #[arg(long)]
    name: Option<String>,
    /// Leave the tokenizer out.
    #[arg(long, alias = "no-tokenizer")]
    without_tokenizer: bool,
    /// Print one JSON object: bytes, seconds of both passes, and the most memory this process had.
    #[arg(long)]
    json: bool,
    /// A GGUF file or a Hugging Face folder; with `--features download` also `hf:owner/name`.
    src: PathBuf,
    /// The file to write, or the folder to make.
    dst: PathBuf,
}

fn main() -> ExitCode {
    let matches = Args::command().after_help(table()).get_matches();
    match Args::from_arg_matches(&matches) {
        Ok(args) => fail(run(args)),
        Err(error) => error.exit(),
    }
}

fn run(args: Args) -> Result {
    let start = Instant::now();
    let source = loader::open(local(&args.src)?, &Default::default())?;
    let mut conversion = Conversion::default();
    conversion.linear = args.to;
    conversion.embedding = args.embedding.map(Into::into);
    conversion.head = args.head.map(Into::into);
    conversion.name = args.name;
    conversion.without_tokenizer = args.without_tokenizer;
    let bar = bar("writing", 0);
    let mut written = start.elapsed();
    loader::convert(&source, &args.dst, &conversion, &mut |progress| {
        match progress.stage {
            Stage::Write => written = start.elapsed(),
            Stage::Verify => bar.set_message("verifying"),
        }
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    })?;
    bar.finish_and_clear();
    let (bytes, verified) = (size(&args.dst)?, start.elapsed() - written);
    if args.json {
        print_json(&json!({
            "bytes": bytes,
            "write_s": written.as_secs_f64(),
            "verify_s": verified.as_secs_f64(),
            "peak_rss_bytes": peak_rss(),
        }));
    } else {
        eprintln!("{}: {bytes} bytes, compared with its source", args.dst.display());
    }
    Ok(())
}

/// The encodings, and what can be said of each by asking it.
fn table() -> String {
    // A shape that every encoding holds.
    const ROWS: usize = 1280;
    const COLS: usize = 2560;
    let mut lines = vec!["Encodings:  bits per weight, scales per matrix".to_owned()];
    let (ternary, binary) = (vec![0; ROWS * COLS], vec![1; ROWS * COLS]);
    for (name, encoding) in encoding_names().iter().zip(TernaryEncoding::WRITABLE) {
        let holds = |trits: &[i8], scales| encoding.encode(trits, ROWS, COLS, &scales).is_ok();
        let bits = encoding.encoded_len(ROWS, COLS).map_or(f64::NAN, |len| 8.0 * len as f64 / (ROWS * COLS) as f64);
        let by_row = holds(&binary, Scales::Rows((1..=ROWS).map(|row| row as f32).collect()));
        let by_group = holds(
            &binary,
            Scales::Groups { cols: 256, values: (1..=ROWS * COLS / 256).map(|i| (i % 7 + 1) as f32).collect() },
        );
        let scales = match (by_row, by_group) {
            (_, true) => "any number",
            (true, false) => "one, or one per row",
            (false, false) => "one",
        };
        let signs = if holds(&ternary, Scales::Tensor(1.0)) { "" } else { "; binary weights, no zeros" };
        lines.push(format!("  {name:<10}{bits:5.2}  {scales}{signs}"));
    }
    lines.join("\n")
}
