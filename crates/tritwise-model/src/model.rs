//! Weights and graph of one model.

use std::fmt;

use tritwise_kernels::Backend;
use tritwise_tensor::{Checkpoint, Config, LayerShape, LayerTensor, RopeScaling, TensorId};

use crate::{Error, Sequence, Workspace};

/// A model whose every tensor was found and has the shape the graph needs.
///
/// Immutable and `Send + Sync`: share it by reference or `Arc` and give each
/// text its own [`Sequence`] and each thread its own [`Workspace`].
pub struct Model<B: Backend> {
    pub(crate) backend: B,
    pub(crate) config: Config,
    pub(crate) embedding: B::Table,
    /// `None` when the head is the embedding table.
    head: Option<B::Table>,
    pub(crate) output_norm: B::Norm,
    pub(crate) rotary: B::Rotary,
    /// Of layers with a sliding window, where the model has any.
    window_rotary: Option<B::Rotary>,
    context: usize,
    pub(crate) layers: Vec<Layer<B>>,
}

/// One transformer block. Shapes are `[output × input]`.
pub(crate) struct Layer<B: Backend> {
    /// `[hidden]`
    pub(crate) attn_norm: B::Norm,
    /// Norms of each projection's own input, where the model has them.
    pub(crate) input_norms: Option<InputNorms<B>>,
    /// Norms of query and key heads, `[head_dim]` each, where the model has them.
    pub(crate) head_norms: Option<[B::Norm; 2]>,
    /// `[heads·head_dim × hidden]`
    pub(crate) query: B::Matrix,
    /// `[kv_heads·head_dim × hidden]`
    pub(crate) key: B::Matrix,
    /// `[kv_heads·head_dim × hidden]`
    pub(crate) value: B::Matrix,
    /// `[heads·head_dim]`, where the model has sub-norms.
    pub(crate) attn_sub_norm: Option<B::Norm>,
    /// `[hidden × heads·head_dim]`
    pub(crate) attn_output: B::Matrix,
    /// `[hidden]`, where what is added to the stream is normalised.
    pub(crate) post_attn_norm: Option<B::Norm>,
    /// `[hidden]`
    pub(crate) ffn_norm: B::Norm,
    /// `[ffn × hidden]`
    pub(crate) gate: B::Matrix,
    /// `[ffn × hidden]`
    pub(crate) up: B::Matrix,
    /// `[ffn]`, where the model has sub-norms.
    pub(crate) ffn_sub_norm: Option<B::Norm>,
    /// `[hidden × ffn]`
    pub(crate) down: B::Matrix,
    /// `[hidden]`, where what is added to the stream is normalised.
    pub(crate) post_ffn_norm: Option<B::Norm>,
}

/// `[hidden]` each; those of the two inner projections are the sub-norms.
pub(crate) struct InputNorms<B: Backend> {
    pub(crate) query: B::Norm,
    pub(crate) key: B::Norm,
    pub(crate) value: B::Norm,
    pub(crate) gate: B::Norm,
    pub(crate) up: B::Norm,
}

/// How far [`Model::load`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Weights taken over so far.
    pub done: u64,
    /// Weights in all.
    pub total: u64,
}

impl<B: Backend> Model<B> {
    /// Reads all tensors of `checkpoint` into `backend`'s layout.
    ///
    /// `context` bounds the positions any sequence of this model will have;
    /// `progress` is called after each block.
    ///
    /// # Errors
    /// The configuration contradicts itself, a tensor is missing or has another
    /// shape, or the checkpoint holds a tensor that this graph does not use.
    pub fn load(
        backend: B,
        checkpoint: &dyn Checkpoint,
        context: usize,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, Error> {
        let config = checkpoint.config().clone();
        check(&config, context)?;
        let mut progress = Meter { done: 0, total: config.parameters(), report: progress };
        let hidden = config.hidden;

        let embedding = checkpoint.dense(TensorId::TokenEmbedding, config.vocab, hidden)?;
        let embedding = if config.tied { backend.head(&embedding, true) } else { backend.table(&embedding) };
        progress.add(config.vocab * hidden);
        let head = if config.tied {
            None
        } else {
            let head = backend.head(&checkpoint.dense(TensorId::Output, config.vocab, hidden)?, false);
            progress.add(config.vocab * hidden);
            Some(head)
        };
        let output_norm = backend.norm(&checkpoint.vector(TensorId::OutputNorm, hidden)?, config.norm_eps);
        let rotary = backend.rotary(&config.rope, config.head_dim, context);
        let window = config.window.as_ref();
        let window_rotary = window.map(|window| backend.rotary(&window.rope, config.head_dim, context));

        let mut layers = Vec::new();
        for index in 0..config.layers {
            layers.push(Layer::load(&backend, checkpoint, &config, index)?);
            progress.add(config.layer_parameters());
        }
        checkpoint.finish()?;
        Ok(Self { backend, config, embedding, head, output_norm, rotary, window_rotary, context, layers })
    }

    /// The hyperparameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The backend that holds the weights.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The most positions a sequence of this model can have.
    pub fn context(&self) -> usize {
        self.context
    }

    /// An empty sequence with room for `capacity` tokens, or for
    /// [`context`](Self::context) if that is less.
    pub fn sequence(&self, capacity: usize) -> Sequence<B> {
        let capacity = capacity.min(self.context);
        Sequence::new(self.backend.cache(&self.config, capacity), capacity)
    }

    /// An empty sequence in `cache`, which the [backend](Self::backend) made for `capacity` positions of this model.
    ///
    /// # Panics
    /// The capacity is more than the [`context`](Self::context).
    pub fn sequence_in(&self, cache: B::Cache, capacity: usize) -> Sequence<B> {
        assert!(capacity <= self.context, "{capacity} positions of {}", self.context);
        Sequence::new(cache, capacity)
    }

    /// Scratch for [`forward`](Self::forward).
    pub fn workspace(&self) -> Workspace<B> {
        Workspace::new(&self.backend, &self.config)
    }

    /// Bytes of all weights in memory, norms left out.
    pub fn weight_bytes(&self) -> usize {
        let tables = [Some(&self.embedding), self.head.as_ref()];
        let tables: usize = tables.into_iter().flatten().map(|table| self.backend.table_bytes(table)).sum();
        self.matrix_bytes() + tables
    }

    /// Bytes of packed ternary weights.
    pub fn matrix_bytes(&self) -> usize {
        self.layers.iter().flat_map(Layer::matrices).map(|m| self.backend.matrix_bytes(m)).sum()
    }

    /// Bytes of the output head that computing all logits of a token reads.
    pub fn head_bytes(&self) -> usize {
        self.backend.logits_bytes(self.head())
    }

    /// Bytes of weights that a token reads whose logits are all wanted: all packed matrices and
    /// the head. (One row of the embedding and the norms are left out.) Where only the best logits are
    /// wanted, [`Logits::reads`](crate::Logits::reads) says what was read in place of the head.
    pub fn bytes_per_token(&self) -> usize {
        self.matrix_bytes() + self.head_bytes()
    }

    /// The rotary angles of layer `index`, and how many positions it sees.
    pub(crate) fn view(&self, index: usize) -> (&B::Rotary, usize) {
        match (&self.config.window, &self.window_rotary) {
            (Some(window), Some(rotary)) if window.layers.get(index) == Some(&true) => (rotary, window.width),
            _ => (&self.rotary, usize::MAX),
        }
    }

    pub(crate) fn head(&self) -> &B::Table {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

impl<B: Backend> Layer<B> {
    fn load(backend: &B, checkpoint: &dyn Checkpoint, config: &Config, index: usize) -> Result<Self, Error> {
        let eps_of = |tensor| match tensor {
            LayerTensor::AttnNorm
            | LayerTensor::FfnNorm
            | LayerTensor::QueryNorm
            | LayerTensor::KeyNorm
            | LayerTensor::PostAttnNorm
            | LayerTensor::PostFfnNorm => config.norm_eps,
            _ if config.norms.inputs => config.input_norm_eps,
            _ => config.norm_eps,
        };
        // A norm that the configuration has, or none.
        let norm = |tensor: LayerTensor| -> Result<Option<B::Norm>, Error> {
            let Some(LayerShape::Norm(len)) = tensor.shape(config) else { return Ok(None) };
            let weight = checkpoint.vector(TensorId::Layer(index, tensor), len)?;
            Ok(Some(backend.norm(&weight, eps_of(tensor))))
        };
        #[expect(clippy::expect_used, reason = "`shape` is asked for norms that the configuration has")]
        let every_norm = |tensor| Ok::<_, Error>(norm(tensor)?.expect("every block has it"));
        let matrix = |tensor: LayerTensor| -> Result<B::Matrix, Error> {
            #[expect(clippy::unreachable, reason = "only linear layers are asked for, below")]
            let Some(LayerShape::Linear(rows, cols)) = tensor.shape(config) else {
                unreachable!("{tensor:?} is linear")
            };
            let tensor = TensorId::Layer(index, tensor);
            let packed = backend.pack(&checkpoint.ternary(tensor, rows, cols)?);
            packed.map_err(|source| Error::Pack { tensor, source })
        };
        let input_norms = match norm(LayerTensor::QueryInputNorm)? {
            None => None,
            Some(query) => Some(InputNorms {
                query,
                key: every_norm(LayerTensor::KeyInputNorm)?,
                value: every_norm(LayerTensor::ValueInputNorm)?,
                gate: every_norm(LayerTensor::GateInputNorm)?,
                up: every_norm(LayerTensor::UpInputNorm)?,
            }),
        };
        let head_norms = match norm(LayerTensor::QueryNorm)? {
            None => None,
            Some(query) => Some([query, every_norm(LayerTensor::KeyNorm)?]),
        };
        Ok(Self {
            attn_norm: every_norm(LayerTensor::AttnNorm)?,
            input_norms,
            query: matrix(LayerTensor::Query)?,
            key: matrix(LayerTensor::Key)?,
            value: matrix(LayerTensor::Value)?,
            head_norms,
            attn_sub_norm: norm(LayerTensor::AttnSubNorm)?,
            attn_output: matrix(LayerTensor::AttnOutput)?,
            post_attn_norm: norm(LayerTensor::PostAttnNorm)?,
            ffn_norm: every_norm(LayerTensor::FfnNorm)?,
            gate: matrix(LayerTensor::Gate)?,
            up: matrix(LayerTensor::Up)?,
            ffn_sub_norm: norm(LayerTensor::FfnSubNorm)?,
            down: matrix(LayerTensor::Down)?,
            post_ffn_norm: norm(LayerTensor::PostFfnNorm)?,
        })
    }

    fn matrices(&self) -> [&B::Matrix; 7] {
        [&self.query, &self.key, &self.value, &self.attn_output, &self.gate, &self.up, &self.down]
    }
}

impl<B: Backend> fmt::Debug for Model<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("config", &self.config).field("backend", &self.backend).finish_non_exhaustive()
    }
}

/// Refuses a configuration from which no graph can be built.
///
/// Loaders check what their files say; this is for any [`Checkpoint`].
fn check(config: &Config, context: usize) -> Result<(), Error> {
    let refuse = |what: String| Err(Error::Config(what));
    let sizes = [
        ("hidden", config.hidden),
        ("layers", config.layers),
        ("heads", config.heads),
        ("kv_heads", config.kv_heads),
        ("head_dim", config.head_dim),
        ("ffn", config.ffn),
        ("vocab", config.vocab),
        ("context", context),
    ];
    if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
        return refuse(format!("{name} is 0"));
    }
    if context > MAX_CONTEXT {
        return refuse(format!("a context of {context} tokens is more than the {MAX_CONTEXT} that can be set up"));
    }
    if config.norms.inputs && !config.norms.sub {
        return refuse("projections have norms of their inputs, and the inner two have none".into());
    }
    if let Some(window) = &config.window
        && (window.width == 0 || window.layers.len() != config.layers)
    {
        return refuse(format!("a window of {} on {} layers of {}", window.width, window.layers.len(), config.layers));
    }
    if !config.heads.is_multiple_of(config.kv_heads) {
        return refuse(format!("{} heads cannot share {} KV heads evenly", config.heads, config.kv_heads));
    }
    if !config.head_dim.is_multiple_of(2) {
        return refuse(format!("head_dim {} is odd, so RoPE has no pairs", config.head_dim));
    }
    if !(config.norm_eps.is_finite() && config.norm_eps >= 0.0) {
        return refuse(format!("the norm's epsilon is {}", config.norm_eps));
    }
    if !(config.input_norm_eps.is_finite() && config.input_norm_eps >= 0.0) {
        return refuse(format!("the epsilon of projections' own norms is {}", config.input_norm_eps));
    }
    for rope in [&config.rope].into_iter().chain(config.window.as_ref().map(|window| &window.rope)) {
        if !(rope.theta.is_finite() && rope.theta > 0.0) {
            return refuse(format!("RoPE's theta is {}", rope.theta));
        }
        if let RopeScaling::Divisors(divisors) = &rope.scaling
            && divisors.len() != config.head_dim / 2
        {
            return refuse(format!("{} divisors for {} pairs of RoPE", divisors.len(), config.head_dim / 2));
        }
    }
    Ok(())
}

/// Positions at most, so that a slip of the finger does not ask for all memory.
const MAX_CONTEXT: usize = 1 << 24;

/// Counts weights and reports.
struct Meter<'a> {
    done: u64,
    total: u64,
    report: &'a mut dyn FnMut(Progress),
}

impl Meter<'_> {
    fn add(&mut self, weights: impl TryInto<u64>) {
        self.done += weights.try_into().unwrap_or(0);
        (self.report)(Progress { done: self.done, total: self.total });
    }
}
