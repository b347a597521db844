//! What a stage is, and a chain of them.

use std::fmt;

use crate::{Candidates, Random};

/// One step between the model's logits and the draw: it drops candidates or changes their logits.
///
/// Stages are applied in the order of the [`Chain`] they stand in. A stage
/// that removes every candidate, or leaves a NaN, makes the draw fail with an
/// [`Error`](crate::Error); it cannot make it draw nonsense.
///
/// Only [`name`](Self::name) and [`apply`](Self::apply) have to be written.
/// A stage with a state of its own, such as a grammar's mask, follows the text
/// with [`accept`](Self::accept):
///
/// ```
/// use tritwise_sampling::{Candidates, Chain, Random, Sampler, Stage};
///
/// /// Never lets the model say a token twice running.
/// #[derive(Debug, Default)]
/// struct NoEcho(Option<u32>);
///
/// impl Stage for NoEcho {
///     fn name(&self) -> &str {
///         "no-echo"
///     }
///
///     fn apply(&mut self, candidates: &mut Candidates, _history: &[u32], _random: &mut Random) {
///         candidates.retain(|candidate| Some(candidate.id) != self.0);
///     }
///
///     fn accept(&mut self, id: u32) {
///         self.0 = Some(id);
///     }
///
///     fn reset(&mut self) {
///         self.0 = None;
///     }
/// }
///
/// let chain = Chain::new().then(NoEcho::default()).then(tritwise_sampling::Greedy);
/// let mut sampler = Sampler::new(chain, 0);
/// let row = [0.5, 1.0, 9.0];
/// assert_eq!(sampler.sample(&row)?, 2);
/// sampler.accept(2);
/// assert_eq!(sampler.sample(&row)?, 1);
/// # Ok::<(), tritwise_sampling::Error>(())
/// ```
pub trait Stage: fmt::Debug + Send {
    /// A short name, for people who print a chain.
    fn name(&self) -> &str;

    /// Narrows or rescales `candidates`. May be called several times for one token, each call standing for itself.
    ///
    /// `history` ends with the token that stands last in the text, prompt
    /// included, and is at least [`window`](Self::window) tokens long once
    /// there are that many. For `random` see [`Random`].
    fn apply(&mut self, candidates: &mut Candidates, history: &[u32], random: &mut Random);

    /// Told of every token that was chosen for the text, in order; not of the
    /// prompt's. It need not be one that this stage left over: the caller may
    /// have put another in its place.
    fn accept(&mut self, id: u32) {
        let _ = id;
    }

    /// Back to the state before the first token.
    fn reset(&mut self) {}

    /// How many of the last tokens the stage wants to see; `usize::MAX` for all.
    fn window(&self) -> usize {
        0
    }

    /// What the next [`apply`](Self::apply) after `history` will do, as far as it tells which logits need not be
    /// computed. The tokens of [`Effect::Touches`] are added to `touched`.
    ///
    /// [`Effect::Any`] is always right, and has all logits computed.
    fn effect(&mut self, history: &[u32], touched: &mut Vec<u32>) -> Effect {
        let _ = (history, touched);
        Effect::Any
    }
}

/// What a stage does to candidates; see [`Stage::effect`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effect {
    /// Anything.
    Any,
    /// Changes the logits of the tokens it named, one by one, and nothing else.
    Touches,
    /// Keeps those that are among the `best` best and at most `within` below the best one, drops the others, and
    /// changes no logit.
    Cuts {
        /// How many of the best; `usize::MAX` for no limit.
        best: usize,
        /// How far below the best, or a little more; infinity for no limit.
        within: f32,
    },
}

impl Effect {
    /// Nothing at all.
    pub const NONE: Self = Self::Touches;
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
    pub fn apply(&mut self, candidates: &mut Candidates, history: &[u32], random: &mut Random) {
        for stage in &mut self.stages {
            stage.apply(candidates, history, random);
        }
    }

    /// Tells every stage of a chosen token.
    pub fn accept(&mut self, id: u32) {
        self.stages.iter_mut().for_each(|stage| stage.accept(id));
    }

    /// Takes every stage back to the state before the first token.
    pub fn reset(&mut self) {
        self.stages.iter_mut().for_each(|stage| stage.reset());
    }

    /// Which logits the stages can tell from −∞, `always` being kept for its allocation; see [`Needs`].
    ///
    /// Stages that touch a few tokens come first, as a rule, then those that
    /// cut. What the first ones touch is needed. Among all other logits a cut
    /// judges as it would in the whole row: a token with `k` untouched ones
    /// above it is not among the best `k`, and one that is `d` below the best
    /// untouched one is at least `d` below the best. Cuts that follow each
    /// other commute, so their limits add up. After that it no longer matters what
    /// a stage does: it sees the candidates that it would have seen.
    pub(crate) fn needs<'a>(&mut self, history: &[u32], always: &'a mut Vec<u32>) -> Needs<'a> {
        always.clear();
        let mut cut: Option<(usize, f32)> = None;
        for stage in &mut self.stages {
            let named = always.len();
            let effect = stage.effect(history, always);
            match (effect, &mut cut) {
                (Effect::Cuts { best, within }, None) => cut = Some((best, within)),
                (Effect::Cuts { best, within }, Some(cut)) => *cut = (best.min(cut.0), within.min(cut.1)),
                (Effect::Touches, None) => {}
                (Effect::Touches, Some(_)) if always.len() == named => {}
                (Effect::Any | Effect::Touches, _) => {
                    always.truncate(named);
                    break;
                }
            }
        }
        always.sort_unstable();
        always.dedup();
        match cut {
            Some((best, within)) if best < usize::MAX || within < f32::INFINITY => Needs::Best { best, within, always },
            _ => Needs::All,
        }
    }
}

/// Which logits of a row make a difference to a [`Sampler`](crate::Sampler): the token it picks, and its
/// probability, are the same to the bit if all others are −∞.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Needs<'a> {
    /// All of them.
    All,
    /// Those of `always`; and of all other tokens those that are among the `best` best of these and at most `within`
    /// below the best of these. Where several tie for the last place, all of them.
    Best {
        /// How many of the best; `usize::MAX` for no limit.
        best: usize,
        /// How far below the best; infinity for no limit.
        within: f32,
        /// Tokens whose logits a stage changes; ascending, each once.
        always: &'a [u32],
    },
}

impl fmt::Display for Chain {
    /// The names, as in `penalties → top-k → temperature`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, stage) in self.stages().enumerate() {
            let arrow = if i == 0 { "" } else { " → " };
            write!(f, "{arrow}{}", stage.name())?;
        }
        Ok(())
    }
}
