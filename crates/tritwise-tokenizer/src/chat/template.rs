//! A template, compiled, and a conversation rendered by it.

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, Value};
use serde_json::{Map, Value as Json};

use super::borders::{Care, Marker, absent_mark, unbroken, unmark};
use super::{Message, clock, constants, json, python};
use crate::limits::{
    FUEL_PER_MESSAGE, MAX_RENDERED_BYTES, MAX_TEMPLATE_BYTES, STACK_PER_BYTE, STACK_PER_FUEL, TEMPLATE_DEPTH,
    TEMPLATE_FUEL,
};
use crate::{Error, Tokenizer};

/// Where a template is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The checkpoint, under this name: `default`, `tool_use`, …
    File(String),
    /// This crate, under this name: see [`BUILT_IN`](super::BUILT_IN).
    BuiltIn(&'static str),
    /// The program, under this name.
    Given(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) => write!(f, "{name:?} of the file"),
            Self::BuiltIn(name) => write!(f, "built-in {name:?}"),
            Self::Given(name) => write!(f, "{name:?}"),
        }
    }
}

/// A Jinja template that turns a conversation into the text that a model was trained on, rendered as
/// `apply_chat_template` of Hugging Face's `transformers` renders it.
#[derive(Clone)]
pub struct ChatTemplate {
    origin: Origin,
    source: String,
    environment: Environment<'static>,
}

/// How a rendered conversation ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// With the last message.
    Closed,
    /// With the start of the model's answer.
    #[default]
    Prompt,
    /// Inside the last message, which the model continues.
    Open,
}

/// What a template is given beside the messages.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// How the text ends.
    pub ending: Ending,
    /// The functions that the model may call, each as a JSON schema.
    pub tools: Option<Vec<Json>>,
    /// Texts to answer from, mostly with `title` and `text`.
    pub documents: Option<Vec<Json>>,
    /// Further variables of the template, such as `enable_thinking`.
    pub variables: Map<String, Json>,
    /// What `strftime_now` tells, in seconds from the start of 1970 by the clock to be shown; by default UTC's.
    /// Without it, a template that asks fails on `wasm32-unknown-unknown`, which has no clock.
    pub now: Option<i64>,
}

/// A conversation as a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Bytes of the text, in rising order, at which no control token may be cut: they are inside
    /// what messages have of their names.
    pub borders: Vec<usize>,
}

impl ChatTemplate {
    /// Compiles `source`.
    ///
    /// # Errors
    /// [`Error::Template`]: it is no Jinja, uses what `transformers` does not have, or would keep the compiler busy:
    /// hundreds of operators in a tag, or a list that is written down and multiplied many times.
    pub fn new(origin: Origin, source: &str) -> Result<Self, Error> {
        let given = source;
        if given.len() > MAX_TEMPLATE_BYTES {
            let what = "the length of a chat template";
            return Err(Error::Limit { what, found: given.len(), limit: MAX_TEMPLATE_BYTES });
        }
        let source = without_generation(given);
        constants::check(&source).map_err(|(line, what)| {
            let message = format!("{what}: it is refused before it is compiled");
            Error::Template { template: origin.to_string(), line, message }
        })?;
        let compile = || {
            let mut environment = environment()?;
            environment.add_template_owned(NAME, source)?;
            Ok(environment)
        };
        let stack = given.len() * STACK_PER_BYTE + (1 << 20);
        let environment = apart(&origin, stack, || compile().map_err(|error| template_error(&origin, &error)))?;
        Ok(Self { origin, source: given.to_owned(), environment })
    }

    /// Where it is from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The conversation of `messages` as a text. `tokenizer` says what the control tokens are, and how the first
    /// and the last one of a text are called (`bos_token`, `eos_token`).
    ///
    /// # Errors
    /// * [`Error::Template`]: the template refuses the conversation (`raise_exception`), fails, or does not end.
    /// * [`Error::TakenApart`]: it changes names of control tokens that a message has.
    /// * [`Error::NothingToContinue`]: `ending` is [`Ending::Open`] and the template drops the last message's text.
    pub fn render(&self, messages: &[Message], inputs: &Inputs, tokenizer: &Tokenizer) -> Result<Rendered, Error> {
        let control: Vec<String> = tokenizer.control_names().map(str::to_owned).collect();
        let mut context = Context::new(messages, inputs, tokenizer);
        let text = self.render_context(&context, inputs)?;
        let used = context.texts().into_iter().chain([text.as_str(), self.source.as_str()]);
        let mark = absent_mark(used).ok_or(Error::NoMark)?;
        // What is to be continued was found; it may have marks from here on.
        context.open = context.open.map(|_| Some(String::new()));
        let hidden = |text: &str| tokenizer.has_hidden_control(text);
        let with_marks = |care| {
            let mut context = context.clone();
            let mut marker = Marker::new(&control, mark, care, &hidden);
            context.mark(&mut marker);
            let marked = (marker.marked > 0).then(|| self.render_context(&context, inputs));
            marked.transpose()
        };
        let Some(marked) = with_marks(Care::Parts)? else {
            return Ok(Rendered { text, borders: Vec::new() });
        };
        let (unmarked, borders) = unmark(&marked, mark);
        if unmarked == text {
            return self.check_short(Rendered { text, borders }, &control);
        }
        // The template looks at the very characters, or counts them. Whole names alone are marked then, provided that
        // this makes no other control token.
        let careful = unbroken(&marked, &control);
        let marked = with_marks(Care::Names)?.unwrap_or_else(|| text.clone());
        let (unmarked, borders) = unmark(&marked, mark);
        if unmarked == text && unbroken(&marked, &control) == careful {
            return self.check_short(Rendered { text, borders }, &control);
        }
        let spelled = control.iter().find(|name| text.contains(name.as_str())).cloned().unwrap_or_default();
        Err(Error::TakenApart { template: self.origin.to_string(), token: spelled })
    }

    /// Refuses names of a single character in messages: no border fits inside.
    fn check_short(&self, rendered: Rendered, control: &[String]) -> Result<Rendered, Error> {
        let Rendered { text, borders } = &rendered;
        let ends_at = |border: &usize, name: &str| text.get(..*border).is_some_and(|text| text.ends_with(name));
        let short = control.iter().filter(|name| name.chars().count() == 1);
        match short.into_iter().find(|name| borders.iter().any(|border| ends_at(border, name))) {
            None => Ok(rendered),
            Some(name) => Err(Error::TakenApart { template: self.origin.to_string(), token: name.clone() }),
        }
    }

    /// The text that the template makes of `context`.
    fn render_context(&self, context: &Context, inputs: &Inputs) -> Result<String, Error> {
        let bytes: usize = context.texts().iter().map(|text| text.len()).sum();
        let messages = context.variables.get("messages").and_then(Json::as_array).map_or(0, Vec::len);
        let fuel = TEMPLATE_FUEL.saturating_add(messages as u64 * FUEL_PER_MESSAGE).saturating_add(bytes as u64 / 16);
        let stack = usize::try_from(fuel).unwrap_or(usize::MAX).saturating_mul(STACK_PER_FUEL);
        let text = apart(&self.origin, stack, || self.run(context, inputs, fuel))?;
        if text.len() > MAX_RENDERED_BYTES {
            let what = "the length of a rendered conversation";
            return Err(Error::Limit { what, found: text.len(), limit: MAX_RENDERED_BYTES });
        }
        match &context.open {
            None => Ok(text),
            Some(last) => cut_open(text, last, &self.source),
        }
    }

    fn run(&self, context: &Context, inputs: &Inputs, fuel: u64) -> Result<String, Error> {
        let mut environment = self.environment.clone();
        let now = inputs.now.or_else(clock::utc_now);
        environment.add_function("strftime_now", move |format: &str| -> Result<String, minijinja::Error> {
            let why = "there is no clock on this platform; give the time (Inputs::now)";
            let now = now.ok_or_else(|| minijinja::Error::new(ErrorKind::InvalidOperation, why))?;
            Ok(clock::strftime(format, now))
        });
        environment.set_fuel(Some(fuel));
        let template = environment.get_template(NAME);
        let text = template.and_then(|template| template.render(Value::from(Serde(&context.variables))));
        text.map_err(|error| template_error(&self.origin, &error))
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("origin", &self.origin)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// What the template sees.
#[derive(Clone)]
struct Context {
    variables: Map<String, Json>,
    /// The text to be continued, if one is.
    open: Option<Option<String>>,
}

impl Context {
    fn new(messages: &[Message], inputs: &Inputs, tokenizer: &Tokenizer) -> Self {
        let mut variables = Map::new();
        for (name, id) in [("bos_token", tokenizer.bos()), ("eos_token", tokenizer.eos())] {
            if let Some(text) = id.and_then(|id| tokenizer.token_text(id)) {
                variables.insert(name.to_owned(), text.into());
            }
        }
        variables.extend(inputs.variables.clone());
        let mut messages: Vec<Json> = messages.iter().map(|message| message.for_template().into()).collect();
        let open = (inputs.ending == Ending::Open).then(|| messages.last_mut().and_then(tag));
        variables.insert("messages".to_owned(), messages.into());
        variables.insert("tools".to_owned(), inputs.tools.clone().into());
        variables.insert("documents".to_owned(), inputs.documents.clone().into());
        variables.insert("add_generation_prompt".to_owned(), (inputs.ending == Ending::Prompt).into());
        Self { variables, open }
    }

    /// Puts marks into all that others wrote.
    fn mark(&mut self, marker: &mut Marker<'_>) {
        for (name, value) in self.variables.iter_mut() {
            match (name.as_str(), value) {
                ("bos_token" | "eos_token", _) => {}
                ("messages", Json::Array(messages)) => {
                    messages.iter_mut().filter_map(Json::as_object_mut).for_each(|message| marker.message(message));
                }
                (_, value) => marker.field(value),
            }
        }
    }

    /// Every text in it, keys too.
    fn texts(&self) -> Vec<&str> {
        fn collect<'a>(value: &'a Json, texts: &mut Vec<&'a str>) {
            match value {
                Json::String(text) => texts.push(text),
                Json::Array(items) => items.iter().for_each(|item| collect(item, texts)),
                Json::Object(fields) => {
                    for (key, value) in fields {
                        texts.push(key);
                        collect(value, texts);
                    }
                }
                Json::Null | Json::Bool(_) | Json::Number(_) => {}
            }
        }
        let mut texts = Vec::new();
        self.variables.values().for_each(|value| collect(value, &mut texts));
        texts
    }
}

/// What `transformers` appends to a text that is to be continued, to find its end in what the template makes of it.
const OPEN_TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// Tags the end of a message's text; returns the text, if there is one.
fn tag(message: &mut Json) -> Option<String> {
    let text = match message.get_mut("content")? {
        Json::String(text) => text,
        Json::Array(parts) => match parts.iter_mut().rev().find_map(|part| part.get_mut("text"))? {
            Json::String(text) => text,
            _ => return None,
        },
        _ => return None,
    };
    let original = text.clone();
    text.push_str(OPEN_TAG);
    Some(original)
}

/// The rendered text up to the tag; trimmed if the template trimmed the message.
fn cut_open(mut text: String, last: &Option<String>, source: &str) -> Result<String, Error> {
    let shown = |last: &&String| source.contains("content") && text.contains(python::strip_spaces(last));
    last.as_ref().filter(shown).ok_or(Error::NothingToContinue)?;
    let at = text.rfind(OPEN_TAG.trim_end()).ok_or(Error::NothingToContinue)?;
    if !text.split_off(at).starts_with(OPEN_TAG) {
        let len = python::trim_end(&text).len();
        text.truncate(len);
    }
    Ok(text)
}

/// Runs minijinja in a thread with `stack` bytes of stack: a hostile template nests expressions as deeply as it is long,
/// and lists as deeply as its fuel lasts, and reading, comparing, printing and dropping them takes stack.
///
/// WebAssembly has no threads. There it runs on the caller's stack, whose end traps: the program ends, but no memory is overwritten.
fn apart<T: Send>(origin: &Origin, stack: usize, run: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    if cfg!(target_family = "wasm") {
        return run();
    }
    let failed = |message: String| Error::Template { template: origin.to_string(), line: 0, message };
    std::thread::scope(|scope| {
        let running = std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, run);
        let running = running.map_err(|error| failed(format!("no thread to run it in: {error}")))?;
        running.join().map_err(|_| failed("minijinja panicked on it".to_owned()))?
    })
}

/// Jinja as `transformers` sets it up.
fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(python::method);
    environment.set_recursion_limit(TEMPLATE_DEPTH);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("trim", python::trim);
    environment.add_filter("e", python::escape);
    environment.add_filter("escape", python::escape);
    environment.add_filter("string", python::string);
    // Not Jinja's; they print values however large.
    environment.remove_filter("pprint");
    environment.remove_global("debug");
    environment.add_filter("default", python::default);
    environment.add_filter("d", python::default);
    environment.add_test("sequence", python::is_sequence);
    environment.add_function("raise_exception", |message: Value| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message.to_string()).with_source(Raised))
    });
    environment.set_formatter(|out, state, value| match f64::try_from(value.clone()) {
        Ok(number) if value.is_number() && !value.is_integer() && number.is_finite() => {
            out.write_str(&json::float(number)).map_err(minijinja::Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    });
    Ok(environment)
}

/// The template's name inside its environment.
const NAME: &str = "chat";

/// Marks an error that the template raised itself.
#[derive(Debug)]
struct Raised;

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("raised by the template")
    }
}

impl std::error::Error for Raised {}

/// `{% generation %}`, with which training tools find what the model said, changes no text: a block with a scope.
fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, block) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = block.find("%}") else {
            rest = block;
            break;
        };
        let (block, after) = block.split_at(end + 2);
        match block.trim_start_matches("{%").trim_end_matches("%}").trim_matches(['-', '+']).trim() {
            "generation" => out.push_str(&block.replace("generation", "with")),
            "endgeneration" => out.push_str(&block.replace("endgeneration", "endwith")),
            _ => out.push_str(block),
        }
        rest = after;
    }
    out + rest
}

fn template_error(origin: &Origin, error: &minijinja::Error) -> Error {
    let raised = std::error::Error::source(error).is_some_and(|source| source.is::<Raised>());
    let detail = error.detail().map(str::to_owned).unwrap_or_default();
    let message = match error.kind() {
        _ if raised => detail,
        ErrorKind::OutOfFuel => "takes too long, or makes too much: it may not end".to_owned(),
        kind if detail.is_empty() => kind.to_string(),
        kind => format!("{kind}: {detail}"),
    };
    Error::Template { template: origin.to_string(), line: error.line().unwrap_or(0), message }
}

#[cfg(test)]
mod tests {
    use super::without_generation;

    #[test]
    fn generation_blocks_are_scopes() {
        let source = "a{% generation %}b{%- endgeneration -%}c{%+ generation +%}{% if generation %}{% open";
        let expected = "a{% with %}b{%- endwith -%}c{%+ with +%}{% if generation %}{% open";
        assert_eq!(without_generation(source), expected);
    }
}
