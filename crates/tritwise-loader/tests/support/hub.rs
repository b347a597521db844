//! A hub on this machine: the part of the Hugging Face hub's protocol that downloads use, and the ways it can go wrong.
//!
//! As on the real one, files in LFS are redirected to another host (here: another port), and small files to another
//! path. Every connection has one request, of bounded size, and ends after ten seconds of silence.
#![allow(dead_code, reason = "each test file uses another part")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tritwise_loader::Error;
use tritwise_loader::download::{Fetched, Hub};

/// The commit that `main` is.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const PATIENCE: Duration = Duration::from_secs(10);

/// Headers of an answer, names in lower case.
pub(crate) type Headers = Vec<(&'static str, String)>;

/// A file of the repository `tests/model`.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    /// What the hub says is its checksum.
    pub(crate) blob: String,
    /// What the hub says is its size.
    pub(crate) size: u64,
}

/// What the hub does. Tests change it between requests.
#[derive(Clone)]
pub(crate) struct Manners {
    pub(crate) commit: String,
    pub(crate) files: BTreeMap<String, File>,
    /// After how many bytes of a file's body to close the connection, for so many answers.
    pub(crate) break_off: Option<(usize, usize)>,
    /// Send whole files, whatever part was asked for.
    pub(crate) ignore_range: bool,
    /// Send bodies that end where the connection does, and this after them.
    pub(crate) surplus: Option<Vec<u8>>,
    /// Answer requests for paths that contain the text with a status, and headers.
    pub(crate) answer: Option<(&'static str, u16, Headers)>,
    /// The listing, if it is not that of `files`.
    pub(crate) listing: Option<String>,
    /// Send no file before so many have been asked for by HEAD.
    pub(crate) heads_first: usize,
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) cdn: bool,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
}

struct State {
    manners: Mutex<Manners>,
    seen: Mutex<Vec<Seen>>,
    news: Condvar,
    cdn: String,
}

/// The hub, until it is dropped.
pub(crate) struct TestHub {
    pub(crate) url: String,
    state: Arc<State>,
    ports: Vec<Port>,
}

/// A thread that listens.
struct Port {
    address: std::net::SocketAddr,
    thread: Option<std::thread::JoinHandle<()>>,
    closed: Arc<Mutex<bool>>,
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl TestHub {
    /// A hub with these files, all of them in LFS.
    pub(crate) fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let files = files
            .into_iter()
            .map(|(name, bytes)| (name, File { blob: sha256(&bytes), size: bytes.len() as u64, bytes }));
        let manners = Manners {
            commit: COMMIT.to_owned(),
            files: files.collect(),
            break_off: None,
            ignore_range: false,
            surplus: None,
            answer: None,
            listing: None,
            heads_first: 0,
        };
        let (hub, cdn) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let url = format!("http://{}", hub.local_addr().unwrap());
        let state = Arc::new(State {
            manners: Mutex::new(manners),
            seen: Mutex::default(),
            news: Condvar::new(),
            cdn: format!("http://{}", cdn.local_addr().unwrap()),
        });
        let ports = vec![listen(hub, false, &state), listen(cdn, true, &state)];
        Self { url, state, ports }
    }

    /// Changes what the hub does.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.state.manners.lock().unwrap());
    }

    /// The requests since this was last asked.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.state.seen.lock().unwrap())
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        for port in &mut self.ports {
            *port.closed.lock().unwrap() = true;
            // Wakes the listener.
            drop(TcpStream::connect(port.address));
            if let Some(thread) = port.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

fn listen(listener: TcpListener, cdn: bool, state: &Arc<State>) -> Port {
    let address = listener.local_addr().unwrap();
    let closed = Arc::new(Mutex::new(false));
    let (state, closing) = (Arc::clone(state), Arc::clone(&closed));
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming() {
            if *closing.lock().unwrap() {
                return;
            }
            let (state, stream) = (Arc::clone(&state), stream.unwrap());
            // A client that goes away is its own affair.
            std::thread::spawn(move || state.serve(stream, cdn).ok());
        }
    });
    Port { address, thread: Some(thread), closed }
}

/// An answer, but for what goes wrong on the way.
#[derive(Default)]
struct Answer {
    status: u16,
    headers: Headers,
    body: Vec<u8>,
    /// Whether the body is one of a file, which can break off.
    file: bool,
}

impl State {
    fn serve(&self, mut stream: TcpStream, cdn: bool) -> std::io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new((&stream).take(16 << 10)).lines();
        let first = lines.next().unwrap_or(Ok(String::new()))?;
        let mut words = first.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut request = Seen { cdn, method, path, range: None, token: None };
        for line in lines {
            let line = line?;
            match line.split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("range") => request.range = Some(value.to_owned()),
                Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                    request.token = Some(value.to_owned())
                }
                None => break,
                _ => {}
            }
        }
        self.seen.lock().unwrap().push(request.clone());
        self.news.notify_all();
        let answer = self.answer(&request);
        let mut manners = self.manners.lock().unwrap();
        let mut end = answer.body.len();
        if answer.file
            && let Some((after, times)) = manners.break_off.filter(|&(_, times)| times > 0)
        {
            manners.break_off = Some((after, times - 1));
            end = after.min(end);
        }
        let surplus = manners.surplus.clone().filter(|_| answer.file);
        drop(manners);
        let mut head = format!("HTTP/1.1 {} -\r\nconnection: close\r\n", answer.status);
        if surplus.is_none() && !answer.headers.iter().any(|(name, _)| *name == "content-length") {
            head += &format!("content-length: {}\r\n", answer.body.len());
        }
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if request.method != "HEAD" {
            stream.write_all(&answer.body[..end])?;
            stream.write_all(&surplus.unwrap_or_default())?;
        }
        stream.flush()
    }

    fn answer(&self, request: &Seen) -> Answer {
        let manners = self.manners.lock().unwrap().clone();
        let status = |status| Answer { status, ..Answer::default() };
        if let Some((_, code, headers)) = manners.answer.clone().filter(|(path, ..)| request.path.contains(path)) {
            return Answer { headers, ..status(code) };
        }
        let path = request.path.trim_start_matches('/');
        if request.cdn || path.starts_with("cache/") {
            let blob = path.rsplit('/').next().unwrap_or_default();
            let Some(file) = manners.files.values().find(|file| file.blob == blob) else {
                return status(404);
            };
            if request.method == "GET" {
                self.wait_for_heads(manners.heads_first);
            }
            return body(file, request, &manners);
        }
        if let Some(revision) = path.strip_prefix("api/models/tests/model/revision/") {
            if revision != "main" && revision != manners.commit {
                return status(404);
            }
            let names: Vec<_> = manners.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
            let listing = serde_json::json!({ "id": "tests/model", "sha": manners.commit, "siblings": names });
            return Answer { body: manners.listing.unwrap_or_else(|| listing.to_string()).into_bytes(), ..status(200) };
        }
        let Some((revision, name)) = path.strip_prefix("tests/model/resolve/").and_then(|rest| rest.split_once('/'))
        else {
            return Answer { headers: vec![("x-error-message", "Repository not found".to_owned())], ..status(401) };
        };
        match manners.files.get(name) {
            Some(file) if revision == "main" || revision == manners.commit => {
                let mut headers = vec![("x-repo-commit", manners.commit.clone())];
                if file.blob.len() == 64 {
                    headers.push(("x-linked-etag", format!("\"{}\"", file.blob)));
                    headers.push(("x-linked-size", file.size.to_string()));
                    headers.push(("location", format!("{}/{}", self.cdn, file.blob)));
                } else {
                    headers.push(("location", format!("/cache/{}", file.blob)));
                }
                Answer { headers, ..status(302) }
            }
            _ => Answer { headers: vec![("x-error-message", "Entry not found".to_owned())], ..status(404) },
        }
    }

    fn wait_for_heads(&self, wanted: usize) {
        let heads =
            |seen: &mut Vec<Seen>| seen.iter().filter(|seen| seen.method == "HEAD" && !seen.cdn).count() < wanted;
        drop(self.news.wait_timeout_while(self.seen.lock().unwrap(), PATIENCE, heads).unwrap());
    }
}

/// The answer that carries a file.
fn body(file: &File, request: &Seen, manners: &Manners) -> Answer {
    let mut headers = vec![("x-repo-commit", manners.commit.clone())];
    // The host that large files are on has tags of its own.
    let tag = if request.cdn { "another" } else { &file.blob };
    headers.push(("etag", format!("\"{tag}\"")));
    let from = request.range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let (status, bytes) = match from.filter(|_| !manners.ignore_range) {
        None => (200, file.bytes.clone()),
        Some(from) if from < file.bytes.len() => {
            let (last, total) = (file.bytes.len() - 1, file.bytes.len());
            headers.push(("content-range", format!("bytes {from}-{last}/{total}")));
            (206, file.bytes[from..].to_vec())
        }
        Some(_) => (416, Vec::new()),
    };
    Answer { status, headers, body: bytes, file: true }
}

/// The only file of [`one_file`].
pub(crate) const GGUF: &str = "hf:tests/model/model.gguf";

/// Bytes that are not the same twice.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

pub(crate) fn files<const N: usize>(files: [(&str, Vec<u8>); N]) -> impl Iterator<Item = (String, Vec<u8>)> {
    files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes))
}

/// A hub with one file of `len` bytes, and an empty cache.
pub(crate) fn one_file(len: usize) -> (TestHub, TempDir) {
    (TestHub::new(files([("model.gguf", bytes(len))])), tempfile::tempdir().unwrap())
}

pub(crate) fn client(hub: &TestHub, cache: &TempDir) -> Hub {
    Hub::new(cache.path()).endpoint(&hub.url)
}

pub(crate) fn fetch(hub: &Hub, name: &str) -> Result<Fetched, Error> {
    hub.fetch(name, &mut |_| {})
}

/// Why `name` is refused.
pub(crate) fn refusal(hub: &Hub, name: &str) -> String {
    match fetch(hub, name) {
        Ok(fetched) => panic!("{name} was fetched to {}", fetched.path.display()),
        Err(error) => error.to_string(),
    }
}

pub(crate) fn repository(cache: &TempDir) -> PathBuf {
    cache.path().join("models--tests--model")
}

pub(crate) fn blobs(cache: &TempDir) -> BTreeSet<String> {
    let entries = std::fs::read_dir(repository(cache).join("blobs")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// The requests for bytes of files, as "method range".
pub(crate) fn transfers(seen: &[Seen]) -> Vec<String> {
    let bytes = seen.iter().filter(|seen| seen.method == "GET" && (seen.cdn || seen.path.contains("/cache/")));
    bytes.map(|seen| seen.range.clone().unwrap_or_else(|| "all".to_owned())).collect()
}

/// All files below `folder`.
pub(crate) fn walk(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] }).collect()
}
