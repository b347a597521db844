//! Operations on each element: the feed-forward gate and the residual sum.

use tritwise_tensor::Activation;

use crate::arch::Isa;
use crate::parallel::{Pool, for_each_shard};

use super::Rows;

/// Elements of a shard, a few microseconds of work.
const SHARD: usize = 8 << 10;

/// `gate = activation(gate) ⊙ up`.
pub(super) fn gate(isa: &dyn Isa, pool: &Pool, activation: Activation, gate: &mut Rows, up: &Rows) {
    let f = |gate: &mut [f32], up: &[f32]| isa.gate(activation, gate, up);
    for_each_pair(pool, gate, up, &f);
}

/// `x = x + y`.
pub(super) fn add(isa: &dyn Isa, pool: &Pool, x: &mut Rows, y: &Rows) {
    for_each_pair(pool, x, y, &|x: &mut [f32], y: &[f32]| isa.add(x, y));
}

/// Calls `f` on corresponding runs of `x` and `y`, on all threads if there is enough for them.
fn for_each_pair(pool: &Pool, x: &mut Rows, y: &Rows, f: &(dyn Fn(&mut [f32], &[f32]) + Sync)) {
    assert_eq!((x.tokens(), x.width()), (y.tokens(), y.width()), "batches of one shape");
    let (x, y) = (x.as_mut_slice(), y.as_slice());
    if x.len() < 2 * SHARD {
        return f(x, y);
    }
    for_each_shard(pool, x, SHARD, &|i, x| f(x, &y[i * SHARD..][..x.len()]));
}
