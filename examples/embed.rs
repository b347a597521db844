//! Ranks sentences by how close they are to a query.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use serde_json::json;
use support::{Compute, ModelPath, Result, fail, print_json};
use tritwise::tensor::Pooling;

/// Rank sentences by the similarity of their embeddings to a query's.
///
/// Meant for embedding models such as BitNet-embedding-0.6B, whose files say how a text's vectors become one.
/// Any other model can be tried with --pooling, as the bundled one is; do not expect much of it. Models may
/// want an instruction before the query (their cards say which): put it into --query.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Args {
    #[command(flatten)]
    model: ModelPath,
    /// What to look for.
    #[arg(long, default_value = "The king was old and tired.")]
    query: String,
    /// Sentences to rank, one per line of a UTF-8 file.
    #[arg(long, conflicts_with = "sentences")]
    file: Option<PathBuf>,
    /// Sentences to rank [default: four about kings, foxes and bread].
    sentences: Vec<String>,
    /// How a text's vectors become one [default: as the model says, else the mean].
    #[arg(long, value_enum)]
    pooling: Option<PoolingArg>,
    /// Show only the best COUNT.
    #[arg(long, value_name = "COUNT")]
    top: Option<usize>,
    #[command(flatten)]
    compute: Compute,
    /// Print one JSON object with all vectors.
    #[arg(long)]
    json: bool,
}

/// [`Pooling`], as an option.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PoolingArg {
    /// The mean of all tokens.
    Mean,
    /// The first token.
    Cls,
    /// The last token.
    Last,
}

impl From<PoolingArg> for Pooling {
    fn from(pooling: PoolingArg) -> Self {
        match pooling {
            PoolingArg::Mean => Self::Mean,
            PoolingArg::Cls => Self::Cls,
            PoolingArg::Last => Self::Last,
        }
    }
}

const SENTENCES: [&str; 4] = [
    "An aged ruler longed for rest.",
    "The fox ran into the forest.",
    "She baked bread every morning.",
    "The queen ruled the land for many years.",
];

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let sentences = match &args.file {
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
            text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
        }
        None if args.sentences.is_empty() => SENTENCES.map(str::to_owned).to_vec(),
        None => args.sentences.clone(),
    };
    let model = args.compute.open(&args.model)?;
    let pooling = match (args.pooling, model.config().pooling) {
        (Some(pooling), _) => pooling.into(),
        (None, Some(pooling)) => pooling,
        (None, None) => {
            eprintln!("this model was not made for embeddings; the mean of its vectors tells little");
            Pooling::Mean
        }
    };
    let texts: Vec<&str> = [args.query.as_str()].into_iter().chain(sentences.iter().map(String::as_str)).collect();
    let vectors = model.embed_with(&texts, pooling)?;
    let (query, vectors) = vectors.split_first().ok_or("there is nothing to embed")?;
    let similarity = |vector: &[f32]| query.iter().zip(vector).map(|(a, b)| a * b).sum::<f32>();
    let mut ranked: Vec<(f32, &String, &Vec<f32>)> =
        sentences.iter().zip(vectors).map(|(text, vector)| (similarity(vector), text, vector)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.truncate(args.top.unwrap_or(usize::MAX));
    if args.json {
        let ranked: Vec<_> = ranked
            .iter()
            .map(|(similarity, text, vector)| json!({"text": text, "similarity": similarity, "vector": vector}))
            .collect();
        print_json(&json!({"query": {"text": args.query, "vector": query}, "ranked": ranked}));
    } else {
        for (similarity, text, _) in ranked {
            println!("{similarity:>7.4}  {text}");
        }
    }
    Ok(())
}
