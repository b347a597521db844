//! What is refused: each test is one lie, and the sentence that answers it.

use tritwise_tensor::{FloatKind, Group, Scales, TensorError, Ternarize, TernaryEncoding, TernaryMatrix};

use super::{BLOCKS, I2_S, KINDS, ROWS, held, literal_trit, outside, random_trits, written};

const Q1_0: TernaryEncoding = TernaryEncoding::Q1_0(Group::Of128);
const Q2_0: TernaryEncoding = TernaryEncoding::Q2_0(Group::Of64);

#[track_caller]
fn refused<T>(result: Result<T, TensorError>, sentence: &str) {
    assert_eq!(result.err().map(|error| error.to_string()).as_deref(), Some(sentence));
}

fn open(encoding: TernaryEncoding, rows: usize, cols: usize, bytes: &[u8]) -> Result<TernaryMatrix<'_>, TensorError> {
    TernaryMatrix::new(encoding, rows, cols, bytes, outside(encoding, 1.0))
}

#[test]
fn refuses_a_byte_too_few_or_too_many() {
    for encoding in written() {
        let len = encoding.encoded_len(4, 256).unwrap();
        for found in [0, len - 1, len + 1] {
            let sentence = format!("{encoding} 4×256 takes {len} bytes, found {found}");
            refused(open(encoding, 4, 256, &vec![0; found]), &sentence);
        }
    }
}

#[test]
fn refuses_shapes_that_break_a_rule() {
    let rules = [
        (I2_S[0], 3, 64, "I2_S cannot hold 3×64: layout A holds a multiple of 128 weights"),
        (I2_S[1], 3, 32, "I2_S cannot hold 3×32: layout B holds a multiple of 64 weights"),
        (I2_S[2], 6, 128, "I2_S cannot hold 6×128: layout C holds a multiple of 4 rows"),
        (I2_S[3], 3, 3, "I2_S cannot hold 3×3: layout D holds a multiple of 4 weights"),
        (TernaryEncoding::Tq1_0, 2, 128, "TQ1_0 cannot hold 2×128: the number of columns is a multiple of 256"),
        (TernaryEncoding::Tq2_0, 1, 3200, "TQ2_0 cannot hold 1×3200: the number of columns is a multiple of 256"),
        (TernaryEncoding::Ptq1_0, 1, 192, "PTQ1_0 cannot hold 1×192: the number of columns is a multiple of 128"),
        (Q1_0, 1, 192, "Q1_0 cannot hold 1×192: the number of columns is a multiple of 128"),
        (
            TernaryEncoding::Q1_0(Group::Of32),
            1,
            48,
            "Q1_0 in groups of 32 cannot hold 1×48: the number of columns is a multiple of 32",
        ),
        (Q2_0, 2, 96, "Q2_0 cannot hold 2×96: the number of columns is a multiple of 64"),
        (
            TernaryEncoding::Q2_0(Group::Of128),
            2,
            192,
            "PQ2_0 cannot hold 2×192: the number of columns is a multiple of 128",
        ),
        (ROWS[0], 1, 96, "IQ1_BN cannot hold 1×96: the number of columns is a multiple of 64"),
        (ROWS[1], 1, 32, "IQ2_BN cannot hold 1×32: the number of columns is a multiple of 64"),
        (ROWS[2], 4, 96, "IQ2_BN_R4 cannot hold 4×96: the number of columns is a multiple of 64"),
        (ROWS[2], 6, 64, "IQ2_BN_R4 cannot hold 6×64: the number of rows is a multiple of 4"),
        (TernaryEncoding::HfPacked, 6, 128, "HF packed cannot hold 6×128: the number of rows is a multiple of 4"),
    ];
    for (encoding, rows, cols, sentence) in rules {
        refused(encoding.encoded_len(rows, cols), sentence);
        refused(open(encoding, rows, cols, &[0; 4096]), sentence);
        refused(encoding.encode(&vec![0; rows * cols], rows, cols, &Scales::Tensor(1.0)), sentence);
    }
}

#[test]
fn refuses_sizes_that_overflow() {
    for encoding in written() {
        let sentence = format!("{encoding} cannot hold {0}×{0}: the size overflows", usize::MAX);
        refused(encoding.encoded_len(usize::MAX, usize::MAX), &sentence);
        refused(open(encoding, usize::MAX, usize::MAX, &[]), &sentence);
    }
    let floats = TernaryEncoding::Float(FloatKind::F32, Ternarize::Exact);
    refused(
        floats.encoded_len(1, usize::MAX / 2),
        &format!("F32 cannot hold 1×{}: the size overflows", usize::MAX / 2),
    );
}

#[test]
fn refuses_empty_matrices() {
    for encoding in written() {
        for (rows, cols) in [(0, 256), (4, 0), (0, usize::MAX)] {
            let sentence =
                format!("{encoding} cannot hold {rows}×{cols}: a matrix has at least one row and one column");
            refused(open(encoding, rows, cols, &[]), &sentence);
        }
    }
}

#[test]
fn refuses_code_three_wherever_it_stands() {
    let (rows, cols) = (8, 768);
    let others = [TernaryEncoding::Tq2_0, TernaryEncoding::HfPacked, Q2_0, TernaryEncoding::Q2_0(Group::Of128)];
    for encoding in [&I2_S[..], &others, &ROWS[1..]].concat() {
        let bytes = encoding.encode(&random_trits(rows * cols, 5), rows, cols, &Scales::Tensor(1.0)).unwrap();
        for (row, col) in [(0, 0), (0, 31), (2, 500), (3, 129), (5, 255), (7, 767)] {
            // Find the field by the definition: the one whose change the definition notices.
            let mut damaged = bytes.clone();
            let is_three = |bytes: &[u8]| literal_trit(encoding, bytes, rows, cols, row, col) == 2;
            'search: for byte in 0..damaged.len() {
                for shift in [0, 2, 4, 6] {
                    damaged[byte] |= 3 << shift;
                    if is_three(&damaged) {
                        break 'search;
                    }
                    damaged[byte] = bytes[byte];
                }
            }
            let sentence = format!("row {row}: a weight has code 3, which stands for no trit; is the file damaged?");
            refused(open(encoding, rows, cols, &damaged), &sentence);
        }
    }
}

#[test]
fn refuses_bytes_that_are_no_five_trits() {
    let (rows, cols, encoding) = (161, 9, TernaryEncoding::Base3);
    let bytes = encoding.encode(&random_trits(rows * cols, 5), rows, cols, &Scales::Tensor(1.0)).unwrap();
    // Panels of three lines; a byte is found in the first of its five rows.
    for (byte, value, row) in [(0, 243, 0), (63, 255, 15), (3 * 64 + 4, 250, 81), (6 * 64 + 191, 243, 175)] {
        let mut damaged = bytes.clone();
        damaged[byte] = value;
        let sentence = format!("row {row}: a byte is {value}, and five trits make 242 at most; is the file damaged?");
        refused(open(encoding, rows, cols, &damaged), &sentence);
    }
}

#[test]
fn refuses_scales_that_are_not_finite() {
    for scale in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bytes = I2_S[0].encode(&[0; 128], 1, 128, &Scales::Tensor(1.0)).unwrap();
        bytes[32..36].copy_from_slice(&scale.to_le_bytes());
        refused(open(I2_S[0], 1, 128, &bytes), &format!("scale 0 is {scale}, which is not a finite number"));

        let mut bytes = TernaryEncoding::Base3.encode(&[0; 4], 1, 4, &Scales::Tensor(1.0)).unwrap();
        bytes[64..68].copy_from_slice(&scale.to_le_bytes());
        refused(
            open(TernaryEncoding::Base3, 1, 4, &bytes),
            &format!("scale 0 is {scale}, which is not a finite number"),
        );

        let packed = TernaryMatrix::new(TernaryEncoding::HfPacked, 4, 1, &[0][..], Some(scale));
        refused(packed, &format!("scale 0 is {scale}, which is not a finite number"));

        for (encoding, d, index) in [
            (TernaryEncoding::Tq1_0, 106, 1),
            (TernaryEncoding::Tq2_0, 130, 1),
            (TernaryEncoding::Ptq1_0, 3 * 28 + 26, 3),
            (Q1_0, 2 * 18, 2),
            (Q2_0, 7 * 18, 7),
            (ROWS[0], 2 + 4 * 13, 1),
        ] {
            let mut bytes = encoding.encode(&held(encoding, &[0; 512]), 2, 256, &Scales::Tensor(1.0)).unwrap();
            bytes[d..d + 2].copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
            let sentence = format!("scale {index} is {scale}, which is not a finite number");
            refused(open(encoding, 2, 256, &bytes), &sentence);
        }
        for (encoding, d) in [(ROWS[1], 5 * 68), (ROWS[2], 4 * 68 + 4)] {
            let mut bytes = encoding.encode(&[0; 2048], 8, 256, &Scales::Tensor(1.0)).unwrap();
            bytes[d..d + 4].copy_from_slice(&scale.to_le_bytes());
            refused(open(encoding, 8, 256, &bytes), &format!("scale 5 is {scale}, which is not a finite number"));
        }
    }
}

#[test]
fn refuses_floats_that_are_not_finite() {
    for rule in [Ternarize::Absmean, Ternarize::Exact] {
        for kind in KINDS {
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for position in [0, 1, 2000] {
                    let mut weights = vec![1.0_f32; 2 * 1024];
                    weights[position] = value;
                    let bytes: Vec<u8> = match kind {
                        FloatKind::F32 => weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
                        FloatKind::F16 => weights.iter().flat_map(|&w| half::f16::from_f32(w).to_le_bytes()).collect(),
                        FloatKind::Bf16 => {
                            weights.iter().flat_map(|&w| half::bf16::from_f32(w).to_le_bytes()).collect()
                        }
                    };
                    let sentence = format!(
                        "row {}: column {} is {value}, which is not a finite number",
                        position / 1024,
                        position % 1024
                    );
                    refused(open(TernaryEncoding::Float(kind, rule), 2, 1024, &bytes), &sentence);
                }
            }
        }
    }
}

#[test]
fn refuses_floats_with_two_magnitudes() {
    let bytes: Vec<u8> = [0.5_f32, 0.0, 0.5, -0.25].iter().flat_map(|w| w.to_le_bytes()).collect();
    refused(
        open(TernaryEncoding::Float(FloatKind::F32, Ternarize::Exact), 2, 2, &bytes),
        "row 1: -0.25 beside ±0.5; these weights are not ternary with one scale for the matrix, a row, or a group of 32 \
         columns or a multiple of it",
    );
}

#[test]
fn refuses_a_missing_or_surplus_scale() {
    refused(
        TernaryMatrix::new(TernaryEncoding::HfPacked, 4, 1, &[0][..], None),
        "HF packed does not contain its scale, and none was given",
    );
    let bytes = I2_S[0].encode(&[0; 128], 1, 128, &Scales::Tensor(1.0)).unwrap();
    refused(
        TernaryMatrix::new(I2_S[0], 1, 128, &bytes, Some(1.0)),
        "I2_S contains its scale, and another one was given",
    );
}

#[test]
fn refuses_to_write_scales_without_a_place() {
    let rows = Scales::Rows(vec![1.0, 2.0, 3.0, 4.0]);
    let halves = Scales::Groups { cols: 128, values: vec![1.0; 8] };
    for encoding in written() {
        let (by_row, by_half) =
            (encoding.encode(&[1; 1024], 4, 256, &rows), encoding.encode(&[1; 1024], 4, 256, &halves));
        let refusal = |rule: &str| format!("{encoding} cannot hold these scales: {rule}");
        match encoding {
            TernaryEncoding::Tq1_0 | TernaryEncoding::Tq2_0 => {
                assert!(by_row.is_ok());
                refused(by_half, &refusal("there is place for one scale per row"));
            }
            _ if ROWS.contains(&encoding) => {
                assert!(by_row.is_ok());
                refused(by_half, &refusal("there is place for one scale per row"));
            }
            TernaryEncoding::Float(..) => assert!(by_row.is_ok() && by_half.is_ok()),
            _ if BLOCKS.iter().any(|(block, _)| *block == encoding) => assert!(by_row.is_ok() && by_half.is_ok()),
            _ => {
                refused(by_row, &refusal("there is place for one scale"));
                refused(by_half, &refusal("there is place for one scale"));
            }
        }
    }
    let groups = |cols, count| Scales::Groups { cols, values: vec![1.0; count] };
    let lies = [
        (Scales::Rows(vec![1.0]), "there is one scale per row"),
        (groups(0, 4), "a group divides the columns"),
        (groups(384, 4), "a group divides the columns"),
        (groups(256, 3), "there is one scale per group of each row"),
    ];
    for (scales, rule) in lies {
        let sentence = format!("TQ2_0 cannot hold these scales: {rule}");
        refused(TernaryEncoding::Tq2_0.encode(&[1; 1024], 4, 256, &scales), &sentence);
    }
    refused(
        TernaryEncoding::Ptq1_0.encode(&[1; 1024], 4, 256, &groups(64, 16)),
        "PTQ1_0 cannot hold these scales: a group is a multiple of the block",
    );
}

#[test]
fn refuses_to_write_scales_out_of_range() {
    for encoding in written() {
        for scale in [f32::NAN, f32::INFINITY] {
            refused(
                encoding.encode(&[1; 1024], 4, 256, &Scales::Tensor(scale)),
                &format!("scale 0 is {scale}, which is not a finite number"),
            );
        }
    }
    let f16 = TernaryEncoding::Float(FloatKind::F16, Ternarize::Exact);
    for encoding in BLOCKS.map(|(encoding, _)| encoding).into_iter().chain([ROWS[0], f16]) {
        for scale in [1e5, -1e5, 1e-9] {
            refused(
                encoding.encode(&[1; 1024], 4, 256, &Scales::Tensor(scale)),
                &format!("{encoding} cannot hold scale 0: {scale} is beyond the range of its float type"),
            );
        }
    }
}

#[test]
fn refuses_to_write_what_is_no_trit() {
    for encoding in written() {
        for value in [2, -2, i8::MIN, i8::MAX] {
            let mut trits = [0; 1024];
            trits[700] = value;
            let written = encoding.encode(&trits, 4, 256, &Scales::Tensor(1.0));
            refused(written, &format!("row 2: {value} is not -1, 0 or +1"));
        }
        let written = encoding.encode(&[0; 1023], 4, 256, &Scales::Tensor(1.0));
        refused(written, "4×256 has 1024 values, found 1023");
    }
}

#[test]
fn refuses_to_write_a_zero_that_has_no_code() {
    for group in [Group::Of32, Group::Of64, Group::Of128] {
        let mut trits = [1; 1024];
        trits[700] = 0;
        let encoding = TernaryEncoding::Q1_0(group);
        refused(
            encoding.encode(&trits, 4, 256, &Scales::Tensor(1.0)),
            &format!("row 2: {encoding} has no code for 0, only for -1 and +1; choose another encoding"),
        );
    }
}

#[test]
fn refuses_to_write_master_weights() {
    refused(
        TernaryEncoding::Float(FloatKind::F32, Ternarize::Absmean).encode(&[1; 4], 2, 2, &Scales::Tensor(1.0)),
        "F32 cannot hold these scales: the mean of ternary weights is not their scale; write them with Ternarize::Exact",
    );
}

#[test]
#[should_panic(expected = "row 4 of 4")]
fn panics_past_the_last_row() {
    let bytes = [0b0101_0101; 64];
    open(TernaryEncoding::HfPacked, 4, 64, &bytes).unwrap().read_row(4, &mut [0; 64]);
}

#[test]
#[should_panic(expected = "a row has 64 columns")]
fn panics_on_a_row_of_another_length() {
    let bytes = [0b0101_0101; 64];
    open(TernaryEncoding::HfPacked, 4, 64, &bytes).unwrap().read_row(0, &mut [0; 63]);
}
