//! The two repositories that files are taken from: the hub's, and the cache's copy.

use std::path::PathBuf;

use super::cache::Cache;
use super::choose::Repository;
use super::client::Client;
use super::name::{Name, is_commit, is_plain_path};
use super::transfer::Transfer;
use super::{Failure, Progress};
use crate::error::printable;

/// A repository on the hub.
pub(crate) struct Remote<'a> {
    pub(crate) client: &'a Client<'a>,
    pub(crate) cache: &'a Cache,
    pub(crate) name: &'a Name,
    /// What the revision stands for, as soon as the hub has said it: all files are of one commit.
    pub(crate) commit: Option<String>,
    pub(crate) progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Remote<'_> {
    fn revision(&self) -> &str {
        self.commit.as_deref().unwrap_or(&self.name.revision)
    }
}

impl Repository for Remote<'_> {
    fn files(&mut self) -> Result<Vec<String>, Failure> {
        let listing = self.client.list(self.revision())?;
        self.commit = Some(listing.commit);
        Ok(listing.files)
    }

    fn place(&mut self, file: &str) -> Result<PathBuf, Failure> {
        check(self.name, file)?;
        if is_commit(self.revision()) {
            let there = self.cache.pointer(self.revision(), file);
            if there.exists() {
                return Ok(there);
            }
        }
        let facts = self.client.facts(self.revision(), file)?;
        if self.commit.as_ref().is_some_and(|commit| *commit != facts.commit) {
            let message = format_args!("answers for commit {} where another was asked for; try again", facts.commit);
            return Err(self.name.refuse(message).into());
        }
        let pointer = self.cache.pointer(&facts.commit, file);
        if !pointer.exists() {
            let Self { client, cache, name, .. } = *self;
            let (facts, pointer, progress) = (&facts, &pointer, &mut *self.progress);
            Transfer { client, cache, name, file, facts, pointer, progress }.run()?;
        }
        self.commit = Some(facts.commit);
        Ok(pointer)
    }
}

/// What the cache has of a repository at one commit.
pub(crate) struct Snapshot<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) name: &'a Name,
    pub(crate) commit: &'a str,
}

impl Repository for Snapshot<'_> {
    fn files(&mut self) -> Result<Vec<String>, Failure> {
        Ok(self.cache.files(self.commit)?)
    }

    fn place(&mut self, file: &str) -> Result<PathBuf, Failure> {
        check(self.name, file)?;
        let pointer = self.cache.pointer(self.commit, file);
        if pointer.exists() { Ok(pointer) } else { Err(Failure::Unreachable(printable(file))) }
    }
}

/// The gate through which every name goes before it becomes a path.
fn check(name: &Name, file: &str) -> Result<(), Failure> {
    if is_plain_path(file) {
        return Ok(());
    }
    let file = printable(file);
    Err(name
        .refuse(format_args!("has a file {file:?}, whose name may lead out of the cache; it is not fetched"))
        .into())
}
