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
///
/// The standard error is that of the mean over the predicted tokens, s/√n with the tokens' standard deviation s,
/// as if they were drawn one by one. Tokens of one text resemble each other, so it says
/// how far another text of this kind may be off at least.
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
    let (mut nll, mut bytes) = (Vec::new(), 0usize);
    for window in windows {
        nll.extend(model.negative_log_likelihood(window)?);
        bytes += window[1..].iter().map(|&id| length(tokenizer, id)).sum::<usize>();
        bar.inc(1);
    }
    bar.finish_and_clear();
    if nll.is_empty() {
        return Err("the text is too short to predict anything".into());
    }

    let tokens = nll.len();
    let sum: f64 = nll.iter().sum();
    let per_token = sum / tokens as f64;
    let bits_per_byte = sum / std::f64::consts::LN_2 / bytes as f64;
    // One token has no spread: none is claimed.
    let variance = nll.iter().map(|x| (x - per_token).powi(2)).sum::<f64>() / (tokens as f64 - 1.0);
    let error = (variance / tokens as f64).sqrt();
    let perplexity = per_token.exp();
    if args.json {
        print_json(&json!({
            "tokens": tokens,
            "bytes": bytes,
            "nll_per_token": per_token,
            "standard_error": error,
            "perplexity": perplexity,
            "bits_per_byte": bits_per_byte,
        }));
    } else {
        println!("{tokens} tokens, {bytes} bytes, windows of {ctx}");
        // d e^x = e^x dx
        let spread = perplexity * error;
        println!(
            "{per_token:.4} ± {error:.4} nats per token, perplexity {perplexity:.3} ± {spread:.3}, {bits_per_byte:.4} bits per byte"
        );
    }
    Ok(())
}

/// Bytes that a token stands for in the text; a control token for its name.
fn length(tokenizer: &Tokenizer, id: u32) -> usize {
    let text = || tokenizer.token_text(id).unwrap_or_default();
    if tokenizer.is_special(id) { text().len() } else { tokenizer.token_bytes(id).len() }
}
