//! What this machine can do at best: the ceilings that speeds are compared with.
//!
//! They are not constants. The hosts of a virtual machine move its cores about,
//! and two cores that share a link to memory read half of what two cores with a
//! link each do; such states last seconds. So a ceiling is measured in bursts of
//! some ten milliseconds, again and again between the pieces of what it is
//! compared with (`measure.rs`).

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use tritwise::kernels::arch::Isa;

/// Bytes of the buffer that is read: many times the largest cache.
const BUFFER: usize = 512 << 20;

/// Bytes that a thread takes at a time, so that a slow core delays little.
const PIECE: usize = 1 << 20;

/// Bytes of a stream that are added up before it is the next one's turn.
const STEP: usize = 128;

/// Rounds of multiply-adds that a thread takes at a time, and pieces per thread of a burst.
const ROUNDS: usize = 50_000;
const PIECES: usize = 40;

/// Memory to read again and again, in large pages where the system has them.
#[derive(Debug)]
pub struct Memory(MmapMut);

impl Memory {
    /// 512 MiB, written once, so that they are there.
    ///
    /// # Errors
    /// The system has not that much.
    pub fn new() -> std::io::Result<Self> {
        let mut pages = MmapMut::map_anon(BUFFER)?;
        #[cfg(target_os = "linux")]
        {
            // As the weights are; refused where there are none.
            let _ = pages.advise(memmap2::Advice::HugePage);
        }
        // No two pages alike, so that no host keeps several as one.
        for (i, word) in pages.as_chunks_mut::<{ size_of::<usize>() }>().0.iter_mut().enumerate() {
            *word = i.to_ne_bytes();
        }
        Ok(Self(pages))
    }

    /// Gigabytes (10⁹) per second that `threads` threads read together: the buffer once with each of three loops, and the
    /// fastest of them. Which one that is depends on the processor: some read a single stream best, some several, some
    /// only when they are asked for what comes next.
    pub fn read_gb_per_s(&self, isa: &dyn Isa, threads: usize) -> f64 {
        let read = |sum: &(dyn Fn(&[u8]) -> u64 + Sync)| {
            let taken = take_pieces(threads, BUFFER / PIECE, &|i| sum(&self.0[i * PIECE..][..PIECE]));
            BUFFER as f64 / taken.as_secs_f64() / 1e9
        };
        let silent = |_: &[u8]| {};
        let one = read(&|piece| sum::<1>(piece, &silent));
        let four = read(&|piece| sum::<4>(piece, &silent));
        one.max(four).max(read(&|piece| sum::<8>(piece, &|next| isa.prefetch(next))))
    }
}

/// Sums a piece as `STREAMS` streams side by side, sixteen words of each at a
/// time, so that loads and not additions are what limits it. `ask` is told what will be read 2 KiB later.
fn sum<const STREAMS: usize>(piece: &[u8], ask: &impl Fn(&[u8])) -> u64 {
    let steps = piece.as_chunks::<STEP>().0;
    let mut streams = steps.chunks_exact(steps.len() / STREAMS);
    let streams: [_; STREAMS] = std::array::from_fn(|_| streams.next().unwrap_or_default());
    let mut sums = [[0u64; STEP / 8]; STREAMS];
    for at in 0..steps.len() / STREAMS {
        for (sums, stream) in sums.iter_mut().zip(&streams) {
            if let Some(next) = stream.get(at + 2048 / STEP) {
                ask(next);
            }
            for (sum, word) in sums.iter_mut().zip(stream[at].as_chunks().0) {
                *sum = sum.wrapping_add(u64::from_ne_bytes(*word));
            }
        }
    }
    sums.as_flattened().iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// Billions of int8 multiply-adds per second that `threads` threads can do
/// with `isa`'s instruction when nothing is loaded.
pub fn int8_gmac_per_s(isa: &'static dyn Isa, threads: usize) -> f64 {
    let pieces = threads * PIECES;
    let taken = take_pieces(threads, pieces, &|_| isa.peak_macs(ROUNDS));
    (pieces as u64 * isa.peak_macs(1)) as f64 * ROUNDS as f64 / taken.as_secs_f64() / 1e9
}

/// Time from the first start to the last end of threads that take `pieces` pieces in turn.
fn take_pieces(threads: usize, pieces: usize, piece: &(dyn Fn(usize) -> u64 + Sync)) -> Duration {
    let (cursor, barrier) = (AtomicUsize::new(0), Barrier::new(threads));
    let worker = || {
        barrier.wait();
        let start = Instant::now();
        loop {
            let i = cursor.fetch_add(1, Ordering::Relaxed);
            if i >= pieces {
                return (start, Instant::now());
            }
            black_box(piece(i));
        }
    };
    let spans: Vec<_> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        let own = worker();
        others.into_iter().filter_map(|other| other.join().ok()).chain([own]).collect()
    });
    let start = spans.iter().map(|span| span.0).min();
    let end = spans.iter().map(|span| span.1).max();
    start.zip(end).map_or(Duration::ZERO, |(start, end)| end - start)
}

/// The most memory this process has held, in bytes. `None` off Linux.
pub fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The processor's own name. `None` off Linux.
pub fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
}
