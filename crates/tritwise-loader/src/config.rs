//! What must hold for hyperparameters from any file.

use tritwise_tensor::{Config, RopeScaling};

use crate::limits;

/// Refuses hyperparameters that no model has, with the reason.
///
/// Every number is compared before anything is multiplied or allocated by it.
pub(crate) fn check(config: &Config) -> Result<(), String> {
    let within = |what: &str, value: usize, most: u64| match value as u64 {
        value if value == 0 || value > most => Err(format!("{what} is {value}; expected 1 to {most}")),
        _ => Ok(()),
    };
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
    if let RopeScaling::Linear { factor } = config.rope.scaling
        && !(factor.is_finite() && factor > 0.0)
    {
        return Err(format!("the rotary scaling factor is {factor}; expected a positive number"));
    }
    Ok(())
}
