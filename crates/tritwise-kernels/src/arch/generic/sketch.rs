//! Making a row's sketch: steps, codes, and the norms that bound what they leave out.

use crate::arch::{RowSketch, SKETCH_GROUP};

use super::{LANES, Lanes};

/// Largest magnitudes of rows that have a sketch: next to a vector of the sizes that a
/// probe allows, nothing that matters is subnormal or overflows. Rows of zeros have one too.
const SMALLEST: f32 = 1.0 / (1u64 << 40) as f32;
const LARGEST: f32 = (1u64 << 40) as f32;

/// A row without a sketch: never ruled out.
const NONE: RowSketch =
    RowSketch { scale: 0.0, coarse_residual: f32::INFINITY, coarse_norm: 0.0, fine_residual: f32::INFINITY };

/// The six-bit codes of a row padded with zeros, and the bytes of its groups' steps.
///
/// A group's step is what makes its largest magnitude the edge of the outermost
/// cell. The scale has 16 significant bits and a byte 8, so every step is exact, and a
/// residual `fma(-(code − 31.5), step/4, w)` is rounded once.
#[inline(always)]
pub(in crate::arch) fn sketch<L: Lanes>(isa: L, row: &[f32], codes: &mut [u8], steps: &mut [u8]) -> RowSketch {
    let (groups, rest) = row.as_chunks::<SKETCH_GROUP>();
    let (codes, _) = codes.as_chunks_mut::<SKETCH_GROUP>();
    assert!(rest.is_empty() && codes.len() == groups.len() && steps.len() == groups.len(), "whole groups");

    let mut largest = isa.splat(0.0);
    for group in groups {
        let (halves, _) = group.as_chunks::<LANES>();
        largest = isa.max_magnitude(isa.max_magnitude(largest, isa.load(&halves[0])), isa.load(&halves[1]));
    }
    let largest = largest_lane(isa, largest);
    if largest == 0.0 || !(SMALLEST..=LARGEST).contains(&largest) {
        codes.as_flattened_mut().fill(0);
        steps.fill(0);
        return if largest == 0.0 { RowSketch { coarse_residual: 0.0, fine_residual: 0.0, ..NONE } } else { NONE };
    }
    // Rounded up to 16 bits: 255 steps of it reach beyond the largest group's.
    let scale = f32::from_bits(((largest / (8.0 * 255.0)).to_bits() + 0xff) & !0xff);

    let mut coarse_residual = isa.splat(0.0);
    let mut coarse_norm = isa.splat(0.0);
    let mut fine_residual = isa.splat(0.0);
    let (half, quarter) = (isa.splat(0.5), isa.splat(0.25));
    for ((group, codes), byte) in groups.iter().zip(codes).zip(steps) {
        let (halves, _) = group.as_chunks::<LANES>();
        let w = [isa.load(&halves[0]), isa.load(&halves[1])];
        let magnitude = largest_lane(isa, isa.max_magnitude(isa.max_magnitude(isa.splat(0.0), w[0]), w[1]));
        *byte = (magnitude / (8.0 * scale)).ceil().min(255.0) as u8;
        let step = f32::from(*byte) * scale;
        let per_cell = isa.splat(if *byte == 0 { 0.0 } else { 4.0 / step });
        let (step, cell) = (isa.splat(step), isa.splat(0.25 * step));
        let (codes, _) = codes.as_chunks_mut::<LANES>();
        for (w, codes) in w.into_iter().zip(codes) {
            // code − 32, rounded down.
            let code = isa.round(isa.fma(w, per_cell, isa.splat(-0.5)));
            let code = isa.max(isa.splat(-32.0), isa.min(isa.splat(31.0), code));
            let coarse = isa.round(isa.fma(code, quarter, isa.splat(-0.375)));
            let mut bytes = [0; LANES];
            isa.store_i8(isa.add(code, isa.splat(32.0)), &mut bytes);
            *codes = bytes.map(|byte| byte as u8);

            // With the signs turned: fma has no negated operand here, and squares do not mind.
            let minus_w = isa.sub(isa.splat(0.0), w);
            let coarse = isa.add(coarse, half);
            let left = isa.fma(coarse, step, minus_w);
            coarse_residual = isa.fma(left, left, coarse_residual);
            let value = isa.mul(coarse, step);
            coarse_norm = isa.fma(value, value, coarse_norm);
            let left = isa.fma(isa.add(code, half), cell, minus_w);
            fine_residual = isa.fma(left, left, fine_residual);
        }
    }

    // A sum of n squares in sixteen partials is off by at most n/16 + 6 roundings of 2⁻²⁴ each, a
    // square by another three (its root's and its factor's, halved by the root, are among
    // them). What squares lost to underflow, at most 2⁻¹⁵⁰ each, is below 2⁻⁵⁰ of any row's norm.
    let up = 1.0 + (row.len() as f32 / 16.0 + 16.0) / (1u32 << 23) as f32;
    let coarse_norm = isa.sum(coarse_norm).sqrt() * up;
    let lost = largest / (1u64 << 50) as f32;
    RowSketch {
        scale,
        coarse_residual: isa.sum(coarse_residual).sqrt() * up + lost,
        coarse_norm: coarse_norm + lost,
        fine_residual: isa.sum(fine_residual).sqrt() * up + lost,
    }
}

/// The largest lane of magnitudes, compared as bits, so that a NaN is the largest.
#[inline(always)]
fn largest_lane<L: Lanes>(isa: L, x: L::F32) -> f32 {
    let mut lanes = [0.0; LANES];
    isa.store(x, &mut lanes);
    let mut largest = 0;
    for lane in lanes {
        largest = if lane.to_bits() > largest { lane.to_bits() } else { largest };
    }
    f32::from_bits(largest)
}

/// Asks for the cache lines of `bytes`; where they begin inside a line, its last bytes may be missed.
#[inline(always)]
pub(in crate::arch) fn prefetch<L: Lanes>(isa: L, bytes: &[u8]) {
    for line in bytes.chunks(64) {
        isa.prefetch(line, 0);
    }
}
