//! Continues many prompts from a file, several at once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use serde_json::{Map, Value, json};
use support::{Compute, ModelPath, Result, SamplingArgs, bar, fail, print_json};
use tritwise::StopReason;

/// Continue many prompts, several at once.
///
/// INPUT has one JSON object per line, with the text to continue as "prompt"; a line of OUTPUT is such an object
/// with "index", "text", "tokens" and "stop_reason" (or "error") added, in the order in which texts end. Line i,
/// from 0, is drawn with seed --seed + i, so that each text is the one `generate` makes of it with that seed and the same
/// options.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    model: ModelPath,
    /// Prompts, as JSON lines.
    input: PathBuf,
    /// Where to write completions, as JSON lines.
    output: PathBuf,
    /// Texts in flight: more are faster, up to a point. Changes no text.
    #[arg(long, value_name = "TEXTS", default_value_t = 8)]
    in_flight: usize,
    /// Most tokens of a completion.
    #[arg(long = "max-tokens", short = 'n', value_name = "TOKENS", default_value_t = 64)]
    max_tokens: usize,
    /// End where a text reaches TEXT; can be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Print the figures as one JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    // All lines are looked at before work begins: a mistake in the last one should not show after hours.
    let mut count = 0;
    for line in lines(&args.input)? {
        line?;
        count += 1;
    }
    let model = args.compute.open(&args.model)?;
    let sampling = args.sampling.sampling().max_tokens(args.max_tokens);
    let sampling = args.stop.iter().fold(sampling, |sampling, stop| sampling.stop(stop));

    let begun = RefCell::new(HashMap::new());
    let prompts = lines(&args.input)?.map_while(|line| line.ok()).enumerate().map(|(index, line)| {
        let prompt = line["prompt"].as_str().unwrap_or_default().to_owned();
        begun.borrow_mut().insert(index, line);
        prompt
    });
    let mut output = BufWriter::new(File::create(&args.output).map_err(|e| named(&args.output, e))?);
    let bar = bar("completing", count);
    let start = Instant::now();
    let (mut tokens, mut prompt_tokens, mut failed) = (0, 0, 0);
    for (index, completion) in model.complete(prompts, &sampling).in_flight(args.in_flight) {
        let mut line = begun.borrow_mut().remove(&index).unwrap_or_default();
        line.insert("index".into(), json!(index));
        match completion {
            Ok(completion) => {
                let summary = completion.summary;
                (tokens, prompt_tokens) = (tokens + summary.tokens, prompt_tokens + summary.prompt_tokens);
                line.insert("text".into(), json!(completion.text));
                line.insert("tokens".into(), json!(summary.tokens));
                line.insert("stop_reason".into(), json!(summary.stop_reason.as_ref().map(StopReason::name)));
            }
            Err(error) => {
                failed += 1;
                line.insert("error".into(), json!(error.to_string()));
            }
        }
        writeln!(output, "{}", Value::Object(line)).map_err(|e| named(&args.output, e))?;
        bar.inc(1);
    }
    output.flush().map_err(|e| named(&args.output, e))?;
    bar.finish_and_clear();

    let seconds = start.elapsed().as_secs_f64();
    let rate = tokens as f64 / seconds;
    if args.json {
        print_json(&json!({
            "prompts": count,
            "failed": failed,
            "prompt_tokens": prompt_tokens,
            "tokens": tokens,
            "seconds": seconds,
            "tokens_per_s": rate,
            "in_flight": args.in_flight,
            "isa": model.isa(),
            "threads": model.threads(),
        }));
    } else {
        println!("{count} prompts of {prompt_tokens} tokens, {failed} of them failed; {tokens} tokens made");
        println!("{seconds:.2} s, {rate:.0} tokens/s, {} in flight on {} threads", args.in_flight, model.threads());
    }
    Ok(())
}

/// The lines of a file, each an object with a prompt.
fn lines(path: &Path) -> Result<impl Iterator<Item = Result<Map<String, Value>>>> {
    let file = File::open(path).map_err(|e| named(path, e))?;
    let path = path.to_owned();
    Ok(BufReader::new(file).lines().enumerate().map(move |(i, line)| {
        let wrong = |what: String| format!("{}, line {}: {what}", path.display(), i + 1);
        let line = line.map_err(|e| wrong(e.to_string()))?;
        let line: Map<String, Value> = serde_json::from_str(&line).map_err(|e| wrong(e.to_string()))?;
        match line.get("prompt") {
            Some(Value::String(_)) => Ok(line),
            _ => Err(wrong("has no text named \"prompt\"".into()).into()),
        }
    }))
}

fn named(path: &Path, error: std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
