//! Work handed out in pieces, so that an uneven core or a busy neighbour does not stall a region.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Pool;

/// Calls `f` once for every index below `count`, on all threads of `pool`.
pub fn for_each_index(pool: &Pool, count: usize, f: &(dyn Fn(usize) + Sync)) {
    let next = AtomicUsize::new(0);
    pool.run(&|_worker| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            f(index);
        }
    });
}

/// Calls `f(i, shard)` once for every run of `shard_len` elements of `out` (the last may be
/// shorter), on all threads of `pool`; shard `i` starts at element `i * shard_len`.
///
/// The iterator over the shards is behind a lock that is held to take the next one and never
/// while `f` runs.
pub fn for_each_shard<T: Send>(pool: &Pool, out: &mut [T], shard_len: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) {
    let shards = Mutex::new(out.chunks_mut(shard_len).enumerate());
    let next = || shards.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
    pool.run(&|_worker| {
        while let Some((index, shard)) = next() {
            f(index, shard);
        }
    });
}
