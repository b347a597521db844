//! The synchronisation primitives of this module: the standard library's, or
//! loom's, whose model checker runs a test under every order of events that the
//! memory model allows (`tests` in `pool.rs`).

#[cfg(not(all(loom, test)))]
mod primitives {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
    pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread;
}

#[cfg(all(loom, test))]
mod primitives {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
    pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
    pub(crate) use loom::thread;
}

pub(super) use primitives::*;
