//! Sums of trit × `f32`, for inputs that are not rounded: additions of `x`, `-x` and 0.
//!
//! Lanes run over the sixteen rows of a panel. A column's trits are looked up once and multiplied with that
//! column of several tokens; a product with -1, 0 or 1 is exact, so a fused step rounds as the addition does.

use crate::arch::{Layout, Line, Panels};

use super::{LANES, Lanes};

/// Chains of additions that run side by side, so that one need not wait for itself: panels of one token,
/// or tokens of one panel.
const TILE: usize = 4;

/// `out[t * panels.rows() + r] = Σ_c trit[r][c] · x[t * stride + c]`, from zero and with columns ascending.
#[inline(always)]
pub(in crate::arch) fn trit_sums<L: Lanes>(isa: L, panels: Panels<'_>, x: &[f32], stride: usize, out: &mut [f32]) {
    assert_eq!(panels.layout(), Layout::TwoBit, "a layout with kernels");
    let rows = panels.rows();
    let tokens = out.len().checked_div(rows).unwrap_or(0);
    assert_eq!(out.len(), tokens * rows, "one sum per token and row");
    let lines_per_panel = panels.cols() / LANES;
    let mut panel = 0;
    while panel < panels.len() {
        let lines = &panels.lines()[panel * lines_per_panel..];
        let out = &mut out[panel * LANES..];
        if tokens == 1 && panel + TILE <= panels.len() {
            tile::<L, TILE, 1>(isa, lines, lines_per_panel, x, stride, out, rows);
            panel += TILE;
            continue;
        }
        for token in (0..tokens).step_by(TILE) {
            let (x, out) = (&x[token * stride..], &mut out[token * rows..]);
            match tokens - token {
                1 => tile::<L, 1, 1>(isa, lines, lines_per_panel, x, stride, out, rows),
                2 => tile::<L, 1, 2>(isa, lines, lines_per_panel, x, stride, out, rows),
                3 => tile::<L, 1, 3>(isa, lines, lines_per_panel, x, stride, out, rows),
                _ => tile::<L, 1, TILE>(isa, lines, lines_per_panel, x, stride, out, rows),
            }
        }
        panel += 1;
    }
}

/// The sums of the first `P` panels of `lines` for the first `T` rows of `x`.
#[inline(always)]
fn tile<L: Lanes, const P: usize, const T: usize>(
    isa: L,
    lines: &[Line],
    lines_per_panel: usize,
    x: &[f32],
    stride: usize,
    out: &mut [f32],
    rows: usize,
) {
    let mut panels = [lines; P];
    for p in 0..P {
        panels[p] = &lines[p * lines_per_panel..][..lines_per_panel];
    }
    let mut tokens: [&[[f32; LANES]]; T] = [&[]; T];
    for t in 0..T {
        tokens[t] = x[t * stride..][..lines_per_panel * LANES].as_chunks().0;
    }
    let mut sums = [[isa.splat(0.0); T]; P];
    for line in 0..lines_per_panel {
        for col in 0..LANES {
            // Four columns are neighbouring bytes, and the next four the next two bits of these.
            let shift = (8 * (col % 4) + 2 * (col / 4)) as u32;
            for p in 0..P {
                let trits = isa.load_trits(&panels[p][line].0, shift);
                for t in 0..T {
                    sums[p][t] = isa.fma(trits, isa.splat(tokens[t][line][col]), sums[p][t]);
                }
            }
        }
    }
    for p in 0..P {
        for t in 0..T {
            let out = out[t * rows + p * LANES..].first_chunk_mut();
            isa.store(sums[p][t], out.expect("room for all rows"));
        }
    }
}
