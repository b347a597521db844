//! The stages this crate brings, one idea each.

mod ban;
mod dry;
mod dynamic_temperature;
mod greedy;
mod logit_bias;
mod min_p;
mod mirostat;
mod penalties;
mod temperature;
mod top_k;
mod top_n_sigma;
mod top_p;
mod typical_p;
mod xtc;

pub use ban::Ban;
pub use dry::Dry;
pub use dynamic_temperature::DynamicTemperature;
pub use greedy::Greedy;
pub use logit_bias::LogitBias;
pub use min_p::MinP;
pub use mirostat::Mirostat;
pub use penalties::Penalties;
pub use temperature::Temperature;
pub use top_k::TopK;
pub use top_n_sigma::TopNSigma;
pub use top_p::TopP;
pub use typical_p::TypicalP;
pub use xtc::Xtc;

/// `scaled`, kept finite if `logit` was: an overflow must not turn an unlikely
/// token into an impossible one, or a likely one into the only one.
fn saturate(logit: f32, scaled: f32) -> f32 {
    if logit.is_finite() { scaled.clamp(f32::MIN, f32::MAX) } else { scaled }
}
