//! The stages that follow the text, against the slow, obvious way to say the same.

mod support;

use std::collections::HashMap;

use proptest::prelude::*;
use support::{apply, logits, probabilities};
use tritwise_sampling::{
    Ban, Candidates, Chain, Dry, Error, LogitBias, Mirostat, Params, Penalties, Random, Sampler, Stage,
};

/// `f64`, brought back to `f32` without leaving the finite numbers.
fn finite(logit: f32, x: f64) -> f32 {
    if logit.is_finite() { x.clamp(f32::MIN.into(), f32::MAX.into()) as f32 } else { logit }
}

/// Equal, or as near as two roundings leave it.
fn near(found: f32, expected: f32) -> bool {
    found == expected || (found - expected).abs() <= 1e-6 * expected.abs().max(1.0)
}

/// How many tokens match before `at` and before the end, none of them reaching over a breaker.
fn matching(history: &[u32], at: usize, breakers: &[Vec<u32>]) -> usize {
    let (before, all) = (&history[..at], history);
    let mut length = 0;
    while length < at && before[at - 1 - length] == all[all.len() - 1 - length] {
        length += 1;
    }
    // The last breaker that ends in the history: what follows it is all that counts.
    let mut reach = history.len();
    for start in 0..history.len() {
        for breaker in breakers.iter().filter(|breaker| !breaker.is_empty()) {
            if history[start..].starts_with(breaker) {
                reach = reach.min(history.len() - start - breaker.len());
            }
        }
    }
    length.min(reach)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn penalties_count_recent_tokens(
        logits in logits(),
        history in prop::collection::vec(0u32..90, 0..50),
        window in 0usize..60,
        (repetition, frequency, presence) in (0.1f32..3.0, -2f32..2.0, -2f32..2.0),
    ) {
        let recent = &history[history.len().saturating_sub(window)..];
        let mut stage = Penalties::new(repetition, frequency, presence, window).unwrap();
        for (candidate, &logit) in apply(&mut stage, &logits, &history).iter().zip(&logits) {
            let n = recent.iter().filter(|&&id| id == candidate.id).count();
            let mut expected = logit;
            if n > 0 {
                let (x, theta) = (f64::from(logit), f64::from(repetition));
                expected = finite(logit, if x > 0.0 { x / theta } else { x * theta });
                expected = finite(logit, f64::from(expected) - n as f64 * f64::from(frequency) - f64::from(presence));
            }
            prop_assert!(near(candidate.logit, expected), "{candidate:?} {expected}");
            prop_assert_eq!(candidate.logit.is_finite(), logit.is_finite());
        }
        let mut touched = Vec::new();
        stage.effect(&history, &mut touched);
        prop_assert_eq!(&touched, &recent);
    }

    /// Few different tokens, so that much repeats.
    #[test]
    fn dry_penalises_what_continues_a_repeat(
        logits in prop::collection::vec(-30f32..30.0, 1..8),
        history in prop::collection::vec(0u32..5, 0..60),
        breakers in prop::collection::vec(prop::collection::vec(0u32..6, 0..4), 0..3),
        (multiplier, base) in (0.1f32..2.0, 1f32..3.0),
        (allowed, window) in (0usize..5, 0usize..70),
    ) {
        let recent = &history[history.len().saturating_sub(window)..];
        let mut longest = HashMap::new();
        for at in 1..recent.len() {
            let (next, length) = (recent[at], matching(recent, at, &breakers));
            if length >= allowed && !breakers.contains(&vec![next]) {
                let longest = longest.entry(next).or_insert(0);
                *longest = length.max(*longest);
            }
        }
        let mut stage = Dry::new(multiplier, base, allowed, window, breakers).unwrap();
        for (candidate, &logit) in apply(&mut stage, &logits, &history).iter().zip(&logits) {
            let penalty = longest.get(&candidate.id).map_or(0.0, |&length| {
                f64::from(multiplier) * f64::from(base).powi((length - allowed) as i32)
            });
            let expected = finite(logit, f64::from(logit) - penalty);
            prop_assert!(near(candidate.logit, expected), "{candidate:?} {expected} {history:?}");
        }
        let (mut touched, mut expected): (_, Vec<u32>) = (Vec::new(), longest.into_keys().collect());
        stage.effect(&history, &mut touched);
        expected.sort_unstable();
        prop_assert_eq!(touched, expected);
    }

    #[test]
    fn biases_add_up_and_bans_are_final(
        logits in logits(),
        biases in prop::collection::vec((0u32..800, -200f32..200.0), 0..20),
        banned in prop::collection::vec(0u32..800, 0..20),
    ) {
        let found = apply(&mut LogitBias::new(biases.clone()).unwrap(), &logits, &[]);
        for (candidate, &logit) in found.iter().zip(&logits) {
            let expected = biases.iter().filter(|(id, _)| *id == candidate.id).fold(logit, |x, (_, bias)| {
                finite(x, f64::from(x) + f64::from(*bias))
            });
            prop_assert_eq!(candidate.logit, expected);
        }
        let found = apply(&mut Ban::new(banned.clone()), &logits, &[]);
        for (candidate, &logit) in found.iter().zip(&logits) {
            let expected = if banned.contains(&candidate.id) { f32::NEG_INFINITY } else { logit };
            prop_assert_eq!(candidate.logit, expected);
        }
    }

    /// The formulas of Mirostat 2.0, over a text of tokens drawn from what it leaves and of others.
    #[test]
    fn mirostat_cuts_by_surprise_and_learns_from_what_is_accepted(
        rows in prop::collection::vec(prop::collection::vec(-4f32..4.0, 5..40), 1..20),
        choices in prop::collection::vec(0usize..40, 20),
        (tau, eta) in (0.5f32..5.0, 0.01f32..1.0),
    ) {
        let mut stage = Mirostat::new(tau, eta).unwrap();
        let mut mu = 2.0 * f64::from(tau);
        for (row, choice) in rows.iter().zip(choices) {
            let surprise: Vec<f64> = probabilities(row).iter().map(|p| -p.log2()).collect();
            let best = support::ranking(row)[0];
            if surprise.iter().any(|s| (s - mu).abs() < 1e-9) {
                return Ok(());
            }
            let expected: Vec<u32> =
                (0..row.len() as u32).filter(|&id| id == best || surprise[id as usize] <= mu).collect();
            apply(&mut stage, &[1.0, 2.0], &[]); // a row from which nothing was accepted
            prop_assert_eq!(&support::ids(&apply(&mut stage, row, &[])), &expected);
            let id = choice % row.len();
            stage.accept(id as u32);
            if expected.contains(&(id as u32)) {
                mu -= f64::from(eta) * (surprise[id] - f64::from(tau));
            }
            stage.accept(best); // of no row
            prop_assert!((stage.mu() - mu).abs() < 1e-9, "{} {mu}", stage.mu());
        }
        stage.reset();
        prop_assert_eq!(stage.mu(), 2.0 * f64::from(tau));
    }
}

/// The drawing in the documentation.
#[test]
fn dry_by_example() {
    let [a, b, c, d, x] = [0, 1, 2, 3, 4];
    let history = [a, b, c, d, x, b, c, d, a, b, c];
    let penalty = |breakers: Vec<Vec<u32>>| {
        let mut dry = Dry::new(0.5, 2.0, 2, usize::MAX, breakers).unwrap();
        apply(&mut dry, &[0.0; 5], &history).iter().map(|candidate| -candidate.logit).collect::<Vec<_>>()
    };
    assert_eq!(penalty(vec![]), [0.0, 0.0, 0.0, 1.0, 0.0], "0.5 · 2^(3 − 2)");
    assert_eq!(penalty(vec![vec![a]]), [0.0, 0.0, 0.0, 0.5, 0.0], "b c alone repeats");
    assert_eq!(penalty(vec![vec![d, a]]), [0.0, 0.0, 0.0, 0.5, 0.0], "so it does after the sequence d a");
    assert_eq!(penalty(vec![vec![b, c]]), [0.0; 5], "nothing follows the breaker");
    assert_eq!(penalty(vec![vec![d]]), [0.0; 5], "a breaker is never penalised");
    assert_eq!(penalty(vec![vec![], vec![9]]), [0.0, 0.0, 0.0, 1.0, 0.0], "breakers that break nothing");
}

/// 2^5000 is beyond `f64`: still a number, and the token merely the least likely.
#[test]
fn a_long_repeat_costs_much_and_not_everything() {
    let mut sampler = Sampler::new(Chain::new().then(Dry::new(1.0, 2.0, 1, usize::MAX, vec![]).unwrap()), 0);
    sampler.prompt(&[1; 5000]);
    assert_eq!(sampler.pick(&[0.0, 9.0]).unwrap().id, 0);
    assert_eq!(sampler.pick(&[f32::NEG_INFINITY, 9.0]).unwrap().id, 1);
}

/// In the long run the mean surprise is tau, which lies between that of the best token alone and that of all:
/// this is what Mirostat promises.
#[test]
fn mirostat_holds_its_target() {
    let mean_surprise = |params: Params| {
        let mut sampler = params.sampler().unwrap();
        let mut random = Random::new(1);
        let (mut surprise, tokens) = (0.0, 4000);
        for _ in 0..tokens {
            let row: Vec<f32> = (0..500).map(|_| (random.unit() * 100.0) as f32).collect();
            let id = sampler.sample(&row).unwrap();
            sampler.accept(id);
            surprise -= probabilities(&row)[id as usize].log2();
        }
        surprise / f64::from(tokens)
    };
    let (least, most) = (mean_surprise(Params::greedy()), mean_surprise(Params::neutral()));
    for tau in [2.9, 3.4] {
        let mean = mean_surprise(Params { mirostat_tau: tau, ..Params::neutral() });
        assert!(least + 0.2 < mean && mean < most - 0.2, "{least} {mean} {most}");
        assert!((mean - f64::from(tau)).abs() < 0.02, "{mean} for {tau}");
    }
}

/// A prompt is history, and not something that was chosen.
#[test]
fn a_prompt_is_not_accepted_by_stages() {
    #[derive(Debug)]
    struct Count(std::sync::Arc<std::sync::Mutex<Vec<u32>>>);
    impl Stage for Count {
        fn name(&self) -> &str {
            "count"
        }
        fn apply(&mut self, _: &mut Candidates, history: &[u32], _: &mut Random) {
            assert!(history.ends_with(&self.0.lock().unwrap()));
        }
        fn accept(&mut self, id: u32) {
            self.0.lock().unwrap().push(id);
        }
        fn reset(&mut self) {
            self.0.lock().unwrap().clear();
        }
        fn window(&self) -> usize {
            usize::MAX
        }
    }
    let seen = std::sync::Arc::default();
    let mut sampler = Sampler::new(Chain::new().then(Count(std::sync::Arc::clone(&seen))), 0);
    sampler.prompt(&[7, 8]);
    sampler.accept(1);
    sampler.sample(&[0.0]).unwrap();
    sampler.accept(2);
    sampler.sample(&[0.0]).unwrap();
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
    sampler.reset();
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn parameters_outside_their_range_are_refused() {
    for theta in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let refused = Penalties::new(theta, 0.0, 0.0, 8);
        assert!(matches!(refused, Err(Error::Parameter { parameter: "repetition penalty", .. })), "{theta}");
    }
    for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let refused = Penalties::new(1.0, x, 0.0, 8);
        assert!(matches!(refused, Err(Error::Parameter { parameter: "frequency penalty", .. })), "{x}");
        let refused = Penalties::new(1.0, 0.0, x, 8);
        assert!(matches!(refused, Err(Error::Parameter { parameter: "presence penalty", .. })), "{x}");
        let refused = LogitBias::new(vec![(0, 1.0), (1, x)]);
        assert!(matches!(refused, Err(Error::Parameter { parameter: "logit bias", .. })), "{x}");
    }
    for x in [-1.0, f32::NAN, f32::INFINITY] {
        let refused = Dry::new(x, 1.75, 2, 64, vec![]);
        assert!(matches!(refused, Err(Error::Parameter { parameter: "DRY multiplier", .. })), "{x}");
        let refused = Dry::new(1.0, x, 2, 64, vec![]);
        assert!(matches!(refused, Err(Error::Parameter { parameter: "DRY base", .. })), "{x}");
        assert!(Mirostat::new(x, 0.1).is_err() && Mirostat::new(5.0, x).is_err(), "{x}");
    }
}
