//! Sketches with `pmaddubsw`, four rows of a panel or four lanes of a block at a time.

use std::arch::x86_64::*;

use super::Sse41;
use crate::arch::generic::Lanes;
use crate::arch::sketch::check_screen;
use crate::arch::{CoarsePanels, FineBlock, Line, PANEL_ROWS, Probe, SKETCH_GROUP, SKETCH_LINES, SketchOps};

impl SketchOps for Sse41 {
    fn screen(&self, panels: CoarsePanels<'_>, scales: &[f32], probe: &Probe, out: &mut [f32]) {
        check_screen(panels, scales, probe, out);
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { screen(*self, panels, scales, probe, out) }
    }

    fn refine(&self, row: &[FineBlock], probe: &Probe) -> i64 {
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { refine(row, probe) }
    }
}

#[target_feature(enable = "ssse3,sse4.1")]
fn screen(isa: Sse41, panels: CoarsePanels<'_>, scales: &[f32], probe: &Probe, out: &mut [f32]) {
    let (scales, _) = scales.as_chunks::<PANEL_ROWS>();
    let (out, _) = out.as_chunks_mut::<PANEL_ROWS>();
    let unit = isa.splat(probe.unit() * 0.5);
    for ((panel, scales), out) in panels.iter().zip(scales).zip(out) {
        let sums = panel_sums(isa, panel, probe);
        isa.store(isa.mul(sums, isa.mul(isa.load(scales), unit)), out);
    }
}

/// The sums of one panel's rows, in units of their scales.
#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn panel_sums(isa: Sse41, panel: &[[Line; SKETCH_LINES]], probe: &Probe) -> [__m128; 4] {
    let (high, low, offsets) = probe.groups();
    let (high, low, offsets) = (high.as_chunks::<4>().0, low.as_chunks::<4>().0, offsets.as_chunks::<4>().0);
    let mut sums = isa.splat(0.0);
    for (((block, high), low), offsets) in panel.iter().zip(high).zip(low).zip(offsets) {
        let (codes, _) = block[1..].as_chunks::<4>();
        let steps: [[i32; 4]; 4] = bytemuck::cast(block[0].0);
        for g in 0..4 {
            let offset = _mm_set1_epi32(offsets[g]);
            let mut s = group_sums(&codes[g], &high[g], &low[g]);
            let mut m = isa.zero_i32();
            for quarter in 0..4 {
                s[quarter] = _mm_sub_epi32(_mm_slli_epi32::<1>(s[quarter]), offset);
                m[quarter] = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(steps[g][quarter]));
            }
            sums = isa.fma(isa.i32_to_f32(m), isa.i32_to_f32(s), sums);
        }
    }
    sums
}

/// The most that `pmaddubsw` gives over a group: eight steps of two products of code 15 with -128.
const _: () = assert!(8 * 2 * 15 * 128 <= i16::MAX as i32);

/// `Σ coarse · (256·high + low)` over one group.
#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn group_sums(codes: &[Line; 4], high: &[i8; SKETCH_GROUP], low: &[i8; SKETCH_GROUP]) -> [__m128i; 4] {
    let (mask, ones) = (_mm_set1_epi8(0x0f), _mm_set1_epi16(1));
    let (high, low): ([i32; 8], [i32; 8]) = (bytemuck::cast(*high), bytemuck::cast(*low));
    let mut narrow = [[_mm_setzero_si128(); 4]; 2];
    for l in 0..4 {
        let quarters: [__m128i; 4] = bytemuck::cast(codes[l].0);
        for (q, quarter) in quarters.into_iter().enumerate() {
            let first = _mm_and_si128(quarter, mask);
            let second = _mm_and_si128(_mm_srli_epi32::<4>(quarter), mask);
            for (plane, x) in [(0, &high), (1, &low)] {
                let first = _mm_maddubs_epi16(first, _mm_set1_epi32(x[2 * l]));
                let second = _mm_maddubs_epi16(second, _mm_set1_epi32(x[2 * l + 1]));
                narrow[plane][q] = _mm_add_epi16(narrow[plane][q], _mm_add_epi16(first, second));
            }
        }
    }
    let mut sums = [_mm_setzero_si128(); 4];
    for q in 0..4 {
        let [high, low] = [_mm_madd_epi16(narrow[0][q], ones), _mm_madd_epi16(narrow[1][q], ones)];
        sums[q] = _mm_add_epi32(_mm_slli_epi32::<8>(high), low);
    }
    sums
}

/// Blocks after which the sums of a lane are widened: a block adds at most 255 · 16 · 3 · 128 four times,
/// for its four quarters.
const RUN_BLOCKS: usize = (i32::MAX / (4 * 255 * 16 * 3 * 128)) as usize;

#[target_feature(enable = "ssse3,sse4.1")]
fn refine(row: &[FineBlock], probe: &Probe) -> i64 {
    let [high, low] = probe.fine();
    assert_eq!(row.len(), high.fields.len(), "one block per block");
    let (mask, ones) = (_mm_set1_epi8(3), _mm_set1_epi16(1));
    let mut sums = [0i64; 2];
    for first in (0..row.len()).step_by(RUN_BLOCKS) {
        let mut narrow = [_mm_setzero_si128(); 2];
        for (b, block) in row.iter().enumerate().skip(first).take(RUN_BLOCKS) {
            let (codes, steps) = block.split_first_chunk::<64>().expect("a block is longer");
            let steps = _mm_cvtsi64_si128(i64::from_le_bytes(*steps.first_chunk().expect("eight steps")));
            // A step is two neighbouring lanes'.
            let steps: [i32; 4] = bytemuck::cast(_mm_unpacklo_epi8(steps, steps));
            let codes: [__m128i; 4] = bytemuck::cast(*codes);
            for (narrow, plane) in narrow.iter_mut().zip([high, low]) {
                let offsets: [__m128i; 4] = bytemuck::cast(plane.offsets[b]);
                for q in 0..4 {
                    // At most four times two products of code 3 with -128: far from saturating.
                    let mut s = _mm_setzero_si128();
                    for f in 0..4 {
                        let field = _mm_srl_epi32(codes[q], _mm_cvtsi32_si128(2 * f as i32));
                        let x: [__m128i; 4] = bytemuck::cast(plane.fields[b][f]);
                        s = _mm_add_epi16(s, _mm_maddubs_epi16(_mm_and_si128(field, mask), x[q]));
                    }
                    let s = _mm_sub_epi32(_mm_slli_epi32::<1>(_mm_madd_epi16(s, ones)), offsets[q]);
                    *narrow =
                        _mm_add_epi32(*narrow, _mm_mullo_epi32(s, _mm_cvtepu8_epi32(_mm_cvtsi32_si128(steps[q]))));
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
