//! Continues a text, streaming it as it is made.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use support::{Compute, ModelPath, Result, fail, print_json};
use tritwise::{Sampling, StopReason};

/// Continue a text with a ternary model.
///
/// Without options, the bundled model tells a story:
///
///   cargo run --release --example generate
///
/// The text goes to stdout as it is made, figures to stderr at the end. The
/// same seed gives the same text on every machine.
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
    /// Seed of the draws.
    #[arg(long, short, default_value_t = 0)]
    seed: u64,
    /// Temperature; 0 always takes the likeliest token.
    #[arg(long, default_value_t = 0.7)]
    temp: f32,
    /// Draw from the K likeliest tokens; 0 for all.
    #[arg(long, value_name = "K", default_value_t = 40)]
    top_k: usize,
    /// Draw from the likeliest tokens that reach probability P; 1 for all.
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,
    /// Drop tokens less than P times as likely as the likeliest; 0 for none.
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    min_p: f32,
    /// Make recent tokens less likely, which small models need; 1 leaves them.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.15)]
    repetition_penalty: f32,
    /// End where the text reaches TEXT; can be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    #[command(flatten)]
    compute: Compute,
    /// Print one JSON object at the end instead of streaming text.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let model = args.compute.open(&args.model)?;
    let mut sampling = Sampling::default()
        .temperature(args.temp)
        .top_k(args.top_k)
        .top_p(args.top_p)
        .min_p(args.min_p)
        .repetition_penalty(args.repetition_penalty)
        .seed(args.seed)
        .max_tokens(args.max_tokens);
    for stop in &args.stop {
        sampling = sampling.stop(stop);
    }

    let mut session = model.session();
    session.push(&args.prompt)?;
    let mut stdout = std::io::stdout().lock();
    if !args.json {
        write!(stdout, "{}", args.prompt)?;
    }
    let mut text = String::new();
    let mut generation = session.generate(&sampling)?;
    for piece in &mut generation {
        let piece = piece?;
        text.push_str(&piece.text);
        if !args.json {
            write!(stdout, "{piece}")?;
            stdout.flush()?;
        }
    }

    let done = generation.summary();
    let stop_reason = done.stop_reason.as_ref().map(StopReason::name);
    if args.json {
        print_json(&json!({
            "text": text,
            "prompt_tokens": done.prompt_tokens,
            "tokens": done.tokens,
            "tokens_per_s": done.tokens_per_second(),
            "isa": model.isa(),
            "threads": model.threads(),
            "stop_reason": stop_reason,
        }));
    } else {
        writeln!(stdout)?;
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
