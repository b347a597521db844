//! What a template must not ask of the compiler.
//!
//! minijinja computes what is constant in an expression while it compiles, for which no fuel is asked, and tries so anew for
//! each part of an expression that has a part which is not: `a ~ 1 ~ 1 ~ …` takes time that grows with the square of its
//! length. And a list that is repeated is not made until somebody looks at its items: `[[1] * 9999999] * 9999999 ~ ''` is a
//! short text for more than all memory.
//!
//! So the operators of a tag are counted, and a list, tuple or dict that is written down may be multiplied once in a tag, if it is
//! short, with a number of up to three digits behind it. Then what is constant is about as long as the template, and computed at most as
//! often as the tag has operators. The tokens are minijinja's
//! (`compiler/lexer.rs` of 3.1, with the markers that `environment` leaves as they are).

use crate::limits::TAG_OPERATORS;

/// Most tokens inside brackets that are multiplied.
const SHORT: usize = 16;

/// What is wrong with a template, and on which line.
pub(crate) type Problem = (usize, &'static str);

/// Refuses a template that would keep the compiler busy.
pub(crate) fn check(source: &str) -> Result<(), Problem> {
    let mut lexer = Lexer { source, at: 0, balance: 0 };
    while let Some(tag) = lexer.next_tag() {
        let start = lexer.at;
        Tag::default().check(&mut lexer, tag).map_err(|what| {
            // That of the operator, not of the tag, which may go over many.
            let lines = source.get(..lexer.at.max(start)).map_or(0, |before| before.matches('\n').count());
            (lines + 1, what)
        })?;
    }
    Ok(())
}

/// A tag so far.
#[derive(Default)]
struct Tag {
    operators: usize,
    tokens: usize,
    /// Tokens inside the brackets that were closed last.
    inside: usize,
    /// What the open brackets are, from the outside.
    open: Vec<Bracket>,
    /// What stands before the next token, if it can be multiplied.
    before: Before,
    /// Whether a container that is written down stands after a `*`.
    after_times: bool,
    /// Containers that are written down and multiplied.
    multiplied: usize,
    factor: Factor,
    /// Whether the next word is what a block is called, or a test: a value may follow it.
    names: bool,
}

/// What a container is multiplied with.
#[derive(Clone, Copy, Default, PartialEq)]
enum Factor {
    #[default]
    None,
    /// The next token.
    Next,
    /// The last token.
    Last,
}

#[derive(Clone, Copy)]
struct Bracket {
    /// How many tokens of the tag are before it.
    start: usize,
    /// Whether it is a value, and no subscript or list of arguments.
    display: bool,
    /// Whether it is, or has inside, a list, tuple or dict that is written down.
    container: bool,
    /// Whether a `*` stands in front of it.
    after_times: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Before {
    /// An operator, or nothing: a bracket is a value.
    #[default]
    Nothing,
    /// A value: a bracket is a subscript or a list of arguments.
    Value,
    /// A value that is, or may be, a container that is written down.
    Container,
}

/// A token as far as it matters.
#[derive(Clone, Copy, PartialEq)]
enum Token<'s> {
    Open(u8),
    Close,
    Comma,
    Times,
    /// `**`, which goes before `*`.
    Power,
    Operator,
    /// A name, a keyword or a number.
    Word(&'s str),
    Text,
    /// `.`, `|`, `:` and `=`.
    Other,
}

impl Tag {
    fn check(&mut self, lexer: &mut Lexer<'_>, end: &str) -> Result<(), &'static str> {
        const MULTIPLIED: &str = "multiplies a list, tuple or dict that is written down, and long, more than once in a tag, or not with \
                                  a number of up to three digits behind it";
        self.names = end == "%}";
        while let Some(token) = lexer.next_token(end) {
            self.tokens += 1;
            let after_times = std::mem::take(&mut self.after_times);
            match (std::mem::take(&mut self.factor), token) {
                (Factor::Next, Token::Word(word)) if word.len() < 4 && word.bytes().all(|c| c.is_ascii_digit()) => {
                    self.factor = Factor::Last;
                    self.before = Before::Container;
                    continue;
                }
                (Factor::Next, _) | (Factor::Last, Token::Power) => return Err(MULTIPLIED),
                _ => {}
            }
            self.before = match token {
                Token::Open(bracket) => {
                    let display = self.before == Before::Nothing;
                    // Parentheses are a tuple once they have a comma.
                    let container = display && bracket != b'(';
                    self.open.push(Bracket { start: self.tokens, display, container, after_times });
                    Before::Nothing
                }
                Token::Close => {
                    let Some(closed) = self.open.pop() else { continue };
                    self.inside = self.tokens - closed.start;
                    let container = closed.display && closed.container;
                    if container && closed.after_times {
                        return Err(MULTIPLIED);
                    }
                    if let Some(outer) = self.open.last_mut() {
                        outer.container |= container;
                    }
                    if container { Before::Container } else { Before::Value }
                }
                Token::Comma => {
                    if let Some(open) = self.open.last_mut() {
                        open.container = true;
                    }
                    Before::Nothing
                }
                Token::Times if self.before == Before::Container => {
                    self.multiplied += 1;
                    if self.multiplied > 1 || self.inside > SHORT {
                        return Err(MULTIPLIED);
                    }
                    self.factor = Factor::Next;
                    Before::Nothing
                }
                Token::Times => {
                    self.after_times = true;
                    self.count()?;
                    Before::Nothing
                }
                Token::Operator | Token::Power => {
                    // Signs go between a `*` and what it multiplies.
                    self.after_times = after_times && self.before == Before::Nothing;
                    self.count()?;
                    Before::Nothing
                }
                Token::Word(word @ ("and" | "or" | "not" | "in" | "is" | "if" | "else")) => {
                    self.names = word == "is" || (word == "not" && self.names);
                    self.count()?;
                    Before::Nothing
                }
                Token::Word(_) if std::mem::take(&mut self.names) => Before::Nothing,
                Token::Word(_) | Token::Text => Before::Value,
                Token::Other => Before::Nothing,
            };
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), &'static str> {
        self.operators += 1;
        if self.operators > TAG_OPERATORS {
            Err("has more operators in one tag than any template needs")
        } else {
            Ok(())
        }
    }
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    /// Open brackets less closed ones, of all tags: inside brackets no tag ends.
    balance: isize,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or_default()
    }

    /// Goes to the next tag; gives what ends it.
    fn next_tag(&mut self) -> Option<&'static str> {
        loop {
            let rest = self.rest();
            let start = rest.match_indices('{').find(|(at, _)| {
                let next = rest.as_bytes().get(at + 1);
                matches!(next, Some(b'{' | b'%' | b'#'))
            });
            let (start, _) = start?;
            self.at += start + 2;
            match rest.as_bytes().get(start + 1) {
                Some(b'{') => return Some("}}"),
                Some(b'#') => self.at += self.rest().find("#}")? + 2,
                _ => match plain_tag(self.rest(), "raw") {
                    None => return Some("%}"),
                    Some(len) => {
                        self.at += len;
                        loop {
                            self.at += self.rest().find("{%")? + 2;
                            if let Some(len) = plain_tag(self.rest(), "endraw") {
                                self.at += len;
                                break;
                            }
                        }
                    }
                },
            }
        }
    }

    /// The next token of a tag; `None` at its end, or where no token is, which the compiler refuses.
    fn next_token(&mut self, end: &str) -> Option<Token<'s>> {
        let rest = self.rest();
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
        self.at = self.source.len() - rest.len();
        if self.balance == 0 {
            let plain = rest.strip_prefix(['-', '+']).filter(|rest| rest.starts_with(end)).unwrap_or(rest);
            if let Some(after) = plain.strip_prefix(end) {
                self.at = self.source.len() - after.len();
                return None;
            }
        }
        let two = ["//", "==", "!=", ">=", "<="].iter().any(|two| rest.starts_with(two));
        let first = rest.chars().next()?;
        let (len, token) = match first {
            _ if two => (2, Token::Operator),
            _ if rest.starts_with("**") => (2, Token::Power),
            '*' => (1, Token::Times),
            '+' | '-' | '/' | '%' | '~' | '<' | '>' => (1, Token::Operator),
            ',' => (1, Token::Comma),
            '.' | '|' | ':' | '=' => (1, Token::Other),
            '(' | '[' | '{' => {
                self.balance += 1;
                (1, Token::Open(first as u8))
            }
            ')' | ']' | '}' => {
                self.balance -= 1;
                (1, Token::Close)
            }
            '\'' | '"' => (text_len(rest, first)?, Token::Text),
            _ => {
                let is_part = |c: char| c.is_alphanumeric() || c == '_';
                let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                let word = rest.get(..len).filter(|word| !word.is_empty())?;
                (len, Token::Word(word))
            }
        };
        self.at += len;
        Some(token)
    }
}

/// The length of a text in quotes, with them.
fn text_len(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    let closing = rest.char_indices().skip(1).find(|(_, c)| {
        let closes = !escaped && *c == quote;
        escaped = !escaped && *c == '\\';
        closes
    });
    closing.map(|(at, _)| at + 1)
}

/// The length of a tag that has nothing but a name, behind its opening.
fn plain_tag(rest: &str, name: &str) -> Option<usize> {
    let blank = |c: char| c.is_ascii_whitespace();
    let after = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    let after = after.trim_start_matches(blank).strip_prefix(name)?.trim_start_matches(blank);
    let after = after.strip_prefix(['-', '+']).unwrap_or(after).strip_prefix("%}")?;
    Some(rest.len() - after.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_that_are_written_down_are_multiplied_once_and_little() {
        for source in [
            "{{ [1] * 1000 }}",
            "{{ 9 * [1] }}",
            "{{ [[1] * 9] * 9 }}",
            "{{ [1] * 9 * 9 }}",
            "{{ [1] * 9 ~ [1] * 9 }}",
            "{{ [1] * 9 ** 9 }}",
            "{{ [1] * (9) }}",
            "{{ [1, 1, 1, 1, 1, 1, 1, 1, 1, 1] * 9 }}",
            "{{ ([1, 1, 1] + [1, 1, 1, 1, 1, 1]) * 9 }}",
            "{{ [1] * -9 }}",
            "{{ [1] * x }}",
            "{{ ([1]) * 9999 }}",
            "{{ 9 * ([1]) }}",
            "{{ (1, 2) * 9999 }}",
            "{{ 9 * (1, 2) }}",
            "{{ ((1), [2] + [3]) * 9999 }}",
            "{% if x %}{% elif [1] * 9999 %}{% endif %}",
            "{%- do [1] * 9999 %}",
            "{{ x is not eq [1] * 9999 }}",
            "{{ ([1] + [2]) * 9999 }}",
            "{{ 9 * -[1] }}",
            "{{ 9 * {'a': [1]} }}",
            "{% set x = '}}' ~ [1] * 9999 %}",
            "{% if {'a': '}}'} and [1] * 9999 %}",
            "{% raw %}{{ ' {% endraw %}{{ [1] * 9999 }}",
            "{%- raw -%}{{ ' {%- endraw -%}{{ [1] * 9999 }}",
            "{# ' #}{{ [1] * 9999 }}",
            "it's {{- [1] * 9999 -}}",
            "{{ '\\'' ~ [1] * 9999 }}",
        ] {
            assert!(check(source).is_err_and(|(line, what)| line == 1 && what.contains("multiplies")), "{source}");
        }
        for source in [
            "{{ 2 * 3 }} [1] * 9999",
            "{{ [0] * 2 }}{{ (1, 2) * 999 }}",
            "{{ [[0] * 2, x] ~ 2 ** 9 }}",
            "{{ x[1] * 9 }}",
            "{% if x[1] * 9 and not x[1] * 9 %}",
            "{{ 9 * x[1] }}",
            "{{ f(1, 2) * 9 }}",
            "{{ (a + b) * 9 }}",
            "{{ [a * 9, 2] }}",
            "{{ x.y[0](1, 2) * (b - 1) }}",
            "{{ '[1] * 9999' }}",
            "{% raw %}{{ [1] * 9999 }}{% endraw %}",
            "{# [1] * 9999 #}",
            "{{ [1] ** 2 }}",
            "{{ {'a': 1}['a'] * 2 }}",
        ] {
            assert_eq!(check(source), Ok(()), "{source}");
        }
    }

    #[test]
    fn operators_of_a_tag_are_counted() {
        let chain = |count: usize| format!("a\n{{{{ a{} }}}}", " ~ 1".repeat(count));
        assert_eq!(check(&chain(TAG_OPERATORS)), Ok(()));
        assert!(check(&chain(TAG_OPERATORS + 1)).is_err_and(|(line, what)| line == 2 && what.contains("operators")));
        assert_eq!(check(&chain(TAG_OPERATORS).repeat(9)), Ok(()));
        for operator in ["not ", "-", "[1] + ", "a and ", "1 <= ", "a in ", "2 ** "] {
            assert!(check(&format!("{{{{ {}1 }}}}", operator.repeat(TAG_OPERATORS + 1))).is_err(), "{operator}");
        }
    }
}
