//! Ones counted eight bytes at a time: what the counts mean.

use super::Scalar;
use crate::arch::binary::check_rows;
use crate::arch::{BinaryOps, BitOp, BitRows, Line};

impl BinaryOps for Scalar {
    fn add_ones(&self, op: BitOp, factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]) {
        check_rows(weights, x, out);
        for (r, w) in weights.iter().enumerate() {
            for (t, x) in x.iter().enumerate() {
                let sum = &mut out[t * weights.len() + r];
                *sum = sum.wrapping_add(factor.wrapping_mul(ones(op, w, x) as i32));
            }
        }
    }
}

fn ones(op: BitOp, w: &[Line], x: &[Line]) -> u32 {
    let mut ones = 0u32;
    for (w, x) in w.iter().zip(x) {
        let (w, x): ([u64; 8], [u64; 8]) = (bytemuck::cast(w.0), bytemuck::cast(x.0));
        for (w, x) in w.into_iter().zip(x) {
            let met = match op {
                BitOp::Xor => w ^ x,
                BitOp::And => w & x,
            };
            ones = ones.wrapping_add(met.count_ones());
        }
    }
    ones
}
