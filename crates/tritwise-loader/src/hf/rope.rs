//! The rotary embedding in `config.json`, and the layers that see a sliding window.
//!
//! Three generations of fields say the same: `rope_theta` and `rope_scaling` beside each other;
//! `rope_parameters` with both inside (transformers 5); and `rope_parameters` per kind of layer, where
//! Gemma 3 had `rope_local_base_freq` before. Formulas: `modeling_rope_utils.py` in transformers.

use serde::Deserialize;
use tritwise_tensor::{Rope, RopeScaling, RopeStyle, SlidingWindow};

use super::config::{Family, File};

/// `rope_parameters` or `rope_scaling`: of all layers, or of each kind of layer.
#[derive(Deserialize, Default)]
pub(super) struct RopeFields {
    #[serde(flatten)]
    all: RopeKind,
    #[serde(default)]
    full_attention: Option<RopeKind>,
    #[serde(default)]
    sliding_attention: Option<RopeKind>,
}

#[derive(Deserialize, Default, Clone)]
struct RopeKind {
    #[serde(default)]
    rope_type: Option<String>,
    /// What `rope_type` was called before; some files have both.
    #[serde(default, rename = "type")]
    legacy_type: Option<String>,
    #[serde(default)]
    rope_theta: Option<f32>,
    #[serde(default)]
    factor: Option<f32>,
    #[serde(default)]
    partial_rotary_factor: Option<f32>,
    #[serde(default)]
    original_max_position_embeddings: Option<usize>,
    #[serde(default)]
    beta_fast: Option<f32>,
    #[serde(default)]
    beta_slow: Option<f32>,
    #[serde(default)]
    attention_factor: Option<f32>,
    #[serde(default)]
    mscale: Option<f32>,
    #[serde(default)]
    truncate: Option<bool>,
    #[serde(default)]
    low_freq_factor: Option<f32>,
    #[serde(default)]
    high_freq_factor: Option<f32>,
}

/// The rotary embedding of layers that see all earlier tokens.
pub(super) fn rope(file: &File, family: Family, head_dim: usize) -> Result<Rope, String> {
    // transformers' own defaults.
    let default_theta = match family {
        Family::BitNet => 500_000.0,
        Family::Gemma3 => 1_000_000.0,
        Family::OneBit | Family::Llama | Family::Qwen3 => 10_000.0,
    };
    let fields = file.rope_parameters.as_ref().or(file.rope_scaling.as_ref());
    let kind = fields.map(|fields| fields.full_attention.as_ref().unwrap_or(&fields.all));
    let theta = kind.and_then(|kind| kind.rope_theta).or(file.rope_theta).unwrap_or(default_theta);
    let scaling = match kind {
        Some(kind) => kind.scaling(theta, head_dim)?,
        None => RopeScaling::None,
    };
    Ok(Rope { theta, style: RopeStyle::Halves, scaling })
}

/// The layers that see a sliding window, if any does within the context.
pub(super) fn window(file: &File, family: Family, head_dim: usize) -> Result<Option<SlidingWindow>, String> {
    let in_use = match family {
        Family::Qwen3 => file.use_sliding_window.unwrap_or(false),
        _ => file.use_sliding_window.unwrap_or(true),
    };
    let Some(width) = file.sliding_window.filter(|&width| in_use && width < file.max_position_embeddings) else {
        return Ok(None);
    };
    let layers: Vec<bool> = match (&file.layer_types, family) {
        (Some(types), _) => types.iter().map(|kind| is_sliding(kind)).collect::<Result<_, _>>()?,
        (None, Family::Gemma3) => {
            let pattern = file.sliding_window_pattern.unwrap_or(6).max(1);
            (1..=file.num_hidden_layers).map(|layer| layer % pattern != 0).collect()
        }
        (None, Family::Qwen3) => {
            let first = file.max_window_layers.unwrap_or(28);
            (0..file.num_hidden_layers).map(|layer| layer >= first).collect()
        }
        (None, _) => {
            return Err(format!("sets sliding_window to {width}: attention to a sliding window is not supported"));
        }
    };
    if layers.len() != file.num_hidden_layers {
        return Err(format!("has {} layer_types for {} layers", layers.len(), file.num_hidden_layers));
    }
    if width == 0 {
        return Err("sets sliding_window to 0, a window that no token fits".to_owned());
    }
    let rope = match (file.rope_parameters.as_ref().and_then(|fields| fields.sliding_attention.as_ref()), family) {
        (Some(kind), _) => {
            let theta = kind.rope_theta.or(file.rope_local_base_freq).unwrap_or(10_000.0);
            Rope { theta, style: RopeStyle::Halves, scaling: kind.scaling(theta, head_dim)? }
        }
        (None, Family::Gemma3) => {
            let theta = file.rope_local_base_freq.unwrap_or(10_000.0);
            Rope { theta, style: RopeStyle::Halves, scaling: RopeScaling::None }
        }
        (None, _) => rope(file, family, head_dim)?,
    };
    Ok(layers.contains(&true).then_some(SlidingWindow { width, layers, rope }))
}

fn is_sliding(kind: &str) -> Result<bool, String> {
    match kind {
        "full_attention" => Ok(false),
        "sliding_attention" => Ok(true),
        other => Err(format!(
            "has a layer of type {other:?}, which is not supported; supported are \"full_attention\" and \
             \"sliding_attention\""
        )),
    }
}

impl RopeKind {
    fn scaling(&self, theta: f32, head_dim: usize) -> Result<RopeScaling, String> {
        if let Some(part) = self.partial_rotary_factor
            && part != 1.0
        {
            return Err(format!("sets partial_rotary_factor to {part}: partly rotated heads are not supported"));
        }
        let kind = self.rope_type.as_deref().or(self.legacy_type.as_deref()).unwrap_or("default");
        let missing = |field: &str| format!("asks for {kind} rotary scaling without {field}");
        let positive = |field: &str, value: Option<f32>| match value {
            Some(value) if value.is_finite() && value > 0.0 => Ok(value),
            Some(value) => Err(format!("sets {field} of {kind} rotary scaling to {value}; expected a positive number")),
            None => Err(missing(&format!("a {field}"))),
        };
        let original_context = || {
            self.original_max_position_embeddings
                .filter(|&n| n > 0)
                .ok_or_else(|| missing("original_max_position_embeddings"))
        };
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: positive("factor", self.factor)? }),
            "llama3" => Ok(RopeScaling::Divisors(llama3_divisors(
                theta,
                head_dim,
                positive("factor", self.factor)?,
                positive("low_freq_factor", self.low_freq_factor)?,
                positive("high_freq_factor", self.high_freq_factor)?,
                original_context()?,
            ))),
            "yarn" => {
                if self.mscale.is_some() || self.truncate == Some(false) {
                    return Err(
                        "asks for yarn rotary scaling with mscale or without truncate, which is not supported; \
                                such models are not of this family"
                            .to_owned(),
                    );
                }
                let factor = positive("factor", self.factor)?;
                Ok(RopeScaling::Yarn {
                    factor,
                    original_context: original_context()?,
                    beta_fast: positive("beta_fast", self.beta_fast.or(Some(32.0)))?,
                    beta_slow: positive("beta_slow", self.beta_slow.or(Some(1.0)))?,
                    magnitude: self.attention_factor.unwrap_or_else(|| yarn_magnitude(factor)),
                })
            }
            other => Err(format!(
                "asks for rotary scaling of type {other:?}; supported are \"default\", \"linear\", \"llama3\" and \"yarn\""
            )),
        }
    }
}

/// What YaRN multiplies queries and keys by if nothing else is said (arXiv 2309.00071, equation 22).
#[expect(clippy::cast_possible_truncation, reason = "f32 is what the graph multiplies by")]
pub(crate) fn yarn_magnitude(factor: f32) -> f32 {
    if factor > 1.0 { (0.1 * f64::from(factor).ln() + 1.0) as f32 } else { 1.0 }
}

/// Llama 3.1's rule: waves longer than the original context over `low` are stretched by `factor`, those
/// shorter than it over `high` are left alone, and those between are mixed.
#[expect(clippy::cast_possible_truncation, reason = "f32 is what the graph divides by")]
#[expect(clippy::cast_precision_loss, reason = "f64 holds what limits allow exactly")]
fn llama3_divisors(theta: f32, head_dim: usize, factor: f32, low: f32, high: f32, original_context: usize) -> Vec<f32> {
    let [theta, factor, low, high] = [theta, factor, low, high].map(f64::from);
    let context = original_context as f64;
    let divisor = |i: usize| {
        let wavelength = std::f64::consts::TAU * theta.powf(2.0 * i as f64 / head_dim as f64);
        if wavelength < context / high {
            1.0
        } else if wavelength > context / low {
            factor
        } else {
            let smooth = (context / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..head_dim / 2).map(|i| divisor(i) as f32).collect()
}
