//! What a grammar costs: reading one, and each token, of a vocabulary of 128,256 tokens.
//!
//! `cargo bench --features grammar --bench grammar`. The model is a random one, so small that it takes next to no time; its vocabulary is
//! made up of words, digits and punctuation. What a grammar takes is the time of a token that follows it less that of one that follows none,
//! with all that belongs to it: the mask, the row without what it forbids, the parser's next state.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use support::dummy::Dummy;
use support::shapes::{Graph, SHAPES};
use tritwise::loader::{self, Conversion};
use tritwise::sampling_stages::Random;
use tritwise::tensor::{DenseEncoding, TernaryEncoding};
use tritwise::tokenizer::GgufVocab;
use tritwise::{Grammar, Model, Sampling};

/// That of Llama 3 and of BitNet b1.58 2B-4T.
const VOCAB: usize = 128_256;

/// A SentencePiece vocabulary: control tokens, all bytes, what JSON and code consist of, numbers, and made-up words, half of them behind a space.
fn vocabulary() -> GgufVocab {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
    let mut types = vec![2, 3, 3];
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    types.resize(tokens.len(), 6);
    let mut known: std::collections::HashSet<String> = tokens.iter().cloned().collect();
    let mut add = |token: String| {
        if known.insert(token.clone()) {
            tokens.push(token);
        }
        tokens.len()
    };
    (' '..='~').for_each(|c| _ = add(c.to_string().replace(' ', "▁")));
    for first in ["\"", "\":", "\",", "{\"", "[\"", "}", "},", "],", ":", ",", "(", ")", ";", "=", "--", "."] {
        for second in ["", "▁", "▁\"", "\"", "▁{", "▁[", "}", "]", ")", ");", "{", "▁▁", "▁▁▁▁", "▁="]
        {
            add(format!("{first}{second}"));
        }
    }
    (2..=32).for_each(|n| _ = add("▁".repeat(n)));
    (0..1000).for_each(|n| _ = add(n.to_string()));
    let mut random = Random::new(1);
    let mut pick = |from: &[&'static str]| from[(random.unit() * from.len() as f64) as usize];
    let (heads, vowels) = (
        ["b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "v", "w"],
        ["a", "e", "i", "o", "u", "ea", "ou", "é", "ü"],
    );
    loop {
        let syllables = pick(&["1", "2", "2", "3", "4"]).parse().unwrap_or(1);
        let word: String =
            (0..syllables).map(|_| [pick(&heads), pick(&vowels)].concat() + pick(&["", "n", "r"])).collect();
        if add(pick(&["", "▁"]).to_owned() + &word + pick(&["", "", "s", "ing"])) == VOCAB {
            break;
        }
    }
    types.resize(tokens.len(), 1);
    let scores = (0..tokens.len()).map(|i| -(i as f32)).collect();
    GgufVocab {
        model: "llama".into(),
        tokens,
        scores,
        token_types: types,
        eos: Some(2),
        bos: Some(1),
        ..Default::default()
    }
}

fn model(folder: &Path) -> Model {
    let mut config = SHAPES.iter().find(|shape| shape.name == "125m").expect("a shape").config(Some(Graph::Bitnet));
    (config.hidden, config.ffn, config.vocab, config.layers) = (64, 64, VOCAB, 1);
    (config.heads, config.kv_heads, config.head_dim) = (1, 1, 64);
    let dummy = Dummy { config, linear: TernaryEncoding::HfPacked, table: DenseEncoding::Bf16, seed: 1 };
    let mut conversion = Conversion::default();
    conversion.linear = dummy.linear;
    loader::write(&dummy, folder, &conversion, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    fs::write(folder.join("tokenizer.json"), vocabulary().to_json().expect("a vocabulary")).expect("a file");
    fs::write(folder.join("tokenizer_config.json"), r#"{"bos_token": "<s>", "eos_token": "</s>"}"#).expect("a file");
    Model::builder().threads(2).context(4096).open(folder).unwrap_or_else(|e| panic!("{e}"))
}

const SCHEMA: &str = r#"{"type": "object", "properties": {
    "title": {"type": "string"}, "tags": {"type": "array", "items": {"enum": ["king", "queen", "castle", "forest"]}},
    "pages": {"type": "array", "minItems": 20, "items": {"type": "object", "properties": {
        "number": {"type": "integer", "minimum": 1, "maximum": 999}, "text": {"type": "string", "maxLength": 60},
        "picture": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[a-z]+\\.png$"}]}},
        "required": ["number", "text", "picture"], "additionalProperties": false}}},
    "required": ["title", "tags", "pages"], "additionalProperties": false}"#;

const LARK: &str = r#"
start: statement+
statement: "let " NAME " = " sum ";\n" | "print(" sum ");\n"
sum: product (("+" | "-") product)*
product: value (("*" | "/") value)*
value: NAME | NUMBER | TEXT | "(" sum ")"
NAME: /[a-z][a-z_0-9]*/
NUMBER: /[0-9]+(\.[0-9]+)?/
TEXT: /"[^"\n]*"/
"#;

/// The time of each step of some texts of `tokens` tokens, and how many tokens they made.
fn steps(model: &Model, sampling: &Sampling, texts: u64) -> (Vec<Duration>, usize) {
    let (mut times, mut tokens) = (Vec::new(), 0);
    for seed in 0..texts {
        let mut session = model.session();
        let mut generation = session.generate(&sampling.clone().seed(seed)).unwrap();
        loop {
            let start = Instant::now();
            let Some(piece) = generation.next() else { break };
            piece.unwrap_or_else(|e| panic!("{e}"));
            times.push(start.elapsed());
        }
        tokens += generation.summary().tokens;
    }
    times.sort();
    (times, tokens)
}

fn grammar(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let model = model(folder.path());
    let start = Instant::now();
    model.grammar(&Grammar::regex("a")).expect("a grammar");
    println!("the trie of all tokens took {:?}", start.elapsed());
    let quick = std::env::args().any(|argument| argument == "--test");
    let (texts, most) = if quick { (1, 20) } else { (20, 300) };
    let sampling = Sampling::default().temperature(1.0).max_tokens(most);
    let (_, _) = steps(&model, &sampling, 1);
    let (free, tokens) = steps(&model, &sampling.clone().ban(2), texts);
    let each = |times: &[Duration], tokens: usize| times.iter().sum::<Duration>().as_secs_f64() * 1e6 / tokens as f64;
    let without = each(&free, tokens);
    println!("a token without a grammar: {without:.0} µs");
    for (name, grammar) in [
        ("schema", Grammar::json_schema(SCHEMA)),
        ("any JSON", Grammar::json_schema("{}")),
        ("regex", Grammar::regex("([A-Za-z]+ )*[a-z]{3,8}\\.")),
        ("Lark", Grammar::lark(LARK)),
    ] {
        c.bench_function(&format!("read/{name}"), |b| b.iter(|| model.grammar(&grammar).unwrap()));
        let sampling = sampling.clone().grammar(&model.grammar(&grammar).unwrap());
        let (times, tokens) = steps(&model, &sampling, texts);
        println!(
            "{name}: a grammar takes {:.0} µs of a token, {tokens} of them on average; the longest step took {:?} with all",
            each(&times, tokens) - without,
            times.last().copied().unwrap_or_default(),
        );
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(1));
    targets = grammar
}
criterion_main!(benches);
