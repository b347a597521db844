//! Measures how well a model predicts a text.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use support::{Compute, ModelPath, Result, bar, fail, print_json};
use tritwise::tokenizer::{Special, Tokenizer};

/// Measure how well a model predicts a text.
///
/// The text is turned into tokens as a whole and cut into windows of --context
/// tokens that do not overlap. In each window every token but the first is
/// predicted from those before it. Bits per byte are the summed negative
/// log-likelihood over the bytes of the predicted tokens, so that models with
/// different vocabularies can be compared.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Args {
    #[command(flatten)]
    model: ModelPath,
    /// The text, a UTF-8 file.
    #[arg(long)]
    file: PathBuf,
    /// Measure only the first WINDOWS windows.
    #[arg(long)]
    windows: Option<usize>,
    #[command(flatten)]
    compute: Compute,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let model = args.compute.open(&args.model)?;
    let ctx = model.network().context();
    if ctx < 2 {
        return Err("a window needs at least 2 tokens".into());
    }
    let text = std::fs::read_to_string(&args.file).map_err(|e| format!("{}: {e}", args.file.display()))?;
    let tokenizer = model.tokenizer()?;
    let ids = tokenizer.encode(&text, Special::Parse)?;

    let windows = ids.chunks(ctx).filter(|w| w.len() > 1).take(args.windows.unwrap_or(usize::MAX));
    let bar = bar("scoring", windows.clone().count() as u64);
    let (mut nll, mut tokens, mut bytes) = (0.0f64, 0usize, 0usize);
    for window in windows {
        nll += model.negative_log_likelihood(window)?.iter().sum::<f64>();
        tokens += window.len() - 1;
        bytes += window[1..].iter().map(|&id| length(tokenizer, id)).sum::<usize>();
        bar.inc(1);
    }
    bar.finish_and_clear();
    if tokens == 0 {
        return Err("the text is too short to predict anything".into());
    }

    let per_token = nll / tokens as f64;
    let bits_per_byte = nll / std::f64::consts::LN_2 / bytes as f64;
    if args.json {
        print_json(&json!({
            "tokens": tokens,
            "bytes": bytes,
            "nll_per_token": per_token,
            "perplexity": per_token.exp(),
            "bits_per_byte": bits_per_byte,
        }));
    } else {
        println!("{tokens} tokens, {bytes} bytes, windows of {ctx}");
        println!("{per_token:.4} nats per token, perplexity {:.3}, {bits_per_byte:.4} bits per byte", per_token.exp());
    }
    Ok(())
}

/// Bytes that a token stands for in the text; a control token for its name.
fn length(tokenizer: &Tokenizer, id: u32) -> usize {
    let text = || tokenizer.token_text(id).unwrap_or_default();
    if tokenizer.is_special(id) { text().len() } else { tokenizer.token_bytes(id).len() }
}
