//! The sketch of a whole table, and the bounds it proves.
//!
//! For a row w and a vector x, let L be the logit as the full head computes it,
//! ŵ the row's coarse or fine sketch, x̂ the rounded vector, r = w − ŵ, and E the
//! estimate that the kernels compute. Write u = 2⁻²⁴ and γₖ = k·u / (1 − k·u)
//! (Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.1). Then
//!
//! ```text
//! |L − w·x|   ≤ γₘ ‖w‖‖x‖                 m = cols/16 + 5: a term of Σ₁₆ meets cols/16 fused
//!                                         multiply-adds and 4 additions, and Σ|wᵢxᵢ| ≤ ‖w‖‖x‖
//! |w·x − ŵ·x̂| ≤ ‖r‖‖x‖ + ‖ŵ‖‖x − x̂‖       Cauchy and Schwarz, twice
//! |ŵ·x̂ − E|   ≤ γₙ ‖ŵ‖‖x̂‖                 n = groups + 8: group sums are exact, adding them rounds
//!                                         once per group, scaling a few times
//! ```
//!
//! With ‖w‖ ≤ ‖r‖ + ‖ŵ‖ and ‖x̂‖ ≤ ‖x‖ + ‖x − x̂‖, everything is linear in the two norms that
//! are kept of each row, rounded up:
//!
//! ```text
//! |L − E| ≤ ‖r‖·α + ‖ŵ‖·β + τ      α = ‖x‖(1 + γₘ)
//!                                  β = ‖x − x̂‖ + γₘ‖x‖ + γₙ(‖x‖ + ‖x − x̂‖)
//! ```
//!
//! The fine estimate is the coarse one, already rounded, plus its own sum. Its
//! ‖ŵ‖ is at most ‖r‖ + ‖ŵ‖ of the coarse sketch plus ‖r‖ of its own, and the roundings of
//! both sums together are within the same γₙ of that. The few roundings of this right-hand side,
//! and of adding it to E, are paid for by 16u. τ stands for products that are
//! subnormal: fewer than 2³⁰ of 2⁻¹⁴⁹ each, given the magnitudes that rows and vectors may have.
//!
//! So `E + ‖r‖α + ‖ŵ‖β + τ` is an upper bound of L, whatever the weights are.

use std::sync::{Mutex, PoisonError};

use crate::arch::{
    CoarsePanels, FINE_COLS, FineBlock, Isa, Line, PANEL_ROWS, Probe, RowSketch, SKETCH_COLS, SKETCH_GROUP,
    SKETCH_LINES, TableRows, padded_cols,
};
use crate::memory::Buffer;
use crate::parallel::Pool;

/// Panels that a thread sketches at a time.
const PIECE_PANELS: usize = 4;

/// Rows whose bounds are looked at together.
const LOOK: usize = 16;

/// The widest rows that have a sketch: group counts and lane counts stay far below 1/u.
const MAX_SKETCH_COLS: usize = 1 << 16;

/// Coarse and fine codes of every row, and what bounds the rest.
#[derive(Debug)]
pub(super) struct Sketch {
    cols: usize,
    coarse: Buffer<Line>,
    /// [`FineBlock`]s.
    fine: Buffer<u8>,
    // Of each row (and the last panel's padding), the fields of `RowSketch`.
    scales: Buffer<f32>,
    coarse_residuals: Buffer<f32>,
    coarse_norms: Buffer<f32>,
    fine_residuals: Buffer<f32>,
}

impl Sketch {
    /// The sketch of `table`, made on all threads; `None` for shapes that need none.
    pub(super) fn new(isa: &dyn Isa, pool: &Pool, table: TableRows<'_>) -> Option<Self> {
        let (rows, cols) = (table.rows(), table.cols());
        if rows == 0 || cols == 0 || cols > MAX_SKETCH_COLS {
            return None;
        }
        let padded = padded_cols(cols);
        let panels = rows.div_ceil(PANEL_ROWS);
        let panel_lines = padded / SKETCH_COLS * SKETCH_LINES;
        let row_fine = padded / FINE_COLS * size_of::<FineBlock>();
        let per_row = || Buffer::zeroed(panels * PANEL_ROWS);
        let mut sketch = Self {
            cols,
            coarse: Buffer::zeroed(panels * panel_lines),
            fine: Buffer::zeroed(panels * PANEL_ROWS * row_fine),
            scales: per_row(),
            coarse_residuals: per_row(),
            coarse_norms: per_row(),
            fine_residuals: per_row(),
        };
        const ROWS: usize = PIECE_PANELS * PANEL_ROWS;
        let pieces = sketch.coarse.chunks_mut(PIECE_PANELS * panel_lines).zip(sketch.fine.chunks_mut(ROWS * row_fine));
        let scales = sketch.scales.chunks_mut(ROWS).zip(sketch.coarse_residuals.chunks_mut(ROWS));
        let norms = sketch.coarse_norms.chunks_mut(ROWS).zip(sketch.fine_residuals.chunks_mut(ROWS));
        // A lock per piece, and a piece takes a tenth of a millisecond.
        let pieces = Mutex::new(pieces.zip(scales.zip(norms)).enumerate());
        pool.run(&|_worker| {
            let mut row = RowScratch::new(padded);
            loop {
                let next = pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((piece, ((coarse, fine), ((scales, coarse_residuals), (norms, fine_residuals))))) = next
                else {
                    break;
                };
                for i in 0..ROWS.min(rows - piece * ROWS) {
                    let found = row.sketch(isa, table.slice(piece * ROWS + i, 1), cols);
                    row.write_coarse(&mut coarse[i / PANEL_ROWS * panel_lines..][..panel_lines], i % PANEL_ROWS);
                    row.write_fine(&mut fine[i * row_fine..][..row_fine]);
                    scales[i] = found.scale;
                    coarse_residuals[i] = found.coarse_residual;
                    norms[i] = found.coarse_norm;
                    fine_residuals[i] = found.fine_residual;
                }
            }
        });
        Some(sketch)
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.coarse_bytes() + self.fine.len() + size_of_val(&*self.fine_residuals)
    }

    /// Bytes that estimating and bounding all rows reads.
    pub(super) fn coarse_bytes(&self) -> usize {
        size_of_val(&*self.coarse) + 3 * size_of_val(&*self.scales)
    }

    /// Bytes that a better estimate of one row reads.
    pub(super) fn fine_bytes(&self) -> usize {
        padded_cols(self.cols) / FINE_COLS * size_of::<FineBlock>() + size_of::<f32>()
    }

    /// Rows with the padding of the last panel.
    pub(super) fn padded_rows(&self) -> usize {
        self.scales.len()
    }

    /// Estimates rows `start..start + out.len()`, whole panels.
    pub(super) fn screen(&self, isa: &dyn Isa, probe: &Probe, start: usize, out: &mut [f32]) {
        let panel_lines = self.coarse.len() / (self.scales.len() / PANEL_ROWS);
        let lines = &self.coarse[start / PANEL_ROWS * panel_lines..][..out.len() / PANEL_ROWS * panel_lines];
        isa.screen(CoarsePanels::new(lines, self.cols), &self.scales[start..][..out.len()], probe, out);
    }

    /// For each row of `start..start + estimates.len()` whose logit may reach `threshold`: its
    /// number from `start` on, in ascending order. Returns how many there are.
    pub(super) fn survivors(
        &self,
        slack: &Slack,
        start: usize,
        estimates: &[f32],
        threshold: f32,
        out: &mut [u32],
    ) -> usize {
        let residuals = self.coarse_residuals[start..][..estimates.len()].chunks(LOOK);
        let norms = self.coarse_norms[start..][..estimates.len()].chunks(LOOK);
        let mut count = 0;
        for (c, ((estimates, residuals), norms)) in estimates.chunks(LOOK).zip(residuals).zip(norms).enumerate() {
            let mut reach = [false; LOOK];
            for (((reach, estimate), residual), norm) in reach.iter_mut().zip(estimates).zip(residuals).zip(norms) {
                *reach = may_reach(slack.upper(*estimate, *residual, *norm), threshold);
            }
            // Most rows are ruled out, so most looks end here.
            if reach.iter().fold(false, |any, reach| any | reach) {
                for (i, reach) in reach.iter().enumerate().take(estimates.len()) {
                    out[count] = (LOOK * c + i) as u32;
                    count += usize::from(*reach);
                }
            }
        }
        count
    }

    /// Asks for what [`survives`](Self::survives) will read of row `row`.
    pub(super) fn prefetch(&self, isa: &dyn Isa, row: usize) {
        isa.prefetch(self.fine_row(row).as_flattened());
        for bounds in [&self.fine_residuals, &self.coarse_residuals, &self.coarse_norms, &self.scales] {
            isa.prefetch(bytemuck::cast_slice(&bounds[row..][..1]));
        }
    }

    fn fine_row(&self, row: usize) -> &[FineBlock] {
        let row_fine = self.fine.len() / self.scales.len();
        self.fine[row * row_fine..][..row_fine].as_chunks().0
    }

    /// Whether the logit of row `row`, whose coarse estimate this is, may reach `threshold`
    /// by the fine sketch too.
    pub(super) fn survives(
        &self,
        isa: &dyn Isa,
        probe: &Probe,
        slack: &Slack,
        row: usize,
        estimate: f32,
        threshold: f32,
    ) -> bool {
        let sum = isa.refine(self.fine_row(row), probe) as f32;
        let estimate = estimate + sum * (self.scales[row] * (probe.unit() * 0.125));
        let norm = self.coarse_norms[row] + self.coarse_residuals[row] + self.fine_residuals[row];
        may_reach(slack.upper(estimate, self.fine_residuals[row], norm), threshold)
    }

    /// What the bounds need to know of a vector.
    pub(super) fn slack(&self, probe: &Probe) -> Slack {
        const U: f64 = 1.0 / (1u64 << 24) as f64;
        let gamma = |k: usize| k as f64 * U / (1.0 - k as f64 * U);
        let logit = gamma(self.cols.div_ceil(16) + 5);
        let estimate = gamma(padded_cols(self.cols) / SKETCH_GROUP + 8);
        let (norm, error) = (probe.norm(), probe.error());
        let both = norm + error;
        let up = |x: f64| ((x + 16.0 * U * both) as f32).next_up();
        Slack { residual: up(norm * (1.0 + logit)), norm: up(error + logit * norm + estimate * both) }
    }
}

/// True where a NaN is involved: then nothing is ruled out.
fn may_reach(upper: f32, threshold: f32) -> bool {
    let below = upper < threshold;
    !below
}

/// α and β of the bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slack {
    residual: f32,
    norm: f32,
}

/// τ of the bound.
const SUBNORMAL: f32 = 1.0 / (1u128 << 100) as f32;

impl Slack {
    /// An upper bound of a logit.
    fn upper(&self, estimate: f32, residual: f32, norm: f32) -> f32 {
        estimate + (residual * self.residual + (norm * self.norm + SUBNORMAL))
    }
}

/// One row on its way into the planes.
struct RowScratch {
    weights: Vec<f32>,
    codes: Vec<u8>,
    steps: Vec<u8>,
}

impl RowScratch {
    fn new(padded: usize) -> Self {
        Self { weights: vec![0.0; padded], codes: vec![0; padded], steps: vec![0; padded / SKETCH_GROUP] }
    }

    fn sketch(&mut self, isa: &dyn Isa, row: TableRows<'_>, cols: usize) -> RowSketch {
        isa.decode(row, &mut self.weights[..cols]);
        isa.sketch(&self.weights, &mut self.codes, &mut self.steps)
    }

    /// As row `r` of a panel.
    fn write_coarse(&self, panel: &mut [Line], r: usize) {
        let (blocks, _) = panel.as_chunks_mut::<SKETCH_LINES>();
        let (steps, _) = self.steps.as_chunks::<4>();
        for ((block, codes), steps) in blocks.iter_mut().zip(self.codes.as_chunks::<SKETCH_COLS>().0).zip(steps) {
            for (g, step) in steps.iter().enumerate() {
                block[0].0[16 * g + r] = *step;
            }
            for (line, codes) in block[1..].iter_mut().zip(codes.as_chunks::<8>().0) {
                // Four codes' upper bits below those of the next four.
                let codes = u64::from_le_bytes(*codes);
                let (low, high) = (codes as u32 >> 2 & 0x0f0f_0f0f, ((codes >> 32) as u32) << 2 & 0xf0f0_f0f0);
                line.0[4 * r..][..4].copy_from_slice(&(low | high).to_le_bytes());
            }
        }
    }

    /// As the blocks of one row.
    fn write_fine(&self, fine: &mut [u8]) {
        let (blocks, _) = fine.as_chunks_mut::<{ size_of::<FineBlock>() }>();
        let codes = self.codes.as_chunks::<FINE_COLS>().0;
        for ((block, codes), steps) in blocks.iter_mut().zip(codes).zip(self.steps.as_chunks::<8>().0) {
            let (words, rest) = block.as_chunks_mut::<4>();
            for (word, codes) in words.iter_mut().zip(codes.as_chunks::<16>().0) {
                let mut bits = 0;
                for (f, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
                    bits |= (u32::from_le_bytes(*codes) & 0x0303_0303) << (2 * f);
                }
                *word = bits.to_le_bytes();
            }
            let (steps, _) = steps.as_chunks::<4>();
            words[16] = steps[0];
            words[17] = steps[1];
            debug_assert!(rest.is_empty());
        }
    }
}
