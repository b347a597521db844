use crate::{Candidates, Stage};

/// Keeps the best candidate alone: the highest logit, the lowest id among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greedy;

impl Stage for Greedy {
    fn name(&self) -> &str {
        "greedy"
    }

    fn apply(&mut self, candidates: &mut Candidates, _history: &[u32]) {
        candidates.keep_best(1);
    }
}
