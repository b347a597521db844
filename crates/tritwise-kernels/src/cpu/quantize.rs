//! The rounding of activations, row by row, with the norm before it.

use std::sync::{Mutex, PoisonError};

use crate::arch::Isa;
use crate::parallel::Pool;

use super::rows::QuantizedRow;
use super::{Norm, Quantized, Rounding, Rows};

/// Elements below which waking the other threads costs more than it saves.
const INLINE_ELEMENTS: usize = 16 << 10;

/// `out` = the rows of `x`, normalised where there is a norm, rounded as `out` is.
pub(super) fn quantize(isa: &dyn Isa, pool: &Pool, x: &Rows, norm: Option<&Norm>, out: &mut Quantized) {
    assert_eq!(x.width(), out.width(), "rows of one width");
    out.set_tokens(x.tokens());
    let norm = norm.map(Norm::as_weight);
    let (rounding, width, padded) = (out.rounding(), out.width(), out.padded_width());
    let quantize_row = |token: usize, row: QuantizedRow<'_>| {
        let x = x.row(token);
        match rounding {
            Rounding::Int8 => (*row.scale, row.sums[0]) = isa.quantize(x, norm, &mut row.bytes[..width]),
            Rounding::Int16 => {
                let (high, low) = row.bytes.split_at_mut(padded);
                *row.scale = isa.quantize16(x, norm, &mut high[..width], &mut low[..width], row.sums);
            }
            Rounding::Float => {
                let out = &mut bytemuck::cast_slice_mut(row.bytes)[..width];
                match norm {
                    Some(norm) => isa.normalize(x, norm, out),
                    None => out.copy_from_slice(x),
                }
            }
        }
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
