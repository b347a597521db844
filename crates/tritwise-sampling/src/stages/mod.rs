//! The stages this crate brings, one idea each.

mod greedy;
mod min_p;
mod repetition;
mod temperature;
mod top_k;
mod top_p;

pub use greedy::Greedy;
pub use min_p::MinP;
pub use repetition::RepetitionPenalty;
pub use temperature::Temperature;
pub use top_k::TopK;
pub use top_p::TopP;

/// `scaled`, kept finite if `logit` was: an overflow must not turn an unlikely
/// token into an impossible one, or a likely one into the only one.
fn saturate(logit: f32, scaled: f32) -> f32 {
    if logit.is_finite() { scaled.clamp(f32::MIN, f32::MAX) } else { scaled }
}
