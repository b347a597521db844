//! Which chain the parameters build, in which order.

use tritwise_sampling::{Error, Params, Step};

/// Every step with something to do.
fn all() -> Params {
    Params {
        temperature: 0.9,
        dynamic_temperature_range: 0.3,
        typical_p: 0.9,
        top_n_sigma: 1.5,
        xtc_probability: 0.5,
        repetition_penalty: 1.2,
        frequency_penalty: 0.1,
        presence_penalty: 0.2,
        dry_multiplier: 0.8,
        logit_bias: vec![(1, 2.0)],
        banned: vec![3],
        ..Params::default()
    }
}

fn chain(params: &Params) -> String {
    params.chain().unwrap().to_string()
}

#[test]
fn the_default_order_is_as_documented() {
    let order = "ban → logit-bias → penalties → dry → top-n-sigma → top-k → typical-p → top-p → min-p → xtc → \
                 dynamic-temperature";
    assert_eq!(chain(&all()), order);
    assert_eq!(chain(&Params::default()), "top-k → top-p → min-p → temperature");
    assert_eq!(Params::default().order, Step::DEFAULT_ORDER);
}

#[test]
fn a_neutral_step_is_left_out() {
    assert_eq!(chain(&Params::neutral()), "");
    assert_eq!(chain(&Params { presence_penalty: 0.1, ..Params::neutral() }), "penalties");
    assert_eq!(chain(&Params { presence_penalty: 0.1, penalty_window: 0, ..Params::neutral() }), "");
    assert_eq!(chain(&Params { dry_multiplier: 0.1, dry_window: 0, ..Params::neutral() }), "");
    assert_eq!(chain(&Params { dynamic_temperature_range: 0.5, ..Params::neutral() }), "dynamic-temperature");
}

#[test]
fn greedy_stands_where_the_temperature_does() {
    assert_eq!(chain(&Params::greedy()), "greedy");
    assert_eq!(chain(&Params { temperature: 0.0, ..Params::default() }), "greedy", "no cut drops the best");
    let params = Params { temperature: 0.0, ..all() };
    let order = "ban → logit-bias → penalties → dry → top-n-sigma → top-k → typical-p → top-p → min-p → xtc → greedy";
    assert_eq!(chain(&params), order, "typical-p and XTC may drop the best, of those that are left to them");
    let order = vec![Step::Temperature, Step::TopK, Step::TopP, Step::MinP];
    assert_eq!(chain(&Params { temperature: 0.0, order, ..Params::default() }), "greedy → top-k → top-p → min-p");
}

#[test]
fn mirostat_takes_the_place_of_all_cuts() {
    let params = Params { mirostat_tau: 5.0, ..all() };
    assert_eq!(chain(&params), "ban → logit-bias → penalties → dry → dynamic-temperature → mirostat");
}

#[test]
fn an_order_is_followed_to_the_letter() {
    let mut order = Step::DEFAULT_ORDER.to_vec();
    order.reverse();
    let params = Params { order, ..all() };
    let reversed = "dynamic-temperature → xtc → min-p → top-p → typical-p → top-k → top-n-sigma → dry → penalties → \
                    logit-bias → ban";
    assert_eq!(chain(&params), reversed);
}

#[test]
fn an_order_that_repeats_a_step_is_refused() {
    let order = vec![Step::TopK, Step::Temperature, Step::TopK];
    let error = Params { order, ..Params::greedy() }.chain().unwrap_err();
    assert_eq!(error, Error::RepeatedStep { step: Step::TopK });
    assert!(error.to_string().contains("top-k twice"), "{error}");
}

#[test]
fn an_order_may_forget_only_what_is_neutral() {
    let order = vec![Step::Temperature, Step::TopP, Step::MinP];
    let error = Params { order: order.clone(), ..Params::default() }.chain().unwrap_err();
    assert_eq!(error, Error::MissingStep { step: Step::TopK });
    assert!(error.to_string().starts_with("top-k is not in the order"), "{error}");
    let params = Params { order, top_k: 0, ..Params::default() };
    assert_eq!(chain(&params), "temperature → top-p → min-p");
    assert!(Params { order: vec![], ..Params::greedy() }.chain().is_err(), "greedy needs its place, too");
    assert_eq!(chain(&Params { order: vec![], ..Params::neutral() }), "");
}

#[test]
fn steps_are_read_by_their_names() {
    for step in Step::DEFAULT_ORDER {
        assert_eq!(step.to_string().parse(), Ok(step));
        assert_eq!(format!("{step:12}|"), format!("{:12}|", step.name()));
    }
    let error = "topk".parse::<Step>().unwrap_err().to_string();
    assert!(error.contains("\"topk\"") && error.contains("top-k, typical-p"), "{error}");
}

/// Neither a greedy choice, nor Mirostat, nor a step that is off excuses a value that would never work.
#[test]
fn values_that_would_never_work_are_refused() {
    let nan = f32::NAN;
    let greedy = Params::greedy;
    for params in [
        Params { temperature: -0.5, ..Params::default() },
        Params { temperature: nan, ..Params::default() },
        Params { top_p: nan, ..greedy() },
        Params { min_p: 1.5, ..greedy() },
        Params { typical_p: -1.0, ..greedy() },
        Params { top_n_sigma: nan, ..greedy() },
        Params { xtc_threshold: 2.0, ..greedy() },
        Params { repetition_penalty: 0.0, penalty_window: 0, ..greedy() },
        Params { dry_base: 0.5, ..greedy() },
        Params { dynamic_temperature_exponent: 0.0, ..greedy() },
        Params { mirostat_eta: 0.0, ..greedy() },
        Params { mirostat_tau: -1.0, ..greedy() },
        Params { mirostat_tau: nan, ..greedy() },
        Params { logit_bias: vec![(0, f32::NEG_INFINITY)], ..greedy() },
        Params { mirostat_tau: 5.0, top_p: -1.0, ..Params::default() },
        Params { min_p: nan, order: vec![Step::Temperature], ..greedy() },
    ] {
        assert!(matches!(params.chain(), Err(Error::Parameter { .. })), "{params:?}");
    }
}
