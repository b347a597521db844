//! Text that follows a grammar: which tokens may come next.
//!
//! ```text
//! schema, regex, Lark ──▶ Grammar ──▶ Constraint ──▶ Follower: the text so far, as a parser's state
//!                         (text)      (for a model's       │
//!                                      tokens)             ▼
//!                                                     a bit for each token, set where it may come next
//! ```
//!
//! The parser is that of the crate `llguidance`. It walks the trie of all tokens' bytes along with the grammar, so that
//! a token may cross the grammar's own words, and a word may be cut in any way. What it cannot know is the model's tokenizer: [`Tokens`] tells it.

mod tokens;

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory, TokenParser};
use serde_json::{Map, Value};

use crate::Error;
use crate::model::{Inner, Model};
use crate::writer::Guide;
use tokens::Tokens;

/// What a text has to follow: a JSON schema, a regular expression or a grammar in Lark's syntax.
///
/// ```no_run
/// use tritwise::{Grammar, Model, Sampling};
///
/// let model = Model::open("model.gguf")?;
/// let yes_or_no = model.grammar(&Grammar::regex("(yes|no)"))?;
/// let mut session = model.session();
/// session.push("Is water wet? Answer: ")?;
/// for piece in session.generate(&Sampling::default().grammar(&yes_or_no))? {
///     print!("{}", piece?);
/// }
/// # Ok::<(), tritwise::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grammar {
    kind: Kind,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    JsonSchema,
    Regex,
    Lark,
}

impl Grammar {
    /// JSON that is valid by `schema`, which is a JSON schema (draft 2020-12) in JSON. Keywords that cannot be kept to
    /// are refused; docs/grammar.md has the list. `{}` is any JSON.
    pub fn json_schema(schema: impl Into<String>) -> Self {
        Self { kind: Kind::JsonSchema, text: schema.into() }
    }

    /// Text that `regex` matches from its first character to its last, in the syntax of the crate `regex`, without
    /// anchors, look-around and lazy repetition.
    pub fn regex(regex: impl Into<String>) -> Self {
        Self { kind: Kind::Regex, text: regex.into() }
    }

    /// Text by a context-free grammar in `llguidance`'s variant of Lark, which begins at the rule `start`. A rule may
    /// name a control token (`<|eot_id|>`), which is then allowed in that place.
    pub fn lark(grammar: impl Into<String>) -> Self {
        Self { kind: Kind::Lark, text: grammar.into() }
    }
}

/// A [`Grammar`] made ready for a model's tokens; see [`Model::grammar`]. Cheap to clone.
#[derive(Clone)]
pub struct Constraint {
    parser: Arc<TokenParser>,
}

impl PartialEq for Constraint {
    /// Whether they come from the same call of [`Model::grammar`].
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.parser, &other.parser)
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint").finish_non_exhaustive()
    }
}

/// Why a text cannot follow a grammar.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// The grammar is wrong, or asks for what is not supported, or is too large.
    #[error("the {kind} was refused: {reason}")]
    Refused {
        /// What it was taken for.
        kind: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// The model's tokens cannot follow any grammar.
    #[error("{model}: {reason}, so its text can follow no grammar")]
    Tokens {
        /// The model.
        model: String,
        /// Why.
        reason: String,
    },
    /// The constraint is of another model.
    #[error("the grammar was made ready for another model's tokens: call Model::grammar of this one")]
    OtherModel,
    /// The text has come to a place from which the grammar cannot be followed within its limits.
    #[error("the grammar cannot be followed further: {0}")]
    Stuck(String),
}

impl Model {
    /// Makes `grammar` ready for this model's tokens, for any number of texts. The first call takes longer, by some
    /// tenths of a second for 128 thousand tokens: it builds a trie of all tokens, which the model keeps.
    ///
    /// # Errors
    /// The grammar is refused, with its place, or the checkpoint has no tokenizer or no token that ends a text.
    pub fn grammar(&self, grammar: &Grammar) -> Result<Constraint, Error> {
        let parser = grammar.parse(self.inner.parsers()?)?;
        Ok(Constraint { parser: Arc::new(parser) })
    }
}

impl Inner {
    /// What makes parsers for this model's tokens.
    fn parsers(&self) -> Result<&ParserFactory, Error> {
        self.tokenizer()?;
        let parsers = self.parsers.get_or_init(|| self.make_parsers());
        let tokens = |reason: &String| GrammarError::Tokens { model: self.name.clone(), reason: reason.clone() };
        Ok(parsers.as_ref().map_err(tokens)?)
    }

    fn make_parsers(&self) -> Result<ParserFactory, String> {
        let tokenizer = self.tokenizer.as_ref().ok_or("it has no tokenizer")?;
        let tokens: TokEnv = Arc::new(Tokens::new(Arc::clone(tokenizer), self.network.config().vocab)?);
        let slices = SlicedBiasComputer::general_slices();
        let mut parsers = ParserFactory::new(&tokens, InferenceCapabilities::default(), &slices)
            .map_err(|error| error.to_string())?;
        *parsers.quiet().limits_mut() = LIMITS;
        Ok(parsers)
    }
}

/// What a grammar may cost: a hostile one is refused, or its text ends with an error. The times are `llguidance`'s own
/// estimates.
const LIMITS: ParserLimits = ParserLimits {
    // An ambiguous grammar has many items in each place.
    max_items_in_row: 2000,
    // Some seconds for the worst regex that was found, 5 ms as a rule.
    initial_lexer_fuel: 250_000,
    // 7 ms for a token, as a rule, and a second for a regex of many repetitions.
    step_lexer_fuel: 100_000,
    // 3 ms for a grammar that branches without end.
    step_max_items: 50_000,
    // 1 to 2 kB each: 100 MB.
    max_lexer_states: 50_000,
    // Some megabytes of JSON.
    max_grammar_size: 500_000,
    precompute_large_lexemes: true,
    // They would hold the whole grammar and text.
    verbose_errors: false,
};

/// The longest schema that is read, and the longest regex or Lark grammar.
const MAX_SCHEMA_BYTES: usize = 1 << 20;
const MAX_BYTES: usize = 1 << 16;

/// The most rules of a Lark grammar: where each names the next, they take time with the cube of their number, half a second here.
const MAX_RULES: usize = 1000;

/// Stack for reading a grammar. Memory is taken as it is used.
const STACK: usize = 64 << 20;

/// Stack for reading a schema, for each of its bytes, and the most: about 8 KiB for each part that is inside of another or named
/// by it, of which none has fewer than nine bytes and `llguidance` reads 50,000. The chains of `hostile_grammars_are_limited` fit,
/// also under AddressSanitizer, where 64 MiB were too few.
const STACK_PER_BYTE: usize = 1 << 10;
const MOST_STACK: usize = 400 << 20;

/// The deepest nesting of brackets that is read: parsers call themselves for each, and a thread's stack is all they have.
const MAX_DEPTH: usize = 100;

impl Grammar {
    fn parse(&self, parsers: &ParserFactory) -> Result<TokenParser, GrammarError> {
        let kind = match self.kind {
            Kind::JsonSchema => "JSON schema",
            Kind::Regex => "regex",
            Kind::Lark => "Lark grammar",
        };
        let refuse = |reason: String| GrammarError::Refused { kind, reason };
        let limit = if self.kind == Kind::JsonSchema { MAX_SCHEMA_BYTES } else { MAX_BYTES };
        if self.text.len() > limit {
            return Err(refuse(format!("it has {} bytes, and {limit} is the limit", self.text.len())));
        }
        let rules = self.text.bytes().filter(|byte| *byte == b':').count();
        if self.kind == Kind::Lark && rules > MAX_RULES {
            return Err(refuse(format!("it has {rules} colons, and as many rules as {MAX_RULES} are the limit")));
        }
        if let Some(place) = too_deep(&self.text) {
            return Err(refuse(format!("its brackets are more than {MAX_DEPTH} deep at byte {place}")));
        }
        let make = || match self.kind {
            Kind::JsonSchema => {
                let schema = serde_json::from_str(&self.text).map_err(|error| format!("it is no JSON: {error}"))?;
                parse_schema(parsers, &schema).map_err(|told| format!("{told}{}", place(parsers, &schema, &told)))
            }
            Kind::Regex => parse(parsers, TopLevelGrammar::from_regex(&self.text)),
            Kind::Lark => parse(parsers, TopLevelGrammar::from_lark(self.text.clone())),
        };
        // Rules that name each other are followed by recursion. WebAssembly has no threads; what is too deep for its
        // stack traps.
        if cfg!(target_family = "wasm") {
            return make().map_err(refuse);
        }
        let stack = match self.kind {
            Kind::JsonSchema => (self.text.len() * STACK_PER_BYTE).clamp(STACK, MOST_STACK),
            Kind::Regex | Kind::Lark => STACK,
        };
        let made = thread::scope(|scope| {
            let maker = thread::Builder::new().stack_size(stack).spawn_scoped(scope, make);
            maker.map(|maker| maker.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        made.unwrap_or_else(|error| Err(format!("no thread could be started to read it: {error}"))).map_err(refuse)
    }
}

fn parse(parsers: &ParserFactory, grammar: TopLevelGrammar) -> Result<TokenParser, String> {
    parsers.create_parser(grammar).map_err(|error| told(&error.to_string()))
}

/// A parser for a schema with the whitespace that its text may have, unless it says so itself: a space behind a comma or a
/// colon, or none. Where a model may begin a line, a small one may begin another, and so on.
fn parse_schema(parsers: &ParserFactory, schema: &Value) -> Result<TokenParser, String> {
    let mut schema = if *schema == Value::Bool(true) { Value::Object(Map::new()) } else { schema.clone() };
    if schema.as_object().is_some_and(|fields| !fields.contains_key("x-guidance")) {
        let separator = |mark| format!("{mark} ?");
        let (item_separator, key_separator) = (separator(","), separator(":"));
        JsonCompileOptions { item_separator, key_separator, whitespace_flexible: false, ..Default::default() }
            .apply_to(&mut schema);
    }
    parse(parsers, TopLevelGrammar::from_json_schema(schema))
}

/// Most parts of a schema that are tried to find the wrong one.
const MAX_TRIES: usize = 256;

/// Where a schema is wrong, which `llguidance` does not say: in the smallest part of which it says the same.
fn place(parsers: &ParserFactory, schema: &Value, told: &str) -> String {
    let (mut here, mut pointer, mut tries) = (schema, String::new(), 0);
    let mut refused = |part: &Value| {
        tries += 1;
        let mut alone = part.clone();
        if let (Some(alone), Some(whole)) = (alone.as_object_mut(), schema.as_object()) {
            let shared = whole.iter().filter(|(name, _)| matches!(name.as_str(), "$defs" | "definitions"));
            shared.for_each(|(name, shared)| _ = alone.entry(name).or_insert_with(|| shared.clone()));
        }
        tries <= MAX_TRIES && parse_schema(parsers, &alone).is_err_and(|error| error == told)
    };
    while let Some((path, part)) = parts(here).into_iter().find(|(_, part)| refused(part)) {
        pointer += &path;
        here = part;
    }
    if pointer.is_empty() { pointer } else { format!(" (at {pointer})") }
}

/// The schemas that a schema consists of, with their paths, to be appended to its own.
fn parts(schema: &Value) -> Vec<(String, &Value)> {
    let mut parts = Vec::new();
    for (name, value) in schema.as_object().into_iter().flatten() {
        let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
        match (name.as_str(), value) {
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(named)) => {
                parts.extend(named.iter().map(|(key, part)| (format!("/{name}/{}", escaped(key)), part)));
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(list)) => {
                parts.extend(list.iter().enumerate().map(|(i, part)| (format!("/{name}/{i}"), part)));
            }
            ("items" | "additionalProperties", part) => parts.push((format!("/{name}"), part)),
            _ => {}
        }
    }
    parts
}

/// Where brackets are nested too deeply, if they are. Ones in strings and comments count too: what matters is that no
/// text gets through whose brackets are deeper.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    text.bytes().position(|byte| {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > MAX_DEPTH
    })
}

/// What `llguidance` said, without its placeholders, and not all of a long line that it quotes.
fn told(error: &str) -> String {
    error.replace("\n<non-verbose/>", "").trim().chars().take(1000).collect()
}

/// A text that follows a constraint.
pub(crate) struct Follower {
    matcher: Matcher,
    /// The tokens that may come next, once they are known: a bit each.
    allowed: Option<Vec<u32>>,
    tokens: TokEnv,
}

impl Constraint {
    /// A follower at the beginning of a text of `model`.
    pub(crate) fn follow(&self, model: &Inner) -> Result<Follower, Error> {
        let parsers = model.parsers()?;
        if !Arc::ptr_eq(parsers.tok_env(), &self.parser.token_env) {
            return Err(GrammarError::OtherModel.into());
        }
        // With a lexer of its own, so that limits are reached at the same token whatever other texts do.
        let matcher = Matcher::new(Ok(self.parser.deep_clone()));
        Ok(Follower { matcher, allowed: None, tokens: Arc::clone(parsers.tok_env()) })
    }
}

impl Follower {
    fn compute(matcher: &mut Matcher) -> Result<Vec<u32>, GrammarError> {
        let allowed = matcher.compute_mask_or_eos().map_err(|error| {
            let reason = told(&error.to_string());
            GrammarError::Stuck(match reason.as_str() {
                "NoExtensionBias" => "no token of the vocabulary may come next".to_owned(),
                _ => reason,
            })
        })?;
        Ok(allowed.into())
    }
}

impl Guide for Follower {
    fn look(&mut self) -> Result<(), Error> {
        if self.allowed.is_none() {
            self.allowed = Some(Self::compute(&mut self.matcher)?);
        }
        Ok(())
    }

    fn allowed(&self) -> &[u32] {
        self.allowed.as_deref().unwrap_or_default()
    }

    fn look_ahead(&mut self, ahead: &mut Vec<u32>) -> Vec<Vec<u32>> {
        let mut masks = Vec::with_capacity(ahead.len());
        // Not by going back: not every grammar lets its parser do that.
        let mut matcher = self.matcher.clone();
        let eos = self.tokens.tok_trie().eos_tokens();
        for &token in &*ahead {
            let allowed = masks.last().map_or(self.allowed(), Vec::as_slice);
            let may_come = allowed.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1);
            if !may_come || eos.contains(&token) || matcher.consume_token(token).is_err() {
                break;
            }
            let Ok(mask) = Self::compute(&mut matcher) else { break };
            masks.push(mask);
        }
        ahead.truncate(masks.len());
        masks
    }

    fn accept(&mut self, token: u32) -> Result<(), Error> {
        self.allowed = None;
        // What follows an end is nobody's business.
        if self.tokens.tok_trie().eos_tokens().contains(&token) {
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(|error| GrammarError::Stuck(told(&error.to_string())).into())
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_counted() {
        let deep = "(".repeat(MAX_DEPTH);
        assert_eq!(too_deep(&deep), None);
        assert_eq!(too_deep(&format!("))){deep}{{")), Some(3 + MAX_DEPTH));
        assert_eq!(too_deep(&"[]".repeat(1000)), None);
    }
}
