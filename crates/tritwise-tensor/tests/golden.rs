//! Bytes that the encodings' original programs wrote for a known pattern.
//!
//! The pattern is t(i) = ((7 i + ⌊i / 11⌋) mod 3) - 1, for i from 0 to 255, with scale 0.5. I2_S was written by the C
//! quantiser of bitnet.cpp (its x86, Arm and x86-without-`ACT_PARALLEL` builds), TQ1_0, TQ2_0, Q1_0 and Q2_0 by ggml's,
//! IQ1_BN, IQ2_BN and IQ2_BN_R4 by ik_llama.cpp's, PTQ1_0 by PrismML's fork of llama.cpp. In Q1_0, which has no 0, the
//! zeros are -1.

use tritwise_tensor::{Group, I2sLayout, Scales, TernaryEncoding, TernaryMatrix};

fn pattern() -> Vec<i8> {
    (0..256).map(|i| ((7 * i + i / 11) % 3) as i8 - 1).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

#[track_caller]
fn check(encoding: TernaryEncoding, rows: usize, cols: usize, hex: &str) {
    check_trits(encoding, rows, cols, hex, &pattern()[..rows * cols]);
}

#[track_caller]
fn check_trits(encoding: TernaryEncoding, rows: usize, cols: usize, hex: &str, trits: &[i8]) {
    let mut golden = bytes(hex);
    if let TernaryEncoding::I2S(_) = encoding {
        golden.extend([0; 28]);
    }
    let written = encoding.encode(trits, rows, cols, &Scales::Tensor(0.5)).unwrap();
    assert_eq!(written, golden, "{encoding} writes other bytes");

    let matrix = TernaryMatrix::new(encoding, rows, cols, &golden, None).unwrap();
    let mut read = vec![9; rows * cols];
    for (row, out) in read.chunks_exact_mut(cols).enumerate() {
        matrix.read_row(row, out);
    }
    assert_eq!(read, trits, "{encoding} reads other trits");
    assert_eq!(matrix.scales(), &Scales::Tensor(0.5));
}

const I2_S_A: &str = "124491244992244992244912449124499224499224491244912449922449922449922449124491244992244992244912449124499224499224491244912449920000003f";
const I2_S_B: &str = "2542942942940950a50a5025429429420a502542942942940950a50a5025429450a50a502542942942940950a50a5025940950a50a502542942942940950a50a0000003f";
const I2_S_C: &str = "065881166085186186186106588116608518618618610658811660851861861861065881166085186186186106588116608518618618610658811660851861860000003f";
const TQ1_0: &str =
    "2461cb446ccf456ccf456c2461cb446ccf456ccf456c2461cb446ccf456ccf451874f11b74465dd1515ed11874f11b743d5f33950038";
const PTQ1_0: &str = "465dd1515ed11874f11b74465dd1515e1c72f2097cfb037f79430038";
const Q1_0: &str = "003824210949484212929084242421094948003842129290842424210949484212929084";
const Q2_0: &str = "003824491249924492249124492449124992003844922491244924491249924492249124003849244912499244922491244924491249003892449224912449244912499244922491";
const IQ1_BN: &str =
    "00386c45444544cf44cfcbcfcb6c3acb6c616c61456145244524cf0f003824cf6ccf6c6c6c6c456c45442d4544cf44cfcbcfcb6ccb6c614c";
const IQ2_BN: &str = "0000003f58811668811660055aa0055881166881a00558811668811660055aa0055881160000003f055aa00558811668811660055aa005581660055aa00558811668811660055aa0";
const IQ2_BN_R4: &str = "0000003f0000003f0000003f0000003f64891244481164899126481122449126224491264499224489124499116489121164891226481164449126489922449199224491124499226489124448116489";
const TQ2_0: &str = "841146186186186186186184114618618618618618618411461861861861861861861861841146186186186186186184114618618618618618618411461861860038";

#[test]
fn i2_s_layout_a() {
    check(TernaryEncoding::I2S(I2sLayout::A), 1, 256, I2_S_A);
    check(TernaryEncoding::I2S(I2sLayout::A), 2, 128, I2_S_A);
    // The sequence is flat: rows that begin inside a block take nothing away from it.
    check(TernaryEncoding::I2S(I2sLayout::A), 4, 64, I2_S_A);
    check(TernaryEncoding::I2S(I2sLayout::A), 32, 8, I2_S_A);
}

#[test]
fn i2_s_layout_b() {
    check(TernaryEncoding::I2S(I2sLayout::B), 2, 128, I2_S_B);
    check(TernaryEncoding::I2S(I2sLayout::B), 8, 32, I2_S_B);
}

#[test]
fn i2_s_layout_c() {
    check(TernaryEncoding::I2S(I2sLayout::C), 4, 64, I2_S_C);
}

#[test]
fn tq1_0() {
    check(TernaryEncoding::Tq1_0, 1, 256, TQ1_0);
}

#[test]
fn tq2_0() {
    check(TernaryEncoding::Tq2_0, 1, 256, TQ2_0);
}

#[test]
fn ptq1_0() {
    check(TernaryEncoding::Ptq1_0, 1, 128, PTQ1_0);
}

#[test]
fn q1_0() {
    let signs: Vec<i8> = pattern().iter().map(|trit| if *trit == 1 { 1 } else { -1 }).collect();
    check_trits(TernaryEncoding::Q1_0(Group::Of128), 1, 256, Q1_0, &signs);
    check_trits(TernaryEncoding::Q1_0(Group::Of128), 2, 128, Q1_0, &signs);
}

#[test]
fn q2_0() {
    check(TernaryEncoding::Q2_0(Group::Of64), 1, 256, Q2_0);
    check(TernaryEncoding::Q2_0(Group::Of64), 4, 64, Q2_0);
}

#[test]
fn iq_bn() {
    check(TernaryEncoding::Iq1Bn, 2, 128, IQ1_BN);
    check(TernaryEncoding::Iq2Bn, 2, 128, IQ2_BN);
    check(TernaryEncoding::Iq2BnR4, 4, 64, IQ2_BN_R4);
}

#[test]
fn random_bits_of_tq1_0_read_as_the_gguf_package_does() {
    // A fixture of tools/reference/dense_vectors.py; among the random bytes are those that no encoder writes.
    let (blocks, decoded) = include_bytes!("fixtures/tq1_0.bin").split_at(8 * 54);
    let matrix = TernaryMatrix::new(TernaryEncoding::Tq1_0, 8, 256, blocks, None).unwrap();
    let Scales::Rows(scales) = matrix.scales() else { panic!("{:?}", matrix.scales()) };
    let mut trits = [9; 256];
    for ((row, scale), decoded) in scales.iter().enumerate().zip(decoded.chunks_exact(256 * 4)) {
        matrix.read_row(row, &mut trits);
        for (trit, decoded) in trits.iter().zip(decoded.as_chunks().0) {
            assert_eq!(f32::from(*trit) * scale, f32::from_le_bytes(*decoded));
        }
    }
}
