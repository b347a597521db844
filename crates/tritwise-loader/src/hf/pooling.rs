//! How a text embedding is pooled: `1_Pooling/config.json`, as sentence-transformers writes it.

use std::path::Path;

use serde::Deserialize;
use tritwise_tensor::{CheckpointError, Pooling};

use super::read_json;
use crate::error::file_error;

/// The modes of which one is set.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
}

/// The pooling of the model whose `config.json` is at `config`; `None` if its folder names none.
pub(super) fn read(config: &Path) -> Result<Option<Pooling>, CheckpointError> {
    let path = config.with_file_name("1_Pooling").join("config.json");
    let Some(file) = read_json::<File>(&path)? else {
        return Ok(None);
    };
    match (file.pooling_mode_cls_token, file.pooling_mode_mean_tokens, file.pooling_mode_lasttoken) {
        (true, false, false) => Ok(Some(Pooling::Cls)),
        (false, true, false) => Ok(Some(Pooling::Mean)),
        (false, false, true) => Ok(Some(Pooling::Last)),
        _ => Err(file_error(
            &path.display().to_string(),
            "asks for several ways of pooling, or for one that is not supported; supported are the first token, the \
             mean and the last token",
        )),
    }
}
