//! Continues a text, streaming it as it is made.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use support::{Compute, ModelPath, Result, SamplingArgs, fail, print_json};
use tritwise::{DraftModel, Model, PromptLookup, StopReason, TokenLogprob};

/// Continue a text with a ternary model.
///
/// Without options, the bundled model tells a story:
///
///   cargo run --release --example generate
///
/// The text goes to stdout as it is made, figures to stderr at the end. The
/// same seed gives the same text on every machine; docs/sampling.md has what
/// the options of sampling mean.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Args {
    #[command(flatten)]
    model: ModelPath,
    /// The text to continue.
    #[arg(long, short, default_value = "The little girl looked at the dragon")]
    prompt: String,
    /// Most tokens to make.
    #[arg(long = "max-tokens", short = 'n', value_name = "TOKENS", default_value_t = 256)]
    max_tokens: usize,
    /// End where the text reaches TEXT; can be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Print one JSON object at the end instead of streaming text.
    #[arg(long)]
    json: bool,
    /// Tell each token's log-probability in the JSON object, and the N likeliest tokens in its place.
    #[arg(long, value_name = "N", requires = "json")]
    logprobs: Option<usize>,
    /// Guess that the text goes on as it did before, at most N tokens ahead, and check the guesses several at a time: the
    /// same text, and faster where it repeats or quotes.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "15")]
    lookup: Option<usize>,
    /// Have a smaller checkpoint with the same tokenizer guess the next tokens: the same text.
    #[arg(long, value_name = "PATH", conflicts_with = "lookup")]
    draft_model: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    sampling: SamplingArgs,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let model = args.compute.open(&args.model)?;
    let mut sampling = args.sampling.sampling().max_tokens(args.max_tokens);
    if let Some(best) = args.logprobs {
        sampling = sampling.logprobs(best);
    }
    for stop in &args.stop {
        sampling = sampling.stop(stop);
    }

    let mut session = model.session();
    session.push(&args.prompt)?;
    let mut generation = session.generate(&sampling)?;
    if let Some(most) = args.lookup {
        generation = generation.drafting(PromptLookup::new(2, most));
    }
    if let Some(path) = &args.draft_model {
        generation = generation.drafting(DraftModel::new(&Model::open(path)?, &model, 4)?);
    }
    let mut stdout = std::io::stdout().lock();
    if !args.json {
        write!(stdout, "{}", args.prompt)?;
    }
    let (mut text, mut logprobs) = (String::new(), Vec::new());
    for piece in &mut generation {
        let piece = piece?;
        if !args.json {
            write!(stdout, "{piece}")?;
            stdout.flush()?;
        }
        text.push_str(&piece.text);
        logprobs.extend(piece.logprobs);
    }

    let done = generation.summary();
    let stop_reason = done.stop_reason.as_ref().map(StopReason::name);
    if args.json {
        let best = |(token, logprob): &(u32, f64)| json!({"token": token, "logprob": logprob});
        let made = |made: &TokenLogprob| {
            let best: Vec<_> = made.best.iter().map(best).collect();
            json!({"token": made.token, "logprob": made.logprob, "best": best})
        };
        print_json(&json!({
            "text": text,
            "prompt_tokens": done.prompt_tokens,
            "tokens": done.tokens,
            "tokens_per_s": done.tokens_per_second(),
            "tokens_per_step": done.tokens_per_step(),
            "isa": model.isa(),
            "threads": model.threads(),
            "stop_reason": stop_reason,
            "logprobs": args.logprobs.map(|_| logprobs.iter().map(made).collect::<Vec<_>>()),
        }));
    } else {
        writeln!(stdout)?;
        if done.drafted > 0 {
            let (right, drafted, per_step) = (done.accepted, done.drafted, done.tokens_per_step());
            eprintln!("\n{right} of {drafted} guesses right, {per_step:.2} tokens per step");
        }
        eprintln!(
            "\n{} tokens, {:.0} tokens/s; prompt {} tokens, {:.0} tokens/s; ended by {}; {} on {} threads",
            done.tokens,
            done.tokens_per_second(),
            done.prompt_tokens,
            done.prompt_tokens_per_second(),
            stop_reason.unwrap_or("error"),
            model.isa(),
            model.threads(),
        );
    }
    Ok(())
}
