//! Stopping a generation: from another thread, or at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::StopReason;

/// What ends generations before their time: a flag that any thread may set, and a deadline.
///
/// Clones share the flag. Both are looked at between tokens and, while a prompt is read, twice in every
/// block of the graph, so that a long prompt does not hold a generation up (docs/sessions.md has figures).
///
/// ```
/// use std::time::Duration;
/// use tritwise::Cancel;
///
/// let cancel = Cancel::new().after(Duration::from_secs(10));
/// let elsewhere = cancel.clone();
/// std::thread::spawn(move || elsewhere.cancel()).join().unwrap();
/// assert!(cancel.is_cancelled());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl Cancel {
    /// A flag that is not set, and no deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same flag, with a deadline: generations end at `deadline`, or at an earlier one given before.
    pub fn at(mut self, deadline: Instant) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
        self
    }

    /// As [`at`](Self::at), `time` from now. Not there on `wasm32-unknown-unknown`, which has no clock.
    #[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
    pub fn after(self, time: std::time::Duration) -> Self {
        match Instant::now().checked_add(time) {
            Some(deadline) => self.at(deadline),
            // Later than the clock can tell is never.
            None => self,
        }
    }

    /// Ends every generation that watches this flag: before its next token, or, where a prompt is read, after half a
    /// block of at most 64 tokens. docs/sessions.md has the time that takes.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Why what watches this should end now, if it should.
    pub(crate) fn reason(&self) -> Option<StopReason> {
        if self.is_cancelled() {
            return Some(StopReason::Cancelled);
        }
        self.deadline.filter(|deadline| Instant::now() >= *deadline).map(|_| StopReason::Deadline)
    }
}
