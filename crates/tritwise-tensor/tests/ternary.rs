//! Every ternary encoding against its definition, spelled out weight by weight.

use proptest::prelude::*;
use tritwise_tensor::{FloatKind, I2sLayout, Scales, TensorError, Ternarize, TernaryEncoding, TernaryMatrix};

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
    let others = [
        TernaryEncoding::Tq1_0,
        TernaryEncoding::Tq2_0,
        TernaryEncoding::HfPacked,
    ];
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
    std::iter::repeat_with(next)
        .map(|v| v.rem_euclid(3) - 1)
        .take(count)
        .collect()
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
        assert_eq!(
            found,
            trit,
            "{encoding:?} {rows}×{cols}: written at ({}, {})",
            i / cols,
            i % cols
        );
    }
    if let TernaryEncoding::I2S(_) = encoding {
        let tail = bytes.len() - 28;
        assert_eq!(bytes[tail..], [0; 28]);
        bytes[tail..].fill(0xFF);
    }
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
            let scale = if trit == 0 && matches!(encoding, TernaryEncoding::Float(..)) {
                0.0
            } else {
                0.5
            };
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
            assert_eq!(
                trit,
                literal_trit(TernaryEncoding::Tq1_0, &block, 1, 256, 0, col),
                "byte {value} column {col}"
            );
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
    let bytes = [
        tq2_0_block(2, 0.0),
        tq2_0_block(2, 0.5),
        tq2_0_block(0, -0.0),
        tq2_0_block(0, 0.5),
    ]
    .concat();
    let matrix = TernaryMatrix::new(TernaryEncoding::Tq2_0, 1, 1024, &bytes, None).unwrap();
    assert_eq!(matrix.scales(), &Scales::Tensor(0.5));
    assert_eq!(read(&matrix), [[0; 256], [1; 256], [0; 256], [-1; 256]].concat());

    let mut block = TernaryEncoding::Tq1_0
        .encode(&[1; 256], 1, 256, &Scales::Tensor(1.0))
        .unwrap();
    block[52..].fill(0);
    let matrix = TernaryMatrix::new(TernaryEncoding::Tq1_0, 1, 256, &block, None).unwrap();
    assert_eq!((read(&matrix), matrix.scales()), (vec![0; 256], &Scales::Tensor(0.0)));
}

#[test]
fn scales_take_their_simplest_form() {
    let scales_of = |d: [f32; 4]| {
        let bytes = d.map(|d| tq2_0_block(2, d)).concat();
        TernaryMatrix::new(TernaryEncoding::Tq2_0, 2, 512, bytes, None)
            .unwrap()
            .scales()
            .clone()
    };
    assert_eq!(scales_of([-2.0; 4]), Scales::Tensor(-2.0));
    assert_eq!(scales_of([0.0; 4]), Scales::Tensor(0.0));
    assert_eq!(scales_of([1.0, 1.0, 2.0, 2.0]), Scales::Rows(vec![1.0, 2.0]));
    assert_eq!(scales_of([0.0, 1.0, 2.0, 0.0]), Scales::Rows(vec![1.0, 2.0]));
    assert_eq!(
        scales_of([1.0, -1.0, 1.0, 1.0]),
        Scales::Groups {
            cols: 256,
            values: vec![1.0, -1.0, 1.0, 1.0]
        }
    );
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
    assert_eq!(
        stored(TernaryEncoding::Float(FloatKind::F32, Ternarize::Exact)),
        Scales::Tensor(0.1)
    );
    assert_eq!(stored(I2_S[0]), Scales::Tensor(0.1));
}

#[test]
fn groups_may_span_blocks() {
    let scales = Scales::Groups {
        cols: 512,
        values: vec![1.0, 2.0, 3.0, 4.0],
    };
    let bytes = TernaryEncoding::Tq1_0.encode(&[1; 2048], 2, 1024, &scales).unwrap();
    let matrix = TernaryMatrix::new(TernaryEncoding::Tq1_0, 2, 1024, bytes, None).unwrap();
    let values = vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0];
    assert_eq!(matrix.scales(), &Scales::Groups { cols: 256, values });
}

// Master weights.

fn absmean(weights: &[f32]) -> TernaryMatrix<'static> {
    let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    let encoding = TernaryEncoding::Float(FloatKind::F32, Ternarize::Absmean);
    TernaryMatrix::new(encoding, 1, weights.len(), bytes, None).unwrap()
}

#[test]
fn absmean_rounds_half_to_even() {
    // The mean magnitude is 1.
    let above = 0.5_f32.next_up();
    let weights = [
        0.5,
        -0.5,
        1.5,
        -1.5,
        above,
        -above,
        2.0 - above,
        -2.0 + above,
        0.0,
        -0.0,
        2.0,
        -2.0,
    ];
    let matrix = absmean(&weights);
    assert_eq!(matrix.scales(), &Scales::Tensor(1.0));
    assert_eq!(read(&matrix), [0, 0, 1, -1, 1, -1, 1, -1, 0, 0, 1, -1]);
}

#[test]
fn absmean_multiplies_by_the_reciprocal() {
    let (mean, weight) = (41.0_f32, 20.5_f32.next_up());
    assert!(
        weight / mean > 0.5 && weight * (1.0 / mean) <= 0.5,
        "the two ways differ here"
    );
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
    let bytes: Vec<u8> = [0.25_f32, -0.0, -0.25, 0.0]
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect();
    let encoding = TernaryEncoding::Float(FloatKind::F32, Ternarize::Exact);
    let matrix = TernaryMatrix::new(encoding, 2, 2, bytes, None).unwrap();
    assert_eq!(
        (read(&matrix), matrix.scales()),
        (vec![1, 0, -1, 0], &Scales::Tensor(0.25))
    );
}

// Refusals: each is one lie, and the sentence that answers it.

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
        (
            I2_S[0],
            3,
            64,
            "I2_S cannot hold 3×64: layout A holds a multiple of 128 weights",
        ),
        (
            I2_S[1],
            3,
            32,
            "I2_S cannot hold 3×32: layout B holds a multiple of 64 weights",
        ),
        (
            I2_S[2],
            6,
            128,
            "I2_S cannot hold 6×128: layout C holds a multiple of 4 rows",
        ),
        (
            I2_S[3],
            3,
            3,
            "I2_S cannot hold 3×3: layout D holds a multiple of 4 weights",
        ),
        (
            TernaryEncoding::Tq1_0,
            2,
            128,
            "TQ1_0 cannot hold 2×128: the number of columns is a multiple of 256",
        ),
        (
            TernaryEncoding::Tq2_0,
            1,
            3200,
            "TQ2_0 cannot hold 1×3200: the number of columns is a multiple of 256",
        ),
        (
            TernaryEncoding::HfPacked,
            6,
            128,
            "HF packed cannot hold 6×128: the number of rows is a multiple of 4",
        ),
    ];
    for (encoding, rows, cols, sentence) in rules {
        refused(encoding.encoded_len(rows, cols), sentence);
        refused(open(encoding, rows, cols, &[0; 4096]), sentence);
        refused(
            encoding.encode(&vec![0; rows * cols], rows, cols, &Scales::Tensor(1.0)),
            sentence,
        );
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
    let encodings = [&I2_S[..], &[TernaryEncoding::Tq2_0, TernaryEncoding::HfPacked]].concat();
    for encoding in encodings {
        let bytes = encoding
            .encode(&random_trits(rows * cols, 5), rows, cols, &Scales::Tensor(1.0))
            .unwrap();
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
fn refuses_scales_that_are_not_finite() {
    for scale in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bytes = I2_S[0].encode(&[0; 128], 1, 128, &Scales::Tensor(1.0)).unwrap();
        bytes[32..36].copy_from_slice(&scale.to_le_bytes());
        refused(
            open(I2_S[0], 1, 128, &bytes),
            &format!("scale 0 is {scale}, which is not a finite number"),
        );

        let packed = TernaryMatrix::new(TernaryEncoding::HfPacked, 4, 1, &[0][..], Some(scale));
        refused(packed, &format!("scale 0 is {scale}, which is not a finite number"));

        for (encoding, d) in [(TernaryEncoding::Tq1_0, 106), (TernaryEncoding::Tq2_0, 130)] {
            let mut bytes = encoding.encode(&[0; 512], 2, 256, &Scales::Tensor(1.0)).unwrap();
            bytes[d..].copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
            refused(
                open(encoding, 2, 256, &bytes),
                &format!("scale 1 is {scale}, which is not a finite number"),
            );
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
                        FloatKind::F16 => weights
                            .iter()
                            .flat_map(|&w| half::f16::from_f32(w).to_le_bytes())
                            .collect(),
                        FloatKind::Bf16 => weights
                            .iter()
                            .flat_map(|&w| half::bf16::from_f32(w).to_le_bytes())
                            .collect(),
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
    let bytes: Vec<u8> = [0.5_f32, 0.0, 0.5, -0.25]
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect();
    refused(
        open(TernaryEncoding::Float(FloatKind::F32, Ternarize::Exact), 2, 2, &bytes),
        "row 1: -0.25 in a matrix with ±0.5; these weights are not ternary with one scale",
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
    for encoding in written() {
        let written = encoding.encode(&[1; 1024], 4, 256, &rows);
        match encoding {
            TernaryEncoding::Tq1_0 | TernaryEncoding::Tq2_0 => assert!(written.is_ok()),
            _ => refused(
                written,
                &format!("{encoding} cannot hold these scales: there is place for one scale"),
            ),
        }
    }
    let groups = |cols, count| Scales::Groups {
        cols,
        values: vec![1.0; count],
    };
    let lies = [
        (Scales::Rows(vec![1.0]), "there is one scale per row"),
        (groups(0, 4), "a group divides the columns"),
        (groups(384, 4), "a group divides the columns"),
        (groups(256, 3), "there is one scale per group of each row"),
        (groups(128, 8), "a group is a multiple of the block"),
    ];
    for (scales, rule) in lies {
        let sentence = format!("TQ2_0 cannot hold these scales: {rule}");
        refused(TernaryEncoding::Tq2_0.encode(&[1; 1024], 4, 256, &scales), &sentence);
    }
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
    for encoding in [TernaryEncoding::Tq1_0, TernaryEncoding::Tq2_0, f16] {
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
    open(TernaryEncoding::HfPacked, 4, 64, &bytes)
        .unwrap()
        .read_row(4, &mut [0; 64]);
}

#[test]
#[should_panic(expected = "a row has 64 columns")]
fn panics_on_a_row_of_another_length() {
    let bytes = [0b0101_0101; 64];
    open(TernaryEncoding::HfPacked, 4, 64, &bytes)
        .unwrap()
        .read_row(0, &mut [0; 63]);
}
