//! The draw: golden ids, the right frequencies, and every odd row.

mod support;

use proptest::prelude::*;
use tritwise_sampling::{
    Candidates, Chain, Error, Logprobs, Params, Penalties, Random, Sampler, Stage, Step, Temperature, TopK, logprob,
};

/// Drawn by tools/reference/sampling.py, which has its own generator and its own `exp`.
#[test]
fn golden_ids_for_fixed_seeds() {
    let logits = [0.0, 1.0, 2.0, -1.0, 0.5, 1.5, -2.0, 0.25];
    let golden: [(u64, [u32; 24]); 4] = [
        (0, [2, 2, 2, 0, 2, 0, 5, 5, 2, 1, 2, 1, 1, 1, 1, 2, 4, 1, 2, 2, 2, 1, 0, 2]),
        (1, [5, 5, 1, 5, 1, 3, 7, 2, 1, 1, 5, 2, 1, 2, 1, 1, 2, 2, 7, 4, 2, 5, 1, 2]),
        (42, [5, 2, 7, 5, 5, 3, 1, 4, 2, 7, 2, 5, 4, 1, 2, 2, 2, 0, 2, 2, 1, 5, 4, 2]),
        (u64::MAX, [2, 5, 5, 2, 4, 2, 5, 2, 4, 5, 2, 4, 5, 1, 2, 2, 5, 1, 2, 1, 2, 2, 2, 5]),
    ];
    for (seed, expected) in golden {
        let mut sampler = Sampler::new(Chain::new(), seed);
        let drawn: Vec<u32> = expected.iter().map(|_| sampler.sample(&logits).unwrap()).collect();
        assert_eq!(drawn, expected, "seed {seed}");
        sampler.reset();
        assert_eq!(sampler.sample(&logits).unwrap(), expected[0], "seed {seed} after a reset");
    }
}

#[test]
fn golden_ids_of_a_wide_row() {
    let logits: Vec<f32> = (0..1000).map(|i| (i * 37 % 101) as f32 / 16.0).collect();
    let mut sampler = Sampler::new(Chain::new(), 7);
    let drawn: Vec<u32> = (0..16).map(|_| sampler.sample(&logits).unwrap()).collect();
    assert_eq!(drawn, [57, 169, 723, 431, 966, 464, 726, 333, 985, 73, 117, 169, 737, 117, 494, 98]);
}

/// As drawn by the same script: XTC takes a number for each token, and the draw the next one.
#[test]
fn golden_ids_with_xtc() {
    let params = Params { xtc_probability: 0.5, xtc_threshold: 0.15, seed: 7, ..Params::neutral() };
    let mut sampler = params.sampler().unwrap();
    let logits = [0.0, 1.0, 2.0, -1.0, 0.5, 1.5, -2.0, 0.25];
    let drawn: Vec<u32> = (0..24).map(|_| sampler.sample(&logits).unwrap()).collect();
    assert_eq!(drawn, [1, 2, 2, 2, 1, 1, 1, 1, 1, 5, 2, 2, 0, 1, 1, 1, 5, 5, 5, 5, 4, 4, 5, 1]);
}

#[test]
fn neighbouring_seeds_are_unrelated() {
    let logits = [0.0; 1000];
    let first: Vec<u32> = (0..50).map(|seed| Sampler::new(Chain::new(), seed).sample(&logits).unwrap()).collect();
    let mut distinct = first.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.len() > 40, "{first:?}");
}

#[test]
fn no_logits_are_an_error() {
    assert_eq!(Sampler::greedy().sample(&[]), Err(Error::Empty));
}

#[test]
fn nan_names_its_token() {
    let row = [0.0, f32::NAN, f32::NAN];
    assert_eq!(Sampler::greedy().sample(&row), Err(Error::NotANumber { id: 1 }));
    assert_eq!(Sampler::new(Chain::new(), 0).sample(&row), Err(Error::NotANumber { id: 1 }));
}

#[test]
fn nothing_but_minus_infinity_is_an_error() {
    let row = [f32::NEG_INFINITY; 3];
    assert_eq!(Sampler::greedy().sample(&row), Err(Error::NoCandidates));
    assert_eq!(Params::default().sampler().unwrap().sample(&row), Err(Error::NoCandidates));
}

#[test]
fn plus_infinity_takes_everything() {
    let row = [1e30, f32::INFINITY, 0.0, f32::INFINITY];
    let mut sampler = Sampler::new(Chain::new(), 3);
    let mut counts = [0; 4];
    for _ in 0..1000 {
        let pick = sampler.pick(&row).unwrap();
        counts[pick.id as usize] += 1;
        assert_eq!(pick.logprob, -(2f64.ln()));
    }
    assert_eq!((counts[0], counts[2]), (0, 0));
    assert!(counts[1] > 400 && counts[3] > 400, "{counts:?}");
}

#[test]
fn minus_infinity_is_never_drawn() {
    let row = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
    let mut sampler = Sampler::new(Chain::new(), 9);
    assert!((0..1000).all(|_| sampler.sample(&row) == Ok(1)));
}

#[test]
fn the_coldest_temperature_keeps_huge_logits_apart_from_infinity() {
    let mut cold = Sampler::new(Chain::new().then(Temperature::new(Temperature::MIN).unwrap()), 0);
    assert_eq!(cold.sample(&[f32::MIN]), Ok(0));
    assert_eq!(cold.sample(&[f32::MAX, f32::INFINITY]), Ok(1));
}

#[test]
fn ties_go_to_the_lowest_id() {
    assert_eq!(Sampler::greedy().sample(&[0.0; 128]), Ok(0));
    assert_eq!(Sampler::greedy().sample(&[-1.0, -0.0, 0.0, 0.0]), Ok(1));
    let mut one = Sampler::new(Chain::new().then(TopK::new(1)), 5);
    assert_eq!(one.sample(&[2.0, 3.0, 3.0, 3.0]), Ok(1));
}

#[test]
fn all_equal_logits_are_uniform() {
    let mut sampler = Sampler::new(Chain::new(), 1);
    let mut counts = [0u32; 4];
    for _ in 0..40_000 {
        counts[sampler.sample(&[-7.5; 4]).unwrap() as usize] += 1;
    }
    assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 400), "{counts:?}");
}

#[test]
fn greedy_needs_no_luck() {
    let mut sampler = Params::greedy().sampler().unwrap();
    let pick = sampler.pick(&[0.1, 0.3, 0.2]).unwrap();
    assert_eq!((pick.id, pick.logprob), (1, 0.0));
}

#[test]
fn repetition_is_penalised_within_its_window() {
    let mut sampler = Sampler::new(Chain::new().then(Penalties::new(2.0, 0.0, 0.0, 2).unwrap()), 0);
    let best = |sampler: &mut Sampler| {
        let row = [4.0, 3.0, 2.5, 2.1];
        let mut counts = [0; 4];
        for _ in 0..2000 {
            counts[sampler.sample(&row).unwrap() as usize] += 1;
        }
        (0..4).max_by_key(|&id| counts[id]).unwrap()
    };
    assert_eq!(best(&mut sampler), 0);
    sampler.accept(0);
    assert_eq!(best(&mut sampler), 1);
    sampler.accept(1);
    assert_eq!(best(&mut sampler), 2);
    sampler.accept(3);
    sampler.accept(2);
    assert_eq!(best(&mut sampler), 0, "0 and 1 have left the window of two");
    sampler.accept(0);
    sampler.reset();
    assert_eq!(best(&mut sampler), 0, "a reset forgets the text");
}

/// Stages see exactly the last tokens, however many were accepted.
#[test]
fn history_ends_with_the_last_token() {
    use std::sync::{Arc, Mutex};

    #[derive(Debug)]
    struct Spy(usize, Arc<Mutex<Vec<u32>>>);
    impl Stage for Spy {
        fn name(&self) -> &str {
            "spy"
        }
        fn apply(&mut self, _: &mut Candidates, history: &[u32], _: &mut Random) {
            *self.1.lock().unwrap() = history[history.len().saturating_sub(self.0)..].to_vec();
        }
        fn window(&self) -> usize {
            self.0
        }
    }
    for window in [0, 1, 2, 5] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut sampler = Sampler::new(Chain::new().then(Spy(window, seen.clone())), 0);
        for id in 0..40u32 {
            sampler.sample(&[0.0]).unwrap();
            let expected: Vec<u32> = (id.saturating_sub(window as u32)..id).collect();
            assert_eq!(*seen.lock().unwrap(), expected, "window {window} before token {id}");
            sampler.accept(id);
        }
    }
}

#[test]
fn a_stage_cannot_make_the_draw_nonsense() {
    #[derive(Debug)]
    struct Set(f32);
    impl Stage for Set {
        fn name(&self) -> &str {
            "set"
        }
        fn apply(&mut self, candidates: &mut Candidates, _: &[u32], _: &mut Random) {
            candidates.as_mut_slice()[0].logit = self.0;
        }
    }
    #[derive(Debug)]
    struct Drop;
    impl Stage for Drop {
        fn name(&self) -> &str {
            "drop"
        }
        fn apply(&mut self, candidates: &mut Candidates, _: &[u32], _: &mut Random) {
            candidates.retain(|_| false);
        }
    }
    let draw = |chain: Chain| Sampler::new(chain, 0).sample(&[1.0, 2.0]);
    assert_eq!(draw(Chain::new().then(Set(f32::NAN))), Err(Error::NotANumber { id: 0 }));
    assert_eq!(draw(Chain::new().then(Set(f32::NAN)).then(TopK::new(1))), Err(Error::NotANumber { id: 0 }));
    assert_eq!(draw(Chain::new().then(Drop)), Err(Error::NoCandidates));
    let params = Params { repetition_penalty: 1.5, ..Params::default() };
    let mut chain = params.chain().unwrap();
    chain.push(Box::new(Drop));
    for stage in [Params::greedy(), params] {
        let mut after_drop = Chain::new().then(Drop);
        after_drop.push(Box::new(Wrapped(stage.chain().unwrap())));
        assert_eq!(draw(after_drop), Err(Error::NoCandidates));
    }
    assert_eq!(draw(chain), Err(Error::NoCandidates));
}

/// A chain as a stage of another.
#[derive(Debug)]
struct Wrapped(Chain);

impl Stage for Wrapped {
    fn name(&self) -> &str {
        "chain"
    }
    fn apply(&mut self, candidates: &mut Candidates, history: &[u32], random: &mut Random) {
        self.0.apply(candidates, history, random);
    }
}

#[test]
fn logprob_refuses_what_has_none() {
    assert_eq!(logprob(&[], 0), Err(Error::Empty));
    assert_eq!(logprob(&[0.0, f32::NAN], 0), Err(Error::NotANumber { id: 1 }));
    assert_eq!(logprob(&[0.0], 1), Err(Error::OutOfVocabulary { id: 1, vocab: 1 }));
    assert_eq!(logprob(&[f32::NEG_INFINITY], 0), Err(Error::NoCandidates));
    assert_eq!(logprob(&[0.0, f32::NEG_INFINITY], 1), Ok(f64::NEG_INFINITY));
    assert_eq!(logprob(&[f32::INFINITY, 0.0], 0), Ok(0.0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The probability reported with a pick is that of `logprob`, when no stage intervenes.
    #[test]
    fn picks_report_their_probability(logits in prop::collection::vec(-50f32..50.0, 1..100), seed: u64) {
        let pick = Sampler::new(Chain::new(), seed).pick(&logits).unwrap();
        prop_assert_eq!(pick.logprob.to_bits(), logprob(&logits, pick.id).unwrap().to_bits());
    }

    /// The best few with the probabilities that each has by itself, whatever row came before.
    #[test]
    fn top_logprobs_are_the_first_of_a_sort(rows in prop::collection::vec(support::logits(), 1..3), n in 0usize..20) {
        let mut logprobs = Logprobs::new();
        for logits in rows {
            let id = (n % logits.len()) as u32;
            let Ok(expected) = logprob(&logits, id) else {
                prop_assert!(logprobs.of(&logits, id, n).is_err());
                continue;
            };
            let (found, best) = logprobs.of(&logits, id, n).unwrap();
            prop_assert_eq!(found.to_bits(), expected.to_bits());
            let expected: Vec<_> =
                support::ranking(&logits).into_iter().take(n).map(|id| (id, logprob(&logits, id).unwrap())).collect();
            prop_assert_eq!(best.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn probabilities_sum_to_one(logits in prop::collection::vec(-50f32..50.0, 1..100)) {
        let sum: f64 = (0..logits.len() as u32).map(|id| logprob(&logits, id).unwrap().exp()).sum();
        prop_assert!((sum - 1.0).abs() < 1e-12, "{sum}");
    }

    /// Any row and any parameters: a token that may be chosen, or the reason why there is none.
    #[test]
    fn any_row_yields_a_possible_token(
        bits in prop::collection::vec(prop_oneof![any::<u32>(), Just(f32::NEG_INFINITY.to_bits())], 1..200),
        params in support::params(),
        history in prop::collection::vec(0u32..60, 0..12),
    ) {
        let logits: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let mut sampler = params.sampler().unwrap();
        sampler.prompt(&history);
        let banned = |id: u32| params.banned.contains(&id);
        match sampler.pick(&logits) {
            Ok(pick) => {
                prop_assert!(logits[pick.id as usize] > f32::NEG_INFINITY && !banned(pick.id));
                prop_assert!(pick.logprob <= 1e-12, "{}", pick.logprob);
            }
            Err(Error::NotANumber { id }) => prop_assert!(logits[id as usize].is_nan()),
            // A ban that comes after a cut may leave nothing, one before it only where there was nothing else.
            Err(Error::NoCandidates) => prop_assert!(
                params.order[0] != Step::Ban && !params.banned.is_empty()
                    || (0..).zip(&logits).all(|(id, &logit)| logit == f32::NEG_INFINITY || banned(id))
            ),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
