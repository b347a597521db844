//! The bundled model: a trained one, on which the promises are checked as well.

use std::path::PathBuf;

use tritwise::kernels::arch;
use tritwise::transformer::{Turn, Wanted};
use tritwise::{Model, ModelBuilder, Sampling};

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
