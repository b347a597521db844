//! How much faster a text is made when its tokens are guessed ahead.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use serde_json::json;
use support::measure::Median;
use support::{Compute, ModelPath, Result, bar, fail, plant, print_json};
use tritwise::tokenizer::Special;
use tritwise::transformer::{Keep, Turn, Wanted};
use tritwise::{Draft, Model, PromptLookup};

/// Measure drafts on a text that the model copies: the same tokens, one by one and checked several at a time, in turn.
///
/// The tokens are compared, and a difference is an error: a draft changes the speed of a text and nothing else.
/// The default text is one that the bundled model repeats; a checkpoint without a tokenizer gets the tokens of
/// a cycle that can be planted in it:
///
///   cargo run --release --example draft
///   cargo run --release --example dummy -- --margins copying /tmp/copying.gguf
///   cargo run --release --example draft -- --model /tmp/copying.gguf
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Args {
    #[command(flatten)]
    model: ModelPath,
    /// The text to go on with.
    #[arg(long)]
    prompt: Option<String>,
    /// Tokens to make.
    #[arg(short, value_name = "TOKENS", default_value_t = 256)]
    n: usize,
    /// Most tokens of a draft; several values are measured in turn.
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "3,7,15,31")]
    most: Vec<usize>,
    /// Repetitions of each measurement.
    #[arg(long, default_value_t = 5)]
    reps: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: Compute,
}

const PROMPT: &str = "So she went to the ball, and when she came to the ball, she said:\n\n'I am going to the ball, and \
                      I will go to the ball, and I will go to the ball and fetch it.'\n\n";

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let model = args.compute.open(&args.model)?;
    let prompt = match (model.tokenizer(), &args.prompt) {
        (Ok(tokenizer), Some(prompt)) => tokenizer.encode_prompt(prompt, Special::Text)?,
        (Ok(tokenizer), None) => tokenizer.encode_prompt(&PROMPT.repeat(3), Special::Text)?,
        (Err(_), None) => plant::cycle(&model),
        (Err(error), Some(_)) => return Err(error.into()),
    };
    let drafts: Vec<usize> = std::iter::once(0).chain(args.most.iter().copied()).collect();
    let bar = bar("measuring", ((args.reps + 1) * drafts.len()) as u64);
    let mut runs: Vec<Vec<Run>> = drafts.iter().map(|_| Vec::new()).collect();
    let mut expected = None;
    for rep in 0..=args.reps {
        for (most, runs) in drafts.iter().zip(&mut runs) {
            let run = generate(&model, &prompt, args.n, *most)?;
            if *expected.get_or_insert_with(|| run.tokens.clone()) != run.tokens {
                return Err(format!("a draft of {most} changed the text: this is a bug").into());
            }
            // The first makes what the others find.
            if rep > 0 {
                runs.push(run);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let speeds: Vec<Median> =
        runs.iter().map(|runs| Median::of(runs.iter().map(|r| args.n as f64 / r.seconds))).collect();
    if args.json {
        let rows = drafts.iter().zip(&runs).zip(&speeds).map(|((most, runs), speed)| {
            let steps = runs.first().map(|run| run.steps);
            json!({ "most": most, "tokens_per_s": speed.median, "stddev": speed.spread, "steps": steps, "tokens": args.n })
        });
        print_json(&rows.collect::<Vec<_>>().into());
        return Ok(());
    }
    for ((most, runs), speed) in drafts.iter().zip(&runs).zip(&speeds) {
        let Some(first) = runs.first() else { continue };
        println!(
            "draft of {most:>3}: {:>8.1} ± {:<6.1} tokens/s, {:>5.2} times as fast, {:>5.2} tokens per step, {} of {} guesses right",
            speed.median,
            speed.spread,
            speed.median / speeds[0].median,
            args.n as f64 / first.steps as f64,
            first.right,
            first.drafted,
        );
    }
    Ok(())
}

/// What one text took.
struct Run {
    tokens: Vec<u32>,
    seconds: f64,
    steps: usize,
    drafted: usize,
    right: usize,
}

/// The likeliest `count` tokens after `prompt`, guessed `most` at a time; the clock starts behind the prompt.
fn generate(model: &Model, prompt: &[u32], count: usize, most: usize) -> Result<Run> {
    let network = model.network();
    let (mut sequence, mut workspace) = (network.sequence(prompt.len() + count), network.workspace());
    let (last, before) = prompt.split_last().ok_or("an empty prompt has nothing to copy")?;
    for piece in before.chunks(512) {
        network
            .forward(&mut workspace, &mut [Turn { sequence: &mut sequence, tokens: piece, wanted: Wanted::Nothing }])?;
    }
    let mut lookup = PromptLookup::new(2, most);
    let mut text = prompt.to_vec();
    let mut step = vec![*last];
    let (mut steps, mut drafted, mut right) = (0, 0, 0);
    let start = Instant::now();
    while text.len() < prompt.len() + count {
        let room = prompt.len() + count - text.len() - 1;
        let mut guesses = Vec::new();
        lookup.draft(&text, room.min(most), &mut guesses)?;
        step.extend(&guesses);
        let keeps = vec![Keep::best(1); step.len()];
        let turn = Turn { sequence: &mut sequence, tokens: &step, wanted: Wanted::Each(&keeps) };
        let logits = network.forward(&mut workspace, &mut [turn])?;
        let mut accepted = 0;
        for row in logits.rows() {
            let token = likeliest(row).ok_or("a model without a vocabulary")?;
            text.push(token);
            if guesses.get(accepted) != Some(&token) {
                step = vec![token];
                break;
            }
            accepted += 1;
        }
        sequence.truncate(text.len() - 1);
        if !guesses.is_empty() {
            lookup.checked(guesses.len(), accepted);
        }
        (steps, drafted, right) = (steps + 1, drafted + guesses.len(), right + accepted);
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Run { tokens: text.split_off(prompt.len()), seconds, steps, drafted, right })
}

/// The first token of the largest logit. In lanes: a comparison after the other takes a twentieth of the bundled model's time.
fn likeliest(logits: &[f32]) -> Option<u32> {
    let (vectors, rest) = logits.as_chunks::<16>();
    let mut largest = [f32::NEG_INFINITY; 16];
    for vector in vectors {
        for (largest, logit) in largest.iter_mut().zip(vector) {
            *largest = if *logit > *largest { *logit } else { *largest };
        }
    }
    let largest = largest.iter().chain(rest).fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a });
    logits.iter().zip(0..).find(|(logit, _)| **logit == largest).map(|(_, token)| token)
}
