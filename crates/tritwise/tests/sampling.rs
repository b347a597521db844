//! How a caller chooses what is chosen, and learns what the model thought of it.

use std::path::{Path, PathBuf};

use tritwise::tokenizer::Special;
use tritwise::{Model, Params, Sampling, Step, StopReason, TokenLogprob};

fn model() -> Model {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/stories-8m.gguf");
    Model::builder().threads(2).context(512).open(path).unwrap_or_else(|e| panic!("{e}"))
}

const PROMPT: &str = "The king had a daughter, and the king";

/// The tokens of one generation, its text and what is known of its tokens.
fn generate(model: &Model, sampling: &Sampling) -> (Vec<u32>, String, Vec<TokenLogprob>, StopReason) {
    let mut session = model.session();
    session.push(PROMPT).unwrap();
    let prompt = session.tokens().len();
    let (mut text, mut logprobs) = (String::new(), Vec::new());
    let mut generation = session.generate(sampling).unwrap_or_else(|e| panic!("{e}"));
    for piece in &mut generation {
        let piece = piece.unwrap();
        text.push_str(&piece.text);
        logprobs.extend(piece.logprobs);
    }
    let reason = generation.summary().stop_reason.clone().unwrap();
    (session.tokens()[prompt..].to_vec(), text, logprobs, reason)
}

#[test]
fn logprobs_are_those_of_the_model_whatever_the_stages_do() {
    let model = model();
    for sampling in [
        Sampling::greedy(),
        Sampling::default().repetition_penalty(1.4).temperature(1.3).seed(5),
        Sampling::default().mirostat(4.0, 0.1).seed(6),
    ] {
        let sampling = sampling.max_tokens(40);
        let plain = generate(&model, &sampling);
        assert!(plain.2.is_empty(), "not asked for");
        let (tokens, text, logprobs, _) = generate(&model, &sampling.clone().logprobs(3));
        assert_eq!((&tokens, &text), (&plain.0, &plain.1), "asking changes nothing");
        assert_eq!(logprobs.iter().map(|made| made.token).collect::<Vec<_>>(), tokens);

        let mut whole = model.tokenizer().unwrap().encode_prompt(PROMPT, Special::Parse).unwrap();
        let prompt = whole.len();
        whole.extend(&tokens);
        let expected = model.negative_log_likelihood(&whole).unwrap();
        for (made, nll) in logprobs.iter().zip(&expected[prompt - 1..]) {
            assert_eq!(made.logprob.to_bits(), (-nll).to_bits(), "as a perplexity has it");
            assert_eq!(made.best.len(), 3);
            assert!(made.best.is_sorted_by(|a, b| a.1 >= b.1) && made.best[0].1 >= made.logprob);
            assert!(made.best.iter().all(|(token, logprob)| *token != made.token || *logprob == made.logprob));
        }
    }
    let (tokens, _, logprobs, _) = generate(&model, &Sampling::greedy().max_tokens(10).logprobs(1));
    assert!(logprobs.iter().zip(tokens).all(|(made, token)| made.best == [(token, made.logprob)]));
    let (_, _, logprobs, _) = generate(&model, &Sampling::greedy().max_tokens(10).logprobs(0));
    assert!(logprobs.len() == 10 && logprobs.iter().all(|made| made.best.is_empty()));
}

/// The tokens that logprobs are given of make the text: none of a stop string, none of the end.
#[test]
fn logprobs_end_with_the_text() {
    let model = model();
    let sampling = Sampling::greedy().max_tokens(60);
    let (tokens, text, ..) = generate(&model, &sampling);
    let tokenizer = model.tokenizer().unwrap();
    // A stop string of several tokens, which begins within one.
    let at = text.char_indices().map(|(i, _)| i).nth(text.chars().count() / 2).unwrap();
    for len in [1, 3, 8, 15] {
        let stop: String = text[at..].chars().take(len).collect();
        let (kept, text, logprobs, reason) = generate(&model, &sampling.clone().stop(&stop).logprobs(0));
        assert_eq!(reason, StopReason::Stop(stop.clone()));
        let made: Vec<u32> = logprobs.iter().map(|made| made.token).collect();
        assert!(tokens.starts_with(&made), "{stop:?}");
        let bytes = tokenizer.decode(&made);
        assert!(bytes.starts_with(&text), "{bytes:?} spells {text:?}");
        let shorter = tokenizer.decode(&made[..made.len() - 1]);
        assert!(shorter.len() < text.len(), "{shorter:?} would do for {text:?}");
        assert_eq!(tokenizer.decode(&kept), text);
    }
    let (.., logprobs, reason) = generate(&model, &Sampling::greedy().logprobs(0).logit_bias(tokenizer.eog()[0], 1e9));
    assert_eq!((logprobs.len(), reason), (0, StopReason::End));
}

#[test]
fn banned_tokens_do_not_occur_and_biased_ones_do() {
    let model = model();
    let greedy = Sampling::greedy().max_tokens(30);
    let (tokens, ..) = generate(&model, &greedy);
    let (first, last) = (tokens[0], *tokens.last().unwrap());
    let (others, ..) = generate(&model, &greedy.clone().ban(first).ban(last));
    assert!(!others.contains(&first) && !others.contains(&last), "{others:?}");
    let (same, ..) = generate(&model, &Sampling::default().seed(9).max_tokens(5).logit_bias(last, 1000.0));
    assert_eq!(same, [last; 5]);
}

/// A bias makes one line recur: DRY breaks it, unless a breaker lets it.
#[test]
fn dry_ends_a_repetition_that_no_breaker_excuses() {
    let model = model();
    let ids = model.tokenizer().unwrap().encode(" tower", Special::Text).unwrap();
    let biased = ids.iter().fold(Sampling::greedy().max_tokens(30), |s, id| s.logit_bias(*id, 60.0));
    let count = |sampling: &Sampling| generate(&model, sampling).1.matches("tower").count();
    let all = count(&biased);
    assert!(all >= 10, "{all}");
    let dry = biased.dry(2.0, 2.0, 2);
    assert!(count(&dry) < all, "{} of {all}", count(&dry));
    assert_eq!(count(&dry.clone().dry_breakers(["tower"])), all);
    assert_eq!(count(&dry.clone().dry_window(0)), all);
    assert_eq!(count(&dry.dry_breakers(["w"])), all, "a part of a token breaks as well");
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is() {
    let model = model();
    let mut session = model.session();
    session.push(PROMPT).unwrap();
    let vocab = model.config().vocab as u32;
    for (sampling, part) in [
        (Sampling::default().ban(vocab), "outside the vocabulary"),
        (Sampling::default().logit_bias(vocab, 1.0), "outside the vocabulary"),
        (Sampling::default().logit_bias(1, f32::NAN), "logit bias"),
        (Sampling::default().order([Step::TopK, Step::TopK]), "top-k twice"),
        (Sampling::default().order([Step::Temperature, Step::TopK]), "top-p is not in the order"),
        (Sampling::default().mirostat(-1.0, 0.1), "tau"),
        (Sampling::default().dry(f32::INFINITY, 1.75, 2), "DRY multiplier"),
    ] {
        let error = session.generate(&sampling).expect_err("refused").to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// Each method sets what it says, and nothing else.
#[test]
fn the_methods_are_the_parameters() {
    let order = vec![Step::MinP, Step::Temperature];
    let built = Sampling::new(Params::neutral())
        .temperature(0.5)
        .dynamic_temperature(0.1, 2.0)
        .top_k(3)
        .top_p(0.9)
        .min_p(0.1)
        .typical_p(0.8)
        .top_n_sigma(1.5)
        .xtc(0.5, 0.2)
        .repetition_penalty(1.1)
        .frequency_penalty(0.2)
        .presence_penalty(0.3)
        .penalty_window(7)
        .dry(0.8, 1.5, 3)
        .dry_window(99)
        .mirostat(5.0, 0.2)
        .logit_bias(4, 1.0)
        .logit_bias(5, -1.0)
        .ban(6)
        .order(order.clone())
        .seed(8);
    let params = Params {
        temperature: 0.5,
        dynamic_temperature_range: 0.1,
        dynamic_temperature_exponent: 2.0,
        top_k: 3,
        top_p: 0.9,
        min_p: 0.1,
        typical_p: 0.8,
        top_n_sigma: 1.5,
        xtc_probability: 0.5,
        xtc_threshold: 0.2,
        repetition_penalty: 1.1,
        frequency_penalty: 0.2,
        presence_penalty: 0.3,
        penalty_window: 7,
        dry_multiplier: 0.8,
        dry_base: 1.5,
        dry_allowed_length: 3,
        dry_window: 99,
        dry_breakers: vec![],
        mirostat_tau: 5.0,
        mirostat_eta: 0.2,
        logit_bias: vec![(4, 1.0), (5, -1.0)],
        banned: vec![6],
        order,
        seed: 8,
    };
    assert_eq!(built, Sampling::new(params));
}
