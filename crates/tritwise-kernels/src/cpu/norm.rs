//! RMSNorm where no rounding follows it: of heads, of what is added to the stream, of the last row.

use crate::arch::{Isa, NormWeight};
use crate::parallel::{Pool, for_each_shard};

use super::Rows;

/// Elements of a shard, a few microseconds of work.
const SHARD: usize = 8 << 10;

/// An RMSNorm: its weight and ε.
#[derive(Debug)]
pub struct Norm {
    weight: Vec<f32>,
    eps: f32,
}

impl Norm {
    pub(super) fn new(weight: &[f32], eps: f32) -> Self {
        Self { weight: weight.to_vec(), eps }
    }

    pub(super) fn as_weight(&self) -> NormWeight<'_> {
        NormWeight { weight: &self.weight, eps: self.eps }
    }
}

/// `out` = the rows of `x`, each run of the norm's length normalised.
pub(super) fn normalize(isa: &dyn Isa, pool: &Pool, x: &Rows, norm: &Norm, out: &mut Rows) {
    let len = norm.weight.len();
    assert_eq!(x.width(), out.width(), "rows of one width");
    assert!(len > 0 && x.width().is_multiple_of(len), "whole runs of {len} features");
    out.set_tokens(x.tokens());
    let (x, out) = (x.as_slice(), out.as_mut_slice());
    let shard = (SHARD / len).max(1) * len;
    let some_runs = |i: usize, out: &mut [f32]| {
        for (x, out) in x[i * shard..].chunks_exact(len).zip(out.chunks_exact_mut(len)) {
            isa.normalize(x, norm.as_weight(), out);
        }
    };
    if out.len() < 2 * SHARD {
        for (i, out) in out.chunks_mut(shard).enumerate() {
            some_runs(i, out);
        }
    } else {
        for_each_shard(pool, out, shard, &some_runs);
    }
}

/// Row `rows[i]` of `x`, normalised, becomes row `i` of `out`.
pub(super) fn hidden(isa: &dyn Isa, x: &Rows, rows: &[usize], norm: &Norm, out: &mut [f32]) {
    assert_eq!(out.len(), rows.len() * x.width(), "one output per row");
    for (row, out) in rows.iter().zip(out.chunks_exact_mut(x.width())) {
        isa.normalize(x.row(*row), norm.as_weight(), out);
    }
}
