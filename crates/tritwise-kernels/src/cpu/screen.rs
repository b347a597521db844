//! The head for those logits that matter, exact, from few of its bytes.
//!
//! 1. *Screen*: estimate every logit from the coarse sketch, four bits a weight.
//! 2. *Guess*: compute the logits of the best estimates from the table itself. The k-th
//!    best of them is a lower bound of the k-th best of all: the threshold. An
//!    estimate is far better than what can be proved of it, so the guess is nearly always right,
//!    and a wrong one costs time only.
//! 3. *Refine*: rows whose upper bound reaches the threshold get a better estimate from
//!    two more bits a weight; those whose bound still does, their logit from the table.
//!
//! Rows that are not allowed have an estimate of −∞, which no bound lifts. Where few are allowed,
//! their logits are computed and nothing is screened. Several vectors are screened together: a piece of the
//! sketch comes from memory once and meets all of them.
//!
//! A logit that is computed is computed as the full head does, to the bit; one
//! that is not is proved to be below the threshold ([`super::sketch`]). Which rows
//! those are depends on neither threads nor instruction set, since estimates don't.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::arch::{Isa, Probe, TableRows};
use crate::memory::Buffer;
use crate::parallel::{ColumnShards, Columns, Pool, for_each_shard};
use crate::{HeadReads, Keep};

use super::sketch::Sketch;

/// Rows that a thread screens at the least: 130 KB of the widest published head.
const SCREEN_ROWS: usize = 96;

/// Rows that a thread refines at a time: of so many some dozens are left, of which only the first few were not asked for in time.
const REFINE_ROWS: usize = 2048;

/// How many rows ahead of the one that is refined its codes are asked for: they lie apart, and the
/// hardware cannot guess where.
const AHEAD: usize = 3;

/// Rows of which only the best estimate is looked at first.
const GUESS_BLOCK: usize = 64;

/// Guesses beyond those that are needed: near ties are common, and a better threshold is worth a row.
const SPARE_GUESSES: usize = 3;

/// Rows of which computing the logits takes no more time than screening does.
const FEW: usize = 1024;

/// A row and its estimate, then its logit.
type Guess = (f32, u32);

/// What a screened head needs from token to token.
#[derive(Debug, Default)]
pub(super) struct ScreenScratch {
    /// One per vector, and those of larger batches before.
    probes: Vec<Probe>,
    /// Of each vector's rows.
    estimates: Buffer<f32>,
    /// One per vector.
    rows: Vec<Mutex<RowScratch>>,
}

/// What one row of logits needs, and what was read for it.
#[derive(Debug, Default)]
struct RowScratch {
    blocks: Vec<f32>,
    guesses: Vec<Guess>,
    reads: HeadReads,
}

impl ScreenScratch {
    /// Rounds the `count` vectors of `x`; false if there is one for which nothing could be proved.
    pub(super) fn set_probes(&mut self, pool: &Pool, x: &[f32], count: usize, cols: usize) -> bool {
        if self.probes.len() < count {
            self.probes.resize_with(count, Probe::default);
            self.rows.resize_with(count, Mutex::default);
        }
        let width = x.len() / count;
        let set = |i: usize, probes: &mut [Probe]| probes.iter_mut().all(|probe| probe.set(&x[i * width..][..cols]));
        let probes = &mut self.probes[..count];
        if let [probe] = probes {
            return set(0, std::slice::from_mut(probe));
        }
        let all = AtomicBool::new(true);
        for_each_shard(pool, probes, 1, &|i, probes| {
            if !set(i, probes) {
                all.store(false, Ordering::Relaxed);
            }
        });
        all.into_inner()
    }
}

/// How many estimates have to be looked at more closely, if `keep` is worth screening for.
fn guesses(keep: &Keep<'_>, rows: usize) -> Option<usize> {
    let best = match keep.best {
        0 => return None,
        usize::MAX if keep.within < f32::INFINITY => 1,
        best => best,
    };
    let wanted = best.checked_add(keep.always.len())?.checked_add(SPARE_GUESSES)?;
    // With more, most rows are likely to be refined.
    (wanted <= rows / 16).then_some(wanted)
}

/// Whether [`top_logits`] takes such a rule: it asks for few rows, or allows few.
pub(super) fn is_worth_it(keep: &Keep<'_>, rows: usize) -> bool {
    guesses(keep, rows).is_some() || keep.best > 0 && few(keep, rows)
}

/// How many rows `keep` allows.
fn allowed(keep: &Keep<'_>, rows: usize) -> usize {
    let Some(words) = keep.allowed else { return rows };
    let whole = rows / 32;
    let rest = (32 * whole..rows).filter(|row| keep.allows(*row)).count();
    words.iter().take(whole).map(|word| word.count_ones() as usize).sum::<usize>() + rest
}

/// Rows of logits, all that matter exact and the others −∞. `scratch` has the probes of the vectors in `x`, which are padded.
#[allow(clippy::too_many_arguments, reason = "the operands of the operation and what runs it")]
pub(super) fn top_logits(
    isa: &dyn Isa,
    pool: &Pool,
    scratch: &mut ScreenScratch,
    x: &[f32],
    table: TableRows<'_>,
    sketch: &Sketch,
    keeps: &[Keep<'_>],
    out: &mut [f32],
) -> HeadReads {
    let (rows, padded) = (table.rows(), sketch.padded_rows());
    let ScreenScratch { probes, estimates, rows: row_scratch } = scratch;
    let probes = &probes[..keeps.len()];
    if estimates.len() < probes.len() * padded {
        *estimates = Buffer::zeroed(probes.len() * padded);
    }
    let estimates = &mut estimates[..probes.len() * padded];
    let mut reads = HeadReads::default();
    // Where all rules allow few rows, nothing needs an estimate.
    if !keeps.iter().all(|keep| few(keep, rows)) {
        estimate(isa, pool, probes, sketch, keeps, estimates);
        reads += HeadReads { screened: rows, bytes: sketch.coarse_bytes(), ..HeadReads::default() };
    }
    let (estimates, width) = (&*estimates, x.len() / keeps.len());
    let one_row = |pool: &Pool, i: usize, out: &mut [f32]| {
        let (probe, keep, x) = (&probes[i], &keeps[i], &x[i * width..][..width]);
        let row = Row { isa, pool, x, table, keep };
        let mut scratch = row_scratch[i].lock().unwrap_or_else(PoisonError::into_inner);
        let RowScratch { blocks, guesses, reads } = &mut *scratch;
        *reads = if few(keep, rows) {
            row.allowed_logits(guesses, out)
        } else {
            row.best_logits(probe, sketch, &estimates[i * padded..][..rows], blocks, guesses, out)
        };
    };
    // One row is the work of all threads, several are one thread's each.
    if keeps.len() == 1 {
        one_row(pool, 0, out);
    } else {
        let alone = pool.limited_to(1);
        for_each_shard(pool, out, rows, &|i, out| one_row(&alone, i, out));
    }
    for scratch in &mut row_scratch[..keeps.len()] {
        reads += scratch.get_mut().unwrap_or_else(PoisonError::into_inner).reads;
    }
    reads
}

/// Whether so few rows are allowed that their logits cost less than estimates of all.
fn few(keep: &Keep<'_>, rows: usize) -> bool {
    allowed(keep, rows) <= FEW.max(guesses(keep, rows).unwrap_or(0))
}

/// Estimates of all rows for all probes; −∞ for rows that are not allowed.
fn estimate(isa: &dyn Isa, pool: &Pool, probes: &[Probe], sketch: &Sketch, keeps: &[Keep<'_>], estimates: &mut [f32]) {
    let shards = Columns::new(estimates, sketch.padded_rows(), SCREEN_ROWS);
    let shards = ColumnShards::new([Some(shards)], pool.threads());
    pool.run(&|worker| {
        while let Some(mut shard) = shards.next_share(worker) {
            let (start, len) = (shard.start(), shard.len());
            // One vector's rows are one stream; several vectors' come from the nearest cache but for the first.
            let piece = if probes.len() == 1 { len } else { SCREEN_ROWS };
            for first in (0..len).step_by(piece) {
                for (i, (probe, keep)) in probes.iter().zip(keeps).enumerate() {
                    let estimates = &mut shard.row_mut(i)[first..len.min(first + piece)];
                    sketch.screen(isa, probe, start + first, estimates);
                    if keep.allowed.is_some() {
                        let rows = estimates.iter_mut().zip(start + first..);
                        rows.filter(|(_, row)| !keep.allows(*row))
                            .for_each(|(estimate, _)| *estimate = f32::NEG_INFINITY);
                    }
                }
            }
        }
    });
}

/// One row of logits, and what it takes to compute some of it.
struct Row<'a> {
    isa: &'a dyn Isa,
    pool: &'a Pool,
    x: &'a [f32],
    table: TableRows<'a>,
    keep: &'a Keep<'a>,
}

impl Row<'_> {
    fn project(&self, row: usize, out: &mut f32) {
        self.isa.project(self.table.slice(row, 1), self.x, std::slice::from_mut(out));
    }

    /// Replaces guesses by logits.
    fn compute(&self, guesses: &mut [Guess]) {
        for_each_shard(self.pool, guesses, 8, &|_, guesses| {
            guesses.iter_mut().for_each(|(logit, row)| self.project(*row as usize, logit));
        });
    }

    /// What was read: of all of these rows, the logits.
    fn exact(&self, exact: usize) -> HeadReads {
        let bytes = exact * (self.table.bytes().len() / self.table.rows());
        HeadReads { exact, bytes, ..HeadReads::default() }
    }

    /// The logits of all rows that are allowed.
    fn allowed_logits(&self, rows: &mut Vec<Guess>, out: &mut [f32]) -> HeadReads {
        rows.clear();
        rows.extend((0..out.len()).filter(|row| self.keep.allows(*row)).map(|row| (0.0, row as u32)));
        rows.extend(self.keep.always.iter().map(|row| (0.0, *row)));
        self.compute(rows);
        out.fill(f32::NEG_INFINITY);
        for (logit, row) in rows.iter() {
            out[*row as usize] = *logit;
            not_left_out(&mut out[*row as usize..][..1]);
        }
        self.exact(rows.len())
    }

    /// The logits that can be among the best, by their estimates.
    fn best_logits(
        &self,
        probe: &Probe,
        sketch: &Sketch,
        estimates: &[f32],
        blocks: &mut Vec<f32>,
        guesses: &mut Vec<Guess>,
        out: &mut [f32],
    ) -> HeadReads {
        let Self { isa, pool, table, keep, .. } = *self;
        let rows = estimates.len();
        best_estimates(estimates, self::guesses(keep, rows).unwrap_or(rows), blocks, guesses);
        self.compute(guesses);
        let guessed = guesses.len();
        let threshold = threshold(guesses, keep);

        let slack = sketch.slack(probe);
        let (refined, exact) = (AtomicUsize::new(0), AtomicUsize::new(guessed));
        let shards = ColumnShards::new([Some(Columns::new(&mut *out, rows, REFINE_ROWS))], pool.threads());
        pool.run(&|worker| {
            while let Some(mut shard) = shards.next(worker) {
                let start = shard.start();
                let out = shard.row_mut(0);
                let estimates = &estimates[start..][..out.len()];
                let mut live = [0; REFINE_ROWS];
                let count = sketch.survivors(&slack, start, estimates, threshold, &mut live);
                let mut left = 0;
                live[..AHEAD.min(count)].iter().for_each(|row| sketch.prefetch(isa, start + *row as usize));
                for i in 0..count {
                    if let Some(row) = live[..count].get(i + AHEAD) {
                        sketch.prefetch(isa, start + *row as usize);
                    }
                    let row = live[i] as usize;
                    live[left] = live[i];
                    left += usize::from(sketch.survives(isa, probe, &slack, start + row, estimates[row], threshold));
                }
                out.fill(f32::NEG_INFINITY);
                if left > out.len() / 2 {
                    // Rows one after the other are faster together.
                    isa.project(table.slice(start, out.len()), self.x, out);
                    not_left_out(out);
                    left = out.len();
                } else {
                    live[..left].iter().for_each(|row| {
                        let logit = &mut out[*row as usize];
                        self.project(start + *row as usize, logit);
                        not_left_out(std::slice::from_mut(logit));
                    });
                }
                // Relaxed: counts that are read when the region is over.
                refined.fetch_add(count, Ordering::Relaxed);
                exact.fetch_add(left, Ordering::Relaxed);
            }
        });
        for row in keep.always {
            self.project(*row as usize, &mut out[*row as usize]);
            not_left_out(&mut out[*row as usize..][..1]);
        }
        let (refined, exact) = (refined.into_inner(), exact.into_inner() + keep.always.len());
        let mut reads = self.exact(exact);
        reads += HeadReads { refined, bytes: refined * sketch.fine_bytes(), ..HeadReads::default() };
        reads
    }
}

/// Makes of logits that were computed, and are −∞, NaN: −∞ says that a logit does not matter, and was not computed. One that is
/// ruled out is finite, since a row or a vector whose sizes could make it overflow has no estimates.
pub(super) fn not_left_out(logits: &mut [f32]) {
    logits.iter_mut().for_each(|logit| *logit = if *logit == f32::NEG_INFINITY { f32::NAN } else { *logit });
}

/// At least the `wanted` best estimates (or all there are), in any order.
///
/// The `wanted`-th best of the blocks' best is no better than the `wanted`-th best
/// of all, so rows below it need no further look.
fn best_estimates(estimates: &[f32], wanted: usize, blocks: &mut Vec<f32>, best: &mut Vec<Guess>) {
    blocks.clear();
    blocks.extend(estimates.chunks(GUESS_BLOCK).map(largest));
    let mut least = f32::NEG_INFINITY;
    if wanted <= blocks.len() {
        least = *blocks.select_nth_unstable_by(wanted - 1, |a, b| b.total_cmp(a)).1;
    }
    best.clear();
    // But for ties, the most there can be, so that it is not reached token by token.
    best.reserve(wanted.saturating_mul(GUESS_BLOCK).min(estimates.len()));
    for (block, estimates) in estimates.chunks(GUESS_BLOCK).enumerate() {
        if largest(estimates) >= least {
            let rows = estimates.iter().zip((block * GUESS_BLOCK) as u32..);
            best.extend(rows.filter(|(estimate, _)| **estimate >= least).map(|(estimate, row)| (*estimate, row)));
        }
    }
    if best.len() > wanted {
        best.select_nth_unstable_by(wanted - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        best.truncate(wanted);
    }
}

/// The largest estimate, in lanes.
fn largest(estimates: &[f32]) -> f32 {
    let (chunks, rest) = estimates.as_chunks::<16>();
    let mut lanes = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, x| if *x > max { *x } else { max })
}

/// What a logit must reach to matter, from the logits of the guesses. NaN, which rules
/// out nothing, where a guess is NaN or there are too few.
fn threshold(guesses: &mut Vec<Guess>, keep: &Keep<'_>) -> f32 {
    if guesses.iter().any(|(logit, _)| logit.is_nan()) {
        return f32::NAN;
    }
    guesses.retain(|(_, row)| !keep.always.contains(row));
    guesses.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let Some((best, _)) = guesses.first() else { return f32::NAN };
    let by_distance = (f64::from(*best) - f64::from(keep.within)) as f32;
    let by_distance = if keep.within < f32::INFINITY { by_distance.next_down() } else { f32::NEG_INFINITY };
    match keep.best {
        usize::MAX => by_distance,
        k => guesses.get(k - 1).map_or(f32::NAN, |(kth, _)| kth.max(by_distance)),
    }
}
