//! Text that follows a grammar: is it what the grammar says, and are grammars that cannot be followed refused?

#[path = "support/schema.rs"]
mod schema;
mod support;

use std::time::Instant;

use schema::{is_valid, random_schema};
use serde_json::Value;
use support::{bundled, open};
use tritwise::sampling_stages::Random;
use tritwise::tokenizer::chat::Origin;
use tritwise::{
    ChatTemplate, Constraint, Error, Generation, Grammar, GrammarError, Model, PromptLookup, Sampling, Session,
    StopReason,
};

const PROMPT: &str = "The old king had a daughter, and he said: ";

fn model() -> Model {
    open(Model::builder().threads(2).context(1024), &bundled())
}

/// A session that has read the prompt, and how many tokens that are.
fn read(model: &Model) -> (Session, usize) {
    let mut session = model.session();
    session.push(PROMPT).unwrap();
    session.logits().unwrap();
    let prompt = session.tokens().len();
    (session, prompt)
}

fn text(generation: &mut Generation<'_>) -> String {
    generation.map(|piece| piece.unwrap_or_else(|e| panic!("{e}")).text).collect()
}

fn constraint(model: &Model, grammar: &Grammar) -> Constraint {
    model.grammar(grammar).unwrap_or_else(|e| panic!("{grammar:?}: {e}"))
}

/// 500 random schemas, three texts each, one of which is cut short.
#[test]
fn json_is_valid_by_its_schema() {
    let model = model();
    let tokenizer = model.tokenizer().unwrap();
    let (mut session, prompt) = read(&model);
    let mut random = Random::new(2);
    let (mut valid, mut unfinished, mut long, mut nested, mut forced, mut tokens) = (0, 0, 0, 0, 0, 0);
    for _ in 0..500 {
        let schema = random_schema(&mut random, 3);
        let constraint = constraint(&model, &Grammar::json_schema(schema.to_string()));
        for seed in 0..3 {
            session.truncate(prompt);
            let most = if seed == 2 { 12 } else { 300 };
            let sampling = Sampling::default().temperature(1.0).seed(seed).max_tokens(most).grammar(&constraint);
            let mut generation = session.generate(&sampling).unwrap();
            let text = text(&mut generation);
            let summary = generation.summary().clone();
            let made = &session.tokens()[prompt..];
            assert!(made.len() == summary.tokens && summary.forced + summary.steps == summary.tokens, "{summary:?}");
            let (last, before) = made.split_last().unwrap();
            assert!(!before.iter().any(|&id| tokenizer.is_special(id) || tokenizer.is_eog(id)), "{text}");
            (forced, tokens) = (forced + summary.forced, tokens + summary.tokens);
            match summary.stop_reason.unwrap() {
                StopReason::End => {
                    assert!(tokenizer.is_eog(*last));
                    let value: Value =
                        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text} of {schema}"));
                    assert!(is_valid(&schema, &value), "{text} is not valid by {schema}");
                    valid += 1;
                    nested += usize::from(value.is_object() || value.is_array());
                }
                StopReason::MaxTokens => {
                    // The beginning of some JSON, or all of it but for the end-of-text token.
                    match serde_json::from_str::<Value>(&text) {
                        Err(error) => assert!(error.is_eof(), "{error}: {text}"),
                        Ok(Value::Number(_)) => {}
                        Ok(value) => assert!(is_valid(&schema, &value), "{text} is not valid by {schema}"),
                    }
                    unfinished += 1;
                    long += usize::from(most == 300);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    println!("{valid} valid ({nested} nested), {unfinished} unfinished; {forced} of {tokens} tokens forced");
    assert!(valid >= 1000 && unfinished >= 100 && valid + unfinished == 1500, "each was checked one way or the other");
    assert!(long <= 10, "{long} did not end by themselves");
    assert!(nested > 250 && forced > 5000);
}

/// The checker is no rubber stamp.
#[test]
fn what_is_not_valid_is_seen() {
    let schema: Value = serde_json::from_str(
        r#"{"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 5},
        "minItems": 1, "maxItems": 2}, "b": {"anyOf": [{"type": "null"}, {"type": "string", "minLength": 2, "maxLength": 3},
        {"type": "string", "pattern": "^[a-z]{2,5}$"}]}}, "required": ["a"], "additionalProperties": false}"#,
    )
    .unwrap();
    let valid = |json: &str| is_valid(&schema, &serde_json::from_str(json).unwrap());
    for json in
        [r#"{"a": [1]}"#, r#"{"a": [5, 1], "b": null}"#, r#"{"a": [2], "b": "é-"}"#, r#"{"a": [2], "b": "abcde"}"#]
    {
        assert!(valid(json), "{json}");
    }
    for json in ["[]", "{}", r#"{"a": []}"#, r#"{"a": [0]}"#, r#"{"a": [1, 1, 1]}"#, r#"{"a": [1], "c": 1}"#] {
        assert!(!valid(json), "{json}");
    }
    for b in [r#""a""#, r#""abcdef""#, r#""ABCD""#, "true", "1", "{}"] {
        assert!(!valid(&format!(r#"{{"a": [1], "b": {b}}}"#)), "{b}");
    }
}

#[test]
fn text_matches_its_regex() {
    let model = model();
    let (mut session, prompt) = read(&model);
    let mut made = |regex: &str, seed| {
        session.truncate(prompt);
        let sampling = Sampling::default().temperature(1.5).top_k(0).top_p(1.0).min_p(0.0).seed(seed);
        let sampling = sampling.max_tokens(200).grammar(&constraint(&model, &Grammar::regex(regex)));
        let mut generation = session.generate(&sampling).unwrap();
        let text = text(&mut generation);
        assert_eq!(generation.summary().stop_reason, Some(StopReason::End), "{text}");
        text
    };
    for seed in 0..20 {
        assert!(["yes", "no"].contains(&&*made("(yes|no)", seed)));
        let date = made("(1[0-9]|20)[0-9]{2}-[01][0-9]", seed);
        assert!(
            date.len() == 7
                && date.bytes().enumerate().all(|(i, b)| if i == 4 { b == b'-' } else { b.is_ascii_digit() })
        );
        // What no tokenizer has a token for is made of bytes.
        let greek = made("[α-ω]{3} 🏰(\n|/\"\\\\)", seed);
        let tail = greek.chars().skip(3).collect::<String>();
        assert!(
            greek.chars().take(3).all(|c| ('α'..='ω').contains(&c)) && [" 🏰\n", " 🏰/\"\\"].contains(&&*tail),
            "{greek}"
        );
    }
    assert_eq!(made("", 0), "");
    assert_eq!(made("a fixed text", 0), "a fixed text");
}

#[test]
fn text_follows_its_grammar() {
    let model = model();
    let (mut session, prompt) = read(&model);
    let grammar = r#"
        start: sum
        sum: product ("+" product)*
        product: value ("*" value)*
        value: NUMBER | "(" sum ")"
        NUMBER: /[1-9][0-9]?/
    "#;
    let constraint = constraint(&model, &Grammar::lark(grammar));
    let open = model.tokenizer().unwrap().id_of("(").unwrap();
    let mut deepest = 0;
    for seed in 0..50 {
        session.truncate(prompt);
        let sampling = Sampling::default().temperature(1.5).top_k(0).top_p(1.0).min_p(0.0).seed(seed);
        let sampling = sampling.logit_bias(open, 4.0).max_tokens(100).grammar(&constraint);
        let mut generation = session.generate(&sampling).unwrap();
        let text = text(&mut generation);
        let ended = generation.summary().stop_reason == Some(StopReason::End);
        let rest = sum(&text, &mut 0, &mut deepest);
        assert!(rest == Some("") || !ended, "{text}: {rest:?}");
    }
    assert!(deepest > 2, "{deepest}");
}

/// Reads a sum by hand; what is left of the text.
fn sum<'a>(text: &'a str, depth: &mut usize, deepest: &mut usize) -> Option<&'a str> {
    let mut rest = text;
    loop {
        rest = match rest.strip_prefix('(') {
            Some(inner) => {
                *depth += 1;
                *deepest = (*deepest).max(*depth);
                let inner = sum(inner, depth, deepest)?;
                *depth -= 1;
                inner.strip_prefix(')')?
            }
            None => {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                if !(1..=2).contains(&digits) || rest.starts_with('0') {
                    return None;
                }
                &rest[digits..]
            }
        };
        match rest.strip_prefix(['+', '*']) {
            Some(next) => rest = next,
            None => return Some(rest),
        }
    }
}

/// A control token comes where a grammar names it, and nowhere else.
#[test]
fn a_named_control_token_is_allowed_in_its_place() {
    let model = model();
    let (mut session, prompt) = read(&model);
    let named = constraint(&model, &Grammar::lark("start: \"the end\" <|story|> \"Once\""));
    let mut generation = session.generate(&Sampling::greedy().grammar(&named)).unwrap();
    assert_eq!(text(&mut generation), "the endOnce");
    let story = model.tokenizer().unwrap().id_of("<|story|>").unwrap();
    assert_eq!(session.tokens()[prompt..].iter().filter(|&&id| id == story).count(), 1);
    session.truncate(prompt);
    // Its name is text like any other.
    let spelled = constraint(&model, &Grammar::regex("<\\|story\\|>"));
    assert_eq!(text(&mut session.generate(&Sampling::greedy().grammar(&spelled)).unwrap()), "<|story|>");
    assert!(!session.tokens()[prompt..].contains(&story));
}

/// Each answer follows it from the beginning, guesses or not.
#[test]
fn answers_of_a_conversation_follow_a_grammar() {
    const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ";
    let model = model();
    let template = ChatTemplate::new(Origin::Given("test".into()), TEMPLATE).unwrap();
    let colour = constraint(&model, &Grammar::regex("(red|green|blue), (red|green|blue)\\."));
    let mut answers = Vec::new();
    for drafting in [false, true] {
        let sampling = Sampling::default().seed(3).grammar(&colour);
        let mut chat = model.chat_with(template.clone()).unwrap().sampling(sampling);
        for question in ["What colours do you like?", "And your brother?"] {
            let mut reply = chat.say(question).unwrap();
            if drafting {
                reply = reply.drafting(PromptLookup::new(1, 5));
            }
            let answer: String = reply.by_ref().map(|piece| piece.unwrap().text).collect();
            assert_eq!(reply.summary().stop_reason, Some(StopReason::End));
            let colours: Vec<&str> = answer.strip_suffix('.').unwrap().split(", ").collect();
            assert!(colours.len() == 2 && colours.iter().all(|c| ["red", "green", "blue"].contains(c)), "{answer}");
            answers.push(answer);
        }
        assert_eq!(chat.messages().len(), 4);
    }
    assert_eq!(answers[..2], answers[2..], "guesses changed an answer");
}

#[test]
fn a_wrong_grammar_is_refused_with_its_place() {
    let model = model();
    let mut random =
        String::from(r#"{"properties": {"a/b": {"items": {"anyOf": [{"type": "null"}, {"type": "strin"}]}}}}"#);
    for (grammar, says) in [
        (
            Grammar::json_schema("{\"type\": }"),
            "JSON schema was refused: it is no JSON: expected value at line 1 column 10",
        ),
        (Grammar::json_schema(random.clone()), "Invalid type: strin (at /properties/a~1b/items/anyOf/1)"),
        (Grammar::json_schema(r#"{"items": {"not": {}}}"#), "[\"not\"] (at /items)"),
        (Grammar::json_schema(r#"{"items": {"$ref": "other.json"}}"#), "other.json"),
        (
            Grammar::json_schema(r#"{"type": "integer", "minimum": 5, "maximum": 3}"#),
            "minimum (5) is greater than maximum (3)",
        ),
        (Grammar::json_schema("false"), "Unsatisfiable"),
        (Grammar::regex("(a"), "unclosed group"),
        (Grammar::regex("(?=a)b"), "look-around"),
        (Grammar::lark("start: a\na: b"), "at 2(4): unknown name: \"b\""),
        (Grammar::lark("start: \"a"), "1(10)"),
        (Grammar::lark("start: <|nobody|>"), "<|nobody|>"),
    ] {
        let error = model.grammar(&grammar).expect_err("it is wrong");
        assert!(matches!(error, Error::Grammar(GrammarError::Refused { .. })), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
    // The part that is wrong is found in a large schema, too, or not at all.
    let many: String = (0..5000).map(|i| format!("\"p{i}\": {{}}, ")).collect();
    random.insert_str(random.len() - 1, &format!(", \"$defs\": {{{many}\"last\": {{}}}}"));
    assert!(model.grammar(&Grammar::json_schema(random)).is_err());
    assert!(model.grammar(&Grammar::json_schema("true")).is_ok());
}

#[test]
fn a_constraint_is_of_one_model() {
    let yes = constraint(&model(), &Grammar::regex("yes"));
    let mut session = model().session();
    let error = session.generate(&Sampling::default().grammar(&yes)).expect_err("another model's");
    assert!(matches!(error, Error::Grammar(GrammarError::OtherModel)), "{error}");
}

/// Grammars that would take time, memory or stack without end: refused, followed, or ended with an error.
#[test]
fn hostile_grammars_are_limited() {
    let model = model();
    let chain = |name: &str, tail: &str, n: usize| {
        let rules: String = (0..n).map(|i| format!("{name}{i}: {name}{}{tail}\n", i + 1)).collect();
        Grammar::lark(format!("{rules}{name}{n}: \"b\"\nstart: {name}0\n"))
    };
    // Each part names the next one, inside of `open` and `close`.
    let references = |n: usize, open: &str, close: &str| {
        let defs: String = (0..n).map(|i| format!(r##""{i}":{open}{{"$ref":"#/$defs/{}"}}{close},"##, i + 1)).collect();
        Grammar::json_schema(format!(r##"{{"$ref":"#/$defs/0","$defs":{{{defs}"{n}":{{}}}}}}"##))
    };
    let brackets = |n: usize| Grammar::regex(format!("{}a{}", "(".repeat(n), ")".repeat(n)));
    for (name, grammar) in [
        ("a long repetition", Grammar::regex("a{1000000}")),
        ("repetitions of repetitions", Grammar::regex("((a{1000}){1000}){1000}")),
        ("a repetition of what may be empty", Grammar::regex("((a?){300}a{300}){300}")),
        ("states without end", Grammar::regex("(a|b)*a(a|b){3000}")),
        ("many alternatives", Grammar::regex((0..9000).map(|i| format!("{:x}|", i * 7919)).collect::<String>())),
        ("operators", Grammar::regex(format!("a{}", "?".repeat(60_000)))),
        ("a long text", Grammar::regex("ab".repeat(30_000))),
        ("deep brackets", brackets(30_000)),
        ("brackets", brackets(99)),
        ("too long", Grammar::lark(" ".repeat(100_000))),
        ("a long array", Grammar::json_schema(r#"{"minItems": 1000000000, "type": "array"}"#)),
        ("a long string", Grammar::json_schema(r#"{"minLength": 1000000000, "type": "string"}"#)),
        ("a deep schema", Grammar::json_schema(format!("{}{{}}{}", "{\"items\":".repeat(20_000), "}".repeat(20_000)))),
        ("a schema of itself", Grammar::json_schema(r##"{"$ref": "#"}"##)),
        // The last three are about as long as a schema may be.
        ("a chain of references", references(10_000, "{\"items\":", "}")),
        ("references in any type", references(24_800, "{\"items\":", "}")),
        ("references in arrays", references(17_900, "{\"type\":\"array\",\"items\":", "}")),
        ("references alone", references(32_300, "", "")),
        ("a rule of itself", Grammar::lark("start: start")),
        ("a rule that begins with itself", Grammar::lark("start: start start | \"a\" | start start start")),
        ("a chain of rules", chain("r", "", 900)),
        ("a chain of words", chain("R", "", 900)),
        ("words in words", chain("R", " \"a\"?", 900)),
        ("many rules", chain("r", "", 2000)),
        ("alternatives", Grammar::lark(format!("start: \"a\" {}", "| \"b\" ".repeat(10_000)))),
    ] {
        let start = Instant::now();
        let refused = match model.grammar(&grammar) {
            Err(error) => Some(error),
            Ok(constraint) => {
                let mut session = model.session();
                session.push(PROMPT).unwrap();
                let sampling = Sampling::default().temperature(1.0).max_tokens(50).grammar(&constraint);
                session.generate(&sampling).unwrap().find_map(|piece| piece.err())
            }
        };
        // For whoever runs this with --nocapture; no test of time.
        println!("{name}: {:?}, {refused:.200?}", start.elapsed());
        assert!(refused.is_none_or(|error| matches!(error, Error::Grammar(_))), "{name}");
    }
}
