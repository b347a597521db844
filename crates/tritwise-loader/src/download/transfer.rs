//! One blob into the cache: the part that is missing, then the checksum.
//!
//! A part is named after the checksum of the whole, so what it is a part of cannot have changed since: `Range` needs
//! no `If-Range` beside it, whose tag would be that of another host anyway. What was put together wrongly all the
//! same has another checksum.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::cache::{Cache, make_folder_of, write_error};
use super::client::{Client, Facts, header};
use super::name::Name;
use super::{Failure, Progress};
use crate::error::{io_error, printable};

/// A transfer that broke off is taken up again at once if it brought this many bytes.
const WORTH_ANOTHER: u64 = 1 << 20;

/// Bytes that are received, or hashed, at a time.
const PIECE: usize = 1 << 16;

/// A file on its way into the cache.
pub(crate) struct Transfer<'a> {
    pub(crate) client: &'a Client<'a>,
    pub(crate) cache: &'a Cache,
    pub(crate) name: &'a Name,
    pub(crate) file: &'a str,
    pub(crate) facts: &'a Facts,
    /// Where the file is to be, in the snapshot.
    pub(crate) pointer: &'a Path,
    pub(crate) progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Transfer<'_> {
    /// Brings the file into the cache.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let _lock = self.cache.lock(&self.facts.blob)?;
        let there = fs::metadata(self.cache.blob(&self.facts.blob)).is_ok_and(|there| there.len() == self.facts.size);
        if !there {
            self.bring_blob()?;
        }
        if !self.pointer.exists() {
            self.cache.link(&self.facts.blob, self.pointer, self.file)?;
        }
        Ok(())
    }

    fn bring_blob(&mut self) -> Result<(), Failure> {
        let (path, part_path) = (self.cache.blob(&self.facts.blob), self.cache.part(&self.facts.blob));
        make_folder_of(&part_path)?;
        let part = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part_path);
        let mut part = part.map_err(|error| write_error(&part_path, &error))?;
        self.fill(&mut part, &part_path)?;
        let found = checksum(&mut part, self.facts).map_err(|error| io_error(&part_path, &error))?;
        let kept = part.sync_all();
        drop(part);
        if found != self.facts.blob {
            fs::remove_file(&part_path).map_err(|error| write_error(&part_path, &error))?;
            let said = &self.facts.blob;
            return Err(self.refuse(format_args!(
                "arrived with the checksum {found} where the hub says {said}; it was deleted: fetch it again"
            )));
        }
        kept.and_then(|()| fs::rename(&part_path, &path)).map_err(|error| write_error(&path, &error))?;
        Ok(())
    }

    /// Appends to `part` until it is as long as the file.
    fn fill(&mut self, part: &mut File, path: &Path) -> Result<(), Failure> {
        let cannot_write = |error: io::Error| write_error(path, &error);
        let size = self.facts.size;
        let mut have = part.seek(SeekFrom::End(0)).map_err(cannot_write)?;
        if have > size {
            part.set_len(0).map_err(cannot_write)?;
            have = 0;
        }
        (self.progress)(Progress { file: self.file, done: have, total: size });
        while have < size {
            let response = self.client.bytes(&self.facts.commit, self.file, have).map_err(|failure| match failure {
                // The hub has said what the revision is by now: an older one from the cache would be a surprise.
                Failure::Unreachable(why) => self.refuse(format_args!("cannot be fetched: {why}; try again")),
                refused => refused,
            })?;
            let status = response.status();
            let Some(start) = start_of(&response, size).filter(|&start| start == have || start == 0) else {
                part.set_len(0).map_err(cannot_write)?;
                return Err(self.refuse(format_args!(
                    "cannot be continued at byte {have} of {size} (the answer is {status}); \
                     what there was of it was deleted: fetch it again"
                )));
            };
            part.set_len(start).and_then(|()| part.seek(SeekFrom::Start(start))).map_err(cannot_write)?;
            let why;
            (have, why) = self.receive(response, part, path, start)?;
            if have < size && have - start < WORTH_ANOTHER {
                return Err(self.refuse(format_args!(
                    "broke off at byte {have} of {size} ({why}); fetch it again, which goes on from there"
                )));
            }
        }
        Ok(())
    }

    /// Appends an answer's bytes to `part`, which is `have` long. Returns its length then, and why there is no more.
    fn receive(
        &mut self,
        response: Response<Body>,
        part: &mut File,
        path: &Path,
        mut have: u64,
    ) -> Result<(u64, String), Failure> {
        let size = self.facts.size;
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            match body.read(&mut piece) {
                Ok(0) => return Ok((have, "the connection was closed".to_owned())),
                Err(error) => return Ok((have, error.to_string())),
                Ok(read) if read as u64 > size - have => {
                    return Err(
                        self.refuse(format_args!("is longer than the {size} bytes that the hub says; try again"))
                    );
                }
                #[expect(clippy::indexing_slicing, reason = "nothing reads more than there is room for")]
                Ok(read) => {
                    part.write_all(&piece[..read]).map_err(|error| write_error(path, &error))?;
                    have += read as u64;
                }
            }
            (self.progress)(Progress { file: self.file, done: have, total: size });
        }
    }

    fn refuse(&self, message: impl std::fmt::Display) -> Failure {
        self.name.refuse(format_args!("{} {message}", printable(self.file))).into()
    }
}

/// The byte of the file with which an answer begins.
fn start_of(response: &Response<Body>, size: u64) -> Option<u64> {
    match response.status() {
        // The whole file, asked for or not.
        StatusCode::OK => Some(0),
        StatusCode::PARTIAL_CONTENT => {
            let (range, total) = header(response, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
            let (start, _) = range.split_once('-')?;
            if total != "*" && total.parse() != Ok(size) {
                return None;
            }
            start.parse().ok()
        }
        _ => None,
    }
}

/// The checksum of a whole file, of the kind that the hub gave: 64 digits are SHA-256, 40 are git's name of a blob.
fn checksum(file: &mut File, facts: &Facts) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    if facts.blob.len() == 64 {
        return hashed(Sha256::new(), file);
    }
    // Git hashes the length before the bytes (Pro Git, "Git Objects").
    hashed(Sha1::new_with_prefix(format!("blob {}\0", facts.size)), file)
}

fn hashed(mut hash: impl Digest, file: &mut File) -> io::Result<String> {
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            #[expect(clippy::indexing_slicing, reason = "nothing reads more than there is room for")]
            read => hash.update(&piece[..read]),
        }
    }
}
