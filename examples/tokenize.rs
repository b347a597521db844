//! Shows how a checkpoint's tokenizer cuts a text.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use support::{ModelPath, Result, fail, local, print_json};
use tritwise::tokenizer::Special;

/// Turn text into the token ids that a checkpoint's tokenizer gives it.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    model: ModelPath,
    /// The text.
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    text: Option<String>,
    /// A file that holds the text, as UTF-8.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Leave out the tokens that the file asks to put around a text.
    #[arg(long)]
    no_bos: bool,
    /// Print {"ids": […]} instead of one token per line.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let source = tritwise::loader::open(local(&args.model.model)?, &Default::default())?;
    let tokenizer = source.tokenizer()?.ok_or("this checkpoint has no tokenizer")?;
    let text = match (&args.text, &args.file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?,
        (None, None) => unreachable!("clap requires one of them"),
    };
    let ids = if args.no_bos {
        tokenizer.encode(&text, Special::Parse)?
    } else {
        tokenizer.encode_prompt(&text, Special::Parse)?
    };
    if args.json {
        print_json(&json!({ "ids": ids }));
    } else {
        for id in ids {
            println!("{id:>8}  {:?}", tokenizer.token_text(id).unwrap_or_default());
        }
    }
    Ok(())
}
