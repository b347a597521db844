//! Float weights that are ternary with several scales: per row, or per group of columns.

use proptest::prelude::*;
use tritwise_tensor::{FloatKind, Scales, TensorError, Ternarize, TernaryEncoding, TernaryMatrix};

use super::{KINDS, random_trits, read, scale};

/// The matrix that `weight(row, col)` makes.
fn exact(
    rows: usize,
    cols: usize,
    weight: impl Fn(usize, usize) -> f32,
) -> Result<TernaryMatrix<'static>, TensorError> {
    let weights = (0..rows * cols).map(|i| weight(i / cols, i % cols));
    let bytes: Vec<u8> = weights.flat_map(f32::to_le_bytes).collect();
    TernaryMatrix::new(TernaryEncoding::Float(FloatKind::F32, Ternarize::Exact), rows, cols, bytes, None)
}

/// A sign for each weight, never 0.
fn sign(row: usize, col: usize) -> f32 {
    if (row * 7 + col * 5 + row * col).is_multiple_of(3) { -1.0 } else { 1.0 }
}

#[test]
fn the_simplest_form_that_explains_the_weights_is_taken() {
    let scales = |weight: fn(usize, usize) -> f32| exact(6, 384, weight).unwrap().scales().clone();
    let groups = |cols, one: &[f32]| Scales::Groups { cols, values: one.repeat(6) };
    assert_eq!(scales(|r, c| sign(r, c) * 0.5), Scales::Tensor(0.5));
    // As blocks of rows from three devices, and of columns from two and three.
    let thirds = vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0];
    assert_eq!(scales(|r, c| sign(r, c) * (r / 2 + 1) as f32), Scales::Rows(thirds));
    assert_eq!(scales(|r, c| sign(r, c) * (c / 192 + 1) as f32), groups(192, &[1.0, 2.0]));
    assert_eq!(scales(|r, c| sign(r, c) * (c / 128 + 1) as f32), groups(128, &[1.0, 2.0, 3.0]));
    // Columns 0..96 and the rest: 96 divides both.
    assert_eq!(scales(|r, c| sign(r, c) * if c < 96 { 1.0 } else { 2.0 }), groups(96, &[1.0, 2.0, 2.0, 2.0]));
    assert_eq!(scales(|r, c| sign(r, c) * if c < 32 { 1.0 } else { 2.0 }), {
        groups(32, &[&[1.0][..], &[2.0; 11]].concat())
    });
}

#[test]
fn zeros_agree_with_every_scale() {
    let scales = |weight: fn(usize, usize) -> f32| exact(4, 128, weight).unwrap().scales().clone();
    // A row of zeros between rows of other scales, and zeros at the beginning.
    assert_eq!(scales(|r, c| if r == 2 { 0.0 } else { sign(r, c) * (r + 1) as f32 }), {
        Scales::Rows(vec![1.0, 2.0, 0.0, 4.0])
    });
    assert_eq!(scales(|r, _| if r == 3 { 2.0 } else { 0.0 }), Scales::Tensor(2.0));
    assert_eq!(scales(|_, _| -0.0), Scales::Tensor(0.0));
    // Half a row of zeros: the other half's scale does for both.
    assert_eq!(scales(|r, c| if r == 1 && c < 64 { 0.0 } else { (r + 1) as f32 }), {
        Scales::Rows(vec![1.0, 2.0, 3.0, 4.0])
    });
    let zeros = scales(|r, c| if r == 1 && c >= 64 { 0.0 } else { (c / 64 + 1) as f32 });
    assert_eq!(zeros, Scales::Groups { cols: 64, values: vec![1.0, 2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 2.0] });
}

#[test]
fn widths_that_are_no_multiple_of_32_have_scales_per_row_only() {
    let rows = exact(3, 50, |r, c| sign(r, c) * (r + 1) as f32).unwrap();
    assert_eq!(rows.scales(), &Scales::Rows(vec![1.0, 2.0, 3.0]));
    let refused = exact(3, 50, |_, c| if c < 25 { 1.0 } else { 2.0 });
    assert_eq!(
        refused.unwrap_err().to_string(),
        "row 0: 2 beside ±1; these weights are not ternary with one scale for the matrix, a row, or a group of 32 \
         columns or a multiple of it"
    );
}

#[test]
fn what_no_scales_explain_is_refused() {
    // One weight of another magnitude, in the middle of a group.
    let refused = exact(4, 128, |r, c| if (r, c) == (2, 70) { 0.75 } else { (r + 1) as f32 });
    assert!(refused.unwrap_err().to_string().starts_with("row 2: 0.75 beside ±3; "));
    // Groups of 16 columns.
    let refused = exact(4, 128, |_, c| (c / 16 % 2 + 1) as f32);
    assert!(refused.unwrap_err().to_string().starts_with("row 0: 2 beside ±1; "));
}

#[test]
fn numbers_that_are_not_finite_are_refused_behind_other_magnitudes() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        // The second magnitude comes first, in row 1.
        for (row, col) in [(1, 127), (2, 0), (3, 40)] {
            let refused = exact(4, 128, |r, c| if (r, c) == (row, col) { value } else { (r + 1) as f32 });
            let sentence = format!("row {row}: column {col} is {value}, which is not a finite number");
            assert_eq!(refused.unwrap_err().to_string(), sentence);
        }
    }
}

proptest! {
    #[test]
    fn several_scales_come_back(
        kind in 0..3_usize,
        rows in 1..6_usize,
        groups in 1..6_usize,
        multiple in 1..4_usize,
        values in proptest::collection::vec(scale(), 30),
        by_rows: bool,
        seed: u64,
    ) {
        let encoding = TernaryEncoding::Float(KINDS[kind], Ternarize::Exact);
        let cols = groups * 32 * multiple;
        let scales = match by_rows {
            true => Scales::Rows(values[..rows].to_vec()),
            false => Scales::Groups { cols: 32 * multiple, values: values[..rows * groups].to_vec() },
        };
        let trits = random_trits(rows * cols, seed);
        let bytes = encoding.encode(&trits, rows, cols, &scales).unwrap();
        let matrix = TernaryMatrix::new(encoding, rows, cols, &bytes, None).unwrap();
        prop_assert_eq!(read(&matrix), &trits[..]);
        // Whatever form the scales take: as weights they are the same.
        for (i, trit) in trits.iter().enumerate().filter(|(_, trit)| **trit != 0) {
            let scale = super::scale_at(matrix.scales(), cols, i / cols, i % cols);
            prop_assert_eq!(scale, super::scale_at(&scales, cols, i / cols, i % cols), "weight {} is {}", i, trit);
        }
    }
}
