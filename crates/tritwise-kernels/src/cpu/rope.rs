//! Rotary position embedding: the table of angles, and the rotation of a batch.
//!
//! Angles are what transformers computes: `inv_freq[i] = θ^(-2i/d)`, divided by
//! the factor of linear scaling, and `pos · inv_freq[i]`, both in `f32`. Their
//! cosines and sines are taken in `f64` by the `libm` crate (the system's
//! functions differ from platform to platform) and rounded to `f32`.
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
    /// Per position `head_dim` cosines and `head_dim` sines, in chunks made when first used.
    chunks: Vec<OnceLock<Box<[f32]>>>,
}

impl Rotary {
    /// Angles for heads of `head_dim`, at positions below `context`.
    ///
    /// # Panics
    /// `head_dim` is odd or zero.
    pub(super) fn new(rope: &Rope, head_dim: usize, context: usize) -> Self {
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "pairs");
        let inv_freq = (0..head_dim / 2).map(|i| {
            let exponent = (2 * i) as f64 / head_dim as f64;
            let inv_freq = (1.0 / libm::pow(f64::from(rope.theta), exponent)) as f32;
            match rope.scaling {
                RopeScaling::None => inv_freq,
                RopeScaling::Linear { factor } => inv_freq / factor,
            }
        });
        Self {
            style: rope.style,
            head_dim,
            inv_freq: inv_freq.collect(),
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
            (cos[a], cos[b]) = (c as f32, c as f32);
            (sin[a], sin[b]) = (-s as f32, s as f32);
        }
    }
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
