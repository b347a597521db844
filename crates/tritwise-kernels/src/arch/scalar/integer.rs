//! Sums of code × activation, one code at a time: what the packed layout means.

use std::hint::black_box;

use super::Scalar;
use crate::arch::{Activations, IntegerOps, Layout, Panels};

impl IntegerOps for Scalar {
    fn layouts(&self) -> &'static [Layout] {
        &Layout::ALL
    }

    fn gemv(&self, panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
        assert_eq!(x.len(), panels.cols(), "one activation per column");
        assert_eq!(out.len(), panels.rows(), "one sum per row");
        let layout = panels.layout();
        out.fill(0);
        for (panel, out) in panels.iter().zip(out.chunks_exact_mut(layout.rows())) {
            for (line, x) in panel.iter().zip(x.chunks_exact(layout.cols())) {
                for (row, out) in out.iter_mut().enumerate() {
                    for (col, x) in x.iter().enumerate() {
                        *out = out.wrapping_add(i32::from(line.code(layout, row, col)) * i32::from(*x));
                    }
                }
            }
        }
    }

    fn gemm(&self, panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
        let rows = panels.rows();
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
