//! One message of a conversation.

use serde_json::{Map, Value};

use crate::Error;

/// Who says what: a JSON object with a `role`, mostly a `content`, and whatever else a template reads
/// (`name`, `tool_calls`, `tool_call_id`, `reasoning_content`, …), in the order in which it was given.
///
/// ```
/// use serde_json::json;
/// use tritwise_tokenizer::chat::Message;
///
/// let answer = Message::tool("21 °C").with("name", "weather");
/// assert_eq!((answer.role(), answer.content()), ("tool", Some("21 °C")));
/// let call = json!({"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {}}}]});
/// assert_eq!(Message::from_json(call)?.content(), None);
/// # Ok::<(), tritwise_tokenizer::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Message(Map<String, Value>);

impl Message {
    /// A message of `role`, which is the program's to say and not a stranger's: templates build control tokens of it.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        let fields = [("role", role.into()), ("content", content.into())];
        Self(fields.into_iter().map(|(key, text)| (key.to_owned(), text.into())).collect())
    }

    /// What the model is told about the conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }

    /// What a tool that the model called gave.
    pub fn tool(content: impl Into<String>) -> Self {
        Self::new("tool", content)
    }

    /// The message with `key` set to `value`.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// The message that `value` is.
    ///
    /// # Errors
    /// [`Error::Message`]: `value` is no object, or has no `role` that is a text.
    pub fn from_json(value: Value) -> Result<Self, Error> {
        match value {
            Value::Object(fields) if fields.get("role").is_some_and(Value::is_string) => Ok(Self(fields)),
            other => {
                let mut found = other.to_string();
                if let Some((end, _)) = found.char_indices().nth(100) {
                    found.truncate(end);
                    found.push('…');
                }
                Err(Error::Message(found))
            }
        }
    }

    /// The message as JSON.
    pub fn to_json(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub fn role(&self) -> &str {
        self.0.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// The text, if it is one text and not a list of parts.
    pub fn content(&self) -> Option<&str> {
        self.0.get("content").and_then(Value::as_str)
    }

    /// The field called `key`.
    pub fn field(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// What the template sees: fields that are null are absent, and what the model thought has each of the names that
    /// templates know it by (as in transformers' `apply_chat_template`).
    pub(crate) fn for_template(&self) -> Map<String, Value> {
        const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
        let mut fields: Map<String, Value> = Map::new();
        let present = self.0.iter().filter(|(_, value)| !value.is_null());
        match REASONING.iter().find_map(|key| self.0.get(*key).filter(|value| !value.is_null())) {
            None => fields.extend(present.map(|(key, value)| (key.clone(), value.clone()))),
            Some(reasoning) => {
                fields.insert("thinking".to_owned(), reasoning.clone());
                fields.extend(present.map(|(key, value)| (key.clone(), value.clone())));
                fields.insert("reasoning_content".to_owned(), reasoning.clone());
            }
        }
        fields
    }
}
