//! Work handed out in pieces, so that an uneven core or a busy neighbour does
//! not stall a region.
//!
//! Both forms have one shape: an atomic cursor counts pieces, each worker
//! takes the next until none is left, and nothing is held while a piece is
//! worked on. One worker alone would do everything, so a region whose work is
//! small may just as well run on the caller.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::Pool;
use super::sync::AtomicUsize;

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
    let shards = ColumnShards::new(out, width, shard_len);
    pool.run(&|_worker| {
        while let Some(mut shard) = shards.next() {
            f(shard.start() / shard_len, shard.row_mut(0));
        }
    });
}

/// Hands out the numbers below `count`, each once, to whichever thread asks.
#[derive(Debug)]
pub(super) struct Cursor {
    next: AtomicUsize,
    count: usize,
}

impl Cursor {
    pub(super) fn new(count: usize) -> Self {
        Self { next: AtomicUsize::new(0), count }
    }

    /// As many numbers that no other call returned as `len` makes of the number that is
    /// left; at least one, at most those that are left. `None` when all are out.
    pub(super) fn next_run(&self, len: impl Fn(usize) -> usize) -> Option<Range<usize>> {
        let end = |next: usize| next + len(self.count - next).clamp(1, self.count - next);
        // Relaxed: the number itself is the only message. What the pieces are
        // made of reached this thread, and what it writes leaves it, through the pool.
        let update = |next| (next < self.count).then(|| end(next));
        let start = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).ok()?;
        Some(start..end(start))
    }
}

/// A row-major matrix whose columns are handed out in runs, each run once.
///
/// ```text
///            shard 0     shard 1     shard 2
/// row 0   ┌───────────┬───────────┬───────┐
/// row 1   │           │           │       │      one shard = one run of columns
/// row 2   └───────────┴───────────┴───────┘                  of every row
/// ```
///
/// This is how workers write the outputs of a matrix product: a worker owns a
/// range of output features, for all tokens. The pieces of a column shard do
/// not lie together, so `chunks_mut` cannot express it.
pub(crate) struct ColumnShards<'a, T> {
    elements: *mut T,
    rows: usize,
    width: usize,
    shard_cols: usize,
    cursor: Cursor,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: through a shared reference one can only take shards, which are disjoint
// (`Cursor` gives each number once); a thread that takes one gets `&mut T`, for
// which `T: Send` is the condition.
unsafe impl<T: Send> Sync for ColumnShards<'_, T> {}

impl<'a, T> ColumnShards<'a, T> {
    /// `matrix` as rows of `width`, in runs of `shard_cols` columns (the last may be shorter).
    ///
    /// # Panics
    /// `shard_cols` is zero, or `matrix` is not whole rows.
    pub(crate) fn new(matrix: &'a mut [T], width: usize, shard_cols: usize) -> Self {
        assert!(shard_cols > 0, "a shard has columns");
        let rows = matrix.len().checked_div(width).unwrap_or(0);
        assert_eq!(matrix.len(), rows * width, "whole rows");
        Self {
            elements: matrix.as_mut_ptr(),
            rows,
            width,
            shard_cols,
            cursor: Cursor::new(width.div_ceil(shard_cols)),
            borrow: PhantomData,
        }
    }

    /// A shard that no other call returned, or `None` when all are out.
    pub(crate) fn next(&self) -> Option<ColumnShard<'_, T>> {
        self.next_run(|_left| 1)
    }

    /// Several neighbouring shards as one, for one of `workers`: half of an even share of what is
    /// left. So a worker begins with a long run, which memory delivers faster than many
    /// short ones, and the last runs are short, so that all end together.
    pub(crate) fn next_share(&self, workers: usize) -> Option<ColumnShard<'_, T>> {
        self.next_run(|left| if workers == 1 { left } else { left / (2 * workers) })
    }

    fn next_run(&self, len: impl Fn(usize) -> usize) -> Option<ColumnShard<'_, T>> {
        let run = self.cursor.next_run(len)?;
        let start = run.start * self.shard_cols;
        let end = self.width.min(run.end * self.shard_cols);
        Some(ColumnShard { matrix: self, start, len: end - start })
    }
}

impl<T> fmt::Debug for ColumnShards<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ColumnShards({} × {} in runs of {})", self.rows, self.width, self.shard_cols)
    }
}

/// A run of columns of a matrix, owned by whoever took it from its [`ColumnShards`].
#[derive(Debug)]
pub(crate) struct ColumnShard<'a, T> {
    matrix: &'a ColumnShards<'a, T>,
    start: usize,
    len: usize,
}

impl<T> ColumnShard<'_, T> {
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
        self.matrix.rows
    }

    /// This shard's columns of row `row`.
    ///
    /// # Panics
    /// `row` is out of range.
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.matrix.rows, "row {row} of {}", self.matrix.rows);
        // SAFETY: `row < rows` and `start + len <= width`, so the elements lie in
        // the slice that `ColumnShards::new` borrowed mutably for longer than `self` lives.
        let first = unsafe { self.matrix.elements.add(row * self.matrix.width + self.start) };
        // SAFETY: as above for all `len` elements. No other reference to them exists:
        // the slice's owner is kept out by the borrow, other shards have other columns,
        // and another row of this shard needs `&mut self` again.
        unsafe { std::slice::from_raw_parts_mut(first, self.len) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_once() {
        for threads in 1..=4 {
            let pool = Pool::new(threads).unwrap();
            let seen: Vec<AtomicUsize> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
            let cursor = Cursor::new(seen.len());
            pool.run(&|_| {
                while let Some(run) = cursor.next_run(|left| left / 8) {
                    assert!(!run.is_empty());
                    for i in run {
                        seen[i].fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            assert!(seen.iter().all(|seen| seen.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn every_shard_of_a_slice_comes_once() {
        let pool = Pool::new(3).unwrap();
        for (len, shard_len) in [(0, 1), (1, 1), (7, 3), (64, 8), (1000, 13), (5, 100)] {
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
                let shards = ColumnShards::new(&mut matrix, width, cols);
                pool.run(&|_| {
                    while let Some(mut shard) = shards.next() {
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
    fn shares_are_long_first_and_whole_shards() {
        for workers in 1..=4 {
            let pool = Pool::new(workers).unwrap();
            let mut matrix = vec![0; 2 * 1000];
            let shards = ColumnShards::new(&mut matrix, 1000, 16);
            let first = shards.next_share(workers).unwrap().len();
            assert_eq!(first, if workers == 1 { 1000 } else { 63 / (2 * workers) * 16 });
            pool.run(&|_| {
                while let Some(mut share) = shards.next_share(workers) {
                    assert!(share.start().is_multiple_of(16) && share.len() <= 1000 - share.start());
                    for row in 0..2 {
                        share.row_mut(row).iter_mut().for_each(|element| *element += 1);
                    }
                }
            });
            for row in matrix.chunks(1000) {
                assert!(row[..first].iter().all(|element| *element == 0));
                assert!(row[first..].iter().all(|element| *element == 1), "{workers} workers");
            }
        }
    }

    #[test]
    #[should_panic(expected = "row 2 of 2")]
    fn a_row_out_of_range_panics() {
        let mut matrix = [0; 6];
        let shards = ColumnShards::new(&mut matrix, 3, 2);
        shards.next().unwrap().row_mut(2);
    }
}
