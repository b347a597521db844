//! What the examples share: their common options, opening a model with a
//! progress bar, and measuring the machine they run on.

mod cli;
pub mod dummy;
pub mod machine;

pub use cli::{Compute, Layout, ModelPath, Result, bar, bundled, fail, print_json};
