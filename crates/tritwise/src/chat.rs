//! A conversation.

use serde_json::Value;
use tritwise_tokenizer::StopStrings;
use tritwise_tokenizer::chat::{ChatTemplate, Ending, Inputs, Message, Origin};

use crate::{Cancel, Draft, Error, Generation, Model, Piece, Sampling, Session, Summary};

/// A conversation with a model: messages, and the session that they are evaluated in.
///
/// ```no_run
/// # fn main() -> Result<(), tritwise::Error> {
/// let model = tritwise::Model::open("model.gguf")?;
/// let mut chat = model.chat()?.system("Be brief.");
/// for piece in chat.say("Why is the sky blue?")? {
///     print!("{}", piece?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// Each turn renders the whole conversation by the model's chat template; what the session has evaluated of
/// it already is not evaluated again. Control tokens that are spelled in messages are text.
#[derive(Debug)]
pub struct Chat {
    model: Model,
    session: Session,
    template: ChatTemplate,
    messages: Vec<Message>,
    inputs: Inputs,
    sampling: Sampling,
}

/// An answer as it is made: an iterator over pieces of text.
///
/// What was released when it ends or is dropped becomes the assistant's message.
#[derive(Debug)]
pub struct Reply<'c> {
    generation: Generation<'c>,
    messages: &'c mut Vec<Message>,
    text: String,
}

impl Model {
    /// An empty conversation, with the chat template of the checkpoint.
    ///
    /// # Errors
    /// The checkpoint has no tokenizer, no chat template, or one that is no Jinja; which one it was trained with is not
    /// guessed, but can be named: [`ChatTemplate::built_in`] and [`chat_with`](Self::chat_with).
    pub fn chat(&self) -> Result<Chat, Error> {
        self.chat_with(self.chat_template(false)?)
    }

    /// An empty conversation, with `template`.
    ///
    /// # Errors
    /// The checkpoint has no tokenizer.
    pub fn chat_with(&self, template: ChatTemplate) -> Result<Chat, Error> {
        self.tokenizer()?;
        Ok(Chat {
            model: self.clone(),
            session: self.session(),
            template,
            messages: Vec::new(),
            inputs: Inputs::default(),
            sampling: Sampling::default(),
        })
    }

    fn chat_template(&self, tools: bool) -> Result<ChatTemplate, Error> {
        let architecture = &self.config().architecture;
        Ok(ChatTemplate::of_checkpoint(self.chat_templates(), architecture, self.tokenizer()?, tools)?)
    }
}

impl Chat {
    /// Tells the model what the conversation is about, in place of what it was told before.
    pub fn system(mut self, text: impl Into<String>) -> Self {
        self.set_system(text);
        self
    }

    /// As [`system`](Self::system), in the middle of a conversation; the whole of it is evaluated again.
    pub fn set_system(&mut self, text: impl Into<String>) {
        let first = self.messages.iter().take_while(|message| message.role() == "system").count();
        self.messages.splice(..first, [Message::system(text)]);
    }

    /// How answers are chosen, and when they end.
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// As [`sampling`](Self::sampling), from the next answer on.
    pub fn set_sampling(&mut self, sampling: Sampling) {
        self.sampling = sampling;
    }

    /// Tells the model which functions it may call, each as a JSON schema. A checkpoint's template called `tool_use`
    /// takes the place of its default one.
    ///
    /// # Errors
    /// That template is no Jinja.
    pub fn tools(mut self, tools: Vec<Value>) -> Result<Self, Error> {
        if matches!(self.template.origin(), Origin::File(_)) {
            self.template = self.model.chat_template(true)?;
        }
        self.inputs.tools = Some(tools);
        Ok(self)
    }

    /// What the template is given beside the messages: documents, its own variables, the time. How a
    /// rendering ends is the conversation's to say.
    pub fn inputs_mut(&mut self) -> &mut Inputs {
        &mut self.inputs
    }

    /// Says `text` and starts the answer. Dropping the stream ends it; what came until then is the answer.
    ///
    /// # Errors
    /// The template refuses the conversation, or it does not fit the context; it is then as it was before.
    pub fn say(&mut self, text: impl Into<String>) -> Result<Reply<'_>, Error> {
        self.say_until(text, &Cancel::new())
    }

    /// Like [`say`](Self::say), ending about a token after `cancel` is set, from whatever thread.
    ///
    /// # Errors
    /// As for [`say`](Self::say).
    pub fn say_until(&mut self, text: impl Into<String>, cancel: &Cancel) -> Result<Reply<'_>, Error> {
        self.messages.push(Message::user(text));
        if let Err(error) = self.evaluate(Ending::Prompt) {
            self.messages.pop();
            return Err(error);
        }
        self.start(cancel, String::new())
    }

    /// Starts the answer to what was said last, as after [`push`](Self::push).
    ///
    /// # Errors
    /// As for [`say`](Self::say).
    pub fn answer(&mut self, cancel: &Cancel) -> Result<Reply<'_>, Error> {
        self.evaluate(Ending::Prompt)?;
        self.start(cancel, String::new())
    }

    /// Goes on with the last message, which is the model's: one that was cut off, or one that was begun for it. The stream
    /// gives what is new, and the message becomes longer by that.
    ///
    /// # Errors
    /// The last message is not the assistant's, or has no text; else as for [`say`](Self::say).
    pub fn continue_answer(&mut self, cancel: &Cancel) -> Result<Reply<'_>, Error> {
        let last = self.messages.last().filter(|message| message.role() == "assistant");
        let Some(text) = last.and_then(Message::content).map(str::to_owned) else {
            return Err(tritwise_tokenizer::Error::NothingToContinue.into());
        };
        self.evaluate(Ending::Open)?;
        self.start(cancel, text)
    }

    /// Adds a message of any role without answering it: an earlier conversation, a tool's result, the start of an answer.
    pub fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// What was said so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Replaces the whole conversation, as by one that was stored.
    pub fn set_messages(&mut self, messages: Vec<Message>) {
        self.messages = messages;
    }

    /// Takes back what the user said last, and all after it; whether there was something.
    pub fn undo(&mut self) -> bool {
        let last = self.messages.iter().rposition(|message| message.role() == "user");
        self.messages.truncate(last.unwrap_or(self.messages.len()));
        last.is_some()
    }

    /// Forgets all but what the system was told first.
    pub fn reset(&mut self) {
        let system = self.messages.iter().take_while(|message| message.role() == "system").count();
        self.messages.truncate(system);
    }

    /// The template in use; [`origin`](ChatTemplate::origin) says where it is from.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The session: how much of its context is used.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Makes the conversation the session's text.
    fn evaluate(&mut self, ending: Ending) -> Result<(), Error> {
        // What would fail once there is an answer to take back fails here.
        self.sampling.sampler(self.session.model(), &[])?;
        StopStrings::new(&self.sampling.stops)?;
        self.inputs.ending = ending;
        let tokenizer = self.model.tokenizer()?;
        let rendered = self.template.render(&self.messages, &self.inputs, tokenizer)?;
        let tokens = tokenizer.encode_rendered(&rendered)?;
        self.session.set_tokens(&tokens)?;
        Ok(())
    }

    /// Starts a generation whose text is appended to `begun`.
    fn start(&mut self, cancel: &Cancel, begun: String) -> Result<Reply<'_>, Error> {
        let generation = self.session.generate_until(&self.sampling, cancel)?;
        // What goes on takes its own place.
        if self.inputs.ending == Ending::Open {
            self.messages.pop();
        }
        Ok(Reply { generation, messages: &mut self.messages, text: begun })
    }
}

impl Reply<'_> {
    /// As [`Generation::drafting`].
    pub fn drafting(mut self, draft: impl Draft + 'static) -> Self {
        self.generation.set_draft(Box::new(draft));
        self
    }

    /// What has been done so far.
    pub fn summary(&self) -> &Summary {
        self.generation.summary()
    }

    /// The whole message so far.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Iterator for Reply<'_> {
    type Item = Result<Piece, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let piece = self.generation.next();
        if let Some(Ok(piece)) = &piece {
            self.text.push_str(&piece.text);
        }
        piece
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        self.messages.push(Message::assistant(std::mem::take(&mut self.text)));
    }
}
