//! Sums of code × activation, one code at a time: what the packed layout means.

use super::Scalar;
use crate::arch::{IntegerOps, LINE_COLS, Line, PANEL_ROWS, Panels};

impl IntegerOps for Scalar {
    fn gemv(&self, panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
        self.gemm(panels, x, 1, out);
    }

    fn gemm(&self, panels: Panels<'_>, x: &[i8], tokens: usize, out: &mut [i32]) {
        let rows = panels.len() * PANEL_ROWS;
        assert_eq!(x.len(), tokens * panels.cols(), "one activation per token and column");
        assert_eq!(out.len(), tokens * rows, "one sum per token and row");
        if rows == 0 {
            return;
        }
        for (x, out) in x.chunks_exact(panels.cols()).zip(out.chunks_exact_mut(rows)) {
            for (panel, out) in panels.iter().zip(out.chunks_exact_mut(PANEL_ROWS)) {
                for (row, out) in out.iter_mut().enumerate() {
                    *out = dot(panel, row, x);
                }
            }
        }
    }
}

/// `Σ_c code[row][c] · x[c]` over the lines of one panel.
fn dot(panel: &[Line], row: usize, x: &[i8]) -> i32 {
    let (x_lines, _) = x.as_chunks::<LINE_COLS>();
    let mut sum = 0;
    for (line, x) in panel.iter().zip(x_lines) {
        for (col, x) in x.iter().enumerate() {
            sum += i32::from(line.code(row, col)) * i32::from(*x);
        }
    }
    sum
}
