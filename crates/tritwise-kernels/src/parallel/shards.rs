//! Work handed out in pieces, so that an uneven core or a busy neighbour does
//! not stall a region.
//!
//! Both forms have one shape: a cursor counts pieces, each worker takes some
//! until none is left, and nothing is held while a piece is worked on. One
//! worker alone would do everything, so a region whose work is small may just
//! as well run on the caller.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::Pool;
use super::sync::AtomicU64;

/// Calls `f(i, shard)` once for every run of `shard_len` elements of `out` (the
/// last may be shorter), on all threads of `pool`; shard `i` starts at element
/// `i * shard_len`.
///
/// # Panics
/// `shard_len` is zero.
pub(crate) fn for_each_shard<T: Send>(
    pool: &Pool,
    out: &mut [T],
    shard_len: usize,
    f: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    // A slice is a matrix of one row.
    let width = out.len();
    let shards = ColumnShards::new([Some(Columns::new(out, width, shard_len))], pool.threads());
    pool.run(&|worker| {
        while let Some(mut shard) = shards.next(worker) {
            f(shard.start() / shard_len, shard.row_mut(0));
        }
    });
}

/// Workers with a lane of their own; beyond, they share.
const LANES: usize = 32;

/// Hands out the numbers below `count`, each once, to the workers that ask.
///
/// ```text
///      worker 0's lane        worker 1's lane        worker 2's lane
/// ┌──────────────────────┬──────────────────────┬──────────────────────┐
/// │ ▓▓▓▓▓▓▶              │ ▓▓▓▓▓▓▓▶         ◀░░░│ ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓│
/// └──────────────────────┴──────────────────────┴──────────────────────┘
///                                            └ taken by worker 2, whose lane is empty
/// ```
///
/// Each worker takes runs from the front of a lane of its own, so that what it reads is one
/// stream from memory, however many runs that is. When its lane is empty it takes
/// from the rear of the longest other one, so that all end together, and a
/// worker that is alone does everything.
#[derive(Debug)]
pub(super) struct Cursor {
    /// What nobody has taken of each lane: [`pack`]ed.
    lanes: [AtomicU64; LANES],
    /// Lanes in use.
    used: usize,
}

/// Where numbers are taken from a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Rear,
}

impl Cursor {
    /// # Panics
    /// `count` does not fit 32 bits.
    pub(super) fn new(count: usize, workers: usize) -> Self {
        #[expect(clippy::expect_used, reason = "documented; callers split a matrix's panels or a batch's heads")]
        let count = u32::try_from(count).expect("fewer than 2³² pieces");
        let used = workers.clamp(1, LANES);
        let start = |lane: usize| (u64::from(count) * lane.min(used) as u64 / used as u64) as u32;
        Self { lanes: std::array::from_fn(|lane| AtomicU64::new(pack(start(lane)..start(lane + 1)))), used }
    }

    /// Neighbouring numbers that no other call returned, or `None` when all are out: of those left in a lane
    /// so many as `len` says from that end, at least one, and of another worker's lane at most half.
    pub(super) fn next_run(&self, worker: usize, len: impl Fn(Range<u32>, End) -> u32) -> Option<Range<u32>> {
        // Relaxed, here and below: the numbers are the only message. What the pieces are made of
        // reached this thread, and what it writes leaves it, through the pool.
        let own = &self.lanes[worker % self.used];
        let mut lane = own.load(Ordering::Relaxed);
        while let Some(left) = unpack(lane) {
            let middle = left.start + len(left.clone(), End::Front).clamp(1, left.end - left.start);
            match own.compare_exchange(lane, pack(middle..left.end), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(left.start..middle),
                Err(now) => lane = now,
            }
        }
        loop {
            let others = self.lanes[..self.used].iter().map(|lane| (lane, lane.load(Ordering::Relaxed)));
            let longest = others.filter_map(|(lane, value)| Some((lane, value, unpack(value)?)));
            let (lane, value, left) = longest.max_by_key(|(_, _, left)| left.end - left.start)?;
            let middle = left.end - len(left.clone(), End::Rear).clamp(1, (left.end - left.start).div_ceil(2));
            if lane.compare_exchange(value, pack(left.start..middle), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Some(middle..left.end);
            }
        }
    }
}

/// What is left of a lane as one word.
fn pack(left: Range<u32>) -> u64 {
    u64::from(left.start) | u64::from(left.end) << 32
}

/// What is left of a lane, if anything.
fn unpack(lane: u64) -> Option<Range<u32>> {
    let left = lane as u32..(lane >> 32) as u32;
    (!left.is_empty()).then_some(left)
}

/// A row-major matrix whose columns are handed out in runs.
pub(crate) struct Columns<'a, T> {
    elements: *mut T,
    rows: usize,
    width: usize,
    shard_cols: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<'a, T> Columns<'a, T> {
    /// `matrix` as rows of `width`, in runs of `shard_cols` columns (the last may be shorter).
    ///
    /// # Panics
    /// `shard_cols` is zero, or `matrix` is not whole rows.
    pub(crate) fn new(matrix: &'a mut [T], width: usize, shard_cols: usize) -> Self {
        assert!(shard_cols > 0, "a shard has columns");
        let rows = matrix.len().checked_div(width).unwrap_or(0);
        assert_eq!(matrix.len(), rows * width, "whole rows");
        Self { elements: matrix.as_mut_ptr(), rows, width, shard_cols, borrow: PhantomData }
    }

    fn shards(&self) -> usize {
        self.width.div_ceil(self.shard_cols)
    }
}

/// Matrices, up to `N`, whose columns are handed out in runs, each run once.
///
/// ```text
///            shard 0     shard 1     shard 2
/// row 0   ┌───────────┬───────────┬───────┐
/// row 1   │           │           │       │      one shard = one run of columns
/// row 2   └───────────┴───────────┴───────┘                  of every row
/// ```
///
/// This is how workers write the outputs of matrix products: a worker owns a
/// range of output features, for all tokens. The pieces of a column shard do
/// not lie together, so `chunks_mut` cannot express it.
pub(crate) struct ColumnShards<'a, T, const N: usize = 1> {
    matrices: [Option<Columns<'a, T>>; N],
    /// Counts the shards of all matrices, one matrix after the other.
    cursor: Cursor,
}

// SAFETY: through a shared reference one can only take shards, which are disjoint
// (`Cursor` gives each number once); a thread that takes one gets `&mut T`, for
// which `T: Send` is the condition.
unsafe impl<T: Send, const N: usize> Sync for ColumnShards<'_, T, N> {}

impl<'a, T, const N: usize> ColumnShards<'a, T, N> {
    /// The columns of `matrices`, for so many workers.
    pub(crate) fn new(matrices: [Option<Columns<'a, T>>; N], workers: usize) -> Self {
        let shards = matrices.iter().flatten().map(Columns::shards).sum();
        Self { matrices, cursor: Cursor::new(shards, workers) }
    }

    /// A shard that no other call returned, or `None` when all are out.
    pub(crate) fn next(&self, worker: usize) -> Option<ColumnShard<'_, T>> {
        self.next_run(worker, |_left| 1)
    }

    /// Several neighbouring shards of a matrix as one: three quarters of what is left of the worker's lane, since
    /// the memory idles for a moment where one share ends and the next begins. The last quarter is there to be taken by who is faster.
    pub(crate) fn next_share(&self, worker: usize) -> Option<ColumnShard<'_, T>> {
        self.next_run(worker, |left| if self.cursor.used == 1 { left } else { left - left / 4 })
    }

    fn next_run(&self, worker: usize, len: impl Fn(u32) -> u32) -> Option<ColumnShard<'_, T>> {
        let run = self.cursor.next_run(worker, |left, end| {
            let (_, _, numbers) = self.matrix_of(if end == End::Front { left.start } else { left.end - 1 });
            let of_matrix = numbers.end.min(left.end) - numbers.start.max(left.start);
            len(left.end - left.start).clamp(1, of_matrix)
        })?;
        let (matrix, columns, numbers) = self.matrix_of(run.start);
        let col = |number: u32| columns.width.min((number - numbers.start) as usize * columns.shard_cols);
        Some(ColumnShard { columns, matrix, start: col(run.start), len: col(run.end) - col(run.start) })
    }

    /// The matrix that shard `number` belongs to, and the numbers of its shards.
    ///
    /// # Panics
    /// There is no such shard.
    fn matrix_of(&self, number: u32) -> (usize, &Columns<'a, T>, Range<u32>) {
        let mut start = 0;
        for (i, columns) in self.matrices.iter().enumerate() {
            let Some(columns) = columns else { continue };
            let end = start + columns.shards() as u32;
            if number < end {
                return (i, columns, start..end);
            }
            start = end;
        }
        panic!("shard {number} of {start}");
    }
}

impl<T, const N: usize> fmt::Debug for ColumnShards<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.matrices.iter().flatten().map(|m| (m.rows, m.width, m.shard_cols))).finish()
    }
}

/// A run of columns of a matrix, owned by whoever took it from its [`ColumnShards`].
pub(crate) struct ColumnShard<'a, T> {
    columns: &'a Columns<'a, T>,
    matrix: usize,
    start: usize,
    len: usize,
}

impl<T> ColumnShard<'_, T> {
    /// Which of the matrices it belongs to.
    pub(crate) fn matrix(&self) -> usize {
        self.matrix
    }

    /// The first column.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Number of columns.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Number of rows of the matrix.
    pub(crate) fn rows(&self) -> usize {
        self.columns.rows
    }

    /// This shard's columns of row `row`.
    ///
    /// # Panics
    /// `row` is out of range.
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [T] {
        let Columns { elements, rows, width, .. } = self.columns;
        assert!(row < *rows, "row {row} of {rows}");
        // SAFETY: `row < rows` and `start + len <= width`, so the elements lie in
        // the slice that `Columns::new` borrowed mutably for longer than `self` lives.
        let first = unsafe { elements.add(row * width + self.start) };
        // SAFETY: as above for all `len` elements. No other reference to them exists:
        // the slice's owner is kept out by the borrow, other shards have other columns,
        // and another row of this shard needs `&mut self` again.
        unsafe { std::slice::from_raw_parts_mut(first, self.len) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn every_number_comes_once() {
        for threads in 1..=4 {
            let pool = Pool::new(threads).unwrap();
            for count in [0, 1, 3, if cfg!(miri) { 20 } else { 1000 }] {
                let seen: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                let cursor = Cursor::new(count, threads);
                pool.run(&|worker| {
                    while let Some(run) = cursor.next_run(worker, |left, _end| (left.end - left.start) / 3) {
                        assert!(!run.is_empty());
                        for i in run {
                            seen[i as usize].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
                assert!(seen.iter().all(|seen| seen.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn a_worker_goes_through_its_lane_and_then_takes_from_the_longest() {
        let cursor = Cursor::new(30, 3);
        let mut runs = std::iter::from_fn(|| cursor.next_run(1, |_left, _end| 4));
        assert_eq!(runs.by_ref().take(3).collect::<Vec<_>>(), [10..14, 14..18, 18..20]);
        assert_eq!(cursor.next_run(0, |_left, _end| 7), Some(0..7));
        assert_eq!(runs.by_ref().take(3).collect::<Vec<_>>(), [26..30, 23..26, 21..23]);
        assert_eq!(runs.map(|run| run.len()).sum::<usize>(), 1 + 3);
    }

    #[test]
    fn more_workers_than_lanes_share_them() {
        let cursor = Cursor::new(10 * LANES, 3 * LANES);
        assert_eq!(cursor.next_run(2 * LANES + 1, |_left, _end| 10), Some(10..20));
        let rest: usize = std::iter::from_fn(|| cursor.next_run(0, |_left, _end| 1)).map(|run| run.len()).sum();
        assert_eq!(rest, 10 * LANES - 10);
    }

    #[test]
    fn every_shard_of_a_slice_comes_once() {
        let pool = Pool::new(3).unwrap();
        for (len, shard_len) in [(0, 1), (1, 1), (7, 3), (64, 8), (if cfg!(miri) { 100 } else { 1000 }, 13), (5, 100)] {
            let mut out = vec![0; len];
            for_each_shard(&pool, &mut out, shard_len, &|shard, out| {
                assert!(out.len() == shard_len || shard == len / shard_len);
                for (i, out) in out.iter_mut().enumerate() {
                    *out += shard * shard_len + i + 1;
                }
            });
            assert!(out.iter().enumerate().all(|(i, out)| *out == i + 1), "{len} in {shard_len}s: {out:?}");
        }
    }

    #[test]
    fn every_element_of_a_matrix_is_in_one_column_shard() {
        for threads in 1..=4 {
            let pool = Pool::new(threads).unwrap();
            for (rows, width, cols) in [(0, 5, 2), (1, 1, 1), (3, 7, 2), (48, 130, 16), (2, 5, 9), (4, 0, 1)] {
                let mut matrix = vec![0; rows * width];
                let shards = ColumnShards::new([Some(Columns::new(&mut matrix, width, cols))], threads);
                pool.run(&|worker| {
                    while let Some(mut shard) = shards.next(worker) {
                        assert_eq!(shard.start() % cols, 0);
                        assert_eq!(shard.len(), cols.min(width - shard.start()));
                        for row in 0..shard.rows() {
                            let start = row * width + shard.start();
                            for (i, element) in shard.row_mut(row).iter_mut().enumerate() {
                                *element += start + i + 1;
                            }
                        }
                    }
                });
                assert!(matrix.iter().enumerate().all(|(i, element)| *element == i + 1), "{rows}×{width} by {cols}");
            }
        }
    }

    #[test]
    fn shares_of_several_matrices_are_whole_shards_of_one() {
        for workers in 1..=4 {
            let pool = Pool::new(workers).unwrap();
            let widths = [1000, 0, 7, 300];
            let mut matrices = widths.map(|width| vec![0; 2 * width]);
            let mut columns = matrices.iter_mut().zip(widths);
            let columns =
                std::array::from_fn(|_| columns.next().map(|(matrix, width)| Columns::new(matrix, width, 16)));
            let shards: ColumnShards<'_, i32, 5> = ColumnShards::new(columns, workers);
            let first = shards.next_share(0).unwrap();
            let lane = (63 + 1 + 19) / workers;
            let len = if workers == 1 { 63 } else { lane - lane / 4 };
            assert_eq!((first.matrix(), first.start(), first.len()), (0, 0, 1000.min(16 * len)));
            let first = first.len();
            pool.run(&|worker| {
                while let Some(mut share) = shards.next_share(worker) {
                    assert!(share.start().is_multiple_of(16) && share.len() <= widths[share.matrix()] - share.start());
                    for row in 0..2 {
                        share.row_mut(row).iter_mut().for_each(|element| *element += 1);
                    }
                }
            });
            for (i, (matrix, width)) in matrices.iter().zip(widths).enumerate() {
                for row in matrix.chunks(width.max(1)) {
                    let skipped = if i == 0 { first } else { 0 };
                    assert!(row[..skipped].iter().all(|element| *element == 0));
                    assert!(row[skipped..].iter().all(|element| *element == 1), "{workers} workers");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "row 2 of 2")]
    fn a_row_out_of_range_panics() {
        let mut matrix = [0; 6];
        let shards = ColumnShards::new([Some(Columns::new(&mut matrix, 3, 2))], 1);
        shards.next(0).unwrap().row_mut(2);
    }
}

/// The claim of `ColumnShards` under every order of events; see `pool.rs` for how to run it.
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::parallel::sync::{Arc, AtomicUsize, thread};

    /// Workers ask until nothing is left, each first in its own lane, then in the other's, from the front and the rear at once.
    fn every_number_comes_once(count: usize, workers: usize, len: fn(Range<u32>) -> u32) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let cursor = Arc::new(Cursor::new(count, workers));
            let seen: Arc<Vec<AtomicUsize>> = Arc::new((0..count).map(|_| AtomicUsize::new(0)).collect());
            let work = |worker: usize| {
                let (cursor, seen) = (Arc::clone(&cursor), Arc::clone(&seen));
                move || {
                    while let Some(run) = cursor.next_run(worker, |left, _end| len(left)) {
                        run.for_each(|i| assert_eq!(seen[i as usize].fetch_add(1, Ordering::Relaxed), 0, "{i}"));
                    }
                }
            };
            let others: Vec<_> = (1..workers).map(|worker| thread::spawn(work(worker))).collect();
            work(0)();
            others.into_iter().for_each(|other| other.join().unwrap());
            assert!(seen.iter().all(|seen| seen.load(Ordering::Relaxed) == 1));
        });
    }

    #[test]
    fn every_number_comes_once_one_at_a_time() {
        every_number_comes_once(4, 2, |_left| 1);
    }

    #[test]
    fn every_number_comes_once_in_shares() {
        every_number_comes_once(6, 2, |left| left.end - left.start - (left.end - left.start) / 4);
    }

    #[test]
    fn every_number_comes_once_to_three() {
        every_number_comes_once(3, 3, |_left| 1);
    }

    /// Two threads share a lane where there are more than lanes.
    #[test]
    fn every_number_of_a_shared_lane_comes_once() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let cursor = Arc::new(Cursor::new(3, 1));
            let take = |cursor: Arc<Cursor>| {
                move || std::iter::from_fn(|| cursor.next_run(0, |_left, _end| 1)).flatten().collect::<Vec<_>>()
            };
            let other = thread::spawn(take(Arc::clone(&cursor)));
            let mut all = take(cursor)();
            all.extend(other.join().unwrap());
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2]);
        });
    }
}
