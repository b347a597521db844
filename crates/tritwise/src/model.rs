//! Opening a checkpoint.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tritwise_kernels::CpuBackend;
use tritwise_kernels::cpu::{HeadMode, KvType};
#[cfg(feature = "download")]
use tritwise_loader::download::{self, Fetched, Hub};
use tritwise_loader::{Options, Source};
use tritwise_model::Progress;
use tritwise_tensor::{Activation, Checkpoint, Config, I2sLayout, Inputs};
use tritwise_tokenizer::Tokenizer;

use crate::fingerprint::Observed;
use crate::stopwatch::Stopwatch;
use crate::{Error, Fingerprint, Session};

/// The longest context that is set up unless another is asked for.
const DEFAULT_CONTEXT: usize = 8192;

/// A model that is ready to run: weights, tokenizer, threads.
///
/// Cheap to clone, `Send + Sync`: all clones and all sessions share the
/// weights. Sessions on several threads take turns on the model's thread pool.
#[derive(Clone)]
pub struct Model {
    pub(crate) inner: Arc<Inner>,
}

/// What sessions share.
pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) network: tritwise_model::Model<CpuBackend>,
    pub(crate) tokenizer: Option<Arc<Tokenizer>>,
    /// What makes parsers for its tokens, once a grammar was asked for, or why it cannot be made.
    #[cfg(feature = "grammar")]
    pub(crate) parsers: std::sync::OnceLock<Result<llguidance::ParserFactory, String>>,
    pub(crate) fingerprint: Fingerprint,
    /// Of the checkpoint, by name.
    chat_templates: Vec<(String, String)>,
    load_time: Duration,
    #[cfg(feature = "download")]
    fetched: Option<Fetched>,
}

impl Model {
    /// Opens a GGUF file or a Hugging Face folder with the defaults of
    /// [`ModelBuilder`]; with the feature `download` also what `hf:owner/name` names.
    ///
    /// # Errors
    /// The checkpoint is not understood to the last tensor; the text says why
    /// and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder().open(path)
    }

    /// Choices to make before opening.
    pub fn builder() -> ModelBuilder {
        ModelBuilder::default()
    }

    /// An empty session with the model's whole context.
    pub fn session(&self) -> Session {
        self.session_with(self.network().backend().kv_type())
    }

    /// An empty session that keeps its keys and values as `kv`, whatever the model's other sessions do.
    pub fn session_with(&self, kv: KvType) -> Session {
        Session::new(Arc::clone(&self.inner), kv)
    }

    /// What [saved sessions](Session::save) name this model by.
    pub fn fingerprint(&self) -> Fingerprint {
        self.inner.fingerprint
    }

    /// The hyperparameters.
    pub fn config(&self) -> &Config {
        self.inner.network.config()
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// The checkpoint has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer, Error> {
        self.inner.tokenizer()
    }

    /// The chat templates of the checkpoint, by name, in Jinja: `default` and others.
    pub fn chat_templates(&self) -> &[(String, String)] {
        &self.inner.chat_templates
    }

    /// The checkpoint as it was named when it was opened.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The instruction set in use, by name.
    pub fn isa(&self) -> &'static str {
        self.inner.network.backend().isa().name()
    }

    /// Threads in use.
    pub fn threads(&self) -> usize {
        self.inner.network.backend().threads()
    }

    /// Time from opening the file, once it is here, to being ready; zero on `wasm32-unknown-unknown`, which has no clock.
    pub fn load_time(&self) -> Duration {
        self.inner.load_time
    }

    /// Where in the cache the model is, of which commit, and whether the hub said that this is
    /// the latest; `None` if it was not opened by a name on the hub.
    #[cfg(feature = "download")]
    pub fn fetched(&self) -> Option<&Fetched> {
        self.inner.fetched.as_ref()
    }

    /// The graph and its weights, for callers that want logits and batches
    /// rather than text.
    pub fn network(&self) -> &tritwise_model::Model<CpuBackend> {
        &self.inner.network
    }
}

impl Inner {
    pub(crate) fn tokenizer(&self) -> Result<&Tokenizer, Error> {
        self.tokenizer.as_deref().ok_or_else(|| Error::NoTokenizer(self.name.clone()))
    }
}

/// Choices to make before a model is opened.
///
/// ```no_run
/// let model = tritwise::Model::builder().threads(4).context(2048).open("model.gguf")?;
/// # Ok::<(), tritwise::Error>(())
/// ```
#[derive(Default)]
pub struct ModelBuilder {
    threads: Option<usize>,
    decode_threads: Option<usize>,
    isa: Option<String>,
    layout: Option<String>,
    context: Option<usize>,
    kv: KvType,
    head: HeadMode,
    in_place: bool,
    exact_inputs: bool,
    options: Options,
    progress: Option<Box<dyn FnMut(Progress)>>,
    #[cfg(feature = "download")]
    hub: Option<Hub>,
    /// Where what is being opened came from.
    #[cfg(feature = "download")]
    fetched: Option<Fetched>,
}

impl ModelBuilder {
    /// Threads to compute with; by default one per physical core, and one on WebAssembly, where more
    /// is an error. The number changes no bit of any result.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Threads for decoding, that is for one token at a time; by default as many
    /// as [`threads`](Self::threads). Decoding waits for memory, which fewer cores
    /// than a machine has may exhaust. The number changes no bit of any result.
    pub fn decode_threads(mut self, threads: usize) -> Self {
        self.decode_threads = Some(threads);
        self
    }

    /// Forces an instruction set by name, e.g. `scalar` or `x86_64-avx2`; by
    /// default the best the CPU has. Changes no bit of any result.
    pub fn isa(mut self, name: impl Into<String>) -> Self {
        self.isa = Some(name.into());
        self
    }

    /// Forces a layout of ternary weights in memory by name: `2bit`, or `base3`
    /// where the instruction set has kernels for it; by default the faster one.
    /// Changes no bit of any result.
    pub fn layout(mut self, name: impl Into<String>) -> Self {
        self.layout = Some(name.into());
        self
    }

    /// Tokens a session can hold; by default the model's own context, but at
    /// most 8,192. Memory for them is taken as they come.
    pub fn context(mut self, tokens: usize) -> Self {
        self.context = Some(tokens);
        self
    }

    /// How keys and values are kept: [`KvType::F16`] unless another is asked for.
    /// [`KvType::Int8`] is lossy and half as large.
    pub fn kv(mut self, kv: KvType) -> Self {
        self.kv = kv;
        self
    }

    /// How the output head is multiplied with: [`HeadMode::Screened`] unless another is
    /// asked for. Of the modes, only those named lossy change a bit of a result.
    pub fn head(mut self, head: HeadMode) -> Self {
        self.head = head;
        self
    }

    /// Whether weights stay in the file's pages and are computed with there: next to no
    /// memory of the process's own, for files in BASE3 where the CPU has AVX-512 VBMI and GFNI,
    /// and in I2_S whose widths are multiples of 256.
    /// The head is then read whole. By default weights are packed.
    pub fn in_place(mut self, in_place: bool) -> Self {
        self.in_place = in_place;
        self
    }

    /// The byte order of I2_S tensors, for files from builds that wrote
    /// another than the published one: the file itself does not say.
    pub fn i2s_layout(mut self, layout: I2sLayout) -> Self {
        self.options.i2s_layout = layout;
        self
    }

    /// The gate's activation, for files whose architecture implies the wrong one:
    /// GGUF files do not say it themselves.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.options.activation = Some(activation);
        self
    }

    /// All of what checkpoints leave open at once: what [`i2s_layout`](Self::i2s_layout),
    /// [`activation`](Self::activation), [`inputs`](Self::inputs) and [`no_mmap`](Self::no_mmap) set, who wrote a GGUF file, and the tiles of TL1 and TL2.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Whether files of weights are read into memory instead of being mapped, for those that somebody may change while the
    /// model is open, which mapped ones must not be: see [`Options::no_mmap`].
    pub fn no_mmap(mut self, no_mmap: bool) -> Self {
        self.options.no_mmap = no_mmap;
        self
    }

    /// What the model's linear layers are multiplied with, for files that imply the wrong one: see [`Inputs`].
    pub fn inputs(mut self, inputs: Inputs) -> Self {
        self.options.inputs = Some(inputs);
        self
    }

    /// Whether the inputs of linear layers stay `f32` in weight-only models ([`Inputs::Float`]). By default they are
    /// rounded to 16 bits, which is several times as fast and moves logits by some hundred-thousandths. Changes
    /// nothing in other models; not with [`in_place`](Self::in_place), nor with another layout than `2bit`.
    pub fn exact_inputs(mut self, exact_inputs: bool) -> Self {
        self.exact_inputs = exact_inputs;
        self
    }

    /// Called as weights are taken over: loading a large model takes seconds.
    pub fn progress(mut self, report: impl FnMut(Progress) + 'static) -> Self {
        self.progress = Some(Box::new(report));
        self
    }

    /// The hub that names are fetched from, and the cache; by default [`Hub::in_home`].
    /// To follow a download, [fetch](Hub::fetch) first and open the path that gives.
    #[cfg(feature = "download")]
    pub fn hub(mut self, hub: Hub) -> Self {
        self.hub = Some(hub);
        self
    }

    /// Opens the GGUF file or Hugging Face folder at `path` (where there are no files, see [`open_bytes`](Self::open_bytes)); with the feature `download` also
    /// what `hf:owner/name[@revision][/file]` names on the Hugging Face hub.
    ///
    /// # Errors
    /// The forced instruction set is not available, the checkpoint is not
    /// understood to the last tensor, or it cannot be fetched; the text says why and what to do.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Model, Error> {
        let path = path.as_ref();
        #[cfg(feature = "download")]
        if let Some(name) = path.to_str().filter(|path| path.starts_with(download::PREFIX)) {
            return self.fetch(name);
        }
        let start = Stopwatch::start();
        let source = tritwise_loader::open(path, &self.options)?;
        self.load(&source, start)
    }

    #[cfg(feature = "download")]
    fn fetch(mut self, name: &str) -> Result<Model, Error> {
        let hub = self.hub.take().map_or_else(Hub::in_home, Ok)?;
        let fetched = hub.fetch(name, &mut |_| {})?;
        let path = fetched.path.clone();
        self.fetched = Some(fetched);
        self.open(path)
    }

    /// Opens a GGUF file that is already in memory; `name` stands for it in errors.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_bytes(self, name: &str, bytes: Vec<u8>) -> Result<Model, Error> {
        let start = Stopwatch::start();
        let source = tritwise_loader::open_bytes(name, bytes, &self.options)?;
        self.load(&source, start)
    }

    fn load(self, source: &Source, start: Stopwatch) -> Result<Model, Error> {
        let mut cpu = CpuBackend::builder().from_env().kv(self.kv).head(self.head);
        cpu = cpu.in_place(self.in_place).exact_inputs(self.exact_inputs);
        if let Some(threads) = self.threads {
            cpu = cpu.threads(threads);
        }
        if let Some(threads) = self.decode_threads {
            cpu = cpu.decode_threads(threads);
        }
        if let Some(isa) = self.isa {
            cpu = cpu.isa(isa);
        }
        if let Some(layout) = self.layout {
            cpu = cpu.layout(layout);
        }
        let context = self.context.unwrap_or(source.config().context.min(DEFAULT_CONTEXT));
        let mut progress = self.progress.unwrap_or_else(|| Box::new(|_| {}));
        let observed = Observed::new(source);
        let network = tritwise_model::Model::load(cpu.build()?, &observed, context, &mut *progress)?;
        let tokenizer = source.tokenizer()?;
        let inner = Inner {
            name: source.name().to_owned(),
            network,
            fingerprint: observed.fingerprint(tokenizer.as_ref()),
            tokenizer: tokenizer.map(Arc::new),
            chat_templates: source.chat_templates(),
            #[cfg(feature = "grammar")]
            parsers: std::sync::OnceLock::new(),
            load_time: start.elapsed(),
            #[cfg(feature = "download")]
            fetched: self.fetched,
        };
        Ok(Model { inner: Arc::new(inner) })
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("name", &self.name).field("network", &self.network).finish_non_exhaustive()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("name", &self.inner.name)
            .field("network", &self.inner.network)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ModelBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelBuilder")
            .field("threads", &self.threads)
            .field("decode_threads", &self.decode_threads)
            .field("isa", &self.isa)
            .field("layout", &self.layout)
            .field("context", &self.context)
            .field("kv", &self.kv)
            .field("head", &self.head)
            .field("in_place", &self.in_place)
            .field("exact_inputs", &self.exact_inputs)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
