//! What a sampler says it needs of a row is all that makes a difference.

mod support;

use proptest::prelude::*;
use support::ranking;
use tritwise_sampling::{Needs, Params, Sampler, Step};

/// The row with −∞ for all that `needs` leaves out, word for word.
fn masked(row: &[f32], needs: Needs<'_>) -> Vec<f32> {
    let Needs::Best { best, within, always } = needs else { return row.to_vec() };
    let others: Vec<u32> = ranking(row).into_iter().filter(|id| !always.contains(id)).collect();
    let logit = |id: u32| row[id as usize];
    let first = others.first().map_or(0.0, |&id| f64::from(logit(id)));
    let place = others.get(best.saturating_sub(1)).map_or(f32::NEG_INFINITY, |&id| logit(id));
    let near = |id: u32| within == f32::INFINITY || f64::from(logit(id)) >= first - f64::from(within);
    let matters = |id: u32| always.contains(&id) || logit(id) >= place && near(id);
    (0..row.len() as u32).map(|id| if matters(id) { logit(id) } else { f32::NEG_INFINITY }).collect()
}

/// Each parameter neutral half the time, so that chains of every length occur.
fn params() -> impl Strategy<Value = Params> {
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

/// Rows of one vocabulary: with ties, with neighbours that rounding makes ties, with numbers where `f32` ends.
fn rows() -> impl Strategy<Value = Vec<Vec<f32>>> {
    let logit = prop_oneof![
        4 => (-8i8..8).prop_map(|x| f32::from(x) / 4.0),
        4 => -30f32..30.0,
        2 => (0u32..8).prop_map(|ulps| f32::from_bits(9.7f32.to_bits() + ulps)),
        1 => prop::sample::select(vec![0.0, -0.0, f32::NEG_INFINITY, f32::INFINITY, f32::MAX, f32::MIN, 1e30]),
    ];
    prop::collection::vec(prop::collection::vec(logit, 60), 8)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 5000, ..ProptestConfig::default() })]

    /// The same token with the same probability, or the same error, token after token.
    #[test]
    fn a_masked_row_makes_no_difference(
        params in params(),
        rows in rows(),
        prompt in prop::collection::vec(0u32..60, 0..12),
    ) {
        let [mut full, mut few]: [Sampler; 2] = [params.sampler().unwrap(), params.sampler().unwrap()];
        full.prompt(&prompt);
        few.prompt(&prompt);
        for row in &rows {
            let masked = masked(row, few.needs());
            let (expected, found) = (full.pick(row), few.pick(&masked));
            prop_assert_eq!(&found, &expected, "{}", few.chain());
            // Repeats, so that there is something for DRY.
            let id = expected.map_or(1, |pick| if row[0] > 0.0 { pick.id } else { pick.id % 4 });
            full.accept(id);
            few.accept(id);
        }
    }
}

/// What common parameters come down to.
#[test]
fn cuts_are_recognised() {
    let plain = Params::neutral();
    let needs = |params: &Params| {
        let mut sampler = params.sampler().unwrap();
        sampler.prompt(&[5, 3, 9, 3, 9]);
        match sampler.needs() {
            Needs::All => None,
            Needs::Best { best, within, always } => Some((best, within, always.to_vec())),
        }
    };
    let inf = f32::INFINITY;
    let within = 1e-3 - 0.05f32.ln();
    let order = |order: &[Step]| order.to_vec();
    let cases = vec![
        (Params::greedy(), Some((1, inf, vec![]))),
        (Params { temperature: 0.0, ..Params::default() }, Some((1, inf, vec![]))),
        (Params::default(), Some((40, inf, vec![]))),
        (Params { top_k: 40, min_p: 0.05, ..plain.clone() }, Some((40, within, vec![]))),
        (Params { min_p: 0.05, temperature: 2.0, ..plain.clone() }, Some((usize::MAX, within, vec![]))),
        (Params { repetition_penalty: 1.1, penalty_window: 3, ..Params::greedy() }, Some((1, inf, vec![3, 9]))),
        (Params { dry_multiplier: 1.0, ..Params::greedy() }, Some((1, inf, vec![3]))),
        (
            Params { logit_bias: vec![(8, 1.0), (2, 1.0)], banned: vec![8], ..Params::default() },
            Some((40, inf, vec![2, 8])),
        ),
        // Nothing is cut, or only after something has looked at all.
        (plain.clone(), None),
        (Params { temperature: 0.7, ..plain.clone() }, None),
        (Params { top_p: 0.9, ..plain.clone() }, None),
        (Params { top_n_sigma: 1.0, ..Params::default() }, None),
        (Params { mirostat_tau: 5.0, ..Params::default() }, None),
        (Params { top_k: 40, temperature: 2.0, order: order(&[Step::Temperature, Step::TopK]), ..plain.clone() }, None),
        // A penalty after the cut has nothing to say before it.
        (
            Params {
                top_k: 40,
                min_p: 0.05,
                repetition_penalty: 1.1,
                order: order(&[Step::TopK, Step::Penalties, Step::MinP]),
                ..plain
            },
            Some((40, inf, vec![])),
        ),
    ];
    for (params, expected) in cases {
        assert_eq!(needs(&params), expected, "{}", params.chain().unwrap());
    }
}
