//! The one source of chance.

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// The seeded generator that the draw and every stage share: xoshiro256++
/// (Blackman and Vigna 2021), its state filled by SplitMix64 from the seed.
///
/// Every number is one `u64` of the generator, so a text is decided by the
/// order in which numbers are asked for: by the stages in the order of the
/// chain, then by the draw. A stage that asks must ask equally often whatever
/// the candidates are, or what it sees would decide what later tokens are.
///
/// ```
/// let mut random = tritwise_sampling::Random::new(7);
/// assert!((0.0..1.0).contains(&random.unit()));
/// ```
#[derive(Debug, Clone)]
pub struct Random(Xoshiro256PlusPlus);

impl Random {
    /// The generator that `seed` starts.
    pub fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// A number in `[0, 1)`: the upper 53 bits of the next `u64`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what an f64 holds")]
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}
