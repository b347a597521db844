//! Encodings whose weights are a block's scale times small codes, and Q4_K.
//!
//! Each says what sixteen codes in a row are, as bytes or lanes, in plain Rust: loops over arrays
//! that the compiler turns into vector code for the instruction set at hand. The drawings of the
//! bytes are in `tritwise-tensor`, in the module of the same encoding.

use super::{Encoding, LANES, Lanes, array_at, byte_blocks};

pub(super) struct Q4_0;
pub(super) struct Iq4Nl;
/// `BYTES` per block.
pub(super) struct Q1_0<const BYTES: usize>;
/// `BYTES` per block.
pub(super) struct Q2_0<const BYTES: usize>;
pub(super) struct Tq1_0;
pub(super) struct Tq2_0;
pub(super) struct Ptq1_0;
pub(super) struct Q4K;

/// Implements [`Encoding`] for blocks of `$steps` times sixteen codes with a scale at byte `$scale`.
macro_rules! scaled_codes {
    ($name:ident $(<$param:ident>)?, $bytes:tt bytes, scale at $scale:literal, $steps:expr, $lanes:ident) => {
        impl $(<const $param: usize>)? Encoding for $name $(<$param>)? {
            byte_blocks!($bytes);
            type Scales = f32;
            type Vectors<V: Copy> = [V; 1];
            const VECTORS: usize = 1;
            const STEPS: usize = $steps;
            const TILED: bool = false;

            #[inline(always)]
            fn scales<L: Lanes>(isa: L, block: &Self::Block) -> f32 {
                isa.half(array_at(block, $scale))
            }

            #[inline(always)]
            fn vectors<L: Lanes>(isa: L, block: &Self::Block, d: &f32, step: usize) -> [L::F32; 1] {
                [isa.mul(isa.splat(*d), $lanes(isa, block, step))]
            }
        }
    };
}

scaled_codes!(Q4_0, 18 bytes, scale at 0, 2, q4_0);
scaled_codes!(Iq4Nl, 18 bytes, scale at 0, 2, iq4_nl);
scaled_codes!(Q1_0<BYTES>, BYTES bytes, scale at 0, (BYTES - 2) / 2, q1_0);
scaled_codes!(Q2_0<BYTES>, BYTES bytes, scale at 0, (BYTES - 2) / 4, q2_0);
scaled_codes!(Tq1_0, 54 bytes, scale at 52, 16, tq1_0);
scaled_codes!(Tq2_0, 66 bytes, scale at 64, 16, tq2_0);
scaled_codes!(Ptq1_0, 28 bytes, scale at 26, 8, ptq1_0);

#[inline(always)]
fn q4_0<L: Lanes>(isa: L, block: &[u8; 18], step: usize) -> L::F32 {
    let mut codes = nibbles(array_at(block, 2), step);
    for code in &mut codes {
        *code = code.wrapping_sub(8);
    }
    isa.load_i8(&codes)
}

#[inline(always)]
fn iq4_nl<L: Lanes>(isa: L, block: &[u8; 18], step: usize) -> L::F32 {
    const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
    let mut codes = nibbles(array_at(block, 2), step);
    for code in &mut codes {
        *code = VALUES[usize::from(*code)].cast_unsigned();
    }
    isa.load_i8(&codes)
}

#[inline(always)]
fn q1_0<L: Lanes>(isa: L, block: &[u8], step: usize) -> L::F32 {
    let word = u32::from(u16::from_le_bytes(*array_at(block, 2 + 2 * step)));
    let mut codes = [0.0; LANES];
    for (i, code) in codes.iter_mut().enumerate() {
        *code = (2 * (word >> i & 1)) as f32 - 1.0;
    }
    isa.load(&codes)
}

#[inline(always)]
fn q2_0<L: Lanes>(isa: L, block: &[u8], step: usize) -> L::F32 {
    let word = u32::from_le_bytes(*array_at(block, 2 + 4 * step));
    let mut codes = [0.0; LANES];
    for (i, code) in codes.iter_mut().enumerate() {
        *code = (word >> (2 * i) & 3) as f32 - 1.0;
    }
    isa.load(&codes)
}

#[inline(always)]
fn tq2_0<L: Lanes>(isa: L, block: &[u8; 66], step: usize) -> L::F32 {
    // Halves of 128 weights, in each four planes of 32, of which this is a half again.
    let mut codes = *array_at(block, step / 8 * 32 + step % 2 * 16);
    for code in &mut codes {
        *code = (*code >> (step % 8 / 2 * 2) & 3).wrapping_sub(1);
    }
    isa.load_i8(&codes)
}

#[inline(always)]
fn tq1_0<L: Lanes>(isa: L, block: &[u8; 54], step: usize) -> L::F32 {
    static PLACES: Places<256> = Places::new([(32, 5), (16, 5), (4, 4)]);
    digits(isa, block, &PLACES, step)
}

#[inline(always)]
fn ptq1_0<L: Lanes>(isa: L, block: &[u8; 28], step: usize) -> L::F32 {
    static PLACES: Places<128> = Places::new([(16, 5), (8, 5), (2, 4)]);
    digits(isa, block, &PLACES, step)
}

/// Where the digits of a block of `N` weights are: in which byte, and by which power of three to
/// multiply it so that the digit comes first.
struct Places<const N: usize> {
    bytes: [u8; N],
    powers: [u8; N],
}

impl<const N: usize> Places<N> {
    /// Planes of so many bytes and digits, one after the other.
    const fn new(planes: [(usize, usize); 3]) -> Self {
        let mut places = Self { bytes: [0; N], powers: [0; N] };
        let (mut weight, mut start, mut plane) = (0, 0, 0);
        while plane < planes.len() {
            let (width, digits) = planes[plane];
            let mut i = 0;
            while i < width * digits {
                places.bytes[weight] = (start + i % width) as u8;
                places.powers[weight] = 3_u8.pow((i / width) as u32);
                weight += 1;
                i += 1;
            }
            start += width;
            plane += 1;
        }
        places
    }
}

#[inline(always)]
fn digits<L: Lanes, const N: usize>(isa: L, block: &[u8], places: &Places<N>, step: usize) -> L::F32 {
    let mut codes = [0; LANES];
    let places = places.bytes[LANES * step..].iter().zip(&places.powers[LANES * step..]);
    for (code, (byte, power)) in codes.iter_mut().zip(places) {
        let fraction = block[usize::from(*byte)].wrapping_mul(*power);
        // (3 · fraction) >> 8 as two comparisons, which stay in byte lanes.
        *code = (u8::from(fraction >= 86) + u8::from(fraction >= 171)).wrapping_sub(1);
    }
    isa.load_i8(&codes)
}

impl Encoding for Q4K {
    byte_blocks!(144);
    /// `d·scale` and `e·offset` of each sub-block.
    type Scales = [[f32; 8]; 2];
    type Vectors<V: Copy> = [V; 2];
    const VECTORS: usize = 2;
    const STEPS: usize = 8;
    const TILED: bool = false;

    #[inline(always)]
    fn scales<L: Lanes>(isa: L, block: &Self::Block) -> [[f32; 8]; 2] {
        let (d, e) = (isa.half(array_at(block, 0)), isa.half(array_at(block, 2)));
        let packed: &[u8; 12] = array_at(block, 4);
        let mut scales = [[0.0; 8]; 2];
        for j in 0..4 {
            let (scale, offset, low) = (packed[j], packed[j + 4], packed[j + 8]);
            scales[0][j] = d * f32::from(scale & 63);
            scales[1][j] = e * f32::from(offset & 63);
            scales[0][j + 4] = d * f32::from(low & 15 | scale >> 6 << 4);
            scales[1][j + 4] = e * f32::from(low >> 4 | offset >> 6 << 4);
        }
        scales
    }

    #[inline(always)]
    fn vectors<L: Lanes>(isa: L, block: &Self::Block, scales: &[[f32; 8]; 2], step: usize) -> [L::F32; 2] {
        let (scale, offset) = (isa.splat(scales[0][step]), isa.splat(scales[1][step]));
        let start = 16 + step / 2 * 32;
        let low = isa.load_i8(&nibbles(array_at(block, start), step % 2));
        let high = isa.load_i8(&nibbles(array_at(block, start + 16), step % 2));
        // The product is exact, so that a fused multiplication would give the same.
        [isa.sub(isa.mul(scale, low), offset), isa.sub(isa.mul(scale, high), offset)]
    }
}

/// The low halves of sixteen bytes, or for `part` 1 the high ones.
#[inline(always)]
fn nibbles(bytes: &[u8; LANES], part: usize) -> [u8; LANES] {
    let mut codes = *bytes;
    for code in &mut codes {
        *code = *code >> (4 * part) & 15;
    }
    codes
}
