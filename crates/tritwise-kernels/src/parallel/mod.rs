//! Threads: a pool that is a value, and ways to split an output between its workers.
#![allow(unexpected_cfgs, reason = "`loom` is no feature: RUSTFLAGS sets it when the model checker runs")]

mod pool;
mod shards;
mod sync;

pub(crate) use pool::Pool;
pub(crate) use shards::{ColumnShard, ColumnShards, Columns, for_each_shard};
