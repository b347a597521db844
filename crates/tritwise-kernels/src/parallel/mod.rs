//! Threads: a pool that is a value, and ways to split an output between its workers.

mod pool;
mod shards;

pub use pool::Pool;
pub use shards::{for_each_index, for_each_shard};
