//! A conversation in the terminal, as plain turns of text.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use clap::Parser;
use support::{Compute, ModelPath, Result, fail};
use tritwise::{Sampling, Session};

/// Talk with a model, one line at a time; an empty line or end of input ends it.
///
/// The transcript is plain text ("User: …", "Assistant: …"), which any model
/// can continue; chat templates are not applied. The bundled model only knows
/// stories: it will tell you one.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    model: ModelPath,
    /// What the transcript calls you.
    #[arg(long, default_value = "User")]
    user: String,
    /// What the transcript calls the model.
    #[arg(long, default_value = "Assistant")]
    assistant: String,
    /// Text before the first turn.
    #[arg(long, default_value = "")]
    system: String,
    /// Most tokens of an answer.
    #[arg(long = "max-tokens", short = 'n', value_name = "TOKENS", default_value_t = 256)]
    max_tokens: usize,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Temperature; 0 always takes the likeliest token.
    #[arg(long, default_value_t = 0.8)]
    temp: f32,
    #[command(flatten)]
    compute: Compute,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let model = args.compute.open(&args.model)?;
    let sampling = Sampling::default()
        .temperature(args.temp)
        .seed(args.seed)
        .max_tokens(args.max_tokens)
        .stop(format!("\n{}:", args.user));
    let mut session = model.session();
    if !args.system.is_empty() {
        session.push_plain(&format!("{}\n\n", args.system))?;
    }
    let mut lines = std::io::stdin().lock().lines();
    loop {
        print!("{}: ", args.user);
        std::io::stdout().flush()?;
        match lines.next().transpose()? {
            Some(line) if !line.trim().is_empty() => answer(args, &mut session, &sampling, line.trim())?,
            _ => return Ok(()),
        }
    }
}

/// One exchange; the transcript grows by both turns.
fn answer(args: &Args, session: &mut Session, sampling: &Sampling, line: &str) -> Result {
    session.push_plain(&format!("{}: {line}\n{}:", args.user, args.assistant))?;
    print!("{}:", args.assistant);
    for piece in session.generate(sampling)? {
        print!("{}", piece?);
        std::io::stdout().flush()?;
    }
    println!();
    session.push_plain("\n")?;
    Ok(())
}
