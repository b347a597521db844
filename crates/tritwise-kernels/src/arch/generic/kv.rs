//! Writing keys and values to their places.

use bytemuck::{Pod, cast_slice, cast_slice_mut};

use crate::arch::{KV_BLOCK, KvLayout, KvLine, KvType};

use super::{LANES, Lanes, largest, load_at};

/// Sixteen little-endian binary16 numbers.
pub(super) type Halves = [u8; 32];

/// Sixteen little-endian binary32 numbers.
pub(super) type Singles = [u8; 64];

/// Sixteen pairs of `i8`, as bytes.
pub(super) type Codes = [u8; 32];

/// The least magnitude that rounding tells from zero, so that what it multiplies with stays finite.
pub(super) const SMALLEST: f32 = 1e-30;

/// Sixteen numbers, as they are stored.
pub(super) trait Unit: Pod + AsRef<[u8]> + AsMut<[u8]> {
    /// No bits set: sixteen zeros.
    const ZERO: Self;

    fn load<L: Lanes>(isa: L, unit: &Self) -> L::F32;
    fn store<L: Lanes>(isa: L, x: L::F32, unit: &mut Self);
}

impl Unit for Halves {
    const ZERO: Self = [0; 2 * LANES];

    #[inline(always)]
    fn load<L: Lanes>(isa: L, unit: &Self) -> L::F32 {
        isa.load_f16(unit)
    }

    #[inline(always)]
    fn store<L: Lanes>(isa: L, x: L::F32, unit: &mut Self) {
        isa.store_f16(x, unit);
    }
}

impl Unit for Singles {
    const ZERO: Self = [0; 4 * LANES];

    #[inline(always)]
    fn load<L: Lanes>(isa: L, unit: &Self) -> L::F32 {
        isa.load_f32(unit)
    }

    #[inline(always)]
    fn store<L: Lanes>(isa: L, x: L::F32, unit: &mut Self) {
        let mut lanes = [0.0; LANES];
        isa.store(x, &mut lanes);
        for (bytes, lane) in unit.as_chunks_mut().0.iter_mut().zip(lanes) {
            *bytes = lane.to_le_bytes();
        }
    }
}

/// The lines of a chunk, by what they hold.
pub(super) struct Parts<'a> {
    pub(super) keys: &'a [KvLine],
    pub(super) values: &'a [KvLine],
    /// One per position; empty but in int8.
    pub(super) key_scales: &'a [f32],
    pub(super) value_scales: &'a [f32],
}

impl<'a> Parts<'a> {
    #[inline(always)]
    pub(super) fn new(layout: KvLayout, lines: &'a [KvLine]) -> Self {
        assert_eq!(lines.len(), layout.lines(), "as many lines as the layout says");
        let (keys, rest) = lines.split_at(layout.key_lines());
        let (values, scales) = rest.split_at(layout.value_lines());
        let (key_scales, value_scales) = scales.split_at(layout.scale_lines());
        Self { keys, values, key_scales: cast_slice(key_scales), value_scales: cast_slice(value_scales) }
    }
}

/// Stores the key and the value of position `pos` of a chunk.
#[inline(always)]
pub(in crate::arch) fn store_kv<L: Lanes>(
    isa: L,
    layout: KvLayout,
    lines: &mut [KvLine],
    pos: usize,
    key: &[f32],
    value: &[f32],
) {
    let head_dim = layout.head_dim();
    assert_eq!((key.len(), value.len()), (head_dim, head_dim), "a head's key and value");
    assert!(pos < layout.positions(), "position {pos} of {}", layout.positions());
    assert_eq!(lines.len(), layout.lines(), "as many lines as the layout says");
    let (keys, rest) = lines.split_at_mut(layout.key_lines());
    let (values, scales) = rest.split_at_mut(layout.value_lines());
    let block = &mut keys[pos / KV_BLOCK * layout.block_lines()..][..layout.block_lines()];
    match layout.kv() {
        KvType::F16 => store_float::<L, Halves>(isa, layout, block, values, pos, key, value),
        KvType::F32 => store_float::<L, Singles>(isa, layout, block, values, pos, key, value),
        KvType::Int8 => {
            let (key_scales, value_scales) = scales.split_at_mut(layout.scale_lines());
            cast_slice_mut(key_scales)[pos] = store_int8_key(isa, key, pos % KV_BLOCK, block);
            cast_slice_mut(value_scales)[pos] = store_int8_value(isa, value, pos, values, layout.tile_lines());
        }
    }
}

#[inline(always)]
fn store_float<L: Lanes, U: Unit>(
    isa: L,
    layout: KvLayout,
    block: &mut [KvLine],
    values: &mut [KvLine],
    pos: usize,
    key: &[f32],
    value: &[f32],
) {
    let (half, lane) = (pos % KV_BLOCK / LANES, pos % LANES);
    let size = size_of::<U>() / LANES;
    let block: &mut [[U; 2]] = cast_slice_mut(block);
    for (start, lines) in (0..key.len()).step_by(LANES).zip(block.chunks_mut(LANES)) {
        let mut unit = U::ZERO;
        U::store(isa, load_at(isa, key, start), &mut unit);
        for (line, number) in lines.iter_mut().zip(unit.as_ref().chunks_exact(size)) {
            line[half].as_mut()[size * lane..][..size].copy_from_slice(number);
        }
    }
    let values: &mut [[U; 2]] = cast_slice_mut(values);
    for start in (0..value.len()).step_by(LANES) {
        let line = &mut values[start / KV_BLOCK * layout.positions() + pos];
        U::store(isa, load_at(isa, value, start), &mut line[start % KV_BLOCK / LANES]);
    }
}

/// Stores a key as lane `slot` of a block, and returns its scale.
#[inline(always)]
fn store_int8_key<L: Lanes>(isa: L, key: &[f32], slot: usize, block: &mut [KvLine]) -> f32 {
    let rounding = Rounding::new(isa, key, 127.0);
    for (start, lines) in (0..key.len()).step_by(LANES).zip(block.chunks_mut(LANES / 2)) {
        let pairs = rounding.codes(isa, key, start);
        for (line, pair) in lines.iter_mut().zip(pairs.as_chunks::<2>().0) {
            line[2 * slot..][..2].copy_from_slice(pair);
        }
    }
    rounding.scale
}

/// Stores a value as position `pos` of its tiles, and returns its scale.
#[inline(always)]
fn store_int8_value<L: Lanes>(isa: L, value: &[f32], pos: usize, values: &mut [KvLine], tile_lines: usize) -> f32 {
    let rounding = Rounding::new(isa, value, 127.0);
    for start in (0..value.len()).step_by(LANES) {
        let line = &mut values[start / KV_BLOCK * tile_lines + pos / 2];
        let codes = rounding.codes(isa, value, start);
        for (pair, code) in line[2 * (start % KV_BLOCK)..].as_chunks_mut::<2>().0.iter_mut().zip(codes) {
            pair[pos % 2] = code;
        }
    }
    rounding.scale
}

/// Rounds a query to 16 bits, padded to pairs, and returns its scale: `q ≈ code · scale`.
///
/// Its magnitudes are as large as the sum over a head can bear in 32 bits, up to 32,767.
#[inline(always)]
pub(in crate::arch) fn round_query<L: Lanes>(isa: L, query: &[f32], codes: &mut [i16]) -> f32 {
    assert_eq!(codes.len(), query.len().next_multiple_of(2), "one code per feature, in pairs");
    let rounding = Rounding::new(isa, query, query_limit(query.len()) as f32);
    for start in (0..query.len()).step_by(LANES) {
        let mut lanes = [0; LANES];
        isa.store_i16(rounding.scaled(isa, query, start), &mut lanes);
        let codes = &mut codes[start..];
        let len = codes.len().min(LANES);
        codes[..len].copy_from_slice(&lanes[..len]);
    }
    rounding.scale
}

/// The largest magnitude of a query's codes.
#[inline(always)]
fn query_limit(head_dim: usize) -> i32 {
    let products = i32::try_from(head_dim).unwrap_or(i32::MAX).saturating_mul(127);
    (i32::MAX / products).min(i32::from(i16::MAX))
}

/// How a row is rounded to integers with one scale.
struct Rounding {
    /// What it is multiplied by; zero if it holds NaN or infinity.
    factor: f32,
    /// What a code stands for; NaN if it holds NaN or infinity.
    scale: f32,
    finite: bool,
}

impl Rounding {
    /// The largest magnitude becomes `limit`.
    #[inline(always)]
    fn new<L: Lanes>(isa: L, x: &[f32], limit: f32) -> Self {
        let mut max = isa.splat(0.0);
        for start in (0..x.len()).step_by(LANES) {
            max = isa.max_magnitude(max, load_at(isa, x, start));
        }
        let max = largest(isa, max);
        if !max.is_finite() {
            return Self { factor: 0.0, scale: f32::NAN, finite: false };
        }
        let max = max.max(SMALLEST);
        Self { factor: limit / max, scale: max / limit, finite: true }
    }

    /// Lanes `start..` before they are rounded, all finite.
    #[inline(always)]
    fn scaled<L: Lanes>(&self, isa: L, x: &[f32], start: usize) -> L::F32 {
        match self.finite {
            true => isa.mul(load_at(isa, x, start), isa.splat(self.factor)),
            false => isa.splat(0.0),
        }
    }

    /// Lanes `start..` as `i8`.
    #[inline(always)]
    fn codes<L: Lanes>(&self, isa: L, x: &[f32], start: usize) -> [u8; LANES] {
        let mut codes = [0; LANES];
        isa.store_i8(self.scaled(isa, x, start), &mut codes);
        bytemuck::cast(codes)
    }
}
