//! Rotary position embedding: the table of angles, and the rotation of a batch.
//!
//! Angles are what transformers computes: `inv_freq[i] = θ^(-2i/d)`, changed as
//! the model's scaling says, and `pos · inv_freq[i]`, both in `f32`. Their
//! cosines and sines are taken in `f64` by the `libm` crate (the system's
//! functions differ from platform to platform), rounded to `f32`, and multiplied
//! by YaRN's magnitude where there is one.
//!
//! That is 128 transcendental functions per position and head width 128, used
//! twice in every layer: too slow to repeat, and too much memory to hold for the
//! 131,072 positions some models promise (128 MiB, half a second). So the table
//! is filled as sequences grow, 256 positions at a time.

use std::ops::Range;
use std::sync::OnceLock;

use tritwise_tensor::{Rope, RopeScaling, RopeStyle};

use crate::arch::{Angles, Isa};
use crate::parallel::{Pool, for_each_shard};

use super::Rows;

/// Positions that are computed together.
const CHUNK: usize = 256;

/// Elements below which waking the other threads costs more than it saves.
const INLINE_ELEMENTS: usize = 16 << 10;

/// The rotary angles of one model.
#[derive(Debug)]
pub struct Rotary {
    style: RopeStyle,
    head_dim: usize,
    /// One frequency per pair.
    inv_freq: Vec<f32>,
    /// What cosines and sines are multiplied by.
    magnitude: f32,
    /// Per position `head_dim` cosines and `head_dim` sines, in chunks made when first used.
    chunks: Vec<OnceLock<Box<[f32]>>>,
}

impl Rotary {
    /// Angles for heads of `head_dim`, at positions below `context`.
    ///
    /// # Panics
    /// `head_dim` is odd or zero, or there are fewer divisors than pairs.
    pub(super) fn new(rope: &Rope, head_dim: usize, context: usize) -> Self {
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "pairs");
        let inv_freq = (0..head_dim / 2).map(|i| {
            let exponent = (2 * i) as f64 / head_dim as f64;
            let inv_freq = 1.0 / libm::pow(f64::from(rope.theta), exponent);
            match &rope.scaling {
                RopeScaling::None => inv_freq as f32,
                RopeScaling::Linear { factor } => inv_freq as f32 / factor,
                RopeScaling::Divisors(divisors) => inv_freq as f32 / divisors[i],
                RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, .. } => {
                    let pair = |turns: f32| pair_of_turns(f64::from(turns), *original_context, rope.theta, head_dim);
                    let (first, last) = (pair(*beta_fast).floor().max(0.0), pair(*beta_slow).ceil());
                    let last = last.min((head_dim - 1) as f64);
                    let slow = ((i as f64 - first) / (last - first).max(1e-3)).clamp(0.0, 1.0);
                    (inv_freq * (1.0 - slow + slow / f64::from(*factor))) as f32
                }
            }
        });
        Self {
            style: rope.style,
            head_dim,
            inv_freq: inv_freq.collect(),
            magnitude: if let RopeScaling::Yarn { magnitude, .. } = rope.scaling { magnitude } else { 1.0 },
            chunks: (0..context.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Which two elements of a head rotate together.
    pub fn style(&self) -> RopeStyle {
        self.style
    }

    /// The angles of position `pos`.
    ///
    /// # Panics
    /// `pos` is not below the context.
    pub fn angles(&self, pos: usize) -> Angles<'_> {
        let row = 2 * self.head_dim;
        let chunk = self.chunks[pos / CHUNK].get_or_init(|| {
            let mut chunk = vec![0.0; CHUNK * row].into_boxed_slice();
            for (i, row) in chunk.chunks_exact_mut(row).enumerate() {
                self.fill(pos / CHUNK * CHUNK + i, row);
            }
            chunk
        });
        let (cos, sin) = chunk[pos % CHUNK * row..][..row].split_at(self.head_dim);
        Angles { cos, sin }
    }

    /// Writes a position's cosines and sines.
    fn fill(&self, pos: usize, row: &mut [f32]) {
        let (cos, sin) = row.split_at_mut(self.head_dim);
        for (i, inv_freq) in self.inv_freq.iter().enumerate() {
            let (a, b) = match self.style {
                RopeStyle::Halves => (i, i + self.head_dim / 2),
                RopeStyle::Interleaved => (2 * i, 2 * i + 1),
            };
            let (s, c) = libm::sincos(f64::from(pos as f32 * inv_freq));
            let (s, c) = (s as f32 * self.magnitude, c as f32 * self.magnitude);
            (cos[a], cos[b]) = (c, c);
            (sin[a], sin[b]) = (-s, s);
        }
    }
}

/// The pair, counted with a fraction, that turns `turns` times within `context` positions: `i` of
/// `context · θ^(-2i/d) = 2π · turns`. YaRN draws its borders there (arXiv 2309.00071, equation 17).
fn pair_of_turns(turns: f64, context: usize, theta: f32, head_dim: usize) -> f64 {
    let ratio = context as f64 / (turns * std::f64::consts::TAU);
    head_dim as f64 * libm::log(ratio) / (2.0 * libm::log(f64::from(theta)))
}

/// Rotates the heads of rows `rows` of `x`, which stand at positions `start…`.
pub(super) fn rope(isa: &dyn Isa, pool: &Pool, x: &mut Rows, rows: Range<usize>, start: usize, rotary: &Rotary) {
    let width = x.width();
    let x = &mut x.as_mut_slice()[rows.start * width..rows.end * width];
    if x.is_empty() {
        return;
    }
    let rotate = |i: usize, row: &mut [f32]| isa.rotate(rotary.style, rotary.angles(start + i), row);
    if x.len() < INLINE_ELEMENTS {
        for (i, row) in x.chunks_exact_mut(width).enumerate() {
            rotate(i, row);
        }
        return;
    }
    for_each_shard(pool, x, width, &rotate);
}
