//! Scratch memory of a forward call.

use std::fmt;

use tritwise_kernels::Backend;
use tritwise_tensor::Config;

/// Buffers for the activations of one forward call.
///
/// Made by [`Model::workspace`](crate::Model::workspace). They grow to the
/// largest batch seen and are then reused, so that decoding allocates nothing.
/// Holds no state between calls: any workspace of the same model will do.
pub struct Workspace<B: Backend> {
    /// `[tokens × hidden]`: the residual stream.
    pub(crate) x: B::Rows,
    /// `[tokens × hidden]`: what a block adds to it.
    pub(crate) delta: B::Rows,
    /// `[tokens × hidden]`: either of the two, normalised and not rounded, in models that need it.
    pub(crate) normed: B::Rows,
    /// `[tokens × heads·head_dim]`.
    pub(crate) q: B::Rows,
    /// `[tokens × kv_heads·head_dim]`.
    pub(crate) k: B::Rows,
    /// `[tokens × kv_heads·head_dim]`: the keys with normalised heads, in models that have them.
    pub(crate) k_normed: B::Rows,
    /// `[tokens × kv_heads·head_dim]`.
    pub(crate) v: B::Rows,
    /// `[tokens × heads·head_dim]`.
    pub(crate) attention: B::Rows,
    /// `[tokens × ffn]`.
    pub(crate) gate: B::Rows,
    /// `[tokens × ffn]`.
    pub(crate) up: B::Rows,
    /// `[tokens × hidden]`, input of q/k/v and gate/up.
    pub(crate) hidden_q: B::Quantized,
    /// `[tokens × heads·head_dim]`, input of the attention output projection.
    pub(crate) attention_q: B::Quantized,
    /// `[tokens × ffn]`, input of the down projection.
    pub(crate) ffn_q: B::Quantized,
    /// The batch's token ids.
    pub(crate) tokens: Vec<u32>,
    /// Rows of the batch whose logits are wanted.
    pub(crate) wanted: Vec<usize>,
    /// `[wanted × vocab]`.
    pub(crate) logits: Vec<f32>,
    /// `[wanted × hidden]`.
    pub(crate) hidden: Vec<f32>,
}

impl<B: Backend> Workspace<B> {
    pub(crate) fn new(backend: &B, config: &Config) -> Self {
        let q_width = config.heads * config.head_dim;
        let kv_width = config.kv_heads * config.head_dim;
        Self {
            x: backend.rows(config.hidden),
            delta: backend.rows(config.hidden),
            normed: backend.rows(config.hidden),
            q: backend.rows(q_width),
            k: backend.rows(kv_width),
            k_normed: backend.rows(kv_width),
            v: backend.rows(kv_width),
            attention: backend.rows(q_width),
            gate: backend.rows(config.ffn),
            up: backend.rows(config.ffn),
            hidden_q: backend.quantized(config.hidden, config.inputs),
            attention_q: backend.quantized(q_width, config.inputs),
            ffn_q: backend.quantized(config.ffn, config.inputs),
            tokens: Vec::new(),
            wanted: Vec::new(),
            logits: Vec::new(),
            hidden: Vec::new(),
        }
    }
}

impl<B: Backend> fmt::Debug for Workspace<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workspace").finish_non_exhaustive()
    }
}
