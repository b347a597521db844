//! How long something takes, where there is a clock to tell.

use std::time::{Duration, Instant};

/// A point in time to measure from. On `wasm32-unknown-unknown`, where `std` has no clock and panics if asked for the
/// time, there is none, and everything takes no time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch {
    start: Option<Instant>,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let clock = cfg!(not(all(target_family = "wasm", target_os = "unknown")));
        Self { start: clock.then(Instant::now) }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.map_or(Duration::ZERO, |start| start.elapsed())
    }
}
