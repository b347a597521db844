//! BitNet's rounding of activations to `i8`, row by row, with the norm before it.

use std::sync::{Mutex, PoisonError};

use crate::arch::Isa;
use crate::parallel::Pool;

use super::{Norm, Quantized, QuantizedRow, Rows};

/// Elements below which waking the other threads costs more than it saves.
const INLINE_ELEMENTS: usize = 16 << 10;

/// `out` = the rows of `x`, normalised where there is a norm, rounded to `i8`.
pub(super) fn quantize(isa: &dyn Isa, pool: &Pool, x: &Rows, norm: Option<&Norm>, out: &mut Quantized) {
    assert_eq!(x.width(), out.width(), "rows of one width");
    out.set_tokens(x.tokens());
    let norm = norm.map(Norm::as_weight);
    let quantize_row = |token: usize, row: QuantizedRow<'_>| {
        (*row.scale, *row.sum) = isa.quantize(x.row(token), norm, row.values);
    };
    if x.as_slice().len() < INLINE_ELEMENTS {
        for (token, row) in out.rows_mut().enumerate() {
            quantize_row(token, row);
        }
        return;
    }
    // A lock per row, and a row takes microseconds.
    let rows = Mutex::new(out.rows_mut().enumerate());
    let next = || rows.lock().unwrap_or_else(PoisonError::into_inner).next();
    pool.run(&|_worker| {
        while let Some((token, row)) = next() {
            quantize_row(token, row);
        }
    });
}
