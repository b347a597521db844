//! Every instruction set's integer kernels, against sums over plain trits.
//!
//! The oracle knows nothing of lines and panels: it multiplies codes with
//! activations in `i64`. Panels are made here, code by code, from the drawing in
//! `arch::Line`'s documentation, and not with the crate's own packing.
//!
//! `TRITWISE_EXPECT_ISA=name` makes it a failure that this CPU lacks `name`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tritwise_kernels::arch::{Activations, Isa, LINE_COLS, Line, PANEL_ROWS, Panels, available};

/// A matrix of codes and activations for it.
#[derive(Debug, Clone)]
struct Case {
    rows: usize,
    cols: usize,
    tokens: usize,
    /// `rows` × `cols`.
    codes: Vec<u8>,
    /// `tokens` × `cols`.
    x: Vec<i8>,
    /// The code in padded rows and columns.
    padding: u8,
    /// Activations between the end of one row and the beginning of the next.
    gap: usize,
    /// Bytes before the first activation, so that rows begin at odd addresses.
    offset: usize,
}

impl Case {
    /// `Σ code·q` for every token and row.
    fn expected(&self) -> Vec<i64> {
        let mut sums = Vec::new();
        for x in self.x.chunks(self.cols) {
            for codes in self.codes.chunks(self.cols) {
                sums.push(codes.iter().zip(x).map(|(code, x)| i64::from(*code) * i64::from(*x)).sum());
            }
        }
        sums
    }

    fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL_ROWS)
    }

    fn lines_per_panel(&self) -> usize {
        self.cols.div_ceil(LINE_COLS)
    }

    /// Byte 4r + j of a line holds columns j, 4 + j, 8 + j and 12 + j of row r, lowest bits first.
    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for panel in 0..self.panels() {
            for line in 0..self.lines_per_panel() {
                let code = |row: usize, col: usize| {
                    let (row, col) = (panel * PANEL_ROWS + row, line * LINE_COLS + col);
                    let inside = row < self.rows && col < self.cols;
                    if inside { self.codes[row * self.cols + col] } else { self.padding }
                };
                lines.push(Line(std::array::from_fn(|byte| {
                    (0..4).map(|field| code(byte / 4, 4 * field + byte % 4) << (2 * field)).sum()
                })));
            }
        }
        lines
    }

    /// Activations as the kernels take them: zeros up to whole lines, then rubbish.
    fn activations(&self) -> (Vec<i8>, usize) {
        let padded = self.lines_per_panel() * LINE_COLS;
        let mut all = vec![-77; self.offset];
        for x in self.x.chunks(self.cols) {
            all.extend(x);
            all.extend(std::iter::repeat_n(0, padded - self.cols));
            all.extend(std::iter::repeat_n(-77, self.gap));
        }
        (all, padded + self.gap)
    }

    /// Runs both operations of `isa` and compares every sum.
    fn check(&self, isa: &dyn Isa) -> Result<(), TestCaseError> {
        let expected = self.expected();
        let lines = self.lines();
        let panels = Panels::new(&lines, self.lines_per_panel());
        let (activations, stride) = self.activations();
        let activations = &activations[self.offset..];
        let padded_rows = self.panels() * PANEL_ROWS;

        let mut all = vec![i32::MIN; self.tokens * padded_rows];
        isa.gemm(panels, Activations::new(activations, stride, self.tokens), &mut all);
        for token in 0..self.tokens {
            let mut one = vec![i32::MIN; padded_rows];
            isa.gemv(panels, &activations[token * stride..][..panels.cols()], &mut one);
            for row in 0..self.rows {
                let expected = expected[token * self.rows + row];
                let found = i64::from(all[token * padded_rows + row]);
                prop_assert_eq!(found, expected, "{} gemm: token {}, row {}", isa.name(), token, row);
                let found = i64::from(one[row]);
                prop_assert_eq!(found, expected, "{} gemv: token {}, row {}", isa.name(), token, row);
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

fn cases() -> impl Strategy<Value = Case> {
    let shape = (1..70usize, 1..200usize, 1..30usize, 0..=3u8, 0..20usize, 0..4usize);
    shape.prop_flat_map(|(rows, cols, tokens, padding, gap, offset)| {
        let codes = prop::collection::vec(0..=2u8, rows * cols);
        let x = prop::collection::vec(any::<i8>(), tokens * cols);
        (codes, x).prop_map(move |(codes, x)| Case { rows, cols, tokens, codes, x, padding, gap, offset })
    })
}

#[test]
fn random_matrices() {
    for isa in instruction_sets() {
        let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
        runner.run(&cases(), |case| case.check(isa)).unwrap();
        println!("{}: 100 random matrices", isa.name());
    }
}

#[test]
fn extremes_at_model_widths() {
    for isa in instruction_sets() {
        for cols in [2560, 6912, 8640, 23040] {
            for (code, q) in [(2, 127), (2, -127), (2, -128), (3, -128), (3, 127), (0, -128), (1, -128)] {
                let (rows, tokens) = (17, 3);
                let (codes, x) = (vec![code; rows * cols], vec![q; tokens * cols]);
                let case = Case { rows, cols, tokens, codes, x, padding: 3, gap: 0, offset: 0 };
                case.check(isa).unwrap();
            }
        }
        println!("{}: extremes at 4 widths", isa.name());
    }
}

#[test]
fn sums_at_the_widest_exact_matrix() {
    // Wider than any run of unshifted accumulators, and as wide as `i32` allows.
    let cols = tritwise_kernels::arch::MAX_COLS;
    for isa in instruction_sets() {
        for q in [-128, 127] {
            let case = Case {
                rows: 1,
                cols,
                tokens: 1,
                codes: vec![3; cols],
                x: vec![q; cols],
                padding: 3,
                gap: 0,
                offset: 0,
            };
            case.check(isa).unwrap();
        }
        println!("{}: {cols} columns", isa.name());
    }
}

#[test]
fn every_number_of_tokens_and_panels() {
    // Each pair is another tile of registers.
    for isa in instruction_sets() {
        for tokens in 1..=26 {
            for rows in [16, 32, 48] {
                let cols = 64;
                let codes = (0..rows * cols).map(|i| (i * 7 % 11 % 3) as u8).collect();
                let x = (0..tokens * cols).map(|i| (i * 37 % 255) as u8 as i8).collect();
                Case { rows, cols, tokens, codes, x, padding: 3, gap: 0, offset: 0 }.check(isa).unwrap();
            }
        }
    }
}

#[test]
fn operands_that_do_not_fit_panic() {
    for isa in instruction_sets() {
        let lines = [Line([0; 64]); 2];
        let panels = Panels::new(&lines, 2);
        let gemv = |x: usize, out: usize| {
            let (x, mut out) = (vec![0; x], vec![0; out]);
            catch_unwind(AssertUnwindSafe(|| isa.gemv(panels, &x, &mut out))).is_err()
        };
        let gemm = |x: usize, stride: usize, out: usize| {
            let (x, mut out) = (vec![0; x], vec![0; out]);
            catch_unwind(AssertUnwindSafe(|| isa.gemm(panels, Activations::new(&x, stride, 3), &mut out))).is_err()
        };
        assert!(!gemv(32, 16) && !gemm(96, 32, 48));
        assert!(gemv(31, 16) && gemv(33, 16) && gemv(32, 15) && gemv(32, 17));
        assert!(gemm(95, 32, 48) && gemm(96, 33, 48) && gemm(96, 32, 47) && gemm(96, 32, 49));
    }
}
