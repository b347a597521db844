//! Text in, text out: what a program that embeds the library relies on.

use std::path::Path;

use tritwise::kernels::arch;
use tritwise::{Cancel, Error, Model, Sampling, StopReason};

fn model() -> Model {
    Model::builder().threads(1).context(96).open(fixture()).unwrap_or_else(|e| panic!("{e}"))
}

fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama-bitlinear-divide")
}

/// The whole text of one generation and why it ended.
fn generate(model: &Model, prompt: &str, sampling: &Sampling) -> (String, StopReason) {
    let mut session = model.session();
    session.push(prompt).expect("the prompt fits");
    let mut generation = session.generate(sampling).expect("there is a prompt");
    let mut text = String::new();
    for piece in &mut generation {
        let piece = piece.expect("logits are finite");
        assert!(!piece.text.is_empty());
        text.push_str(&piece.text);
    }
    (text, generation.summary().stop_reason.clone().expect("it ended"))
}

#[test]
fn the_same_seed_gives_the_same_text_on_everything() {
    let sampling = Sampling::default().seed(3).max_tokens(40);
    let expected = generate(&model(), "Hello", &sampling);
    assert!(!expected.0.is_empty());
    for isa in arch::available() {
        for threads in [1, 2, 4] {
            let builder = Model::builder().isa(isa.name()).threads(threads).context(96);
            let model = builder.open(fixture()).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(generate(&model, "Hello", &sampling), expected, "{} with {threads} threads", isa.name());
        }
    }
    assert_ne!(generate(&model(), "Hello", &sampling.seed(4)), expected, "another seed tells something else");
}

#[test]
fn a_prompt_in_pieces_is_the_same_prompt() {
    let model = model();
    let sampling = Sampling::greedy().max_tokens(20);
    let (whole, _) = generate(&model, "abc def", &sampling);
    let mut session = model.session();
    for token in model.tokenizer().unwrap().encode_prompt("abc def", tritwise::tokenizer::Special::Parse).unwrap() {
        session.push_tokens(&[token]).unwrap();
    }
    let pieces: String = session.generate(&sampling).unwrap().map(|piece| piece.unwrap().text).collect();
    assert_eq!(pieces, whole);
}

#[test]
fn generation_ends_where_it_is_told_to() {
    let model = model();
    let (text, reason) = generate(&model, "Hello", &Sampling::default().max_tokens(5));
    assert_eq!(reason, StopReason::MaxTokens);

    // Stop at something that the text is known to contain.
    let (long, _) = generate(&model, "Hello", &Sampling::default().max_tokens(30));
    assert!(long.starts_with(text.trim_end_matches('\u{fffd}')), "{long:?} goes on where {text:?} ended");
    let middle: String = long.chars().skip(3).take(2).collect();
    let (stopped, reason) = generate(&model, "Hello", &Sampling::default().max_tokens(30).stop(&middle));
    assert_eq!(reason, StopReason::Stop(middle.clone()));
    assert_eq!(stopped, long[..long.find(&middle).unwrap()]);

    let (_, reason) = generate(&model, "Hello", &Sampling::default());
    assert!(matches!(reason, StopReason::ContextFull | StopReason::End), "{reason:?}");
}

#[test]
fn after_a_stop_string_the_session_holds_what_was_released() {
    let model = model();
    let (long, _) = generate(&model, "Hello", &Sampling::default().max_tokens(30));
    let middle: String = long.chars().skip(3).take(2).collect();
    let mut session = model.session();
    session.push("Hello").unwrap();
    let prompt = session.tokens().len();
    let sampling = Sampling::default().max_tokens(30).stop(&middle);
    let released: String = session.generate(&sampling).unwrap().map(|piece| piece.unwrap().text).collect();
    assert_eq!(model.tokenizer().unwrap().decode(&session.tokens()[prompt..]), released);
}

#[test]
fn a_dropped_generation_can_be_continued() {
    let model = model();
    let sampling = Sampling::greedy().max_tokens(20);
    let (whole, _) = generate(&model, "Hello", &sampling);
    let mut session = model.session();
    session.push("Hello").unwrap();
    let mut text: String = session.generate(&sampling).unwrap().take(5).map(|piece| piece.unwrap().text).collect();
    while text.len() < whole.len() {
        let mut generation = session.generate(&sampling).unwrap();
        text.push_str(&generation.next().expect("there is more").unwrap().text);
    }
    assert_eq!(text, whole);
}

#[test]
fn a_cancelled_generation_says_so_and_the_session_goes_on() {
    let model = model();
    let mut session = model.session();
    session.push("Hello").unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let mut generation = session.generate_until(&Sampling::greedy(), &cancel).unwrap();
    assert!(generation.next().is_none());
    assert_eq!(generation.summary().stop_reason, Some(StopReason::Cancelled));

    let cancel = Cancel::new();
    let mut generation = session.generate_until(&Sampling::greedy(), &cancel).unwrap();
    generation.next().expect("it has begun").unwrap();
    let made = generation.summary().tokens;
    std::thread::scope(|scope| {
        scope.spawn(|| cancel.cancel());
    });
    let rest: Vec<_> = generation.by_ref().collect();
    assert!(rest.len() <= 1 && generation.summary().tokens == made, "at most the text that was held back");

    let (expected, _) = generate(&model, "Hello", &Sampling::greedy().max_tokens(10));
    session.truncate(0);
    session.push("Hello").unwrap();
    let again = session.generate(&Sampling::greedy().max_tokens(10)).unwrap();
    assert_eq!(again.map(|piece| piece.unwrap().text).collect::<String>(), expected);
}

#[test]
fn two_threads_with_a_session_each_get_what_they_would_get_alone() {
    let model = Model::builder().threads(2).context(96).open(fixture()).unwrap_or_else(|e| panic!("{e}"));
    let run = |seed| generate(&model, "Hello", &Sampling::default().seed(seed).max_tokens(30));
    let alone = [run(1), run(2)];
    let together =
        std::thread::scope(|scope| [1, 2].map(|seed| scope.spawn(move || run(seed))).map(|t| t.join().unwrap()));
    assert_eq!(together, alone);
}

#[test]
fn a_fork_goes_its_own_way() {
    let model = model();
    let mut session = model.session();
    session.push("Hello").unwrap();
    let first: String = session.generate(&Sampling::greedy().max_tokens(5)).unwrap().map(|p| p.unwrap().text).collect();
    let mut fork = session.fork();
    fork.push("xyz").unwrap();
    fork.generate(&Sampling::greedy().max_tokens(5)).unwrap().for_each(|piece| drop(piece.unwrap()));
    let rest: String = session.generate(&Sampling::greedy().max_tokens(5)).unwrap().map(|p| p.unwrap().text).collect();
    assert_eq!(first + &rest, generate(&model, "Hello", &Sampling::greedy().max_tokens(10)).0);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let model = model();
    let mut session = model.session();
    let error = session.push_tokens(&[1; 97]).expect_err("one too many");
    assert!(matches!(error, Error::ContextFull { len: 0, adding: 97, capacity: 96 }), "{error}");
    let outside = model.config().vocab as u32;
    assert!(session.push_tokens(&[1, outside]).unwrap_err().to_string().contains(&outside.to_string()));
    assert!(session.tokens().is_empty());
    assert!(session.generate(&Sampling::default().temperature(f32::NAN)).is_err());
}

#[test]
fn an_absurd_context_is_refused() {
    for context in [0, usize::MAX] {
        let error = Model::builder().context(context).open(fixture()).expect_err("no such memory").to_string();
        assert!(error.contains("context"), "{error}");
    }
}

#[test]
fn an_unknown_instruction_set_is_refused_with_those_there_are() {
    let error = Model::builder().isa("z80").open(fixture()).expect_err("no such CPU").to_string();
    assert!(error.contains("z80") && error.contains("scalar"), "{error}");
}

#[test]
fn a_model_can_be_opened_from_memory() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/llama-bitlinear-divide.i2_s.gguf");
    let bytes = std::fs::read(&path).expect("the fixture is there");
    let sampling = Sampling::greedy().max_tokens(10);
    let from_memory = Model::builder().open_bytes("memory", bytes).unwrap_or_else(|e| panic!("{e}"));
    let from_file = Model::open(&path).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(generate(&from_memory, "Hello", &sampling), generate(&from_file, "Hello", &sampling));
}
