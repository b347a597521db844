//! Drafts change how fast a text is made, and nothing else.

mod support;

use std::sync::{Arc, Mutex};

use support::{bits, bundled, fixture, fresh, open};
use tritwise::{
    Draft, DraftModel, Error, Generation, Model, Overflow, Params, PromptLookup, Sampling, Session, StopReason,
    Summary, TokenLogprob,
};

const PROMPT: &str = "The old king had a daughter, and the old king had a son. The old king had a";

fn model() -> Model {
    open(Model::builder().threads(2).context(300), &bundled())
}

fn session(model: &Model) -> Session {
    let mut session = model.session();
    session.push(PROMPT).unwrap();
    session
}

/// Everything that a generation leaves behind.
#[derive(Debug, PartialEq)]
struct Outcome {
    text: String,
    logprobs: Vec<TokenLogprob>,
    stop: Option<StopReason>,
    made: usize,
    shifts: usize,
    tokens: Vec<u32>,
    logits: Vec<u32>,
}

/// Runs a generation to its end; the session then holds the bits of a fresh run.
fn outcome(
    model: &Model,
    session: &mut Session,
    sampling: &Sampling,
    drafting: impl FnOnce(Generation<'_>) -> Generation<'_>,
) -> (Outcome, Summary) {
    let mut generation = drafting(session.generate(sampling).unwrap());
    let (mut text, mut logprobs) = (String::new(), Vec::new());
    for piece in &mut generation {
        let piece = piece.unwrap();
        text += &piece.text;
        logprobs.extend(piece.logprobs);
    }
    let summary = generation.summary().clone();
    let tokens = session.tokens().to_vec();
    let logits = bits(session);
    assert_eq!(logits, fresh(model, session, &tokens), "what the session holds is not what it evaluated");
    let Summary { stop_reason: stop, tokens: made, shifts, .. } = summary.clone();
    (Outcome { text, logprobs, stop, made, shifts, tokens, logits }, summary)
}

/// Knows the text, and says every `lie`-th token wrongly, with what no text has among the lies.
#[derive(Debug)]
struct Oracle {
    text: Vec<u32>,
    lie: usize,
    most: usize,
    checked: Arc<Mutex<Vec<(usize, usize)>>>,
}

impl Draft for Oracle {
    fn draft(&mut self, text: &[u32], most: usize, guesses: &mut Vec<u32>) -> Result<(), Error> {
        for (i, &token) in self.text.iter().enumerate().skip(text.len()).take(self.most.min(most + 3)) {
            let lies = [token ^ 1, 0, u32::MAX];
            guesses.push(if i % self.lie == self.lie - 1 { lies[i / self.lie % 3] } else { token });
        }
        Ok(())
    }

    fn checked(&mut self, drafted: usize, right: usize) {
        assert!(right <= drafted);
        self.checked.lock().unwrap().push((drafted, right));
    }
}

/// Ways to choose that look at all that can be looked at.
fn samplings() -> Vec<Sampling> {
    let params = |params: Params| Sampling::new(params).max_tokens(60);
    vec![
        Sampling::greedy().max_tokens(60),
        Sampling::default().seed(3).max_tokens(60),
        params(Params { repetition_penalty: 1.3, penalty_window: 9, top_k: 5, seed: 4, ..Params::default() }),
        params(Params { repetition_penalty: 1.2, temperature: 0.0, ..Params::default() }),
        params(Params { top_k: 0, top_p: 1.0, min_p: 0.1, seed: 5, ..Params::default() }),
        Sampling::new(Params { dry_multiplier: 0.8, xtc_probability: 0.5, seed: 6, ..Params::default() })
            .max_tokens(60),
        Sampling::new(Params { mirostat_tau: 5.0, mirostat_eta: 0.1, seed: 7, ..Params::neutral() }).max_tokens(60),
        Sampling::default().seed(8).logprobs(3).max_tokens(60),
    ]
}

#[test]
fn any_draft_gives_the_same_text() {
    let model = model();
    for sampling in samplings() {
        let (expected, plain) = outcome(&model, &mut session(&model), &sampling, |generation| generation);
        assert_eq!((plain.steps, plain.drafted), (plain.tokens, 0));
        for (lie, most) in [(usize::MAX, 7), (usize::MAX, 40), (5, 7), (2, 3), (1, 2)] {
            let checked = Arc::default();
            let oracle = Oracle { text: expected.tokens.clone(), lie, most, checked: Arc::clone(&checked) };
            let (found, summary) = outcome(&model, &mut session(&model), &sampling, |g| g.drafting(oracle));
            assert_eq!(found, expected, "{sampling:?}, a lie in {lie}, {most} at once");
            let sums = checked.lock().unwrap().iter().fold((0, 0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
            assert_eq!(sums, (summary.drafted, summary.accepted));
            if lie == usize::MAX {
                assert_eq!(summary.drafted, summary.accepted, "an oracle is right");
                assert_eq!(summary.steps, expected.made.div_ceil(most + 1), "and saves as many steps as it can");
            } else if lie == 1 {
                assert_eq!((summary.accepted, summary.steps), (0, expected.made));
            }
        }
        let lookup = PromptLookup::new(1, 6);
        let (found, summary) = outcome(&model, &mut session(&model), &sampling, |g| g.drafting(lookup));
        assert_eq!(found, expected, "{sampling:?} with a lookup");
        assert!(summary.drafted > 0);
        let small = DraftModel::new(&model, &model, 4).unwrap();
        let (found, summary) = outcome(&model, &mut session(&model), &sampling, |g| g.drafting(small));
        assert_eq!(found, expected, "{sampling:?} with a model");
        assert!(summary.accepted > 0, "{summary:?}");
    }
}

#[test]
fn a_model_that_drafts_for_itself_is_always_right() {
    let model = model();
    let (expected, _) = outcome(&model, &mut session(&model), &Sampling::greedy().max_tokens(50), |g| g);
    let small = DraftModel::new(&model, &model, 4).unwrap();
    let (found, summary) =
        outcome(&model, &mut session(&model), &Sampling::greedy().max_tokens(50), |g| g.drafting(small));
    assert_eq!(found, expected);
    assert_eq!((summary.steps, summary.accepted), (10, 40));
    assert!((summary.tokens_per_step() - 5.0).abs() < 1e-9);
}

#[test]
fn ends_within_a_draft_are_ends() {
    let model = model();
    let (whole, _) = outcome(&model, &mut session(&model), &Sampling::greedy().max_tokens(60), |g| g);
    // A string in the middle of the text, that begins and ends inside tokens.
    let middle = whole.text.char_indices().nth(whole.text.chars().count() / 2).unwrap().0;
    let stop: String = whole.text[middle..].chars().take(5).collect();
    let ends = [
        Sampling::greedy().max_tokens(60).stop(stop),
        Sampling::greedy().max_tokens(17),
        Sampling::greedy().max_tokens(1),
        Sampling::greedy().max_tokens(0),
    ];
    for sampling in ends {
        let (expected, _) = outcome(&model, &mut session(&model), &sampling, |g| g);
        assert_ne!(expected.text, whole.text);
        let oracle = Oracle { text: whole.tokens.clone(), lie: usize::MAX, most: 40, checked: Arc::default() };
        let (found, _) = outcome(&model, &mut session(&model), &sampling, |g| g.drafting(oracle));
        assert_eq!(found, expected, "{sampling:?}");
    }
}

#[test]
fn a_full_session_stops_or_shifts_as_without_a_draft() {
    let model = open(Model::builder().threads(2).context(64), &bundled());
    for overflow in [Overflow::Stop, Overflow::Shift { keep: 5 }] {
        let session = || {
            let mut session = session(&model);
            session.on_overflow(overflow);
            session
        };
        let sampling = Sampling::greedy().max_tokens(120);
        let (expected, _) = outcome(&model, &mut session(), &sampling, |g| g);
        assert!(expected.stop == Some(StopReason::ContextFull) || expected.shifts > 1);
        let (found, summary) = outcome(&model, &mut session(), &sampling, |g| g.drafting(PromptLookup::new(1, 9)));
        assert_eq!(found, expected);
        assert!(summary.drafted > 0);
    }
}

#[test]
fn a_draft_that_fails_ends_the_generation_and_not_the_session() {
    #[derive(Debug)]
    struct Broken;
    impl Draft for Broken {
        fn draft(&mut self, _: &[u32], _: usize, _: &mut Vec<u32>) -> Result<(), Error> {
            Err(Error::EmptyPrompt)
        }
    }
    let model = model();
    let mut broken = session(&model);
    let pieces: Vec<_> = broken.generate(&Sampling::greedy()).unwrap().drafting(Broken).collect();
    assert!(matches!(pieces[..], [Err(Error::EmptyPrompt)]));
    let sampling = Sampling::greedy().max_tokens(20);
    let expected = outcome(&model, &mut session(&model), &sampling, |g| g).0;
    assert_eq!(outcome(&model, &mut broken, &sampling, |g| g).0, expected);
}

#[test]
fn a_lookup_drafts_what_followed_before() {
    let draft = |text: &[u32], most| {
        let mut guesses = Vec::new();
        PromptLookup::new(2, 4).draft(text, most, &mut guesses).unwrap();
        guesses
    };
    assert_eq!(draft(&[1, 2, 3, 4, 5, 6, 7, 1, 2], 9), [3, 4, 5, 6]);
    assert_eq!(draft(&[1, 2, 3, 4, 5, 6, 7, 1, 2], 2), [3, 4]);
    assert_eq!(draft(&[1, 2, 3, 4, 1, 2, 5, 9, 3, 1, 2], 3), [5, 9, 3], "the latest of equals");
    assert_eq!(draft(&[3, 1, 2, 7, 8, 1, 2, 5, 9, 3, 1, 2], 3), [7, 8, 1], "the longest of all");
    assert_eq!(draft(&[1, 2, 1, 2, 1, 2], 4), [1, 2, 1, 2], "a repetition goes on");
    assert_eq!(draft(&[1, 2, 3, 1], 4), [0; 0], "one token alike is too little");
    assert_eq!(draft(&[], 4), [0; 0]);
}

#[test]
fn a_model_with_another_vocabulary_is_refused() {
    let (large, small) = (model(), open(Model::builder(), &fixture()));
    let error = DraftModel::new(&small, &large, 4).unwrap_err().to_string();
    assert!(error.contains("token"), "{error}");
}
