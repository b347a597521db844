//! Every instruction set's integer kernels, against sums over plain trits.
//!
//! The oracle knows nothing of lines and panels: it multiplies codes with
//! activations in `i64`. Panels are made here, code by code, from the drawing in
//! `arch::Layout`'s documentation, and not with the crate's own packing.
//!
//! `TRITWISE_EXPECT_ISA=name` makes it a failure that this CPU lacks `name`. In Miri there are fewer and smaller matrices.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tritwise_kernels::arch::{Activations, Isa, Layout, Line, Panels, available};

/// A matrix of codes and activations for it.
#[derive(Debug, Clone)]
struct Case {
    layout: Layout,
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
        self.rows.div_ceil(self.layout.rows())
    }

    fn lines_per_panel(&self) -> usize {
        self.cols.div_ceil(self.layout.cols())
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for panel in 0..self.panels() {
            for line in 0..self.lines_per_panel() {
                let code = |row: usize, col: usize| {
                    let (row, col) = (panel * self.layout.rows() + row, line * self.layout.cols() + col);
                    let inside = row < self.rows && col < self.cols;
                    if inside { self.codes[row * self.cols + col] } else { self.padding }
                };
                lines.push(Line(std::array::from_fn(|byte| {
                    let (lane, j) = (byte / 4, byte % 4);
                    // Four columns 32 apart, lowest bits last.
                    let plane = |field: usize| code(0, byte / 32 * 128 + byte % 32 + 32 * field) << (6 - 2 * field);
                    match self.layout {
                        // Columns j, 4 + j, 8 + j and 12 + j of a row, lowest bits first.
                        Layout::TwoBit => (0..4).map(|field| code(lane, 4 * field + j) << (2 * field)).sum(),
                        // Rows 16 apart, the last one the highest digit.
                        Layout::Base3 => (0..5).rev().fold(0, |byte, digit| 3 * byte + code(16 * digit + lane, j)),
                        Layout::Rows => (0..4).map(plane).sum(),
                        layout => panic!("no drawing of {layout:?}"),
                    }
                })));
            }
        }
        lines
    }

    /// Activations as the kernels take them: zeros up to whole lines, then rubbish.
    fn activations(&self) -> (Vec<i8>, usize) {
        let padded = self.lines_per_panel() * self.layout.cols();
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
        let panels = Panels::new(self.layout, &lines, self.lines_per_panel());
        let (activations, stride) = self.activations();
        let activations = &activations[self.offset..];
        let padded_rows = self.panels() * self.layout.rows();

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
        self.check_groups(isa, &lines, Activations::new(activations, stride, self.tokens))
    }

    /// Each panel closed after one line, after some and after all.
    fn check_groups(&self, isa: &dyn Isa, lines: &[Line], x: Activations<'_>) -> Result<(), TestCaseError> {
        let (per_panel, panel_rows) = (self.lines_per_panel(), self.layout.rows());
        for (panel, lines) in lines.chunks(per_panel).enumerate() {
            for group in [1, per_panel.div_ceil(3), per_panel] {
                let groups = per_panel.div_ceil(group);
                let mut sums = vec![i32::MIN; groups * self.tokens * panel_rows];
                isa.group_sums(Panels::new(self.layout, lines, per_panel), group, x, &mut sums);
                for (i, found) in sums.into_iter().enumerate() {
                    let (token, row) = (i / panel_rows % self.tokens, panel * panel_rows + i % panel_rows);
                    let first = i / panel_rows / self.tokens * group * self.layout.cols();
                    let cols = first.min(self.cols)..self.cols.min(first + group * self.layout.cols());
                    if row < self.rows {
                        let codes = self.codes[row * self.cols..][cols.clone()].iter();
                        let x = &self.x[token * self.cols..][cols];
                        let expected: i64 = codes.zip(x).map(|(code, x)| i64::from(*code) * i64::from(*x)).sum();
                        let found = i64::from(found);
                        prop_assert_eq!(found, expected, "{}: groups of {} lines, sum {}", isa.name(), group, i);
                    }
                }
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

/// Each with each of its layouts, and the one that needs no packing.
fn kernels() -> Vec<(&'static dyn Isa, Layout)> {
    let layouts = |isa: &'static dyn Isa| isa.layouts().iter().chain(&[Layout::Rows]).map(move |layout| (isa, *layout));
    instruction_sets().into_iter().flat_map(layouts).collect()
}

/// The largest code that a layout can hold; only 0, 1 and 2 occur in matrices.
fn max_code(layout: Layout) -> u8 {
    if layout == Layout::Base3 { 2 } else { 3 }
}

fn cases(layout: Layout) -> impl Strategy<Value = Case> {
    let (most, tokens) = if cfg!(miri) { (20_usize, 3_usize) } else { (200, 30) };
    let shape = (1..most, 1..most, 1..tokens, 0..=max_code(layout), 0..20usize, 0..4usize);
    shape.prop_flat_map(move |(rows, cols, tokens, padding, gap, offset)| {
        let codes = prop::collection::vec(0..=2u8, rows * cols);
        let x = prop::collection::vec(any::<i8>(), tokens * cols);
        (codes, x).prop_map(move |(codes, x)| Case { layout, rows, cols, tokens, codes, x, padding, gap, offset })
    })
}

#[test]
fn random_matrices() {
    for (isa, layout) in kernels() {
        let cases = if cfg!(miri) { 2 } else { 100 };
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        runner.run(&self::cases(layout), |case| case.check(isa)).unwrap();
        println!("{}, {}: {cases} random matrices", isa.name(), layout.name());
    }
}

#[test]
#[cfg_attr(miri, ignore = "too large")]
fn extremes_at_model_widths() {
    for (isa, layout) in kernels() {
        for cols in [2560, 6912, 8640, 23040] {
            for (code, q) in [(2, 127), (2, -127), (2, -128), (3, -128), (3, 127), (0, -128), (1, -128)] {
                let (rows, tokens, padding) = (17, 3, max_code(layout));
                let (codes, x) = (vec![code.min(padding); rows * cols], vec![q; tokens * cols]);
                let case = Case { layout, rows, cols, tokens, codes, x, padding, gap: 0, offset: 0 };
                case.check(isa).unwrap();
            }
        }
        println!("{}, {}: extremes at 4 widths", isa.name(), layout.name());
    }
}

#[test]
#[cfg_attr(miri, ignore = "too large")]
fn sums_at_the_widest_exact_matrix() {
    // Wider than any run of unshifted accumulators, and as wide as `i32` allows.
    for (isa, layout) in kernels() {
        let (cols, code) = (layout.max_cols(), max_code(layout));
        for q in [-128, 127] {
            let (codes, x) = (vec![code; cols], vec![q; cols]);
            let case = Case { layout, rows: 1, cols, tokens: 1, codes, x, padding: code, gap: 0, offset: 0 };
            case.check(isa).unwrap();
        }
        println!("{}, {}: {cols} columns", isa.name(), layout.name());
    }
}

#[test]
fn every_number_of_tokens_and_panels() {
    // Each pair is another tile of registers, and one token takes up to four panels at a time.
    for (isa, layout) in kernels() {
        // Sixteen and more take tiles where the CPU has them, up to 64 at a time.
        for tokens in (1..=26).chain([33, 64, 130]).filter(|tokens| !cfg!(miri) || [1, 4, 7, 13].contains(tokens)) {
            for panels in if cfg!(miri) { 2..=2 } else { 1..=9 } {
                let cols = [64, if cfg!(miri) { 5 } else { 700 }][usize::from(panels % 4 == 2)];
                let rows = panels * layout.rows();
                let codes = (0..rows * cols).map(|i| (i * 7 % 11 % 3) as u8).collect();
                let x = (0..tokens * cols).map(|i| (i * 37 % 255) as u8 as i8).collect();
                Case { layout, rows, cols, tokens, codes, x, padding: 1, gap: 0, offset: 0 }.check(isa).unwrap();
            }
        }
    }
}

#[test]
fn every_byte_of_base_3() {
    // Byte v holds the digits of v, lowest first: each against a plain division.
    for (isa, layout) in kernels().into_iter().filter(|(_, layout)| *layout == Layout::Base3) {
        for v in (0..=242).step_by(if cfg!(miri) { 40 } else { 1 }) {
            let panels = [Line([v; 64])];
            let mut out = vec![i32::MIN; layout.rows()];
            isa.gemv(Panels::new(layout, &panels, 1), &[1, 0, 0, 0], &mut out);
            let digits = [v % 3, v / 3 % 3, v / 9 % 3, v / 27 % 3, v / 81];
            for (row, sum) in out.into_iter().enumerate() {
                assert_eq!(sum, i32::from(digits[row / 16]), "{}: byte {v}, row {row}", isa.name());
            }
        }
    }
}

#[test]
#[cfg_attr(panic = "abort", ignore = "a panic ends the program")]
fn operands_that_do_not_fit_panic() {
    for (isa, layout) in kernels() {
        let lines = [Line([0; 64]); 2];
        let panels = Panels::new(layout, &lines, 2);
        let (rows, cols) = (panels.rows(), panels.cols());
        let gemv = |x: usize, out: usize| {
            let (x, mut out) = (vec![0; x], vec![0; out]);
            catch_unwind(AssertUnwindSafe(|| isa.gemv(panels, &x, &mut out))).is_err()
        };
        let gemm = |x: usize, stride: usize, out: usize| {
            let (x, mut out) = (vec![0; x], vec![0; out]);
            catch_unwind(AssertUnwindSafe(|| isa.gemm(panels, Activations::new(&x, stride, 3), &mut out))).is_err()
        };
        assert!(!gemv(cols, rows) && !gemm(3 * cols, cols, 3 * rows));
        assert!(gemv(cols - 1, rows) && gemv(cols + 1, rows) && gemv(cols, rows - 1) && gemv(cols, rows + 1));
        assert!(gemm(3 * cols - 1, cols, 3 * rows) && gemm(3 * cols, cols + 1, 3 * rows));
        assert!(gemm(3 * cols, cols, 3 * rows - 1) && gemm(3 * cols, cols, 3 * rows + 1));
        let groups = |panel_lines: usize, x: usize, out: usize| {
            let (x, mut out) = (vec![0; x], vec![0; out]);
            let panels = Panels::new(layout, &lines, panel_lines);
            let call = AssertUnwindSafe(|| isa.group_sums(panels, 1, Activations::new(&x, cols, 3), &mut out));
            catch_unwind(call).is_err()
        };
        assert!(!groups(2, 3 * cols, 6 * rows) && groups(1, 3 * cols, 6 * rows));
        assert!(groups(2, 3 * cols - 1, 6 * rows) && groups(2, 3 * cols, 6 * rows - 1));
    }
}

#[test]
#[cfg_attr(panic = "abort", ignore = "a panic ends the program")]
fn a_layout_without_kernels_panics() {
    for isa in instruction_sets() {
        for layout in Layout::ALL.into_iter().filter(|layout| !isa.layouts().contains(layout)) {
            let lines = [Line([0; 64])];
            let panels = Panels::new(layout, &lines, 1);
            let (x, mut out) = (vec![0; layout.cols()], vec![0; layout.rows()]);
            let call = AssertUnwindSafe(|| isa.gemv(panels, &x, &mut out));
            assert!(catch_unwind(call).is_err(), "{}: {}", isa.name(), layout.name());
            // Enough of everything for any other layout, so that no slice is too short.
            let x = vec![0; Layout::Rows.cols()];
            let call = AssertUnwindSafe(|| isa.gemm(panels, Activations::new(&x, x.len(), 1), &mut out));
            assert!(catch_unwind(call).is_err(), "{}: {}, several tokens", isa.name(), layout.name());
        }
    }
}
