//! Rows of logits, and the slow, obvious way to say what a row means.
#![allow(dead_code, reason = "each test file uses some of it")]

use proptest::prelude::*;
use tritwise_sampling::{Candidate, Candidates, Random, Stage};

/// Logits with many ties, both infinities and both zeros: where orders go wrong.
pub(crate) fn logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![
        4 => (-8i8..8).prop_map(|x| f32::from(x) / 4.0),
        4 => -30f32..30.0,
        1 => prop::sample::select(vec![0.0, -0.0, f32::NEG_INFINITY, f32::INFINITY, f32::MAX, f32::MIN]),
    ];
    prop::collection::vec(logit, 1..700)
}

/// The same without infinities, for stages that compare probabilities.
pub(crate) fn finite_logits() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(prop_oneof![(-8i8..8).prop_map(|x| f32::from(x) / 4.0), -30f32..30.0], 1..700)
}

/// Ids from best to worst, by a plain sort.
pub(crate) fn ranking(logits: &[f32]) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    ids.sort_by(|&a, &b| logits[b as usize].partial_cmp(&logits[a as usize]).unwrap().then(a.cmp(&b)));
    ids
}

/// `exp(logit - best)` for every id.
pub(crate) fn weights(logits: &[f32]) -> Vec<f64> {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().map(|&logit| libm::exp(f64::from(logit) - f64::from(best))).collect()
}

/// The probability of every id.
pub(crate) fn probabilities(logits: &[f32]) -> Vec<f64> {
    let weights = weights(logits);
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// `−Σ p ln p`.
pub(crate) fn entropy(probabilities: &[f64]) -> f64 {
    probabilities.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}

/// What `stage` leaves of `logits`, by id.
pub(crate) fn apply(stage: &mut dyn Stage, logits: &[f32], history: &[u32]) -> Vec<Candidate> {
    let mut candidates = Candidates::new();
    candidates.load(logits).unwrap();
    stage.apply(&mut candidates, history, &mut Random::new(0));
    candidates.order_by_id().to_vec()
}

pub(crate) fn ids(candidates: &[Candidate]) -> Vec<u32> {
    candidates.iter().map(|candidate| candidate.id).collect()
}

pub(crate) fn sorted(mut ids: Vec<u32>) -> Vec<u32> {
    ids.sort_unstable();
    ids
}
