//! Valid trits in every encoding: what was written is what is read.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tritwise_tensor::{FloatKind, I2sLayout, Scales, Ternarize, TernaryEncoding, TernaryMatrix};

#[derive(Debug, Arbitrary)]
struct Input {
    encoding: u8,
    rows: u8,
    cols: u16,
    trits: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let encoding = match input.encoding % 9 {
        0 => TernaryEncoding::I2S(I2sLayout::A),
        1 => TernaryEncoding::I2S(I2sLayout::B),
        2 => TernaryEncoding::I2S(I2sLayout::C),
        3 => TernaryEncoding::I2S(I2sLayout::D),
        4 => TernaryEncoding::Tq1_0,
        5 => TernaryEncoding::Tq2_0,
        6 => TernaryEncoding::HfPacked,
        7 => TernaryEncoding::Base3,
        _ => TernaryEncoding::Float(FloatKind::F16, Ternarize::Exact),
    };
    let (rows, cols) = (usize::from(input.rows), usize::from(input.cols % 1025));
    // One non-zero trit, so that the scale can be read back from float weights.
    let trit = |i: usize| if i == 0 { 1 } else { (input.trits.get(i / 4).map_or(0, |b| b >> (2 * (i % 4))) % 3) as i8 - 1 };
    let trits: Vec<i8> = (0..rows * cols).map(trit).collect();
    let Ok(bytes) = encoding.encode(&trits, rows, cols, &Scales::Tensor(0.5)) else { return };
    let beside = (encoding == TernaryEncoding::HfPacked).then_some(0.5);
    let matrix = TernaryMatrix::new(encoding, rows, cols, bytes, beside).expect("what was written can be read");
    let mut row = vec![0; cols];
    for (r, expected) in trits.chunks(cols).enumerate() {
        matrix.read_row(r, &mut row);
        assert_eq!(row, expected);
    }
    assert_eq!(matrix.scales(), &Scales::Tensor(0.5));
});
