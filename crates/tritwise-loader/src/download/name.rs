//! What `hf:owner/name@revision/file` says, and which names may become paths.

use tritwise_tensor::CheckpointError;

use super::PREFIX;
use crate::error::{file_error, printable};

/// The branch that is meant where none is named.
const DEFAULT_REVISION: &str = "main";

/// A name on the hub, taken apart.
#[derive(Debug)]
pub(crate) struct Name {
    /// As the user wrote it, for errors.
    pub(crate) label: String,
    /// `owner/name`.
    pub(crate) repository: String,
    /// A branch, a tag or a commit.
    pub(crate) revision: String,
    pub(crate) file: Option<String>,
}

impl Name {
    /// Takes `hf:owner/name[@revision][/file]` apart; a `/` in a revision is written `%2F`, as in `refs%2Fpr%2F1`.
    pub(crate) fn parse(text: &str) -> Result<Self, CheckpointError> {
        let label = printable(text);
        let wrong = |what: &str| {
            let message =
                format_args!("{what}: write {PREFIX}owner/name, {PREFIX}owner/name@revision or either with /file.gguf");
            file_error(&label, message)
        };
        let mut parts = text.strip_prefix(PREFIX).unwrap_or_default().splitn(3, '/');
        let (owner, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let file = parts.next().filter(|file| !file.is_empty());
        let (name, revision) = name.split_once('@').unwrap_or((name, DEFAULT_REVISION));
        if !is_identifier(owner) || !is_identifier(name) {
            return Err(wrong("names no repository of the Hugging Face hub"));
        }
        let revision = revision.replace("%2F", "/").replace("%2f", "/");
        if !is_plain_path(&revision) {
            return Err(wrong("names no revision"));
        }
        Ok(Self { repository: format!("{owner}/{name}"), revision, file: file.map(str::to_owned), label })
    }

    pub(crate) fn refuse(&self, message: impl std::fmt::Display) -> CheckpointError {
        file_error(&self.label, message)
    }
}

/// What the hub allows as the name of an owner or a repository, of which the cache makes a folder's name.
fn is_identifier(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=96).contains(&name.len())
        && name.chars().all(known)
        && !name.starts_with(['-', '.'])
        && !name.contains("..")
        && !name.contains("--")
}

/// Whether `path` leads down from a folder and nowhere else, on any system: no `..`, no root, no backslash, drive
/// or stream, nothing a terminal obeys.
pub(crate) fn is_plain_path(path: &str) -> bool {
    !path.contains(|c: char| c.is_control() || c == '\\' || c == ':')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether `text` is a commit or the checksum of a blob: nothing but `digits` lower-case hexadecimal digits.
pub(crate) fn is_hash(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `text` is a commit, which never changes what it stands for.
pub(crate) fn is_commit(text: &str) -> bool {
    is_hash(text, 40)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, String, Option<String>)> {
        let name = Name::parse(text).ok()?;
        Some((name.repository, name.revision, name.file))
    }

    #[test]
    fn names_are_taken_apart() {
        let is = |repository: &str, revision: &str, file: Option<&str>| {
            Some((repository.to_owned(), revision.to_owned(), file.map(str::to_owned)))
        };
        assert_eq!(parsed("hf:a/b"), is("a/b", "main", None));
        assert_eq!(parsed("hf:a/b/"), is("a/b", "main", None));
        assert_eq!(parsed("hf:a/b/c.gguf"), is("a/b", "main", Some("c.gguf")));
        assert_eq!(parsed("hf:a/b@v1.0/c/d@e.gguf"), is("a/b", "v1.0", Some("c/d@e.gguf")));
        assert_eq!(parsed("hf:a/b@refs%2Fpr%2f1"), is("a/b", "refs/pr/1", None));
    }

    #[test]
    fn other_names_are_refused() {
        let wrong =
            ["hf:", "hf:a", "hf:/a", "hf:a/", "a/b", "hf:a//c.gguf", "hf:../b", "hf:a/..", "hf:a/b@", "hf:a/b@..%2Fc"];
        for text in wrong.into_iter().chain(["hf:a/b c", "hf:a--b/c", "hf:.a/b", "hf:a\\b/c", "hf:a/b@x\n", "hf:é/b"])
        {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn a_path_leads_down_or_nowhere() {
        for path in ["a", "a/b", "a b/c.gguf", "…", ".gitattributes", "a..b"] {
            assert!(is_plain_path(path), "{path}");
        }
        for path in ["", "/a", "a//b", "a/", "..", "../a", "a/../b", "a/.", "a\\b", "c:a", "a\0", "a\x1b[2J", "a\n"] {
            assert!(!is_plain_path(path), "{path}");
        }
    }
}
