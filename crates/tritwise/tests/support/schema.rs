//! Random JSON schemas, and whether a value is valid by one: written for the tests, without a look at how text is constrained.

use serde_json::{Map, Value, json};
use tritwise::sampling_stages::Random;

/// Below `n`.
fn below(random: &mut Random, n: usize) -> usize {
    (random.unit() * n as f64) as usize
}

/// Patterns, each with what it matches.
type Pattern = (&'static str, fn(&str) -> bool);
const PATTERNS: [Pattern; 4] = [
    ("^[a-z]{2,5}$", |s| (2..=5).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_lowercase())),
    ("^(red|green)-[0-9]{2}$", |s| {
        let digits = s.strip_prefix("red-").or_else(|| s.strip_prefix("green-"));
        digits.is_some_and(|d| d.len() == 2 && d.bytes().all(|b| b.is_ascii_digit()))
    }),
    ("^#[0-9a-f]{6}$", |s| {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        s.strip_prefix('#').is_some_and(|s| s.len() == 6 && s.bytes().all(hex))
    }),
    ("^[A-Z][a-z]{1,9}( [A-Z][a-z]{1,9})?$", |s| {
        let name = |s: &str| {
            (2..=10).contains(&s.len())
                && s.as_bytes()[0].is_ascii_uppercase()
                && s[1..].bytes().all(|b| b.is_ascii_lowercase())
        };
        s.is_ascii() && s.split(' ').count() <= 2 && s.split(' ').all(name)
    }),
];

const WORDS: [&str; 8] = ["name", "age", "kind", "a \"quoted\" key", "größe", "x", "the king's daughter", "tags"];

/// A schema, nested at most `depth` deep.
pub(crate) fn random_schema(random: &mut Random, depth: usize) -> Value {
    match below(random, if depth == 0 { 8 } else { 12 }) {
        0 => json!({"type": "boolean"}),
        1 => json!({"type": "null"}),
        2 if below(random, 4) == 0 => json!({"type": "string"}),
        2 => json!({"type": "string", "maxLength": below(random, 30)}),
        3 => {
            let shortest = below(random, 4);
            json!({"type": "string", "minLength": shortest, "maxLength": shortest + below(random, 8)})
        }
        4 => json!({"type": "string", "pattern": PATTERNS[below(random, PATTERNS.len())].0}),
        5 => {
            let count = 1 + below(random, 4);
            let values = (0..count).map(|_| match below(random, 4) {
                0 => json!(below(random, 1000)),
                1 => json!(null),
                _ => json!(WORDS[below(random, WORDS.len())]),
            });
            json!({"enum": values.collect::<Vec<_>>()})
        }
        6 | 7 => {
            let least = below(random, 2000) as i64 - 1000;
            json!({"type": "integer", "minimum": least, "maximum": least + below(random, 300) as i64})
        }
        8 => {
            let least = below(random, 3);
            let items = random_schema(random, depth - 1);
            json!({"type": "array", "items": items, "minItems": least, "maxItems": least + below(random, 4)})
        }
        9 => {
            let count = 2 + below(random, 2);
            json!({"anyOf": (0..count).map(|_| random_schema(random, depth - 1)).collect::<Vec<_>>()})
        }
        _ => {
            let mut properties = Map::new();
            let mut required = Vec::new();
            for _ in 0..1 + below(random, 4) {
                let name = WORDS[below(random, WORDS.len())];
                if properties.insert(name.into(), random_schema(random, depth - 1)).is_none() && below(random, 3) > 0 {
                    required.push(name);
                }
            }
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
        }
    }
}

/// Whether `value` is valid by a schema of the kinds above.
pub(crate) fn is_valid(schema: &Value, value: &Value) -> bool {
    let bound = |name: &str, default: usize| schema[name].as_u64().map_or(default, |n| n as usize);
    if let Some(options) = schema["anyOf"].as_array() {
        return options.iter().any(|schema| is_valid(schema, value));
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.contains(value);
    }
    match (schema["type"].as_str().unwrap(), value) {
        ("boolean", Value::Bool(_)) | ("null", Value::Null) => true,
        ("string", Value::String(text)) => {
            let pattern = schema["pattern"].as_str().map(|p| PATTERNS.iter().find(|(known, _)| *known == p).unwrap());
            let length = bound("minLength", 0)..=bound("maxLength", usize::MAX);
            length.contains(&text.chars().count()) && pattern.is_none_or(|(_, matches)| matches(text))
        }
        ("integer", Value::Number(number)) => {
            let bounds = schema["minimum"].as_i64().unwrap()..=schema["maximum"].as_i64().unwrap();
            // 5.0 is an integer to JSON schema.
            let whole = number.as_i64().or_else(|| number.as_f64().filter(|x| x.fract() == 0.0).map(|x| x as i64));
            whole.is_some_and(|number| bounds.contains(&number))
        }
        ("array", Value::Array(items)) => {
            let count = bound("minItems", 0)..=bound("maxItems", usize::MAX);
            count.contains(&items.len()) && items.iter().all(|item| is_valid(&schema["items"], item))
        }
        ("object", Value::Object(fields)) => {
            let has = |name: &Value| fields.contains_key(name.as_str().unwrap());
            let properties = schema["properties"].as_object().unwrap();
            let valid = |(name, value): (&String, &Value)| properties.get(name).is_some_and(|s| is_valid(s, value));
            schema["required"].as_array().unwrap().iter().all(has) && fields.iter().all(valid)
        }
        _ => false,
    }
}
