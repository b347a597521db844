//! What the float tests share: numbers to try, and bits to compare.
#![allow(dead_code, reason = "each test binary uses its part")]

use tritwise_kernels::arch::{Isa, available};

/// The definition of all others.
pub(crate) fn scalar() -> &'static dyn Isa {
    *available().last().expect("the scalar one is always there")
}

/// Calls `f` with every instruction set and holds its result against the scalar one's.
pub(crate) fn same_bits<T: PartialEq + std::fmt::Debug>(what: &str, f: impl Fn(&'static dyn Isa) -> T) -> T {
    let expected = f(scalar());
    for isa in available() {
        assert!(f(isa) == expected, "{what}: {} differs from scalar", isa.name());
    }
    expected
}

/// Folds sixteen partial sums, in the one order there is.
pub(crate) fn tree(mut partials: [f32; 16]) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            partials[i] += partials[i + half];
        }
    }
    partials[0]
}

/// A seeded stream of numbers (SplitMix64, Steele, Lea and Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Evenly in -1..1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Numbers of the size activations have.
    pub(crate) fn plain(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| 3.0 * self.unit()).collect()
    }

    /// Finite numbers of any size: subnormal, tiny, plain, huge, and signed zeros.
    pub(crate) fn wild(&mut self, len: usize) -> Vec<f32> {
        (0..len)
            .map(|_| match self.below(6) {
                0 => f32::from_bits(self.bits() as u32 & 0x807f_ffff),
                1 => self.unit() * 1e-30,
                2 => self.unit() * 1e30,
                3 => 0.0_f32.copysign(self.unit()),
                _ => self.unit(),
            })
            .collect()
    }

    /// Any bits at all.
    pub(crate) fn any(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| f32::from_bits(self.bits() as u32)).collect()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.bits() as u8).collect()
    }
}

/// The bits of numbers, all NaNs alike: sign and payload of a NaN are not promised.
pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

/// Distance in units of the last place of `exact` as an `f32`.
pub(crate) fn ulps(x: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    if nearest.is_infinite() || x.is_infinite() {
        return if nearest == x { 0.0 } else { f64::INFINITY };
    }
    let exponent = (nearest.abs().to_bits() >> 23).max(1) as i32 - 127 - 23;
    (f64::from(x) - exact).abs() / 2_f64.powi(exponent)
}
