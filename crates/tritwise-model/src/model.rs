//! Weights and graph of one model.

use std::fmt;

use tritwise_kernels::Backend;
use tritwise_tensor::{Checkpoint, Config, LayerTensor, TensorId};

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
    context: usize,
    pub(crate) layers: Vec<Layer<B>>,
}

/// One transformer block. Shapes are `[output × input]`.
pub(crate) struct Layer<B: Backend> {
    /// `[hidden]`
    pub(crate) attn_norm: B::Norm,
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

        let mut layers = Vec::new();
        for index in 0..config.layers {
            layers.push(Layer::load(&backend, checkpoint, &config, index)?);
            progress.add(config.layer_parameters());
        }
        checkpoint.finish()?;
        Ok(Self { backend, config, embedding, head, output_norm, rotary, context, layers })
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

    pub(crate) fn head(&self) -> &B::Table {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

impl<B: Backend> Layer<B> {
    fn load(backend: &B, checkpoint: &dyn Checkpoint, config: &Config, index: usize) -> Result<Self, Error> {
        let norm = |tensor, width| -> Result<B::Norm, Error> {
            Ok(backend.norm(&checkpoint.vector(TensorId::Layer(index, tensor), width)?, config.norm_eps))
        };
        let sub_norm = |tensor, width| config.norms.sub.then(|| norm(tensor, width)).transpose();
        let matrix = |tensor, rows, cols| -> Result<B::Matrix, Error> {
            let tensor = TensorId::Layer(index, tensor);
            let packed = backend.pack(&checkpoint.ternary(tensor, rows, cols)?);
            packed.map_err(|source| Error::Pack { tensor, source })
        };
        let (hidden, ffn) = (config.hidden, config.ffn);
        let q_width = config.heads * config.head_dim;
        let kv_width = config.kv_heads * config.head_dim;
        Ok(Self {
            attn_norm: norm(LayerTensor::AttnNorm, hidden)?,
            query: matrix(LayerTensor::Query, q_width, hidden)?,
            key: matrix(LayerTensor::Key, kv_width, hidden)?,
            value: matrix(LayerTensor::Value, kv_width, hidden)?,
            attn_sub_norm: sub_norm(LayerTensor::AttnSubNorm, q_width)?,
            attn_output: matrix(LayerTensor::AttnOutput, hidden, q_width)?,
            ffn_norm: norm(LayerTensor::FfnNorm, hidden)?,
            gate: matrix(LayerTensor::Gate, ffn, hidden)?,
            up: matrix(LayerTensor::Up, ffn, hidden)?,
            ffn_sub_norm: sub_norm(LayerTensor::FfnSubNorm, ffn)?,
            down: matrix(LayerTensor::Down, hidden, ffn)?,
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
    if config.norms.heads || config.norms.inputs || config.norms.post || config.window.is_some() {
        return refuse("its norms or its window are not built".into());
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
    if !(config.rope.theta.is_finite() && config.rope.theta > 0.0) {
        return refuse(format!("RoPE's theta is {}", config.rope.theta));
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
