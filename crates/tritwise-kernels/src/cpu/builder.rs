//! Construction of a [`CpuBackend`]: how many threads, which instruction set.

use std::io;
use std::num::NonZero;

use crate::arch::{self, Layout};
use crate::arena::Arena;
use crate::parallel::Pool;

use super::{CpuBackend, HeadMode, KvType, topology};

/// Threads at most, so that a slip of the finger does not make a million.
const MAX_THREADS: usize = 1024;

/// Chooses threads, instruction set and layouts of a [`CpuBackend`].
///
/// Without a choice: one thread per physical core, the best instruction set of this CPU,
/// and the layout of weights that is fastest with it.
#[derive(Debug, Clone, Default)]
pub struct CpuBuilder {
    threads: Option<usize>,
    decode_threads: Option<usize>,
    isa: Option<String>,
    layout: Option<String>,
    kv: KvType,
    head: HeadMode,
    in_place: bool,
    exact_inputs: bool,
}

/// Why a [`CpuBackend`] could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CpuError {
    /// The instruction set asked for is unknown, or this CPU lacks it.
    #[error("this CPU has no instruction set `{name}`; it has {}", available.join(", "))]
    Isa {
        /// The name asked for.
        name: String,
        /// The names there are, best first.
        available: Vec<&'static str>,
    },
    /// The layout asked for is unknown, or the instruction set has no kernels for it.
    #[error("{isa} has no kernels for the layout `{name}`; it has {}", available.join(", "))]
    Layout {
        /// The name asked for.
        name: String,
        /// The instruction set.
        isa: &'static str,
        /// The names it has, fastest first.
        available: Vec<&'static str>,
    },
    /// Exact inputs were asked for together with weights that are not packed in two bits.
    #[error(
        "exact inputs are multiplied with weights packed in the layout `2bit`; ask for neither another layout nor in-place mode"
    )]
    ExactInputs,
    /// A number of threads that makes no sense.
    #[error("{threads} threads were asked for; use 1 to {MAX_THREADS}")]
    Threads {
        /// The number asked for.
        threads: usize,
    },
    /// The system refused a thread.
    #[error("cannot start {threads} threads; ask for fewer")]
    Spawn {
        /// The number asked for.
        threads: usize,
        /// What the system said.
        source: io::Error,
    },
}

impl CpuBuilder {
    /// Threads that take part in a parallel region, the caller's included.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Threads for decoding; by default as many as [`CpuBuilder::threads`].
    ///
    /// Decoding is a batch of one token, whatever the operation: one row of activations.
    /// It waits for memory, which a few cores can exhaust where a prompt has work for
    /// all of them. Batches of more tokens (a prompt, several sequences side by side,
    /// a draft to be checked) have [`CpuBuilder::threads`], and so has packing.
    #[must_use]
    pub fn decode_threads(mut self, threads: usize) -> Self {
        self.decode_threads = Some(threads);
        self
    }

    /// How sequences keep their keys and values; by default in binary16.
    #[must_use]
    pub fn kv(mut self, kv: KvType) -> Self {
        self.kv = kv;
        self
    }

    /// How the output head is multiplied with; by default [screened](HeadMode::Screened).
    #[must_use]
    pub fn head(mut self, head: HeadMode) -> Self {
        self.head = head;
        self
    }

    /// Whether weights stay where they lie in a mapped file, and are computed with there.
    ///
    /// It takes next to no memory beside the system's cache of the file, and no time to pack.
    /// Ternary matrices must be in an encoding whose order is a kernel's (BASE3 where the
    /// CPU has AVX-512 VBMI and GFNI; I2_S whose widths are multiples of 256); others are refused by [`pack`](crate::Backend::pack). It changes
    /// not a bit of any result. A head that was to be screened is read whole: its sketch would
    /// take memory. By default weights are packed.
    #[must_use]
    pub fn in_place(mut self, in_place: bool) -> Self {
        self.in_place = in_place;
        self
    }

    /// Whether the inputs of linear layers stay `f32` in models whose reference does not round them
    /// ([`Inputs::Float`](tritwise_tensor::Inputs::Float)); such a layer then is sums of ±x.
    ///
    /// By default they are rounded to 16 bits, which the logits hardly show and integer kernels multiply several
    /// times as fast. Weights are packed in the layout `2bit`. Models of BitNet's kind round to 8 bits either way.
    #[must_use]
    pub fn exact_inputs(mut self, exact_inputs: bool) -> Self {
        self.exact_inputs = exact_inputs;
        self
    }

    /// Forces an instruction set by its name: `scalar`, `x86_64-avx2`, `x86_64-avx512`, `x86_64-avx512vnni`, `x86_64-amx`.
    #[must_use]
    pub fn isa(mut self, name: impl Into<String>) -> Self {
        self.isa = Some(name.into());
        self
    }

    /// Forces a layout of ternary weights by its name: `2bit` or `base3`
    /// ([`Layout`](arch::Layout)). It changes memory and speed, and not a bit of any result.
    #[must_use]
    pub fn layout(mut self, name: impl Into<String>) -> Self {
        self.layout = Some(name.into());
        self
    }

    /// Forces what the environment variables `TRITWISE_ISA` and `TRITWISE_LAYOUT`
    /// name, where they are set, not empty, and nothing was chosen before.
    #[must_use]
    pub fn from_env(mut self) -> Self {
        let read = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let read = |name| read(name).map(|value| value.to_string_lossy().into_owned());
        self.isa = self.isa.or_else(|| read("TRITWISE_ISA"));
        self.layout = self.layout.or_else(|| read("TRITWISE_LAYOUT"));
        self
    }

    /// The backend.
    ///
    /// # Errors
    /// The instruction set is not one of this CPU's, or has no kernels for the layout;
    /// exact inputs and another layout than `2bit`; a number of threads is zero, absurd, or more than the system starts.
    pub fn build(self) -> Result<CpuBackend, CpuError> {
        let all = arch::available();
        let isa = match self.isa {
            None => all[0],
            Some(name) => match all.iter().find(|isa| isa.name() == name) {
                Some(isa) => *isa,
                None => {
                    return Err(CpuError::Isa { name, available: all.iter().map(|isa| isa.name()).collect() });
                }
            },
        };
        let layout = match self.layout {
            None if self.exact_inputs => Layout::TwoBit,
            None => isa.layouts()[0],
            Some(name) => match isa.layouts().iter().find(|layout| layout.name() == name) {
                Some(layout) => *layout,
                None => {
                    let available = isa.layouts().iter().map(|layout| layout.name()).collect();
                    return Err(CpuError::Layout { name, isa: isa.name(), available });
                }
            },
        };
        if self.exact_inputs && (self.in_place || layout != Layout::TwoBit) {
            return Err(CpuError::ExactInputs);
        }
        let threads = self.threads.unwrap_or_else(default_threads);
        let decode_threads = self.decode_threads.unwrap_or(threads);
        for threads in [threads, decode_threads] {
            if !(1..=MAX_THREADS).contains(&threads) {
                return Err(CpuError::Threads { threads });
            }
        }
        let most = threads.max(decode_threads);
        let all = Pool::new(most).map_err(|source| CpuError::Spawn { threads: most, source })?;
        Ok(CpuBackend {
            isa,
            layout,
            pool: all.limited_to(threads),
            decode_pool: all.limited_to(decode_threads),
            kv: self.kv,
            arena: Arena::default(),
            head: self.head,
            in_place: self.in_place,
            exact_inputs: self.exact_inputs,
            head_input: Default::default(),
        })
    }
}

/// One thread per physical core this process may use: two threads on one core
/// share its vector units and its path to memory, and gain nothing here.
fn default_threads() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, NonZero::get);
    topology::physical_cores().map_or(logical, |cores| cores.min(logical)).clamp(1, MAX_THREADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_instruction_set_can_be_forced() {
        for isa in arch::available() {
            let cpu = CpuBackend::builder().threads(1).isa(isa.name()).build().unwrap();
            assert_eq!(cpu.isa().name(), isa.name());
        }
    }

    #[test]
    fn without_a_choice_the_best_one_runs_on_at_least_one_thread() {
        let cpu = CpuBackend::builder().build().unwrap();
        assert_eq!(cpu.isa().name(), arch::available()[0].name());
        assert!(cpu.threads() >= 1);
    }

    #[test]
    fn an_unknown_instruction_set_is_refused_with_the_list() {
        let error = CpuBackend::builder().isa("z80").build().unwrap_err().to_string();
        assert!(error.contains("`z80`") && error.ends_with("scalar"), "{error}");
    }

    #[test]
    fn every_layout_of_an_instruction_set_can_be_forced() {
        for isa in arch::available() {
            for layout in isa.layouts() {
                let cpu = CpuBackend::builder().threads(1).isa(isa.name()).layout(layout.name()).build().unwrap();
                assert_eq!(cpu.layout(), *layout);
            }
            let cpu = CpuBackend::builder().threads(1).isa(isa.name()).build().unwrap();
            assert_eq!(cpu.layout(), isa.layouts()[0]);
        }
    }

    #[test]
    fn an_unknown_layout_is_refused_with_the_list() {
        let error = CpuBackend::builder().isa("scalar").layout("base4").build().unwrap_err().to_string();
        assert_eq!(error, "scalar has no kernels for the layout `base4`; it has 2bit, base3");
    }

    #[test]
    fn exact_inputs_want_two_bits() {
        for isa in arch::available() {
            let builder = || CpuBackend::builder().threads(1).isa(isa.name()).exact_inputs(true);
            assert_eq!(builder().build().unwrap().layout(), Layout::TwoBit);
            assert_eq!(builder().layout("2bit").build().unwrap().layout(), Layout::TwoBit);
            assert!(matches!(builder().in_place(true).build(), Err(CpuError::ExactInputs)));
            if isa.layouts().contains(&Layout::Base3) {
                assert!(matches!(builder().layout("base3").build(), Err(CpuError::ExactInputs)));
            }
        }
    }

    #[test]
    fn absurd_numbers_of_threads_are_refused() {
        for threads in [0, MAX_THREADS + 1, usize::MAX] {
            for builder in [CpuBackend::builder().threads(threads), CpuBackend::builder().decode_threads(threads)] {
                let error = builder.build().unwrap_err();
                assert!(matches!(error, CpuError::Threads { .. }), "{error}");
            }
        }
    }

    #[test]
    fn decoding_has_its_own_number_of_threads() {
        for (threads, decode) in [(3, 1), (1, 3), (2, 2)] {
            let cpu = CpuBackend::builder().threads(threads).decode_threads(decode).build().unwrap();
            assert_eq!((cpu.threads(), cpu.decode_threads()), (threads, decode));
        }
        let cpu = CpuBackend::builder().threads(3).build().unwrap();
        assert_eq!(cpu.decode_threads(), 3);
    }
}
