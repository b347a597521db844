//! Sums of code × activation: which kernels are whose.

use std::arch::aarch64::*;
use std::hint::black_box;

use super::panels::{ROWS, sdot, smlal};
use super::{Level, Neon, dotprod, i8mm};
use crate::arch::integer::group_by_group;
use crate::arch::{Activations, IntegerOps, Layout, Panels};

impl IntegerOps for Neon {
    fn layouts(&self) -> &'static [Layout] {
        &[Layout::TwoBit]
    }

    fn gemv(&self, panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
        assert_eq!(x.len(), panels.cols(), "one activation per column");
        if self.level == Level::Base || panels.layout() != Layout::TwoBit {
            return self.gemm(panels, Activations::new(x, x.len(), 1), out);
        }
        assert_eq!(out.len(), panels.rows(), "one sum per row");
        // SAFETY: this level tells that `detect_dotprod` found these features.
        unsafe { dotprod::gemv(panels, x, out) }
    }

    fn gemm(&self, panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
        assert_eq!(out.len(), x.tokens() * panels.rows(), "one sum per token and row");
        match (panels.layout(), self.level) {
            // SAFETY: `self` exists only where `detect` found this feature.
            (Layout::TwoBit, Level::Base) => unsafe { smlal::gemm(panels, x, out) },
            // SAFETY: this level tells that `detect_i8mm` found these features.
            (Layout::TwoBit, Level::I8mm) if x.tokens() > 1 => unsafe { i8mm::gemm(panels, x, out) },
            // SAFETY: any other level tells that `detect_dotprod` found these features.
            (Layout::TwoBit, _) => unsafe { sdot::gemm(panels, x, out) },
            // SAFETY: as for `TwoBit`.
            (Layout::Rows, Level::Base) => unsafe { smlal::rows_gemm(panels, x, out) },
            // SAFETY: as for `TwoBit`.
            (Layout::Rows, _) => unsafe { sdot::rows_gemm(panels, x, out) },
            (Layout::Base3, _) => panic!("a layout with kernels"),
        }
    }

    fn group_sums(&self, panel: Panels<'_>, lines: usize, x: Activations<'_>, out: &mut [i32]) {
        if panel.layout() != Layout::TwoBit {
            return group_by_group(self, panel, lines, x, out);
        }
        assert_eq!(panel.len(), 1, "one panel");
        let groups = panel.lines().len().div_ceil(lines);
        assert_eq!(out.len(), groups * x.tokens() * ROWS, "one sum per group, token and row");
        match self.level {
            // SAFETY: `self` exists only where `detect` found this feature.
            Level::Base => unsafe { smlal::group_sums(panel.lines(), lines, x, out) },
            // SAFETY: these levels tell that `detect_dotprod` found these features.
            Level::DotProd | Level::I8mm => unsafe { sdot::group_sums(panel.lines(), lines, x, out) },
        }
    }

    fn peak_macs(&self, rounds: usize) -> u64 {
        match self.level {
            // SAFETY: `self` exists only where `detect` found this feature.
            Level::Base => unsafe { peak_macs(rounds) },
            // SAFETY: this level tells that `detect_dotprod` found these features.
            Level::DotProd => unsafe { dotprod::peak_macs(rounds) },
            // SAFETY: this level tells that `detect_i8mm` found these features.
            Level::I8mm => unsafe { i8mm::peak_macs(rounds) },
        }
    }
}

/// Twelve independent chains of `smlal`.
#[target_feature(enable = "neon")]
fn peak_macs(rounds: usize) -> u64 {
    let activations = vdup_n_s8(black_box(-1));
    let mut sums = [vdupq_n_s16(black_box(1)); 12];
    for _ in 0..rounds {
        for sum in &mut sums {
            // The sum is the operand too, or the product would be computed once for all rounds.
            *sum = vmlal_s8(*sum, vget_low_s8(vreinterpretq_s8_s16(*sum)), activations);
        }
    }
    black_box(sums);
    (rounds * 12 * 8) as u64
}
