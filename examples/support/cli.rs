//! Options that several examples take.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tritwise::tensor::DenseEncoding;
use tritwise::{HeadMode, I2sLayout, KvType, Model, ModelBuilder};

use crate::local;

/// What the examples' `run` functions return.
pub type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// The bundled model; see docs/bundled-model.md.
pub fn bundled() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/assets/stories-8m.gguf").into()
}

/// Which checkpoint to open.
#[derive(Debug, Args)]
pub struct ModelPath {
    /// A GGUF file or a Hugging Face folder; by default the bundled story model.
    /// With `--features download` also `hf:owner/name`, or one file `hf:owner/name/file.gguf`.
    #[arg(long, short, value_name = "PATH", default_value_os_t = bundled(), hide_default_value = true)]
    pub model: PathBuf,
}

/// How to compute. None of it changes a bit of any result, but for a head, or keys and values, that are rounded,
/// and inputs that are not.
#[derive(Debug, Clone, Default, Args)]
pub struct Compute {
    /// Threads to compute with [default: one per physical core].
    #[arg(long, short)]
    pub threads: Option<usize>,
    /// Threads to decode with, one token at a time [default: as many as --threads].
    #[arg(long, value_name = "THREADS")]
    pub decode_threads: Option<usize>,
    /// Instruction set, e.g. `scalar` or `x86_64-avx2` [default: the best this CPU has, or $TRITWISE_ISA].
    #[arg(long)]
    pub isa: Option<String>,
    /// Layout of ternary weights in memory: `2bit` or `base3` [default: the faster one, or $TRITWISE_LAYOUT].
    #[arg(long)]
    pub layout: Option<String>,
    /// Tokens a session can hold [default: the model's context, at most 8192].
    #[arg(long, visible_alias = "ctx", value_name = "TOKENS")]
    pub context: Option<usize>,
    /// How the output head is multiplied with.
    #[arg(long, value_enum, value_name = "MODE", default_value_t = HeadArg::Screened)]
    pub head: HeadArg,
    /// Numbers in which keys and values are kept: `int8` is half of `f16`, and lossy.
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = Kv::F16)]
    pub kv: Kv,
    /// Compute with the weights where they lie in the file, in next to no memory of the process's own
    /// (I2_S; BASE3, where the CPU has AVX-512 VBMI and GFNI).
    #[arg(long)]
    pub in_place: bool,
    /// Read the model's files into memory instead of mapping them: they may then change while it is open.
    #[arg(long)]
    pub no_mmap: bool,
    /// Leave the inputs of linear layers as they are in weight-only models, and do not round them to 16 bits.
    #[arg(long)]
    pub exact_inputs: bool,
    /// Byte order of I2_S tensors, for files that were not written as the published ones are.
    #[arg(long, value_enum, value_name = "LAYOUT", default_value_t = Layout::A)]
    pub i2s_layout: Layout,
}

/// [`HeadMode`], as an option.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum HeadArg {
    /// Exact; reads the rows that matter.
    #[default]
    Screened,
    /// Exact; reads all rows.
    Full,
    /// Lossy: rounded to 8.5 bits a weight.
    #[value(name = "q8_0")]
    Q8_0,
    /// Lossy: rounded to 6.56 bits a weight.
    #[value(name = "q6_k")]
    Q6K,
}

impl From<HeadArg> for HeadMode {
    fn from(head: HeadArg) -> Self {
        match head {
            HeadArg::Screened => Self::Screened,
            HeadArg::Full => Self::Full,
            HeadArg::Q8_0 => Self::Q8_0,
            HeadArg::Q6K => Self::Q6K,
        }
    }
}

/// How keys and values are kept; see docs/kernels.md.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the facade documents them")]
pub enum Kv {
    #[default]
    F16,
    F32,
    Int8,
}

impl From<Kv> for KvType {
    fn from(kv: Kv) -> Self {
        match kv {
            Kv::F16 => Self::F16,
            Kv::F32 => Self::F32,
            Kv::Int8 => Self::Int8,
        }
    }
}

/// The four byte orders of I2_S; see docs/formats.md.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
#[allow(missing_docs, reason = "they have no names but letters")]
pub enum Layout {
    #[default]
    A,
    B,
    C,
    D,
}

impl From<Layout> for I2sLayout {
    fn from(layout: Layout) -> Self {
        match layout {
            Layout::A => Self::A,
            Layout::B => Self::B,
            Layout::C => Self::C,
            Layout::D => Self::D,
        }
    }
}

/// [`DenseEncoding`], as an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "they are the encodings' own names")]
pub enum Dense {
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
    #[value(name = "q4_0")]
    Q4_0,
    #[value(name = "q4_k")]
    Q4K,
}

impl From<Dense> for DenseEncoding {
    fn from(encoding: Dense) -> Self {
        match encoding {
            Dense::F32 => Self::F32,
            Dense::F16 => Self::F16,
            Dense::Bf16 => Self::Bf16,
            Dense::Q8_0 => Self::Q8_0,
            Dense::Q6K => Self::Q6K,
            Dense::Q4_0 => Self::Q4_0,
            Dense::Q4K => Self::Q4K,
        }
    }
}

impl Compute {
    /// A builder with these choices and a progress bar on the terminal.
    pub fn builder(&self) -> ModelBuilder {
        let mut builder = Model::builder().i2s_layout(self.i2s_layout.into()).in_place(self.in_place);
        builder = builder.no_mmap(self.no_mmap);
        builder = builder.head(self.head.into()).kv(self.kv.into()).exact_inputs(self.exact_inputs);
        if let Some(threads) = self.threads {
            builder = builder.threads(threads);
        }
        if let Some(threads) = self.decode_threads {
            builder = builder.decode_threads(threads);
        }
        if let Some(isa) = &self.isa {
            builder = builder.isa(isa);
        }
        if let Some(layout) = &self.layout {
            builder = builder.layout(layout);
        }
        if let Some(context) = self.context {
            builder = builder.context(context);
        }
        let bar = bar("loading", 0);
        builder.progress(move |progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            if progress.done >= progress.total {
                bar.finish_and_clear();
            }
        })
    }

    /// Opens `path` with these choices, fetching it first if need be.
    pub fn open(&self, path: &ModelPath) -> Result<Model> {
        Ok(self.builder().open(local(&path.model)?)?)
    }
}

/// Bytes of a file, or of all files in a folder.
///
/// # Errors
/// It cannot be read.
pub fn size(path: &Path) -> std::io::Result<u64> {
    if !path.is_dir() {
        return Ok(path.metadata()?.len());
    }
    std::fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

/// A progress bar on stderr; invisible where stderr is no terminal.
pub fn bar(what: &'static str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>10} {bar:40} {percent:>3}% {eta:>4}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(what)
}

/// Prints one JSON object on stdout.
pub fn print_json(value: &serde_json::Value) {
    println!("{value}");
}

/// Ends a `main`: an error goes to stderr as one sentence, with exit status 1.
pub fn fail(result: Result) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
