//! What a stage is, and a chain of them.

use std::fmt;

use crate::Candidates;

/// One step between the model's logits and the draw: it drops candidates or changes their logits.
///
/// Stages are applied in the order of the [`Chain`] they stand in. A stage
/// that removes every candidate, or leaves a NaN, makes the draw fail with an
/// [`Error`](crate::Error); it cannot make it draw nonsense.
///
/// ```
/// use tritwise_sampling::{Candidates, Chain, Sampler, Stage};
///
/// /// Never lets the model say one token.
/// #[derive(Debug)]
/// struct Ban(u32);
///
/// impl Stage for Ban {
///     fn name(&self) -> &str {
///         "ban"
///     }
///
///     fn apply(&mut self, candidates: &mut Candidates, _history: &[u32]) {
///         candidates.retain(|candidate| candidate.id != self.0);
///     }
/// }
///
/// let chain = Chain::new().then(Ban(2)).then(tritwise_sampling::Greedy);
/// let mut sampler = Sampler::new(chain, 0);
/// assert_eq!(sampler.sample(&[0.5, 1.0, 9.0])?, 1);
/// # Ok::<(), tritwise_sampling::Error>(())
/// ```
pub trait Stage: fmt::Debug + Send {
    /// A short name, for people who print a chain.
    fn name(&self) -> &str;

    /// Narrows or rescales `candidates`.
    ///
    /// `history` ends with the token accepted last and is at least
    /// [`window`](Self::window) tokens long once that many were accepted.
    fn apply(&mut self, candidates: &mut Candidates, history: &[u32]);

    /// How many of the last tokens the stage wants to see.
    fn window(&self) -> usize {
        0
    }
}

/// Stages in the order in which they are applied.
#[derive(Debug, Default)]
pub struct Chain {
    stages: Vec<Box<dyn Stage>>,
}

impl Chain {
    /// No stages: the draw is from the model's own distribution.
    pub fn new() -> Self {
        Self::default()
    }

    /// This chain with `stage` at its end.
    #[must_use]
    pub fn then(mut self, stage: impl Stage + 'static) -> Self {
        self.push(Box::new(stage));
        self
    }

    /// Adds `stage` at the end.
    pub fn push(&mut self, stage: Box<dyn Stage>) {
        self.stages.push(stage);
    }

    /// The stages, first applied first.
    pub fn stages(&self) -> impl ExactSizeIterator<Item = &dyn Stage> {
        self.stages.iter().map(|stage| &**stage)
    }

    /// The longest history any stage wants to see.
    pub fn window(&self) -> usize {
        self.stages().map(|stage| stage.window()).max().unwrap_or(0)
    }

    /// Applies every stage in order.
    pub fn apply(&mut self, candidates: &mut Candidates, history: &[u32]) {
        for stage in &mut self.stages {
            stage.apply(candidates, history);
        }
    }
}

impl fmt::Display for Chain {
    /// The names, as in `repetition-penalty → top-k → temperature`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, stage) in self.stages().enumerate() {
            let arrow = if i == 0 { "" } else { " → " };
            write!(f, "{arrow}{}", stage.name())?;
        }
        Ok(())
    }
}
