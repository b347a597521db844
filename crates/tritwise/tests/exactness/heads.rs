//! Screened heads: rows of logits of which those that matter are promised, against whole rows.

use tritwise::HeadMode;
use tritwise::kernels::{CpuBackend, Keep, arch};
use tritwise::tensor::Checkpoint;
use tritwise::transformer::{Model, Turn, Wanted};

use crate::matrix::{self, DEFAULT};
use crate::subjects::Subject;

/// Computes the rows that some rules ask for on every instruction set and on `threads` threads, several together and
/// one by one, and holds those that matter against the full head's.
pub(crate) fn check(subject: &Subject, threads: &[usize]) {
    let vocab = subject.weights.config().vocab;
    let full = matrix::defined(subject, &DEFAULT);
    let full: Vec<f32> = full.into_iter().map(f32::from_bits).collect();
    let every_third: Vec<u32> = vec![0x4924_9249; vocab.div_ceil(32)];
    let always = [1, vocab as u32 - 1];
    let rules = [
        Keep::best(1),
        Keep::best(7),
        Keep { within: 0.5, ..Keep::best(usize::MAX) },
        Keep { within: 0.25, always: &always, ..Keep::best(40) },
        Keep { allowed: Some(&every_third), ..Keep::best(3) },
    ];
    let keeps: Vec<Keep<'_>> = rules.iter().cycle().take(subject.tokens.len()).copied().collect();
    for isa in arch::available() {
        for &threads in threads {
            let cpu = CpuBackend::builder().isa(isa.name()).threads(threads).head(HeadMode::Screened);
            let cpu = cpu.build().unwrap_or_else(|e| panic!("{e}"));
            let model = Model::load(cpu, &subject.weights, subject.tokens.len(), &mut |_| {});
            let model = model.unwrap_or_else(|e| panic!("{e}"));
            for together in [true, false] {
                let found = screened(&model, &subject.tokens, &keeps, together);
                for (i, ((found, full), keep)) in found.chunks(vocab).zip(full.chunks(vocab)).zip(&keeps).enumerate() {
                    compare(found, full, keep)
                        .unwrap_or_else(|e| panic!("{} {}, {threads} threads, row {i}: {e}", subject.name, isa.name()));
                }
            }
        }
        println!(
            "{} | screened head | {} | {threads:?} threads | rows equal where they matter",
            subject.name,
            isa.name()
        );
    }
}

/// Rows of logits, all of one call or of a call each.
fn screened(model: &Model<CpuBackend>, tokens: &[u32], keeps: &[Keep<'_>], together: bool) -> Vec<f32> {
    let (mut sequence, mut workspace) = (model.sequence(tokens.len()), model.workspace());
    let mut all = Vec::new();
    let size = if together { tokens.len() } else { 1 };
    for (tokens, keeps) in tokens.chunks(size).zip(keeps.chunks(size)) {
        let turn = Turn { sequence: &mut sequence, tokens, wanted: Wanted::Each(keeps) };
        let logits = model.forward(&mut workspace, &mut [turn]).expect("tokens fit");
        assert!(logits.reads().screened > 0, "the head is large enough to be screened");
        all.extend_from_slice(logits.as_slice());
    }
    all
}

/// Whether all logits that matter by `keep` are those of the full head, and the others are too, or are −∞.
fn compare(found: &[f32], full: &[f32], keep: &Keep<'_>) -> Result<(), String> {
    let allowed = |row: usize| keep.allowed.is_none_or(|words| words[row / 32] >> (row % 32) & 1 == 1);
    let named = |row: usize| keep.always.contains(&(row as u32));
    let mut best: Vec<f32> = (0..full.len()).filter(|row| allowed(*row) && !named(*row)).map(|row| full[row]).collect();
    best.sort_by(|a, b| b.total_cmp(a));
    let last = best.get(keep.best - 1).copied().unwrap_or(f32::NEG_INFINITY);
    let near = |logit: f32| f64::from(best[0]) - f64::from(logit) <= f64::from(keep.within);
    for (row, (found, full)) in found.iter().zip(full).enumerate() {
        let matters = named(row) || allowed(row) && *full >= last && near(*full);
        if found.to_bits() != full.to_bits() && (matters || *found != f32::NEG_INFINITY) {
            return Err(format!("logit {row} is {found}, of the full head {full}"));
        }
    }
    // Most are left out, or nothing would have been saved.
    let left_out = found.iter().filter(|x| **x == f32::NEG_INFINITY).count();
    if keep.best > 7 || left_out > full.len() / 2 { Ok(()) } else { Err(format!("only {left_out} left out")) }
}
