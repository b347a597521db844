//! What a sampler says it needs of a row is all that makes a difference.

mod support;

use proptest::prelude::*;
use support::{params, ranking};
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
