//! Every ternary encoding against its definition, spelled out weight by weight.

use proptest::prelude::*;
use tritwise_tensor::{FloatKind, Group, I2sLayout, Scales, Ternarize, TernaryEncoding, TernaryMatrix};

mod lookup_tables;
mod magnitudes;
mod masters;
mod refusals;

const I2_S: [TernaryEncoding; 4] = [
    TernaryEncoding::I2S(I2sLayout::A),
    TernaryEncoding::I2S(I2sLayout::B),
    TernaryEncoding::I2S(I2sLayout::C),
    TernaryEncoding::I2S(I2sLayout::D),
];
const KINDS: [FloatKind; 3] = [FloatKind::F32, FloatKind::F16, FloatKind::Bf16];
/// Encodings with a scale per block of columns, and the columns of a block.
const BLOCKS: [(TernaryEncoding, usize); 9] = [
    (TernaryEncoding::Tq1_0, 256),
    (TernaryEncoding::Tq2_0, 256),
    (TernaryEncoding::Ptq1_0, 128),
    (TernaryEncoding::Q2_0(Group::Of32), 32),
    (TernaryEncoding::Q2_0(Group::Of64), 64),
    (TernaryEncoding::Q2_0(Group::Of128), 128),
    (TernaryEncoding::Q1_0(Group::Of32), 32),
    (TernaryEncoding::Q1_0(Group::Of64), 64),
    (TernaryEncoding::Q1_0(Group::Of128), 128),
];
/// Encodings with a scale per row.
const ROWS: [TernaryEncoding; 3] = [TernaryEncoding::Iq1Bn, TernaryEncoding::Iq2Bn, TernaryEncoding::Iq2BnR4];

/// All encodings that can be written, but for TL1 and TL2, whose shapes are large.
fn written() -> Vec<TernaryEncoding> {
    let floats = KINDS.map(|kind| TernaryEncoding::Float(kind, Ternarize::Exact));
    let blocks = BLOCKS.map(|(encoding, _)| encoding);
    [&I2_S[..], &blocks, &ROWS, &[TernaryEncoding::Base3, TernaryEncoding::HfPacked], &floats].concat()
}

/// Columns of a block; 1 where there are none.
fn block(encoding: TernaryEncoding) -> usize {
    match encoding {
        _ if ROWS.contains(&encoding) => 64,
        _ => BLOCKS.iter().find(|(other, _)| *other == encoding).map_or(1, |(_, block)| *block),
    }
}

/// The trits, or what the encoding can hold in their place: Q1_0 has no 0.
fn held(encoding: TernaryEncoding, trits: &[i8]) -> Vec<i8> {
    match encoding {
        TernaryEncoding::Q1_0(_) => trits.iter().map(|trit| if *trit == 0 { 1 } else { *trit }).collect(),
        _ => trits.to_vec(),
    }
}

/// The weight at (row, col) divided by the scale, by the formula of the format, one at a time.
fn literal_trit(encoding: TernaryEncoding, bytes: &[u8], rows: usize, cols: usize, row: usize, col: usize) -> i8 {
    let i = row * cols + col;
    let two_bits = |byte: usize, shift: usize| ((bytes[byte] >> shift) & 3) as i8 - 1;
    match encoding {
        TernaryEncoding::I2S(I2sLayout::A) => two_bits(32 * (i / 128) + i % 32, 6 - 2 * (i % 128 / 32)),
        TernaryEncoding::I2S(I2sLayout::B) => two_bits(16 * (i / 64) + i % 16, 6 - 2 * (i % 64 / 16)),
        TernaryEncoding::I2S(I2sLayout::C) => two_bits(row / 4 * cols + col, 6 - 2 * (row % 4)),
        TernaryEncoding::I2S(I2sLayout::D) => two_bits(i / 4, 6 - 2 * (i % 4)),
        TernaryEncoding::Base3 => {
            let line = row / 80 * cols.div_ceil(4) + col / 4;
            let byte = bytes[64 * line + row % 16 * 4 + col % 4];
            (byte / 3_u8.pow((row % 80 / 16) as u32) % 3) as i8 - 1
        }
        TernaryEncoding::HfPacked => two_bits(row % (rows / 4) * cols + col, 2 * (row / (rows / 4))),
        TernaryEncoding::Tq2_0 => {
            let e = i % 256;
            two_bits(i / 256 * 66 + 32 * (e / 128) + e % 32, 2 * (e % 128 / 32))
        }
        TernaryEncoding::Q2_0(group) => {
            let (n, e) = (group.weights(), i % group.weights());
            two_bits(i / n * (2 + n / 4) + 2 + e / 4, 2 * (e % 4))
        }
        TernaryEncoding::Q1_0(group) => {
            let (n, e) = (group.weights(), i % group.weights());
            if bytes[i / n * (2 + n / 8) + 2 + e / 8] >> (e % 8) & 1 == 1 { 1 } else { -1 }
        }
        TernaryEncoding::Tq1_0 => {
            let e = i % 256;
            let (byte, n) = match e {
                0..160 => (e % 32, e / 32),
                160..240 => (32 + (e - 160) % 16, (e - 160) / 16),
                _ => (48 + (e - 240) % 4, (e - 240) / 4),
            };
            digit(bytes[i / 256 * 54 + byte], n)
        }
        TernaryEncoding::Ptq1_0 => {
            let e = i % 128;
            let (byte, n) = match e {
                0..80 => (e % 16, e / 16),
                80..120 => (16 + (e - 80) % 8, (e - 80) / 8),
                _ => (24 + (e - 120) % 2, (e - 120) / 2),
            };
            digit(bytes[i / 128 * 28 + byte], n)
        }
        TernaryEncoding::Iq1Bn => {
            let block = &bytes[row * (2 + cols / 64 * 13) + 2 + col / 64 * 13..][..13];
            let (quarter, t) = (col % 64 / 16, col % 16);
            // The first weight is the last digit.
            if t < 15 { digit(block[3 * quarter + t / 5], 4 - t % 5) } else { digit(block[12], 4 - quarter) }
        }
        TernaryEncoding::Iq2Bn => {
            let e = col % 64;
            two_bits(row * (4 + cols / 4) + 4 + col / 64 * 16 + e % 16, 2 * (e / 16))
        }
        TernaryEncoding::Iq2BnR4 => {
            let e = col % 64;
            let block = row / 4 * 4 * (4 + cols / 4) + 16 + col / 64 * 64;
            two_bits(block + 4 * (row % 4) + e % 4 + 16 * (e / 16), 2 * (e % 16 / 4))
        }
        TernaryEncoding::Tl1(_) | TernaryEncoding::Tl2(_) => unreachable!("compared with the converter's bytes"),
        TernaryEncoding::Float(kind, _) => {
            let value = match kind {
                FloatKind::F32 => f32::from_le_bytes(bytes[4 * i..][..4].try_into().unwrap()),
                FloatKind::F16 => half::f16::from_le_bytes(bytes[2 * i..][..2].try_into().unwrap()).to_f32(),
                FloatKind::Bf16 => half::bf16::from_le_bytes(bytes[2 * i..][..2].try_into().unwrap()).to_f32(),
            };
            if value == 0.0 { 0 } else { value.signum() as i8 }
        }
    }
}

/// Digit `n` of a fraction of 256, the first most significant, as a trit.
fn digit(byte: u8, n: usize) -> i8 {
    let fraction = u32::from(byte) * 3_u32.pow(n as u32) % 256;
    ((fraction * 3) >> 8) as i8 - 1
}

fn scale_at(scales: &Scales, cols: usize, row: usize, col: usize) -> f32 {
    match scales {
        Scales::Tensor(scale) => *scale,
        Scales::Rows(scales) => scales[row],
        Scales::Groups { cols: group, values } => values[row * (cols / group) + col / group],
    }
}

/// A reproducible stream of trits.
fn random_trits(count: usize, seed: u64) -> Vec<i8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as i8 % 3
    };
    std::iter::repeat_with(next).map(|v| v.rem_euclid(3) - 1).take(count).collect()
}

fn read(matrix: &TernaryMatrix<'_>) -> Vec<i8> {
    let mut trits = vec![9; matrix.rows() * matrix.cols()];
    for (row, out) in trits.chunks_exact_mut(matrix.cols()).enumerate() {
        matrix.read_row(row, out);
    }
    trits
}

/// The scale that an encoding keeps outside its bytes.
fn outside(encoding: TernaryEncoding, scale: f32) -> Option<f32> {
    (encoding == TernaryEncoding::HfPacked).then_some(scale)
}

/// Writes, reads, and holds both against the definition.
#[track_caller]
fn check(encoding: TernaryEncoding, rows: usize, cols: usize, trits: &[i8], scale: f32) {
    let trits = &held(encoding, trits)[..];
    let mut bytes = encoding.encode(trits, rows, cols, &Scales::Tensor(scale)).unwrap();
    assert_eq!(bytes.len(), encoding.encoded_len(rows, cols).unwrap());
    for (i, &trit) in trits.iter().enumerate() {
        let found = literal_trit(encoding, &bytes, rows, cols, i / cols, i % cols);
        assert_eq!(found, trit, "{encoding:?} {rows}×{cols}: written at ({}, {})", i / cols, i % cols);
    }
    let padding = match encoding {
        TernaryEncoding::I2S(_) => 28,
        TernaryEncoding::Base3 => 60,
        _ => 0,
    };
    let tail = bytes.len() - padding;
    assert_eq!(bytes[tail..], vec![0; padding]);
    bytes[tail..].fill(0xFF);
    let matrix = TernaryMatrix::new(encoding, rows, cols, bytes, outside(encoding, scale)).unwrap();
    assert_eq!(read(&matrix), trits, "{encoding:?} {rows}×{cols}");
    assert_eq!(matrix.scales(), &Scales::Tensor(scale), "{encoding:?}");
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// An encoding and a shape that it can hold.
fn shapes() -> impl Strategy<Value = (TernaryEncoding, usize, usize)> {
    (proptest::sample::select(written()), 1..4_usize, 1..300_usize).prop_map(|(encoding, k, cols)| {
        let rows_of = |multiple: usize| k * multiple / gcd(cols, multiple);
        match encoding {
            TernaryEncoding::I2S(I2sLayout::A) => (encoding, rows_of(128), cols),
            TernaryEncoding::I2S(I2sLayout::B) => (encoding, rows_of(64), cols),
            TernaryEncoding::I2S(I2sLayout::D) => (encoding, rows_of(4), cols),
            TernaryEncoding::I2S(I2sLayout::C) | TernaryEncoding::HfPacked => (encoding, 4 * k, cols),
            TernaryEncoding::Iq2BnR4 => (encoding, 4 * (cols % 5 + 1), 64 * k),
            TernaryEncoding::Base3 => (encoding, 40 * k + cols % 9, cols),
            TernaryEncoding::Float(..) => (encoding, k, cols),
            blocks => (blocks, cols % 7 + 1, block(blocks) * k),
        }
    })
}

/// Scales that f16, bf16 and f32 hold exactly.
fn scale() -> impl Strategy<Value = f32> {
    (1..128_u8).prop_map(|k| f32::from(k) / 64.0)
}

proptest! {
    #[test]
    fn what_is_written_is_read((encoding, rows, cols) in shapes(), seed: u64, scale in scale()) {
        let mut trits = random_trits(rows * cols, seed);
        trits[0] = 1; // Float weights that are all zero have no scale.
        check(encoding, rows, cols, &trits, scale);
    }

    #[test]
    fn block_scales_come_back(
        rows in 1..5_usize,
        blocks in 1..5_usize,
        block_scales in proptest::collection::vec(prop_oneof![Just(0.5_f32), Just(-0.25), scale()], 25),
        form in 0..3,
        seed: u64,
    ) {
        for (encoding, block) in BLOCKS {
            let cols = block * blocks;
            let scales = match form {
                0 => Scales::Tensor(block_scales[0]),
                1 => Scales::Rows(block_scales[..rows].to_vec()),
                _ => Scales::Groups { cols: block, values: block_scales[..rows * blocks].to_vec() },
            };
            let trits = held(encoding, &random_trits(rows * cols, seed));
            let bytes = encoding.encode(&trits, rows, cols, &scales).unwrap();
            let matrix = TernaryMatrix::new(encoding, rows, cols, bytes, None).unwrap();
            prop_assert_eq!(read(&matrix), &trits[..]);
            for (row, col) in (0..rows).flat_map(|row| (0..cols).step_by(block).map(move |col| (row, col))) {
                prop_assert_eq!(scale_at(matrix.scales(), cols, row, col), scale_at(&scales, cols, row, col));
            }
        }
    }

    #[test]
    fn row_scales_come_back(
        blocks in 1..5_usize,
        row_scales in proptest::collection::vec(prop_oneof![Just(0.5_f32), Just(-0.25), scale()], 8),
        seed: u64,
    ) {
        for encoding in ROWS {
            let cols = 64 * blocks;
            let scales = Scales::Rows(row_scales.clone());
            let trits = random_trits(8 * cols, seed);
            let bytes = encoding.encode(&trits, 8, cols, &scales).unwrap();
            let matrix = TernaryMatrix::new(encoding, 8, cols, bytes, None).unwrap();
            prop_assert_eq!(read(&matrix), &trits[..]);
            for (row, scale) in row_scales.iter().enumerate() {
                prop_assert_eq!(scale_at(matrix.scales(), cols, row, 0), *scale);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 560..600),
        cols in prop_oneof![1..70_usize, Just(128), Just(256)],
    ) {
        let encodings = written().into_iter().chain(KINDS.map(|kind| TernaryEncoding::Float(kind, Ternarize::Absmean)));
        for encoding in encodings {
            for rows in 1..9 {
                let Ok(len) = encoding.encoded_len(rows, cols) else { continue };
                if len > bytes.len() {
                    continue;
                }
                if let Ok(matrix) = TernaryMatrix::new(encoding, rows, cols, &bytes[..len], outside(encoding, 1.0)) {
                    prop_assert!(read(&matrix).iter().all(|trit| (-1..=1).contains(trit)));
                }
            }
        }
    }
}

#[test]
fn extremes_come_back() {
    for encoding in written() {
        for trit in [-1, 0, 1] {
            // (Q1_0 has no 0; what is held in its place is checked again.)
            let scale = if trit == 0 && matches!(encoding, TernaryEncoding::Float(..)) { 0.0 } else { 0.5 };
            check(encoding, 8, 512, &[trit; 8 * 512], scale);
        }
    }
}

#[test]
fn rows_of_a_published_shape_straddle_blocks() {
    // 8,640 columns are 67.5 blocks of 128: the down projection of 1bitLLM/bitnet_b1_58-3B.
    for encoding in I2_S {
        check(encoding, 4, 8640, &random_trits(4 * 8640, 3), 1.5);
    }
}

#[test]
fn all_bytes_of_five_digits_have_trits() {
    // Blocks filled with one byte value; encoders write at most 243 of them.
    let one = half::f16::ONE.to_le_bytes();
    for (encoding, cols, len, scale) in [
        (TernaryEncoding::Tq1_0, 256, 54, 52),
        (TernaryEncoding::Ptq1_0, 128, 28, 26),
        (TernaryEncoding::Iq1Bn, 64, 15, 0),
    ] {
        for value in 0..=255 {
            let mut bytes = vec![value; len];
            bytes[scale..][..2].copy_from_slice(&one);
            let matrix = TernaryMatrix::new(encoding, 1, cols, &bytes, None).unwrap();
            for (col, trit) in read(&matrix).into_iter().enumerate() {
                assert_eq!(
                    trit,
                    literal_trit(encoding, &bytes, 1, cols, 0, col),
                    "{encoding} byte {value} column {col}"
                );
            }
        }
    }
}

/// A TQ2_0 block of the code `code` everywhere with scale `d`.
fn tq2_0_block(code: u8, d: f32) -> Vec<u8> {
    let mut block = vec![code * 0b0101_0101; 64];
    block.extend(half::f16::from_f32(d).to_le_bytes());
    block
}

#[test]
fn blocks_of_scale_zero_are_zero_and_agree_with_any_scale() {
    let bytes = [tq2_0_block(2, 0.0), tq2_0_block(2, 0.5), tq2_0_block(0, -0.0), tq2_0_block(0, 0.5)].concat();
    let matrix = TernaryMatrix::new(TernaryEncoding::Tq2_0, 1, 1024, &bytes, None).unwrap();
    assert_eq!(matrix.scales(), &Scales::Tensor(0.5));
    assert_eq!(read(&matrix), [[0; 256], [1; 256], [0; 256], [-1; 256]].concat());

    for (encoding, scale) in [
        (TernaryEncoding::Tq1_0, 52..54),
        (TernaryEncoding::Ptq1_0, 26..28),
        (TernaryEncoding::Q1_0(Group::Of128), 0..2),
        (TernaryEncoding::Q2_0(Group::Of64), 0..2),
        (TernaryEncoding::Iq1Bn, 0..2),
        (TernaryEncoding::Iq2Bn, 0..4),
    ] {
        let cols = block(encoding);
        let mut bytes = encoding.encode(&vec![1; cols], 1, cols, &Scales::Tensor(1.0)).unwrap();
        bytes[scale].fill(0);
        let matrix = TernaryMatrix::new(encoding, 1, cols, &bytes, None).unwrap();
        assert_eq!((read(&matrix), matrix.scales()), (vec![0; cols], &Scales::Tensor(0.0)), "{encoding}");
    }
}

#[test]
fn scales_take_their_simplest_form() {
    let scales_of = |d: [f32; 4]| {
        let bytes = d.map(|d| tq2_0_block(2, d)).concat();
        TernaryMatrix::new(TernaryEncoding::Tq2_0, 2, 512, bytes, None).unwrap().scales().clone()
    };
    assert_eq!(scales_of([-2.0; 4]), Scales::Tensor(-2.0));
    assert_eq!(scales_of([0.0; 4]), Scales::Tensor(0.0));
    assert_eq!(scales_of([1.0, 1.0, 2.0, 2.0]), Scales::Rows(vec![1.0, 2.0]));
    assert_eq!(scales_of([0.0, 1.0, 2.0, 0.0]), Scales::Rows(vec![1.0, 2.0]));
    assert_eq!(scales_of([1.0, -1.0, 1.0, 1.0]), Scales::Groups { cols: 256, values: vec![1.0, -1.0, 1.0, 1.0] });
}

#[test]
fn scales_are_rounded_to_the_stored_type() {
    let stored = |encoding: TernaryEncoding| {
        let bytes = encoding.encode(&[1; 1024], 4, 256, &Scales::Tensor(0.1)).unwrap();
        let matrix = TernaryMatrix::new(encoding, 4, 256, bytes, None).unwrap();
        matrix.scales().clone()
    };
    let f16 = Scales::Tensor(half::f16::from_f32(0.1).to_f32());
    let bf16 = Scales::Tensor(half::bf16::from_f32(0.1).to_f32());
    for (encoding, _) in BLOCKS {
        assert_eq!(stored(encoding), f16, "{encoding}");
    }
    assert_eq!(stored(TernaryEncoding::Iq1Bn), f16);
    assert_eq!(stored(TernaryEncoding::Iq2Bn), Scales::Tensor(0.1));
    assert_eq!(stored(TernaryEncoding::Iq2BnR4), Scales::Tensor(0.1));
    assert_eq!(stored(TernaryEncoding::Float(FloatKind::F16, Ternarize::Exact)), f16);
    assert_eq!(stored(TernaryEncoding::Float(FloatKind::Bf16, Ternarize::Exact)), bf16);
    assert_eq!(stored(TernaryEncoding::Float(FloatKind::F32, Ternarize::Exact)), Scales::Tensor(0.1));
    assert_eq!(stored(I2_S[0]), Scales::Tensor(0.1));
}

#[test]
fn groups_may_span_blocks() {
    let scales = Scales::Groups { cols: 768, values: vec![1.0, 2.0, 3.0, 4.0] };
    for (encoding, _) in BLOCKS {
        let bytes = encoding.encode(&[1; 3072], 2, 1536, &scales).unwrap();
        let matrix = TernaryMatrix::new(encoding, 2, 1536, bytes, None).unwrap();
        assert_eq!(matrix.scales(), &scales, "{encoding}");
    }
}
