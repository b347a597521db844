//! Timing a model beside the machine's ceilings.
//!
//! A repetition is cut into slices, and the ceiling is measured before and
//! after each with the clock stopped:
//!
//! ```text
//! ceiling │ some tokens │ ceiling │ some tokens │ ceiling │ …
//!         └── t₀ ───────┘         └── t₁ ───────┘
//! ```
//!
//! A slice that moves `b` bytes could have taken `b / c` seconds, where `c` is
//! the mean of its two ceilings; a repetition's share of the ceiling is the sum
//! of these over the time it took.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tritwise::Model;
use tritwise::kernels::{Backend, CpuBackend};
use tritwise::transformer::{HeadReads, Keep, Sequence, Turn, Wanted};

use crate::Result;
use crate::machine::{Memory, int8_gmac_per_s};

/// Time between two looks at the ceiling.
const SLICE: Duration = Duration::from_millis(200);

/// Tokens of a prompt in one forward call, as a session cuts it.
const PIECE: usize = 512;

/// One decoded token costs about as much as this many tokens of a prompt; for progress only.
const DECODE_COST: usize = 6;

/// A figure's median and standard deviation.
#[derive(Debug, Clone, Copy)]
pub struct Median {
    /// The middle one, or the upper of the middle two.
    pub median: f64,
    /// The standard deviation, 0 of a single one.
    pub spread: f64,
}

impl Median {
    /// Of at least one value; NaN of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len().max(2) - 1) as f64;
        Self { median: values.get(values.len() / 2).copied().unwrap_or(f64::NAN), spread: variance.sqrt() }
    }
}

/// Which of a model's two regimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// A prompt in one go, bound by int8 multiply-adds.
    Prefill,
    /// One token at a time, bound by the memory.
    Decode,
}

/// A repeated measurement.
#[derive(Debug)]
pub struct Measured {
    /// What was measured.
    pub test: Test,
    /// Tokens per repetition.
    pub tokens: usize,
    /// Tokens in the cache before.
    pub kv: usize,
    /// Repetitions.
    pub n: usize,
    /// Speed.
    pub tokens_per_s: Median,
    /// What the machine could do at the time: GB/s for decoding, billions of multiply-adds per second for a prompt.
    pub ceiling: Median,
    /// What the model did, in the ceiling's unit.
    pub reached: Median,
    /// Share of the ceiling, each repetition's by its own.
    pub share: Median,
    /// Bytes of keys and values that a token reads, on average.
    pub kv_bytes: f64,
    /// What a token reads of the head to find the likeliest next one, on average.
    pub head: HeadReads,
}

/// One repetition.
struct Rep {
    seconds: f64,
    /// Seconds it would have taken at the ceiling.
    ideal: f64,
    /// GB or G multiply-adds.
    work: f64,
}

impl Measured {
    fn new(test: Test, tokens: usize, kv: usize, kv_bytes: f64, head: HeadReads, reps: &[Rep]) -> Self {
        let of = |f: &dyn Fn(&Rep) -> f64| Median::of(reps.iter().map(f));
        Self {
            test,
            tokens,
            kv,
            n: reps.len(),
            tokens_per_s: of(&|rep| tokens as f64 / rep.seconds),
            ceiling: of(&|rep| rep.work / rep.ideal),
            reached: of(&|rep| rep.work / rep.seconds),
            share: of(&|rep| rep.ideal / rep.seconds),
            kv_bytes,
            head,
        }
    }
}

/// Any tokens will do: speed does not depend on what they say.
pub fn text(model: &Model, len: usize) -> Vec<u32> {
    let vocab = model.config().vocab as u32;
    (0..len as u32).map(|i| i.wrapping_mul(2_654_435_761) % vocab).collect()
}

/// What [`prefill`] will add to a progress bar.
pub fn prefill_steps(tokens: usize, reps: usize) -> usize {
    tokens * (reps + 1)
}

/// The likeliest next token is asked for.
const WANTED: Wanted<'_> = Wanted::Best(Keep { best: 1, within: f32::INFINITY, always: &[], allowed: None });

/// One forward call over a prompt; its last token's successor is asked for, as of a real one.
///
/// # Errors
/// The model refuses the prompt.
pub fn prefill(model: &Model, tokens: usize, reps: usize, bar: &ProgressBar) -> Result<Measured> {
    let network = model.network();
    let config = network.config();
    let work = config.layer_parameters() as f64 * config.layers as f64 * tokens as f64 / 1e9;
    let peak = || int8_gmac_per_s(network.backend().isa(), network.backend().threads());
    let (mut sequence, mut workspace) = (network.sequence(tokens), network.workspace());
    let prompt = text(model, tokens);
    let mut head = HeadReads::default();
    let mut once = || -> Result<f64> {
        sequence.truncate(0);
        let start = Instant::now();
        let turn = Turn { sequence: &mut sequence, tokens: &prompt, wanted: WANTED };
        head = network.forward(&mut workspace, &mut [turn])?.reads();
        let seconds = start.elapsed().as_secs_f64();
        bar.inc(tokens as u64);
        Ok(seconds)
    };
    once()?; // makes the buffers
    let mut before = peak();
    let mut rep = || -> Result<Rep> {
        let seconds = once()?;
        let after = peak();
        let ideal = 2.0 * work / (before + after);
        before = after;
        Ok(Rep { seconds, ideal, work })
    };
    let reps = (0..reps).map(|_| rep()).collect::<Result<Vec<_>>>()?;
    Ok(Measured::new(Test::Prefill, tokens, 0, 0.0, head, &reps))
}

/// What [`decode`] will add to a progress bar.
pub fn decode_steps(tokens: usize, reps: usize) -> usize {
    DECODE_COST * tokens * (reps + 1)
}

/// Forward calls of one token each, behind the `kv` tokens of `past`, which is left as it was.
///
/// # Errors
/// The model refuses a token: `past` has no room.
pub fn decode(
    model: &Model,
    memory: &Memory,
    past: &mut Sequence<CpuBackend>,
    tokens: usize,
    reps: usize,
    bar: &ProgressBar,
) -> Result<Measured> {
    let network = model.network();
    let kv = past.len();
    let text = text(model, kv + tokens);
    let kv_bytes = |positions| network.backend().cache_bytes(network.config(), positions) as f64;
    let ceiling = || memory.read_gb_per_s(network.backend().isa(), network.backend().decode_threads());
    let mut workspace = network.workspace();
    let mut before = ceiling();
    let mut head = HeadReads::default();
    let mut once = || -> Result<Rep> {
        past.truncate(kv);
        head = HeadReads::default();
        let mut rep = Rep { seconds: 0.0, ideal: 0.0, work: 0.0 };
        let (mut taken, mut moved) = (Duration::ZERO, 0.0);
        for (at, token) in text.iter().enumerate().skip(kv) {
            let start = Instant::now();
            let turn = Turn { sequence: past, tokens: std::slice::from_ref(token), wanted: WANTED };
            let reads = network.forward(&mut workspace, &mut [turn])?.reads();
            taken += start.elapsed();
            moved += ((network.matrix_bytes() + reads.bytes) as f64 + kv_bytes(at + 1)) / 1e9;
            head += reads;
            bar.inc(DECODE_COST as u64);
            if taken >= SLICE || at + 1 == text.len() {
                let after = ceiling();
                rep.seconds += taken.as_secs_f64();
                rep.ideal += 2.0 * moved / (before + after);
                rep.work += moved;
                (taken, moved, before) = (Duration::ZERO, 0.0, after);
            }
        }
        Ok(rep)
    };
    once()?; // makes the buffers
    let reps = (0..reps).map(|_| once()).collect::<Result<Vec<_>>>()?;
    past.truncate(kv);
    let mean_kv_bytes = (kv + 1..=kv + tokens).map(kv_bytes).sum::<f64>() / tokens as f64;
    // The last repetition's; all are alike.
    let mean = |sum| sum / tokens.max(1);
    let HeadReads { screened, refined, exact, bytes } = head;
    let head = HeadReads { screened: mean(screened), refined: mean(refined), exact: mean(exact), bytes: mean(bytes) };
    Ok(Measured::new(Test::Decode, tokens, kv, mean_kv_bytes, head, &reps))
}

/// A sequence of `tokens` tokens with room for `more`.
///
/// # Errors
/// The model refuses a token.
pub fn past(model: &Model, tokens: usize, more: usize, bar: &ProgressBar) -> Result<Sequence<CpuBackend>> {
    let network = model.network();
    let (mut sequence, mut workspace) = (network.sequence(tokens + more), network.workspace());
    for piece in text(model, tokens).chunks(PIECE) {
        let turn = Turn { sequence: &mut sequence, tokens: piece, wanted: Wanted::Nothing };
        network.forward(&mut workspace, &mut [turn])?;
        bar.inc(piece.len() as u64);
    }
    Ok(sequence)
}
