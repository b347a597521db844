//! How a program with threads of its own uses one model: you learn who owns what, and how work is ended.
//!
//! A `Model` is shared, a `Session` belongs to the thread that works on it, text goes to whoever shows it through a
//! channel, and a `Cancel` lets anybody end it. Threads take turns on the model's own threads, token by token.

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use support::{Compute, ModelPath, Result, fail};
use tritwise::{Cancel, Error, Model, Overflow, Sampling, StopReason};

/// Tell three stories at once: one to its end, one until somebody has heard enough, one until its time is up.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    model: ModelPath,
    #[command(flatten)]
    compute: Compute,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let model = args.compute.open(&args.model)?;
    let requests = [
        ("The old king", 40, Cancel::new()),
        ("The fox", usize::MAX, Cancel::new()),
        ("Once upon a time", usize::MAX, Cancel::new().after(Duration::from_millis(200))),
    ];
    let mut stories = requests.each_ref().map(|(prompt, ..)| (*prompt).to_owned());
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| -> Result {
        let mut tellers = Vec::new();
        for (i, (prompt, most, cancel)) in requests.iter().enumerate() {
            let (model, sender) = (&model, sender.clone());
            // A listener who has gone is no reason to go on: `send` fails, and the story is cancelled.
            let show = move |piece| sender.send((i, piece)).is_err();
            tellers.push(scope.spawn(move || tell(model, prompt, *most, cancel, show)));
        }
        drop(sender);
        // The loop of the program itself; it ends when all tellers have.
        for (i, piece) in receiver {
            stories[i].push_str(&piece);
            if stories[1].len() > 80 {
                requests[1].2.cancel();
            }
        }
        for (teller, story) in tellers.into_iter().zip(&stories) {
            let reason = teller.join().map_err(|_| "a teller panicked")??;
            println!("[{}] {story}\n", reason.as_ref().map_or("error", StopReason::name));
        }
        Ok(())
    })
}

/// The work of one thread: a session, and why it ended.
fn tell(
    model: &Model,
    prompt: &str,
    most: usize,
    cancel: &Cancel,
    show: impl Fn(String) -> bool,
) -> std::result::Result<Option<StopReason>, Error> {
    let mut session = model.session();
    // Longer than the context: forget the middle, but not the beginning.
    session.on_overflow(Overflow::Shift { keep: 8 });
    session.push(prompt)?;
    let sampling = Sampling::default().repetition_penalty(1.15).max_tokens(most);
    let mut generation = session.generate_until(&sampling, cancel)?;
    for piece in &mut generation {
        if show(piece?.text) {
            cancel.cancel();
        }
    }
    Ok(generation.summary().stop_reason.clone())
}
