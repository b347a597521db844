//! Threads: a pool that is a value, and ways to split an output between its workers.

mod pool;
mod shards;
mod sync;

pub(crate) use pool::Pool;
pub(crate) use shards::{ColumnShard, ColumnShards, Columns, for_each_shard};
