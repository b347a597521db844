//! What the examples share: their common options, those of sampling among them, fetching and opening a
//! model with a progress bar, measuring speed beside the machine's ceilings, and the record
//! of such measurements.

mod cli;
pub mod dummy;
mod hub;
pub mod machine;
pub mod measure;
pub mod plant;
pub mod record;
mod sampling;
pub mod setup;
pub mod shapes;
pub mod speed_model;

pub use cli::{Compute, Dense, HeadArg, Kv, Layout, ModelPath, Result, bar, bundled, fail, print_json, size};
pub use hub::local;
pub use sampling::SamplingArgs;
