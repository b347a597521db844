use crate::{Candidates, Effect, Random, Stage};

/// Keeps the `k` best candidates (Fan et al., arXiv 1805.04833, section 5.2).
///
/// Exactly `k` stay, also when the last one ties with others: the lower ids
/// win. `k = 0`, and a `k` no smaller than the number of candidates, keep all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopK {
    k: usize,
}

impl TopK {
    /// Keeps `k` candidates; all of them for 0.
    pub fn new(k: usize) -> Self {
        Self { k }
    }
}

impl Stage for TopK {
    fn name(&self) -> &str {
        "top-k"
    }

    fn apply(&mut self, candidates: &mut Candidates, _history: &[u32], _random: &mut Random) {
        if self.k > 0 {
            candidates.keep_best(self.k);
        }
    }

    fn effect(&mut self, _history: &[u32], _touched: &mut Vec<u32>) -> Effect {
        if self.k == 0 { Effect::NONE } else { Effect::Cuts { best: self.k, within: f32::INFINITY } }
    }
}
