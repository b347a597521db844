//! Fetches checkpoints from the Hugging Face hub, into the cache that `huggingface_hub` uses.
//!
//! `hf:owner/name/file.gguf` is one file; `hf:owner/name` is the repository's only GGUF file or
//! else its safetensors folder; `@revision` after the name is a branch, a tag or a commit. A
//! transfer that broke off goes on where it stopped, a file is used only after its checksum was
//! found right, and what was fetched once can be opened without the hub.
//!
//! The protocol and the layout of the cache are those of `huggingface_hub`
//! (`file_download.py`, <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>).
//! docs/download.md describes both, and what has not been tried.

mod cache;
mod choose;
mod client;
mod name;
mod sources;
mod transfer;

use std::fmt;
use std::path::PathBuf;

use tritwise_tensor::CheckpointError;

use cache::Cache;
use client::Client;
use name::{Name, is_commit};
use sources::{Remote, Snapshot};

use crate::error::file_error;

/// What names on the hub begin with.
pub const PREFIX: &str = crate::open::HUB_PREFIX;

/// Where to fetch from, and where to keep what was fetched.
///
/// ```no_run
/// use tritwise_loader::download::Hub;
/// let hub = Hub::new("/var/cache/models");
/// let fetched = hub.fetch("hf:owner/name/model.gguf", &mut |at| eprintln!("{}: {} of {}", at.file, at.done, at.total))?;
/// let source = tritwise_loader::open(&fetched.path, &Default::default())?;
/// # Ok::<(), tritwise_tensor::CheckpointError>(())
/// ```
#[derive(Clone)]
pub struct Hub {
    cache: PathBuf,
    endpoint: String,
    token: Option<String>,
    offline: bool,
}

/// How much of a file is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file's name in its repository.
    pub file: &'a str,
    /// Bytes that are there, those of an earlier transfer that broke off included.
    pub done: u64,
    /// Size of the file, in bytes.
    pub total: u64,
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched {
    /// What to [open](crate::open): a file or a folder, in the cache.
    pub path: PathBuf,
    /// The commit that it is of: 40 hexadecimal digits.
    pub commit: String,
    /// Why it may be older than what the hub has: the reason why the hub was not asked, or could
    /// not be. `None` if the hub said that this commit is the revision's, or if the revision is a commit.
    pub unconfirmed: Option<String>,
}

/// Why a source gave nothing.
enum Failure {
    /// The hub did not answer, or could not at the moment; the cache may do.
    Unreachable(String),
    /// There is an answer, and it is no.
    Refused(CheckpointError),
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        Self::Refused(error)
    }
}

impl Hub {
    /// The hub at `https://huggingface.co`, with `cache` for a cache: a folder, which is made when it is needed.
    ///
    /// The cache is shared with other programs if it is the folder that they use ([`in_home`](Self::in_home)).
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self { cache: cache.into(), endpoint: "https://huggingface.co".to_owned(), token: None, offline: false }
    }

    /// The same with the cache that `huggingface_hub` has by default: `.cache/huggingface/hub` in the user's home.
    ///
    /// Asks the system where that is, and on Unix the system looks at `HOME` first; nothing else of the environment is read.
    ///
    /// # Errors
    /// The system knows of no home.
    pub fn in_home() -> Result<Self, CheckpointError> {
        match std::env::home_dir().filter(|home| home.is_absolute()) {
            Some(home) => Ok(Self::new(home.join(".cache/huggingface/hub"))),
            None => {
                Err(file_error(PREFIX, "has no place to keep files, as the user has no home: say where (Hub::new)"))
            }
        }
    }

    /// Another hub that speaks the same protocol, such as a mirror: `https://host`, with a port or a path if it has them.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = url.into().trim_end_matches('/').to_owned();
        self
    }

    /// An access token, for repositories that ask for one. It is sent to the endpoint and to no other host.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Whether to use what the cache has and no network.
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Fetches what `name` (`hf:owner/name[@revision][/file]`) stands for, as far as the cache does not have it.
    ///
    /// Of a repository, that is its only `.gguf` file, or if it has none its safetensors and the small files beside
    /// them. A part of a split GGUF model stands for all of them. A `.safetensors` file stands for itself with its shards and those small files.
    ///
    /// If the hub cannot be reached, what the cache has for the revision is given, and
    /// [`Fetched::unconfirmed`] says why. `progress` hears of each file that is transferred, at least once.
    /// Two fetches of one file at the same time, of one program or of two, transfer it once.
    ///
    /// # Errors
    /// The name is none, the repository or the file is not there or not for everybody, it holds no model or several
    /// of which none was named, the transfer broke off (what has arrived is kept, and the next call fetches the
    /// rest), the checksum is wrong, or the cache cannot be written. Without network: the cache has no such file.
    pub fn fetch(&self, name: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Fetched, CheckpointError> {
        let name = Name::parse(name)?;
        let cache = Cache::new(&self.cache, &name);
        if self.offline {
            return from_cache(&cache, &name, "the hub was not asked");
        }
        let client = Client::new(&self.endpoint, self.token.as_deref(), &name)?;
        let mut remote = Remote { client: &client, cache: &cache, name: &name, commit: None, progress };
        match choose::collect(&name, &mut remote) {
            Ok(path) => {
                let commit = remote.commit.unwrap_or_else(|| name.revision.clone());
                cache.write_ref(&name.revision, &commit)?;
                Ok(Fetched { path, commit, unconfirmed: None })
            }
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Unreachable(why)) => from_cache(&cache, &name, &why),
        }
    }
}

/// What the cache has for `name`, although `why`.
fn from_cache(cache: &Cache, name: &Name, why: &str) -> Result<Fetched, CheckpointError> {
    let refuse = |what: &str| {
        let folder = cache.folder().display();
        name.refuse(format_args!("cannot be had: {why}, and {what} in {folder}; fetch it while the hub can be reached"))
    };
    let Some(commit) = cache.commit_of(&name.revision) else {
        return Err(refuse(&format!("revision {} is not", name.revision)));
    };
    match choose::collect(name, &mut Snapshot { cache, name, commit: &commit }) {
        Ok(path) => {
            let unconfirmed = (!is_commit(&name.revision)).then(|| why.to_owned());
            Ok(Fetched { path, commit, unconfirmed })
        }
        Err(Failure::Unreachable(file)) => Err(refuse(&format!("{file} is not"))),
        Err(Failure::Refused(error)) => {
            let folder = cache.folder().display();
            Err(name.refuse(format_args!("{} (so it is in {folder}, as {why})", error.message)))
        }
    }
}

/// Without the token.
impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .finish()
    }
}
