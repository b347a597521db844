//! Rows of logits, the slow, obvious way to say what a row means, and parameters at random.
#![allow(dead_code, reason = "each test file uses some of it")]

use proptest::prelude::*;
use tritwise_sampling::{Candidate, Candidates, Params, Random, Stage, Step};

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

/// Each parameter neutral half the time, so that chains of every length occur.
pub(crate) fn params() -> impl Strategy<Value = Params> {
    fn or<T: std::fmt::Debug + Clone + 'static>(
        neutral: T,
        other: impl Strategy<Value = T> + 'static,
    ) -> BoxedStrategy<T> {
        prop_oneof![Just(neutral), other].boxed()
    }
    let order = prop_oneof![Just(Step::DEFAULT_ORDER.to_vec()), Just(Step::DEFAULT_ORDER.to_vec()).prop_shuffle(),];
    let cuts = (or(0, 1usize..50), or(1.0, 0f32..1.0), or(0.0, 1e-6f32..=1.0), or(1.0, 0f32..1.0), or(0.0, 0f32..3.0));
    let xtc = (or(0.0, 0f32..=1.0), 0f32..0.6);
    let heat = (prop_oneof![Just(0.0), Just(1.0), 0.001f32..3.0], or(0.0, 0f32..2.0), 0.2f32..3.0);
    let penalties = (or(1.0, 0.3f32..3.0), or(0.0, -2f32..2.0), or(0.0, -2f32..2.0), 0usize..10);
    let dry = (or(0.0, 0f32..3.0), 1f32..3.0, 0usize..4, or(usize::MAX, 0usize..20));
    let breakers = prop::collection::vec(prop::collection::vec(0u32..60, 0..3), 0..3);
    let mirostat = (prop_oneof![4 => Just(0.0), 1 => 0.1f32..6.0], 0.01f32..1.0);
    let tokens = (
        or(vec![], prop::collection::vec((0u32..70, prop_oneof![-3f32..3.0, -1e30f32..1e30]), 0..5)),
        or(vec![], prop::collection::vec(0u32..70, 0..5)),
    );
    (order, cuts, xtc, heat, penalties, (dry, breakers), mirostat, tokens, any::<u64>()).prop_map(
        |(order, cuts, xtc, heat, penalties, (dry, dry_breakers), mirostat, tokens, seed)| Params {
            top_k: cuts.0,
            top_p: cuts.1,
            min_p: cuts.2,
            typical_p: cuts.3,
            top_n_sigma: cuts.4,
            xtc_probability: xtc.0,
            xtc_threshold: xtc.1,
            temperature: heat.0,
            dynamic_temperature_range: heat.1,
            dynamic_temperature_exponent: heat.2,
            repetition_penalty: penalties.0,
            frequency_penalty: penalties.1,
            presence_penalty: penalties.2,
            penalty_window: penalties.3,
            dry_multiplier: dry.0,
            dry_base: dry.1,
            dry_allowed_length: dry.2,
            dry_window: dry.3,
            dry_breakers,
            mirostat_tau: mirostat.0,
            mirostat_eta: mirostat.1,
            logit_bias: tokens.0,
            banned: tokens.1,
            order,
            seed,
        },
    )
}
