//! Every ternary encoding against its definition, spelled out weight by weight.

use proptest::prelude::*;
use tritwise_tensor::{FloatKind, I2sLayout, Scales, Ternarize, TernaryEncoding, TernaryMatrix};

mod masters;
mod refusals;

const I2_S: [TernaryEncoding; 4] = [
    TernaryEncoding::I2S(I2sLayout::A),
    TernaryEncoding::I2S(I2sLayout::B),
    TernaryEncoding::I2S(I2sLayout::C),
    TernaryEncoding::I2S(I2sLayout::D),
];
const KINDS: [FloatKind; 3] = [FloatKind::F32, FloatKind::F16, FloatKind::Bf16];

/// All encodings that can be written.
fn written() -> Vec<TernaryEncoding> {
    let floats = KINDS.map(|kind| TernaryEncoding::Float(kind, Ternarize::Exact));
    let others = [TernaryEncoding::Tq1_0, TernaryEncoding::Tq2_0, TernaryEncoding::Base3, TernaryEncoding::HfPacked];
    [&I2_S[..], &others, &floats].concat()
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
        TernaryEncoding::Tq1_0 => {
            let e = i % 256;
            let (byte, n) = match e {
                0..160 => (e % 32, e / 32),
                160..240 => (32 + (e - 160) % 16, (e - 160) / 16),
                _ => (48 + (e - 240) % 4, (e - 240) / 4),
            };
            let fraction = u32::from(bytes[i / 256 * 54 + byte]) * 3_u32.pow(n as u32) % 256;
            ((fraction * 3) >> 8) as i8 - 1
        }
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
            TernaryEncoding::Tq1_0 | TernaryEncoding::Tq2_0 => (encoding, cols % 7 + 1, 256 * k),
            TernaryEncoding::Base3 => (encoding, 40 * k + cols % 9, cols),
            TernaryEncoding::Float(..) => (encoding, k, cols),
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
        let cols = 256 * blocks;
        let scales = match form {
            0 => Scales::Tensor(block_scales[0]),
            1 => Scales::Rows(block_scales[..rows].to_vec()),
            _ => Scales::Groups { cols: 256, values: block_scales[..rows * blocks].to_vec() },
        };
        let trits = random_trits(rows * cols, seed);
        for encoding in [TernaryEncoding::Tq1_0, TernaryEncoding::Tq2_0] {
            let bytes = encoding.encode(&trits, rows, cols, &scales).unwrap();
            let matrix = TernaryMatrix::new(encoding, rows, cols, bytes, None).unwrap();
            prop_assert_eq!(read(&matrix), &trits[..]);
            for (row, col) in (0..rows).flat_map(|row| (0..cols).step_by(256).map(move |col| (row, col))) {
                prop_assert_eq!(scale_at(matrix.scales(), cols, row, col), scale_at(&scales, cols, row, col));
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 256..300), cols in 1..70_usize) {
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
fn all_bytes_of_tq1_0_have_trits() {
    // 256 blocks, each filled with one byte value; encoders write at most 243 of them.
    for value in 0..=255 {
        let mut block = [value; 54];
        block[52..].copy_from_slice(&half::f16::ONE.to_le_bytes());
        let matrix = TernaryMatrix::new(TernaryEncoding::Tq1_0, 1, 256, &block, None).unwrap();
        for (col, trit) in read(&matrix).into_iter().enumerate() {
            assert_eq!(trit, literal_trit(TernaryEncoding::Tq1_0, &block, 1, 256, 0, col), "byte {value} column {col}");
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

    let mut block = TernaryEncoding::Tq1_0.encode(&[1; 256], 1, 256, &Scales::Tensor(1.0)).unwrap();
    block[52..].fill(0);
    let matrix = TernaryMatrix::new(TernaryEncoding::Tq1_0, 1, 256, &block, None).unwrap();
    assert_eq!((read(&matrix), matrix.scales()), (vec![0; 256], &Scales::Tensor(0.0)));
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
        let bytes = encoding.encode(&[1; 256], 1, 256, &Scales::Tensor(0.1)).unwrap();
        let matrix = TernaryMatrix::new(encoding, 1, 256, bytes, None).unwrap();
        matrix.scales().clone()
    };
    let f16 = Scales::Tensor(half::f16::from_f32(0.1).to_f32());
    let bf16 = Scales::Tensor(half::bf16::from_f32(0.1).to_f32());
    assert_eq!(stored(TernaryEncoding::Tq1_0), f16);
    assert_eq!(stored(TernaryEncoding::Tq2_0), f16);
    assert_eq!(stored(TernaryEncoding::Float(FloatKind::F16, Ternarize::Exact)), f16);
    assert_eq!(stored(TernaryEncoding::Float(FloatKind::Bf16, Ternarize::Exact)), bf16);
    assert_eq!(stored(TernaryEncoding::Float(FloatKind::F32, Ternarize::Exact)), Scales::Tensor(0.1));
    assert_eq!(stored(I2_S[0]), Scales::Tensor(0.1));
}

#[test]
fn groups_may_span_blocks() {
    let scales = Scales::Groups { cols: 512, values: vec![1.0, 2.0, 3.0, 4.0] };
    let bytes = TernaryEncoding::Tq1_0.encode(&[1; 2048], 2, 1024, &scales).unwrap();
    let matrix = TernaryMatrix::new(TernaryEncoding::Tq1_0, 2, 1024, bytes, None).unwrap();
    let values = vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0];
    assert_eq!(matrix.scales(), &Scales::Groups { cols: 256, values });
}
