//! A fixed set of threads that run one *region* at a time: the same closure on
//! every thread, and nobody goes on before all are done.
//!
//! A token is some two hundred regions of 20 to 100 µs, so the hand-off must
//! cost about a microsecond when regions follow each other, and nothing at all
//! when the program does something else.
//!
//! # States
//!
//! ```text
//!            caller                                  each worker
//!
//!  ┌──▶ idle ── lock `turn` ──┐              ┌──▶ waiting for `epoch` to move
//!  │                          ▼              │      spin, yield, park
//!  │      publish: `running` = workers,      │               │
//!  │               `region`  = the closure   │               │
//!  │               `epoch`  += 1  ───────────┼───────────────▼
//!  │                          │              │      inside: run the closure
//!  │      run the closure     │              │               │
//!  │                          ▼              │      `running` -= 1; the last one
//!  │      waiting for `running` = 0 ◀────────┼───── signals `done`
//!  │        spin, yield, sleep on `done`     └───────────────┘
//!  └──────────────────────────┘
//! ```
//!
//! * `region` and `running` are stored by the caller alone, and only while all
//!   workers wait: before the pool's first epoch, or after `running` came to 0.
//! * The increment of `epoch` (release) hands both to the workers, who read it
//!   with acquire. Every worker takes part in every region exactly once, so
//!   none can miss an epoch and the counter may wrap.
//! * The decrement of `running` (release) hands the worker's writes back to the
//!   caller, who reads 0 with acquire.
//! * A null `region` tells the workers to end; only `Drop` publishes it.
//!
//! # Safety
//!
//! A worker calls a closure that lives on the caller's stack, through a pointer
//! whose lifetime is erased. It does so between the epoch and its decrement of
//! `running`; [`Pool::run`] returns, and unwinds, only after `running` came to
//! 0. Panics inside the closure are caught on both sides of that wait and go on
//! after it, so there is no way out of `run` that leaves a worker inside.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{hint, io};

use super::sync::{Arc, AtomicPtr, AtomicU32, AtomicUsize, Condvar, Mutex, MutexGuard, thread};

/// What a region runs on every thread; the argument is the thread's index.
type Region<'a> = &'a (dyn Fn(usize) + Sync);

/// How long a waiting thread spins: longer than most waits inside a token, and
/// short enough that two threads who must share a core don't lose much by it.
const SPIN: Duration = Duration::from_micros(5);

/// How long it then offers its core to others between looks, before it sleeps.
/// With more threads than cores this is what lets the others finish.
const YIELD: Duration = Duration::from_micros(45);

/// A fixed set of threads that run one region at a time.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<thread::JoinHandle<()>>,
    /// Held by the caller whose region runs.
    turn: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads, the caller's included; zero counts as one,
    /// and one makes no thread at all.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn new(threads: usize) -> io::Result<Self> {
        let mut pool = Self { shared: Arc::new(Shared::default()), workers: Vec::new(), turn: Mutex::new(()) };
        for worker in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let builder = thread::Builder::new().name(format!("tritwise-{worker}"));
            // On an error, dropping the pool ends the workers made so far.
            pool.workers.push(builder.spawn(move || shared.work(worker))?);
        }
        Ok(pool)
    }

    /// Number of threads that take part in a region.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `region` once on every thread, with the thread's index below
    /// [`Pool::threads`], and returns when all have returned. The caller is thread 0.
    ///
    /// Callers on several threads take turns (except in a pool of one, where
    /// each runs its own region at once). A region must not run another one on
    /// the same pool: it would wait for itself.
    ///
    /// # Panics
    /// As `region` does, on whatever thread. The pool stays usable.
    pub(crate) fn run(&self, region: Region<'_>) {
        if self.workers.is_empty() {
            return region(0);
        }
        let turn = lock(&self.turn);
        self.publish(ptr::from_ref(&region).cast_mut().cast());
        let own = catch_unwind(AssertUnwindSafe(|| region(0)));
        self.shared.wait_for_workers();
        let theirs = lock(&self.shared.panic).take();
        drop(turn);
        if let Some(panic) = own.err().or(theirs) {
            resume_unwind(panic);
        }
    }

    /// Starts an epoch with `region`, or the last one with null.
    fn publish(&self, region: *mut Region<'static>) {
        self.shared.region.store(region, Ordering::Relaxed);
        self.shared.running.0.store(self.workers.len(), Ordering::Relaxed);
        self.shared.epoch.0.fetch_add(1, Ordering::Release);
        for worker in &self.workers {
            // Costs one atomic exchange where the worker is awake.
            worker.thread().unpark();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.publish(ptr::null_mut());
        for worker in self.workers.drain(..) {
            // A worker catches every panic of a region, and has none of its own.
            let _ = worker.join();
        }
    }
}

/// What the caller and the workers see of each other.
#[derive(Debug, Default)]
struct Shared {
    epoch: OwnLine<AtomicU32>,
    running: OwnLine<AtomicUsize>,
    region: AtomicPtr<Region<'static>>,
    /// The first panic of a worker in this region.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Guards nothing but the caller's way from a look at `running` to its sleep
    /// on `done`: a worker passes through before it signals, so no signal is lost.
    sleep: Mutex<()>,
    done: Condvar,
}

impl Shared {
    /// A worker's life.
    fn work(&self, worker: usize) {
        let mut seen = 0;
        loop {
            let moved = || self.epoch.0.load(Ordering::Acquire) != seen;
            if !spin(&moved) {
                // Parking returns at once if the caller has unparked since, and may
                // return for no reason.
                while !moved() {
                    thread::park();
                }
            }
            seen = seen.wrapping_add(1);
            let region = self.region.load(Ordering::Relaxed);
            if region.is_null() {
                return;
            }
            let run = || {
                // SAFETY: not null, so `run` published it, and it lives until `running`
                // is decremented below; see the module's documentation.
                let region = unsafe { *region };
                region(worker);
            };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
                lock(&self.panic).get_or_insert(panic);
            }
            if self.running.0.fetch_sub(1, Ordering::Release) == 1 {
                drop(lock(&self.sleep));
                self.done.notify_one();
            }
        }
    }

    fn wait_for_workers(&self) {
        let done = || self.running.0.load(Ordering::Acquire) == 0;
        if !spin(&done) {
            let mut asleep = lock(&self.sleep);
            while !done() {
                asleep = self.done.wait(asleep).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// Waits a short while for `ready`; whether it came.
fn spin(ready: &dyn Fn() -> bool) -> bool {
    /// Looks between two readings of the clock, which cost about as much.
    const LOOKS: usize = 16;
    // The model checker has no clock, and one look is as good as many.
    if ready() || cfg!(loom) {
        return ready();
    }
    let start = Instant::now();
    loop {
        let waited = start.elapsed();
        if waited > SPIN + YIELD {
            return ready();
        }
        for _ in 0..LOOKS {
            if ready() {
                return true;
            }
            hint::spin_loop();
        }
        if waited > SPIN {
            thread::yield_now();
        }
    }
}

/// Locks `mutex`. What ours guard is whole at every step, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value with a cache line (two, for processors that fetch pairs) to itself,
/// so that those who wait for it don't slow down those who write its neighbours.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OwnLine<T>(T);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_a_region_once() {
        for threads in 0..=4 {
            let pool = Pool::new(threads).unwrap();
            assert_eq!(pool.threads(), threads.max(1));
            let ran: Vec<AtomicUsize> = (0..pool.threads()).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..100 {
                pool.run(&|worker| {
                    ran[worker].fetch_add(1, Ordering::Relaxed);
                });
            }
            assert!(ran.iter().all(|ran| ran.load(Ordering::Relaxed) == 100), "{threads} threads: {ran:?}");
        }
    }

    #[test]
    fn a_hundred_thousand_regions_hand_their_writes_on() {
        // Each region reads what all threads wrote in the one before, without
        // synchronisation of its own beyond relaxed loads and stores.
        for threads in 2..=4 {
            let pool = Pool::new(threads).unwrap();
            let cells: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            let next: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            let regions = 100_000 / 3;
            for region in 0..regions {
                let (from, to) = if region % 2 == 0 { (&cells, &next) } else { (&next, &cells) };
                pool.run(&|worker| {
                    let sum: usize = from.iter().map(|cell| cell.load(Ordering::Relaxed)).sum();
                    assert_eq!(sum, region * threads);
                    to[worker].store(region + 1, Ordering::Relaxed);
                });
            }
        }
    }

    #[test]
    fn a_worker_that_slept_wakes_up() {
        let pool = Pool::new(3).unwrap();
        for _ in 0..5 {
            let ran = AtomicUsize::new(0);
            pool.run(&|worker| {
                // The caller, too, waits long enough to sleep.
                if worker > 0 {
                    thread::sleep(2 * (SPIN + YIELD));
                }
                ran.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(ran.into_inner(), 3);
            thread::sleep(10 * (SPIN + YIELD));
        }
    }

    #[test]
    fn callers_take_turns() {
        let pool = Pool::new(2).unwrap();
        let inside = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        pool.run(&|_| {
                            assert!(inside.fetch_add(1, Ordering::Relaxed) < 2, "a region of another caller runs");
                            inside.fetch_sub(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
    }

    #[test]
    fn panics_reach_the_caller_and_leave_the_pool_usable() {
        let pool = Pool::new(3).unwrap();
        for culprit in 0..3 {
            let finished = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|worker| {
                    if worker == culprit {
                        // Without the hook's message in the test's output.
                        resume_unwind(Box::new(worker));
                    }
                    finished.fetch_add(1, Ordering::Relaxed);
                });
            }));
            assert_eq!(result.unwrap_err().downcast_ref(), Some(&culprit));
            assert_eq!(finished.into_inner(), 2, "the others finish");
        }
        pool.run(&|_| {});
    }

    #[test]
    fn one_thread_is_the_callers() {
        let pool = Pool::new(1).unwrap();
        let caller = thread::current().id();
        pool.run(&|worker| assert_eq!((worker, thread::current().id()), (0, caller)));
        assert!(pool.workers.is_empty());
    }
}

/// The protocol under every order of events, by `RUSTFLAGS="--cfg loom" cargo test
/// --release -p tritwise-kernels --lib model`.
#[cfg(all(test, loom))]
mod model {
    use super::*;

    /// All orders with at most so many preemptions: seconds, where all orders of
    /// the first test (which pass, too) take minutes.
    fn bounded(preemptions: usize) -> loom::model::Builder {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(preemptions);
        model
    }

    /// Each region reads what both threads wrote in the one before. Loads are
    /// relaxed, so only the pool's own ordering can make them see it.
    #[test]
    fn regions_hand_their_writes_on() {
        bounded(3).check(|| {
            let pool = Pool::new(2).unwrap();
            let cells = [0; 3].map(|_| [0; 2].map(|_| AtomicUsize::new(0)));
            for region in 1..3 {
                pool.run(&|worker| {
                    let seen = cells[region - 1].each_ref().map(|cell| cell.load(Ordering::Relaxed));
                    assert_eq!(seen, [region - 1; 2]);
                    cells[region][worker].store(region, Ordering::Relaxed);
                });
            }
            assert_eq!(cells[2].each_ref().map(|cell| cell.load(Ordering::Relaxed)), [2; 2]);
        });
    }

    #[test]
    fn two_workers_end_one_region() {
        bounded(2).check(|| {
            let pool = Pool::new(3).unwrap();
            let ran = AtomicUsize::new(0);
            pool.run(&|_| {
                ran.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(ran.load(Ordering::Relaxed), 3);
        });
    }

    #[test]
    fn a_pool_that_never_ran_ends() {
        loom::model(|| drop(Pool::new(2).unwrap()));
    }
}
