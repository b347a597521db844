//! Generations that are ended from outside, and what is left: a session and a model that go on.

mod support;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use support::{bits, bundled, fixture, fresh, open, tokens};
use tritwise::kernels::Backend;
use tritwise::tensor::{DenseEncoding, DenseMatrix, SharedBytes, Storage};
use tritwise::transformer::{Turn, Wanted};
use tritwise::{Cancel, KvType, Model, Sampling, Session, StopReason};

fn model() -> Model {
    open(Model::builder().threads(2).context(600), &bundled())
}

fn text(session: &mut Session, sampling: &Sampling) -> String {
    session.generate(sampling).unwrap().map(|piece| piece.unwrap().text).collect()
}

/// What a session makes of the tokens of another one.
fn again(model: &Model, session: &Session, sampling: &Sampling) -> String {
    let mut other = model.session();
    other.push_tokens(session.tokens()).unwrap();
    text(&mut other, sampling)
}

#[test]
fn a_deadline_ends_a_generation_and_is_the_reason() {
    let model = model();
    let mut session = model.session();
    session.push("The old king").unwrap();
    let past = Cancel::new().at(Instant::now()).after(Duration::from_secs(1000));
    let mut generation = session.generate_until(&Sampling::default(), &past).unwrap();
    assert!(generation.next().is_none());
    assert_eq!(generation.summary().stop_reason, Some(StopReason::Deadline));
    assert_eq!(generation.summary().stop_reason.as_ref().unwrap().name(), "deadline");
    assert!(!past.is_cancelled());

    let far = Cancel::new().after(Duration::MAX).after(Duration::from_secs(1000));
    let mut generation = session.generate_until(&Sampling::default().max_tokens(3), &far).unwrap();
    assert!(generation.by_ref().all(|piece| piece.is_ok()));
    assert_eq!(generation.summary().stop_reason, Some(StopReason::MaxTokens));

    let soon = Cancel::new().after(Duration::from_millis(20));
    session.on_overflow(tritwise::Overflow::Shift { keep: 4 });
    let mut generation = session.generate_until(&Sampling::default().temperature(3.0).min_p(0.0), &soon).unwrap();
    while generation.next().is_some() {}
    let reason = generation.summary().stop_reason.clone().unwrap();
    assert!(matches!(reason, StopReason::Deadline | StopReason::End), "{reason:?}");
}

/// The call gives up between the halves of a block, and the sequence is as it was.
#[test]
fn a_forward_call_that_is_given_up_changes_nothing() {
    let model = open(Model::builder().threads(1).context(64), &fixture());
    let network = model.network();
    let text = tokens(&model, 40);
    let (mut sequence, mut workspace) = (network.sequence(64), network.workspace());
    let halves = 2 * model.config().layers;
    for given_up_at in 0..=halves {
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) == given_up_at;
        let turn = Turn { sequence: &mut sequence, tokens: &text[..30], wanted: Wanted::Last };
        let logits = network.forward_unless(&mut workspace, &mut [turn], &stop).unwrap();
        assert_eq!(logits.is_none(), given_up_at < halves, "asked {} times", asked.get());
        assert_eq!(sequence.len(), if given_up_at < halves { 0 } else { 30 });
    }
    let turn = Turn { sequence: &mut sequence, tokens: &text[30..], wanted: Wanted::Last };
    let logits = network.forward(&mut workspace, &mut [turn]).unwrap();
    let found: Vec<u32> = logits.as_slice().iter().map(|x| x.to_bits()).collect();
    assert_eq!(found, fresh(&model, &model.session(), &text));
}

#[test]
fn a_long_prompt_can_be_cancelled_and_read_on() {
    let model = model();
    let prompt = tokens(&model, 590);
    for kv in [KvType::F16, KvType::Int8] {
        let mut session = model.session_with(kv);
        session.push_tokens(&prompt).unwrap();
        let mut cancelled = 0;
        // Later and later, until it is read.
        for wait in 0.. {
            let cancel = Cancel::new();
            let reason = thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(Duration::from_micros(200 * wait));
                    cancel.cancel();
                });
                let mut generation = session.generate_until(&Sampling::greedy().max_tokens(1), &cancel).unwrap();
                let _ = generation.next();
                generation.summary().stop_reason.clone()
            });
            if reason != Some(StopReason::Cancelled) || session.tokens().len() > prompt.len() {
                break;
            }
            cancelled += 1;
        }
        assert!(cancelled > 0);
        session.truncate(prompt.len());
        assert_eq!(bits(&mut session), fresh(&model, &session, &prompt));
    }
}

#[test]
fn a_dropped_generation_goes_on_as_a_fresh_run() {
    let model = model();
    for (taken, seed) in [(0, 1), (1, 2), (2, 3), (7, 4)] {
        let mut session = model.session();
        session.push("The princess looked at the old woman, and").unwrap();
        let sampling = Sampling::default().seed(seed).max_tokens(20).stop("never said");
        let taken: Vec<_> = session.generate(&sampling).unwrap().take(taken).collect();
        drop(taken);
        let expected = again(&model, &session, &sampling);
        assert_eq!(text(&mut session, &sampling), expected);
    }
}

#[test]
fn a_consumer_that_panics_leaves_the_session_and_the_model() {
    let model = model();
    let sampling = Sampling::default().seed(2).max_tokens(20);
    let mut session = model.session();
    session.push("The princess looked at the old woman, and").unwrap();
    let consumed = catch_unwind(AssertUnwindSafe(|| {
        for (i, piece) in session.generate(&sampling).unwrap().enumerate() {
            piece.unwrap();
            assert!(i < 3, "the consumer's own mistake");
        }
    }));
    assert!(consumed.is_err());
    let expected = again(&model, &session, &sampling);
    assert_eq!(text(&mut session, &sampling), expected);

    let prompts = ["The old king", "A fox", "A hare"];
    let texts = || -> Vec<_> { model.complete(prompts, &sampling).map(|(i, c)| (i, c.unwrap().text)).collect() };
    let expected = texts();
    let consumed = catch_unwind(AssertUnwindSafe(|| {
        let done = model.complete(prompts, &sampling).filter(|(_, completion)| completion.is_ok());
        done.for_each(|(index, _)| assert!(index > 9, "the consumer's own mistake"));
    }));
    assert!(consumed.is_err());
    assert_eq!(texts(), expected);
}

#[test]
fn a_progress_report_that_panics_ends_the_loading_and_no_more() {
    let load = || {
        let mut blocks = 0;
        let report = move |_| {
            blocks += 1;
            assert!(blocks < 3, "the report's own mistake");
        };
        Model::builder().threads(2).progress(report).open(bundled())
    };
    assert!(catch_unwind(load).is_err());
    let model = model();
    let mut session = model.session();
    session.push("The old king").unwrap();
    assert!(!text(&mut session, &Sampling::default().max_tokens(5)).is_empty());
}

/// Bytes whose keeper panics when they are given back, which copying a table does on the model's threads.
struct Mine(Vec<u8>);

impl Storage for Mine {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn release(&self, range: Range<usize>) {
        panic!("the storage's own mistake at {range:?}");
    }
}

#[test]
fn a_panic_on_the_models_threads_does_not_poison_it() {
    let model = model();
    let sampling = Sampling::default().seed(6).max_tokens(15);
    let mut session = model.session();
    session.push("The princess looked at the old woman, and").unwrap();
    let expected = again(&model, &session, &sampling);
    for _ in 0..3 {
        // Sixteen pieces, so that both threads get some.
        let (rows, cols) = (1 << 14, 1 << 10);
        let bytes = SharedBytes::new(Arc::new(Mine(vec![0; 4 * rows * cols])), 0..4 * rows * cols);
        let table = DenseMatrix::new(DenseEncoding::F32, rows, cols, bytes).unwrap();
        let backend = model.network().backend();
        assert!(catch_unwind(AssertUnwindSafe(|| backend.table(&table))).is_err());
    }
    assert_eq!(text(&mut session, &sampling), expected);
}

/// Sessions of one model, on threads of their own, of several types of keys and values.
#[test]
fn sessions_on_many_threads_get_what_they_would_get_alone() {
    let model = model();
    let run = |i: usize| {
        let kv = [KvType::F16, KvType::Int8, KvType::F32][i % 3];
        let mut session = model.session_with(kv);
        session.push_tokens(&tokens(&model, 40 + 60 * i)).unwrap();
        let text = text(&mut session, &Sampling::default().seed(i as u64).max_tokens(15));
        (text, bits(&mut session))
    };
    let alone: Vec<_> = (0..6).map(run).collect();
    let together: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|i| scope.spawn(move || run(i))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(together == alone);
}
