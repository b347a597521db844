//! The bundled model: a trained one, on which the promises are checked as well.

use std::path::PathBuf;

use tritwise::kernels::arch;
use tritwise::transformer::{HeadReads, Keep, Turn, Wanted};
use tritwise::{HeadMode, Model, ModelBuilder, Params, Sampling};

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
        for threads in [1, 2] {
            let model = load(Model::builder().isa(isa.name()).layout(layout).threads(threads));
            for cut in [tokens.len(), 1, 7] {
                let found = logits(&model, &tokens, cut);
                assert!(found == expected, "{}, {layout}, {threads} threads, by {cut}", isa.name());
            }
        }
    }
}

/// A trained model knows what comes next: random weights would be at ln 4096 = 8.3.
#[test]
fn it_finds_a_fairy_tale_likely() {
    let model = open(arch::available()[0].name(), 2);
    let tokens = model.tokenizer().unwrap().encode(PROMPT, tritwise::tokenizer::Special::Text).unwrap();
    let nll = model.negative_log_likelihood(&tokens).unwrap();
    let mean = nll.iter().sum::<f64>() / nll.len() as f64;
    println!("{mean:.3} nats per token");
    assert!(mean < 3.5, "{mean}");
}

/// The same seed gives the same text on every machine, so the text can be written down here.
#[test]
fn a_seed_is_a_text() {
    let model = open(arch::available()[0].name(), 2);
    let mut session = model.session();
    session.push("The princess opened the door of the tower, and").unwrap();
    let sampling = Sampling::default().seed(3).max_tokens(24);
    let text: String = session.generate(&sampling).unwrap().map(|piece| piece.unwrap().text).collect();
    assert_eq!(
        text,
        ", however, she saw a little boy sitting in the palace, and a boy was standing by the bedside, and"
    );
}

/// Every way of sampling that lets the head leave rows out, and one that does not.
fn samplings() -> Vec<Sampling> {
    let plain = Params { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Params::default() };
    let penalty = Params { repetition_penalty: 1.3, repetition_window: 20, ..plain.clone() };
    [
        Params::greedy(),
        Params { temperature: 0.0, ..penalty.clone() },
        Params::default(),
        Params { top_k: 5, ..plain.clone() },
        Params { top_k: 40, min_p: 0.1, ..penalty.clone() },
        Params { min_p: 0.05, ..plain.clone() },
        Params { min_p: 0.02, repetition_penalty: 0.9, ..penalty },
        Params { top_k: 40, top_p: 0.9, min_p: 0.05, temperature: 1.3, ..plain.clone() },
        plain,
    ]
    .map(|params| Sampling::new(params).seed(11).max_tokens(60))
    .into()
}

#[test]
fn a_screened_head_makes_the_text_of_the_full_one() {
    let texts = |model: &Model| -> Vec<String> {
        let text = |sampling: &Sampling| {
            let mut session = model.session();
            session.push(PROMPT).unwrap();
            session.generate(sampling).unwrap().map(|piece| piece.unwrap().text).collect()
        };
        samplings().iter().map(text).collect()
    };
    let expected = texts(&load(Model::builder().head(HeadMode::Full)));
    for isa in arch::available() {
        for threads in [1, 2, 3] {
            let found = texts(&open(isa.name(), threads));
            assert_eq!(found, expected, "{}, {threads} threads", isa.name());
        }
    }
}

/// A trained model's likeliest token stands out, so that little of the head is read.
#[test]
fn a_screened_head_reads_little() {
    let model = open(arch::available()[0].name(), 2);
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
