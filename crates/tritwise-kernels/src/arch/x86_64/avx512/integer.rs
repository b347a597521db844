//! Sums of code × activation with `vpdpbusd`.
//!
//! `vpdpbusd` takes 64 unsigned bytes and 64 signed ones and adds each group of
//! four products to a 32-bit lane. A [`Line`](crate::arch::Line) is made for it:
//! the bytes of a lane are four neighbouring columns, and the signed operand is
//! a word of four activations, the same in all lanes.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::super::rows;
use super::{Avx512, amx, base3, two_bit};
use crate::arch::{Activations, IntegerOps, Layout, Panels};

impl IntegerOps for Avx512<true> {
    fn layouts(&self) -> &'static [Layout] {
        if self.vbmi { &[Layout::Base3, Layout::TwoBit] } else { &[Layout::TwoBit] }
    }

    fn gemv(&self, panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
        assert_eq!(x.len(), panels.cols(), "one activation per column");
        assert_eq!(out.len(), panels.rows(), "one sum per row");
        match panels.layout() {
            // SAFETY: `self` exists only where `detect` found these features.
            Layout::TwoBit => unsafe { two_bit::gemv(panels, x, out) },
            Layout::Base3 => {
                assert!(self.vbmi, "a layout with kernels");
                // SAFETY: as above, and `vbmi` tells that `detect` found those features too.
                unsafe { base3::gemv(panels, x, out) }
            }
            // SAFETY: AVX2 is among these features.
            Layout::Rows => unsafe { rows::gemm(panels, Activations::new(x, x.len(), 1), out) },
        }
    }

    fn gemm(&self, panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
        assert_eq!(out.len(), x.tokens() * panels.rows(), "one sum per token and row");
        match panels.layout() {
            // SAFETY: `self` exists only where `detect` found these features.
            Layout::TwoBit => unsafe { two_bit::gemm(panels, x, out) },
            Layout::Base3 => {
                assert!(self.vbmi, "a layout with kernels");
                if self.amx && amx::is_worth_it(panels, x) {
                    // SAFETY: as above, and `amx` tells that `detect_amx` made the value.
                    return unsafe { amx::gemm(panels, x, out) };
                }
                // SAFETY: as above, and `vbmi` tells that `detect` found those features too.
                unsafe { base3::gemm(panels, x, out) }
            }
            // SAFETY: AVX2 is among these features.
            Layout::Rows => unsafe { rows::gemm(panels, x, out) },
        }
    }

    fn peak_macs(&self, rounds: usize) -> u64 {
        if self.amx {
            // SAFETY: `amx` tells that `detect_amx` made the value.
            return unsafe { amx::peak_macs(rounds) };
        }
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { peak_macs(rounds) }
    }
}

/// Sixteen independent `vpdpbusd` a round: enough to hide the latency of each.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn peak_macs(rounds: usize) -> u64 {
    let codes = _mm512_set1_epi8(black_box(1));
    let activations = _mm512_set1_epi8(black_box(-1));
    let mut sums = [_mm512_setzero_si512(); 16];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, codes, activations);
        }
    }
    black_box(sums);
    (rounds * 16 * 64) as u64
}
