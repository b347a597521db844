//! Models that are named rather than on this machine: `hf:owner/name`.

use std::path::{Path, PathBuf};

use crate::Result;

/// Where `path` is on this machine. With the feature `download`, a name on the Hugging Face hub is fetched for
/// that, with a progress bar, as the environment says: `HF_HUB_CACHE` or `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and
/// `HF_HUB_OFFLINE=1`, all of which mean what they mean to `huggingface_hub`.
#[cfg(feature = "download")]
pub fn local(path: &Path) -> Result<PathBuf> {
    use tritwise::download::{Hub, PREFIX};

    let Some(name) = path.to_str().filter(|path| path.starts_with(PREFIX)) else {
        return Ok(path.to_owned());
    };
    let set = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
    let cache = set("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(PathBuf::from(set("HF_HOME")?).join("hub")));
    let mut hub = cache.map_or_else(Hub::in_home, |cache| Ok(Hub::new(cache)))?;
    if let Some(endpoint) = set("HF_ENDPOINT") {
        hub = hub.endpoint(endpoint);
    }
    if let Some(token) = set("HF_TOKEN") {
        hub = hub.token(token);
    }
    hub = hub.offline(set("HF_HUB_OFFLINE").is_some_and(|value| value != "0"));
    let bar = crate::bar("fetching", 0);
    let fetched = hub.fetch(name, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    })?;
    bar.finish_and_clear();
    if let Some(why) = &fetched.unconfirmed {
        eprintln!("{name}: commit {} from the cache, which may not be the latest: {why}", fetched.commit);
    }
    Ok(fetched.path)
}

/// `path` itself: without the feature `download` nothing is fetched, and opening a name says so.
#[cfg(not(feature = "download"))]
pub fn local(path: &Path) -> Result<PathBuf> {
    Ok(path.to_owned())
}
