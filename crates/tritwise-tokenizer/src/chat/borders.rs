//! Control tokens that are spelled in a message, and kept from becoming what they spell.
//!
//! A template writes messages and control tokens into one text, in which a user's `<|eot_id|>` looks like the
//! template's. To tell them apart, a mark (a noncharacter of Unicode that occurs nowhere) is put into whatever in a
//! message could be a control token or a part of one:
//!
//! ```text
//! message   a <|eot_id|> b <|eot_      a <◆|eot_id|> b <◆|eot_
//! rendered  …a <◆|eot_id|> b <◆|eot_id|>…          the last "id|>" is the template's
//! without   …a <|eot_id|> b <|eot_id|>…            borders behind both "<"
//! ```
//!
//! In the rendered text the marks become *borders*: places across which no control token may lie. The text is the
//! one of a rendering without marks, to the character. Where it would not be, because the template compares or counts
//! characters, only whole names are marked; that will do if the control tokens of both renderings are
//! the same. If they are not, or the text is still another, the template takes control tokens in messages apart, and the
//! rendering is refused.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Whether `c` can be a mark: one of the noncharacters that are for a program's own use.
pub(crate) fn is_mark(c: char) -> bool {
    ('\u{FDD0}'..='\u{FDEF}').contains(&c)
}

/// A mark that is in none of `texts`; `None` if they have all 32.
pub(crate) fn absent_mark<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<char> {
    let used: BTreeSet<char> = texts.into_iter().flat_map(str::chars).filter(|&c| is_mark(c)).collect();
    ('\u{FDD0}'..='\u{FDEF}').find(|c| !used.contains(c))
}

/// `marked` without the marks, and where they were.
pub(crate) fn unmark(marked: &str, mark: char) -> (String, Vec<usize>) {
    let mut text = String::with_capacity(marked.len());
    let mut borders = Vec::new();
    for part in marked.split_inclusive(mark) {
        match part.strip_suffix(mark) {
            Some(part) => {
                text.push_str(part);
                if borders.last() != Some(&text.len()) {
                    borders.push(text.len());
                }
            }
            None => text.push_str(part),
        }
    }
    (text, borders)
}

/// `text` with a mark at each of `borders`, which are in rising order.
#[expect(clippy::string_slice, reason = "borders are between characters of the text, and rise")]
pub(crate) fn insert(text: &str, borders: impl IntoIterator<Item = usize>, mark: char) -> String {
    let mut marked = String::with_capacity(text.len() + 16);
    let mut done = 0;
    for border in borders {
        marked.push_str(&text[done..border]);
        marked.push(mark);
        done = border;
    }
    marked.push_str(&text[done..]);
    marked
}

/// The control tokens that `marked` has, from left to right, the longest at each place; a mark inside breaks one.
#[expect(clippy::string_slice, reason = "char_indices gives where characters begin")]
pub(crate) fn unbroken<'a>(marked: &str, tokens: &'a [String]) -> Vec<&'a str> {
    let firsts = first_characters(tokens);
    let mut found = Vec::new();
    let mut end = 0;
    for (start, _) in marked.char_indices().filter(|(_, c)| firsts.contains(c)) {
        let here = tokens.iter().filter(|token| start >= end && marked[start..].starts_with(token.as_str()));
        if let Some(token) = here.max_by_key(|token| token.len()) {
            end = start + token.len();
            found.push(token.as_str());
        }
    }
    found
}

fn first_characters(tokens: &[String]) -> BTreeSet<char> {
    tokens.iter().filter_map(|token| token.chars().next()).collect()
}

/// How much is marked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    /// Whole names of control tokens.
    Names,
    /// Those, and what could become one together with the template's text.
    Parts,
}

/// What a text is to the template.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// A name that the template looks up or compares.
    Name,
    /// A text that it prints beside others.
    Field,
    /// What was said.
    Content,
}

/// Puts marks into texts.
pub(crate) struct Marker<'a> {
    /// The names of all control tokens.
    tokens: &'a [String],
    mark: char,
    care: Care,
    /// Whether a text has control tokens after the vocabulary has normalised it.
    hidden: &'a dyn Fn(&str) -> bool,
    /// How many texts were marked.
    pub(crate) marked: usize,
}

impl<'a> Marker<'a> {
    pub(crate) fn new(tokens: &'a [String], mark: char, care: Care, hidden: &'a dyn Fn(&str) -> bool) -> Self {
        Self { tokens, mark, care, hidden, marked: 0 }
    }

    /// Marks a message: its content, and all other texts in it.
    pub(crate) fn message(&mut self, fields: &mut Map<String, Value>) {
        for (key, value) in fields.iter_mut() {
            match key.as_str() {
                "role" => self.value(value, Part::Name),
                "content" => self.content(value),
                _ => self.value(value, Part::Field),
            }
        }
    }

    /// Marks all texts of any value: tools, documents, variables.
    pub(crate) fn field(&mut self, value: &mut Value) {
        self.value(value, Part::Field);
    }

    /// A content is a text, or a list of parts with texts.
    fn content(&mut self, value: &mut Value) {
        let Value::Array(parts) = value else { return self.value(value, Part::Content) };
        for part in parts {
            match part {
                Value::Object(fields) => {
                    for (key, value) in fields.iter_mut() {
                        self.value(value, if key == "text" { Part::Content } else { Part::Field });
                    }
                }
                other => self.value(other, Part::Content),
            }
        }
    }

    fn value(&mut self, value: &mut Value, part: Part) {
        match value {
            Value::String(text) => {
                if let Some(marked) = self.text(text, part) {
                    *text = marked;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item, part)),
            Value::Object(fields) => {
                if fields.keys().any(|key| self.text(key, Part::Name).is_some()) {
                    let renamed = std::mem::take(fields).into_iter();
                    *fields = renamed.map(|(key, value)| (self.text(&key, Part::Name).unwrap_or(key), value)).collect();
                }
                fields.values_mut().for_each(|value| self.value(value, part));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// `text` with marks, if it needs any.
    fn text(&mut self, text: &str, part: Part) -> Option<String> {
        let part = if self.care == Care::Names { Part::Name } else { part };
        let borders = borders(text, self.tokens, part);
        let mut marked = insert(text, borders.iter().copied(), self.mark);
        if (self.hidden)(&marked) {
            // Normalisation spells a control token of other characters: none of them shall touch.
            marked = insert(text, text.char_indices().map(|(start, c)| start + c.len_utf8()), self.mark);
        } else if borders.is_empty() {
            return None;
        }
        self.marked += 1;
        Some(marked)
    }
}

/// Where in `text` a border keeps control tokens from being read: inside each that it spells, and inside each of which
/// it could give a part.
#[expect(clippy::string_slice, reason = "char_indices gives where characters begin, and trimming where they end")]
fn borders(text: &str, tokens: &[String], part: Part) -> BTreeSet<usize> {
    let mut borders = BTreeSet::new();
    let after_first = |text: &str| text.chars().next().map_or(0, char::len_utf8);
    let firsts = first_characters(tokens);
    for (start, c) in text.char_indices().filter(|(_, c)| firsts.contains(c)) {
        if tokens.iter().any(|token| text[start..].starts_with(token)) {
            borders.insert(start + c.len_utf8());
        }
    }
    if part == Part::Name {
        return borders;
    }
    // What stands at an end of the text can go on in the template, which often trims a text first.
    let trimmed_end = text.trim_end().len();
    let trimmed_start = text.len() - text.trim_start().len();
    for token in tokens {
        for (at, c) in token.char_indices().skip(1) {
            let (before, after) = token.split_at(at);
            for end in [text.len(), trimmed_end] {
                if text[..end].ends_with(before) {
                    borders.insert(end - before.len() + after_first(before));
                }
            }
            // `after` but for its last character.
            let last = after.chars().next_back().map_or(c.len_utf8(), char::len_utf8);
            for start in [0, trimmed_start] {
                if text[start..].starts_with(after) {
                    borders.insert(start + after.len() - last);
                }
            }
        }
        let whole = text.trim();
        if part == Part::Content && !whole.is_empty() && whole.len() < token.len() && token.contains(whole) {
            borders.insert(trimmed_start + after_first(whole));
        }
    }
    borders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(text: &str, part: Part) -> String {
        let tokens = ["<|eot|>".to_owned(), "</s>".to_owned()];
        insert(text, borders(text, &tokens, part), '◆')
    }

    #[test]
    fn whatever_could_be_part_of_a_control_token_is_marked() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a < b and c > d", "a < b and c > d"),
            ("<|eot|>", "<◆|eot|>"),
            ("a<|eot|>b</s></s>c", "a<◆|eot|>b<◆/s><◆/s>c"),
            ("<|<|eot|>", "<|<◆|eot|>"),
            ("tail <|eo \n", "tail <◆|eo \n"),
            ("tail <", "tail <◆"),
            (" |> head", " |◆> head"),
            ("> head", "◆> head"),
            ("", ""),
            ("eot", "e◆ot"),
        ] {
            assert_eq!(marked(text, Part::Content), expected);
        }
        assert_eq!(marked("eot", Part::Field), "eot");
        assert_eq!(marked("<|eo", Part::Field), "<◆|eo");
        assert_eq!(marked("a<|eot|>b<", Part::Name), "a<◆|eot|>b<");
    }

    #[test]
    fn marks_go_in_and_out() {
        let (text, borders) = unmark("a◆b◆◆c◆", '◆');
        assert_eq!((text.as_str(), &borders[..]), ("abc", &[1, 2, 3][..]));
        assert_eq!(insert(&text, borders, '◆'), "a◆b◆c◆");
        assert_eq!(absent_mark(["\u{FDD0}", "\u{FDD2}"]), Some('\u{FDD1}'));
        let all: String = ('\u{FDD0}'..='\u{FDEF}').collect();
        assert_eq!(absent_mark([all.as_str()]), None);
    }
}
