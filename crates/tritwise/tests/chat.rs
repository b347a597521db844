//! Conversations: what is said, answered, taken back, and what of it is evaluated.

use std::path::{Path, PathBuf};

use tritwise::tokenizer::Error as TextError;
use tritwise::tokenizer::chat::Origin;
use tritwise::{Cancel, Chat, ChatTemplate, Error, Message, Model, Sampling, StopReason};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama-bitlinear-divide")
}

fn model(context: usize) -> Model {
    Model::builder().threads(1).context(context).open(fixture()).unwrap_or_else(|e| panic!("{e}"))
}

/// In the characters that the fixture's vocabulary has.
const TEMPLATE: &str =
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}/{% endfor %}{% if add_generation_prompt %}a:{% endif %}";

fn chat(context: usize) -> Chat {
    let template = ChatTemplate::new(Origin::Given("test".into()), TEMPLATE).unwrap();
    model(context).chat_with(template).unwrap().sampling(Sampling::greedy().max_tokens(6))
}

fn say(chat: &mut Chat, text: &str) -> String {
    chat.say(text).unwrap().map(|piece| piece.unwrap().text).collect()
}

fn roles(chat: &Chat) -> Vec<(&str, &str)> {
    chat.messages().iter().map(|message| (message.role(), message.content().unwrap())).collect()
}

#[test]
fn answers_are_those_to_the_whole_conversation() {
    let mut chat = chat(256).system("S");
    let first = say(&mut chat, "one");
    let second = say(&mut chat, "two");
    assert_eq!(
        roles(&chat),
        [("system", "S"), ("user", "one"), ("assistant", &first), ("user", "two"), ("assistant", &second)]
    );

    // The same text, evaluated at once by a session.
    let model = model(256);
    let mut session = model.session();
    session.push(&format!("s:S/u:one/a:{first}/u:two/a:")).unwrap();
    let sampling = Sampling::greedy().max_tokens(6);
    let expected: String = session.generate(&sampling).unwrap().map(|piece| piece.unwrap().text).collect();
    assert_eq!(second, expected);
}

#[test]
fn what_is_evaluated_stays_so() {
    let mut chat = chat(256).system("A long system message, of which every turn would be tired");
    say(&mut chat, "one");
    let before = chat.session().tokens().len();
    let mut reply = chat.say("two").unwrap();
    reply.next().unwrap().unwrap();
    let evaluated = reply.summary().prompt_tokens;
    drop(reply);
    assert!(before > 60 && evaluated < 20, "{evaluated} of {before} again");
}

#[test]
fn a_dropped_answer_is_what_was_released_and_can_be_continued() {
    let mut whole = chat(256);
    let expected = say(&mut whole, "one");

    let mut chat = chat(256);
    let mut reply = chat.say("one").unwrap();
    let start = reply.next().unwrap().unwrap().text + &reply.next().unwrap().unwrap().text;
    assert_eq!(reply.text(), start);
    drop(reply);
    assert_eq!(roles(&chat), [("user", "one"), ("assistant", start.as_str())]);
    assert!(start.len() < expected.len());

    chat.set_sampling(Sampling::greedy().max_tokens(4));
    let rest: String = chat.continue_answer(&Cancel::new()).unwrap().map(|piece| piece.unwrap().text).collect();
    assert_eq!(start.clone() + &rest, expected);
    assert_eq!(roles(&chat), [("user", "one"), ("assistant", expected.as_str())]);

    assert!(chat.undo() && !chat.undo());
    let nothing = chat.continue_answer(&Cancel::new()).map(|_| ()).unwrap_err();
    assert!(matches!(nothing, Error::Tokenizer(TextError::NothingToContinue)), "{nothing}");
}

#[test]
fn a_stop_string_is_not_part_of_the_answer() {
    let mut chat = chat(256);
    let whole = say(&mut chat, "one");
    let stop: String = whole.chars().skip(3).take(1).collect();
    chat.reset();
    chat.set_sampling(Sampling::greedy().max_tokens(6).stop(&stop));
    let mut reply = chat.say("one").unwrap();
    assert!(reply.by_ref().all(|piece| piece.is_ok()));
    assert_eq!(reply.summary().stop_reason, Some(StopReason::Stop(stop.clone())));
    drop(reply);
    assert_eq!(chat.messages()[1].content(), whole.split(&stop).next());
}

#[test]
fn turns_are_taken_back_and_added() {
    let mut chat = chat(256).system("S").system("T");
    say(&mut chat, "one");
    say(&mut chat, "two");
    assert!(chat.undo());
    assert_eq!(chat.messages().len(), 3);
    chat.push(Message::user("tool please"));
    chat.push(Message::tool("21"));
    let answer: String = chat.answer(&Cancel::new()).unwrap().map(|piece| piece.unwrap().text).collect();
    assert_eq!(chat.messages().last().unwrap().content(), Some(answer.as_str()));
    chat.set_system("U");
    chat.reset();
    assert_eq!(roles(&chat), [("system", "U")]);
}

#[test]
fn a_cancelled_answer_is_a_message_too() {
    let mut chat = chat(256);
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(chat.say_until("one", &cancel).unwrap().next().is_none());
    assert_eq!(roles(&chat), [("user", "one"), ("assistant", "")]);
}

#[test]
fn what_does_not_fit_or_is_refused_leaves_the_conversation_as_it_was() {
    let mut chat = chat(64);
    let first = say(&mut chat, "one");
    let tokens = chat.session().tokens().to_vec();
    let full = chat.say("x".repeat(80)).map(|_| ()).unwrap_err();
    assert!(matches!(full, Error::ContextFull { .. }), "{full}");
    assert_eq!(roles(&chat), [("user", "one"), ("assistant", first.as_str())]);
    assert_eq!(chat.session().tokens(), tokens);

    chat.set_sampling(Sampling::default().temperature(-1.0));
    assert!(chat.say("two").is_err());
    chat.set_sampling(Sampling::default().stop(""));
    assert!(chat.say("two").is_err());
    assert_eq!(roles(&chat), [("user", "one"), ("assistant", first.as_str())]);
    chat.set_messages(vec![Message::user("three")]);
    assert_eq!(roles(&chat), [("user", "three")]);

    let strict = ChatTemplate::new(Origin::Given("strict".into()), "{{ raise_exception('not now') }}").unwrap();
    let mut chat = model(64).chat_with(strict).unwrap();
    let refused = chat.say("one").map(|_| ()).unwrap_err().to_string();
    assert_eq!(refused, "chat template \"strict\", line 1: not now");
    assert!(chat.messages().is_empty());
}

#[test]
fn a_checkpoint_without_a_template_is_not_talked_to_by_guess() {
    let error = model(64).chat().map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Tokenizer(TextError::NoTemplate { .. })), "{error}");
}

#[test]
fn templates_of_the_checkpoint_are_used_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(fixture()).unwrap() {
        let path = file.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    std::fs::write(folder.path().join("chat_template.jinja"), TEMPLATE).unwrap();
    let named = folder.path().join("additional_chat_templates");
    std::fs::create_dir(&named).unwrap();
    std::fs::write(named.join("tool_use.jinja"), "{{ tools | length }}").unwrap();
    let model = Model::builder().threads(1).open(folder.path()).unwrap();
    let chat = model.chat().unwrap();
    assert_eq!(chat.template().origin(), &Origin::File("default".into()));
    let chat = chat.tools(vec![serde_json::json!({"name": "f"})]).unwrap();
    assert_eq!(chat.template().origin(), &Origin::File("tool_use".into()));
}
