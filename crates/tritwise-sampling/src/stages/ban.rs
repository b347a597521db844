use crate::{Candidates, Effect, Random, Stage};

/// Makes tokens impossible: their logits become −∞.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    ids: Vec<u32>,
}

impl Ban {
    /// Never any of `ids`; those outside the vocabulary are never drawn anyway.
    pub fn new(ids: Vec<u32>) -> Self {
        Self { ids }
    }
}

impl Stage for Ban {
    fn name(&self) -> &str {
        "ban"
    }

    fn apply(&mut self, candidates: &mut Candidates, _history: &[u32], _random: &mut Random) {
        for &id in &self.ids {
            // Not `retain`: that would go through a whole vocabulary for a token or two.
            if let Some(candidate) = candidates.find_mut(id) {
                candidate.logit = f32::NEG_INFINITY;
            }
        }
    }

    fn effect(&mut self, _history: &[u32], touched: &mut Vec<u32>) -> Effect {
        touched.extend_from_slice(&self.ids);
        Effect::Touches
    }
}
