//! What this machine can do at best: the ceilings that speeds are compared with.

use std::hint::black_box;
use std::time::Instant;

use tritwise::kernels::arch::Isa;

/// Bytes that one thread reads in a bandwidth measurement: far beyond any cache.
const BUFFER: usize = 512 << 20;

/// Memory to read again and again; made once, because making it takes longer than reading it.
#[derive(Debug)]
pub struct Memory(Vec<u64>);

impl Memory {
    /// Memory for `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self((0..(threads * BUFFER / 8) as u64).collect())
    }

    /// Gigabytes (10⁹) per second that `threads` threads read together, best of `reps`.
    pub fn read_gb_per_s(&self, threads: usize, reps: usize) -> f64 {
        let share = &self.0[..threads * BUFFER / 8];
        let read = || {
            let start = Instant::now();
            std::thread::scope(|scope| {
                for part in share.chunks(BUFFER / 8) {
                    scope.spawn(|| black_box(sum(part)));
                }
            });
            size_of_val(share) as f64 / start.elapsed().as_secs_f64() / 1e9
        };
        (0..reps).map(|_| read()).fold(0.0, f64::max)
    }
}

/// Eight independent sums, so that loads and not additions are what limits it.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 32];
    for chunk in words.chunks_exact(32) {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// Billions of int8 multiply-adds per second that `threads` threads can do
/// with `isa`'s instruction when nothing is loaded, best of `reps`.
pub fn int8_gmac_per_s(isa: &'static dyn Isa, threads: usize, reps: usize) -> f64 {
    let rounds = 4_000_000;
    let burst = || {
        let start = Instant::now();
        let macs: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| isa.peak_macs(rounds))).collect();
            threads.into_iter().map(|t| t.join().unwrap_or(0)).sum()
        });
        macs as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..reps).map(|_| burst()).fold(0.0, f64::max)
}

/// The most memory this process has held, in bytes. `None` off Linux.
pub fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
