//! Many texts at once: each is the text that it is alone.

mod support;

use std::cell::Cell;
use std::time::Duration;

use support::{bundled, fixture, open};
use tritwise::kernels::arch;
use tritwise::{Cancel, Completion, Error, Model, Params, Sampling, StopReason};

const PROMPTS: [&str; 7] = [
    "The old king",
    "Once upon a time there was a poor woodcutter who had",
    "Once upon a time there was a poor fisherman, and",
    "The princess opened the door of the tower, and",
    "A",
    "The old king",
    "",
];

/// The completions in the order of their prompts.
fn complete(model: &Model, sampling: &Sampling, in_flight: usize) -> Vec<Completion> {
    let mut all: Vec<_> = model.complete(PROMPTS, sampling).in_flight(in_flight).collect();
    all.sort_by_key(|(index, _)| *index);
    assert!(all.iter().map(|(index, _)| *index).eq(0..PROMPTS.len()), "each prompt once");
    all.into_iter().map(|(_, completion)| completion.unwrap_or_else(|e| panic!("{e}"))).collect()
}

/// What a session of its own makes of prompt `index`.
fn alone(
    model: &Model,
    params: &Params,
    index: usize,
    end: impl Fn(Sampling) -> Sampling,
) -> (String, StopReason, usize) {
    let seed = params.seed.wrapping_add(index as u64);
    let mut session = model.session();
    session.push(PROMPTS[index]).unwrap();
    let sampling = end(Sampling::new(Params { seed, ..params.clone() }));
    let mut generation = session.generate(&sampling).unwrap();
    let text = generation.by_ref().map(|piece| piece.unwrap().text).collect();
    let summary = generation.summary();
    (text, summary.stop_reason.clone().unwrap(), summary.tokens)
}

#[test]
fn each_text_is_the_one_it_is_alone() {
    let params = [
        Params { seed: u64::MAX - 2, ..Params::default() },
        Params { repetition_penalty: 1.3, penalty_window: 20, top_k: 0, ..Params::default() },
        Params::greedy(),
    ];
    let end = |sampling: Sampling| sampling.max_tokens(30).stop(" and");
    for (path, params) in [fixture(), bundled()].iter().flat_map(|path| params.iter().map(move |params| (path, params)))
    {
        let model = open(Model::builder().threads(1).context(64), path);
        let expected: Vec<_> = (0..PROMPTS.len()).map(|index| alone(&model, params, index, end)).collect();
        if params.temperature > 0.0 {
            assert_ne!(expected[0].0, expected[5].0, "the seed is the prompt's");
        }
        let mut runs = vec![(model.isa(), 1, 1), (model.isa(), 2, 2), (model.isa(), 2, 3), (model.isa(), 1, 100)];
        runs.extend(arch::available().iter().filter(|_| *path == fixture()).map(|isa| (isa.name(), 2, 4)));
        for (isa, threads, in_flight) in runs {
            let model = open(Model::builder().isa(isa).threads(threads).context(64), path);
            let found = complete(&model, &end(Sampling::new(params.clone())), in_flight);
            for (found, (text, reason, tokens)) in found.iter().zip(&expected) {
                assert_eq!(&found.text, text, "{isa}, {in_flight} in flight");
                assert_eq!(found.summary.stop_reason.as_ref(), Some(reason));
                assert_eq!(found.summary.tokens, *tokens);
            }
        }
    }
}

/// Prompts of several chunks are read beside texts that are being written.
#[test]
fn long_prompts_are_read_while_others_are_written() {
    let model = open(Model::builder().threads(2).context(700), &bundled());
    let long = |n: usize| "The fox ran into the forest, and the hare looked after it. ".repeat(n);
    let prompts = [long(3), long(30), "A".into(), long(25), long(30) + "But", long(1)];
    let sampling = Sampling::default().seed(9).max_tokens(12);
    for (index, completion) in model.complete(&prompts, &sampling).in_flight(3) {
        let mut session = model.session();
        session.push(&prompts[index]).unwrap();
        let sampling = sampling.clone().seed(9 + index as u64);
        let text: String = session.generate(&sampling).unwrap().map(|piece| piece.unwrap().text).collect();
        assert_eq!(completion.unwrap().text, text, "prompt {index}");
    }
}

#[test]
fn no_more_prompts_are_taken_than_are_in_flight() {
    let model = open(Model::builder().threads(1).context(64), &fixture());
    let taken = Cell::new(0);
    let prompts = (0..50).inspect(|_| taken.set(taken.get() + 1)).map(|i| format!("prompt {i}"));
    let completions = model.complete(prompts, &Sampling::default().max_tokens(4)).in_flight(4);
    for (done, (_, completion)) in completions.enumerate() {
        completion.unwrap();
        assert!(taken.get() <= done + 4 + 3, "{} taken, {done} done", taken.get());
    }
    assert_eq!(taken.get(), 50);
}

#[test]
fn a_prompt_that_does_not_fit_gets_an_error_and_the_others_go_on() {
    let model = open(Model::builder().threads(1).context(64), &fixture());
    let prompts = ["abc".to_owned(), "x".repeat(200), "def".to_owned()];
    for (index, completion) in model.complete(&prompts, &Sampling::default().max_tokens(5)).in_flight(2) {
        match completion {
            Err(Error::ContextFull { capacity: 64, .. }) => assert_eq!(index, 1),
            completion => assert!(completion.is_ok() && index != 1, "{completion:?}"),
        }
    }
    let wrong = Sampling::default().temperature(f32::NAN);
    assert!(model.complete(&prompts, &wrong).all(|(_, completion)| completion.is_err()));
    assert_eq!(model.complete([] as [&str; 0], &Sampling::default()).count(), 0);
}

#[test]
fn a_cancelled_batch_gives_what_it_has_and_takes_no_more() {
    let model = open(Model::builder().threads(1).context(500), &bundled());
    let sampling = Sampling::default().max_tokens(3).seed(1);
    let whole: Vec<_> = model.complete(PROMPTS, &sampling).in_flight(2).collect();
    let cancel = Cancel::new();
    let mut completions = model.complete(PROMPTS, &Sampling::default().seed(1)).in_flight(3).until(&cancel);
    cancel.cancel();
    assert!(completions.next().is_none(), "none was begun");

    // The first has ended, so the others have begun.
    let cancel = Cancel::new();
    let mut completions = model.complete(PROMPTS, &sampling).in_flight(2).until(&cancel);
    let first = completions.next().expect("there is one");
    assert_eq!(first.1.unwrap().text, whole[0].1.as_ref().unwrap().text);
    cancel.cancel();
    let rest: Vec<_> = completions.map(|(_, completion)| completion.unwrap().summary.stop_reason.unwrap()).collect();
    assert!(
        rest.len() <= 2 && rest.iter().all(|r| matches!(r, StopReason::Cancelled | StopReason::MaxTokens)),
        "{rest:?}"
    );

    let soon = Cancel::new().after(Duration::from_millis(30));
    let endless = std::iter::repeat("The old king");
    let last = model.complete(endless, &Sampling::default()).in_flight(2).until(&soon).last();
    // None, if the machine was so busy that none had begun.
    assert!(last.is_none_or(|(_, last)| last.unwrap().summary.stop_reason == Some(StopReason::Deadline)));
}

/// A batch that is dropped on the way leaves the model as it was.
#[test]
fn a_dropped_batch_leaves_nothing_behind() {
    let model = open(Model::builder().threads(2).context(64), &bundled());
    let sampling = Sampling::default().max_tokens(10);
    let expected = complete(&model, &sampling, 4);
    drop(model.complete(PROMPTS, &sampling).in_flight(4).next());
    let again = complete(&model, &sampling, 4);
    assert!(again.iter().map(|c| &c.text).eq(expected.iter().map(|c| &c.text)));
}
