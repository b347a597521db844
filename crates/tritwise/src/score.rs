//! How likely a model finds a text.

use tritwise_model::{Turn, Wanted};
use tritwise_sampling::logprob;

use crate::{Error, Model};

/// Tokens whose logits are held at once.
const CHUNK: usize = 64;

impl Model {
    /// For each token after the first, the negative natural logarithm of the
    /// probability that the model gives it after those before it.
    ///
    /// # Errors
    /// A token is outside the vocabulary, or there are more than the context holds.
    pub fn negative_log_likelihood(&self, tokens: &[u32]) -> Result<Vec<f64>, Error> {
        let network = self.network();
        let mut sequence = network.sequence(tokens.len());
        let mut workspace = network.workspace();
        let mut scores = Vec::new();
        // Each token but the last has a next one.
        let next = tokens.get(1..).unwrap_or_default();
        for (chunk, next) in tokens.chunks(CHUNK).zip(next.chunks(CHUNK)) {
            let chunk = chunk.get(..next.len()).unwrap_or(chunk);
            let turn = Turn { sequence: &mut sequence, tokens: chunk, wanted: Wanted::All };
            let logits = network.forward(&mut workspace, &mut [turn])?;
            for (row, &next) in logits.rows().zip(next) {
                scores.push(-logprob(row, next)?);
            }
        }
        Ok(scores)
    }
}
