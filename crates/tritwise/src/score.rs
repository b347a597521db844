//! How likely a model finds a text.

use tritwise_model::{Turn, Wanted};

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
        let mut scores = Vec::with_capacity(tokens.len().saturating_sub(1));
        let given = &tokens[..tokens.len().saturating_sub(1)];
        for (chunk, first) in given.chunks(CHUNK).zip((1..).step_by(CHUNK)) {
            let turn = Turn { sequence: &mut sequence, tokens: chunk, wanted: Wanted::All };
            let logits = network.forward(&mut workspace, &mut [turn])?;
            for (row, &next) in logits.rows().zip(&tokens[first..]) {
                let logit = *row.get(next as usize).ok_or(tritwise_model::Error::Token {
                    token: next,
                    vocab: network.config().vocab,
                })?;
                scores.push(log_sum_exp(row) - f64::from(logit));
            }
        }
        Ok(scores)
    }
}

fn log_sum_exp(row: &[f32]) -> f64 {
    let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    max + row.iter().map(|x| (f64::from(*x) - max).exp()).sum::<f64>().ln()
}
