//! Sketches with `i32x4.dot_i16x8_s`, four rows of a panel or four lanes of a block at a time.
//!
//! As in `integer.rs`, codes of even and of odd columns become 16-bit lanes by a shift and a mask.

use std::arch::wasm32::*;

use super::Simd128;
use super::integer::{even_and_odd, repeat};
use crate::arch::generic::Lanes;
use crate::arch::sketch::check_screen;
use crate::arch::{CoarsePanels, FineBlock, Line, PANEL_ROWS, Probe, SKETCH_GROUP, SKETCH_LINES, SketchOps};

impl SketchOps for Simd128 {
    fn screen(&self, panels: CoarsePanels<'_>, scales: &[f32], probe: &Probe, out: &mut [f32]) {
        check_screen(panels, scales, probe, out);
        let (scales, _) = scales.as_chunks::<PANEL_ROWS>();
        let (out, _) = out.as_chunks_mut::<PANEL_ROWS>();
        let unit = self.splat(probe.unit() * 0.5);
        for ((panel, scales), out) in panels.iter().zip(scales).zip(out) {
            let sums = panel_sums(*self, panel, probe);
            self.store(self.mul(sums, self.mul(self.load(scales), unit)), out);
        }
    }

    fn refine(&self, row: &[FineBlock], probe: &Probe) -> i64 {
        let [high, low] = probe.fine();
        assert_eq!(row.len(), high.fields.len(), "one block per block");
        let mut sums = [0i64; 2];
        for first in (0..row.len()).step_by(RUN_BLOCKS) {
            let mut narrow = [i32x4_splat(0); 2];
            for (b, block) in row.iter().enumerate().skip(first).take(RUN_BLOCKS) {
                let (codes, steps) = block.split_first_chunk::<64>().expect("a block is longer");
                let steps = wide_steps(steps.first_chunk().expect("eight steps"));
                for (narrow, plane) in narrow.iter_mut().zip([high, low]) {
                    let sums = lane_sums(codes, &plane.fields[b]);
                    let offsets: [v128; 4] = bytemuck::cast(plane.offsets[b]);
                    for q in 0..4 {
                        let s = i32x4_sub(i32x4_shl(sums[q], 1), offsets[q]);
                        *narrow = i32x4_add(*narrow, i32x4_mul(s, steps[q]));
                    }
                }
            }
            for (sum, narrow) in sums.iter_mut().zip(narrow) {
                let lanes: [i32; 4] = bytemuck::cast(narrow);
                *sum += lanes.into_iter().map(i64::from).sum::<i64>();
            }
        }
        256 * sums[0] + sums[1]
    }
}

/// The sums of one panel's rows, in units of their scales.
#[inline(always)]
fn panel_sums(isa: Simd128, panel: &[[Line; SKETCH_LINES]], probe: &Probe) -> [v128; 4] {
    let (high, low, offsets) = probe.groups();
    let (high, low, offsets) = (high.as_chunks::<4>().0, low.as_chunks::<4>().0, offsets.as_chunks::<4>().0);
    let mut sums = isa.splat(0.0);
    for (((block, high), low), offsets) in panel.iter().zip(high).zip(low).zip(offsets) {
        let (codes, _) = block[1..].as_chunks::<4>();
        let steps: [v128; 4] = bytemuck::cast(block[0].0);
        for g in 0..4 {
            let (high, low) = (group_sums(&codes[g], &high[g]), group_sums(&codes[g], &low[g]));
            let offset = i32x4_splat(offsets[g]);
            let mut s = isa.zero_i32();
            for q in 0..4 {
                s[q] = i32x4_sub(i32x4_shl(i32x4_add(i32x4_shl(high[q], 8), low[q]), 1), offset);
            }
            let (first, second) = (u16x8_extend_low_u8x16(steps[g]), u16x8_extend_high_u8x16(steps[g]));
            let m = [
                u32x4_extend_low_u16x8(first),
                u32x4_extend_high_u16x8(first),
                u32x4_extend_low_u16x8(second),
                u32x4_extend_high_u16x8(second),
            ];
            sums = isa.fma(isa.i32_to_f32(m), isa.i32_to_f32(s), sums);
        }
    }
    sums
}

/// `Σ coarse · x` over one group.
#[inline(always)]
fn group_sums(codes: &[Line; 4], x: &[i8; SKETCH_GROUP]) -> [v128; 4] {
    let mask = i16x8_splat(15);
    let mut sums = [i32x4_splat(0); 4];
    for (line, x) in codes.iter().zip(x.as_chunks::<8>().0) {
        let x = i16x8_extend_low_i8x16(i64x2_splat(bytemuck::cast(*x)));
        // Columns of the low halves of bytes, then of the high ones; of each the even, then the odd.
        let x = [repeat::<0, 2>(x), repeat::<1, 3>(x), repeat::<4, 6>(x), repeat::<5, 7>(x)];
        let quarters: [v128; 4] = bytemuck::cast(line.0);
        for (sum, quarter) in sums.iter_mut().zip(quarters) {
            for (x, shift) in x.into_iter().zip([0, 8, 4, 12]) {
                let codes = v128_and(u16x8_shr(quarter, shift), mask);
                *sum = i32x4_add(*sum, i32x4_dot_i16x8(codes, x));
            }
        }
    }
    sums
}

/// Blocks after which the sums of a lane are widened: a block adds at most 255 · 16 · 3 · 128 four times,
/// for its four quarters.
const RUN_BLOCKS: usize = (i32::MAX / (4 * 255 * 16 * 3 * 128)) as usize;

/// Eight steps for sixteen lanes, two neighbouring ones each.
#[inline(always)]
fn wide_steps(steps: &[u8; 8]) -> [v128; 4] {
    let mut wide = [[0i32; 4]; 4];
    for (lane, wide) in wide.as_flattened_mut().iter_mut().enumerate() {
        *wide = i32::from(steps[lane / 2]);
    }
    bytemuck::cast(wide)
}

/// `Σ fine · x` over the sixteen columns of each lane of a block.
#[inline(always)]
fn lane_sums(codes: &[u8; 64], fields: &[[i8; 64]; 4]) -> [v128; 4] {
    let codes: [v128; 4] = bytemuck::cast(*codes);
    let mut sums = [i32x4_splat(0); 4];
    for (f, field) in fields.iter().enumerate() {
        let x: [v128; 4] = bytemuck::cast(*field);
        for q in 0..4 {
            let [even, odd] = even_and_odd(codes[q], 2 * f as u32);
            let even = i32x4_dot_i16x8(even, i16x8_shr(i16x8_shl(x[q], 8), 8));
            sums[q] = i32x4_add(sums[q], i32x4_add(even, i32x4_dot_i16x8(odd, i16x8_shr(x[q], 8))));
        }
    }
    sums
}
