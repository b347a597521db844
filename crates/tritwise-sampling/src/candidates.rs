//! The tokens still in the running, with their logits.
//!
//! Every stage narrows or rescales one [`Candidates`]. Most stages need the
//! best few of a vocabulary of 128 thousand, so nothing here sorts more than
//! it must. Two facts about the order are tracked instead:
//!
//! ```text
//! items:   [ best, 2nd, 3rd | any order …………………… ]      ranked = 3
//! items:   [ id 0, id 1, id 2, id 5 ……………………… ]        by_id  = true
//! ```
//!
//! "Better" is one total order everywhere: the higher logit, and among equal
//! logits the lower id. That makes every cut deterministic, whatever the
//! selection algorithm does inside.

use std::cmp::Ordering;
use std::fmt;

use crate::Error;

/// A token and its logit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its unnormalised log-probability; never NaN when a stage receives it.
    pub logit: f32,
}

/// The tokens still in the running.
///
/// The buffer is reused from token to token: after the first row of a
/// vocabulary no method allocates.
#[derive(Clone, Default)]
pub struct Candidates {
    items: Vec<Candidate>,
    /// This many leading items are the best ones, best first.
    ranked: usize,
    /// Ids rise strictly from the first item to the last.
    by_id: bool,
    /// A few of the items, while a cut looks for its threshold; kept for its allocation.
    sample: Vec<Candidate>,
}

impl Candidates {
    /// An empty set; [`load`](Self::load) fills it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the contents by a whole row of logits, token `i` having `logits[i]`.
    ///
    /// # Errors
    /// [`Error::Empty`] for no logits, [`Error::NotANumber`] for a NaN.
    pub fn load(&mut self, logits: &[f32]) -> Result<(), Error> {
        // No early exit within a chunk, so that the compiler can check several at a time.
        let nan = |chunk: &[f32]| chunk.iter().fold(false, |nan, logit| nan | logit.is_nan());
        if logits.chunks(1024).any(nan) {
            let id = logits.iter().zip(0u32..).find(|(logit, _)| logit.is_nan()).map_or(0, |(_, id)| id);
            return Err(Error::NotANumber { id });
        }
        self.items.clear();
        self.items.extend(logits.iter().zip(0u32..).map(|(&logit, id)| Candidate { id, logit }));
        self.ranked = 0;
        self.by_id = true;
        if self.items.is_empty() {
            return Err(Error::Empty);
        }
        Ok(())
    }

    /// The candidates in their present order.
    pub fn as_slice(&self) -> &[Candidate] {
        &self.items
    }

    /// The candidates, to be rescaled; what was known of their order by logit is forgotten.
    ///
    /// Changing an `id` is possible and makes [`find`](Self::find) unreliable; a stage has no reason to.
    pub fn as_mut_slice(&mut self) -> &mut [Candidate] {
        self.ranked = 0;
        &mut self.items
    }

    /// How many candidates are left.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether no candidate is left.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The best candidate: the highest logit, the lowest id among equals.
    pub fn best(&self) -> Option<Candidate> {
        if self.ranked > 0 {
            return self.items.first().copied();
        }
        self.items.iter().copied().reduce(|best, other| if better(&other, &best).is_lt() { other } else { best })
    }

    /// Where the token `id` stands, if it is still in the running.
    pub fn find(&self, id: u32) -> Option<usize> {
        if self.by_id {
            return self.items.binary_search_by_key(&id, |candidate| candidate.id).ok();
        }
        self.items.iter().position(|candidate| candidate.id == id)
    }

    /// The candidate `id`, to be rescaled, if it is still in the running; otherwise as [`as_mut_slice`](Self::as_mut_slice).
    pub fn find_mut(&mut self, id: u32) -> Option<&mut Candidate> {
        let index = self.find(id)?;
        self.as_mut_slice().get_mut(index)
    }

    /// Puts the best `n` in front, best first, and returns them (all of them when there are fewer).
    ///
    /// The rest stays behind in no particular order. Asking again for more costs only the difference.
    #[expect(clippy::indexing_slicing, reason = "`ranked` is never more than there are, nor is `n` here")]
    pub fn rank(&mut self, n: usize) -> &[Candidate] {
        let n = n.min(self.items.len());
        if n > self.ranked {
            let rest = &mut self.items[self.ranked..];
            let wanted = n - self.ranked;
            if wanted < rest.len() {
                rest.select_nth_unstable_by(wanted - 1, better);
            }
            rest[..wanted].sort_unstable_by(better);
            self.ranked = n;
            self.by_id = false;
        }
        &self.items[..n]
    }

    /// Keeps the best `n` and drops the rest.
    #[expect(clippy::indexing_slicing, reason = "`ranked` is never more than there are")]
    pub fn keep_best(&mut self, n: usize) {
        if n >= self.items.len() {
            return;
        }
        if let (1, Some(best)) = (n, self.best()) {
            // The commonest cut: one look at each, and no selection.
            self.items.clear();
            self.items.push(best);
            (self.ranked, self.by_id) = (1, true);
            return;
        }
        if n > self.ranked {
            self.drop_hopeless(n);
            let wanted = n - self.ranked;
            self.items[self.ranked..].select_nth_unstable_by(wanted - 1, better);
            self.by_id = false;
        }
        self.items.truncate(n);
        self.ranked = self.ranked.min(n);
    }

    /// Drops most of those that cannot be among the best `n`, in one pass.
    ///
    /// The `n`-th best of any sample is no better than the `n`-th best of all,
    /// so whatever is worse can go. For the best 40 of 128 thousand this leaves
    /// some 2,500 to select from, and takes a third of the time of selecting at once.
    fn drop_hopeless(&mut self, n: usize) {
        let stride = self.items.len() / SAMPLE;
        if stride < 4 || n == 0 || n > SAMPLE / 4 {
            return;
        }
        self.sample.clear();
        self.sample.extend(self.items.iter().step_by(stride));
        let (_, threshold, _) = self.sample.select_nth_unstable_by(n - 1, better);
        let threshold = threshold.logit;
        // `>=` and a test for NaN, not `!(… < …)`: a NaN must stay to be reported.
        self.retain(|candidate| candidate.logit >= threshold || candidate.logit.is_nan() || threshold.is_nan());
    }

    /// Keeps those for which `keep` is true; the order stays.
    pub fn retain(&mut self, mut keep: impl FnMut(&Candidate) -> bool) {
        let mut index = 0;
        let mut ranked = 0;
        self.items.retain(|candidate| {
            let keep = keep(candidate);
            ranked += usize::from(keep && index < self.ranked);
            index += 1;
            keep
        });
        self.ranked = ranked;
    }

    /// Brings the candidates into the order of their ids.
    pub fn order_by_id(&mut self) -> &[Candidate] {
        if !self.by_id {
            self.items.sort_unstable_by_key(|candidate| candidate.id);
            self.by_id = true;
            self.ranked = 0;
        }
        &self.items
    }

    /// Where the buffer lies and how much it holds.
    #[cfg(test)]
    pub(crate) fn buffer(&self) -> (usize, usize) {
        (self.items.as_ptr() as usize, self.items.capacity())
    }

    /// [`Error::NotANumber`] for the first candidate whose logit is NaN.
    pub(crate) fn refuse_nan(&self) -> Result<(), Error> {
        match self.items.iter().find(|candidate| candidate.logit.is_nan()) {
            Some(candidate) => Err(Error::NotANumber { id: candidate.id }),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Candidates {
    /// The figures; a hundred thousand candidates are nothing to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidates")
            .field("len", &self.items.len())
            .field("ranked", &self.ranked)
            .field("by_id", &self.by_id)
            .finish_non_exhaustive()
    }
}

/// `Less` when `a` is the better candidate.
///
/// Adding zero turns −0 into +0, which `total_cmp` would otherwise tell apart.
/// A total order, because sorting by a partial one may panic should a stage
/// ever produce a NaN.
pub(crate) fn better(a: &Candidate, b: &Candidate) -> Ordering {
    (b.logit + 0.0).total_cmp(&(a.logit + 0.0)).then(a.id.cmp(&b.id))
}

/// How many candidates are looked at, about, to find a threshold for a cut.
const SAMPLE: usize = 2048;
