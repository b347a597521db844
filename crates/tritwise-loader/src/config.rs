//! What must hold for hyperparameters from any file.

use tritwise_tensor::{Config, RopeScaling};

use crate::limits;

/// Refuses hyperparameters that no model has, with the reason.
///
/// Every number is compared before anything is multiplied or allocated by it.
pub(crate) fn check(config: &Config) -> Result<(), String> {
    within("the number of layers", config.layers, limits::LAYERS)?;
    within("the hidden size", config.hidden, limits::WIDTH)?;
    within("the feed-forward size", config.ffn, limits::WIDTH)?;
    within("the vocabulary size", config.vocab, limits::VOCAB)?;
    within("the context length", config.context, limits::CONTEXT)?;
    within("the number of heads", config.heads, limits::WIDTH)?;
    within("the number of key/value heads", config.kv_heads, config.heads as u64)?;
    within("the head size", config.head_dim, limits::WIDTH / config.heads as u64)?;
    if !config.heads.is_multiple_of(config.kv_heads) {
        return Err(format!("{} heads cannot share {} key/value heads evenly", config.heads, config.kv_heads));
    }
    if !config.head_dim.is_multiple_of(2) {
        return Err(format!("the head size is {}; rotary embeddings need an even one", config.head_dim));
    }
    if !(config.norm_eps.is_finite() && config.norm_eps >= 0.0) {
        return Err(format!("the norm epsilon is {}; expected a small positive number", config.norm_eps));
    }
    if !(config.rope.theta.is_finite() && config.rope.theta > 0.0) {
        return Err(format!("the rotary base is {}; expected a positive number", config.rope.theta));
    }
    check_scaling(&config.rope.scaling)?;
    if let Some(window) = &config.window {
        check_scaling(&window.rope.scaling)?;
        if !(window.rope.theta.is_finite() && window.rope.theta > 0.0) {
            return Err(format!(
                "the rotary base of layers with a window is {}; expected a positive number",
                window.rope.theta
            ));
        }
    }
    if !(config.input_norm_eps.is_finite() && config.input_norm_eps >= 0.0) {
        return Err(format!(
            "the epsilon of the linear layers' norms is {}; expected a small positive number",
            config.input_norm_eps
        ));
    }
    Ok(())
}

/// Refuses what is too large of the two numbers of which lists are made while a [`Config`] is: layers with a window,
/// divisors of frequencies. That they are not 0 is for [`check`] to say, in its order.
pub(crate) fn check_lists(layers: usize, head_dim: usize) -> Result<(), String> {
    within("the number of layers", layers.max(1), limits::LAYERS)?;
    within("the head size", head_dim.max(1), limits::WIDTH)
}

fn within(what: &str, value: usize, most: u64) -> Result<(), String> {
    match value as u64 {
        value if value == 0 || value > most => Err(format!("{what} is {value}; expected 1 to {most}")),
        _ => Ok(()),
    }
}

/// What Gemma multiplies its embedding by: the root of its width, as transformers' Gemma3TextScaledWordEmbedding has
/// it, in f32.
#[expect(clippy::cast_precision_loss, reason = "exact up to limits::WIDTH, beyond which nothing is loaded")]
pub(crate) fn gemma_embedding_scale(hidden: usize) -> f32 {
    (hidden as f32).sqrt()
}

/// What stands between `architecture`, as GGUF or config.json names it, and being run: known relatives that come
/// with ternary or binary weights, and kinds of model that people try.
pub(crate) fn obstacle(architecture: &str) -> &'static str {
    const MIXTURE: &str = ", a mixture of experts, which is not built";
    let name = architecture.to_ascii_lowercase().replace(['_', '-', '.'], "");
    let is = |names: &[&str]| names.iter().any(|known| name.starts_with(known));
    if name.contains("moe") || is(&["maple", "mixtral"]) {
        MIXTURE
    } else if is(&["qwen35", "qwen3next"]) {
        ", a hybrid of attention and gated delta nets, which is not built"
    } else if is(&["minicpm"]) {
        ", whose embeddings and residuals are scaled, which is not built"
    } else if is(&["gemmaembedding", "bert", "modernbert", "nomicbert", "jinabert", "t5"]) {
        ", an encoder that attends to later tokens, which is not built"
    } else if is(&["mamba", "rwkv"]) {
        ", a recurrent model, which is not built"
    } else {
        ", which is not built"
    }
}

fn check_scaling(scaling: &RopeScaling) -> Result<(), String> {
    let positive = |what: &str, value: f32| match value.is_finite() && value > 0.0 {
        true => Ok(()),
        false => Err(format!("the rotary scaling {what} is {value}; expected a positive number")),
    };
    match *scaling {
        RopeScaling::None | RopeScaling::Divisors(_) => Ok(()),
        RopeScaling::Linear { factor } => positive("factor", factor),
        RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, magnitude } => {
            positive("factor", factor)?;
            positive("beta_fast", beta_fast)?;
            positive("beta_slow", beta_slow)?;
            positive("attention factor", magnitude)?;
            match original_context as u64 {
                0 => Err("the original context of the rotary scaling is 0; expected a number of tokens".to_owned()),
                context if context > limits::CONTEXT => Err(format!(
                    "the original context of the rotary scaling is {context}; expected 1 to {}",
                    limits::CONTEXT
                )),
                _ => Ok(()),
            }
        }
    }
}
