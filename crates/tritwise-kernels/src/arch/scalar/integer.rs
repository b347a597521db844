//! Sums of code × activation, one code at a time: what the packed layout means.

use std::hint::black_box;

use super::Scalar;
use crate::arch::{Activations, IntegerOps, LINE_COLS, Line, PANEL_ROWS, Panels};

impl IntegerOps for Scalar {
    fn gemv(&self, panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
        assert_eq!(x.len(), panels.cols(), "one activation per column");
        assert_eq!(out.len(), panels.len() * PANEL_ROWS, "one sum per row");
        for (panel, out) in panels.iter().zip(out.chunks_exact_mut(PANEL_ROWS)) {
            for (row, out) in out.iter_mut().enumerate() {
                *out = dot(panel, row, x);
            }
        }
    }

    fn gemm(&self, panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
        let rows = panels.len() * PANEL_ROWS;
        assert_eq!(out.len(), x.tokens() * rows, "one sum per token and row");
        for token in 0..x.tokens() {
            self.gemv(panels, x.row(token, panels.cols()), &mut out[token * rows..][..rows]);
        }
    }

    fn peak_macs(&self, rounds: usize) -> u64 {
        let (codes, activations) = (black_box([1u8; 16]), black_box([-1i8; 16]));
        let mut sums = [0i32; 16];
        for _ in 0..rounds {
            for ((sum, code), activation) in sums.iter_mut().zip(black_box(&codes)).zip(&activations) {
                *sum = sum.wrapping_add(i32::from(*code) * i32::from(*activation));
            }
        }
        black_box(sums);
        (rounds * 16) as u64
    }
}

/// `Σ_c code[row][c] · x[c]` over the lines of one panel.
fn dot(panel: &[Line], row: usize, x: &[i8]) -> i32 {
    let (runs, _) = x.as_chunks::<LINE_COLS>();
    let mut sum = 0i32;
    for (line, run) in panel.iter().zip(runs) {
        for (col, x) in run.iter().enumerate() {
            sum = sum.wrapping_add(i32::from(line.code(row, col)) * i32::from(*x));
        }
    }
    sum
}
