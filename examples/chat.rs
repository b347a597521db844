//! A conversation in the terminal, by the model's own chat template.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::Parser;
use support::{Compute, ModelPath, Result, SamplingArgs, bundled, fail};
use tritwise::tokenizer::chat::{BUILT_IN, Origin};
use tritwise::{Cancel, Chat, ChatTemplate, Message, Model, Reply};

/// Talk with a model, one line at a time. /help says what else can be done; Ctrl-C stops an answer, and the program
/// if none is being made.
///
/// The bundled model only knows stories, has no chat template, and is talked to in a plain transcript: it will tell you one.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    model: ModelPath,
    /// What the model is told about the conversation.
    #[arg(long)]
    system: Option<String>,
    /// A chat template in place of the checkpoint's: bitnet-2b-4t, llama-3, chatml, falcon3, alpaca, a file in Jinja, or
    /// `none`: a plain transcript ("User: …", "Assistant: …"), which any model can continue.
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Most tokens of an answer.
    #[arg(long = "max-tokens", short = 'n', value_name = "TOKENS", default_value_t = 512)]
    max_tokens: usize,
    /// Show tokens per second after each answer.
    #[arg(long)]
    stats: bool,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    sampling: SamplingArgs,
}

const HELP: &str = "\
/system TEXT   tell the model what the conversation is about
/reset         forget all but that
/undo          take back your last message and its answer
/save FILE     write the messages as JSON
/load FILE     read them again
/stats         show, or hide, tokens per second
/quit          end, as does the end of input";

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let model = args.compute.open(&args.model)?;
    let (mut chat, plain) = open(&model, args)?;
    let sampling = args.sampling.sampling().max_tokens(args.max_tokens);
    chat.set_sampling(if plain { sampling.stop("\nUser:") } else { sampling });
    if let Some(system) = &args.system {
        chat.set_system(system);
    }
    let mut terminal = Terminal {
        colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        stats: args.stats,
        answering: Arc::default(),
    };
    let answering = Arc::clone(&terminal.answering);
    ctrlc::set_handler(move || match answering.lock().ok().and_then(|cancel| cancel.clone()) {
        Some(cancel) => cancel.cancel(),
        None => std::process::exit(130),
    })?;
    let mut lines = std::io::stdin().lock().lines();
    loop {
        terminal.role("User")?;
        let Some(line) = lines.next().transpose()? else {
            println!();
            return Ok(());
        };
        let said = match line.trim() {
            "" => Ok(()),
            "/quit" => return Ok(()),
            command if command.starts_with('/') => terminal.command(&mut chat, command),
            text => terminal.answer(&mut chat, text),
        };
        // A conversation survives what was wrong with one line of it.
        if let Err(error) = said {
            eprintln!("error: {error}");
        }
    }
}

/// The conversation, and whether it is a plain transcript.
fn open(model: &Model, args: &Args) -> Result<(Chat, bool)> {
    let asked = match &args.template {
        None if args.model.model == bundled() => Some("none"),
        asked => asked.as_deref(),
    };
    let template = match asked {
        None => {
            let remedy = "--template NAME does, and --template none writes a plain transcript";
            let chat = model.chat().map_err(|error| format!("{error}; {remedy}"))?;
            eprintln!("chat template: {}", chat.template().origin());
            return Ok((chat, false));
        }
        Some("none") => {
            eprintln!("no chat template: a plain transcript");
            return Ok((model.chat_with(ChatTemplate::new(Origin::Given("none".into()), TRANSCRIPT)?)?, true));
        }
        Some(name) if BUILT_IN.contains(&name) => ChatTemplate::built_in(name)?,
        Some(file) => {
            let known = BUILT_IN.join(", ");
            let source = std::fs::read_to_string(file)
                .map_err(|error| format!("--template {file}: neither one of {known}, none, nor a file: {error}"))?;
            ChatTemplate::new(Origin::Given(file.into()), &source)?
        }
    };
    eprintln!("chat template: {}", template.origin());
    Ok((model.chat_with(template)?, false))
}

const TRANSCRIPT: &str = "{% for message in messages %}{% if message.role == 'system' %}{{ message.content + '\n\n' }}\
{% else %}{{ message.role | capitalize + ': ' + message.content | trim + '\n' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}Assistant:{% endif %}";

/// Prints an answer as it is made, but for white space before it.
fn stream(reply: &mut Reply<'_>) -> Result {
    let mut begun = false;
    for piece in reply {
        let piece = piece?.text;
        let shown = if begun { &piece } else { piece.trim_start() };
        begun |= !shown.is_empty();
        print!("{shown}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

struct Terminal {
    colour: bool,
    stats: bool,
    /// What stops the answer that is being made.
    answering: Arc<Mutex<Option<Cancel>>>,
}

impl Terminal {
    /// Writes whose turn it is.
    fn role(&self, role: &str) -> Result {
        match (self.colour, role) {
            (true, "User") => print!("\x1b[1;36m{role}:\x1b[0m "),
            (true, _) => print!("\x1b[1;32m{role}:\x1b[0m "),
            (false, _) => print!("{role}: "),
        }
        Ok(std::io::stdout().flush()?)
    }

    /// One exchange, streamed.
    fn answer(&self, chat: &mut Chat, text: &str) -> Result {
        let cancel = Cancel::new();
        let answering = |cancel| self.answering.lock().map(|mut slot| *slot = cancel).unwrap_or(());
        let mut reply = chat.say_until(text, &cancel)?;
        answering(Some(cancel));
        self.role("Assistant")?;
        let streamed = stream(&mut reply);
        answering(None);
        println!();
        streamed?;
        let summary = reply.summary();
        if self.stats {
            eprintln!(
                "[{} prompt tokens at {:.1}/s, {} new at {:.1}/s, {}]",
                summary.prompt_tokens,
                summary.prompt_tokens_per_second(),
                summary.tokens,
                summary.tokens_per_second(),
                summary.stop_reason.as_ref().map_or("unfinished", |reason| reason.name()),
            );
        }
        Ok(())
    }

    fn command(&mut self, chat: &mut Chat, line: &str) -> Result {
        let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (name, argument.trim()) {
            ("/help", _) => println!("{HELP}"),
            ("/system", "") => return Err("/system needs a text".into()),
            ("/system", text) => chat.set_system(text),
            ("/reset", _) => chat.reset(),
            ("/undo", _) if !chat.undo() => return Err("there is nothing to take back".into()),
            ("/undo", _) => {}
            ("/stats", _) => self.stats = !self.stats,
            ("/save" | "/load", "") => return Err(format!("{name} needs the name of a file").into()),
            ("/save", file) => {
                let messages: Vec<_> = chat.messages().iter().map(Message::to_json).collect();
                std::fs::write(file, serde_json::to_string_pretty(&messages)? + "\n")?;
            }
            ("/load", file) => {
                let messages: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(file)?)?;
                let messages = messages.into_iter().map(Message::from_json).collect::<std::result::Result<_, _>>()?;
                chat.set_messages(messages);
            }
            _ => return Err(format!("{name} is no command; /help lists them").into()),
        }
        Ok(())
    }
}
