//! Binary activations: every product on every instruction set, against sums over plain numbers.
//!
//! The oracle knows nothing of bits: it multiplies weights with activations in `i64`. Under Miri,
//! with fewer cases, instruction sets that the CPU lacks can be tested too:
//!
//! ```sh
//! RUSTFLAGS="-Ctarget-feature=+avx2,+fma,+f16c,+avx512f,+avx512bw,+avx512vl,+avx512vnni,+avx512vpopcntdq" \
//!     cargo +nightly miri test -p tritwise-kernels --test binary
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tritwise_kernels::PackError;
use tritwise_kernels::arch::{BIT_COLS, BitOp, BitRows, Isa, Line, available};
use tritwise_kernels::binary::{Binarize, BinaryMatrix, BinaryRows, TernaryPlanes};
use tritwise_kernels::cpu::Rows;

const BINARIZE: [Binarize; 2] = [Binarize::Sign, Binarize::Step];

/// A matrix of weights and activations for it.
#[derive(Debug, Clone)]
struct Case {
    rows: usize,
    cols: usize,
    /// `rows` × `cols`.
    weights: Vec<i8>,
    /// Tokens × `cols`.
    x: Vec<f32>,
}

impl Case {
    fn tokens(&self) -> usize {
        self.x.len() / self.cols
    }

    fn read_row(&self) -> impl Fn(usize, &mut [i8]) {
        |row, out| out.copy_from_slice(&self.weights[row * self.cols..][..self.cols])
    }

    fn activations(&self, binarize: Binarize) -> BinaryRows {
        let mut x = Rows::new(self.cols);
        x.set_tokens(self.tokens());
        x.as_mut_slice().copy_from_slice(&self.x);
        let mut out = BinaryRows::new(self.cols, binarize);
        out.set(&x);
        out
    }

    /// `Σ weight·x` for every token and row.
    fn expected(&self, binarize: Binarize) -> Vec<i64> {
        let value = |x: f32| match (binarize, x > 0.0) {
            (_, true) => 1,
            (Binarize::Sign, false) => -1,
            (Binarize::Step, false) => 0,
        };
        let mut sums = Vec::new();
        for x in self.x.chunks(self.cols) {
            for weights in self.weights.chunks(self.cols) {
                sums.push(weights.iter().zip(x).map(|(w, x)| i64::from(*w) * value(*x)).sum());
            }
        }
        sums
    }

    /// Runs every product of `isa` that these weights allow, into rubbish.
    fn check(&self, isa: &dyn Isa) -> Result<(), TestCaseError> {
        let planes = TernaryPlanes::from_rows(self.rows, self.cols, self.read_row()).unwrap();
        let binary = BinaryMatrix::from_rows(self.rows, self.cols, self.read_row());
        prop_assert_eq!(binary.is_err(), self.weights.contains(&0));
        for binarize in BINARIZE {
            let x = self.activations(binarize);
            let expected = self.expected(binarize);
            let run = |multiply: &dyn Fn(&mut [i32])| {
                let mut out = vec![i32::MIN + 1; expected.len()];
                multiply(&mut out);
                out.into_iter().map(i64::from).collect::<Vec<_>>()
            };
            let found = run(&|out| planes.multiply(isa, &x, out));
            prop_assert_eq!(&found, &expected, "{} planes, {:?}", isa.name(), binarize);
            if let Ok(binary) = &binary {
                let found = run(&|out| binary.multiply(isa, &x, out));
                prop_assert_eq!(&found, &expected, "{} binary, {:?}", isa.name(), binarize);
            }
        }
        Ok(())
    }
}

/// The instruction sets of this CPU, after a look at what was expected of it.
fn instruction_sets() -> Vec<&'static dyn Isa> {
    let all = available();
    if let Ok(expected) = std::env::var("TRITWISE_EXPECT_ISA") {
        assert!(all.iter().any(|isa| isa.name() == expected), "this CPU has no {expected}, only {all:?}");
    }
    all
}

/// Weights -1 and 1, or 0 too, and activations of which many are zeros of either sign.
fn cases() -> impl Strategy<Value = Case> {
    (1..12usize, 1..2500usize, 1..8usize, any::<bool>()).prop_flat_map(|(rows, cols, tokens, binary)| {
        let weight = (-1..=1i8).prop_map(move |w| if binary && w == 0 { 1 } else { w });
        let x = prop_oneof![-2.0..2.0f32, Just(0.0), Just(-0.0), Just(f32::MIN_POSITIVE / 2.0), Just(f32::NAN)];
        let weights = prop::collection::vec(weight, rows * cols);
        (weights, prop::collection::vec(x, tokens * cols)).prop_map(move |(weights, x)| Case { rows, cols, weights, x })
    })
}

#[test]
#[cfg_attr(miri, ignore = "too many")]
fn random_matrices() {
    for isa in instruction_sets() {
        let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
        runner.run(&cases(), |case| case.check(isa)).unwrap();
        println!("{}: 100 random matrices", isa.name());
    }
}

#[test]
fn every_padding_and_run_of_lines() {
    // Either side of whole bytes, words, registers and lines, and of the lines whose counts fit a byte.
    let (narrow, scalar) = (15 * BIT_COLS, 31 * BIT_COLS);
    let widths = [1, 7, 8, 9, 63, 64, 65, 255, 256, 257, 511, 512, 513, 1024, narrow, narrow + 1, scalar, scalar + 1];
    for isa in instruction_sets() {
        for cols in widths.into_iter().filter(|cols| !cfg!(miri) || [9, 513].contains(cols)) {
            // All alike is the most that any counter meets, and shows a padding that is counted.
            for (weight, x) in [(1, 1.0), (1, -1.0), (-1, 1.0), (-1, -1.0), (0, 1.0), (0, -1.0)] {
                let case = Case { rows: 2, cols, weights: vec![weight; 2 * cols], x: vec![x; 3 * cols] };
                case.check(isa).unwrap();
            }
        }
    }
}

#[test]
fn every_number_of_rows_and_tokens() {
    for isa in instruction_sets() {
        let most = if cfg!(miri) { 3 } else { 9 };
        for rows in 1..=most {
            for tokens in 1..=most {
                let cols = 70;
                let weights = (0..rows * cols).map(|i| [1, -1, -1, 1, -1][i * 7 % 11 % 5]).collect();
                let x = (0..tokens * cols).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
                Case { rows, cols, weights, x }.check(isa).unwrap();
            }
        }
    }
}

#[test]
fn every_bit_counts_once() {
    for isa in instruction_sets() {
        for bit in (0..2 * BIT_COLS).step_by(if cfg!(miri) { 37 } else { 1 }) {
            let mut lines = [Line([0; 64]); 2];
            lines[bit / BIT_COLS].0[bit % BIT_COLS / 8] = 1 << (bit % 8);
            let all = [Line([0xff; 64]); 2];
            let (one, all) = (BitRows::new(&lines, 2), BitRows::new(&all, 2));
            for (op, expected) in [(BitOp::And, 1), (BitOp::Xor, 2 * BIT_COLS as i32 - 1)] {
                let mut out = [1000];
                isa.add_ones(op, -3, one, all, &mut out);
                assert_eq!(out, [1000 - 3 * expected], "{} {op:?}, bit {bit}", isa.name());
            }
        }
    }
}

#[test]
fn counts_are_those_of_the_scalar_code() {
    // Any bytes, also where a matrix has padding.
    let all = instruction_sets();
    let (scalar, others) = all.split_last().unwrap();
    let mut state = 1u64;
    let mut lines = |len: usize| -> Vec<Line> {
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(|_| Line(std::array::from_fn(|_| byte()))).collect()
    };
    for lines_per_row in [1, 2, 5, 14, 15, 16, 31, 32, 45].into_iter().filter(|lines| !cfg!(miri) || *lines < 6) {
        let (weights, x) = (lines(7 * lines_per_row), lines(3 * lines_per_row));
        let (weights, x) = (BitRows::new(&weights, lines_per_row), BitRows::new(&x, lines_per_row));
        for (op, factor) in [(BitOp::Xor, -2), (BitOp::And, 1), (BitOp::And, i32::MIN)] {
            let mut expected: Vec<i32> = (0..21).collect();
            scalar.add_ones(op, factor, weights, x, &mut expected);
            for isa in others {
                let mut found: Vec<i32> = (0..21).collect();
                isa.add_ones(op, factor, weights, x, &mut found);
                assert_eq!(found, expected, "{} {op:?}, {lines_per_row} lines", isa.name());
            }
        }
    }
}

#[test]
fn rows_that_shrink_and_grow_leave_nothing_behind() {
    for isa in instruction_sets() {
        let (cols, mut x, mut signs) = (13, Rows::new(13), BinaryRows::new(13, Binarize::Sign));
        let matrix = BinaryMatrix::from_rows(1, cols, |_, out| out.fill(1)).unwrap();
        for (tokens, value) in [(3, 1.0), (1, -1.0), (0, 1.0), (2, 0.0), (5, 2.0)] {
            x.set_tokens(tokens);
            x.as_mut_slice().fill(value);
            signs.set(&x);
            let mut out = vec![0; tokens];
            matrix.multiply(isa, &signs, &mut out);
            assert_eq!((signs.tokens(), out), (tokens, vec![if value > 0.0 { 13 } else { -13 }; tokens]));
        }
    }
}

#[test]
fn matrices_without_rows_or_columns_have_sums_of_nothing() {
    for isa in instruction_sets() {
        for (rows, cols) in [(0, 0), (0, 5), (2, 0)] {
            let mut x = Rows::new(cols);
            x.set_tokens(3);
            for binarize in BINARIZE {
                let mut bits = BinaryRows::new(cols, binarize);
                bits.set(&x);
                let mut out = vec![7; 3 * rows];
                BinaryMatrix::from_rows(rows, cols, |_, out| out.fill(1)).unwrap().multiply(isa, &bits, &mut out);
                assert_eq!(out, vec![0; 3 * rows]);
                out.fill(7);
                TernaryPlanes::from_rows(rows, cols, |_, out| out.fill(1)).unwrap().multiply(isa, &bits, &mut out);
                assert_eq!(out, vec![0; 3 * rows]);
            }
        }
    }
}

#[test]
fn what_a_matrix_cannot_hold_is_refused_with_its_place() {
    let message = |error: PackError| error.to_string();
    for value in [0, 2, -2, i8::MIN] {
        let read = |row: usize, out: &mut [i8]| {
            out.fill(1);
            out[4] = if row == 1 { value } else { 1 };
        };
        let refused = message(BinaryMatrix::from_rows(2, 5, read).unwrap_err());
        assert!(refused.starts_with(&format!("row 1 has the weight {value} in column 4")), "{refused}");
        match TernaryPlanes::from_rows(2, 5, read) {
            Ok(planes) => assert_eq!((value, planes.rows(), planes.cols()), (0, 2, 5)),
            Err(error) => {
                let refused = message(error);
                assert!(refused.starts_with(&format!("row 1 has the weight {value} in column 4")), "{refused}");
            }
        }
    }
}

#[test]
#[cfg_attr(panic = "abort", ignore = "a panic ends the program")]
fn operands_that_do_not_fit_panic() {
    for isa in instruction_sets() {
        let (weights, x) = ([Line([0; 64]); 6], [Line([0; 64]); 4]);
        let add = |weights_per_row: usize, x_per_row: usize, out: usize| {
            let (weights, x) = (BitRows::new(&weights, weights_per_row), BitRows::new(&x, x_per_row));
            let mut out = vec![0; out];
            let call = AssertUnwindSafe(|| isa.add_ones(BitOp::And, 1, weights, x, &mut out));
            catch_unwind(call).is_err()
        };
        assert!(!add(2, 2, 6) && !add(1, 1, 24));
        assert!(add(2, 2, 5) && add(2, 2, 7) && add(2, 1, 12) && add(1, 2, 12));

        let matrix = BinaryMatrix::from_rows(2, 600, |_, out| out.fill(1)).unwrap();
        let multiply = |width: usize, tokens: usize, out: usize| {
            let (mut rows, mut x) = (Rows::new(width), BinaryRows::new(width, Binarize::Sign));
            rows.set_tokens(tokens);
            x.set(&rows);
            let mut out = vec![0; out];
            catch_unwind(AssertUnwindSafe(|| matrix.multiply(isa, &x, &mut out))).is_err()
        };
        assert!(!multiply(600, 3, 6) && !multiply(600, 0, 0));
        // As many lines, but not as many columns.
        assert!(multiply(599, 3, 6) && multiply(601, 3, 6) && multiply(600, 3, 5) && multiply(600, 3, 7));
    }
    assert!(catch_unwind(|| BitRows::new(&[], 0)).is_err());
    assert!(catch_unwind(|| BitRows::new(&[Line([0; 64])], 2)).is_err());
    assert!(catch_unwind(|| BinaryRows::new(8, Binarize::Sign).set(&Rows::new(9))).is_err());
}
