//! What tells one model from another, at next to no cost.
//!
//! A model's fingerprint is the SHA-256 of what its keys and values, and the meaning of its tokens, depend on:
//!
//! * every hyperparameter that a result depends on;
//! * every number of every norm;
//! * of every matrix and table: its shape, and the trits and scales, or the numbers, of four rows, the first and
//!   the last among them;
//! * every token of the tokenizer, and which ones begin and end a text.
//!
//! It is taken of the checkpoint's numbers as the graph asks for them, not of bytes: so it is the same
//! on every machine, for weights packed or in place, and for another file with the same numbers. Two models are
//! told apart if they differ in any of the above. A retrained matrix has other scales; but matrices that differ only
//! in rows that are not looked at, under the same scales, are not told apart: the price of not reading a model twice.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tritwise_tensor::{Checkpoint, CheckpointError, Config, DenseMatrix, Scales, TensorId, TernaryMatrix};
use tritwise_tokenizer::Tokenizer;

/// Rows of a matrix that are looked at.
const ROWS: usize = 4;

/// What a saved session names its model by; see docs/sessions.md for what it can tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub(crate) [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A checkpoint whose tensors are looked at as they are handed out.
pub(crate) struct Observed<'a> {
    checkpoint: &'a dyn Checkpoint,
    /// By name, so that the order in which a graph asks does not matter.
    tensors: Mutex<BTreeMap<String, [u8; 32]>>,
}

impl<'a> Observed<'a> {
    pub(crate) fn new(checkpoint: &'a dyn Checkpoint) -> Self {
        Self { checkpoint, tensors: Mutex::default() }
    }

    /// The fingerprint of what was handed out.
    pub(crate) fn fingerprint(self, tokenizer: Option<&Tokenizer>) -> Fingerprint {
        let mut sha = Sha256::new();
        sha.update(hyperparameters(self.checkpoint.config()));
        for (name, digest) in self.tensors.into_inner().unwrap_or_else(PoisonError::into_inner) {
            sha.update(name);
            sha.update(digest);
        }
        sha.update(tokenizer.map_or_else(Vec::new, vocabulary));
        Fingerprint(sha.finalize().into())
    }

    fn note(&self, id: TensorId, digest: Sha256) {
        let mut tensors = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        tensors.insert(id.to_string(), digest.finalize().into());
    }
}

impl Checkpoint for Observed<'_> {
    fn config(&self) -> &Config {
        self.checkpoint.config()
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "a matrix has as many scales as it has rows, or groups of columns in them"
    )]
    fn ternary(&self, id: TensorId, rows: usize, cols: usize) -> Result<TernaryMatrix<'_>, CheckpointError> {
        let matrix = self.checkpoint.ternary(id, rows, cols)?;
        let mut sha = shape(rows, cols);
        let mut trits = vec![0i8; cols];
        for row in looked_at(rows) {
            matrix.read_row(row, &mut trits);
            sha.update(trits.iter().map(|trit| trit.cast_unsigned()).collect::<Vec<_>>());
            sha.update(bytes(match matrix.scales() {
                Scales::Tensor(scale) => std::slice::from_ref(scale),
                Scales::Rows(scales) => &scales[row..=row],
                Scales::Groups { cols: group, values } => {
                    let groups = cols / group;
                    &values[row * groups..][..groups]
                }
            }));
        }
        self.note(id, sha);
        Ok(matrix)
    }

    fn dense(&self, id: TensorId, rows: usize, cols: usize) -> Result<DenseMatrix<'_>, CheckpointError> {
        let table = self.checkpoint.dense(id, rows, cols)?;
        let mut sha = shape(rows, cols);
        let mut numbers = vec![0.0; cols];
        for row in looked_at(rows) {
            table.read_row(row, &mut numbers);
            sha.update(bytes(&numbers));
        }
        self.note(id, sha);
        Ok(table)
    }

    fn vector(&self, id: TensorId, len: usize) -> Result<Vec<f32>, CheckpointError> {
        let numbers = self.checkpoint.vector(id, len)?;
        let mut sha = shape(1, len);
        sha.update(bytes(&numbers));
        self.note(id, sha);
        Ok(numbers)
    }

    fn finish(&self) -> Result<(), CheckpointError> {
        self.checkpoint.finish()
    }
}

/// [`ROWS`] of `rows` rows, evenly from the first to the last; or all, if there are fewer.
fn looked_at(rows: usize) -> impl Iterator<Item = usize> {
    let count = ROWS.min(rows);
    (0..count).map(move |i| if i == 0 { 0 } else { (rows - 1) * i / (count - 1) })
}

fn shape(rows: usize, cols: usize) -> Sha256 {
    let mut sha = Sha256::new();
    sha.update([rows, cols].map(|n| (n as u64).to_le_bytes()).concat());
    sha
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Every hyperparameter that keys and values, or logits, depend on, as text.
fn hyperparameters(config: &Config) -> String {
    // Without `..`: whoever adds a hyperparameter decides here whether it matters.
    let Config {
        architecture: _,
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        ffn,
        vocab,
        context: _,
        norm_eps,
        input_norm_eps,
        rope,
        window,
        activation,
        norms,
        embedding_scale,
        inputs,
        tied,
        pooling: _,
    } = config;
    format!(
        "{hidden} {layers} {heads} {kv_heads} {head_dim} {ffn} {vocab} {norm_eps:?} {input_norm_eps:?} {rope:?} \
         {window:?} {activation:?} {norms:?} {embedding_scale:?} {inputs:?} {tied}"
    )
}

/// Every token's bytes behind their number, and the tokens with a role.
fn vocabulary(tokenizer: &Tokenizer) -> Vec<u8> {
    let mut all = Vec::new();
    let ids = 0..u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    for id in ids {
        let token = tokenizer.token_bytes(id);
        all.extend((token.len() as u64).to_le_bytes());
        all.extend(token);
    }
    let roles = (tokenizer.bos(), tokenizer.add_bos(), tokenizer.eog());
    all.extend(format!("{roles:?}").into_bytes());
    all
}

#[cfg(test)]
mod tests {
    use super::looked_at;

    #[test]
    fn the_first_and_the_last_row_are_looked_at() {
        let rows = |n| looked_at(n).collect::<Vec<_>>();
        assert!(rows(0).is_empty());
        assert_eq!(rows(1), [0]);
        assert_eq!(rows(2), [0, 1]);
        assert_eq!(rows(4), [0, 1, 2, 3]);
        assert_eq!(rows(640), [0, 213, 426, 639]);
    }
}
