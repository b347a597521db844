//! Threads: a pool that is a value, and ways to split an output between its workers.

mod pool;
mod shards;

pub(crate) use pool::Pool;
pub(crate) use shards::{ColumnShard, ColumnShards, for_each_shard};
