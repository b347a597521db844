//! Every stage against the slow, obvious way to say the same.

mod support;

use proptest::prelude::*;
use support::{apply, entropy, finite_logits, ids, logits, probabilities, ranking, sorted, weights};
use tritwise_sampling::{
    Candidates, Chain, DynamicTemperature, Error, Greedy, MinP, Mirostat, Random, Stage, Temperature, TopK, TopNSigma,
    TopP, TypicalP, Xtc,
};

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

    /// The chance to be right at the boundary of two nearly equal distances is that of two equal `f64`.
    #[test]
    fn typical_p_is_the_shortest_head_of_a_sort_by_distance_to_the_entropy(logits in finite_logits(), p in 0f32..1.1) {
        let probabilities = probabilities(&logits);
        let entropy = entropy(&probabilities);
        let distance = |id: u32| (-probabilities[id as usize].ln() - entropy).abs();
        let mut by_distance = ranking(&logits);
        // Equal logits are equally typical; `ln` of their equal probabilities keeps it so, and the sort is stable.
        by_distance.sort_by(|&a, &b| distance(a).partial_cmp(&distance(b)).unwrap());
        let mut mass = 0.0;
        let mut expected = Vec::new();
        for &id in &by_distance {
            expected.push(id);
            mass += probabilities[id as usize];
            if mass >= f64::from(p) && p < 1.0 {
                break;
            }
        }
        let found = ids(&apply(&mut TypicalP::new(p).unwrap(), &logits, &[]));
        // Sums in another order differ by rounding: one candidate may be right at the edge.
        if (mass - f64::from(p)).abs() > 1e-12 {
            prop_assert_eq!(found, sorted(expected));
        }
    }

    #[test]
    fn top_n_sigma_counts_standard_deviations(logits in finite_logits(), n in 0f32..4.0) {
        let mean = logits.iter().map(|&x| f64::from(x)).sum::<f64>() / logits.len() as f64;
        let variance = logits.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / logits.len() as f64;
        let best = f64::from(logits[ranking(&logits)[0] as usize]);
        let least = best - f64::from(n) * variance.sqrt();
        let expected: Vec<u32> =
            (0..logits.len() as u32).filter(|&id| n == 0.0 || f64::from(logits[id as usize]) >= least).collect();
        prop_assert_eq!(ids(&apply(&mut TopNSigma::new(n).unwrap(), &logits, &[])), expected);
    }

    #[test]
    fn a_dynamic_temperature_follows_the_entropy(
        logits in finite_logits(),
        (t, range, exponent) in (0.001f32..3.0, 0f32..3.0, 0.1f32..4.0),
    ) {
        let found = apply(&mut DynamicTemperature::new(t, range, exponent).unwrap(), &logits, &[]);
        let (low, high) = ((f64::from(t) - f64::from(range)).max(0.001), f64::from(t) + f64::from(range));
        let share = entropy(&probabilities(&logits)) / (logits.len() as f64).ln();
        let t = low + (high - low) * share.powf(exponent.into());
        for (candidate, &logit) in found.iter().zip(&logits) {
            let expected = if logits.len() == 1 { f64::from(logit) } else { f64::from(logit) / t };
            let error = (f64::from(candidate.logit) - expected).abs();
            prop_assert!(error <= 1e-5 * expected.abs().max(1e-3), "{} for {expected}", candidate.logit);
        }
    }

    /// With the chance 1, so that it always acts.
    #[test]
    fn xtc_drops_all_top_choices_but_the_worst(logits in finite_logits(), threshold in 0f32..0.6) {
        let weights = weights(&logits);
        let least = f64::from(threshold) * weights.iter().sum::<f64>();
        let top: Vec<u32> = ranking(&logits).into_iter().filter(|&id| weights[id as usize] >= least).collect();
        let dropped = &top[..top.len().saturating_sub(1)];
        let expected: Vec<u32> = (0..logits.len() as u32).filter(|id| !dropped.contains(id)).collect();
        prop_assert_eq!(ids(&apply(&mut Xtc::new(1.0, threshold).unwrap(), &logits, &[])), expected);
        prop_assert_eq!(apply(&mut Xtc::new(0.0, threshold).unwrap(), &logits, &[]).len(), logits.len());
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
    for p in [-0.1, f32::NAN] {
        assert!(matches!(TypicalP::new(p), Err(Error::Parameter { parameter: "typical-p", .. })), "{p}");
    }
    for n in [-1.0, f32::NAN, f32::INFINITY] {
        assert!(matches!(TopNSigma::new(n), Err(Error::Parameter { parameter: "top-n-sigma", .. })), "{n}");
        let range = DynamicTemperature::new(1.0, n, 1.0);
        assert!(matches!(range, Err(Error::Parameter { parameter: "dynamic temperature range", .. })), "{n}");
        let exponent = DynamicTemperature::new(1.0, 0.5, n);
        assert!(matches!(exponent, Err(Error::Parameter { parameter: "dynamic temperature exponent", .. })), "{n}");
    }
    for p in [-0.1, 1.1, f32::NAN] {
        assert!(matches!(Xtc::new(p, 0.1), Err(Error::Parameter { parameter: "XTC probability", .. })), "{p}");
        assert!(matches!(Xtc::new(0.1, p), Err(Error::Parameter { parameter: "XTC threshold", .. })), "{p}");
    }
}

#[test]
fn an_error_names_the_parameter_the_value_and_the_range() {
    let error = Temperature::new(-1.0).unwrap_err().to_string();
    assert_eq!(error, "temperature is -1, it must be a finite number of at least 0.001, or greedy instead");
}

#[test]
fn the_order_of_a_chain_matters() {
    // Of two candidates with 0.73 and 0.27, top-p 0.7 keeps one; flattened first to 0.52 and 0.48, both.
    let left = |mut chain: Chain| {
        let mut candidates = Candidates::new();
        candidates.load(&[1.0, 0.0]).unwrap();
        chain.apply(&mut candidates, &[], &mut Random::new(0));
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
    assert_eq!(ids(&apply(&mut TypicalP::new(0.9).unwrap(), &row, &[])), [1, 3]);
    assert_eq!(ids(&apply(&mut TopNSigma::new(9.0).unwrap(), &row, &[])), [1, 3]);
    assert_eq!(ids(&apply(&mut Xtc::new(1.0, 0.2).unwrap(), &row, &[])), [0, 2, 3, 4]);
    let hot = apply(&mut DynamicTemperature::new(2.0, 1.0, 1.0).unwrap(), &row, &[]);
    assert!(hot[0].logit == 5.0 / (1.0 + 2.0 * (2f32.ln() / 4f32.ln())) && hot[1].logit == inf, "{hot:?}");
}

/// One possible token stays, whatever cuts, and a row without one is left to the draw to refuse.
#[test]
fn a_row_of_one_possible_token() {
    let inf = f32::NEG_INFINITY;
    let stages = || -> [Box<dyn Stage>; 9] {
        [
            Box::new(Greedy),
            Box::new(TopK::new(1)),
            Box::new(TopP::new(0.0).unwrap()),
            Box::new(MinP::new(1.0).unwrap()),
            Box::new(TypicalP::new(0.0).unwrap()),
            Box::new(TopNSigma::new(0.001).unwrap()),
            Box::new(Xtc::new(1.0, 0.0).unwrap()),
            Box::new(DynamicTemperature::new(1.0, 0.9, 2.0).unwrap()),
            Box::new(Mirostat::new(0.01, 1.0).unwrap()),
        ]
    };
    for mut stage in stages() {
        let left = apply(&mut *stage, &[inf, inf, 1.5, inf], &[]);
        let possible: Vec<u32> = left.iter().filter(|c| c.logit > inf).map(|c| c.id).collect();
        assert_eq!(possible, [2], "{}", stage.name());
        assert!(apply(&mut *stage, &[f32::MAX, f32::MIN], &[]).iter().all(|c| c.logit.is_finite()), "{}", stage.name());
    }
    for mut stage in stages() {
        let left = apply(&mut *stage, &[inf; 3], &[]);
        assert!(left.iter().all(|c| c.logit == inf), "{} {left:?}", stage.name());
        let mut nothing = Candidates::new();
        stage.apply(&mut nothing, &[], &mut Random::new(0));
        assert!(nothing.is_empty(), "{}", stage.name());
    }
}

/// Half of the draws exclude, by the same generator that draws: one number before the draw's.
#[test]
fn xtc_takes_one_number_whatever_it_sees() {
    for row in [&[0.0, 0.0][..], &[5.0, 0.0], &[1.0]] {
        let mut random = Random::new(5);
        let mut candidates = Candidates::new();
        for _ in 0..100 {
            candidates.load(row).unwrap();
            Xtc::new(0.5, 0.1).unwrap().apply(&mut candidates, &[], &mut random);
        }
        let mut expected = Random::new(5);
        let excluded = (0..100).filter(|_| expected.unit() < 0.5).count();
        assert!((35..65).contains(&excluded));
        assert_eq!(random.unit(), expected.unit());
    }
}
