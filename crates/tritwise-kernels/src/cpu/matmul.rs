//! `y = x · Wᵀ` for activations as products take them and packed ternary weights.
//!
//! With activations `q / s` and weights `w · trit`, where `w` is constant over
//! each group of columns, an output is
//!
//! ```text
//! y = (w₀·Σ₀ trit·q + w₁·Σ₁ trit·q + …) / s
//! ```
//!
//! Codes `q` have 8 or 16 bits, and their sums are exact integers, rounded once to `f32`. A code of 16 bits is
//! two of 8, `256 · high + low`, and so is its sum: to the kernels a token is two rows. Where activations are
//! not rounded, `q` is `f32`, `s = 1`, and a sum starts from zero and goes over columns in ascending order.
//!
//! Products are added from
//! left to right, each step rounded (no fused operation: plain multiplications
//! and additions are fast and the same everywhere). One scale for a matrix or a
//! row is the case of one group. Each output is a chain of its own, so it has
//! the same bits for one token or many, on any instruction set and any number
//! of threads.

use std::ops::Range;

use crate::arch::{Activations, Isa, Line, Panels};
use crate::packed::{PackedMatrix, PackedScales};
use crate::parallel::{ColumnShard, ColumnShards, Columns, Pool};

use super::{Quantized, Rounding, Rows};

/// Matrices that one parallel region takes at most; q, k and v are three.
const MATRICES: usize = 4;

/// Rows that a kernel call takes at most for that many tokens: four panels of 16, one of 80.
pub(super) const CALL_ROWS: usize = 80;

/// Rows whose groups are closed together.
const LANES: usize = 16;

/// Rows of codes, or of floats, that a kernel call takes at most: the tokens of a piece of a prompt, some tiles of each
/// kernel (16, 12, 5 or 4 rows), so that weights come from memory once and then from the nearest cache.
pub(super) const CALL_INPUTS: usize = 64;

/// The sums of one kernel call, which lie on the worker's stack; of floats, their bits. Aligned, since kernels keep sums of
/// some columns here.
#[repr(align(64))]
pub(super) struct Sums([i32; CALL_INPUTS * CALL_ROWS]);

impl Default for Sums {
    fn default() -> Self {
        Self([0; _])
    }
}

/// Work of a shard, in bytes of weights times tokens: some microseconds, so that
/// taking a shard costs little and waiting for the last one too.
const SHARD_BYTES: usize = 64 << 10;

/// Work below which the other threads are not woken, in bytes of weights times
/// tokens: about 3 µs of one core, of which a hand-off would take half.
pub(super) const INLINE_BYTES: usize = 128 << 10;

/// `outs[i] = x · weights[i]ᵀ`.
///
/// # Panics
/// The numbers of matrices and outputs differ, or a matrix does not fit its input or output.
pub(super) fn matmul(isa: &dyn Isa, pool: &Pool, x: &Quantized, weights: &[&PackedMatrix], outs: &mut [&mut Rows]) {
    assert_eq!(weights.len(), outs.len(), "one output per matrix");
    for (weights, out) in weights.iter().zip(outs.iter_mut()) {
        assert_eq!(x.width(), weights.cols(), "input features");
        assert_eq!(out.width(), weights.rows(), "output features");
        out.set_tokens(x.tokens());
    }
    let one = x.tokens() == 1;
    for (weights, outs) in weights.chunks(MATRICES).zip(outs.chunks_mut(MATRICES)) {
        let mut outs = outs.iter_mut().zip(weights);
        let outs: [Option<Columns<'_, f32>>; MATRICES] = std::array::from_fn(|_| {
            let (out, weights) = outs.next()?;
            let width = out.width();
            let shard_rows = shard_panels(weights, x.tokens() * inputs_per_token(x)) * weights.layout().rows();
            Some(Columns::new(out.as_mut_slice(), width, shard_rows))
        });
        let shards = ColumnShards::new(outs, pool.threads());
        let region = |worker| {
            let mut sums = Sums::default();
            // One token is bound by memory, several by arithmetic.
            while let Some(mut shard) = if one { shards.next_share(worker) } else { shards.next(worker) } {
                multiply(isa, x, weights[shard.matrix()], &mut sums, &mut shard);
            }
        };
        let bytes: usize = weights.iter().map(|weights| weights.bytes()).sum();
        if bytes.saturating_mul(x.tokens()) < INLINE_BYTES { region(0) } else { pool.run(&region) }
    }
}

/// Panels per shard. At least 80 rows, since a kernel may take five panels of 16 at a time.
pub(super) fn shard_panels(weights: &PackedMatrix, inputs: usize) -> usize {
    let panel_bytes = weights.lines_per_panel() * size_of::<Line>();
    let least = CALL_ROWS.div_ceil(weights.layout().rows());
    (SHARD_BYTES / panel_bytes / inputs.max(1)).next_multiple_of(least).max(least)
}

/// Rows that a token is to the kernels.
fn inputs_per_token(x: &Quantized) -> usize {
    x.planes().max(1)
}

/// The outputs of one shard's rows, for all tokens.
fn multiply(isa: &dyn Isa, x: &Quantized, weights: &PackedMatrix, sums: &mut Sums, out: &mut ColumnShard<'_, f32>) {
    let call_tokens = CALL_INPUTS / inputs_per_token(x);
    for start in (0..x.tokens()).step_by(call_tokens) {
        let tokens = start..x.tokens().min(start + call_tokens);
        match weights.scales() {
            PackedScales::Tensor(scale) => one_scale(isa, x, tokens, weights, *scale, sums, out),
            PackedScales::Groups { lines, values } => grouped(isa, x, tokens, weights, *lines, values, sums, out),
        }
    }
}

/// [`multiply`] for a matrix with one scale: whole panels, several at a time.
fn one_scale(
    isa: &dyn Isa,
    x: &Quantized,
    tokens: Range<usize>,
    weights: &PackedMatrix,
    scale: f32,
    sums: &mut Sums,
    out: &mut ColumnShard<'_, f32>,
) {
    let panel_rows = weights.layout().rows();
    let first = out.start() / panel_rows;
    let panels = out.len().div_ceil(panel_rows);
    // As many as there is room for sums, so that one token's weights are one stream.
    let call_panels = match sums.0.len() / (tokens.len() * inputs_per_token(x)) / panel_rows {
        1 => 1,
        // Kernels may take two at a time, or five.
        panels @ 2..5 => panels & !1,
        panels => panels - panels % 5,
    };
    for panel in (0..panels).step_by(call_panels) {
        let packed = weights.panels_at(first + panel, call_panels.min(panels - panel));
        if tokens.len() > 1 {
            // Outputs of many tokens fill more than the nearer caches. What is asked for before the products comes meanwhile.
            for token in tokens.clone() {
                let outs = &out.row_mut(token)[panel * panel_rows..];
                isa.prefetch(bytemuck::cast_slice(&outs[..outs.len().min(packed.rows())]));
            }
        }
        let sums = kernel_sums(isa, packed, x, tokens.clone(), sums);
        for (token, sums) in tokens.clone().zip(sums.chunks_exact(inputs_per_token(x) * packed.rows())) {
            let (q_sum, q_scale) = (x.sum(token, 0..packed.cols()), x.scales()[token]);
            // The rows of padding in the last panel have sums but no outputs.
            let outs = &mut out.row_mut(token)[panel * panel_rows..];
            let len = outs.len().min(packed.rows());
            let outs = &mut outs[..len];
            if x.rounding() == Rounding::Int8 {
                isa.scale_sums(&sums[..len], q_sum, scale, q_scale, outs);
            } else {
                wide_sums(x.rounding(), q_sum, sums, outs.iter_mut(), |y, sum| *y = sum * scale / q_scale);
            }
        }
    }
}

/// [`multiply`] for a matrix whose scales come in groups of `lines` lines: one
/// panel at a time, with the outputs themselves as accumulators.
#[allow(clippy::too_many_arguments, reason = "the operands of `multiply`, and the scales taken apart")]
fn grouped(
    isa: &dyn Isa,
    x: &Quantized,
    tokens: Range<usize>,
    weights: &PackedMatrix,
    lines: usize,
    scales: &[f32],
    sums: &mut Sums,
    out: &mut ColumnShard<'_, f32>,
) {
    let layout = weights.layout();
    let rows = layout.rows();
    let first = out.start() / rows;
    let groups = weights.lines_per_panel().div_ceil(lines);
    let group_cols = lines * layout.cols();
    // As many groups as there is room for sums.
    let token_sums = inputs_per_token(x) * rows;
    let call_groups = sums.0.len() / (tokens.len() * token_sums);
    for panel in 0..out.len().div_ceil(rows) {
        let packed = weights.panels_at(first + panel, 1);
        let scales = &scales[(first + panel) * groups * rows..][..groups * rows];
        for (call, call_lines) in packed.lines().chunks(call_groups * lines).enumerate() {
            let packed = Panels::new(layout, call_lines, call_lines.len());
            let first_group = call * call_groups;
            let sums = group_sums(isa, packed, lines, x, first_group * group_cols, tokens.clone(), sums);
            for (i, token) in tokens.clone().enumerate() {
                let sums = &sums[i * token_sums..];
                let out = out.row_mut(token)[panel * rows..].chunks_mut(LANES).take(rows / LANES);
                for (row, out) in out.enumerate().map(|(block, out)| (block * LANES, out)) {
                    // What is added to -0 stays as it is.
                    let mut y = [-0.0; LANES];
                    if call > 0 {
                        y[..out.len()].copy_from_slice(out);
                    }
                    for (sums, group) in sums.chunks(tokens.len() * token_sums).zip(first_group..) {
                        let cols = group * group_cols..x.padded_width().min((group + 1) * group_cols);
                        let sums = lane_sums(x.rounding(), x.sum(token, cols), &sums[..token_sums], row);
                        #[expect(clippy::expect_used, reason = "packed scales are padded to whole panels")]
                        let scales: &[f32; LANES] = scales[group * rows + row..].first_chunk().expect("whole panels");
                        for ((y, sum), scale) in y.iter_mut().zip(sums).zip(scales) {
                            *y += sum * scale;
                        }
                    }
                    if first_group + call_groups >= groups {
                        y.iter_mut().for_each(|y| *y /= x.scales()[token]);
                    }
                    out.copy_from_slice(&y[..out.len()]);
                }
            }
        }
    }
}

/// `Σ trit·q` of sixteen rows from `row`, made of one token's kernel sums and `Σ q`.
#[inline(always)]
fn lane_sums(rounding: Rounding, q_sum: i32, sums: &[i32], row: usize) -> [f32; LANES] {
    #[expect(clippy::expect_used, reason = "kernels give the sums of whole panels")]
    let lanes = |sums: &[i32]| -> [i32; LANES] { *sums[row..].first_chunk().expect("whole panels") };
    match rounding {
        Rounding::Int8 => lanes(sums).map(|sum| sum.wrapping_sub(q_sum) as f32),
        Rounding::Int16 => {
            let (high, low) = sums.split_at(sums.len() / 2);
            let (high, low) = (lanes(high), lanes(low));
            std::array::from_fn(|i| high[i].wrapping_mul(256).wrapping_add(low[i]).wrapping_sub(q_sum) as f32)
        }
        Rounding::Float => bytemuck::cast(lanes(sums)),
    }
}

/// Sums of `packed` with all of `x`, token after token: `Σ code·q` of each plane, or `Σ trit·x`.
pub(super) fn kernel_sums<'a>(
    isa: &dyn Isa,
    packed: Panels<'_>,
    x: &Quantized,
    tokens: Range<usize>,
    sums: &'a mut Sums,
) -> &'a [i32] {
    let (inputs, stride) = (tokens.len() * inputs_per_token(x), x.padded_width());
    let (start, sums) = (tokens.start * inputs_per_token(x) * stride, &mut sums.0[..inputs * packed.rows()]);
    match (x.rounding(), inputs) {
        (Rounding::Float, _) => isa.trit_sums(packed, &x.floats()[start..], stride, bytemuck::cast_slice_mut(sums)),
        (_, 1) => isa.gemv(packed, &x.codes()[start..][..packed.cols()], sums),
        (_, inputs) => isa.gemm(packed, Activations::new(&x.codes()[start..], stride, inputs), sums),
    }
    sums
}

/// The same for every `lines` lines of one panel, whose columns are those of `x` from `col`; group after group.
fn group_sums<'a>(
    isa: &dyn Isa,
    panel: Panels<'_>,
    lines: usize,
    x: &Quantized,
    col: usize,
    tokens: Range<usize>,
    sums: &'a mut Sums,
) -> &'a [i32] {
    let (inputs, stride) = (tokens.len() * inputs_per_token(x), x.padded_width());
    let (start, of_group) = (tokens.start * inputs_per_token(x) * stride + col, inputs * panel.rows());
    let sums = &mut sums.0[..panel.lines().len().div_ceil(lines) * of_group];
    if x.rounding() != Rounding::Float {
        isa.group_sums(panel, lines, Activations::new(&x.codes()[start..], stride, inputs), sums);
        return sums;
    }
    let groups = panel.lines().chunks(lines).zip(sums.chunks_exact_mut(of_group));
    for (group, (group_lines, sums)) in groups.enumerate() {
        let x = &x.floats()[start + group * lines * panel.layout().cols()..];
        let columns = Panels::new(panel.layout(), group_lines, group_lines.len());
        isa.trit_sums(columns, x, stride, bytemuck::cast_slice_mut(sums));
    }
    sums
}

/// Hands `f` each output with its `Σ trit·q`, made of one token's kernel sums and `Σ q`, where `q` is not of 8 bits.
#[inline(always)]
fn wide_sums<T>(rounding: Rounding, q_sum: i32, sums: &[i32], outs: impl Iterator<Item = T>, f: impl Fn(T, f32)) {
    if rounding == Rounding::Float {
        outs.zip(bytemuck::cast_slice(sums)).for_each(|(y, sum)| f(y, *sum));
        return;
    }
    let (high, low) = sums.split_at(sums.len() / 2);
    outs.zip(high.iter().zip(low)).for_each(|(y, (high, low))| {
        f(y, high.wrapping_mul(256).wrapping_add(*low).wrapping_sub(q_sum) as f32);
    });
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;
    use tritwise_tensor::Scales;

    use super::*;
    use crate::arch::{Layout, available};
    use crate::arena::Arena;

    /// A ternary matrix in plain sight.
    #[derive(Debug, Clone)]
    struct Plain {
        rows: usize,
        cols: usize,
        trits: Vec<i8>,
        scales: Scales,
    }

    impl Plain {
        fn pack(&self, layout: Layout, pool: &Pool) -> PackedMatrix {
            let scales = PackedScales::new(&self.scales, layout, self.rows, self.cols);
            PackedMatrix::from_rows(layout, self.rows, self.cols, scales, pool, &Arena::default(), &|row, out| {
                out.copy_from_slice(&self.trits[row * self.cols..][..self.cols]);
            })
        }

        /// The formula at the top of this file, for one output.
        fn output(&self, row: usize, rounding: Rounding, q: &[f32], q_scale: f32) -> f32 {
            let (group_cols, scales) = match &self.scales {
                Scales::Tensor(scale) => (self.cols, std::slice::from_ref(scale)),
                Scales::Rows(values) => (self.cols, &values[row..][..1]),
                Scales::Groups { cols, values } => (*cols, &values[row * self.cols.div_ceil(*cols)..]),
            };
            let trits = &self.trits[row * self.cols..][..self.cols];
            let groups = trits.chunks(group_cols).zip(q.chunks(group_cols)).zip(scales);
            let products = groups.map(|((trits, q), scale)| {
                let terms = trits.iter().zip(q);
                let sum = match rounding {
                    Rounding::Float => terms.fold(0.0, |sum, (trit, x)| sum + f32::from(*trit) * x),
                    _ => terms.map(|(trit, q)| i32::from(*trit) * *q as i32).sum::<i32>() as f32,
                };
                sum * scale
            });
            products.reduce(|y, product| y + product).unwrap() / q_scale
        }
    }

    /// Several matrices for one input, and rows of it.
    #[derive(Debug, Clone)]
    struct Case {
        rounding: Rounding,
        matrices: Vec<Plain>,
        /// Codes, or activations as they are.
        q: Vec<Vec<f32>>,
        q_scales: Vec<f32>,
    }

    impl Case {
        fn quantized(&self, tokens: Range<usize>) -> Quantized {
            let mut x = Quantized::new(self.matrices[0].cols, self.rounding);
            x.set_tokens(tokens.len());
            let padded = x.padded_width();
            for (row, token) in x.rows_mut().zip(tokens) {
                let q = &self.q[token];
                *row.scale = self.q_scales[token];
                match self.rounding {
                    Rounding::Int8 => {
                        q.iter().zip(&mut *row.bytes).for_each(|(q, byte)| *byte = *q as i8);
                        row.sums[0] = q.iter().map(|q| *q as i32).sum();
                    }
                    Rounding::Int16 => {
                        let (high, low) = row.bytes.split_at_mut(padded);
                        for (i, q) in q.iter().enumerate() {
                            low[i] = *q as i32 as i8;
                            high[i] = ((*q as i32 - i32::from(low[i])) / 256).try_into().expect("two bytes hold it");
                        }
                        for (i, sum) in row.sums.iter_mut().enumerate() {
                            *sum = q.iter().take(16 * (i + 1)).map(|q| *q as i32).sum();
                        }
                    }
                    Rounding::Float => bytemuck::cast_slice_mut(row.bytes)[..q.len()].copy_from_slice(q),
                }
            }
            x
        }

        /// Outputs of all matrices for the tokens, in poisoned memory.
        fn run(&self, isa: &dyn Isa, pool: &Pool, packed: &[PackedMatrix], tokens: Range<usize>) -> Vec<Rows> {
            let x = self.quantized(tokens.clone());
            let mut outs: Vec<Rows> = packed.iter().map(|matrix| Rows::new(matrix.rows())).collect();
            for out in &mut outs {
                out.set_tokens(tokens.len());
                out.as_mut_slice().fill(f32::NAN);
            }
            let weights: Vec<&PackedMatrix> = packed.iter().collect();
            matmul(isa, pool, &x, &weights, &mut outs.iter_mut().collect::<Vec<_>>());
            outs
        }
    }

    /// Every instruction set with each of its layouts that such activations are multiplied in.
    fn kernels(rounding: Rounding) -> impl Iterator<Item = (&'static dyn Isa, Layout)> {
        let all = available().into_iter().flat_map(|isa| isa.layouts().iter().map(move |layout| (isa, *layout)));
        all.filter(move |(_, layout)| rounding != Rounding::Float || *layout == Layout::TwoBit)
    }

    fn matrix(cols: usize) -> impl Strategy<Value = Plain> {
        (1..100usize, 0..5usize).prop_flat_map(move |(rows, kind)| {
            // Groups of two lines, or three or fewer of which the last is often shorter.
            let group = if kind == 3 { 32 } else { cols.div_ceil(3).next_multiple_of(16) };
            let scales = match kind {
                0 | 1 => 1,
                2 => rows,
                _ => rows * cols.div_ceil(group),
            };
            let trits = prop::collection::vec(-1..=1i8, rows * cols);
            (trits, prop::collection::vec(-2.0..2.0f32, scales)).prop_map(move |(trits, values)| {
                let scales = match kind {
                    0 | 1 => Scales::Tensor(values[0]),
                    2 => Scales::Rows(values),
                    _ => Scales::Groups { cols: group, values },
                };
                Plain { rows, cols, trits, scales }
            })
        })
    }

    const ROUNDINGS: [Rounding; 3] = [Rounding::Int8, Rounding::Int16, Rounding::Float];

    fn case() -> impl Strategy<Value = Case> {
        (1..300usize, 1..60usize, prop::sample::select(&ROUNDINGS)).prop_flat_map(|(cols, tokens, rounding)| {
            let matrices = prop::collection::vec(matrix(cols), 1..7);
            let code = match rounding {
                Rounding::Int8 => (-128..=127i32).prop_map(|q| q as f32).boxed(),
                Rounding::Int16 => (-32639..=32639i32).prop_map(|q| q as f32).boxed(),
                Rounding::Float => (-3.0..3.0f32).boxed(),
            };
            let q = prop::collection::vec(prop::collection::vec(code, cols), tokens);
            let one = if rounding == Rounding::Float { 1.0..=1.0f32 } else { 0.1..=100.0 };
            let q_scales = prop::collection::vec(one, tokens);
            let parts = (matrices, q, q_scales);
            parts.prop_map(move |(matrices, q, q_scales)| Case { rounding, matrices, q, q_scales })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 90, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_way_gives_the_bits_of_the_formula(case in case(), threads in 1..=4usize) {
            let pool = Pool::new(threads).unwrap();
            for (isa, layout) in kernels(case.rounding) {
                let packed: Vec<PackedMatrix> = case.matrices.iter().map(|matrix| matrix.pack(layout, &pool)).collect();
                let together = case.run(isa, &pool, &packed, 0..case.q.len());
                for token in 0..case.q.len() {
                    let alone = case.run(isa, &pool, &packed, token..token + 1);
                    for ((matrix, together), alone) in case.matrices.iter().zip(&together).zip(&alone) {
                        for row in 0..matrix.rows {
                            let expected = matrix.output(row, case.rounding, &case.q[token], case.q_scales[token]).to_bits();
                            prop_assert_eq!(together.row(token)[row].to_bits(), expected, "{} together", isa.name());
                            prop_assert_eq!(alone.row(0)[row].to_bits(), expected, "{} alone", isa.name());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn one_token_has_the_same_bits_on_any_number_of_threads() {
        // Enough weights that all threads are woken, in several shards.
        let (rows, cols) = (1500, 700);
        let trits = (0..rows * cols).map(|i| (i * 7 % 11 % 3) as i8 - 1).collect();
        let scales = Scales::Rows((0..rows).map(|row| 1.0 / (row + 1) as f32).collect());
        let matrix = Plain { rows, cols, trits, scales };
        let q = vec![(0..cols).map(|i| (i * 37 % 255) as f32 - 127.0).collect()];
        let mut case = Case { rounding: Rounding::Int8, matrices: vec![matrix], q, q_scales: vec![1.0] };
        for rounding in ROUNDINGS {
            case.rounding = rounding;
            let output = |row| case.matrices[0].output(row, rounding, &case.q[0], 1.0);
            let expected: Vec<f32> = (0..rows).map(output).collect();
            for threads in 1..=4 {
                let pool = Pool::new(threads).unwrap();
                for (isa, layout) in kernels(rounding) {
                    let packed = [case.matrices[0].pack(layout, &pool)];
                    assert!(packed[0].bytes() > 3 * INLINE_BYTES / 2);
                    let outs = case.run(isa, &pool, &packed, 0..1);
                    assert_eq!(outs[0].as_slice(), expected, "{rounding:?} on {}, {threads} threads", isa.name());
                }
            }
        }
    }

    #[test]
    fn shapes_of_nothing_give_nothing() {
        let pool = Pool::new(2).unwrap();
        let shapes = [(0, 5, 2), (5, 0, 2), (5, 5, 0)];
        for ((rows, cols, tokens), rounding) in shapes.into_iter().flat_map(|shape| ROUNDINGS.map(|r| (shape, r))) {
            let matrices = vec![Plain { rows, cols, trits: vec![1; rows * cols], scales: Scales::Tensor(1.0) }];
            let case = Case { rounding, matrices, q: vec![vec![1.0; cols]; tokens], q_scales: vec![1.0; tokens] };
            for (isa, layout) in kernels(rounding) {
                let outs = case.run(isa, &pool, &[case.matrices[0].pack(layout, &pool)], 0..tokens);
                assert_eq!(outs[0].as_slice(), vec![0.0; rows * tokens]);
            }
        }
    }

    #[test]
    #[should_panic(expected = "input features")]
    fn a_matrix_of_other_width_panics() {
        let pool = Pool::new(1).unwrap();
        let plain = Plain { rows: 4, cols: 8, trits: vec![0; 32], scales: Scales::Tensor(1.0) };
        let (mut x, mut out) = (Quantized::new(9, Rounding::Int8), Rows::new(4));
        x.set_tokens(1);
        matmul(available()[0], &pool, &x, &[&plain.pack(Layout::TwoBit, &pool)], &mut [&mut out]);
    }
}
