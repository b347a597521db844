//! Downloads from a hub on this machine: what is fetched, what is kept, what is fetched again. (What is refused: `download_refusals.rs`.)
#![cfg(feature = "download")]

#[path = "support/hub.rs"]
mod hub;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hub::*;
use tempfile::TempDir;
use tritwise_loader::download::Progress;

#[test]
fn a_file_is_fetched_once_and_kept_as_huggingface_hub_keeps_it() {
    let (server, cache) = one_file(300_000);
    let mut heard = Vec::new();
    let report = &mut |at: Progress<'_>| heard.push((at.file.to_owned(), at.done, at.total));
    let fetched = client(&server, &cache).fetch(GGUF, report).unwrap();
    assert_eq!((fetched.commit.as_str(), &fetched.unconfirmed), (COMMIT, &None));
    assert_eq!(fetched.path, repository(&cache).join(format!("snapshots/{COMMIT}/model.gguf")));
    assert!(fs::read(&fetched.path).unwrap() == bytes(300_000));
    assert_eq!(transfers(&server.seen()), ["all"]);

    assert!(heard.iter().all(|(file, _, total)| file == "model.gguf" && *total == 300_000));
    assert!(heard.is_sorted_by(|a, b| a.1 < b.1), "{heard:?}");
    assert_eq!((heard.first().unwrap().1, heard.last().unwrap().1), (0, 300_000));

    assert_eq!(fs::read_to_string(repository(&cache).join("refs/main")).unwrap(), COMMIT);
    assert_eq!(blobs(&cache), BTreeSet::from([sha256(&bytes(300_000))]));
    #[cfg(unix)]
    assert_eq!(fs::read_link(&fetched.path).unwrap(), Path::new("../../blobs").join(sha256(&bytes(300_000))));

    assert_eq!(fetch(&client(&server, &cache), GGUF).unwrap(), fetched);
    let seen = server.seen();
    assert!(seen.len() == 1 && seen[0].method == "HEAD", "{seen:?}");
}

#[test]
fn a_commit_that_is_there_needs_no_hub() {
    let (server, cache) = one_file(1000);
    let name = format!("hf:tests/model@{COMMIT}/model.gguf");
    let fetched = fetch(&client(&server, &cache), &name).unwrap();
    assert!(!repository(&cache).join("refs").exists());
    server.seen();
    assert_eq!(fetch(&client(&server, &cache), &name).unwrap(), fetched);
    assert!(server.seen().is_empty());
}

#[test]
fn a_transfer_that_broke_off_goes_on_where_it_stopped() {
    let (server, cache) = one_file(300_000);
    server.set(|manners| manners.break_off = Some((100_000, 1)));
    let why = refusal(&client(&server, &cache), GGUF);
    assert!(why.starts_with("hf:tests/model/model.gguf: model.gguf broke off at byte 100000 of 300000"), "{why}");
    assert_eq!(blobs(&cache), BTreeSet::from([format!("{}.incomplete", sha256(&bytes(300_000)))]));
    assert_eq!(transfers(&server.seen()), ["all"]);

    let mut heard = Vec::new();
    let fetched = client(&server, &cache).fetch(GGUF, &mut |at| heard.push(at.done)).unwrap();
    assert_eq!(heard[0], 100_000);
    // What was sent is what was asked for: the server counts from there.
    assert_eq!(transfers(&server.seen()), ["bytes=100000-"]);
    assert!(fs::read(fetched.path).unwrap() == bytes(300_000));
    assert_eq!(blobs(&cache), BTreeSet::from([sha256(&bytes(300_000))]));
}

#[test]
fn a_long_transfer_that_breaks_off_goes_on_by_itself() {
    let (server, cache) = one_file((3 << 20) + 17);
    server.set(|manners| manners.break_off = Some((1 << 20, 2)));
    let fetched = fetch(&client(&server, &cache), GGUF).unwrap();
    assert!(fs::read(fetched.path).unwrap() == bytes((3 << 20) + 17));
    assert_eq!(transfers(&server.seen()), ["all", "bytes=1048576-", "bytes=2097152-"]);
}

#[test]
fn a_hub_that_ignores_ranges_sends_everything_again() {
    let (server, cache) = one_file(300_000);
    server.set(|manners| (manners.break_off, manners.ignore_range) = (Some((100_000, 1)), true));
    refusal(&client(&server, &cache), GGUF);
    let fetched = fetch(&client(&server, &cache), GGUF).unwrap();
    assert!(fs::read(fetched.path).unwrap() == bytes(300_000));
}

#[test]
fn a_part_that_cannot_be_continued_is_begun_anew() {
    let (server, cache) = one_file(300_000);
    server.set(|manners| manners.break_off = Some((100_000, 1)));
    refusal(&client(&server, &cache), GGUF);
    // A server that has less than what was fetched of it already, and one that begins elsewhere.
    let elsewhere = vec![("content-range", "bytes 5-299999/300000".to_owned())];
    for answer in [(416, Vec::new()), (206, elsewhere)] {
        server.set(|manners| manners.break_off = Some((100_000, 1)));
        server.set(|manners| manners.answer = Some((blob_path(), answer.0, answer.1)));
        let why = refusal(&client(&server, &cache), GGUF);
        assert!(why.contains("cannot be continued at byte 100000 of 300000"), "{why}");
        server.set(|manners| manners.answer = None);
        server.seen();
        refusal(&client(&server, &cache), GGUF);
        assert_eq!(transfers(&server.seen()), ["all"]);
    }
    server.seen();
    fetch(&client(&server, &cache), GGUF).unwrap();
    assert_eq!(transfers(&server.seen()), ["bytes=100000-"]);
}

/// The path of the only file of 300,000 bytes on the other host.
fn blob_path() -> &'static str {
    Box::leak(format!("/{}", sha256(&bytes(300_000))).into_boxed_str())
}

#[test]
fn a_blob_that_was_cut_short_is_fetched_again() {
    let (server, cache) = one_file(3000);
    let fetched = fetch(&client(&server, &cache), GGUF).unwrap();
    fs::remove_file(&fetched.path).unwrap();
    fs::write(repository(&cache).join("blobs").join(sha256(&bytes(3000))), b"short").unwrap();
    assert!(fs::read(fetch(&client(&server, &cache), GGUF).unwrap().path).unwrap() == bytes(3000));
}

#[cfg(unix)]
#[test]
fn a_link_to_a_blob_that_was_deleted_is_made_again() {
    let (server, cache) = one_file(3000);
    let fetched = fetch(&client(&server, &cache), GGUF).unwrap();
    fs::remove_file(repository(&cache).join("blobs").join(sha256(&bytes(3000)))).unwrap();
    assert!(!fetched.path.exists());
    assert!(refusal(&client(&server, &cache).offline(true), GGUF).contains("model.gguf is not in"));
    assert_eq!(fetch(&client(&server, &cache), GGUF).unwrap(), fetched);
    assert!(fs::read(fetched.path).unwrap() == bytes(3000));
}

#[test]
fn the_cache_serves_without_a_hub() {
    let (server, cache) = one_file(3000);
    let offline = client(&server, &cache).offline(true);
    let why = refusal(&offline, GGUF);
    assert!(why.contains("cannot be had: the hub was not asked, and revision main is not in"), "{why}");

    let online = fetch(&client(&server, &cache), GGUF).unwrap();
    server.seen();
    let cached = fetch(&offline, GGUF).unwrap();
    assert!(server.seen().is_empty());
    assert_eq!((&cached.path, &cached.commit), (&online.path, &online.commit));
    assert_eq!(cached.unconfirmed.as_deref(), Some("the hub was not asked"));
    assert_eq!(fetch(&offline, "hf:tests/model").unwrap(), cached);
    assert_eq!(fetch(&offline, &format!("hf:tests/model@{COMMIT}")).unwrap().unconfirmed, None);

    assert!(refusal(&offline, "hf:tests/model/other.gguf").contains("other.gguf is not in"));
    assert!(refusal(&offline, "hf:tests/model@v1/model.gguf").contains("revision v1 is not in"));
    assert!(refusal(&offline, "hf:tests/another/model.gguf").contains("revision main is not in"));
}

#[test]
fn a_hub_that_cannot_be_reached_is_told_from_one_that_says_no() {
    let (server, cache) = one_file(3000);
    let online = fetch(&client(&server, &cache), GGUF).unwrap();
    for status in [500, 503, 429] {
        for name in [GGUF, "hf:tests/model"] {
            server.set(|manners| manners.answer = Some(("tests/model", status, Vec::new())));
            let cached = fetch(&client(&server, &cache), name).unwrap();
            assert_eq!(cached.path, online.path);
            assert!(cached.unconfirmed.unwrap().contains(&format!("answers {status}")));
        }
    }
    for (status, why) in
        [(401, "not for everybody"), (403, "not for everybody"), (404, "is not there at revision main")]
    {
        for name in [GGUF, "hf:tests/model"] {
            let message = vec![("x-error-message", "it says\u{1b}[2J why".replace('\u{1b}', ""))];
            server.set(|manners| manners.answer = Some(("tests/model", status, message)));
            let refusal = refusal(&client(&server, &cache), name);
            assert!(refusal.contains(why) && refusal.contains("it says"), "{refusal}");
        }
    }
    let (client, gone) = (client(&server, &cache), server.url.clone());
    drop(server);
    let cached = fetch(&client, GGUF).unwrap();
    assert_eq!((&cached.path, &cached.commit), (&online.path, &online.commit));
    assert!(cached.unconfirmed.unwrap().starts_with(&format!("{gone} cannot be reached")));
    let why = refusal(&client, "hf:tests/model/other.gguf");
    assert!(why.contains("cannot be reached") && why.contains("other.gguf is not in"), "{why}");
}

#[test]
fn a_transfer_that_fails_is_not_replaced_by_an_older_commit() {
    let (server, cache) = one_file(3000);
    fetch(&client(&server, &cache), GGUF).unwrap();
    server.set(|manners| {
        manners.commit = "f".repeat(40);
        let new = File { bytes: bytes(5000), blob: sha256(&bytes(5000)), size: 5000 };
        manners.files.insert("model.gguf".to_owned(), new);
        manners.break_off = Some((1000, 1));
    });
    refusal(&client(&server, &cache), GGUF);
    // The old commit is still what the cache has, for who asks the cache.
    assert_eq!(fetch(&client(&server, &cache).offline(true), GGUF).unwrap().commit, COMMIT);
    let new = fetch(&client(&server, &cache), GGUF).unwrap();
    assert!(new.commit == "f".repeat(40) && fs::read(new.path).unwrap() == bytes(5000));
    assert_eq!(fetch(&client(&server, &cache).offline(true), GGUF).unwrap().commit, "f".repeat(40));
}

#[test]
fn a_repository_is_its_only_gguf_file_or_its_folder() {
    let cache = tempfile::tempdir().unwrap();
    let readme = || ("README.md", b"...".to_vec());
    let one = TestHub::new(files([readme(), ("q/Model.GGUF", bytes(100)), ("model.safetensors", bytes(50))]));
    let fetched = fetch(&client(&one, &cache), "hf:tests/model").unwrap();
    assert_eq!(fetched.path, repository(&cache).join(format!("snapshots/{COMMIT}/q/Model.GGUF")));
    #[cfg(unix)]
    assert_eq!(fs::read_link(&fetched.path).unwrap(), Path::new("../../../blobs").join(sha256(&bytes(100))));

    let cache = tempfile::tempdir().unwrap();
    let several = TestHub::new(files([("b.gguf", bytes(1)), ("a\x1b.gguf", bytes(2)), readme()]));
    let why = refusal(&client(&several, &cache), "hf:tests/model");
    assert_eq!(why, "hf:tests/model: has several models: name one, of a\\u{1b}.gguf, b.gguf");
    assert!(!repository(&cache).exists());

    let none = TestHub::new(files([readme(), ("pytorch_model.bin", bytes(9))]));
    assert!(refusal(&client(&none, &cache), "hf:tests/model").contains("has neither .gguf nor .safetensors files"));
    assert!(refusal(&client(&none, &cache), "hf:tests/model/pytorch_model.bin").contains("is neither a .gguf nor"));
    let bare = TestHub::new(files([("model.safetensors", bytes(9))]));
    assert!(refusal(&client(&bare, &cache), "hf:tests/model").contains("has no config.json beside its safetensors"));
    let odd = TestHub::new(files([("consolidated.safetensors", bytes(9)), ("config.json", b"{}".to_vec())]));
    assert!(refusal(&client(&odd, &cache), "hf:tests/model").contains("name a file, of consolidated.safetensors"));
    assert!(
        refusal(&client(&odd, &cache), "hf:tests/model/model.safetensors")
            .contains("has no model.safetensors; there is")
    );
}

#[test]
fn a_split_model_is_all_of_its_parts() {
    let parts = || [1, 2, 3].map(|no| (format!("q/m-0000{no}-of-00003.gguf"), bytes(no)));
    for name in ["hf:tests/model", "hf:tests/model/q/m-00002-of-00003.gguf"] {
        let (server, cache) = (TestHub::new(parts()), tempfile::tempdir().unwrap());
        let path = fetch(&client(&server, &cache), name).unwrap().path;
        assert!(path.ends_with(if name.ends_with("gguf") { "m-00002-of-00003.gguf" } else { "m-00001-of-00003.gguf" }));
        assert_eq!(walk(path.parent().unwrap()).len(), 3);
        assert_eq!(fetch(&client(&server, &cache).offline(true), name).unwrap().path, path);
    }
    // Two of them, one that lacks a part, and a name that only looks like a part's.
    let cache = tempfile::tempdir().unwrap();
    let other = ("b-00001-of-00002.gguf".to_owned(), bytes(9));
    let server = TestHub::new(parts().into_iter().chain([other.clone()]));
    let why = refusal(&client(&server, &cache), "hf:tests/model");
    assert!(why.ends_with("name one, of b-00001-of-00002.gguf, q/m-00001-of-00003.gguf"), "{why}");
    let why = refusal(&client(&TestHub::new([other]), &cache), "hf:tests/model");
    assert!(why.contains("b-00002-of-00002.gguf of it is not there"), "{why}");
    let odd = TestHub::new(files([("x-00000-of-00000.gguf", bytes(1))]));
    fetch(&client(&odd, &cache), "hf:tests/model/x-00000-of-00000.gguf").unwrap();
}

#[test]
fn of_a_folder_what_is_read_is_fetched() {
    let index = br#"{"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let folder = [
        ("1_Pooling/config.json", b"{}".to_vec()),
        ("README.md", bytes(10)),
        ("config.json", b"{ }".to_vec()),
        ("consolidated.safetensors", bytes(20)),
        ("model-1.safetensors", bytes(30)),
        ("model-2.safetensors", bytes(40)),
        ("model.safetensors.index.json", index.to_vec()),
        ("optimizer.pt", bytes(50)),
        ("sub/config.json", b"{  }".to_vec()),
        ("sub/model.safetensors", bytes(60)),
        ("tokenizer.json", b"{   }".to_vec()),
    ];
    let server = TestHub::new(files(folder));
    let there = |cache: &TempDir| {
        let root = repository(cache).join("snapshots").join(COMMIT);
        let mut found: Vec<_> =
            walk(&root).iter().map(|path| path.strip_prefix(&root).unwrap().display().to_string()).collect();
        found.sort();
        found
    };
    let sharded = [
        "1_Pooling/config.json",
        "config.json",
        "model-1.safetensors",
        "model-2.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ];
    let cache = tempfile::tempdir().unwrap();
    let fetched = fetch(&client(&server, &cache), "hf:tests/model").unwrap();
    assert_eq!(fetched.path, repository(&cache).join("snapshots").join(COMMIT));
    assert_eq!(there(&cache), sharded);
    let last = server.seen().into_iter().rev().find(|seen| seen.cdn && seen.method == "GET").unwrap();
    assert!(last.path.ends_with(&sha256(&bytes(40))), "weights come last");
    assert_eq!(fetch(&client(&server, &cache).offline(true), "hf:tests/model").unwrap().path, fetched.path);

    // One shard stands for all, a folder below for itself, and a file that no index names for itself.
    let cache = tempfile::tempdir().unwrap();
    let fetched = fetch(&client(&server, &cache), "hf:tests/model/model-2.safetensors").unwrap();
    assert!(fs::read(fetched.path).unwrap() == bytes(40));
    assert_eq!(there(&cache), sharded);
    let cache = tempfile::tempdir().unwrap();
    let fetched = fetch(&client(&server, &cache), "hf:tests/model/sub/model.safetensors").unwrap();
    assert!(fs::read(fetched.path).unwrap() == bytes(60));
    assert_eq!(there(&cache), ["sub/config.json", "sub/model.safetensors"]);
    let cache = tempfile::tempdir().unwrap();
    fetch(&client(&server, &cache), "hf:tests/model/consolidated.safetensors").unwrap();
    assert!(there(&cache).contains(&"consolidated.safetensors".to_owned()));
    assert!(!there(&cache).contains(&"model-1.safetensors".to_owned()));
    // A snapshot that lacks a shard is not a model.
    fs::remove_file(repository(&cache).join(format!("snapshots/{COMMIT}/consolidated.safetensors"))).unwrap();
    let why = refusal(&client(&server, &cache).offline(true), "hf:tests/model");
    assert!(why.contains("has neither .gguf nor .safetensors files") && why.contains("the hub was not asked"), "{why}");
}

#[test]
fn two_at_once_transfer_a_file_once() {
    let (server, cache) = one_file(300_000);
    // Nothing is sent before both have learnt what to ask for.
    server.set(|manners| manners.heads_first = 2);
    let fetched = std::thread::scope(|scope| {
        [0; 2]
            .map(|_| scope.spawn(|| fetch(&client(&server, &cache), GGUF).unwrap()))
            .map(|thread| thread.join().unwrap())
    });
    assert_eq!(fetched[0], fetched[1]);
    assert!(fs::read(&fetched[0].path).unwrap() == bytes(300_000));
    assert_eq!(transfers(&server.seen()), ["all"]);
}
