use crate::{Candidates, Effect, Random, Stage};

/// Keeps the best candidate alone: the highest logit, the lowest id among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greedy;

impl Stage for Greedy {
    fn name(&self) -> &str {
        "greedy"
    }

    fn apply(&mut self, candidates: &mut Candidates, _history: &[u32], _random: &mut Random) {
        candidates.keep_best(1);
    }

    fn effect(&mut self, _history: &[u32], _touched: &mut Vec<u32>) -> Effect {
        Effect::Cuts { best: 1, within: f32::INFINITY }
    }
}
