//! A fixed set of threads that work on one *region* at a time: a closure that
//! any number of them may run at once, because it takes its work in pieces from
//! a cursor until none is left.
//!
//! A token is some two hundred regions of 20 to 100 µs, so the hand-off must
//! cost about a microsecond when regions follow each other, and nothing at all
//! when the program does something else. And a core that another process has
//! taken must not hold everybody up: the caller waits for the threads that are
//! *inside* a region, never for one that has not come. Once the caller itself
//! finds no more work, it closes the region, and who comes late stays out.
//! (Regions in which every thread had to take part cost 26 µs each with one of
//! two cores taken, whatever the work; these cost what the work does.)
//!
//! # States
//!
//! All threads meet at one word, the gate:
//!
//! ```text
//! bits 31 … 12     11      10 … 0
//!      epoch      open     inside = workers in the region
//!
//!            caller                                  each worker
//!
//!  ┌──▶ idle ── lock `turn` ──┐              ┌──▶ waiting for an open gate
//!  │                          ▼              │    of an epoch not seen yet:
//!  │      `region` = the closure             │      spin, yield, park
//!  │      gate = next epoch, open, 0 ────────┼───────────────▼
//!  │                          │              │      entering: inside += 1, if still open
//!  │      run the closure     │              │      run the closure
//!  │                          ▼              │      leaving: inside -= 1; the last
//!  │      gate: no longer open               │      one to leave a closed gate
//!  │      waiting for inside = 0 ◀───────────┼───── signals `done`
//!  │        spin, yield, sleep on `done`     └───────────────┘
//!  └──────────────────────────┘
//! ```
//!
//! * `region` is stored by the caller alone, and only while the gate is closed
//!   with nobody inside. It cannot change while a worker is inside.
//! * Opening the gate (release) hands the closure to the workers, who enter with
//!   acquire. A worker that waited long may enter a later epoch than the one
//!   that woke it; it is that epoch's closure which it then finds.
//! * Leaving (release) hands a worker's writes back to the caller, who finds the
//!   gate empty with acquire.
//! * A worker that slept through all epochs, until the counter came round to the
//!   one it saw last, misses a region; so does any that is late.
//!
//! # Safety
//!
//! A worker calls a closure that lives on the caller's stack, through a pointer
//! whose lifetime is erased. It does so between entering and leaving, and it
//! enters only an open gate. [`Pool::run`] returns, and unwinds, only after it
//! closed the gate and found nobody inside. Panics of the closure are caught on
//! both sides and go on after that, so there is no way out of `run` that leaves
//! a worker inside.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{hint, io};

use super::sync::{Arc, AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Condvar, Mutex, MutexGuard, thread};

/// What a region runs on every thread; the argument is the thread's index.
type Region<'a> = &'a (dyn Fn(usize) + Sync);

/// How long a waiting thread spins: longer than most waits inside a token, and
/// short enough that two threads who must share a core don't lose much by it.
const SPIN: Duration = Duration::from_micros(5);

/// How long it then offers its core to others between looks, before it sleeps.
/// With more threads than cores this is what lets the others finish.
const YIELD: Duration = Duration::from_micros(45);

/// A fixed set of threads that work on one region at a time, or some of them.
#[derive(Debug)]
pub(crate) struct Pool {
    crew: Arc<Crew>,
    /// Threads that this handle calls, the caller's included.
    threads: usize,
}

/// The threads, which end with the last [`Pool`] that calls them.
#[derive(Debug)]
struct Crew {
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
    ///
    /// # Panics
    /// There are more than the gate counts, 2,048.
    pub(crate) fn new(threads: usize) -> io::Result<Self> {
        assert!(threads <= INSIDE as usize + 1, "{threads} threads");
        let mut crew = Crew { shared: Arc::new(Shared::default()), workers: Vec::new(), turn: Mutex::new(()) };
        for worker in 1..threads {
            let shared = Arc::clone(&crew.shared);
            let builder = thread::Builder::new().name(format!("tritwise-{worker}"));
            // On an error, dropping the crew ends the workers made so far.
            crew.workers.push(builder.spawn(move || shared.work(worker))?);
        }
        Ok(Self { threads: crew.workers.len() + 1, crew: Arc::new(crew) })
    }

    /// A pool of at most `threads` of the same threads, for regions that more would
    /// not help. The others sleep meanwhile.
    pub(crate) fn limited_to(&self, threads: usize) -> Self {
        Self { crew: Arc::clone(&self.crew), threads: threads.clamp(1, self.crew.workers.len() + 1) }
    }

    /// Number of threads that may take part in a region.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `region` on this thread, and on those of the pool that come before
    /// this call of it has returned; returns when all have. The argument is the
    /// thread's index below [`Pool::threads`], 0 for the caller's.
    ///
    /// Nothing may depend on how many come: `region` takes pieces of work from a
    /// cursor until none is left, so that one thread alone would do it all.
    ///
    /// Callers on several threads take turns (except in a pool of one, where
    /// each runs its own region at once). A region must not run another one on
    /// the same pool: it would wait for itself.
    ///
    /// # Panics
    /// As `region` does, on whatever thread. The pool stays usable.
    pub(crate) fn run(&self, region: Region<'_>) {
        if self.threads == 1 {
            return region(0);
        }
        let Crew { shared, turn, .. } = &*self.crew;
        let turn = lock(turn);
        shared.threads.store(self.threads, Ordering::Relaxed);
        shared.open(ptr::from_ref(&region).cast_mut().cast());
        self.crew.wake(self.threads);
        let own = catch_unwind(AssertUnwindSafe(|| region(0)));
        shared.close();
        let theirs = lock(&shared.panic).take();
        drop(turn);
        if let Some(panic) = own.err().or(theirs) {
            resume_unwind(panic);
        }
    }
}

impl Crew {
    /// Wakes the workers among the first `threads` threads.
    fn wake(&self, threads: usize) {
        // The model checker orders events at atomics and yields, not at `unpark`:
        // here it lets a worker see the open gate before it is woken.
        #[cfg(all(test, loom))]
        thread::yield_now();
        for worker in self.workers.iter().take(threads - 1) {
            // Costs one atomic exchange where the worker is awake.
            worker.thread().unpark();
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake(self.workers.len() + 1);
        for worker in self.workers.drain(..) {
            // A worker catches every panic of a region, and has none of its own.
            let _ = worker.join();
        }
    }
}

/// The gate's count of workers inside.
const INSIDE: u32 = (1 << 11) - 1;

/// The gate's bit that lets workers in.
const OPEN: u32 = INSIDE + 1;

/// One epoch.
const EPOCH: u32 = 2 * OPEN;

/// What the caller and the workers see of each other.
#[derive(Debug, Default)]
struct Shared {
    gate: OwnLine<AtomicU32>,
    region: AtomicPtr<Region<'static>>,
    /// Threads that are wanted in the region. Safety does not hang on it: no region
    /// needs a worker, and each bears all of them.
    threads: AtomicUsize,
    /// Tells the workers to end; only `Drop` sets it.
    stop: AtomicBool,
    /// The first panic of a worker in this region.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Guards nothing but the caller's way from a look at the gate to its sleep
    /// on `done`: a worker passes through before it signals, so no signal is lost.
    sleep: Mutex<()>,
    done: Condvar,
}

impl Shared {
    /// Lets workers into `region`. The gate is closed and nobody inside.
    fn open(&self, region: *mut Region<'static>) {
        self.region.store(region, Ordering::Relaxed);
        let epoch = self.gate.0.load(Ordering::Relaxed) & !(OPEN | INSIDE);
        self.gate.0.store(epoch.wrapping_add(EPOCH) | OPEN, Ordering::Release);
    }

    /// Lets no more workers in, and returns when those inside have left.
    fn close(&self) {
        let empty = |gate: u32| gate & INSIDE == 0;
        if empty(self.gate.0.fetch_and(!OPEN, Ordering::Acquire)) {
            return;
        }
        let done = || empty(self.gate.0.load(Ordering::Acquire));
        if !spin(&done) {
            let mut asleep = lock(&self.sleep);
            while !done() {
                asleep = self.done.wait(asleep).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// A worker's life.
    fn work(&self, worker: usize) {
        // The gate begins at 0, closed, so the first epoch that opens it is another.
        let mut seen = 0;
        loop {
            let stopped = || self.stop.load(Ordering::Acquire);
            let wanted = |gate: u32| {
                let new = gate & OPEN != 0 && gate & !(OPEN | INSIDE) != seen;
                new && worker < self.threads.load(Ordering::Relaxed)
            };
            let called = || wanted(self.gate.0.load(Ordering::Relaxed)) || stopped();
            if !spin(&called) {
                // Parking returns at once if the caller has unparked since, and may
                // return for no reason.
                while !called() {
                    thread::park();
                }
            }
            if stopped() {
                return;
            }
            let enter = |gate| wanted(gate).then_some(gate + 1);
            let Ok(gate) = self.gate.0.fetch_update(Ordering::Acquire, Ordering::Acquire, enter) else {
                continue;
            };
            seen = gate & !(OPEN | INSIDE);
            let run = || {
                let region = self.region.load(Ordering::Relaxed);
                // SAFETY: this worker is inside, so `run` has published the region and
                // waits for it to leave; see the module's documentation.
                let region = unsafe { *region };
                region(worker);
            };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
                lock(&self.panic).get_or_insert(panic);
            }
            let gate = self.gate.0.fetch_sub(1, Ordering::Release) - 1;
            if gate & (OPEN | INSIDE) == 0 {
                drop(lock(&self.sleep));
                self.done.notify_one();
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
    use crate::parallel::shards::Cursor;

    /// Waits in a region until `threads` threads are in it.
    fn gather(arrived: &AtomicUsize, threads: usize) {
        arrived.fetch_add(1, Ordering::Relaxed);
        while arrived.load(Ordering::Relaxed) < threads {
            thread::yield_now();
        }
    }

    #[test]
    fn every_thread_comes_to_a_region_that_lasts() {
        for threads in 0..=4 {
            let pool = Pool::new(threads).unwrap();
            assert_eq!(pool.threads(), threads.max(1));
            for _ in 0..if cfg!(miri) { 2 } else { 20 } {
                let ran: Vec<AtomicUsize> = (0..pool.threads()).map(|_| AtomicUsize::new(0)).collect();
                let arrived = AtomicUsize::new(0);
                pool.run(&|worker| {
                    ran[worker].fetch_add(1, Ordering::Relaxed);
                    gather(&arrived, pool.threads());
                });
                assert!(ran.iter().all(|ran| ran.load(Ordering::Relaxed) == 1), "{threads} threads: {ran:?}");
            }
        }
    }

    #[test]
    fn a_hundred_thousand_regions_hand_their_writes_on() {
        // Each region counts all cells up by relaxed loads and stores: a write of
        // the region before that did not arrive, or a piece done twice, would show.
        for threads in 2..=4 {
            let pool = Pool::new(threads).unwrap();
            let cells: Vec<AtomicUsize> = (0..16).map(|_| AtomicUsize::new(0)).collect();
            for region in 0..if cfg!(miri) { 20 } else { 100_000 / 3 } {
                let cursor = Cursor::new(cells.len(), pool.threads());
                pool.run(&|worker| {
                    while let Some(i) = cursor.next_run(worker, |_left, _end| 1).map(|run| run.start as usize) {
                        assert_eq!(cells[i].load(Ordering::Relaxed), region);
                        cells[i].store(region + 1, Ordering::Relaxed);
                    }
                });
            }
        }
    }

    #[test]
    fn a_worker_that_slept_wakes_up() {
        let pool = Pool::new(3).unwrap();
        for _ in 0..5 {
            thread::sleep(10 * (SPIN + YIELD));
            let arrived = AtomicUsize::new(0);
            pool.run(&|worker| {
                gather(&arrived, 3);
                // The caller, too, waits long enough to sleep.
                if worker > 0 {
                    thread::sleep(4 * (SPIN + YIELD));
                }
            });
        }
    }

    #[test]
    fn who_comes_late_stays_out() {
        let pool = Pool::new(2).unwrap();
        let inside = AtomicBool::new(false);
        for _ in 0..if cfg!(miri) { 50 } else { 10_000 } {
            inside.store(true, Ordering::Relaxed);
            // Over before a worker that sleeps can have woken.
            pool.run(&|_| assert!(inside.load(Ordering::Relaxed)));
            inside.store(false, Ordering::Relaxed);
        }
    }

    #[test]
    fn callers_take_turns() {
        let pool = Pool::new(2).unwrap();
        let owner = AtomicUsize::new(0);
        thread::scope(|scope| {
            for caller in 1..=3 {
                let (pool, owner) = (&pool, &owner);
                scope.spawn(move || {
                    for _ in 0..if cfg!(miri) { 10 } else { 1000 } {
                        pool.run(&|_| {
                            let other = owner.swap(caller, Ordering::Relaxed);
                            thread::yield_now();
                            assert!(other == 0 || other == caller, "a region of caller {other} runs");
                            owner.store(0, Ordering::Relaxed);
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
            let (arrived, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|worker| {
                    gather(&arrived, 3);
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
        assert!(pool.crew.workers.is_empty());
    }

    #[test]
    fn a_limited_pool_calls_the_first_threads_only() {
        let pool = Pool::new(4).unwrap();
        for (limit, threads) in [(0, 1), (1, 1), (2, 2), (3, 3), (9, 4)] {
            let limited = pool.limited_to(limit);
            assert_eq!(limited.threads(), threads);
            for _ in 0..if cfg!(miri) { 2 } else { 50 } {
                let arrived = AtomicUsize::new(0);
                limited.run(&|_| gather(&arrived, threads));
                // Those that it did not call wake up for a region of all.
                let arrived = AtomicUsize::new(0);
                pool.run(&|_| gather(&arrived, 4));
            }
            for _ in 0..if cfg!(miri) { 10 } else { 1000 } {
                limited.run(&|worker| assert!(worker < threads, "thread {worker} of {threads}"));
            }
        }
    }

    #[test]
    fn threads_outlive_the_pool_they_were_made_with() {
        let pool = Pool::new(3).unwrap();
        let limited = pool.limited_to(2);
        drop(pool);
        let arrived = AtomicUsize::new(0);
        limited.run(&|_| gather(&arrived, 2));
    }
}

/// The protocol under every order of events: `tools/ci/loom.sh`.
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::parallel::shards::Cursor;

    /// Counts two cells up in each of two regions. Loads and stores are relaxed, so
    /// only the pool's own ordering can make a region see the one before.
    #[test]
    fn regions_hand_their_writes_on() {
        let mut model = loom::model::Builder::new();
        // Seconds; orders with three preemptions take minutes.
        model.preemption_bound = Some(2);
        model.check(|| {
            let pool = Pool::new(2).unwrap();
            let cells = [AtomicUsize::new(0), AtomicUsize::new(0)];
            for region in 0..2 {
                let cursor = Cursor::new(cells.len(), pool.threads());
                pool.run(&|worker| {
                    while let Some(i) = cursor.next_run(worker, |_left, _end| 1).map(|run| run.start as usize) {
                        assert_eq!(cells[i].load(Ordering::Relaxed), region);
                        cells[i].store(region + 1, Ordering::Relaxed);
                    }
                });
            }
            assert!(cells.iter().all(|cell| cell.load(Ordering::Relaxed) == 2));
        });
    }

    #[test]
    fn a_pool_that_never_ran_ends() {
        loom::model(|| drop(Pool::new(2).unwrap()));
    }

    /// The other side finishes first, and the pool runs the next region.
    #[test]
    fn panics_reach_the_caller_and_leave_the_pool_usable() {
        for culprit in 0..2 {
            let mut model = loom::model::Builder::new();
            model.preemption_bound = Some(2);
            model.check(move || {
                let pool = Pool::new(2).unwrap();
                let came = AtomicBool::new(culprit == 0);
                let region = |worker| {
                    if worker == culprit {
                        came.store(true, Ordering::Relaxed);
                        resume_unwind(Box::new(worker));
                    }
                };
                let result = catch_unwind(AssertUnwindSafe(|| pool.run(&region)));
                assert_eq!(result.is_err(), came.load(Ordering::Relaxed));
                pool.run(&|_| {});
            });
        }
    }
}
