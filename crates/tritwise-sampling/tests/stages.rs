//! Every stage against the slow, obvious way to say the same.

use proptest::prelude::*;
use tritwise_sampling::{
    Candidate, Candidates, Chain, Error, Greedy, MinP, Params, RepetitionPenalty, Stage, Temperature, TopK, TopP,
};

/// Logits with many ties, both infinities and both zeros: where orders go wrong.
fn logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![
        4 => (-8i8..8).prop_map(|x| f32::from(x) / 4.0),
        4 => -30f32..30.0,
        1 => prop::sample::select(vec![0.0, -0.0, f32::NEG_INFINITY, f32::INFINITY, f32::MAX, f32::MIN]),
    ];
    prop::collection::vec(logit, 1..700)
}

/// The same without infinities, for stages that compare probabilities.
fn finite_logits() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(prop_oneof![(-8i8..8).prop_map(|x| f32::from(x) / 4.0), -30f32..30.0], 1..700)
}

/// Ids from best to worst, by a plain sort.
fn ranking(logits: &[f32]) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    ids.sort_by(|&a, &b| logits[b as usize].partial_cmp(&logits[a as usize]).unwrap().then(a.cmp(&b)));
    ids
}

/// `exp(logit - best)` for every id.
fn weights(logits: &[f32]) -> Vec<f64> {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().map(|&logit| libm::exp(f64::from(logit) - f64::from(best))).collect()
}

/// What `stage` leaves of `logits`, by id.
fn apply(stage: &mut dyn Stage, logits: &[f32], history: &[u32]) -> Vec<Candidate> {
    let mut candidates = Candidates::new();
    candidates.load(logits).unwrap();
    stage.apply(&mut candidates, history);
    candidates.order_by_id().to_vec()
}

fn ids(candidates: &[Candidate]) -> Vec<u32> {
    candidates.iter().map(|candidate| candidate.id).collect()
}

fn sorted(mut ids: Vec<u32>) -> Vec<u32> {
    ids.sort_unstable();
    ids
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn greedy_is_the_first_of_a_sort(logits in logits()) {
        prop_assert_eq!(ids(&apply(&mut Greedy, &logits, &[])), &ranking(&logits)[..1]);
    }

    #[test]
    fn top_k_is_the_head_of_a_sort(logits in logits(), k in 0usize..800) {
        let kept = if k == 0 { logits.len() } else { k.min(logits.len()) };
        let expected = sorted(ranking(&logits)[..kept].to_vec());
        prop_assert_eq!(ids(&apply(&mut TopK::new(k), &logits, &[])), expected);
    }

    /// As wide as real vocabularies, where a cut first looks at a sample.
    #[test]
    fn a_wide_row_is_cut_like_a_narrow_one(seed: u32, levels in 1u32..5000, k in 1usize..600, ranked in 0usize..20) {
        let mut state = seed;
        let logits: Vec<f32> = (0..20_000).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) % levels) as f32
        }).collect();
        let mut candidates = Candidates::new();
        candidates.load(&logits).unwrap();
        candidates.rank(ranked);
        candidates.keep_best(k);
        prop_assert_eq!(ids(candidates.rank(k)), &ranking(&logits)[..k]);
    }

    #[test]
    fn top_p_is_the_shortest_head_that_weighs_enough(logits in finite_logits(), p in 0f32..1.1) {
        let weights = weights(&logits);
        let wanted = f64::from(p) * weights.iter().sum::<f64>();
        let ranking = ranking(&logits);
        let mut expected = Vec::new();
        let mut mass = 0.0;
        for &id in &ranking {
            expected.push(id);
            mass += weights[id as usize];
            if mass >= wanted && p < 1.0 {
                break;
            }
        }
        prop_assert_eq!(ids(&apply(&mut TopP::new(p).unwrap(), &logits, &[])), sorted(expected));
    }

    #[test]
    fn min_p_compares_with_the_best(logits in finite_logits(), p in 0f32..=1.0) {
        let best = f64::from(logits[ranking(&logits)[0] as usize]);
        let keep = |id: &u32| p == 0.0 || f64::from(logits[*id as usize]) >= best + libm::log(f64::from(p));
        let expected: Vec<u32> = (0..logits.len() as u32).filter(keep).collect();
        prop_assert_eq!(ids(&apply(&mut MinP::new(p).unwrap(), &logits, &[])), expected);
    }

    #[test]
    fn temperature_divides(logits in logits(), t in 0.001f32..10.0) {
        let found = apply(&mut Temperature::new(t).unwrap(), &logits, &[]);
        for (candidate, logit) in found.iter().zip(&logits) {
            let quotient = if logit.is_finite() { (logit / t).clamp(f32::MIN, f32::MAX) } else { *logit };
            prop_assert_eq!(candidate.logit.to_bits(), quotient.to_bits());
        }
    }

    #[test]
    fn repetition_counts_each_recent_token_once(
        logits in logits(),
        history in prop::collection::vec(0u32..900, 0..50),
        window in 0usize..60,
        theta in 0.1f32..3.0,
    ) {
        let mut expected = logits.clone();
        let recent = &history[history.len().saturating_sub(window)..];
        for (id, logit) in expected.iter_mut().enumerate() {
            if recent.contains(&(id as u32)) {
                let scaled = if *logit > 0.0 { *logit / theta } else { *logit * theta };
                *logit = if logit.is_finite() { scaled.clamp(f32::MIN, f32::MAX) } else { *logit };
            }
        }
        let found = apply(&mut RepetitionPenalty::new(theta, window).unwrap(), &logits, &history);
        for (candidate, logit) in found.iter().zip(&expected) {
            prop_assert_eq!(candidate.logit.to_bits(), logit.to_bits(), "token {}", candidate.id);
        }
    }

    /// Whatever was ranked, cut or filtered before, the best `n` come out best first.
    #[test]
    fn ranking_survives_every_order_of_calls(
        logits in logits(),
        calls in prop::collection::vec((0u8..5, 1usize..700), 0..8),
        n in 0usize..800,
    ) {
        let mut candidates = Candidates::new();
        candidates.load(&logits).unwrap();
        let mut left = ranking(&logits);
        for (call, n) in calls {
            match call {
                0 => _ = candidates.rank(n),
                1 => { candidates.keep_best(n); left.truncate(n) }
                2 => {
                    let odd = |id: u32| id as usize % n != 1;
                    candidates.retain(|candidate| odd(candidate.id));
                    left.retain(|&id| odd(id));
                }
                3 => _ = candidates.order_by_id(),
                _ => _ = candidates.as_mut_slice(),
            }
        }
        prop_assert_eq!(candidates.best().map(|best| best.id), left.first().copied());
        for &id in &left {
            let index = candidates.find(id).unwrap();
            prop_assert_eq!(candidates.as_slice()[index].id, id);
        }
        let n = n.min(left.len());
        prop_assert_eq!(&ids(candidates.rank(n)), &left[..n]);
        prop_assert_eq!(candidates.len(), left.len());
        prop_assert_eq!(ids(candidates.order_by_id()), sorted(left));
    }
}

#[test]
fn a_token_outside_the_row_is_never_found() {
    let mut candidates = Candidates::new();
    candidates.load(&[1.0, 2.0]).unwrap();
    assert_eq!(candidates.find(2), None);
    candidates.keep_best(1);
    assert_eq!(candidates.find(0), None);
    assert_eq!(candidates.find(1), Some(0));
}

#[test]
fn parameters_outside_their_range_are_refused() {
    for t in [0.0, -1.0, 0.0009, f32::NAN, f32::INFINITY] {
        assert!(matches!(Temperature::new(t), Err(Error::Parameter { parameter: "temperature", .. })), "{t}");
    }
    for p in [-0.1, f32::NAN, f32::NEG_INFINITY] {
        assert!(matches!(TopP::new(p), Err(Error::Parameter { parameter: "top-p", .. })), "{p}");
    }
    for p in [-0.1, 1.1, f32::NAN, f32::INFINITY] {
        assert!(matches!(MinP::new(p), Err(Error::Parameter { parameter: "min-p", .. })), "{p}");
    }
    for theta in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let refused = RepetitionPenalty::new(theta, 8);
        assert!(matches!(refused, Err(Error::Parameter { parameter: "repetition penalty", .. })), "{theta}");
    }
    // A greedy choice does not excuse a value that would never work.
    assert!(Params { top_p: f32::NAN, ..Params::greedy() }.chain().is_err());
    assert!(Params { temperature: -0.5, ..Params::default() }.chain().is_err());
}

#[test]
fn an_error_names_the_parameter_the_value_and_the_range() {
    let error = Temperature::new(-1.0).unwrap_err().to_string();
    assert_eq!(error, "temperature is -1, it must be a finite number of at least 0.001, or greedy instead");
}

#[test]
fn the_default_order_is_as_documented() {
    let all = Params { repetition_penalty: 1.2, ..Params::default() };
    let order = "repetition-penalty → top-k → top-p → min-p → temperature";
    assert_eq!(all.chain().unwrap().to_string(), order);
    assert_eq!(Params::greedy().chain().unwrap().to_string(), "greedy");
    let neutral = Params { temperature: 1.0, ..Params::greedy() };
    assert_eq!(neutral.chain().unwrap().stages().len(), 0);
}

#[test]
fn the_order_of_a_chain_matters() {
    // Of two candidates with 0.73 and 0.27, top-p 0.7 keeps one; flattened first to 0.52 and 0.48, both.
    let left = |mut chain: Chain| {
        let mut candidates = Candidates::new();
        candidates.load(&[1.0, 0.0]).unwrap();
        chain.apply(&mut candidates, &[]);
        candidates.len()
    };
    let (top_p, temperature) = (TopP::new(0.7).unwrap(), Temperature::new(10.0).unwrap());
    assert_eq!(left(Chain::new().then(top_p).then(temperature)), 1);
    assert_eq!(left(Chain::new().then(temperature).then(top_p)), 2);
}

#[test]
fn infinite_logits_share_the_nucleus() {
    let inf = f32::INFINITY;
    let row = [5.0, inf, -inf, inf, 90.0];
    assert_eq!(ids(&apply(&mut TopP::new(0.5).unwrap(), &row, &[])), [1]);
    assert_eq!(ids(&apply(&mut TopP::new(0.9).unwrap(), &row, &[])), [1, 3]);
    assert_eq!(ids(&apply(&mut MinP::new(0.5).unwrap(), &row, &[])), [1, 3]);
}
