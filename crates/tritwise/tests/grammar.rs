use std::path::PathBuf;
use std::time::Instant;
use tritwise::{Grammar, Model, Sampling};

fn model() -> Model {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../assets/stories-8m.gguf"].iter().collect();
    Model::open(path).unwrap()
}

#[test]
fn probe() {
    let model = model();
    let t = model.tokenizer().unwrap();
    println!("eog {:?} bos {:?} vocab {} / {}", t.eog(), t.bos(), t.vocab_size(), model.config().vocab);
    println!("{:?}", (0..30).map(|i| t.token_text(i)).collect::<Vec<_>>());
    for grammar in [
        Grammar::regex("(yes|no)"),
        Grammar::json_schema(
            r#"{"type":"object","properties":{"name":{"type":"string","maxLength":20},"age":{"type":"integer","minimum":3,"maximum":77}},"required":["name","age"],"additionalProperties":false}"#,
        ),
        Grammar::lark("start: \"The \" animal \" ran.\"\nanimal: \"dog\" | \"cat\" | \"c\" /[a-z]{3}/"),
    ] {
        let start = Instant::now();
        let c = model.grammar(&grammar).unwrap();
        println!("compiled in {:?}", start.elapsed());
        for seed in 0..3 {
            let mut s = model.session();
            s.push("The answer of the king was: ").unwrap();
            let mut g =
                s.generate(&Sampling::default().temperature(1.0).seed(seed).max_tokens(100).grammar(&c)).unwrap();
            let text: String = g.by_ref().map(|p| p.unwrap().text).collect();
            println!("{text:?} {:?}", g.summary());
        }
    }
    for (name, g) in [
        ("bad json", Grammar::json_schema("{\"a\": }")),
        ("bad type", Grammar::json_schema(r#"{"type":"object","properties":{"a":{"type":"strin"}}}"#)),
        ("unsupported", Grammar::json_schema(r#"{"type":"object","properties":{"a":{"not":{"type":"string"}}}}"#)),
        ("unsat", Grammar::json_schema(r#"{"type":"integer","minimum":5,"maximum":3}"#)),
        ("ref", Grammar::json_schema(r##"{"$ref":"#/$defs/x"}"##)),
        ("ref self", Grammar::json_schema(r##"{"$ref":"#"}"##)),
        ("regex", Grammar::regex("(a")),
        ("regex look", Grammar::regex("(?=a)a")),
        ("lark", Grammar::lark("start: foo\n")),
        ("lark2", Grammar::lark("start: \"a\n")),
        ("lark rec", Grammar::lark("start: start\n")),
        ("lark special", Grammar::lark("start: <|nope|>\n")),
        ("rep", Grammar::regex("a{1000000}")),
        ("rep2", Grammar::regex("(a{1000}){1000}")),
        ("rep3", Grammar::regex("((a|b)*a(a|b){3000})")),
        ("rep4", Grammar::regex("((a?){300}a{300}){300}")),
        ("maxlen", Grammar::json_schema(r#"{"type":"string","maxLength":1000000000}"#)),
        ("minlen", Grammar::json_schema(r#"{"type":"string","minLength":1000000000}"#)),
        ("items", Grammar::json_schema(r#"{"type":"array","minItems":1000000000}"#)),
        ("items2", Grammar::json_schema(r#"{"type":"array","maxItems":100000}"#)),
        ("larkrep", Grammar::lark("start: (\"a\"{1000} \"b\"){1000}{1000}\n")),
        ("alts", Grammar::regex((0..20000).map(|i| format!("{:x}", i * 7919)).collect::<Vec<_>>().join("|"))),
        ("long", Grammar::regex("ab".repeat(30_000))),
        (
            "larkchain",
            Grammar::lark(
                (0..3500).map(|i| format!("r{i}: \"a\" r{}\n", i + 1)).collect::<String>()
                    + "r3500: \"b\"\nstart: r0\n",
            ),
        ),
        (
            "larkchain2",
            Grammar::lark(
                (0..4500).map(|i| format!("r{i}: r{}\n", i + 1)).collect::<String>() + "r4500: \"b\"\nstart: r0\n",
            ),
        ),
        (
            "refchain",
            Grammar::json_schema(format!(
                "{{\"$ref\":\"#/$defs/0\",\"$defs\":{{{}\"20000\":{{}}}}}}",
                (0..20000).map(|i| format!("\"{i}\":{{\"$ref\":\"#/$defs/{}\"}},", i + 1)).collect::<String>()
            )),
        ),
        (
            "refchain2",
            Grammar::json_schema(format!(
                "{{\"$ref\":\"#/$defs/0\",\"$defs\":{{{}\"10000\":{{}}}}}}",
                (0..10000)
                    .map(|i| format!("\"{i}\":{{\"items\":{{\"$ref\":\"#/$defs/{}\"}}}},", i + 1))
                    .collect::<String>()
            )),
        ),
        (
            "terms",
            Grammar::lark(
                (0..4500).map(|i| format!("R{i}: R{}\n", i + 1)).collect::<String>() + "R4500: \"b\"\nstart: R0\n",
            ),
        ),
        (
            "terms2",
            Grammar::lark(
                (0..3500).map(|i| format!("R{i}: R{} \"a\"?\n", i + 1)).collect::<String>()
                    + "R3500: \"b\"\nstart: R0\n",
            ),
        ),
        ("nested json", Grammar::json_schema(format!("{}{{}}{}", r#"{"items":"#.repeat(60), "}".repeat(60)))),
        ("slash", Grammar::regex("a/b\n\"")),
        ("not chain", Grammar::lark(format!("start: A\nA: {}/a/\n", "~".repeat(30000)))),
        ("altchain", Grammar::lark(format!("start: \"a\" {}\n", "| \"b\"".repeat(12000)))),
        ("post", Grammar::regex(format!("a{}", "{2}".repeat(2000)))),
        ("post2", Grammar::regex(format!("a{}", "?".repeat(60000)))),
        ("larkpost", Grammar::lark(format!("start: \"a\"{}\n", "?".repeat(60000)))),
    ] {
        let start = Instant::now();
        let r = model.grammar(&g);
        let rss = std::fs::read_to_string("/proc/self/status").unwrap();
        let rss = rss.lines().find(|l| l.starts_with("VmHWM")).unwrap().to_owned();
        println!(
            "== {name}: {:?} {rss} {}",
            start.elapsed(),
            r.as_ref().map(|_| "ok".to_string()).unwrap_or_else(|e| e.to_string().chars().take(300).collect())
        );
        if let Ok(c) = r {
            let start = Instant::now();
            let mut s = model.session();
            s.push("The answer of the king was: ").unwrap();
            let mut n = 0;
            let mut worst = std::time::Duration::ZERO;
            let mut generation = s.generate(&Sampling::default().temperature(1.0).max_tokens(100).grammar(&c)).unwrap();
            let mut last = Instant::now();
            for p in generation.by_ref() {
                n += 1;
                worst = worst.max(last.elapsed());
                last = Instant::now();
                if let Err(e) = p {
                    println!("   error {e}");
                }
            }
            println!(
                "   {n} pieces in {:?}, worst {worst:?} {:?} {}",
                start.elapsed(),
                generation.summary().stop_reason,
                generation.summary().forced
            );
        }
    }
}
