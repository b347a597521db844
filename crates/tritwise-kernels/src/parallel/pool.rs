//! A fixed set of threads that run one region at a time.

/// A fixed set of threads that run one region at a time.
#[derive(Debug)]
pub(crate) struct Pool {
    threads: usize,
}

impl Pool {
    /// A pool of `threads` threads, the caller's included; zero counts as one.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads: threads.max(1),
        }
    }

    /// Number of threads that take part in a region.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `region` once per thread, with the thread's index below [`Pool::threads`], and returns when all have returned.
    pub(crate) fn run(&self, region: &(dyn Fn(usize) + Sync)) {
        for worker in 0..self.threads {
            region(worker);
        }
    }
}
