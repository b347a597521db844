//! Makes text that follows a JSON schema, a regular expression or a grammar.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use support::{Compute, ModelPath, Result, SamplingArgs, fail};
use tritwise::{Grammar, StopReason};

/// Make text that follows a JSON schema, a regular expression or a grammar.
///
/// Without options, the bundled model describes a person of its stories in JSON:
///
///   cargo run --release --features grammar --example json
///   cargo run --release --features grammar --example json -- --regex '(yes|no), (s?he|it) [a-z ]+\.'
///
/// The text goes to stdout, figures to stderr. docs/grammar.md says what schemas and grammars may hold.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Args {
    #[command(flatten)]
    model: ModelPath,
    /// The text before it.
    #[arg(
        long,
        short,
        default_value = "The name, the age and the wishes of the king's youngest child, as written in the book: "
    )]
    prompt: String,
    /// A file with a JSON schema.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["regex", "lark"])]
    schema: Option<PathBuf>,
    /// A regular expression.
    #[arg(long, value_name = "REGEX", conflicts_with = "lark")]
    regex: Option<String>,
    /// A file with a grammar in Lark's syntax.
    #[arg(long, value_name = "FILE")]
    lark: Option<PathBuf>,
    /// Most tokens to make; a text that is not finished by then is an error.
    #[arg(long = "max-tokens", short = 'n', value_name = "TOKENS", default_value_t = 512)]
    max_tokens: usize,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    sampling: SamplingArgs,
}

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 24},
        "age": {"type": "integer", "minimum": 3, "maximum": 99},
        "kind": {"enum": ["prince", "princess", "fox", "dragon"]},
        "wishes": {"type": "array", "items": {"type": "string", "maxLength": 48}, "minItems": 1, "maxItems": 3}
    },
    "required": ["name", "age", "kind", "wishes"],
    "additionalProperties": false
}"#;

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let read = |file: &PathBuf| fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()));
    let grammar = match (&args.schema, &args.regex, &args.lark) {
        (Some(schema), ..) => Grammar::json_schema(read(schema)?),
        (_, Some(regex), _) => Grammar::regex(regex),
        (.., Some(lark)) => Grammar::lark(read(lark)?),
        _ => Grammar::json_schema(SCHEMA),
    };
    let model = args.compute.open(&args.model)?;
    let constraint = model.grammar(&grammar)?;
    let mut session = model.session();
    session.push(&args.prompt)?;
    let sampling = args.sampling.sampling().max_tokens(args.max_tokens).grammar(&constraint);
    let mut generation = session.generate(&sampling)?;
    let text: String =
        generation.by_ref().map(|piece| piece.map(|piece| piece.text)).collect::<std::result::Result<_, _>>()?;
    println!("{text}");
    let done = generation.summary();
    eprintln!(
        "{} tokens, {} of them without a choice; {:.0} tokens/s",
        done.tokens,
        done.forced,
        done.tokens_per_second()
    );
    match &done.stop_reason {
        Some(StopReason::End) => Ok(()),
        reason => {
            Err(format!("the text is not finished: {}", reason.as_ref().map_or("error", StopReason::name)).into())
        }
    }
}
