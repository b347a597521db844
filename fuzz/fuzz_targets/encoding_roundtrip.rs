//! Every encoding. Trits that were written are what is read; any bytes are refused, or a matrix of trits and scales,
//! which written again is the same matrix.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tritwise::tensor::{FloatKind, Group, I2sLayout, Scales, Ternarize, TernaryEncoding, TernaryMatrix, Tile};

#[derive(Debug, Arbitrary)]
struct Input {
    encoding: u8,
    rows: u8,
    cols: u16,
    scales: u8,
    bytes: Vec<u8>,
}

fn encoding(number: u8) -> TernaryEncoding {
    let tile = |cols| Tile { rows: 64, cols, block_rows: 32 };
    let others = [
        TernaryEncoding::I2S(I2sLayout::B),
        TernaryEncoding::I2S(I2sLayout::C),
        TernaryEncoding::I2S(I2sLayout::D),
        TernaryEncoding::Q1_0(Group::Of32),
        TernaryEncoding::Q2_0(Group::Of32),
        TernaryEncoding::Tl1(tile(32)),
        TernaryEncoding::Tl1(tile(96)),
        TernaryEncoding::Tl2(tile(96)),
        TernaryEncoding::Float(FloatKind::F32, Ternarize::Absmean),
        TernaryEncoding::Float(FloatKind::F16, Ternarize::Absmean),
        TernaryEncoding::Float(FloatKind::Bf16, Ternarize::Absmean),
    ];
    let all = TernaryEncoding::WRITABLE.into_iter().chain(others);
    all.cycle().nth(number.into()).expect("a cycle has no end")
}

fn beside(encoding: TernaryEncoding) -> Option<f32> {
    use TernaryEncoding::{HfPacked, Tl1, Tl2};
    matches!(encoding, HfPacked | Tl1(_) | Tl2(_)).then_some(0.5)
}

/// Trits and scales of a matrix. A scale of 0 makes zeros of its trits.
fn contents(matrix: &TernaryMatrix<'_>) -> (Vec<i8>, Scales) {
    let mut trits = vec![0; matrix.rows() * matrix.cols()];
    trits.chunks_mut(matrix.cols()).enumerate().for_each(|(row, out)| matrix.read_row(row, out));
    assert!(trits.iter().all(|trit| (-1..=1).contains(trit)));
    (trits, matrix.scales().clone())
}

/// What is written is read.
fn trits(input: &Input, encoding: TernaryEncoding, rows: usize, cols: usize) {
    // One non-zero trit in each row, so that the scale can be read back from float weights; Q1_0 has no other.
    let binary = matches!(encoding, TernaryEncoding::Q1_0(_));
    let trit = |i: usize| match input.bytes.get(i / 4).map_or(0, |byte| byte >> (2 * (i % 4))) % 3 {
        1 if i % cols != 0 && !binary => 0,
        2 => -1,
        _ => 1,
    };
    let trits: Vec<i8> = (0..rows * cols).map(trit).collect();
    // Powers of two, which every type holds; different ones, so that rows stay rows.
    let scale = |i: usize| f32::from(1u16 << (i % 12)) / 64.0;
    let scales = match input.scales % 3 {
        0 => Scales::Tensor(0.5),
        1 if rows > 1 => Scales::Rows((0..rows).map(scale).collect()),
        _ => Scales::Groups { cols: 128, values: (0..rows * cols.div_ceil(128)).map(scale).collect() },
    };
    let Ok(bytes) = encoding.encode(&trits, rows, cols, &scales) else { return };
    let matrix =
        TernaryMatrix::new(encoding, rows, cols, bytes, beside(encoding)).expect("what was written can be read");
    let (read, read_scales) = contents(&matrix);
    assert_eq!(read, trits);
    // One group to the row, or one row, has a simpler form.
    if matches!(scales, Scales::Tensor(_)) || (matches!(scales, Scales::Rows(_)) && rows > 1) {
        assert_eq!(read_scales, scales);
    }
}

/// Any bytes: what is read is written, and read the same.
fn bytes(input: &Input, encoding: TernaryEncoding, rows: usize, cols: usize) {
    let Ok(len) = encoding.encoded_len(rows, cols) else { return };
    let bytes: Vec<u8> = input.bytes.iter().copied().cycle().take(len).collect();
    let Ok(matrix) = TernaryMatrix::new(encoding, rows, cols, bytes, beside(encoding)) else { return };
    let (trits, scales) = contents(&matrix);
    // Master weights are not written as trits.
    let encoding = match encoding {
        TernaryEncoding::Float(kind, Ternarize::Absmean) => TernaryEncoding::Float(kind, Ternarize::Exact),
        other => other,
    };
    let Ok(bytes) = encoding.encode(&trits, rows, cols, &scales) else { return };
    let again =
        TernaryMatrix::new(encoding, rows, cols, bytes, beside(encoding)).expect("what was written can be read");
    assert_eq!(contents(&again).0, trits);
}

fuzz_target!(|input: Input| {
    let encoding = encoding(input.encoding);
    // Widths that fit blocks, and others.
    let (rows, cols) = (usize::from(input.rows), usize::from(input.cols % 1025));
    for cols in [cols, cols.next_multiple_of(256)] {
        if rows * cols > 0 {
            trits(&input, encoding, rows, cols);
            if !input.bytes.is_empty() {
                bytes(&input, encoding, rows, cols);
            }
        }
    }
});
