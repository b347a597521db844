//! The hub over HTTP: what is in a repository, what is known of a file, and its bytes.
//!
//! `GET  /api/models/{owner}/{name}/revision/{revision}`   commit and file names, as JSON
//! `HEAD /{owner}/{name}/resolve/{revision}/{file}`        commit, checksum and size, in headers
//! `GET  /{owner}/{name}/resolve/{revision}/{file}`        the file, mostly by way of another host

use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;
use tritwise_tensor::CheckpointError;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, ETAG, LOCATION, RANGE};
use ureq::http::{Method, Request, Response, StatusCode, Uri};
use ureq::{Agent, Body};

use super::Failure;
use super::name::{Name, is_commit, is_hash};
use crate::error::printable;
use crate::limits;

/// How long to wait for a connection, and for the next bytes of an answer.
const CONNECT: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(60);

/// A repository's way to its hub.
pub(crate) struct Client<'a> {
    agent: Agent,
    endpoint: &'a str,
    origin: Origin,
    token: Option<&'a str>,
    name: &'a Name,
}

/// What is in a repository at one commit.
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<String>,
}

/// What the hub says of a file before it sends it.
pub(crate) struct Facts {
    /// The commit that the revision stands for.
    pub(crate) commit: String,
    /// The checksum: SHA-256 of files in LFS, else what git calls the blob; the name of the file's bytes in the cache.
    pub(crate) blob: String,
    /// Size in bytes.
    pub(crate) size: u64,
}

/// Scheme, host and port: whom a token is for.
type Origin = (String, String, u16);

impl<'a> Client<'a> {
    pub(crate) fn new(endpoint: &'a str, token: Option<&'a str>, name: &'a Name) -> Result<Self, CheckpointError> {
        let uri = endpoint.parse().ok();
        let origin = uri.as_ref().and_then(origin).ok_or_else(|| {
            name.refuse(format_args!(
                "cannot be asked of {}: an endpoint is an https:// or http:// URL",
                printable(endpoint)
            ))
        })?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed here, where it is known who may see the token.
            .max_redirects(0)
            // Left alone, it would be looked for in the environment.
            .proxy(None)
            .accept_encoding("identity")
            .user_agent(concat!("tritwise/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        Ok(Self { agent: config.build().into(), endpoint, origin, token, name })
    }

    /// The files of the repository at `revision`.
    pub(crate) fn list(&self, revision: &str) -> Result<Listing, Failure> {
        #[derive(Deserialize)]
        struct Model {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let url =
            format!("{}/api/models/{}/revision/{}", self.endpoint, self.name.repository, encoded(revision, false));
        let mut response = self.follow(&Method::GET, url, None, false)?;
        if response.status() != StatusCode::OK {
            return Err(self.no(&response, None));
        }
        let body = response.body_mut().with_config().limit(limits::LISTING_BYTES).read_to_vec();
        let body = body.map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(most) => self.no_hub(&format!("its listing is larger than {most} bytes")),
            error => self.unreachable(&error),
        })?;
        let model: Model = serde_json::from_slice(&body)
            .map_err(|error| self.no_hub(&format!("its listing is not as expected ({error})")))?;
        if !is_commit(&model.sha) {
            return Err(self.no_hub("its listing has no commit"));
        }
        Ok(Listing { commit: model.sha, files: model.siblings.into_iter().map(|sibling| sibling.rfilename).collect() })
    }

    /// What the hub says of `file` at `revision`.
    pub(crate) fn facts(&self, revision: &str, file: &str) -> Result<Facts, Failure> {
        let response = self.follow(&Method::HEAD, self.file_url(revision, file), None, false)?;
        // A redirect that was not followed leads to where the bytes are; the hub's own answer has the headers.
        let elsewhere = response.status().is_redirection();
        if !elsewhere && response.status() != StatusCode::OK {
            return Err(self.no(&response, Some(file)));
        }
        let commit = header(&response, "x-repo-commit").filter(|commit| is_commit(commit));
        let commit = commit.ok_or_else(|| self.no_hub("it names no commit"))?;
        let etag = header(&response, "x-linked-etag").or_else(|| header(&response, ETAG.as_str()));
        let blob = etag.unwrap_or_default().trim_start_matches("W/").trim_matches('"');
        if !is_hash(blob, 64) && !is_hash(blob, 40) {
            return Err(self.no_hub(&format!("{} comes without a checksum", printable(file))));
        }
        let length = || header(&response, CONTENT_LENGTH.as_str()).filter(|_| !elsewhere);
        let size = header(&response, "x-linked-size").or_else(length).and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| self.no_hub(&format!("{} comes without a size", printable(file))))?;
        Ok(Facts { commit: commit.to_owned(), blob: blob.to_owned(), size })
    }

    /// The bytes of `file` from `from` on, or all of them if the hub sends all: the status says which.
    pub(crate) fn bytes(&self, commit: &str, file: &str, from: u64) -> Result<Response<Body>, Failure> {
        let response = self.follow(&Method::GET, self.file_url(commit, file), Some(from), true)?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
            _ => Err(self.no(&response, Some(file))),
        }
    }

    fn file_url(&self, revision: &str, file: &str) -> String {
        let (revision, file) = (encoded(revision, false), encoded(file, true));
        format!("{}/{}/resolve/{revision}/{file}", self.endpoint, self.name.repository)
    }

    /// The answer at `url` or where it leads; to other hosts only if `leave`, and without the token.
    fn follow(
        &self,
        method: &Method,
        mut url: String,
        from: Option<u64>,
        leave: bool,
    ) -> Result<Response<Body>, Failure> {
        for _ in 0..=limits::REDIRECTS {
            let here: Uri = url.parse().map_err(|_| self.no_hub("it leads to no URL"))?;
            let mut request = Request::builder().method(method).uri(&here);
            if let Some(token) = self.token.filter(|_| origin(&here).as_ref() == Some(&self.origin)) {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            if let Some(from) = from.filter(|&from| from > 0) {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let request = request.body(());
            let request =
                request.map_err(|_| self.name.refuse("cannot be asked for with this token: no header can hold it"))?;
            let response = self.agent.run(request).map_err(|error| self.unreachable(&error))?;
            let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = header(&response, LOCATION.as_str()).filter(|_| moved) else {
                return Ok(response);
            };
            let next = joined(&here, location).ok_or_else(|| self.no_hub("it leads to no URL"))?;
            if origin(&next).as_ref() != Some(&self.origin) && !leave {
                return Ok(response);
            }
            if here.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(self.no_hub("it leads from https to http"));
            }
            url = next.to_string();
        }
        Err(self.no_hub("it leads from one place to the next without end"))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        Failure::Unreachable(format!("{} cannot be reached ({error})", self.endpoint))
    }

    /// Why an answer is none of a hub.
    fn no_hub(&self, why: &str) -> Failure {
        let message = format_args!(
            "cannot be had from {}, which does not answer as a hub: {why}; check the endpoint",
            self.endpoint
        );
        self.name.refuse(message).into()
    }

    /// What an answer that is no file says, in a sentence.
    fn no(&self, response: &Response<Body>, file: Option<&str>) -> Failure {
        let status = response.status();
        let said = header(response, "x-error-message").map(|said| format!(", {}", printable(said))).unwrap_or_default();
        let answer = format!("{} answers {}{said}", self.endpoint, status.as_u16());
        let what = match file {
            Some(file) if self.name.file.as_deref() != Some(file) => format!("{} of it ", printable(file)),
            _ => String::new(),
        };
        let message = match status.as_u16() {
            401 | 403 => {
                let token =
                    if self.token.is_some() { "has the token access" } else { "does it want a token (Hub::token)" };
                format!(
                    "{what}is not there or not for everybody ({answer}): is the name right, are its terms accepted, {token}?"
                )
            }
            404 => format!("{what}is not there at revision {} ({answer}): check the name", self.name.revision),
            408 | 429 | 500.. => return Failure::Unreachable(answer),
            _ => format!("{what}cannot be had: {answer}"),
        };
        self.name.refuse(message).into()
    }
}

/// The value of a header, if it has one that is text.
pub(crate) fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

fn origin(uri: &Uri) -> Option<Origin> {
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    let default = if scheme == "https" { 443 } else { 80 };
    Some((scheme.to_owned(), uri.host()?.to_ascii_lowercase(), uri.port_u16().unwrap_or(default)))
}

/// Where `location` leads from `here`: a URL, or a path from the root.
fn joined(here: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with('/') && !location.starts_with("//") {
        return format!("{}://{}{location}", here.scheme_str()?, here.authority()?).parse().ok();
    }
    let uri: Uri = location.parse().ok()?;
    origin(&uri).map(|_| uri)
}

/// `text` in a URL's path, as RFC 3986 has it.
fn encoded(text: &str, slashes: bool) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (slashes && byte == b'/') {
            encoded.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
