//! The bundled model: a trained one, on which the promises are checked as well.

use std::path::PathBuf;

use tritwise::kernels::arch;
use tritwise::sampling_stages::Random;
use tritwise::transformer::{HeadReads, Keep, Turn, Wanted};
use tritwise::{Error, HeadMode, Model, ModelBuilder, Params, Piece, Sampling};

/// WebAssembly has no threads.
const THREADS: usize = if cfg!(target_family = "wasm") { 1 } else { 2 };

fn open(isa: &str, threads: usize) -> Model {
    load(Model::builder().isa(isa).threads(threads))
}

fn load(builder: ModelBuilder) -> Model {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../assets/stories-8m.gguf"].iter().collect();
    builder.open(path).unwrap_or_else(|e| panic!("{e}"))
}

const PROMPT: &str = "The princess looked at the old woman, and the old woman looked at her. 'Whither are you going?' \
                      said she. 'Into the wide world,' said the princess, 'to seek my brothers.'";

/// Logits of every token, evaluated in calls of `cut` tokens.
fn logits(model: &Model, tokens: &[u32], cut: usize) -> Vec<u32> {
    let network = model.network();
    let (mut sequence, mut workspace) = (network.sequence(tokens.len()), network.workspace());
    let mut bits = Vec::new();
    for tokens in tokens.chunks(cut) {
        let turn = Turn { sequence: &mut sequence, tokens, wanted: Wanted::All };
        let logits = network.forward(&mut workspace, &mut [turn]).expect("tokens fit");
        bits.extend(logits.as_slice().iter().map(|x| x.to_bits()));
    }
    bits
}

#[test]
fn whole_logits_are_equal_however_they_are_computed() {
    let model = open("scalar", 1);
    let tokens = model.tokenizer().unwrap().encode_prompt(PROMPT, tritwise::tokenizer::Special::Text).unwrap();
    let expected = logits(&model, &tokens, tokens.len());
    for (isa, layout) in arch::available().iter().flat_map(|isa| isa.layouts().iter().map(move |l| (isa, l.name()))) {
        for threads in 1..=THREADS {
            let model = load(Model::builder().isa(isa.name()).layout(layout).threads(threads));
            for cut in [tokens.len(), 1, 7] {
                let found = logits(&model, &tokens, cut);
                assert!(found == expected, "{}, {layout}, {threads} threads, by {cut}", isa.name());
            }
        }
    }
}

#[test]
#[cfg_attr(not(target_family = "wasm"), ignore = "other platforms have threads")]
fn where_there_are_no_threads_one_is_the_default_and_two_are_refused() {
    assert_eq!(load(Model::builder()).threads(), 1);
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/stories-8m.gguf")).unwrap();
    let error = Model::builder().threads(2).open_bytes("stories", bytes).unwrap_err().to_string();
    assert!(error.contains("cannot start 2 threads"), "{error}");
}

/// A trained model knows what comes next: random weights would be at ln 4096 = 8.3.
#[test]
fn it_finds_a_fairy_tale_likely() {
    let model = open(arch::available()[0].name(), THREADS);
    let tokens = model.tokenizer().unwrap().encode(PROMPT, tritwise::tokenizer::Special::Text).unwrap();
    let nll = model.negative_log_likelihood(&tokens).unwrap();
    let mean = nll.iter().sum::<f64>() / nll.len() as f64;
    println!("{mean:.3} nats per token");
    assert!(mean < 3.5, "{mean}");
}

/// The same seed gives the same text on every machine, so the text can be written down here.
#[test]
fn a_seed_is_a_text() {
    let model = open(arch::available()[0].name(), THREADS);
    let mut session = model.session();
    session.push("The princess opened the door of the tower, and").unwrap();
    let sampling = Sampling::default().seed(3).max_tokens(24);
    let text: String = session.generate(&sampling).unwrap().map(|piece| piece.unwrap().text).collect();
    assert_eq!(
        text,
        ", however, she saw a little boy sitting in the palace, and a boy was standing by the bedside, and"
    );
}

/// Every way of sampling that lets the head leave rows out, two with everything on, and one that keeps all.
fn samplings() -> Vec<Sampling> {
    let plain = Params::neutral();
    let penalty = Params { repetition_penalty: 1.3, penalty_window: 20, ..plain.clone() };
    let repeats = Params { dry_multiplier: 0.8, dry_allowed_length: 1, ..plain.clone() };
    let all = Params {
        temperature: 0.9,
        dynamic_temperature_range: 0.4,
        typical_p: 0.95,
        top_n_sigma: 3.0,
        xtc_probability: 0.3,
        frequency_penalty: 0.1,
        presence_penalty: 0.1,
        repetition_penalty: 1.1,
        dry_multiplier: 0.8,
        logit_bias: vec![(300, 2.0), (301, -2.0)],
        banned: vec![14, 11],
        ..Params::default()
    };
    [
        Params::greedy(),
        Params { temperature: 0.0, ..penalty.clone() },
        Params { temperature: 0.0, banned: vec![14, 11], ..repeats.clone() },
        Params::default(),
        Params { top_k: 5, ..plain.clone() },
        Params { top_k: 40, min_p: 0.1, ..penalty.clone() },
        Params { min_p: 0.05, ..plain.clone() },
        Params { min_p: 0.02, repetition_penalty: 0.9, ..penalty },
        Params { min_p: 0.05, top_k: 20, typical_p: 0.9, dynamic_temperature_range: 0.5, ..repeats },
        Params { top_k: 40, top_p: 0.9, min_p: 0.05, temperature: 1.3, ..plain.clone() },
        Params { top_n_sigma: 0.0, ..all.clone() },
        Params { mirostat_tau: 4.0, ..all.clone() },
        all,
        plain,
    ]
    .map(|params| Sampling::new(params).seed(11).max_tokens(40))
    .into()
}

/// What each makes of the prompt, which is evaluated once.
fn texts(model: &Model, samplings: &[Sampling]) -> Vec<String> {
    let mut session = model.session();
    session.push(PROMPT).unwrap();
    let prompt = session.tokens().len();
    let mut text = |sampling: &Sampling| {
        session.truncate(prompt);
        // For an error, too, where a ban comes after the only token that was left.
        let piece = |piece: Result<Piece, Error>| piece.map_or_else(|error| error.to_string(), |piece| piece.text);
        session.generate(sampling).unwrap().map(piece).collect()
    };
    samplings.iter().map(&mut text).collect()
}

/// One seed, one text: with all logits or those that matter, on every instruction set, with every number of threads.
#[test]
fn a_screened_head_makes_the_text_of_the_full_one() {
    let samplings = samplings();
    let expected = texts(&load(Model::builder().head(HeadMode::Full)), &samplings);
    assert!(expected.iter().all(|text| text.split_whitespace().count() > 10), "{expected:?}");
    for isa in arch::available() {
        for threads in [1, THREADS, 2 * THREADS - 1] {
            let found = texts(&open(isa.name(), threads), &samplings);
            assert_eq!(found, expected, "{}, {threads} threads", isa.name());
        }
    }
}

/// Parameters at random, each neutral half of the time, in any order.
fn any_params(random: &mut Random) -> Params {
    let plain = Params::neutral();
    let mut or = |neutral: f32, low: f32, high: f32| {
        let (used, value) = (random.unit() < 0.5, random.unit() as f32);
        if used { low + (high - low) * value } else { neutral }
    };
    let mut params = Params {
        temperature: or(1.0, 0.0, 1.5),
        dynamic_temperature_range: or(0.0, 0.0, 0.5),
        top_k: or(0.0, 1.0, 60.0) as usize,
        top_p: or(1.0, 0.1, 1.0),
        min_p: or(0.0, 0.001, 0.5),
        typical_p: or(1.0, 0.1, 1.0),
        top_n_sigma: or(0.0, 0.1, 3.0),
        xtc_probability: or(0.0, 0.0, 1.0),
        repetition_penalty: or(1.0, 0.8, 1.5),
        frequency_penalty: or(0.0, -0.2, 1.0),
        presence_penalty: or(0.0, -0.2, 1.0),
        penalty_window: or(64.0, 0.0, 40.0) as usize,
        dry_multiplier: or(0.0, 0.0, 2.0),
        dry_allowed_length: or(2.0, 0.0, 4.0) as usize,
        dry_breakers: vec![vec![14]],
        logit_bias: vec![(or(20.0, 0.0, 4095.0) as u32, or(0.0, -9.0, 9.0))],
        banned: vec![or(14.0, 0.0, 4095.0) as u32],
        ..plain
    };
    if or(0.0, 0.0, 1.0) > 0.7 {
        params.temperature = 0.0;
    }
    if or(0.0, 0.0, 1.0) > 0.7 {
        params.mirostat_tau = or(3.0, 1.0, 6.0);
    }
    if or(0.0, 1.0, 1.0) > 0.0 {
        (1..params.order.len()).rev().for_each(|i| params.order.swap(i, or(0.0, 0.0, i as f32) as usize));
    }
    params
}

#[test]
fn a_screened_head_makes_the_text_of_the_full_one_whatever_the_parameters() {
    let mut random = Random::new(1);
    let samplings: Vec<Sampling> =
        (0..150).map(|seed| Sampling::new(any_params(&mut random)).seed(seed).max_tokens(12)).collect();
    let expected = texts(&load(Model::builder().head(HeadMode::Full)), &samplings);
    let found = texts(&open(arch::available()[0].name(), THREADS), &samplings);
    for ((found, expected), sampling) in found.iter().zip(&expected).zip(&samplings) {
        assert_eq!(found, expected, "{sampling:?}");
    }
}

/// A trained model's likeliest token stands out, so that little of the head is read.
#[test]
fn a_screened_head_reads_little() {
    let model = open(arch::available()[0].name(), THREADS);
    let tokens = model.tokenizer().unwrap().encode_prompt(PROMPT, tritwise::tokenizer::Special::Text).unwrap();
    let network = model.network();
    let (mut sequence, mut workspace) = (network.sequence(tokens.len()), network.workspace());
    let mut reads = HeadReads::default();
    for token in &tokens {
        let wanted = Wanted::Best(Keep::best(1));
        let turn = Turn { sequence: &mut sequence, tokens: std::slice::from_ref(token), wanted };
        reads += network.forward(&mut workspace, &mut [turn]).unwrap().reads();
    }
    assert_eq!(reads.screened, tokens.len() * model.config().vocab);
    assert!(reads.refined < reads.screened / 10, "{reads:?}");
    assert!(reads.exact < reads.screened / 100, "{reads:?}");
    assert!(reads.bytes < tokens.len() * network.head_bytes() * 2 / 5, "{reads:?}");
}
