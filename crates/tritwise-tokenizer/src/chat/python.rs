//! Where Jinja in Python differs from minijinja and its `pycompat`: methods of strings, and what is a sequence.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

/// Methods of Python's types, called in templates.
pub(crate) fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match (value.as_str(), name) {
        (Some(text), "strip" | "lstrip" | "rstrip") => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            let (start, end) = (name != "rstrip", name != "lstrip");
            Ok(strip(text, chars, start, end).into())
        }
        (Some(text), "split" | "rsplit") => {
            let (separator, most, named): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
            let separator = named.get::<Option<&str>>("sep")?.or(separator);
            let most = named.get::<Option<i64>>("maxsplit")?.or(most);
            named.assert_all_used()?;
            let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
            split(text, separator, most, name == "rsplit")
        }
        (Some(text), "splitlines") => {
            let (keep, named): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = named.get::<Option<bool>>("keepends")?.or(keep);
            named.assert_all_used()?;
            Ok(lines(text, keep.unwrap_or(false)).into())
        }
        (Some(text), "partition" | "rpartition") => {
            let (separator,): (&str,) = from_args(args)?;
            if separator.is_empty() {
                return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
            }
            let found = if name == "partition" { text.split_once(separator) } else { text.rsplit_once(separator) };
            let parts = match found {
                Some((before, after)) => [before, separator, after],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Ok(Value::from(parts.map(Value::from).to_vec()))
        }
        (Some(text), "removeprefix") => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        (Some(text), "removesuffix") => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        (Some(text), "index" | "rindex") => {
            let (part,): (&str,) = from_args(args)?;
            let found = if name == "index" { text.split_once(part) } else { text.rsplit_once(part) };
            let (before, _) = found.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "substring not found"))?;
            Ok(before.chars().count().into())
        }
        (Some(text), "isspace") => {
            let () = from_args(args)?;
            Ok((!text.is_empty() && text.chars().all(is_space)).into())
        }
        (Some(text), "title") => {
            let () = from_args(args)?;
            Ok(title(text).into())
        }
        (Some(text), "format") if !is_modest(text) => Err(Error::new(
            ErrorKind::InvalidOperation,
            "format asks for a width of more than three digits, or a computed one",
        )),
        (None, "copy") if value.kind() == ValueKind::Map => {
            let () = from_args(args)?;
            Ok(value.clone())
        }
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// The filter `trim`: of any value's text.
pub(crate) fn trim(state: &State, value: &Value, chars: Option<&str>) -> Result<String, Error> {
    Ok(strip(&string(state, value)?, chars, true, true).to_owned())
}

/// The filter `string`: a value as it is printed, paid for as it grows, as a list may contain another many times.
pub(crate) fn string(state: &State, value: &Value) -> Result<String, Error> {
    struct Paid<'a>(&'a State<'a, 'a>, String);
    impl Write for Paid<'_> {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.consume_fuel(1 + text.len() as u64 / 64).map_err(|_| std::fmt::Error)?;
            self.1.push_str(text);
            Ok(())
        }
    }
    let mut out = Paid(state, String::new());
    match write!(out, "{value}") {
        Ok(()) => Ok(out.1),
        Err(_) => Err(ErrorKind::OutOfFuel.into()),
    }
}

/// Whether a format string makes little more than its arguments: `"{:999999999}"` is a gigabyte of blanks.
fn is_modest(format: &str) -> bool {
    let wide = format.as_bytes().windows(4).any(|window| window.iter().all(u8::is_ascii_digit));
    let fields = format.replace("{{", "").replace("}}", "");
    let nested = fields.split('{').skip(1).any(|field| !field.contains('}'));
    !wide && !nested
}

/// The filter `default(default_value='', boolean=False)`.
pub(crate) fn default(value: &Value, other: Option<Value>, falsy: Option<bool>, named: Kwargs) -> Result<Value, Error> {
    let other = named.get::<Option<Value>>("default_value")?.or(other);
    let falsy = named.get::<Option<bool>>("boolean")?.or(falsy).unwrap_or(false);
    named.assert_all_used()?;
    let missing = value.is_undefined() || (falsy && !value.is_true());
    Ok(if missing { other.unwrap_or_else(|| Value::from("")) } else { value.clone() })
}

/// The filter `escape`, in markupsafe's spelling.
pub(crate) fn escape(state: &State, value: &Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Ok(value.clone());
    }
    let mut out = String::new();
    for c in string(state, value)?.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    Ok(Value::from_safe_string(out))
}

/// `str.strip()`.
pub(crate) fn strip_spaces(text: &str) -> &str {
    strip(text, None, true, true)
}

/// `str.rstrip()`.
pub(crate) fn trim_end(text: &str) -> &str {
    strip(text, None, false, true)
}

/// The test `sequence`: what has a length and items by number or key, which in Python texts and dicts have, too.
pub(crate) fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::String | ValueKind::Map)
}

/// What Python's `str.isspace` accepts: Unicode's white space, and four separators among the control characters.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn strip<'a>(text: &'a str, chars: Option<&str>, start: bool, end: bool) -> &'a str {
    let stripped = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if start { text.trim_start_matches(stripped) } else { text };
    if end { text.trim_end_matches(stripped) } else { text }
}

/// At most `most` cuts, from the left or the right; at runs of white space if no separator is given.
fn split(text: &str, separator: Option<&str>, most: usize, from_right: bool) -> Result<Value, Error> {
    let mut parts: Vec<&str> = Vec::new();
    match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) if from_right => {
            parts.extend(text.rsplitn(most.saturating_add(1), separator));
            parts.reverse();
        }
        Some(separator) => parts.extend(text.splitn(most.saturating_add(1), separator)),
        None if from_right => {
            let mut rest = text.trim_end_matches(is_space);
            while !rest.is_empty() {
                let (before, part) = rest.rsplit_once(is_space).filter(|_| parts.len() < most).unwrap_or(("", rest));
                parts.push(part);
                rest = before.trim_end_matches(is_space);
            }
            parts.reverse();
        }
        None => {
            let mut rest = text.trim_start_matches(is_space);
            while !rest.is_empty() {
                let (part, after) = rest.split_once(is_space).filter(|_| parts.len() < most).unwrap_or((rest, ""));
                parts.push(part);
                rest = after.trim_start_matches(is_space);
            }
        }
    }
    Ok(Value::from(parts.into_iter().map(Value::from).collect::<Vec<_>>()))
}

/// The lines of a text, by every character at which Python ends one.
fn lines(text: &str, keep_ends: bool) -> Vec<Value> {
    let ends =
        |c: char| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
        let mark = match after.starts_with("\r\n") {
            true => 2,
            false => after.chars().next().map_or(0, char::len_utf8),
        };
        let (whole, after) = rest.split_at(line.len() + mark);
        lines.push(Value::from(if keep_ends { whole } else { line }));
        rest = after;
    }
    lines
}

/// The first letter of each run of letters upper case, the others lower.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
        in_word = c.is_alphabetic();
    }
    out
}
