//! What is refused: each test is one lie, and the sentence that answers it.

use tritwise_tensor::{DenseEncoding, DenseMatrix, TensorError};

use super::{READ_ONLY, WRITTEN, all, scales};

#[track_caller]
fn refused<T>(result: Result<T, TensorError>, sentence: &str) {
    assert_eq!(result.err().map(|error| error.to_string()).as_deref(), Some(sentence));
}

#[test]
fn refuses_shapes_and_sizes() {
    for encoding in all() {
        let len = encoding.encoded_len(2, 256).unwrap();
        for found in [0, len - 1, len + 1] {
            let sentence = format!("{encoding} 2×256 takes {len} bytes, found {found}");
            refused(DenseMatrix::new(encoding, 2, 256, vec![0; found]), &sentence);
        }
        for (rows, cols) in [(0, 256), (1, 0)] {
            let sentence =
                format!("{encoding} cannot hold {rows}×{cols}: a matrix has at least one row and one column");
            refused(DenseMatrix::new(encoding, rows, cols, vec![]), &sentence);
        }
        let sentence = format!("{encoding} cannot hold {0}×{0}: the size overflows", usize::MAX);
        refused(DenseMatrix::new(encoding, usize::MAX, usize::MAX, vec![]), &sentence);
        if WRITTEN.contains(&encoding) {
            refused(encoding.encode(&[0.0; 511], 2, 256), "2×256 has 512 values, found 511");
        }
    }
    refused(
        DenseEncoding::F16.encoded_len(1, usize::MAX),
        &format!("F16 cannot hold 1×{}: the size overflows", usize::MAX),
    );
    refused(DenseEncoding::Q8_0.encoded_len(1, 48), "Q8_0 cannot hold 1×48: the number of columns is a multiple of 32");
    refused(
        DenseEncoding::Q6K.encoded_len(2, 128),
        "Q6_K cannot hold 2×128: the number of columns is a multiple of 256",
    );
    for encoding in all().filter(|encoding| encoding.block().0 > 1) {
        let (cols, _) = encoding.block();
        let sentence =
            format!("{encoding} cannot hold 1×{}: the number of columns is a multiple of {cols}", 3 * cols / 2);
        refused(encoding.encoded_len(1, 3 * cols / 2), &sentence);
    }
}

#[test]
fn refuses_scales_that_are_not_finite() {
    for encoding in all() {
        let (cols, bytes) = encoding.block();
        for (nth, at) in scales(encoding).iter().enumerate() {
            let mut blocks = vec![0; 2 * 4 * bytes];
            blocks[3 * bytes + at..][..2].copy_from_slice(&half::f16::NEG_INFINITY.to_le_bytes());
            let index = 3 * scales(encoding).len() + nth;
            let sentence = format!("scale {index} is -inf, which is not a finite number");
            refused(DenseMatrix::new(encoding, 2, 4 * cols, blocks), &sentence);
        }
    }
}

#[test]
fn refuses_to_write_what_is_only_read() {
    for encoding in READ_ONLY {
        let sentence =
            format!("{encoding} tables are read, not written; F32, F16, BF16, Q8_0, Q6_K, Q4_K and Q4_0 are written");
        refused(encoding.encode(&[0.0; 512], 2, 256), &sentence);
    }
}

#[test]
fn refuses_to_write_what_is_not_finite_or_too_large() {
    let with = |value: f32| {
        let mut values = vec![0.0; 512];
        values[300] = value;
        values
    };
    for encoding in WRITTEN {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let sentence = format!("row 1: column 44 is {value}, which is not a finite number");
            refused(encoding.encode(&with(value), 2, 256), &sentence);
        }
    }
    let too_large = |encoding: DenseEncoding, value, column| {
        let sentence = format!("row 1: values from column {column} on are too large for {encoding}");
        refused(encoding.encode(&with(value), 2, 256), &sentence);
    };
    too_large(DenseEncoding::F16, 65520.0, 44);
    too_large(DenseEncoding::F16, -1e30, 44);
    too_large(DenseEncoding::Bf16, f32::MAX, 44);
    too_large(DenseEncoding::Q8_0, 1e7, 32);
    too_large(DenseEncoding::Q6K, 3e8, 0);
    too_large(DenseEncoding::Q6K, -1e30, 0);
    too_large(DenseEncoding::Q4_0, 6e5, 32);
    too_large(DenseEncoding::Q4K, -5e6, 0);
    too_large(DenseEncoding::Q4K, -1e8, 0);
    too_large(DenseEncoding::Q4K, 1e30, 0);
    assert!(DenseEncoding::Q4_0.encode(&with(-5e5), 2, 256).is_ok());
    assert!(DenseEncoding::Q4K.encode(&with(4e6), 2, 256).is_ok());
    assert!(DenseEncoding::F16.encode(&with(65519.0), 2, 256).is_ok());
    assert!(DenseEncoding::Q8_0.encode(&with(8e6), 2, 256).is_ok());
    assert!(DenseEncoding::Q6K.encode(&with(2e8), 2, 256).is_ok());
}

#[test]
fn finds_the_first_value_that_is_not_finite() {
    for position in [0, 511, 512, 1023] {
        let mut values = [1.0_f32; 1024];
        values[position] = f32::NAN;
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let matrix = DenseMatrix::new(DenseEncoding::F32, 4, 256, bytes).unwrap();
        let sentence =
            format!("row {}: column {} is NaN, which is not a finite number", position / 256, position % 256);
        refused(matrix.check_finite(), &sentence);
    }
}

#[test]
#[should_panic(expected = "row 2 of 2")]
fn panics_past_the_last_row() {
    DenseMatrix::new(DenseEncoding::F32, 2, 1, vec![0; 8]).unwrap().read_row(2, &mut [0.0]);
}

#[test]
#[should_panic(expected = "a row has 1 columns")]
fn panics_on_a_row_of_another_length() {
    DenseMatrix::new(DenseEncoding::F32, 2, 1, vec![0; 8]).unwrap().read_row(0, &mut [0.0; 2]);
}
