//! The row-by-row layout, which is I2_S as it lies in a file: lanes run over columns.
//!
//! A quarter of a [`Line`] is sixteen bytes of one half of it, and has sixteen columns of each of that half's four planes.

use std::arch::wasm32::*;

use super::integer::even_and_odd;
use crate::arch::{Activations, Layout, Panels};

/// Columns of a line, and of one plane in a quarter of it.
const COLS: usize = Layout::Rows.cols();
const PLANE: usize = COLS / 16;

/// As [`IntegerOps::gemm`](crate::arch::IntegerOps::gemm), token by token: what there is to share of an unpacked line is two
/// operations in six.
pub(super) fn gemm(panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
    for (row, lines) in panels.iter().enumerate() {
        for token in 0..x.tokens() {
            let (x, _) = x.row(token, lines.len() * COLS).as_chunks::<COLS>();
            let mut sum = i32x4_splat(0);
            for (line, x) in lines.iter().zip(x) {
                let quarters: [v128; 4] = bytemuck::cast(line.0);
                for (q, quarter) in quarters.into_iter().enumerate() {
                    for plane in 0..4 {
                        // Half, plane, and quarter of the half.
                        let x: v128 = bytemuck::cast(x.as_chunks::<PLANE>().0[q / 2 * 8 + plane * 2 + q % 2]);
                        let [even, odd] = even_and_odd(quarter, 6 - 2 * plane as u32);
                        let even = i32x4_dot_i16x8(even, i16x8_shr(i16x8_shl(x, 8), 8));
                        sum = i32x4_add(sum, i32x4_add(even, i32x4_dot_i16x8(odd, i16x8_shr(x, 8))));
                    }
                }
            }
            let lanes: [i32; 4] = bytemuck::cast(sum);
            out[token * panels.rows() + row] = lanes.into_iter().fold(0, i32::wrapping_add);
        }
    }
}
