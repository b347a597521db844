//! The CPU backend: packed matrices, one instruction set, one pool of threads.

mod attend;
mod backend;
mod builder;
mod cache;
mod elementwise;
mod gated;
mod head;
mod matmul;
mod norm;
mod quantize;
mod rope;
mod rows;
mod screen;
mod sketch;
mod topology;

use std::hint;
use std::sync::atomic::{AtomicUsize, Ordering};

use tritwise_tensor::Config;

use crate::arch::{Isa, Layout};
use crate::arena::Arena;
use crate::parallel::Pool;

pub use crate::arch::KvType;
pub use builder::{CpuBuilder, CpuError};
pub use cache::Cache;
pub use head::{HeadMode, Table};
pub use norm::Norm;
pub use rope::Rotary;
pub use rows::{Quantized, Rounding, Rows};

/// A [`Backend`](crate::Backend) on this machine's CPU.
///
/// ```
/// use tritwise_kernels::CpuBackend;
///
/// let cpu = CpuBackend::builder().threads(2).isa("scalar").build()?;
/// assert_eq!((cpu.isa().name(), cpu.threads()), ("scalar", 2));
/// # Ok::<(), tritwise_kernels::cpu::CpuError>(())
/// ```
#[derive(Debug)]
pub struct CpuBackend {
    isa: &'static dyn Isa,
    layout: Layout,
    pool: Pool,
    /// For batches of one token.
    decode_pool: Pool,
    kv: KvType,
    arena: Arena,
    head: HeadMode,
    in_place: bool,
    exact_inputs: bool,
    head_input: head::HeadInput,
}

impl CpuBackend {
    /// Chooses threads, instruction set and layouts.
    pub fn builder() -> CpuBuilder {
        CpuBuilder::default()
    }

    /// The instruction set that runs.
    pub fn isa(&self) -> &'static dyn Isa {
        self.isa
    }

    /// How ternary weights are packed.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Threads that take part in a parallel region, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// As [`CpuBackend::threads`], for batches of one token ([`CpuBuilder::decode_threads`]).
    pub fn decode_threads(&self) -> usize {
        self.decode_pool.threads()
    }

    /// How the caches that [`Backend::cache`](crate::Backend::cache) makes keep keys and values.
    pub fn kv_type(&self) -> KvType {
        self.kv
    }

    /// As [`Backend::cache`](crate::Backend::cache), with keys and values kept as `kv`.
    pub fn cache_of(&self, config: &Config, capacity: usize, kv: KvType) -> Cache {
        Cache::new(config, capacity, kv)
    }

    /// Whether the inputs of linear layers stay `f32` where the model's reference does not round them
    /// ([`CpuBuilder::exact_inputs`]).
    pub fn exact_inputs(&self) -> bool {
        self.exact_inputs
    }

    /// Calls all threads together, and returns when each has come, computing nothing:
    /// timed, it is what a thread's share of an operation costs at least.
    pub fn gather(&self) {
        let missing = AtomicUsize::new(self.threads());
        self.pool.run(&|_worker| {
            missing.fetch_sub(1, Ordering::Relaxed);
            while missing.load(Ordering::Relaxed) > 0 {
                hint::spin_loop();
            }
        });
    }

    /// The threads for a batch of `tokens`.
    fn pool(&self, tokens: usize) -> &Pool {
        if tokens == 1 { &self.decode_pool } else { &self.pool }
    }
}
