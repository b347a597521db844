//! What a session has computed already gives the bits of a fresh run: after it was extended, cut, forked, shifted, or saved.

mod support;

use std::path::PathBuf;

use support::{bits, bundled, fixture, fresh, open, tokens};
use tritwise::kernels::arch;
use tritwise::loader::{self, Conversion};
use tritwise::tensor::{Checkpoint, TensorId, TernaryEncoding};
use tritwise::{Error, HeadMode, KvType, Model, Overflow, RestoreError, Sampling, Session};

const KV: [KvType; 3] = [KvType::F16, KvType::F32, KvType::Int8];

/// A small random model and the trained one, with a context beyond one attention chunk.
fn models() -> [Model; 2] {
    [fixture(), bundled()].map(|path| open(Model::builder().threads(2).context(400), &path))
}

#[test]
fn a_changed_text_costs_the_difference_and_has_the_same_logits() {
    for model in models() {
        for kv in KV {
            let mut session = model.session_with(kv);
            let mut text = tokens(&model, 300);
            assert_eq!(session.set_tokens(&text).unwrap(), 0);
            assert_eq!(bits(&mut session), fresh(&model, &session, &text));
            text.extend([5, 6, 7]);
            assert_eq!(session.set_tokens(&text).unwrap(), 300);
            assert_eq!(bits(&mut session), fresh(&model, &session, &text));
            text[200] = (text[200] + 1) % 64;
            assert_eq!(session.set_tokens(&text).unwrap(), 200);
            assert_eq!(bits(&mut session), fresh(&model, &session, &text));
            session.truncate(120);
            assert_eq!(bits(&mut session), fresh(&model, &session, &text[..120]));
            assert_eq!(session.set_tokens(&text[..0]).unwrap(), 0);
            assert!(matches!(session.logits(), Err(Error::EmptyPrompt)));
        }
    }
}

#[test]
fn a_text_is_set_as_it_is_pushed() {
    let [_, model] = models();
    let (mut set, mut pushed) = (model.session(), model.session());
    set.push("The old king had a daughter").unwrap();
    set.logits().unwrap();
    let before = set.tokens().len();
    let kept = set.set("The old king had a golden apple").unwrap();
    assert!(kept > 2 && kept < before, "{kept} of {before}");
    pushed.push("The old king had a golden apple").unwrap();
    assert_eq!(set.tokens(), pushed.tokens());
    assert_eq!(bits(&mut set), bits(&mut pushed));
}

#[test]
fn what_cannot_be_set_leaves_the_text_as_it_was() {
    let [model, _] = models();
    let mut session = model.session();
    session.push_tokens(&[1, 2, 3]).unwrap();
    assert!(matches!(session.set_tokens(&[1; 401]), Err(Error::ContextFull { adding: 401, capacity: 400, .. })));
    assert!(session.set_tokens(&[1, model.config().vocab as u32]).is_err());
    assert_eq!(session.tokens(), [1, 2, 3]);
}

#[test]
fn a_fork_has_the_logits_of_a_fresh_run_and_so_has_what_it_was_forked_from() {
    for model in models() {
        for kv in KV {
            let text = tokens(&model, 280);
            let mut session = model.session_with(kv);
            session.push_tokens(&text).unwrap();
            session.logits().unwrap();
            let mut fork = session.fork();
            assert_eq!(fork.kv_type(), kv);
            fork.push_tokens(&[9, 8, 7]).unwrap();
            session.push_tokens(&[1]).unwrap();
            assert_eq!(bits(&mut fork), fresh(&model, &fork, &[&text[..], &[9, 8, 7]].concat()));
            assert_eq!(bits(&mut session), fresh(&model, &session, &[&text[..], &[1]].concat()));
        }
    }
}

#[test]
fn a_shifted_text_has_the_logits_of_the_tokens_that_were_kept() {
    for model in models() {
        for kv in KV {
            let text = tokens(&model, 400);
            let mut session = model.session_with(kv);
            session.push_tokens(&text).unwrap();
            session.logits().unwrap();
            assert!(matches!(session.push_tokens(&[1]), Err(Error::ContextFull { len: 400, adding: 1, .. })));
            session.on_overflow(Overflow::Shift { keep: 30 });
            session.push_tokens(&[1]).unwrap();
            // Of 370 places behind the kept ones, half are filled with the most recent.
            let kept = [&text[..30], &text[400 - 185..], &[1]].concat();
            assert_eq!(session.tokens(), kept);
            assert_eq!(bits(&mut session), fresh(&model, &session, &kept));
            assert_eq!(session.shifts(), 1);
        }
    }
}

#[test]
fn a_text_that_needs_more_room_keeps_less_of_the_old_one() {
    let [model, _] = models();
    let text = tokens(&model, 390);
    let mut session = model.session();
    session.on_overflow(Overflow::Shift { keep: 10 });
    session.push_tokens(&text).unwrap();
    session.push_tokens(&[2; 380]).unwrap();
    assert_eq!(session.tokens(), [&text[..10], &text[380..], &[2; 380]].concat());
    session.push_tokens(&[3; 300]).unwrap();
    assert_eq!(session.tokens(), [&text[..10], &[2; 90], &[3; 300]].concat());
    let before = session.tokens().to_vec();
    assert!(matches!(session.push_tokens(&[3; 391]), Err(Error::ContextFull { .. })), "more than is left to give");
    for keep in [399, 400, usize::MAX] {
        session.on_overflow(Overflow::Shift { keep });
        assert!(matches!(session.push_tokens(&[1]), Err(Error::ContextFull { .. })), "nothing to drop behind {keep}");
    }
    assert_eq!(session.tokens(), before);
}

#[test]
fn a_generation_goes_on_beyond_the_context() {
    // The penalty looks back on more than is kept, and a screened head must not lose what it looks at.
    let run = |head| {
        let model = open(Model::builder().threads(1).context(64).head(head), &bundled());
        let mut session = model.session();
        session.on_overflow(Overflow::Shift { keep: 8 });
        session.push("The princess looked at the old woman, and").unwrap();
        let prompt = session.tokens()[..8].to_vec();
        let sampling = Sampling::default().repetition_penalty(1.3).seed(5).max_tokens(150);
        let mut generation = session.generate(&sampling).unwrap();
        let text: String = generation.by_ref().map(|piece| piece.unwrap().text).collect();
        let summary = generation.summary().clone();
        (model, session, prompt, text, summary)
    };
    let (model, mut session, prompt, text, summary) = run(HeadMode::Screened);
    assert_eq!(run(HeadMode::Full).3, text);
    assert_eq!(summary.tokens, 150, "{text}");
    assert!((3..=6).contains(&summary.shifts), "{summary:?}");
    assert_eq!(session.shifts(), summary.shifts);
    assert_eq!(session.tokens()[..8], prompt);
    let end = session.tokens().to_vec();
    assert_eq!(bits(&mut session), fresh(&model, &session, &end));
}

#[test]
fn a_shift_hides_no_stop_string() {
    let model = open(Model::builder().threads(1).context(40), &bundled());
    let run = |stop: Option<&str>, keep| {
        let mut session = model.session();
        session.on_overflow(Overflow::Shift { keep });
        session.push("The princess looked at the old woman, and").unwrap();
        let mut sampling = Sampling::greedy().max_tokens(60);
        sampling = stop.iter().fold(sampling, |sampling, stop| sampling.stop(*stop));
        let text: String = session.generate(&sampling).unwrap().map(|piece| piece.unwrap().text).collect();
        (text, session)
    };
    for keep in [1, 20, 36] {
        let (long, _) = run(None, keep);
        for start in (10..long.len() - 12).step_by(5).filter(|&i| long.is_char_boundary(i)) {
            let Some(stop) = long.get(start..start + 12) else { continue };
            let (text, session) = run(Some(stop), keep);
            assert_eq!(text, long[..long.find(stop).unwrap()]);
            let text = model.tokenizer().unwrap().decode(session.tokens());
            assert!(!text.ends_with(stop), "{text:?} ends with {stop:?}");
        }
    }
}

/// A session that has read `count` tokens, with three more that it has not.
fn read(model: &Model, kv: KvType, count: usize) -> Session {
    let mut session = model.session_with(kv);
    session.push_tokens(&tokens(model, count)).unwrap();
    session.logits().unwrap();
    session.push_tokens(&[3, 2, 1]).unwrap();
    session
}

fn saved(session: &Session) -> Vec<u8> {
    let mut file = Vec::new();
    session.save_to(&mut file).unwrap();
    file
}

#[test]
fn a_restored_session_has_the_logits_of_a_fresh_run_on_everything() {
    let folder = tempfile::tempdir().unwrap();
    for path in [fixture(), bundled()] {
        let model = open(Model::builder().threads(2).context(400), &path);
        for kv in KV {
            let mut session = read(&model, kv, 290);
            let file = folder.path().join("session");
            session.save(&file).unwrap();
            let expected = bits(&mut session);
            for isa in arch::available() {
                for (layout, threads, context) in
                    isa.layouts().iter().zip([(1, 293), (2, 700)]).map(|(l, (t, c))| (l, t, c))
                {
                    let builder = Model::builder().isa(isa.name()).layout(layout.name()).threads(threads);
                    let other = open(builder.context(context), &path);
                    assert_eq!(other.fingerprint(), model.fingerprint());
                    let mut restored = other.session_with(kv);
                    restored.restore(&file).unwrap_or_else(|e| panic!("{e}"));
                    assert_eq!(restored.tokens(), session.tokens());
                    assert_eq!(saved(&restored), std::fs::read(&file).unwrap(), "{}: the same file", isa.name());
                    assert_eq!(bits(&mut restored), expected, "{}, {layout:?}, {kv:?}", isa.name());
                }
            }
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no partial file is left");
}

#[test]
fn a_session_is_saved_with_what_it_has_computed() {
    let [model, _] = models();
    let mut empty = model.session();
    empty.restore_from(&saved(&model.session())[..]).unwrap();
    assert!(empty.tokens().is_empty());
    let mut session = model.session();
    session.push_tokens(&tokens(&model, 200)).unwrap();
    let pending = saved(&session);
    session.logits().unwrap();
    let evaluated = saved(&session);
    assert!(evaluated.len() > pending.len() + 200 * 2);
    for file in [pending, evaluated] {
        let mut restored = read(&model, KvType::F16, 50);
        restored.restore_from(&file[..]).unwrap();
        assert_eq!(bits(&mut restored), bits(&mut session));
    }
}

#[test]
fn a_restored_session_tells_the_same_story() {
    let [_, model] = models();
    let sampling = Sampling::default().seed(4).max_tokens(20);
    let mut session = model.session();
    session.push("The princess opened the door of the tower, and").unwrap();
    session.logits().unwrap();
    let mut restored = model.session();
    restored.restore_from(&saved(&session)[..]).unwrap();
    let text = |session: &mut Session| -> String {
        session.generate(&sampling).unwrap().map(|piece| piece.unwrap().text).collect()
    };
    assert_eq!(text(&mut restored), text(&mut session));
}

#[test]
fn a_reader_is_left_behind_the_session() {
    let [model, _] = models();
    let mut file = saved(&read(&model, KvType::F16, 5));
    file.extend(b"more");
    let mut reader = &file[..];
    model.session().restore_from(&mut reader).unwrap();
    assert_eq!(reader, b"more");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    std::fs::write(&path, &file).unwrap();
    assert!(matches!(refused(model.session().restore(&path)), RestoreError::Damaged(_)));
}

fn refused(result: Result<(), Error>) -> RestoreError {
    match result.expect_err("it is refused") {
        Error::Restore { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn another_model_type_or_length_is_refused_with_the_reason() {
    let [small, trained] = models();
    let file = saved(&read(&small, KvType::F16, 20));
    assert!(matches!(refused(trained.session().restore_from(&file[..])), RestoreError::Model { .. }));
    let int8 = refused(small.session_with(KvType::Int8).restore_from(&file[..]));
    assert!(matches!(&int8, RestoreError::KvType { found, session: KvType::Int8 } if found == "F16"), "{int8}");
    let short = open(Model::builder().threads(1).context(22), &fixture());
    let long = refused(short.session().restore_from(&file[..]));
    assert!(matches!(long, RestoreError::TooLong { tokens: 23, capacity: 22 }), "{long}");

    let folder = fixture().with_file_name("llama-trilm");
    let [rounded, exact] = [false, true].map(|exact| open(Model::builder().threads(1).exact_inputs(exact), &folder));
    assert_eq!(rounded.fingerprint(), exact.fingerprint());
    let file = saved(&read(&exact, KvType::F16, 20));
    let reason = refused(rounded.session().restore_from(&file[..]));
    assert!(matches!(reason, RestoreError::ExactInputs { exact: true }), "{reason}");

    let missing = small.session().restore("no/such/file").unwrap_err().to_string();
    assert!(missing.starts_with("no/such/file: "), "{missing}");
}

/// Every bit of the header is looked at, and every other byte is under the checksum.
#[test]
fn no_damaged_file_is_taken() {
    let [model, _] = models();
    let good = saved(&read(&model, KvType::Int8, 3));
    let mut session = model.session_with(KvType::Int8);
    session.push_tokens(&[4, 5]).unwrap();
    for (i, bit) in (0..good.len()).flat_map(|i| if i < 96 { 0..8 } else { i % 8..i % 8 + 1 }.map(move |bit| (i, bit)))
    {
        let mut file = good.clone();
        file[i] ^= 1 << bit;
        let reason = refused(session.restore_from(&file[..]));
        let expected = match i {
            0..8 => matches!(reason, RestoreError::NotASession),
            8..12 => matches!(reason, RestoreError::Version { .. }),
            12 => matches!(reason, RestoreError::KvType { .. }),
            13 if bit == 0 => matches!(reason, RestoreError::ExactInputs { .. }),
            16..48 => matches!(reason, RestoreError::Model { .. }),
            48..64 => {
                matches!(reason, RestoreError::TooLong { .. } | RestoreError::Damaged(_) | RestoreError::Truncated)
            }
            _ => matches!(reason, RestoreError::Damaged(_)),
        };
        assert!(expected, "byte {i}, bit {bit}: {reason}");
    }
    for end in 0..good.len() {
        let reason = refused(session.restore_from(&good[..end]));
        assert!(matches!(reason, RestoreError::Truncated), "the first {end} bytes: {reason}");
    }
    assert_eq!(session.tokens(), [4, 5], "the session stayed as it was");
    assert_eq!(bits(&mut session), fresh(&model, &session, &[4, 5]));
    session.restore_from(&good[..]).unwrap();
}

/// Lengths that lie: no allocation follows them.
#[test]
fn absurd_lengths_are_refused() {
    let [model, _] = models();
    let good = saved(&read(&model, KvType::F16, 3));
    for (tokens, evaluated) in [(u64::MAX, 0), (401, 401), (6, 7), (6, u64::MAX), (400, 400), (1 << 62, 1 << 62)] {
        let mut file = good.clone();
        file[48..56].copy_from_slice(&tokens.to_le_bytes());
        file[56..64].copy_from_slice(&evaluated.to_le_bytes());
        let reason = refused(model.session().restore_from(&file[..]));
        let expected = match (tokens, evaluated) {
            (6, _) => matches!(reason, RestoreError::Damaged(_)),
            (400, _) => !matches!(reason, RestoreError::TooLong { .. }),
            _ => matches!(reason, RestoreError::TooLong { capacity: 400, .. }),
        };
        assert!(expected, "{tokens}, {evaluated}: {reason}");
    }
}

#[test]
fn a_save_that_fails_leaves_the_old_file() {
    let [model, _] = models();
    let folder = tempfile::tempdir().unwrap();
    // A folder cannot be replaced by a file.
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    std::fs::write(taken.join("inside"), "x").unwrap();
    let session = read(&model, KvType::F16, 3);
    assert!(matches!(session.save(&taken), Err(Error::Save { .. })));
    assert!(taken.join("inside").exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no partial file is left");
    assert!(session.save(folder.path().join("no/such/folder")).is_err());
}

/// The fingerprint is of the numbers: the same in another file, another for other numbers.
#[test]
fn a_fingerprint_is_of_the_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let original = open(Model::builder().threads(1), &bundled());
    let converted = |linear: TernaryEncoding| -> PathBuf {
        let source = loader::open(bundled(), &Default::default()).unwrap();
        let mut conversion = Conversion::default();
        conversion.linear = linear;
        let path = folder.path().join(format!("{linear}.gguf"));
        loader::convert(&source, &path, &conversion, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
        path
    };
    let base3 = converted(TernaryEncoding::Base3);
    let i2s = converted(TernaryEncoding::I2S(Default::default()));
    for path in [&base3, &i2s] {
        assert_eq!(open(Model::builder().threads(1), path).fingerprint(), original.fingerprint());
    }
    let in_place = Model::builder().threads(2).in_place(true).open(&i2s);
    assert_eq!(in_place.unwrap_or_else(|e| panic!("{e}")).fingerprint(), original.fingerprint());

    // One bit of the output norm's first weight.
    let mut bytes = std::fs::read(bundled()).unwrap();
    let source = loader::open_bytes("original", bytes.clone(), &Default::default()).unwrap();
    let norm = source.vector(TensorId::OutputNorm, original.config().hidden).unwrap();
    let norm: Vec<u8> = norm.iter().flat_map(|x| x.to_le_bytes()).collect();
    let place = bytes.windows(norm.len()).position(|window| window == norm).expect("norms are F32");
    bytes[place] ^= 1;
    let changed = Model::builder().threads(1).open_bytes("changed", bytes).unwrap_or_else(|e| panic!("{e}"));
    assert_ne!(changed.fingerprint(), original.fingerprint());
}
