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
