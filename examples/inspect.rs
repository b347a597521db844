//! Shows what is in a checkpoint file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use support::{Result, bundled, fail, local, print_json};
use tritwise::loader::{self, Description};
use tritwise::tensor::{Checkpoint, Config};

/// Show a checkpoint's metadata, tensors, architecture and how much memory it
/// would take, without loading it. Works on files that cannot be run, too, and
/// then says why.
#[derive(Debug, Parser)]
struct Args {
    /// A GGUF file or a Hugging Face folder [default: the bundled story model].
    /// With `--features download` also `hf:owner/name`, or one file `hf:owner/name/file.gguf`.
    #[arg(value_name = "PATH", default_value_os_t = bundled(), hide_default_value = true)]
    path: PathBuf,
    /// Leave out the list of tensors.
    #[arg(long)]
    brief: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let path = local(&args.path)?;
    let description = loader::describe(&path)?;
    let opened = loader::open(&path, &Default::default());
    let config = opened.as_ref().map(|source| source.config()).map_err(ToString::to_string);
    if args.json {
        report_json(&description, config)
    } else {
        report(args, &description, config)
    }
    Ok(())
}

fn report(args: &Args, description: &Description, config: std::result::Result<&Config, String>) {
    println!("{}, {:.1} MB", description.format, description.file_bytes as f64 / 1e6);
    println!("\nmetadata");
    for (key, value) in &description.metadata {
        println!("  {key} = {value}");
    }
    if !args.brief {
        println!("\ntensors");
        for tensor in &description.tensors {
            let shape: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
            println!(
                "  {:<44} {:>16}  {:<6} {:>12} bytes",
                tensor.name,
                shape.join(" × "),
                tensor.encoding,
                tensor.bytes
            );
        }
    }
    match config {
        Ok(config) => {
            let memory = Memory::of(config);
            println!("\nmodel");
            println!("  architecture {}, {:.1} M weights", config.architecture, config.parameters() as f64 / 1e6);
            println!("  {} layers of {} (feed-forward {})", config.layers, config.hidden, config.ffn);
            println!("  {} heads of {} on {} KV heads", config.heads, config.head_dim, config.kv_heads);
            println!("  vocabulary {}, context {}", config.vocab, config.context);
            println!("\nmemory when loaded");
            println!("  ternary weights {:>9.1} MB", memory.ternary as f64 / 1e6);
            println!("  tables at 16 bits {:>7.1} MB", memory.tables as f64 / 1e6);
            println!(
                "  keys and values {:>9.1} MB, if all {} positions are used",
                memory.cache as f64 / 1e6,
                config.context
            );
        }
        Err(why) => println!("\ncannot be run: {why}"),
    }
}

fn report_json(description: &Description, config: std::result::Result<&Config, String>) {
    let tensors: Vec<_> = description
        .tensors
        .iter()
        .map(|t| json!({ "name": t.name, "shape": t.shape, "encoding": t.encoding, "bytes": t.bytes }))
        .collect();
    let memory = config.as_ref().ok().map(|config| {
        let memory = Memory::of(config);
        json!({ "ternary": memory.ternary, "tables": memory.tables, "cache": memory.cache })
    });
    print_json(&json!({
        "format": description.format,
        "architecture": description.architecture,
        "file_bytes": description.file_bytes,
        "metadata": description.metadata.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "tensors": tensors,
        "memory_bytes": memory,
        "refused": config.err(),
    }));
}

/// Bytes that a loaded model takes.
struct Memory {
    ternary: u64,
    tables: u64,
    cache: u64,
}

impl Memory {
    fn of(config: &Config) -> Self {
        let ternary_weights = config.layers as u64 * config.layer_parameters();
        Self {
            // Two bits each.
            ternary: ternary_weights / 4,
            tables: 2 * (config.parameters() - ternary_weights),
            // F16 keys and values.
            cache: (config.context * config.layers * config.kv_heads * config.head_dim * 2 * 2) as u64,
        }
    }
}
