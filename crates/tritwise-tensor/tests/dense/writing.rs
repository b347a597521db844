//! The quantisers, against error bounds.

use proptest::prelude::*;
use tritwise_tensor::{DenseEncoding, DenseMatrix};

use super::{WRITTEN, normal, read};

proptest! {
    #[test]
    fn floats_are_rounded_to_nearest(values in proptest::collection::vec(-6e4..6e4_f32, 1..700)) {
        let written = |encoding: DenseEncoding| {
            let bytes = encoding.encode(&values, 1, values.len()).unwrap();
            read(&DenseMatrix::new(encoding, 1, values.len(), bytes).unwrap())
        };
        prop_assert_eq!(&written(DenseEncoding::F32), &values);
        let f16: Vec<f32> = values.iter().map(|&v| half::f16::from_f32(v).to_f32()).collect();
        prop_assert_eq!(written(DenseEncoding::F16), f16);
        let bf16: Vec<f32> = values.iter().map(|&v| half::bf16::from_f32(v).to_f32()).collect();
        prop_assert_eq!(written(DenseEncoding::Bf16), bf16);
    }

    #[test]
    fn q8_0_is_off_by_half_a_step(seed: u64, exponent in -20..20_i32) {
        let values: Vec<f32> = normal(256, seed).iter().map(|v| v * 2_f32.powi(exponent)).collect();
        let bytes = DenseEncoding::Q8_0.encode(&values, 1, 256).unwrap();
        let decoded = read(&DenseMatrix::new(DenseEncoding::Q8_0, 1, 256, bytes).unwrap());
        for (values, decoded) in values.chunks(32).zip(decoded.chunks(32)) {
            let step = values.iter().fold(0.0_f64, |max, &v| max.max(f64::from(v).abs())) / 127.0;
            // Half a step for the code; the scale's own rounding, 2⁻¹¹ of it, counts up to 127 times; and a little
            // for the f32 arithmetic of the quantiser. Where the scale is a subnormal f16, it is rounded by up to 2⁻²⁵.
            let bound = step * (0.5 + 127.0 / 2048.0 + 1e-4) + 127.0 * 2_f64.powi(-25);
            for (&value, &decoded) in values.iter().zip(decoded) {
                prop_assert!((f64::from(value) - f64::from(decoded)).abs() <= bound, "{} became {}", value, decoded);
            }
        }
    }

    #[test]
    fn q4_0_is_off_by_a_step(seed: u64, exponent in -20..15_i32) {
        let values: Vec<f32> = normal(256, seed).iter().map(|v| v * 2_f32.powi(exponent)).collect();
        let bytes = DenseEncoding::Q4_0.encode(&values, 1, 256).unwrap();
        let decoded = read(&DenseMatrix::new(DenseEncoding::Q4_0, 1, 256, bytes).unwrap());
        for (values, decoded) in values.chunks(32).zip(decoded.chunks(32)) {
            // The extreme is code 0; a value as large of the other sign would be code 16 and is 15. The scale's
            // own rounding counts up to 8 times.
            let step = values.iter().fold(0.0_f64, |max, &v| max.max(f64::from(v).abs())) / 8.0;
            let bound = step * (1.0 + 8.0 / 2048.0 + 1e-4) + 8.0 * 2_f64.powi(-25);
            for (&value, &decoded) in values.iter().zip(decoded) {
                prop_assert!((f64::from(value) - f64::from(decoded)).abs() <= bound, "{} became {}", value, decoded);
            }
        }
    }

    #[test]
    fn q4_k_is_off_by_a_step(seed: u64, exponent in -20..20_i32, offset in -2.0..2.0_f32) {
        let values: Vec<f32> = normal(512, seed).iter().map(|v| (v + offset) * 2_f32.powi(exponent)).collect();
        let bytes = DenseEncoding::Q4K.encode(&values, 2, 256).unwrap();
        let decoded = read(&DenseMatrix::new(DenseEncoding::Q4K, 2, 256, bytes).unwrap());
        for (values, decoded) in values.chunks(256).zip(decoded.chunks(256)) {
            // A sub-block's range, with 0, in 15 steps: half a step for the code. The integer scale may be off by
            // half of the largest of all over 63, times up to 15, the integer offset by half of that over 63.
            let ends = |values: &[f32]| values.iter().fold((0.0_f64, 0.0_f64), |ends, &v| (ends.0.min(v.into()), ends.1.max(v.into())));
            let range = |values: &[f32]| ends(values).1 - ends(values).0;
            let widest = values.chunks(32).map(range).fold(0.0, f64::max);
            for (values, decoded) in values.chunks(32).zip(decoded.chunks(32)) {
                let bound = 0.5 * range(values) / 15.0 + 0.5 * widest / 63.0 - 0.5 * ends(values).0 / 63.0 + 64.0 * 2_f64.powi(-24);
                let error: f64 = values.iter().zip(decoded).map(|(&v, &d)| (f64::from(v) - f64::from(d)).powi(2)).sum();
                prop_assert!((error / 32.0).sqrt() <= bound, "{:?} became {:?}", values, decoded);
            }
        }
    }

    #[test]
    fn q6_k_is_off_by_a_step(seed: u64, exponent in -20..20_i32) {
        let values: Vec<f32> = normal(512, seed).iter().map(|v| v * 2_f32.powi(exponent)).collect();
        let bytes = DenseEncoding::Q6K.encode(&values, 2, 256).unwrap();
        let decoded = read(&DenseMatrix::new(DenseEncoding::Q6K, 2, 256, bytes).unwrap());
        for (block, (values, decoded)) in values.chunks(256).zip(decoded.chunks(256)).enumerate() {
            let largest = values.iter().fold(0.0_f64, |max, &v| max.max(f64::from(v).abs()));
            for (values, decoded) in values.chunks(16).zip(decoded.chunks(16)) {
                // The search may trade one weight's error for the others', so the promise is about the sub-block. Code
                // -32 for the extreme gives at most half a step (a step at +32), and the integer scale adds half of
                // largest / 32 / 127, rounded up to an f16, times up to 32.
                let extreme = values.iter().fold(0.0_f64, |max, &v| max.max(f64::from(v).abs()));
                let bound = 0.5 * extreme / 32.0 + 0.5 * largest / 127.0 + 16.0 * 2_f64.powi(-24);
                let error: f64 = values.iter().zip(decoded).map(|(&v, &d)| (f64::from(v) - f64::from(d)).powi(2)).sum();
                prop_assert!((error / 16.0).sqrt() <= bound, "block {}: {:?} became {:?}", block, values, decoded);
            }
        }
    }
}

#[test]
fn quantisers_are_as_good_as_documented() {
    let values = normal(256 * 400, 11);
    let error = |encoding: DenseEncoding| {
        let bytes = encoding.encode(&values, 400, 256).unwrap();
        relative_error(&values, &read(&DenseMatrix::new(encoding, 400, 256, bytes).unwrap()))
    };
    // Measured: 0.0167 and 0.0054.
    assert!(error(DenseEncoding::Q6K) < 0.0170, "{}", error(DenseEncoding::Q6K));
    assert!(error(DenseEncoding::Q8_0) < 0.0056, "{}", error(DenseEncoding::Q8_0));
    // Measured: 0.0705 and 0.0860.
    assert!(error(DenseEncoding::Q4K) < 0.0712, "{}", error(DenseEncoding::Q4K));
    assert!(error(DenseEncoding::Q4_0) < 0.0870, "{}", error(DenseEncoding::Q4_0));
}

#[test]
fn quantisers_keep_what_fits_exactly() {
    // Codes -32..=31 in steps of 127 · 2⁻¹⁰, and -127..=127 in steps of 2⁻⁷; each (sub-)block has the extreme.
    let mut sixes: Vec<f32> = (0..256).map(|i| (i % 64 - 32) as f32 * 127.0 / 1024.0).collect();
    sixes.iter_mut().step_by(16).for_each(|v| *v = -32.0 * 127.0 / 1024.0);
    let bytes = DenseEncoding::Q6K.encode(&sixes, 1, 256).unwrap();
    assert_eq!(read(&DenseMatrix::new(DenseEncoding::Q6K, 1, 256, bytes).unwrap()), sixes);

    let mut eights: Vec<f32> = (0..256).map(|i| (i - 128) as f32 / 128.0).collect();
    eights.iter_mut().step_by(32).for_each(|v| *v = -127.0 / 128.0);
    let bytes = DenseEncoding::Q8_0.encode(&eights, 1, 256).unwrap();
    assert_eq!(read(&DenseMatrix::new(DenseEncoding::Q8_0, 1, 256, bytes).unwrap()), eights);
}

#[test]
fn four_bits_keep_what_fits_exactly() {
    // Codes 0..=15 in steps of 63 · 2⁻¹⁰ from -63 · 2⁻⁷, and -8..=7 in steps of 2⁻³.
    for (encoding, step) in [(DenseEncoding::Q4K, 63.0 / 1024.0), (DenseEncoding::Q4_0, 0.125)] {
        let values: Vec<f32> = (0..256).map(|i| ((i * 7 % 16) as f32 - 8.0) * step).collect();
        let bytes = encoding.encode(&values, 1, 256).unwrap();
        assert_eq!(read(&DenseMatrix::new(encoding, 1, 256, bytes).unwrap()), values, "{encoding}");
    }
}

#[test]
fn tiny_and_zero_blocks_become_zero() {
    for encoding in &WRITTEN[3..] {
        for value in [0.0, -0.0, 1e-9, f32::from_bits(1), -f32::MIN_POSITIVE] {
            let bytes = encoding.encode(&[value; 256], 1, 256).unwrap();
            let matrix = DenseMatrix::new(*encoding, 1, 256, bytes).unwrap();
            assert_eq!(read(&matrix), [0.0; 256], "{encoding} of {value}");
        }
    }
}

/// Root of the mean squared error over root of the mean square, in f64.
fn relative_error(values: &[f32], decoded: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let error: f64 = values.iter().zip(decoded).map(|(&v, &d)| square(f64::from(v) - f64::from(d))).sum();
    (error / values.iter().map(|&v| square(v.into())).sum::<f64>()).sqrt()
}
