//! Sketches with `vpmaddubsw`, eight rows of a panel or eight lanes of a block at a time.

use std::arch::x86_64::*;

use super::super::stream;
use super::Avx2;
use crate::arch::sketch::check_screen;
use crate::arch::{CoarsePanels, FineBlock, Line, PANEL_ROWS, Probe, SKETCH_GROUP, SKETCH_LINES, SketchOps};

impl SketchOps for Avx2 {
    fn screen(&self, panels: CoarsePanels<'_>, scales: &[f32], probe: &Probe, out: &mut [f32]) {
        check_screen(panels, scales, probe, out);
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { screen(panels, scales, probe, out) }
    }

    fn refine(&self, row: &[FineBlock], probe: &Probe) -> i64 {
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { refine(row, probe) }
    }
}

/// Streams in which coarse codes are read: on Zen 3 one takes longer, and so do three (docs/speed.md).
const STREAMS: usize = 2;

/// Each stream is a run of neighbouring panels. A panel that is left over is read alone.
#[target_feature(enable = "avx2,fma")]
pub(in crate::arch::x86_64) fn screen(panels: CoarsePanels<'_>, scales: &[f32], probe: &Probe, out: &mut [f32]) {
    let (scales, _) = scales.as_chunks::<PANEL_ROWS>();
    let (out, _) = out.as_chunks_mut::<PANEL_ROWS>();
    let length = panels.len() / STREAMS;
    for i in 0..length {
        let places: [usize; STREAMS] = std::array::from_fn(|stream| stream * length + i);
        for (place, sums) in places.into_iter().zip(panel_sums(places.map(|place| panels.panel(place)), probe)) {
            out[place] = scaled(sums, &scales[place], probe);
        }
    }
    for place in STREAMS * length..panels.len() {
        let [sums] = panel_sums([panels.panel(place)], probe);
        out[place] = scaled(sums, &scales[place], probe);
    }
}

/// A panel's sums, in units of their scales, times these.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn scaled(sums: [__m256; 2], scales: &[f32; PANEL_ROWS], probe: &Probe) -> [f32; PANEL_ROWS] {
    let unit = _mm256_set1_ps(probe.unit() * 0.5);
    let scales: [__m256; 2] = bytemuck::cast(*scales);
    bytemuck::cast([
        _mm256_mul_ps(sums[0], _mm256_mul_ps(scales[0], unit)),
        _mm256_mul_ps(sums[1], _mm256_mul_ps(scales[1], unit)),
    ])
}

/// The sums of the rows of `P` panels, a block of each in turn: with a line of each, sums of 16 bits would be twice as many, by
/// counting more than there are registers for.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn panel_sums<const P: usize>(panels: [&[[Line; SKETCH_LINES]]; P], probe: &Probe) -> [[__m256; 2]; P] {
    let (high, low, offsets) = probe.groups();
    let (high, low, offsets) = (high.as_chunks::<4>().0, low.as_chunks::<4>().0, offsets.as_chunks::<4>().0);
    let mut sums = [[_mm256_setzero_ps(); 2]; P];
    for (b, ((high, low), offsets)) in high.iter().zip(low).zip(offsets).enumerate() {
        for p in 0..P {
            add_block(&panels[p][b], high, low, offsets, &mut sums[p]);
        }
    }
    sums
}

/// Adds a block's four groups to `sums`: the integers of all first, so that they and the sums do not want registers at the
/// same time.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add_block(
    [steps, codes @ ..]: &[Line; SKETCH_LINES],
    high: &[[i8; SKETCH_GROUP]; 4],
    low: &[[i8; SKETCH_GROUP]; 4],
    offsets: &[i32; 4],
    sums: &mut [__m256; 2],
) {
    stream::prefetch(&steps.0, stream::AHEAD);
    let (steps, codes) = (steps.0.as_chunks::<8>().0, codes.as_chunks::<4>().0);
    let mut integers = [[_mm256_setzero_si256(); 2]; 4];
    for g in 0..4 {
        integers[g] = group_sums(&codes[g], &high[g], &low[g]);
    }
    for g in 0..4 {
        for half in 0..2 {
            let s = _mm256_sub_epi32(integers[g][half], _mm256_set1_epi32(offsets[g]));
            let m = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(steps[2 * g + half])));
            sums[half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(m), _mm256_cvtepi32_ps(s), sums[half]);
        }
    }
}

/// The most that `vpmaddubsw` gives over a group: eight steps of two products of code 15 with -128.
const _: () = assert!(8 * 2 * 15 * 128 <= i16::MAX as i32);

/// Twice `Σ coarse · (256·high + low)` over one group.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn group_sums(codes: &[Line; 4], high: &[i8; SKETCH_GROUP], low: &[i8; SKETCH_GROUP]) -> [__m256i; 2] {
    let mask = _mm256_set1_epi8(0x0f);
    let (high, low): ([i32; 8], [i32; 8]) = (bytemuck::cast(*high), bytemuck::cast(*low));
    let mut narrow = [[_mm256_setzero_si256(); 2]; 2];
    for l in 0..4 {
        stream::prefetch(&codes[l].0, stream::AHEAD);
        let halves: [__m256i; 2] = bytemuck::cast(codes[l].0);
        for half in 0..2 {
            let first = _mm256_and_si256(halves[half], mask);
            let second = _mm256_and_si256(_mm256_srli_epi32::<4>(halves[half]), mask);
            for (plane, x) in [(0, &high), (1, &low)] {
                let first = _mm256_maddubs_epi16(first, _mm256_set1_epi32(x[2 * l]));
                let second = _mm256_maddubs_epi16(second, _mm256_set1_epi32(x[2 * l + 1]));
                narrow[plane][half] = _mm256_add_epi16(narrow[plane][half], _mm256_add_epi16(first, second));
            }
        }
    }
    let mut sums = [_mm256_setzero_si256(); 2];
    for half in 0..2 {
        let high = _mm256_madd_epi16(narrow[0][half], _mm256_set1_epi16(2 * 256));
        let low = _mm256_madd_epi16(narrow[1][half], _mm256_set1_epi16(2));
        sums[half] = _mm256_add_epi32(high, low);
    }
    sums
}

/// Blocks after which the sums of a lane are widened: a block adds at most 255 · 16 · 3 · 128 twice,
/// for its two halves.
const RUN_BLOCKS: usize = (i32::MAX / (2 * 255 * 16 * 3 * 128)) as usize;

#[target_feature(enable = "avx2,fma")]
pub(in crate::arch::x86_64) fn refine(row: &[FineBlock], probe: &Probe) -> i64 {
    let [high, low] = probe.fine();
    assert_eq!(row.len(), high.fields.len(), "one block per block");
    let (mask, ones) = (_mm256_set1_epi8(3), _mm256_set1_epi16(1));
    let mut sums = [0i64; 2];
    for first in (0..row.len()).step_by(RUN_BLOCKS) {
        let mut narrow = [_mm256_setzero_si256(); 2];
        for (b, block) in row.iter().enumerate().skip(first).take(RUN_BLOCKS) {
            let (codes, steps) = block.split_first_chunk::<64>().expect("a block is longer");
            let steps: [u8; 8] = *steps.first_chunk().expect("eight steps");
            let codes: [__m256i; 2] = bytemuck::cast(*codes);
            let steps = _mm_cvtsi64_si128(i64::from_le_bytes(steps));
            let steps = _mm_unpacklo_epi8(steps, steps);
            let steps = [_mm256_cvtepu8_epi32(steps), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(steps))];
            for (narrow, plane) in narrow.iter_mut().zip([high, low]) {
                let offsets: [__m256i; 2] = bytemuck::cast(plane.offsets[b]);
                for half in 0..2 {
                    // At most four times two products of code 3 with -128: far from saturating.
                    let mut s = _mm256_setzero_si256();
                    for f in 0..4 {
                        let field = _mm256_srlv_epi32(codes[half], _mm256_set1_epi32(2 * f as i32));
                        let x: [__m256i; 2] = bytemuck::cast(plane.fields[b][f]);
                        s = _mm256_add_epi16(s, _mm256_maddubs_epi16(_mm256_and_si256(field, mask), x[half]));
                    }
                    let s = _mm256_slli_epi32::<1>(_mm256_madd_epi16(s, ones));
                    let s = _mm256_mullo_epi32(_mm256_sub_epi32(s, offsets[half]), steps[half]);
                    *narrow = _mm256_add_epi32(*narrow, s);
                }
            }
        }
        for (sum, narrow) in sums.iter_mut().zip(narrow) {
            let lanes: [i32; 8] = bytemuck::cast(narrow);
            *sum += lanes.into_iter().map(i64::from).sum::<i64>();
        }
    }
    256 * sums[0] + sums[1]
}
