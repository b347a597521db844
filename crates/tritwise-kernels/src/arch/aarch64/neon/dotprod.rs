//! Panels of two bits with one token, by `sdot`.
//!
//! Fields are not shifted down, where that can be: masked where they lie, they are codes times 1, 4
//! and 16, and each has accumulators of its own, which are shifted once at the end. The top field
//! times 64 would be no signed byte; shifted, it needs no mask.

use std::arch::aarch64::*;
use std::hint::black_box;

use bytemuck::cast;

use super::panels::{COLS, PRODUCT_MAX, ROWS, Run};
use super::products::sdot::{dot, dot_word, steps, zero};
use crate::arch::{Line, Panels};

/// Lines after which the accumulators are shifted and added up, so that none overflows.
const RUN_LINES: usize = steps(16 * PRODUCT_MAX);

#[target_feature(enable = "neon,dotprod")]
pub(super) fn gemv(panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
    let (x, _) = x.as_chunks::<COLS>();
    let (out, _) = out.as_chunks_mut::<ROWS>();
    for (panel, out) in panels.iter().zip(out) {
        *out = cast(panel_sums(panel, x));
    }
}

/// The sums of one panel's rows.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn panel_sums(panel: &[Line], x: &[Run]) -> [int32x4_t; 4] {
    let masks = [vdupq_n_u8(0x03), vdupq_n_u8(0x0C), vdupq_n_u8(0x30)];
    let mut sums = [vdupq_n_s32(0); 4];
    for (panel, x) in panel.chunks(RUN_LINES).zip(x.chunks(RUN_LINES)) {
        // By the first and the last field, by the second, by the third.
        let mut scaled = [[zero(); 3]; 4];
        for (line, x) in panel.iter().zip(x) {
            let (quarters, x): ([uint8x16_t; 4], _) = (cast(line.0), cast(*x));
            for (bytes, [by_1, by_4, by_16]) in quarters.into_iter().zip(&mut scaled) {
                let field = |mask| vreinterpretq_s8_u8(vandq_u8(bytes, mask));
                *by_1 = dot_word::<0>(*by_1, field(masks[0]), x);
                *by_4 = dot_word::<1>(*by_4, field(masks[1]), x);
                *by_16 = dot_word::<2>(*by_16, field(masks[2]), x);
                *by_1 = dot_word::<3>(*by_1, vreinterpretq_s8_u8(vshrq_n_u8::<6>(bytes)), x);
            }
        }
        for (sum, [by_1, by_4, by_16]) in sums.iter_mut().zip(scaled) {
            // Exact: each accumulator is a multiple of what it is divided by.
            let shifted = vsraq_n_s32::<4>(vsraq_n_s32::<2>(by_1, by_4), by_16);
            *sum = vaddq_s32(*sum, shifted);
        }
    }
    sums
}

/// Twelve independent `sdot` a round: enough to hide the latency of each.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn peak_macs(rounds: usize) -> u64 {
    let (codes, activations) = (vdupq_n_s8(black_box(1)), vdupq_n_s8(black_box(-1)));
    let mut sums = [zero(); 12];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = dot(*sum, codes, activations);
        }
    }
    black_box(sums);
    (rounds * 12 * 16) as u64
}
