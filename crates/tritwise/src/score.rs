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
        let given = &tokens[..tokens.len().saturating_sub(1)];
        for (chunk, first) in given.chunks(CHUNK).zip((1..).step_by(CHUNK)) {
            let turn = Turn { sequence: &mut sequence, tokens: chunk, wanted: Wanted::All };
            let logits = network.forward(&mut workspace, &mut [turn])?;
            for (row, &next) in logits.rows().zip(&tokens[first..]) {
                scores.push(-logprob(row, next)?);
            }
        }
        Ok(scores)
    }
}
