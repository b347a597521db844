//! Downloads that must not succeed, from a hub on this machine that lies, breaks off and leads astray.
#![cfg(feature = "download")]

#[path = "support/hub.rs"]
mod hub;

use std::collections::BTreeSet;
use std::fs;

use hub::*;
use sha1::{Digest, Sha1};
use tempfile::TempDir;
use tritwise_loader::download::Hub;

/// The hub's name for a small file, which git gave it.
fn git_blob(bytes: &[u8]) -> String {
    let hash = Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn bytes_with_another_checksum_are_deleted() {
    let (server, cache) = one_file(3000);
    let right = File { bytes: bytes(3000), blob: git_blob(&bytes(3000)), size: 3000 };
    for blob in ["0".repeat(64), "0".repeat(40)] {
        server.set(|manners| {
            _ = manners.files.insert("model.gguf".to_owned(), File { blob: blob.clone(), ..right.clone() })
        });
        let why = refusal(&client(&server, &cache), GGUF);
        let found = if blob.len() == 64 { sha256(&bytes(3000)) } else { right.blob.clone() };
        assert!(why.contains(&format!("arrived with the checksum {found} where the hub says {blob}")), "{why}");
        assert!(blobs(&cache).is_empty());
        assert!(!repository(&cache).join("snapshots").exists());
        assert!(!repository(&cache).join("refs").exists());
    }
    // And with git's checksum, which small files have.
    server.set(|manners| _ = manners.files.insert("model.gguf".to_owned(), right.clone()));
    assert!(fs::read(fetch(&client(&server, &cache), GGUF).unwrap().path).unwrap() == bytes(3000));
    assert_eq!(blobs(&cache), BTreeSet::from([right.blob]));
}

#[test]
fn a_damaged_part_is_found_out() {
    let (server, cache) = one_file(300_000);
    server.set(|manners| manners.break_off = Some((100_000, 1)));
    refusal(&client(&server, &cache), GGUF);
    let part = repository(&cache).join("blobs").join(format!("{}.incomplete", sha256(&bytes(300_000))));
    fs::write(&part, vec![0; 100_000]).unwrap();
    assert!(refusal(&client(&server, &cache), GGUF).contains("arrived with the checksum"));
    assert!(!part.exists());
    // And a part that is longer than the file.
    fs::write(&part, vec![0; 300_001]).unwrap();
    assert!(fs::read(fetch(&client(&server, &cache), GGUF).unwrap().path).unwrap() == bytes(300_000));
}

#[test]
fn a_file_has_the_size_that_the_hub_says() {
    let (server, cache) = one_file(3000);
    server.set(|manners| manners.surplus = Some(b"more".to_vec()));
    assert!(refusal(&client(&server, &cache), GGUF).contains("is longer than the 3000 bytes"));
    let part = repository(&cache).join("blobs").join(format!("{}.incomplete", sha256(&bytes(3000))));
    assert!(fs::metadata(part).unwrap().len() <= 3000);
    server.set(|manners| manners.surplus = None);
    server.set(|manners| manners.files.get_mut("model.gguf").unwrap().size = 5000);
    let why = refusal(&client(&server, &cache), GGUF);
    assert!(why.contains("broke off at byte 3000 of 5000") || why.contains("cannot be continued"), "{why}");
}

#[test]
fn names_that_lead_out_of_the_cache_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    let absolute = format!("{}/evil.gguf", outside.path().display());
    for name in [
        "../../../../evil.gguf",
        &absolute,
        "a/../../evil.gguf",
        "..\\evil.gguf",
        "c:evil.gguf",
        "evil\n.gguf",
        "/evil.gguf",
    ] {
        let (cache, server) = (TempDir::new_in(&outside).unwrap(), TestHub::new([(name.to_owned(), bytes(10))]));
        let why = refusal(&client(&server, &cache), "hf:tests/model");
        assert!(why.contains("whose name may lead out of the cache"), "{why}");
        assert!(!why.contains('\n'), "{why:?}");
        assert!(transfers(&server.seen()).is_empty());
        assert!(walk(outside.path()).is_empty());
        let why = refusal(&client(&server, &cache), &format!("hf:tests/model/{name}"));
        assert!(why.contains("whose name may lead out of the cache"), "{why}");
    }
    let cache = tempfile::tempdir().unwrap();
    let index = br#"{"weight_map": {"a": "../model-1.safetensors"}}"#.to_vec();
    let server = TestHub::new(files([
        ("config.json", b"{}".to_vec()),
        ("model.safetensors.index.json", index),
        ("x.safetensors", bytes(1)),
    ]));
    let why = refusal(&client(&server, &cache), "hf:tests/model");
    assert!(why.contains("names \"../model-1.safetensors\" as a shard"), "{why}");
}

#[test]
fn the_token_is_for_the_hub_alone() {
    let (server, cache) = one_file(3000);
    let readme = b"small".to_vec();
    let small = File { blob: git_blob(&readme), size: 5, bytes: readme };
    server.set(|manners| _ = manners.files.insert("small.gguf".to_owned(), small));
    let with_token = client(&server, &cache).token("hf_secret");
    fetch(&with_token, GGUF).unwrap();
    fetch(&with_token, "hf:tests/model/small.gguf").unwrap();
    refusal(&with_token, "hf:tests/model");
    let seen = server.seen();
    assert!(seen.iter().any(|seen| seen.cdn) && seen.iter().any(|seen| seen.path.contains("/cache/")));
    for seen in seen {
        assert_eq!(seen.token.as_deref(), (!seen.cdn).then_some("Bearer hf_secret"), "{seen:?}");
    }
    assert!(!format!("{with_token:?}").contains("secret"));

    let why = refusal(&client(&server, &cache).token("hf_secret\nx: y"), GGUF);
    assert!(why.contains("with this token") && !why.contains("secret"), "{why}");
    fetch(&client(&server, &cache), GGUF).unwrap();
    assert!(server.seen().iter().all(|seen| seen.token.is_none()));
}

#[test]
fn what_is_no_hub_is_called_that() {
    let (server, cache) = one_file(3000);
    let check = |path: &'static str, status: u16, headers: &[(&'static str, &str)], name: &str, why: &str| {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        server.set(|manners| manners.answer = Some((path, status, headers)));
        let refusal = refusal(&client(&server, &cache), name);
        assert!(refusal.contains("does not answer as a hub") && refusal.contains(why), "{refusal}");
    };
    let commit = ("x-repo-commit", COMMIT);
    check("resolve", 200, &[], GGUF, "names no commit");
    check("resolve", 200, &[("x-repo-commit", "../../x")], GGUF, "names no commit");
    check("resolve", 200, &[commit], GGUF, "without a checksum");
    check("resolve", 200, &[commit, ("etag", "\"../x\"")], GGUF, "without a checksum");
    let etag = ("x-linked-etag", "0000000000000000000000000000000000000000");
    check("resolve", 302, &[commit, etag, ("location", "http://127.0.0.1:1/x")], GGUF, "without a size");
    check("resolve", 302, &[commit, etag, ("location", "nowhere")], GGUF, "leads to no URL");
    check("resolve", 302, &[("location", "/tests/model/resolve/x")], GGUF, "without end");
    check("api", 200, &[], "hf:tests/model", "its listing is not as expected");
    server.set(|manners| manners.answer = None);
    server.set(|manners| manners.listing = Some(r#"{"sha": "../x", "siblings": []}"#.to_owned()));
    assert!(refusal(&client(&server, &cache), "hf:tests/model").contains("its listing has no commit"));
    server.set(|manners| manners.listing = Some(" ".repeat((16 << 20) + 1)));
    assert!(refusal(&client(&server, &cache), "hf:tests/model").contains("its listing is larger than 16777216 bytes"));
    for endpoint in ["", "huggingface.co", "ftp://host", "file:///etc"] {
        let why = refusal(&client(&server, &cache).endpoint(endpoint), GGUF);
        assert!(why.contains("an endpoint is an https:// or http:// URL"), "{why}");
    }
}

#[test]
fn https_is_spoken_as_such() {
    let (server, cache) = one_file(10);
    let https = client(&server, &cache).endpoint(server.url.replace("http://", "https://")).token("hf_secret");
    assert!(refusal(&https, GGUF).contains("cannot be reached"));
    assert!(server.seen().iter().all(|seen| seen.token.is_none() && !seen.path.contains("model")));
}

#[test]
fn all_files_are_of_one_commit() {
    let server = TestHub::new(files([("config.json", b"{}".to_vec()), ("model.safetensors", bytes(10))]));
    let cache = tempfile::tempdir().unwrap();
    let other = vec![("x-repo-commit", "f".repeat(40)), ("etag", format!("\"{}\"", "0".repeat(40)))];
    server.set(|manners| manners.answer = Some(("config.json", 200, other)));
    assert!(refusal(&client(&server, &cache), "hf:tests/model").contains("where another was asked for"));
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let (server, cache) = one_file(10);
    let file = cache.path().join("file");
    fs::write(&file, b"in the way").unwrap();
    let why = refusal(&Hub::new(&file).endpoint(&server.url), GGUF);
    assert!(why.contains("cannot be locked") && why.contains("choose another cache"), "{why}");
}
