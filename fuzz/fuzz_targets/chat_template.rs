//! Any template and any messages, with a zero byte between one and the next: refused, or a text whose borders are in
//! it, as tokens among which are only those control tokens that the template wrote.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tritwise::tokenizer::chat::{ChatTemplate, Ending, Inputs, Message, Origin};
use tritwise::tokenizer::{SpecialTokens, TokenRef, Tokenizer};

fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let end = || TokenRef::Text("<|end|>".to_owned());
        let special = SpecialTokens { bos: Some(end()), eos: vec![end()], ..SpecialTokens::default() };
        Tokenizer::from_json(tritwise_fuzz::TOKENIZER, &special).expect("a sound tokenizer")
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut parts = text.split('\0');
    let source = parts.next().unwrap_or_default();
    let Ok(template) = ChatTemplate::new(Origin::Given("fuzz".to_owned()), source) else { return };
    let roles = ["system", "user", "assistant", "tool"];
    let messages: Vec<Message> = parts
        .enumerate()
        .map(|(i, part)| match serde_json::from_str(part).map(Message::from_json) {
            Ok(Ok(message)) => message,
            _ => Message::new(roles[i % 4], part),
        })
        .collect();
    let tools = messages.first().map(|message| vec![message.to_json()]);
    for (ending, tools) in [(Ending::Prompt, None), (Ending::Open, tools)] {
        let inputs = Inputs { ending, tools, now: Some(0), ..Inputs::default() };
        if let Ok(rendered) = template.render(&messages, &inputs, tokenizer()) {
            assert!(rendered.borders.is_sorted());
            assert!(rendered.borders.iter().all(|&border| rendered.text.is_char_boundary(border)));
            let _ = tokenizer().encode_rendered(&rendered);
        }
    }
});
