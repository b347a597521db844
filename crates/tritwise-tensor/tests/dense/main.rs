//! Every dense encoding against its definition, and the quantisers against error bounds.

use proptest::prelude::*;
use tritwise_tensor::{DenseEncoding, DenseMatrix, Group};

mod refusals;
mod writing;

/// Encodings that can be written.
const WRITTEN: [DenseEncoding; 7] = [
    DenseEncoding::F32,
    DenseEncoding::F16,
    DenseEncoding::Bf16,
    DenseEncoding::Q8_0,
    DenseEncoding::Q6K,
    DenseEncoding::Q4_0,
    DenseEncoding::Q4K,
];
/// Those that are only read.
const READ_ONLY: [DenseEncoding; 10] = [
    DenseEncoding::Iq4Nl,
    DenseEncoding::Q1_0(Group::Of32),
    DenseEncoding::Q1_0(Group::Of64),
    DenseEncoding::Q1_0(Group::Of128),
    DenseEncoding::Q2_0(Group::Of32),
    DenseEncoding::Q2_0(Group::Of64),
    DenseEncoding::Q2_0(Group::Of128),
    DenseEncoding::Tq1_0,
    DenseEncoding::Tq2_0,
    DenseEncoding::Ptq1_0,
];

fn all() -> impl Iterator<Item = DenseEncoding> {
    WRITTEN.into_iter().chain(READ_ONLY)
}

/// Where in a block the f16 scales are.
fn scales(encoding: DenseEncoding) -> &'static [usize] {
    match encoding {
        DenseEncoding::F32 | DenseEncoding::F16 | DenseEncoding::Bf16 => &[],
        DenseEncoding::Q6K => &[208],
        DenseEncoding::Q4K => &[0, 2],
        DenseEncoding::Tq1_0 => &[52],
        DenseEncoding::Tq2_0 => &[64],
        DenseEncoding::Ptq1_0 => &[26],
        _ => &[0],
    }
}

fn f16_at(bytes: &[u8], at: usize) -> f64 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f64()
}

/// Element `i` of the matrix, by the formula of the format.
fn literal(encoding: DenseEncoding, bytes: &[u8], i: usize) -> f64 {
    match encoding {
        DenseEncoding::F32 => f32::from_le_bytes(bytes[4 * i..][..4].try_into().unwrap()).into(),
        DenseEncoding::F16 => f16_at(bytes, 2 * i),
        DenseEncoding::Bf16 => half::bf16::from_le_bytes(bytes[2 * i..][..2].try_into().unwrap()).to_f64(),
        DenseEncoding::Q8_0 => {
            let block = &bytes[i / 32 * 34..][..34];
            f16_at(block, 0) * f64::from(block[2 + i % 32] as i8)
        }
        DenseEncoding::Q6K => {
            let (block, e) = (&bytes[i / 256 * 210..][..210], i % 256);
            let (h, q, l) = (e / 128, e % 128 / 32, e % 32);
            let low_byte = block[64 * h + l + 32 * (q % 2)];
            let low = if q < 2 { low_byte & 15 } else { low_byte >> 4 };
            let high = (block[128 + 32 * h + l] >> (2 * q)) & 3;
            let scale = block[192 + 8 * h + 2 * q + l / 16] as i8;
            f16_at(block, 208) * f64::from(scale) * (f64::from(low | (high << 4)) - 32.0)
        }
        DenseEncoding::Q4_0 | DenseEncoding::Iq4Nl => {
            let (block, e) = (&bytes[i / 32 * 18..][..18], i % 32);
            let code = block[2 + e % 16] >> (e / 16 * 4) & 15;
            let steps = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
            let iq4_nl = encoding == DenseEncoding::Iq4Nl;
            f16_at(block, 0) * f64::from(if iq4_nl { steps[usize::from(code)] } else { i32::from(code) - 8 })
        }
        DenseEncoding::Q4K => {
            let (block, e) = (&bytes[i / 256 * 144..][..144], i % 256);
            let (j, s) = (e / 32, &block[4..16]);
            let (scale, offset) = match j {
                0..4 => (s[j] & 63, s[j + 4] & 63),
                _ => (s[j + 4] & 15 | (s[j - 4] >> 6) << 4, s[j + 4] >> 4 | (s[j] >> 6) << 4),
            };
            let code = block[16 + 32 * (j / 2) + e % 32] >> (4 * (j % 2)) & 15;
            let exact = f16_at(block, 0) * f64::from(scale) * f64::from(code) - f16_at(block, 2) * f64::from(offset);
            // The one rounding: both products are exact in f64 and their difference too.
            f64::from(exact as f32)
        }
        DenseEncoding::Q1_0(group) => {
            let (n, e) = (group.weights(), i % group.weights());
            let block = &bytes[i / n * (2 + n / 8)..];
            f16_at(block, 0) * if block[2 + e / 8] >> (e % 8) & 1 == 1 { 1.0 } else { -1.0 }
        }
        DenseEncoding::Q2_0(group) => {
            let (n, e) = (group.weights(), i % group.weights());
            let block = &bytes[i / n * (2 + n / 4)..];
            f16_at(block, 0) * (f64::from(block[2 + e / 4] >> (2 * (e % 4)) & 3) - 1.0)
        }
        DenseEncoding::Tq2_0 => {
            let (block, e) = (&bytes[i / 256 * 66..], i % 256);
            f16_at(block, 64) * (f64::from(block[32 * (e / 128) + e % 32] >> (2 * (e % 128 / 32)) & 3) - 1.0)
        }
        DenseEncoding::Tq1_0 => {
            let (block, e) = (&bytes[i / 256 * 54..], i % 256);
            let (byte, n) = match e {
                0..160 => (e % 32, e / 32),
                160..240 => (32 + (e - 160) % 16, (e - 160) / 16),
                _ => (48 + (e - 240) % 4, (e - 240) / 4),
            };
            f16_at(block, 52) * digit(block[byte], n)
        }
        DenseEncoding::Ptq1_0 => {
            let (block, e) = (&bytes[i / 128 * 28..], i % 128);
            let (byte, n) = match e {
                0..80 => (e % 16, e / 16),
                80..120 => (16 + (e - 80) % 8, (e - 80) / 8),
                _ => (24 + (e - 120) % 2, (e - 120) / 2),
            };
            f16_at(block, 26) * digit(block[byte], n)
        }
    }
}

/// Digit `n` of a fraction of 256, the first most significant, less one.
fn digit(byte: u8, n: usize) -> f64 {
    let fraction = u32::from(byte) * 3_u32.pow(n as u32) % 256;
    f64::from((fraction * 3) >> 8) - 1.0
}

fn read(matrix: &DenseMatrix<'_>) -> Vec<f32> {
    let mut values = vec![f32::NAN; matrix.rows() * matrix.cols()];
    for (row, out) in values.chunks_exact_mut(matrix.cols()).enumerate() {
        matrix.read_row(row, out);
    }
    values
}

/// Normally distributed values, from a seed (Box and Muller).
fn normal(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as f64 + 0.5) / f64::from(1_u32 << 31)
    };
    let mut value = || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    (0..count).map(|_| value() as f32).collect()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn q6_k_reads_as_the_gguf_package_does() {
    let (blocks, decoded) = include_bytes!("../fixtures/q6_k.bin").split_at(4 * 210);
    let matrix = DenseMatrix::new(DenseEncoding::Q6K, 2, 512, blocks).unwrap();
    assert_eq!(read(&matrix), f32s(decoded));
}

#[test]
fn q4_k_and_iq4_nl_read_as_the_gguf_package_does() {
    let (blocks, decoded) = include_bytes!("../fixtures/q4_k.bin").split_at(4 * 144);
    assert_eq!(read(&DenseMatrix::new(DenseEncoding::Q4K, 2, 512, blocks).unwrap()), f32s(decoded));
    let (blocks, decoded) = include_bytes!("../fixtures/iq4_nl.bin").split_at(8 * 18);
    assert_eq!(read(&DenseMatrix::new(DenseEncoding::Iq4Nl, 2, 128, blocks).unwrap()), f32s(decoded));
}

#[test]
fn q8_0_and_q4_0_read_and_write_as_the_gguf_package_does() {
    for (encoding, fixture, bytes) in [
        (DenseEncoding::Q8_0, &include_bytes!("../fixtures/q8_0.bin")[..], 34),
        (DenseEncoding::Q4_0, &include_bytes!("../fixtures/q4_0.bin")[..], 18),
    ] {
        let (blocks, floats) = fixture.split_at(8 * bytes);
        let (decoded, values) = floats.split_at(256 * 4);
        assert_eq!(encoding.encode(&f32s(values), 2, 128).unwrap(), blocks, "{encoding}");
        let matrix = DenseMatrix::new(encoding, 2, 128, blocks).unwrap();
        assert_eq!(read(&matrix), f32s(decoded), "{encoding}");
    }
}

#[test]
fn every_half_is_read() {
    let bits: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for encoding in [DenseEncoding::F16, DenseEncoding::Bf16] {
        let matrix = DenseMatrix::new(encoding, 256, 256, &bits).unwrap();
        for (i, value) in read(&matrix).into_iter().enumerate() {
            let expected = literal(encoding, &bits, i);
            assert!(
                f64::from(value) == expected || value.is_nan() && expected.is_nan(),
                "{encoding} bits {i:#x}: {value}"
            );
        }
    }
}

proptest! {
    #[test]
    fn reading_follows_the_definition(seed: u64, rows in 1..4_usize, blocks in 1..3_usize) {
        let cols = 256 * blocks;
        for encoding in all() {
            // Random bits, but scales and floats that are finite: exponents with a zero in their top bit.
            let mut bytes: Vec<u8> = normal(encoding.encoded_len(rows, cols).unwrap(), seed).iter().map(|v| v.to_bits() as u8).collect();
            let block = encoding.block().1;
            let scales: Vec<usize> = match scales(encoding) {
                [] => vec![block - 1],
                halves => halves.iter().map(|half| half + 1).collect(),
            };
            for high_byte in scales {
                bytes.iter_mut().skip(high_byte).step_by(block).for_each(|byte| *byte &= 0xBF);
            }
            let matrix = DenseMatrix::new(encoding, rows, cols, &bytes).unwrap();
            matrix.check_finite().unwrap();
            for (i, value) in read(&matrix).into_iter().enumerate() {
                prop_assert_eq!(f64::from(value), literal(encoding, &bytes, i), "{} element {}", encoding, i);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 420)) {
        for encoding in all() {
            for (rows, cols) in [(1, 256), (2, 256), (3, 32), (7, 15), (3, 70), (5, 21), (1, 210), (1, 105)] {
                let Ok(len) = encoding.encoded_len(rows, cols) else { continue };
                if let Some(bytes) = bytes.get(..len)
                    && let Ok(matrix) = DenseMatrix::new(encoding, rows, cols, bytes)
                {
                    let finite = read(&matrix).iter().all(|value| value.is_finite());
                    prop_assert_eq!(matrix.check_finite().is_ok(), finite);
                }
            }
        }
    }
}
