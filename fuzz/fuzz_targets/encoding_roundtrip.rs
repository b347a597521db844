//! Valid trits in every encoding: what was written is what is read.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tritwise_tensor::{Group, I2sLayout, Scales, TernaryEncoding, TernaryMatrix, Tile};

#[derive(Debug, Arbitrary)]
struct Input {
    encoding: u8,
    rows: u8,
    cols: u16,
    trits: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let tile = Tile { rows: 64, cols: [32, 96][usize::from(input.encoding & 1)], block_rows: 32 };
    let others = [
        TernaryEncoding::I2S(I2sLayout::B),
        TernaryEncoding::I2S(I2sLayout::C),
        TernaryEncoding::I2S(I2sLayout::D),
        TernaryEncoding::Q1_0(Group::Of32),
        TernaryEncoding::Q2_0(Group::Of32),
        TernaryEncoding::Tl1(tile),
        TernaryEncoding::Tl2(tile),
    ];
    let encodings = TernaryEncoding::WRITABLE.iter().chain(&others);
    let encoding = *encodings.cycle().nth(input.encoding.into()).expect("a cycle has no end");
    let (rows, cols) = (usize::from(input.rows), usize::from(input.cols % 1025));
    // One non-zero trit, so that the scale can be read back from float weights; Q1_0 has no other.
    let binary = matches!(encoding, TernaryEncoding::Q1_0(_));
    let nonzero = |trit: i8| if binary && trit == 0 { -1 } else { trit };
    let trit = |i: usize| if i == 0 { 1 } else { (input.trits.get(i / 4).map_or(0, |b| b >> (2 * (i % 4))) % 3) as i8 - 1 };
    let trits: Vec<i8> = (0..rows * cols).map(trit).map(nonzero).collect();
    let Ok(bytes) = encoding.encode(&trits, rows, cols, &Scales::Tensor(0.5)) else { return };
    let elsewhere = matches!(encoding, TernaryEncoding::HfPacked | TernaryEncoding::Tl1(_) | TernaryEncoding::Tl2(_));
    let beside = elsewhere.then_some(0.5);
    let matrix = TernaryMatrix::new(encoding, rows, cols, bytes, beside).expect("what was written can be read");
    let mut row = vec![0; cols];
    for (r, expected) in trits.chunks(cols).enumerate() {
        matrix.read_row(r, &mut row);
        assert_eq!(row, expected);
    }
    assert_eq!(matrix.scales(), &Scales::Tensor(0.5));
});
