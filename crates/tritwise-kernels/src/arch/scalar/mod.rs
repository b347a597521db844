//! The specification: plain, safe Rust that runs everywhere.

use super::sealed::Sealed;
use super::{FloatOps, IntegerOps, Isa, Panels};

/// No instruction set beyond the compiler's baseline.
#[derive(Debug)]
pub(crate) struct Scalar {
    _proof: (),
}

impl Scalar {
    pub(crate) fn new() -> &'static Self {
        &Self { _proof: () }
    }
}

impl Sealed for Scalar {}

impl Isa for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }
}

impl FloatOps for Scalar {}

impl IntegerOps for Scalar {
    fn gemv(&self, panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
        self.gemm(panels, x, 1, out);
    }
    fn gemm(&self, panels: Panels<'_>, x: &[i8], tokens: usize, out: &mut [i32]) {
        let rows = panels.len() * super::PANEL_ROWS;
        assert_eq!(x.len(), tokens * panels.cols());
        assert_eq!(out.len(), tokens * rows);
        for (x, out) in x.chunks_exact(panels.cols()).zip(out.chunks_exact_mut(rows)) {
            for (panel, out) in panels.iter().zip(out.chunks_exact_mut(super::PANEL_ROWS)) {
                out.fill(0);
                for (line, x) in panel.iter().zip(x.chunks_exact(super::LINE_COLS)) {
                    for (r, out) in out.iter_mut().enumerate() {
                        for (c, x) in x.iter().enumerate() {
                            let code = (line.0[4 * r + c % 4] >> (2 * (c / 4))) & 3;
                            *out += i32::from(code) * i32::from(*x);
                        }
                    }
                }
            }
        }
    }
}
