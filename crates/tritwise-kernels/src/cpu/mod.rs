//! The CPU backend: packed matrices, one instruction set, one pool of threads.

mod matmul;
mod rows;

use crate::arch::{self, Isa};
use crate::parallel::Pool;

pub use rows::{Quantized, QuantizedRow, Rows};

/// A [`Backend`](crate::Backend) on this machine's CPU.
#[derive(Debug)]
pub struct CpuBackend {
    isa: &'static dyn Isa,
    pool: Pool,
}

impl CpuBackend {
    /// The best instruction set of this CPU on `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self {
            isa: arch::available()[0],
            pool: Pool::new(threads),
        }
    }

    /// The instruction set that runs.
    pub fn isa(&self) -> &'static dyn Isa {
        self.isa
    }

    /// Threads that take part in a parallel region.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
}
