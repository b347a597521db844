//! Sketches by either of [`products`](super::products), four rows of a panel or four lanes of a
//! block at a time.

use std::arch::aarch64::*;

use bytemuck::cast;

use super::panels::codes;
use super::{Level, Neon};
use crate::arch::sketch::check_screen;
use crate::arch::{CoarsePanels, FineBlock, Line, PANEL_ROWS, Probe, SKETCH_GROUP, SKETCH_LINES, SketchOps};

impl SketchOps for Neon {
    fn screen(&self, panels: CoarsePanels<'_>, scales: &[f32], probe: &Probe, out: &mut [f32]) {
        check_screen(panels, scales, probe, out);
        match self.level {
            // SAFETY: `self` exists only where `detect` found this feature.
            Level::Base => unsafe { smlal::screen(panels, scales, probe, out) },
            // SAFETY: these levels tell that `detect_dotprod` found these features.
            Level::DotProd | Level::I8mm => unsafe { sdot::screen(panels, scales, probe, out) },
        }
    }

    fn refine(&self, row: &[FineBlock], probe: &Probe) -> i64 {
        match self.level {
            // SAFETY: `self` exists only where `detect` found this feature.
            Level::Base => unsafe { smlal::refine(row, probe) },
            // SAFETY: these levels tell that `detect_dotprod` found these features.
            Level::DotProd | Level::I8mm => unsafe { sdot::refine(row, probe) },
        }
    }
}

/// Blocks after which the sums of a lane are widened: a block adds at most 255 · 16 · 3 · 128.
const RUN_BLOCKS: usize = (i32::MAX / (255 * 16 * 3 * 128)) as usize;

#[target_feature(enable = "neon")]
#[inline]
fn from_u8(x: uint8x16_t) -> [int32x4_t; 4] {
    let zero = vdupq_n_u8(0);
    let (low, high) = (vreinterpretq_u16_u8(vzip1q_u8(x, zero)), vreinterpretq_u16_u8(vzip2q_u8(x, zero)));
    let zero = vdupq_n_u16(0);
    cast([vzip1q_u16(low, zero), vzip2q_u16(low, zero), vzip1q_u16(high, zero), vzip2q_u16(high, zero)])
}

macro_rules! kernels {
    ($features:literal, $products:ident) => {
        use super::super::products::$products::{dot, dot_word, steps, widen, zero};
        use super::*;

        /// A group is eight steps of four bits, a lane of a block four steps of two.
        const _: () = assert!(steps(15 * 128) >= 8 && steps(3 * 128) >= 4);

        #[target_feature(enable = $features)]
        pub(crate) fn screen(panels: CoarsePanels<'_>, scales: &[f32], probe: &Probe, out: &mut [f32]) {
            let (scales, _) = scales.as_chunks::<PANEL_ROWS>();
            let (out, _) = out.as_chunks_mut::<PANEL_ROWS>();
            let unit = vdupq_n_f32(probe.unit() * 0.5);
            for ((panel, scales), out) in panels.iter().zip(scales).zip(out) {
                let scales: [float32x4_t; 4] = cast(*scales);
                let mut sums = panel_sums(panel, probe);
                for (sum, scale) in sums.iter_mut().zip(scales) {
                    *sum = vmulq_f32(*sum, vmulq_f32(scale, unit));
                }
                *out = cast(sums);
            }
        }

        /// The sums of one panel's rows, in units of their scales.
        #[target_feature(enable = $features)]
        #[inline]
        fn panel_sums(panel: &[[Line; SKETCH_LINES]], probe: &Probe) -> [float32x4_t; 4] {
            let (high, low, offsets) = probe.groups();
            let (high, low, offsets) = (high.as_chunks::<4>().0, low.as_chunks::<4>().0, offsets.as_chunks::<4>().0);
            let mut sums = [vdupq_n_f32(0.0); 4];
            for (((block, high), low), offsets) in panel.iter().zip(high).zip(low).zip(offsets) {
                let (codes, _) = block[1..].as_chunks::<4>();
                let steps: [uint8x16_t; 4] = cast(block[0].0);
                for g in 0..4 {
                    let (high, low) = (group_sums(&codes[g], &high[g]), group_sums(&codes[g], &low[g]));
                    let steps = from_u8(steps[g]);
                    for q in 0..4 {
                        let s = vaddq_s32(vshlq_n_s32::<8>(high[q]), low[q]);
                        let s = vsubq_s32(vshlq_n_s32::<1>(s), vdupq_n_s32(offsets[g]));
                        sums[q] = vfmaq_f32(sums[q], vcvtq_f32_s32(steps[q]), vcvtq_f32_s32(s));
                    }
                }
            }
            sums
        }

        /// `Σ coarse · x` over one group, `x` one byte of the probe's integers.
        #[target_feature(enable = $features)]
        #[inline]
        fn group_sums(codes: &[Line; 4], x: &[i8; SKETCH_GROUP]) -> [int32x4_t; 4] {
            let x: [int8x16_t; 2] = cast(*x);
            let mut sums = [zero(); 4];
            for half in 0..2 {
                let lines: [[uint8x16_t; 4]; 2] = [cast(codes[2 * half].0), cast(codes[2 * half + 1].0)];
                for (q, sum) in sums.iter_mut().enumerate() {
                    *sum = dot_word::<0>(*sum, low_nibbles(lines[0][q]), x[half]);
                    *sum = dot_word::<1>(*sum, high_nibbles(lines[0][q]), x[half]);
                    *sum = dot_word::<2>(*sum, low_nibbles(lines[1][q]), x[half]);
                    *sum = dot_word::<3>(*sum, high_nibbles(lines[1][q]), x[half]);
                }
            }
            [widen(sums[0]), widen(sums[1]), widen(sums[2]), widen(sums[3])]
        }

        #[target_feature(enable = $features)]
        pub(crate) fn refine(row: &[FineBlock], probe: &Probe) -> i64 {
            let [high, low] = probe.fine();
            assert_eq!(row.len(), high.fields.len(), "one block per block");
            let mut sums = [0i64; 2];
            for first in (0..row.len()).step_by(RUN_BLOCKS) {
                let mut narrow = [[vdupq_n_s32(0); 4]; 2];
                for (b, block) in row.iter().enumerate().skip(first).take(RUN_BLOCKS) {
                    let (bytes, steps) = block.split_first_chunk::<64>().expect("a block is longer");
                    let bytes: [uint8x16_t; 4] = cast(*bytes);
                    let steps = steps_of_lanes(steps.first_chunk().expect("eight steps"));
                    for (narrow, plane) in narrow.iter_mut().zip([high, low]) {
                        let offsets: [int32x4_t; 4] = cast(plane.offsets[b]);
                        let fields: [[int8x16_t; 4]; 4] = cast(plane.fields[b]);
                        for q in 0..4 {
                            let mut s = zero();
                            for f in 0..4 {
                                s = dot(s, codes(bytes[q], f), fields[f][q]);
                            }
                            let s = vsubq_s32(vshlq_n_s32::<1>(widen(s)), offsets[q]);
                            narrow[q] = vmlaq_s32(narrow[q], s, steps[q]);
                        }
                    }
                }
                for (sum, narrow) in sums.iter_mut().zip(narrow) {
                    for lanes in narrow {
                        *sum += vaddlvq_s32(lanes);
                    }
                }
            }
            256 * sums[0] + sums[1]
        }
    };
}

mod smlal {
    kernels!("neon", smlal);
}

mod sdot {
    kernels!("neon,dotprod", sdot);
}

#[target_feature(enable = "neon")]
#[inline]
fn low_nibbles(bytes: uint8x16_t) -> int8x16_t {
    vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)))
}

#[target_feature(enable = "neon")]
#[inline]
fn high_nibbles(bytes: uint8x16_t) -> int8x16_t {
    vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes))
}

/// Each of eight steps for two lanes.
#[target_feature(enable = "neon")]
#[inline]
fn steps_of_lanes(steps: &[u8; 8]) -> [int32x4_t; 4] {
    let steps = vcombine_u8(cast(*steps), vdup_n_u8(0));
    from_u8(vzip1q_u8(steps, steps))
}
