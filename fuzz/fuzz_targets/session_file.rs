//! A saved session with any changes, under a right checksum: refused with the session as it was, or a session that
//! goes on.
#![no_main]

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use tritwise::{KvType, Model};

#[derive(Debug, Arbitrary)]
struct Input {
    kv: u8,
    /// Which bytes are given others.
    changes: Vec<(u16, u8)>,
    cut: Option<u16>,
    tail: Vec<u8>,
    /// Whether the checksum is made right again: without, little is read.
    sum: bool,
}

const KV: [KvType; 3] = [KvType::F16, KvType::F32, KvType::Int8];

/// The tiny model, and a session of it in each type.
fn sound() -> &'static (Model, Vec<Vec<u8>>) {
    static SOUND: OnceLock<(Model, Vec<Vec<u8>>)> = OnceLock::new();
    SOUND.get_or_init(|| {
        let model = Model::builder().threads(1).context(12).open(tritwise_fuzz::folder(&[])).expect("a sound folder");
        let save = |kv| {
            let mut session = model.session_with(kv);
            session.push_tokens(&[3, 1, 4, 1, 5]).expect("there is room");
            session.logits().expect("there is a text");
            session.push_tokens(&[9]).expect("there is room");
            let mut file = Vec::new();
            session.save_to(&mut file).expect("memory takes it");
            file
        };
        let files = KV.into_iter().map(save).collect();
        (model, files)
    })
}

fuzz_target!(|input: Input| {
    let (model, files) = sound();
    let kind = usize::from(input.kv) % 3;
    let mut file = files[kind].clone();
    file.truncate(file.len() - 32);
    for (at, byte) in &input.changes {
        let at = usize::from(*at) % file.len();
        file[at] = *byte;
    }
    file.truncate(input.cut.map_or(usize::MAX, usize::from));
    file.extend(&input.tail);
    if input.sum {
        let sum = Sha256::digest(&file);
        file.extend(sum);
    }
    let mut session = model.session_with(KV[kind]);
    session.push_tokens(&[7, 8]).expect("there is room");
    match session.restore_from(&file[..]) {
        Err(_) => assert_eq!(session.tokens(), [7, 8]),
        Ok(()) => {
            let mut again = Vec::new();
            session.save_to(&mut again).expect("memory takes it");
            assert!(file.starts_with(&again), "what was read is what is written");
            if !session.tokens().is_empty() {
                tritwise_fuzz::check(&mut session);
            }
        }
    }
});
