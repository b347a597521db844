//! Converts a checkpoint to a GGUF file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use support::{Result, bar, fail, local};
use tritwise::loader::{self, Conversion, I2sLayout, Stage};
use tritwise::tensor::{DenseEncoding, TernaryEncoding};

/// Convert a Hugging Face folder, or another GGUF file, to GGUF: linear layers
/// in a ternary encoding, norms in F32, the tokenizer carried over. Every weight
/// of the result is then compared with the original.
///
///   cargo run --release --example convert -- path/to/folder model.gguf
///   cargo run --release --example convert -- --type tq1_0 --embedding q6_k path/to/folder small.gguf
///
/// I2_S, bitnet.cpp's type, takes 2 bits per weight and keeps scales exactly.
/// TQ2_0 (2.06 bits) and TQ1_0 (1.69 bits), ggml's types, round scales to 16
/// bits and need layer widths that are multiples of 256. BASE3 (1.6 bits) is this
/// project's own: no other program reads it, and this one computes with it where it
/// lies, without a copy.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Args {
    /// Encoding of the linear layers.
    #[arg(long = "type", value_enum, default_value_t = Ternary::I2S)]
    ternary: Ternary,
    /// Encoding of the token embedding [default: as it is].
    #[arg(long, value_enum)]
    embedding: Option<Dense>,
    /// Encoding of the output head, if it is not the embedding [default: as it is].
    #[arg(long, value_enum)]
    head: Option<Dense>,
    /// The model's name in the file.
    #[arg(long)]
    name: Option<String>,
    /// Leave the tokenizer out.
    #[arg(long)]
    no_tokenizer: bool,
    /// A GGUF file or a Hugging Face folder; with `--features download` also `hf:owner/name`.
    src: PathBuf,
    /// The file to write.
    dst: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Ternary {
    #[value(name = "i2_s")]
    I2S,
    #[value(name = "tq1_0")]
    Tq1_0,
    #[value(name = "tq2_0")]
    Tq2_0,
    Base3,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dense {
    #[value(name = "f32")]
    F32,
    #[value(name = "f16")]
    F16,
    #[value(name = "bf16")]
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q6_k")]
    Q6K,
}

impl From<Dense> for DenseEncoding {
    fn from(encoding: Dense) -> Self {
        match encoding {
            Dense::F32 => Self::F32,
            Dense::F16 => Self::F16,
            Dense::Bf16 => Self::Bf16,
            Dense::Q8_0 => Self::Q8_0,
            Dense::Q6K => Self::Q6K,
        }
    }
}

fn main() -> ExitCode {
    fail(run(Args::parse()))
}

fn run(args: Args) -> Result {
    let source = loader::open(local(&args.src)?, &Default::default())?;
    let mut conversion = Conversion::default();
    conversion.linear = match args.ternary {
        Ternary::I2S => TernaryEncoding::I2S(I2sLayout::A),
        Ternary::Tq1_0 => TernaryEncoding::Tq1_0,
        Ternary::Tq2_0 => TernaryEncoding::Tq2_0,
        Ternary::Base3 => TernaryEncoding::Base3,
    };
    conversion.embedding = args.embedding.map(Into::into);
    conversion.head = args.head.map(Into::into);
    conversion.name = args.name;
    conversion.without_tokenizer = args.no_tokenizer;
    let bar = bar("writing", 0);
    loader::convert(&source, &args.dst, &conversion, &mut |progress| {
        if progress.stage == Stage::Verify {
            bar.set_message("verifying");
        }
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    })?;
    bar.finish_and_clear();
    eprintln!("{}: {} bytes, compared with its source", args.dst.display(), std::fs::metadata(&args.dst)?.len());
    Ok(())
}
