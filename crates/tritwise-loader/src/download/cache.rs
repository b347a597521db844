//! The cache on disk, in the layout of `huggingface_hub`, so that both find what either fetched.
//!
//! ```text
//! models--owner--name/blobs/{checksum}                       the bytes of a file; {checksum}.incomplete: the first part
//! models--owner--name/refs/{revision}                        the commit that a branch or a tag stood for
//! models--owner--name/snapshots/{commit}/{file}              a link to its blob
//! .locks/models--owner--name/{checksum}.lock                 held while the blob is being transferred
//! ```
//!
//! A blob gets its name when it is complete and its checksum right, so what has a name can be used.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tritwise_tensor::CheckpointError;

use super::name::{Name, is_commit};
use crate::error::{file_error, io_error};

/// How deep folders in a snapshot are looked through.
const DEPTH: usize = 8;

/// What the cache has of one repository.
pub(crate) struct Cache {
    repository: PathBuf,
    locks: PathBuf,
}

impl Cache {
    pub(crate) fn new(root: &Path, name: &Name) -> Self {
        let folder = format!("models--{}", name.repository.replace('/', "--"));
        Self { repository: root.join(&folder), locks: root.join(".locks").join(folder) }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.repository
    }

    /// Where a blob is when it is complete.
    pub(crate) fn blob(&self, blob: &str) -> PathBuf {
        self.repository.join("blobs").join(blob)
    }

    /// Where the part of a blob is that has arrived.
    pub(crate) fn part(&self, blob: &str) -> PathBuf {
        self.repository.join("blobs").join(format!("{blob}.incomplete"))
    }

    /// Where `file` of `commit` is; both must have been checked.
    pub(crate) fn pointer(&self, commit: &str, file: &str) -> PathBuf {
        self.repository.join("snapshots").join(commit).join(file)
    }

    /// Waits until nobody else is at `what`, and keeps others away until the result is dropped.
    ///
    /// The system lets go of the lock of a process that dies.
    pub(crate) fn lock(&self, what: &str) -> Result<File, CheckpointError> {
        let path = self.locks.join(format!("{what}.lock"));
        let lock = || {
            fs::create_dir_all(&self.locks)?;
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
            file.lock().map(|()| file)
        };
        lock().map_err(|error| {
            file_error(
                &path.display().to_string(),
                format_args!("cannot be locked: {error}; choose another cache (Hub::new)"),
            )
        })
    }

    /// Makes `pointer`, which is `file` in a snapshot, a name of a complete blob, whose lock must be held.
    pub(crate) fn link(&self, blob: &str, pointer: &Path, file: &str) -> Result<(), CheckpointError> {
        make_folder_of(pointer)?;
        let up = "../".repeat(2 + file.matches('/').count());
        match link(&self.blob(blob), &up, pointer) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(write_error(pointer, &error)),
            // There is a link already, and the blob that it led to is there again.
            _ => Ok(()),
        }
    }

    /// The commit that `revision` is, or stood for when something was last fetched of it.
    pub(crate) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let mut commit = String::new();
        File::open(self.repository.join("refs").join(revision)).ok()?.take(64).read_to_string(&mut commit).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Notes what `revision` stands for, unless that is noted already: a cache that has everything is not written to.
    pub(crate) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), CheckpointError> {
        if self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.repository.join("refs").join(revision);
        make_folder_of(&path)?;
        let _lock = self.lock("refs")?;
        let new = self.repository.join("ref.incomplete");
        fs::write(&new, commit).and_then(|()| fs::rename(&new, &path)).map_err(|error| write_error(&path, &error))
    }

    /// The names of the files of `commit` that are there.
    pub(crate) fn files(&self, commit: &str) -> Result<Vec<String>, CheckpointError> {
        let mut files = Vec::new();
        walk(&self.repository.join("snapshots").join(commit), "", DEPTH, &mut files)?;
        files.sort();
        Ok(files)
    }
}

fn walk(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) -> Result<(), CheckpointError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| io_error(folder, &error))?,
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && depth > 0 {
            walk(&entry.path(), &format!("{prefix}{name}/"), depth - 1, files)?;
        } else if !is_folder && entry.path().exists() {
            files.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

/// A relative link, so that the cache can be moved.
#[cfg(unix)]
fn link(target: &Path, up: &str, pointer: &Path) -> io::Result<()> {
    let blob = target.file_name().unwrap_or_default();
    std::os::unix::fs::symlink(Path::new(up).join("blobs").join(blob), pointer)
}

/// Links by path need a privilege on Windows. A second name of the same bytes does not; where the file system has
/// none, a copy has to do.
#[cfg(not(unix))]
fn link(target: &Path, _up: &str, pointer: &Path) -> io::Result<()> {
    match fs::hard_link(target, pointer) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let mut new = pointer.to_owned();
            new.as_mut_os_string().push(".incomplete");
            fs::copy(target, &new).and_then(|_| fs::rename(&new, pointer))
        }
        done => done,
    }
}

pub(crate) fn make_folder_of(path: &Path) -> Result<(), CheckpointError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| write_error(folder, &error))
}

/// The file at `path` could not be made or written.
pub(crate) fn write_error(path: &Path, error: &io::Error) -> CheckpointError {
    file_error(&path.display().to_string(), format_args!("cannot be written: {error}"))
}
