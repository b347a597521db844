//! Sketches with `vpdpbusd`: a line of coarse codes is two of its operands, a
//! block of fine codes four, and each meets the high and the low byte of the vector.

use std::arch::x86_64::*;

use super::super::avx2::sketch as avx2;
use super::super::stream::{self, STREAMS};
use super::Avx512;
use crate::arch::sketch::check_screen;
use crate::arch::{CoarsePanels, FineBlock, Line, PANEL_ROWS, Probe, SKETCH_GROUP, SKETCH_LINES, SketchOps};

/// Without VNNI as on AVX2.
impl SketchOps for Avx512<false> {
    fn screen(&self, panels: CoarsePanels<'_>, scales: &[f32], probe: &Probe, out: &mut [f32]) {
        check_screen(panels, scales, probe, out);
        // SAFETY: AVX2 and FMA are among the features that `detect` found.
        unsafe { avx2::screen(panels, scales, probe, out) }
    }

    fn refine(&self, row: &[FineBlock], probe: &Probe) -> i64 {
        // SAFETY: AVX2 and FMA are among the features that `detect` found.
        unsafe { avx2::refine(row, probe) }
    }
}

impl SketchOps for Avx512<true> {
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

/// Some panels at a time, as many as come from memory fastest.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
fn screen(panels: CoarsePanels<'_>, scales: &[f32], probe: &Probe, out: &mut [f32]) {
    let (streams, is_far) = (stream::streams(), stream::is_amd());
    let rows = streams * PANEL_ROWS;
    for ((group, scales), out) in panels.groups(streams).zip(scales.chunks(rows)).zip(out.chunks_mut(rows)) {
        match scales.len() / PANEL_ROWS {
            1 if is_far => estimates::<1, true>(group, scales, probe, out),
            1 => estimates::<1, false>(group, scales, probe, out),
            2 => estimates::<2, false>(group, scales, probe, out),
            3 => estimates::<3, false>(group, scales, probe, out),
            STREAMS => estimates::<STREAMS, false>(group, scales, probe, out),
            _ => unreachable!("1 to {STREAMS} panels"),
        }
    }
}

/// The estimates of the rows of `P` panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
fn estimates<const P: usize, const FAR: bool>(
    blocks: &[[Line; SKETCH_LINES]],
    scales: &[f32],
    probe: &Probe,
    out: &mut [f32],
) {
    let (high, low, offsets) = probe.groups();
    let (high, low, offsets) = (high.as_chunks::<4>().0, low.as_chunks::<4>().0, offsets.as_chunks::<4>().0);
    let len = offsets.len();
    let (high, low) = (&high[..len], &low[..len]);
    let panels: [&[[Line; SKETCH_LINES]]; P] = std::array::from_fn(|p| &blocks[p * len..][..len]);
    let mut sums = [_mm512_setzero_ps(); P];
    for b in 0..len {
        for p in 0..P {
            let block = &panels[p][b];
            // AMD's want to be asked for a line at a time, before each of them.
            let together = if FAR { &block[..1] } else { &block[..] };
            together.iter().for_each(|line| stream::ask::<FAR>(&line.0, stream::AHEAD));
            let (codes, _) = block[1..].as_chunks::<4>();
            let (steps, _) = block[0].0.as_chunks::<16>();
            for g in 0..4 {
                let s = group_sums::<FAR>(&codes[g], &high[b][g], &low[b][g]);
                let s = _mm512_sub_epi32(_mm512_slli_epi32::<1>(s), _mm512_set1_epi32(offsets[b][g]));
                let m = _mm512_cvtepu8_epi32(bytemuck::cast(steps[g]));
                sums[p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(m), _mm512_cvtepi32_ps(s), sums[p]);
            }
        }
    }
    let unit = _mm512_set1_ps(probe.unit() * 0.5);
    let (scales, _) = scales.as_chunks::<PANEL_ROWS>();
    let (out, _) = out.as_chunks_mut::<PANEL_ROWS>();
    for ((sum, scales), out) in sums.into_iter().zip(scales).zip(out) {
        *out = bytemuck::cast(_mm512_mul_ps(sum, _mm512_mul_ps(bytemuck::cast(*scales), unit)));
    }
}

/// `Σ coarse · (256·high + low)` over one group.
///
/// The upper codes of a line are not shifted down: masked where they lie they are sixteen
/// times themselves, at most 8 · 4 · 240 · 128 in all, and are shifted once.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
#[inline]
fn group_sums<const FAR: bool>(codes: &[Line; 4], high: &[i8; SKETCH_GROUP], low: &[i8; SKETCH_GROUP]) -> __m512i {
    let (mask, mask_16) = (_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0xf0_u8 as i8));
    let (high, low): ([i32; 8], [i32; 8]) = (bytemuck::cast(*high), bytemuck::cast(*low));
    let mut by_1 = [_mm512_setzero_si512(); 2];
    let mut by_16 = [_mm512_setzero_si512(); 2];
    for l in 0..4 {
        if FAR {
            stream::prefetch_far(&codes[l].0);
        }
        let line = bytemuck::cast(codes[l].0);
        let (codes, codes_16) = (_mm512_and_si512(line, mask), _mm512_and_si512(line, mask_16));
        by_1[0] = _mm512_dpbusd_epi32(by_1[0], codes, _mm512_set1_epi32(high[2 * l]));
        by_1[1] = _mm512_dpbusd_epi32(by_1[1], codes, _mm512_set1_epi32(low[2 * l]));
        by_16[0] = _mm512_dpbusd_epi32(by_16[0], codes_16, _mm512_set1_epi32(high[2 * l + 1]));
        by_16[1] = _mm512_dpbusd_epi32(by_16[1], codes_16, _mm512_set1_epi32(low[2 * l + 1]));
    }
    let high = _mm512_add_epi32(by_1[0], _mm512_srai_epi32::<4>(by_16[0]));
    let low = _mm512_add_epi32(by_1[1], _mm512_srai_epi32::<4>(by_16[1]));
    _mm512_add_epi32(_mm512_slli_epi32::<8>(high), low)
}

/// Blocks after which the sums of a lane are widened: a block adds at most 255 · 16 · 3 · 128.
const RUN_BLOCKS: usize = (i32::MAX / (255 * 16 * 3 * 128)) as usize;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
fn refine(row: &[FineBlock], probe: &Probe) -> i64 {
    let [high, low] = probe.fine();
    assert_eq!(row.len(), high.fields.len(), "one block per block");
    let mask = _mm512_set1_epi8(3);
    let mut sums = [0i64; 2];
    for first in (0..row.len()).step_by(RUN_BLOCKS) {
        let mut narrow = [_mm512_setzero_si512(); 2];
        for (b, block) in row.iter().enumerate().skip(first).take(RUN_BLOCKS) {
            let (codes, steps) = block.split_first_chunk::<64>().expect("a block is longer");
            let steps: [u8; 8] = *steps.first_chunk().expect("eight steps");
            let codes: __m512i = bytemuck::cast(*codes);
            let mut s = [_mm512_setzero_si512(); 2];
            for f in 0..4 {
                let field = _mm512_srlv_epi32(codes, _mm512_set1_epi32(2 * f as i32));
                let field = _mm512_and_si512(field, mask);
                s[0] = _mm512_dpbusd_epi32(s[0], field, bytemuck::cast(high.fields[b][f]));
                s[1] = _mm512_dpbusd_epi32(s[1], field, bytemuck::cast(low.fields[b][f]));
            }
            let m = _mm_cvtsi64_si128(i64::from_le_bytes(steps));
            let m = _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(m, m));
            for (i, offsets) in [(0, &high.offsets[b]), (1, &low.offsets[b])] {
                let s = _mm512_sub_epi32(_mm512_slli_epi32::<1>(s[i]), bytemuck::cast(*offsets));
                narrow[i] = _mm512_add_epi32(narrow[i], _mm512_mullo_epi32(s, m));
            }
        }
        for (sum, narrow) in sums.iter_mut().zip(narrow) {
            let halves = [_mm512_castsi512_si256(narrow), _mm512_extracti64x4_epi64::<1>(narrow)];
            let wide = _mm512_add_epi64(_mm512_cvtepi32_epi64(halves[0]), _mm512_cvtepi32_epi64(halves[1]));
            *sum += _mm512_reduce_add_epi64(wide);
        }
    }
    256 * sums[0] + sums[1]
}
