//! A table's sketch: few bits of every weight, to rule rows out without reading them.
//!
//! Groups of [`SKETCH_GROUP`] columns share a step, `d · m` with one `f32` d per
//! row and one byte m per group. A weight's code has six bits, and stands for
//! the middle of its cell:
//!
//! ```text
//! weight ≈ (code − 31.5) · step/4          code = 4·coarse + fine
//!        = (coarse − 7.5) · step  +  (fine − 1.5) · step/4
//! ```
//!
//! The *coarse* four bits of all rows are read for every token, so they lie as one
//! stream, in panels of 16 rows; a block of a panel is [`SKETCH_LINES`] lines and
//! covers [`SKETCH_COLS`] columns:
//!
//! ```text
//! line 0             steps         byte 16g + r        m of row r, group g < 4
//! line 1 + 4g + l    codes of      byte 4r + j         bits 3..0   column 32g + 8l + j
//! (g, l < 4)         group g       (r < 16, j < 4)     bits 7..4   column 32g + 8l + 4 + j
//! ```
//!
//! The *fine* two bits are read for single rows, so they lie row by row, with a copy of
//! the row's steps; a block of a row is [`FINE_BYTES`] bytes and covers [`FINE_COLS`] columns:
//!
//! ```text
//! bytes 0 .. 64      codes         byte 4l + j         bits 2f+1..2f   column 16l + 4f + j
//! bytes 64 .. 72     steps         byte 64 + g         m of group g < 8
//! ```
//!
//! The vector that meets the rows is rounded to sixteen bits, as two bytes:
//! `x ≈ unit · (256·high + low)` ([`Probe`]).

use super::Line;
use super::sealed::Sealed;
use crate::memory::Buffer;

/// Rows of a panel: one per lane.
pub const PANEL_ROWS: usize = 16;

/// Columns that share a step.
pub const SKETCH_GROUP: usize = 32;

/// Columns of a block of coarse codes.
pub const SKETCH_COLS: usize = 128;

/// Lines of a block of coarse codes: one of steps, sixteen of codes.
pub const SKETCH_LINES: usize = 17;

/// Columns of a block of fine codes.
pub const FINE_COLS: usize = 256;

/// Bytes of a block of fine codes.
pub const FINE_BYTES: usize = 72;

/// A block of one row's fine codes and steps.
pub type FineBlock = [u8; FINE_BYTES];

/// What is known of a row besides its codes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowSketch {
    /// d: a step is d times the group's byte. Has at most 16 significant bits.
    pub scale: f32,
    /// At least ‖row − coarse‖; infinite for a row that has no sketch.
    pub coarse_residual: f32,
    /// At least ‖coarse‖.
    pub coarse_norm: f32,
    /// At least ‖row − (coarse + fine)‖; infinite for a row that has no sketch.
    pub fine_residual: f32,
}

/// Columns with their padding: whole blocks of either plane.
pub(crate) fn padded_cols(cols: usize) -> usize {
    cols.next_multiple_of(FINE_COLS).max(FINE_COLS)
}

/// The largest magnitude of a probe's integers, so that the high byte is at most 127.
const PROBE_MAX: i32 = 127 * 256;

/// A number to which adding one below 2²² in magnitude leaves no fraction, 1.5 · 2²³: the sum is rounded to nearest, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// A vector rounded to `unit · (256·high + low)`, in the orders in which sketches need it.
#[derive(Debug, Default)]
pub struct Probe {
    unit: f32,
    cols: usize,
    /// In the order of the columns.
    high: Buffer<i8>,
    low: Buffer<i8>,
    /// 15 times each group's sum.
    offsets: Buffer<i32>,
    /// In the order of the fine codes: block, field f, lane l, byte j.
    fine_high: Buffer<i8>,
    fine_low: Buffer<i8>,
    /// Three times the sum of each lane's sixteen columns.
    fine_high_offsets: Buffer<i32>,
    fine_low_offsets: Buffer<i32>,
    norm: f64,
    error: f64,
}

impl Probe {
    /// Rounds `x`; false, and no probe, where `x` is not finite, all zero, or of a size at
    /// which its products could leave the range of `f32`.
    pub fn set(&mut self, x: &[f32]) -> bool {
        let largest = x.iter().fold(0.0f32, |max, x| if x.abs() > max || x.is_nan() { x.abs() } else { max });
        if !(SMALLEST_PROBE..=LARGEST_PROBE).contains(&largest) {
            return false;
        }
        self.resize(x.len());
        self.unit = largest / PROBE_MAX as f32;
        let per_unit = 1.0 / self.unit;
        let (mut norm, mut error) = (0.0f64, 0.0f64);
        for (c, x) in x.iter().enumerate() {
            // To the nearest integer, ties to even, without the call that compilers make of it for any x86-64.
            let rounded = (x * per_unit + ROUNDER) - ROUNDER;
            let q = (rounded as i32).clamp(-PROBE_MAX, PROBE_MAX);
            let high = (q + 128) >> 8;
            self.high[c] = high as i8;
            self.low[c] = (q - 256 * high) as i8;
            let rest = f64::from(*x) - f64::from(q) * f64::from(self.unit);
            norm += f64::from(*x) * f64::from(*x);
            error += rest * rest;
        }
        // Rounding in f64 is far below what this adds.
        self.norm = norm.sqrt() * (1.0 + 1e-9);
        self.error = error.sqrt() * (1.0 + 1e-9);
        self.arrange();
        true
    }

    fn resize(&mut self, cols: usize) {
        if self.cols == cols {
            return;
        }
        let padded = padded_cols(cols);
        self.cols = cols;
        for plane in [&mut self.high, &mut self.low, &mut self.fine_high, &mut self.fine_low] {
            *plane = Buffer::zeroed(padded);
        }
        self.offsets = Buffer::zeroed(padded / SKETCH_GROUP);
        self.fine_high_offsets = Buffer::zeroed(padded / 16);
        self.fine_low_offsets = Buffer::zeroed(padded / 16);
    }

    /// The sums, and the order of the fine codes. Padding is zero and stays so.
    fn arrange(&mut self) {
        let groups = self.high.as_chunks::<SKETCH_GROUP>().0.iter().zip(self.low.as_chunks::<SKETCH_GROUP>().0);
        for (offset, (high, low)) in self.offsets.iter_mut().zip(groups) {
            *offset = 15 * (256 * sum(high) + sum(low));
        }
        for (plane, fine, offsets) in [
            (&self.high, &mut self.fine_high, &mut self.fine_high_offsets),
            (&self.low, &mut self.fine_low, &mut self.fine_low_offsets),
        ] {
            for (block, fine) in plane.as_chunks::<FINE_COLS>().0.iter().zip(fine.as_chunks_mut::<FINE_COLS>().0) {
                for (l, lane) in block.as_chunks::<16>().0.iter().enumerate() {
                    for (f, word) in lane.as_chunks::<4>().0.iter().enumerate() {
                        fine[64 * f + 4 * l..][..4].copy_from_slice(word);
                    }
                }
            }
            for (offset, lane) in offsets.iter_mut().zip(plane.as_chunks::<16>().0) {
                *offset = 3 * sum(lane);
            }
        }
    }

    /// What an integer of the rounded vector is worth.
    pub fn unit(&self) -> f32 {
        self.unit
    }

    /// Columns, without padding.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// At least ‖x‖.
    pub fn norm(&self) -> f64 {
        self.norm
    }

    /// At least ‖x − rounded x‖.
    pub fn error(&self) -> f64 {
        self.error
    }

    /// Per group of columns: high bytes, low bytes, and 15 times the sum of `256·high + low`.
    pub(in crate::arch) fn groups(&self) -> (&[[i8; SKETCH_GROUP]], &[[i8; SKETCH_GROUP]], &[i32]) {
        (self.high.as_chunks().0, self.low.as_chunks().0, &self.offsets)
    }

    /// The high and the low bytes, as the fine codes meet them.
    pub(in crate::arch) fn fine(&self) -> [FinePlane<'_>; 2] {
        [(&self.fine_high, &self.fine_high_offsets), (&self.fine_low, &self.fine_low_offsets)].map(
            |(plane, offsets)| FinePlane { fields: plane.as_chunks().0.as_chunks().0, offsets: offsets.as_chunks().0 },
        )
    }
}

/// One byte of a probe's integers, for each block of fine codes.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch) struct FinePlane<'a> {
    /// The bytes that meet each of the four fields.
    pub(in crate::arch) fields: &'a [[[i8; 64]; 4]],
    /// Three times the sum of each lane's sixteen columns.
    pub(in crate::arch) offsets: &'a [[i32; 16]],
}

/// The smallest and largest magnitude of a probe: with rows in 2⁻⁴⁰ … 2⁴⁰ (`generic/sketch.rs`)
/// no product or norm that matters is subnormal or overflows.
const SMALLEST_PROBE: f32 = 1.0 / (1u64 << 40) as f32;
const LARGEST_PROBE: f32 = (1u64 << 40) as f32;

fn sum(values: &[i8]) -> i32 {
    values.iter().map(|v| i32::from(*v)).sum()
}

/// Panels of coarse codes.
#[derive(Debug, Clone, Copy)]
pub struct CoarsePanels<'a> {
    lines: &'a [Line],
    lines_per_panel: usize,
}

impl<'a> CoarsePanels<'a> {
    /// `lines` as panels of rows of `cols` columns.
    ///
    /// # Panics
    /// They are not whole panels.
    pub fn new(lines: &'a [Line], cols: usize) -> Self {
        let lines_per_panel = padded_cols(cols) / SKETCH_COLS * SKETCH_LINES;
        assert!(lines.len().is_multiple_of(lines_per_panel), "whole panels");
        Self { lines, lines_per_panel }
    }

    /// Number of panels.
    pub fn len(&self) -> usize {
        self.lines.len() / self.lines_per_panel
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The blocks of `len` panels at a time, of which the last may be fewer.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::arch) fn groups(&self, len: usize) -> impl Iterator<Item = &'a [[Line; SKETCH_LINES]]> + use<'a> {
        self.lines.chunks(len * self.lines_per_panel).map(|panels| panels.as_chunks().0)
    }

    /// The blocks of the panel at `place`.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(in crate::arch) fn panel(&self, place: usize) -> &'a [[Line; SKETCH_LINES]] {
        self.lines[place * self.lines_per_panel..][..self.lines_per_panel].as_chunks().0
    }

    /// The panels, each as its blocks.
    pub(in crate::arch) fn iter(&self) -> impl Iterator<Item = &'a [[Line; SKETCH_LINES]]> {
        self.lines.chunks_exact(self.lines_per_panel).map(|panel| panel.as_chunks().0)
    }
}

/// Products of a sketch with a [`Probe`].
///
/// The bodies given here are the definition, and what an instruction set without
/// its own uses. Results have the same bits everywhere: integer sums are exact, and the
/// groups of a row are added by fused multiply-add in ascending order, one row per lane.
pub trait SketchOps: Sealed {
    /// `out[r] = (Σ_g m[r][g] · s[r][g]) · (scales[r] · unit/2)` for every row of every panel,
    /// with `s = Σ (2·coarse − 15)·x` over the columns of the group and `x = 256·high + low`.
    ///
    /// A sum s is at most 32 · 15 · 127 · 256, below 2²⁴, so it is exact as `f32`.
    ///
    /// # Panics
    /// `scales` or `out` is not one per row, or `probe` has another width.
    fn screen(&self, panels: CoarsePanels<'_>, scales: &[f32], probe: &Probe, out: &mut [f32]) {
        check_screen(panels, scales, probe, out);
        let (high, low, offsets) = probe.groups();
        for (p, panel) in panels.iter().enumerate() {
            for r in 0..PANEL_ROWS {
                let mut sum = 0.0f32;
                for g in 0..4 * panel.len() {
                    let [steps, codes @ ..] = &panel[g / 4];
                    let mut s = [0i32; 2];
                    for c in 0..SKETCH_GROUP {
                        let byte = codes[4 * (g % 4) + c / 8].0[4 * r + c % 4];
                        let code = i32::from(byte >> (c & 4) & 15);
                        s[0] += code * i32::from(high[g][c]);
                        s[1] += code * i32::from(low[g][c]);
                    }
                    let s = 2 * (256 * s[0] + s[1]) - offsets[g];
                    sum = f32::from(steps.0[16 * (g % 4) + r]).mul_add(s as f32, sum);
                }
                let row = PANEL_ROWS * p + r;
                out[row] = sum * (scales[row] * (probe.unit * 0.5));
            }
        }
    }

    /// `Σ_g m[g] · Σ (2·fine − 3)·(256·high + low)` over all columns of one row: exact.
    ///
    /// # Panics
    /// `row` and `probe` differ in width.
    fn refine(&self, row: &[FineBlock], probe: &Probe) -> i64 {
        let sums = probe.fine().map(|plane| {
            assert_eq!(row.len(), plane.fields.len(), "one block per block");
            let mut sum = 0i64;
            for ((block, fields), offsets) in row.iter().zip(plane.fields).zip(plane.offsets) {
                for l in 0..16 {
                    let mut s = 0;
                    for (f, field) in fields.iter().enumerate() {
                        for byte in 4 * l..4 * l + 4 {
                            s += i32::from(block[byte] >> (2 * f) & 3) * i32::from(field[byte]);
                        }
                    }
                    sum += i64::from(block[64 + l / 2]) * i64::from(2 * s - offsets[l]);
                }
            }
            sum
        });
        256 * sums[0] + sums[1]
    }
}

/// What [`SketchOps::screen`] demands of its operands.
pub(in crate::arch) fn check_screen(panels: CoarsePanels<'_>, scales: &[f32], probe: &Probe, out: &[f32]) {
    let rows = panels.len() * PANEL_ROWS;
    assert_eq!((scales.len(), out.len()), (rows, rows), "one scale and one output per row");
    let blocks = padded_cols(probe.cols()) / SKETCH_COLS;
    assert_eq!(panels.lines_per_panel, blocks * SKETCH_LINES, "one integer per column");
}
