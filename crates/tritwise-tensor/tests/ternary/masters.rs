//! Float weights: the absmean rule against its formula, and ternary values spelled as floats.

use proptest::prelude::*;
use tritwise_tensor::{FloatKind, Scales, Ternarize, TernaryEncoding, TernaryMatrix};

use super::{KINDS, read};

fn absmean(weights: &[f32]) -> TernaryMatrix<'static> {
    let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    let encoding = TernaryEncoding::Float(FloatKind::F32, Ternarize::Absmean);
    TernaryMatrix::new(encoding, 1, weights.len(), bytes, None).unwrap()
}

#[test]
fn absmean_rounds_half_to_even() {
    // The mean magnitude is 1.
    let above = 0.5_f32.next_up();
    let weights = [0.5, -0.5, 1.5, -1.5, above, -above, 2.0 - above, -2.0 + above, 0.0, -0.0, 2.0, -2.0];
    let matrix = absmean(&weights);
    assert_eq!(matrix.scales(), &Scales::Tensor(1.0));
    assert_eq!(read(&matrix), [0, 0, 1, -1, 1, -1, 1, -1, 0, 0, 1, -1]);
}

#[test]
fn absmean_multiplies_by_the_reciprocal() {
    let (mean, weight) = (41.0_f32, 20.5_f32.next_up());
    assert!(weight / mean > 0.5 && weight * (1.0 / mean) <= 0.5, "the two ways differ here");
    let matrix = absmean(&[weight, 61.5]);
    assert_eq!(matrix.scales(), &Scales::Tensor(mean));
    assert_eq!(read(&matrix), [0, 1]);
}

#[test]
fn absmean_sums_without_drift() {
    // One f32 accumulator makes this 0.0969.
    assert_eq!(absmean(&vec![0.1; 3_000_000]).scales(), &Scales::Tensor(0.1));
}

#[test]
fn absmean_of_zeros_is_the_floor() {
    let matrix = absmean(&[0.0; 8]);
    assert_eq!((read(&matrix), matrix.scales()), (vec![0; 8], &Scales::Tensor(1e-5)));
}

proptest! {
    #[test]
    fn absmean_follows_the_formula(weights in proptest::collection::vec(-3.0..3.0_f32, 1..2000), kind in 0..3_usize) {
        let (bytes, weights): (Vec<Vec<u8>>, Vec<f32>) = weights
            .iter()
            .map(|&w| match KINDS[kind] {
                FloatKind::F32 => (w.to_le_bytes().to_vec(), w),
                FloatKind::F16 => (half::f16::from_f32(w).to_le_bytes().to_vec(), half::f16::from_f32(w).to_f32()),
                FloatKind::Bf16 => (half::bf16::from_f32(w).to_le_bytes().to_vec(), half::bf16::from_f32(w).to_f32()),
            })
            .unzip();
        let encoding = TernaryEncoding::Float(KINDS[kind], Ternarize::Absmean);
        let matrix = TernaryMatrix::new(encoding, 1, weights.len(), bytes.concat(), None).unwrap();
        // A sum of so few values of like size is exact to far below an f32, in any order.
        let mean = (weights.iter().map(|w| f64::from(w.abs())).sum::<f64>() / weights.len() as f64) as f32;
        let mean = mean.max(1e-5);
        prop_assert_eq!(matrix.scales(), &Scales::Tensor(mean));
        for (trit, weight) in read(&matrix).into_iter().zip(weights) {
            prop_assert_eq!(f32::from(trit), (weight * (1.0 / mean)).round_ties_even().clamp(-1.0, 1.0));
        }
    }
}

#[test]
fn exact_floats_may_be_negative_zero() {
    let bytes: Vec<u8> = [0.25_f32, -0.0, -0.25, 0.0].iter().flat_map(|w| w.to_le_bytes()).collect();
    let encoding = TernaryEncoding::Float(FloatKind::F32, Ternarize::Exact);
    let matrix = TernaryMatrix::new(encoding, 2, 2, bytes, None).unwrap();
    assert_eq!((read(&matrix), matrix.scales()), (vec![1, 0, -1, 0], &Scales::Tensor(0.25)));
}
