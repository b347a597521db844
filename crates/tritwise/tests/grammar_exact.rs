//! Text that follows a grammar is what masking whole rows of logits makes, token by token, however it is made.

mod support;

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};
use support::{bundled, open};
use tritwise::kernels::arch;
use tritwise::sampling_stages::logprob;
use tritwise::tokenizer::{Special, Tokenizer};
use tritwise::{
    Constraint, Draft, DraftModel, Error, Grammar, HeadMode, Model, Overflow, Params, PromptLookup, Sampling,
    StopReason, Summary,
};

const PROMPT: &str = "The king wrote the names of his children, and their ages, into a book: ";
const SEED: u64 = 4;
const MOST: usize = 40;

const SCHEMA: &str = r#"{"type": "array", "minItems": 2, "items": {"type": "object", "properties": {
    "first_name": {"type": "string", "maxLength": 12}, "age_in_years": {"type": "integer", "minimum": 3, "maximum": 99},
    "kind": {"enum": ["prince", "princess"]}}, "required": ["first_name", "age_in_years", "kind"], "additionalProperties": false}}"#;
const LARK: &str = "start: line+\nline: \"the \" (\"king\" | \"queen\" | /[a-z]{3,9}/) \" said: \" TEXT \".\\n\"\nTEXT: /[A-Z][a-z ]{1,30}/";
const REGEX: &str = "(the [a-z]+ and )+the end";

/// The grammars with the same for the reference.
fn grammars() -> Vec<(Grammar, TopLevelGrammar)> {
    // As Model::grammar has it.
    let mut schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    schema["x-guidance"] =
        serde_json::json!({"item_separator": ", ?", "key_separator": ": ?", "whitespace_flexible": false});
    vec![
        (Grammar::json_schema(SCHEMA), TopLevelGrammar::from_json_schema(schema)),
        (Grammar::regex(REGEX), TopLevelGrammar::from_regex(REGEX)),
        (Grammar::lark(LARK), TopLevelGrammar::from_lark(LARK.into())),
    ]
}

/// Greedy, some cuts, none, penalties, everything that remembers or asks for numbers.
fn params() -> Vec<Params> {
    let penalty = Params { repetition_penalty: 1.3, penalty_window: 20, ..Params::neutral() };
    let params = [
        Params::greedy(),
        Params { temperature: 0.0, ..penalty.clone() },
        Params::default(),
        Params::neutral(),
        Params { min_p: 0.05, ..Params::neutral() },
        Params { top_k: 5, logit_bias: vec![(300, 2.0), (301, -2.0)], ..penalty.clone() },
        Params { min_p: 0.02, top_k: 40, ..penalty.clone() },
        Params { xtc_probability: 0.5, xtc_threshold: 0.05, dry_multiplier: 0.8, typical_p: 0.95, ..Params::default() },
        Params { mirostat_tau: 4.0, ..penalty },
    ];
    params.map(|params| Params { seed: SEED, ..params }).into()
}

struct Tokens(TokTrie, Arc<Model>);

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let tokenizer: &Tokenizer = self.1.tokenizer().unwrap();
        self.0.tokenize_with_greedy_fallback(bytes, |text| tokenizer.encode(text, Special::Text).unwrap())
    }
}

fn parsers(model: &Model) -> ParserFactory {
    let tokenizer = model.tokenizer().unwrap();
    let size = u32::try_from(tokenizer.vocab_size()).unwrap();
    let word = |id| match tokenizer.is_special(id) {
        true => [b"\xff", tokenizer.token_text(id).unwrap().as_bytes()].concat(),
        false => tokenizer.token_bytes(id).to_vec(),
    };
    let words: Vec<Vec<u8>> = (0..size).map(word).collect();
    let trie = TokTrie::from(&TokRxInfo::new(size, tokenizer.eog()[0]), &words);
    let tokens: TokEnv = Arc::new(Tokens(trie, Arc::new(model.clone())));
    // Without the sets of tokens that Model::grammar computes beforehand.
    ParserFactory::new(&tokens, InferenceCapabilities::default(), &[]).unwrap()
}

/// What the definition makes: whole logits, a mask, the sampler; for each token one run of the model.
fn reference(model: &Model, parsers: &ParserFactory, grammar: &TopLevelGrammar, params: &Params) -> Vec<u32> {
    let mut session = model.session();
    session.push(PROMPT).unwrap();
    let mut matcher = Matcher::new(parsers.create_parser(grammar.clone()));
    let mut params = params.clone();
    if params.dry_multiplier > 0.0 {
        // The facade's own, by its own words: tokens that contain one, and those that spell one.
        let tokenizer = model.tokenizer().unwrap();
        for breaker in ["\n", ":", "\"", "*"] {
            let has = |id: &u32| tokenizer.token_bytes(*id).contains(&breaker.as_bytes()[0]);
            params.dry_breakers.extend((0..model.config().vocab as u32).filter(has).map(|id| vec![id]));
            params.dry_breakers.push(tokenizer.encode(breaker, Special::Text).unwrap());
        }
    }
    let mut sampler = params.sampler().unwrap();
    sampler.prompt(session.tokens());
    let prompt = session.tokens().len();
    for _ in 0..MOST {
        let mask = matcher.compute_mask_or_eos().unwrap();
        let mut logits = session.logits().unwrap().to_vec();
        (0..).zip(&mut logits).filter(|(id, _)| !mask.is_allowed(*id)).for_each(|(_, l)| *l = f32::NEG_INFINITY);
        let token = sampler.sample(&logits).unwrap();
        sampler.accept(token);
        session.push_tokens(&[token]).unwrap();
        if model.tokenizer().unwrap().is_eog(token) {
            break;
        }
        matcher.consume_token(token).unwrap();
    }
    session.tokens()[prompt..].to_vec()
}

fn sampling(params: &Params, constraint: &Constraint) -> Sampling {
    Sampling::new(params.clone()).max_tokens(MOST).grammar(constraint)
}

/// The tokens that are made, and how; with a draft, if there is one.
fn made(model: &Model, sampling: &Sampling, draft: Option<Box<dyn Draft>>) -> (Vec<u32>, Summary) {
    let mut session = model.session();
    session.push(PROMPT).unwrap();
    let prompt = session.tokens().len();
    let mut generation = session.generate(sampling).unwrap();
    if let Some(draft) = draft {
        generation = generation.drafting(Any(draft));
    }
    generation.by_ref().for_each(|piece| assert!(piece.is_ok(), "{piece:?}"));
    let summary = generation.summary().clone();
    (session.tokens()[prompt..].to_vec(), summary)
}

#[derive(Debug)]
struct Any(Box<dyn Draft>);

impl Draft for Any {
    fn draft(&mut self, text: &[u32], most: usize, guesses: &mut Vec<u32>) -> Result<(), Error> {
        self.0.draft(text, most, guesses)
    }
}

/// Guesses what was said when it was asked before, but for every seventh token.
#[derive(Debug)]
struct Hindsight(usize, Vec<u32>);

impl Draft for Hindsight {
    fn draft(&mut self, text: &[u32], most: usize, guesses: &mut Vec<u32>) -> Result<(), Error> {
        let next = self.1.iter().enumerate().skip(text.len() - self.0).take(most.min(6));
        guesses.extend(next.map(|(i, token)| if i % 7 == 6 { token ^ 1 } else { *token }));
        Ok(())
    }
}

#[test]
fn tokens_are_those_of_masked_rows_however_they_are_made() {
    let full = open(Model::builder().head(HeadMode::Full).context(256), &bundled());
    let parsers = parsers(&full);
    let models: Vec<Model> = arch::available()
        .iter()
        .flat_map(|isa| (1..=3).map(|threads| Model::builder().isa(isa.name()).threads(threads).context(256)))
        .chain([Model::builder().head(HeadMode::Full).context(256)])
        .map(|builder| open(builder, &bundled()))
        .collect();
    let mut session = full.session();
    session.push(PROMPT).unwrap();
    let prompt = session.tokens().len();
    let (mut forced, mut accepted, mut ended) = (0, 0, 0);
    for (grammar, definition) in grammars() {
        let constraints: Vec<Constraint> = models.iter().map(|model| model.grammar(&grammar).unwrap()).collect();
        for (i, params) in params().into_iter().enumerate() {
            let expected = reference(&full, &parsers, &definition, &params);
            // Each on the best instruction set, some on all.
            let count = if i % 3 == 2 { models.len() } else { 3 };
            for (model, constraint) in models.iter().zip(&constraints).take(count) {
                let (tokens, summary) = made(model, &sampling(&params, constraint), None);
                assert_eq!(tokens, expected, "{grammar:?} {params:?}, {} on {}", model.isa(), model.threads());
                assert_eq!(summary.steps + summary.forced, summary.tokens);
                forced += summary.forced;
                ended += usize::from(summary.stop_reason == Some(StopReason::End));
            }
            let (model, constraint) = (&models[0], &constraints[0]);
            let drafts: [Box<dyn Draft>; 3] = [
                Box::new(PromptLookup::new(1, 8)),
                Box::new(DraftModel::new(model, model, 5).unwrap()),
                Box::new(Hindsight(prompt, expected.clone())),
            ];
            for draft in drafts {
                let name = format!("{draft:.20?}");
                let (tokens, summary) = made(model, &sampling(&params, constraint), Some(draft));
                assert_eq!(tokens, expected, "{grammar:?} {params:?} {name}");
                accepted += summary.accepted;
            }
            let (tokens, summary) = made(model, &sampling(&params, constraint).logprobs(2), None);
            assert_eq!(tokens, expected, "with log-probabilities");
            assert!(summary.forced == 0 && summary.steps == summary.tokens);
            let (tokens, _) =
                made(model, &sampling(&params, constraint).logprobs(2), Some(Box::new(Hindsight(prompt, tokens))));
            assert_eq!(tokens, expected, "with log-probabilities and a draft");
        }
    }
    println!("{forced} forced, {accepted} accepted, {ended} ended");
    assert!(forced > 1000 && accepted > 500 && ended > 20);
}

#[test]
fn texts_in_a_batch_are_what_they_are_alone() {
    let model = open(Model::builder().context(256), &bundled());
    let prompts = ["The old king", PROMPT, "Once upon a time there were two children, ", "A", "The fisherman's wife"];
    for (grammar, _) in grammars() {
        let sampling = sampling(&Params::default(), &model.grammar(&grammar).unwrap());
        for in_flight in [1, 3] {
            for (index, completion) in model.complete(prompts, &sampling).in_flight(in_flight) {
                let mut session = model.session();
                session.push(prompts[index]).unwrap();
                let alone = sampling.clone().seed(index as u64);
                let mut generation = session.generate(&alone).unwrap();
                let text: String = generation.by_ref().map(|piece| piece.unwrap().text).collect();
                let completion = completion.unwrap();
                assert_eq!(completion.text, text);
                let (a, b) = (&completion.summary, generation.summary());
                assert_eq!((a.tokens, a.forced, &a.stop_reason), (b.tokens, b.forced, &b.stop_reason));
            }
        }
    }
}

#[test]
fn log_probabilities_are_the_models_own() {
    let model = open(Model::builder().context(256), &bundled());
    let constraint = model.grammar(&Grammar::json_schema(SCHEMA)).unwrap();
    let mut session = model.session();
    session.push(PROMPT).unwrap();
    let mut checked = session.fork();
    let sampling = sampling(&Params::default(), &constraint).logprobs(1);
    let pieces: Vec<_> = session.generate(&sampling).unwrap().map(Result::unwrap).collect();
    let mut best = 0;
    for token in pieces.iter().flat_map(|piece| &piece.logprobs) {
        assert_eq!(token.logprob, logprob(checked.logits().unwrap(), token.token).unwrap());
        best += usize::from(token.best[0].0 == token.token);
        checked.push_tokens(&[token.token]).unwrap();
    }
    // What the grammar wants is seldom what the model would say.
    assert!(checked.tokens().len() > 20 && best < MOST / 2, "{best}");
}

/// Forced tokens count, and end where any would.
#[test]
fn limits_hold_in_the_middle_of_forced_tokens() {
    let model = open(Model::builder().context(64), &bundled());
    let fixed = "the king and the queen lived in a golden castle ".repeat(6);
    let constraint = model.grammar(&Grammar::regex(&*fixed)).unwrap();
    let whole = model.tokenizer().unwrap().encode(&fixed, Special::Text).unwrap();
    let run = |sampling: &Sampling, overflow| {
        let mut session = model.session();
        session.on_overflow(overflow);
        session.push("Once upon a time").unwrap();
        let prompt = session.tokens().len();
        let mut generation = session.generate(&sampling.clone().grammar(&constraint)).unwrap();
        let text: String = generation.by_ref().map(|piece| piece.unwrap().text).collect();
        let summary = generation.summary().clone();
        (text, summary, session.tokens().len() - prompt)
    };
    for most in [0, 1, 7, 30] {
        let (text, summary, made) = run(&Sampling::greedy().max_tokens(most), Overflow::Stop);
        assert_eq!((summary.stop_reason, summary.tokens, made), (Some(StopReason::MaxTokens), most, most));
        assert_eq!(text, model.tokenizer().unwrap().decode(&whole[..most]));
    }
    let (text, summary, made) = run(&Sampling::greedy(), Overflow::Stop);
    assert!(fixed.starts_with(&text) && made == summary.tokens && summary.steps == 0, "{summary:?}");
    assert_eq!(summary.stop_reason, Some(StopReason::ContextFull));
    let (text, summary, _) = run(&Sampling::greedy(), Overflow::Shift { keep: 1 });
    assert_eq!((text, summary.stop_reason.clone()), (fixed.clone(), Some(StopReason::End)));
    assert!(summary.shifts > 0 && summary.steps == 0 && summary.tokens == whole.len() + 1, "{summary:?}");
    let (text, summary, _) = run(&Sampling::greedy().stop("golden"), Overflow::Stop);
    assert_eq!((text, summary.stop_reason), (fixed[..34].into(), Some(StopReason::Stop("golden".into()))));
}
