//! `tojson`: a value as Python's `json.dumps` writes it, which is what `transformers` gives templates.
//!
//! Not Jinja's own filter: that one escapes `<`, `>`, `&` and `'` for HTML, and a model would be told of `\u003c`.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Deepest nesting of a value, which would otherwise be the depth of the stack.
const MAX_DEPTH: usize = 128;

/// The filter: `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`; the last two by name only.
pub(crate) fn tojson(
    state: &State,
    value: &Value,
    ensure_ascii: Option<Value>,
    indent: Option<Value>,
    named: Kwargs,
) -> Result<String, Error> {
    let either = |position: Option<Value>, name: &str| match position {
        Some(value) => Ok(value),
        None => Ok::<_, Error>(named.get::<Option<Value>>(name)?.unwrap_or(Value::from(()))),
    };
    let ensure_ascii = either(ensure_ascii, "ensure_ascii")?.is_true();
    let indent = either(indent, "indent")?;
    let separators = either(None, "separators")?;
    let sort_keys = either(None, "sort_keys")?.is_true();
    named.assert_all_used()?;
    let indent = match (indent.is_none(), indent.as_str(), indent.as_i64()) {
        (true, ..) => None,
        (_, Some(text), _) => Some(text.to_owned()),
        (_, _, Some(width)) => Some(" ".repeat(usize::try_from(width).unwrap_or(0).min(256))),
        _ => return Err(refuse(format_args!("indent must be a number or a string, not {}", indent.kind()))),
    };
    let (item, key) = match separators.is_none() {
        true if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        true => (", ".to_owned(), ": ".to_owned()),
        false => (separators.get_item_by_index(0)?.to_string(), separators.get_item_by_index(1)?.to_string()),
    };
    let mut json = Json { state, ensure_ascii, indent, item, key, sort_keys, out: String::new() };
    json.value(value, 0)?;
    Ok(json.out)
}

struct Json<'a> {
    state: &'a State<'a, 'a>,
    ensure_ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
    out: String,
}

impl Json<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(refuse(format_args!("the value is nested more than {MAX_DEPTH} deep")));
        }
        self.state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                let last = keys.len();
                self.out.push('{');
                for (n, key) in keys.into_iter().enumerate() {
                    self.line(n > 0, depth + 1)?;
                    self.name(&key)?;
                    self.out.push_str(&self.key);
                    self.value(&value.get_item(&key)?, depth + 1)?;
                }
                self.close(last > 0, depth, '}')?;
            }
            // minijinja's sum of two lists is of the second kind.
            ValueKind::Seq | ValueKind::Iterable => {
                let mut empty = true;
                self.out.push('[');
                for item in value.try_iter()? {
                    self.line(!empty, depth + 1)?;
                    empty = false;
                    self.value(&item, depth + 1)?;
                }
                self.close(!empty, depth, ']')?;
            }
            kind => return Err(refuse(format_args!("{kind} is not JSON serializable"))),
        }
        Ok(())
    }

    /// What stands before an item.
    fn line(&mut self, after_another: bool, depth: usize) -> Result<(), Error> {
        if after_another {
            self.state.consume_fuel(self.item.len() as u64 / 64)?;
            self.out.push_str(&self.item);
        }
        let Some(indent) = &self.indent else { return Ok(()) };
        self.state.consume_fuel((indent.len() * depth) as u64 / 64)?;
        self.out.push('\n');
        (0..depth).for_each(|_| self.out.push_str(indent));
        Ok(())
    }

    fn close(&mut self, after_items: bool, depth: usize, bracket: char) -> Result<(), Error> {
        if after_items && self.indent.is_some() {
            self.line(false, depth)?;
        }
        self.out.push(bracket);
        Ok(())
    }

    /// A key: Python makes strings of numbers and constants.
    fn name(&mut self, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.string(key.as_str().unwrap_or_default()),
            ValueKind::Number => self.string(&number(key)),
            ValueKind::Bool => self.string(if key.is_true() { "true" } else { "false" }),
            ValueKind::None => self.string("null"),
            kind => Err(refuse(format_args!("a key must be a string, not {kind}"))),
        }
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        self.state.consume_fuel(text.len() as u64 / 64)?;
        self.out.push('"');
        for c in text.chars() {
            let short = match c {
                '"' => Some('"'),
                '\\' => Some('\\'),
                '\n' => Some('n'),
                '\r' => Some('r'),
                '\t' => Some('t'),
                '\u{8}' => Some('b'),
                '\u{c}' => Some('f'),
                _ => None,
            };
            if let Some(short) = short {
                self.out.extend(['\\', short]);
            } else if c < ' ' || (self.ensure_ascii && !c.is_ascii() && !super::borders::is_mark(c)) {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(self.out, "\\u{unit:04x}");
                }
            } else {
                self.out.push(c);
            }
        }
        self.out.push('"');
        Ok(())
    }
}

/// A number as Python writes it.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()) {
        Ok(number) if number.is_nan() => "NaN".to_owned(),
        Ok(number) if number.is_infinite() => if number < 0.0 { "-Infinity" } else { "Infinity" }.to_owned(),
        Ok(number) => float(number),
        Err(_) => value.to_string(),
    }
}

/// Python's `repr` of a finite float: the shortest digits that read back as the same number, with an exponent below
/// 1e-4 and from 1e16 on.
pub(crate) fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn refuse(message: std::fmt::Arguments<'_>) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {message}"))
}
