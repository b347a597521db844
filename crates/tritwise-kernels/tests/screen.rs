//! The screened head: its kernels against their definition, its bounds against
//! hostile tables, and its logits against the full head's, to the bit.

mod support;

use support::{Random, bits};
use tritwise_kernels::arch::{
    CoarsePanels, FINE_COLS, FineBlock, Isa, Line, PANEL_ROWS, Probe, SKETCH_COLS, SKETCH_GROUP, SKETCH_LINES,
    available,
};
use tritwise_kernels::cpu::{HeadMode, Rows, Table};
use tritwise_kernels::{Backend, CpuBackend, HeadReads, Keep};
use tritwise_tensor::{DenseEncoding, DenseMatrix};

/// Widths of one block and several, whole and not.
const WIDTHS: [usize; 6] = [1, 100, 256, 300, 768, 2560];

#[test]
fn kernels_give_the_bits_of_their_definition() {
    let all = available();
    let (scalar, others) = all.split_last().unwrap();
    let mut random = Random(1);
    for cols in WIDTHS {
        let padded = cols.next_multiple_of(FINE_COLS);
        // Any bytes, the extreme ones too: codes and steps are not only those that are written.
        for fill in [None, Some(0xff), Some(0)] {
            let panels = 7;
            let mut byte = || fill.unwrap_or(random.bits() as u8);
            let lines: Vec<Line> = (0..panels * padded / SKETCH_COLS * SKETCH_LINES)
                .map(|_| Line(std::array::from_fn(|_| byte())))
                .collect();
            let fine: Vec<FineBlock> = (0..padded / FINE_COLS).map(|_| std::array::from_fn(|_| byte())).collect();
            let scales: Vec<f32> = (0..panels * PANEL_ROWS).map(|_| random.unit().abs()).collect();
            for x in [random.plain(cols), vec![-1.0; cols], vec![1.0; cols]] {
                let mut probe = Probe::default();
                assert!(probe.set(&x));
                let screen = |isa: &dyn Isa| {
                    let mut out = vec![f32::NAN; scales.len()];
                    isa.screen(CoarsePanels::new(&lines, cols), &scales, &probe, &mut out);
                    (bits(&out), isa.refine(&fine, &probe))
                };
                let expected = screen(*scalar);
                for isa in others {
                    assert!(screen(*isa) == expected, "{}, {cols} columns", isa.name());
                }
            }
        }
    }
}

/// What a sketch says of itself, against what its codes stand for, in f64.
#[test]
fn residuals_are_not_understated() {
    let mut random = Random(2);
    for cols in [SKETCH_GROUP, 256, 2560] {
        for kind in 0..8 {
            let row = hostile_row(&mut random, cols, kind);
            let (mut codes, mut steps) = (vec![0xaa; cols], vec![0xaa; cols / SKETCH_GROUP]);
            let mut first = None;
            for isa in available() {
                let found = isa.sketch(&row, &mut codes, &mut steps);
                assert!(
                    *first.get_or_insert((found, codes.clone(), steps.clone()))
                        == (found, codes.clone(), steps.clone())
                );
                if found.coarse_residual == f32::INFINITY {
                    assert!(found.fine_residual == f32::INFINITY && kind >= 5, "{kind}");
                    continue;
                }
                let [mut coarse_residual, mut coarse_norm, mut fine_residual] = [0.0; 3];
                for (c, w) in row.iter().enumerate() {
                    let step = f64::from(found.scale) * f64::from(steps[c / SKETCH_GROUP]);
                    assert!(codes[c] < 64);
                    let coarse = (f64::from(codes[c] >> 2) - 7.5) * step;
                    let fine = (f64::from(codes[c] & 3) - 1.5) * step / 4.0;
                    coarse_residual += (f64::from(*w) - coarse).powi(2);
                    coarse_norm += coarse.powi(2);
                    fine_residual += (f64::from(*w) - coarse - fine).powi(2);
                }
                for (said, is) in [
                    (found.coarse_residual, coarse_residual),
                    (found.coarse_norm, coarse_norm),
                    (found.fine_residual, fine_residual),
                ] {
                    assert!(f64::from(said) >= is.sqrt(), "kind {kind}: {said} < {}", is.sqrt());
                    assert!(f64::from(said) <= 1.01 * is.sqrt() + 1e-6 * coarse_norm.sqrt(), "kind {kind}: useless");
                }
            }
        }
    }
}

/// Rows of every size, with outliers, equal weights, zeros; from 5 on some that can have no sketch.
fn hostile_row(random: &mut Random, cols: usize, kind: usize) -> Vec<f32> {
    let mut row = random.plain(cols);
    match kind {
        0 => {}
        1 => row.fill(0.0),
        2 => row.iter_mut().for_each(|w| *w = 0.25f32.copysign(*w)),
        3 => row[cols / 3] = 1e4,
        4 => row.iter_mut().enumerate().for_each(|(i, w)| *w *= 2f32.powi(i as i32 % 40 - 20)),
        5 => row.iter_mut().for_each(|w| *w *= 1e-30),
        6 => row = random.wild(cols),
        _ => row[cols / 2] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][random.below(3)],
    }
    row
}

fn cpu(isa: &str, threads: usize, head: HeadMode) -> CpuBackend {
    // WebAssembly has no threads.
    let threads = if cfg!(target_family = "wasm") { 1 } else { threads };
    CpuBackend::builder().isa(isa).threads(threads).head(head).build().unwrap()
}

/// The best instruction set on one to three threads, and the others on two.
fn backends() -> Vec<CpuBackend> {
    let isas = available();
    let threads = (1..=3).map(|threads| cpu(isas[0].name(), threads, HeadMode::Screened));
    threads.chain(isas[1..].iter().map(|isa| cpu(isa.name(), 2, HeadMode::Screened))).collect()
}

/// A table of `rows` whose values `f` makes, in `encoding`.
fn matrix(encoding: DenseEncoding, rows: usize, cols: usize, f: impl FnMut(usize) -> Vec<f32>) -> DenseMatrix<'static> {
    let values: Vec<f32> = (0..rows).flat_map(f).collect();
    let bytes: Vec<u8> = match encoding {
        // `encode` refuses what is not finite, which a file may hold all the same.
        DenseEncoding::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DenseEncoding::Bf16 => values.iter().flat_map(|x| x.to_bits().to_le_bytes()[2..].to_vec()).collect(),
        _ => {
            let finite: Vec<f32> =
                values.iter().map(|x| if x.is_finite() { x.clamp(-6e4, 6e4) } else { 0.0 }).collect();
            let mut bytes = encoding.encode(&finite, rows, cols).unwrap();
            for (x, half) in values.iter().zip(bytes.as_chunks_mut::<2>().0).filter(|(x, _)| !x.is_finite()) {
                *half = [0, if x.is_nan() { 0x7e } else { 0x7c }];
            }
            bytes
        }
    };
    DenseMatrix::new(encoding, rows, cols, bytes).unwrap()
}

fn one_row(x: &[f32]) -> Rows {
    let mut rows = Rows::new(x.len());
    rows.set_tokens(1);
    rows.row_mut(0).copy_from_slice(x);
    rows
}

/// Whether the row's bit is set.
fn allows(keep: &Keep<'_>, row: usize) -> bool {
    keep.allowed.is_none_or(|words| words[row / 32] >> (row % 32) & 1 == 1)
}

/// Screened logits of `x` by `keep`, held against all logits; what was read.
fn check(cpu: &CpuBackend, table: &Table, x: &[f32], keep: Keep<'_>) -> (Vec<u32>, HeadReads) {
    let norm = cpu.norm(&vec![1.0; x.len()], 1e-5);
    let x = one_row(x);
    let mut all = vec![f32::NAN; table.rows()];
    cpu.logits(&x, &[0], &norm, table, &mut all);
    // −∞ is what stands for a logit that does not matter, so one that is computed and comes to that is none.
    all.iter_mut().filter(|logit| **logit == f32::NEG_INFINITY).for_each(|logit| *logit = f32::NAN);
    let mut top = vec![f32::NAN; table.rows()];
    let reads = cpu.top_logits(&x, &[0], &norm, table, &[keep], &mut top);

    for (i, (top, all)) in top.iter().zip(&all).enumerate() {
        let same = top.to_bits() == all.to_bits() || top.is_nan() && all.is_nan();
        assert!(same || *top == f32::NEG_INFINITY, "row {i}: {top} is neither {all} nor −∞");
        assert!(same || !all.is_nan() || !allows(&keep, i), "row {i}: NaN went unseen");
        assert!(same || !keep.always.contains(&(i as u32)), "row {i} was asked for");
    }
    if !all.iter().any(|logit| logit.is_nan()) {
        let mut others: Vec<f32> = (0u32..)
            .zip(&all)
            .filter(|(i, _)| !keep.always.contains(i) && allows(&keep, *i as usize))
            .map(|(_, l)| *l)
            .collect();
        others.sort_by(|a, b| b.total_cmp(a));
        let kth = others.get(keep.best.wrapping_sub(1)).copied().unwrap_or(f32::NEG_INFINITY);
        let best = others.first().copied().unwrap_or(f32::INFINITY);
        let least = f64::from(kth).max(f64::from(best) - f64::from(keep.within));
        for (i, (top, all)) in top.iter().zip(&all).enumerate() {
            let matters = f64::from(*all) >= least && allows(&keep, i);
            assert!(!matters || top == all, "row {i} matters: {all} ≥ {least}");
        }
    }
    (bits(&top), reads)
}

/// Every third row, every 600th, none.
const THIRD: &[u32] = &[0x4924_9249; 65];
const FEW: &[u32] = &{
    let mut words = [0; 65];
    let mut row = 0;
    while row < 2050 {
        words[row / 32] |= 1 << (row % 32);
        row += 600;
    }
    words
};
const NONE: &[u32] = &[0; 65];

const KEEPS: [Keep<'static>; 12] = [
    Keep { best: 1, within: f32::INFINITY, always: &[], allowed: Some(THIRD) },
    Keep { best: 30, within: 3.0, always: &[5, 1023, 6], allowed: Some(THIRD) },
    Keep { best: 2, within: f32::INFINITY, always: &[7], allowed: Some(FEW) },
    Keep { best: 2, within: f32::INFINITY, always: &[7], allowed: Some(NONE) },
    Keep { best: 0, within: f32::INFINITY, always: &[], allowed: Some(THIRD) },
    Keep { best: 1, within: f32::INFINITY, always: &[], allowed: None },
    Keep { best: 7, within: f32::INFINITY, always: &[], allowed: None },
    Keep { best: 40, within: 2.0, always: &[5, 1023, 5], allowed: None },
    Keep { best: usize::MAX, within: 0.5, always: &[], allowed: None },
    Keep { best: 1, within: f32::INFINITY, always: &[0, 1, 2], allowed: None },
    Keep { best: 0, within: f32::INFINITY, always: &[], allowed: None },
    Keep { best: usize::MAX, within: f32::INFINITY, always: &[], allowed: Some(FEW) },
];

/// 1 MB and more, or there is no sketch; and more than 1,024 rows, or it is not used.
const SHAPES: [(usize, usize); 3] = [(2050, 256), (1031, 640), (1025, 515)];

#[test]
fn logits_that_matter_are_those_of_the_full_head() {
    let mut random = Random(3);
    for encoding in [DenseEncoding::F16, DenseEncoding::Bf16, DenseEncoding::F32] {
        for (rows, cols) in SHAPES {
            check_tables(&mut random, encoding, rows, cols);
            let poisoned =
                matrix(encoding, rows, cols, |i| hostile_row(&mut random, cols, if i % 500 == 7 { 7 } else { 0 }));
            check_table(&mut random, &poisoned);
        }
    }
}

/// Numbers in blocks with scales of their own are screened like others. (A file's scales are finite, or it is refused.)
#[test]
fn logits_of_blocks_that_matter_are_those_of_the_full_head() {
    let mut random = Random(13);
    for (encoding, rows, cols) in
        [(DenseEncoding::Q8_0, 2050, 512), (DenseEncoding::Q8_0, 1031, 1056), (DenseEncoding::Q6K, 1700, 768)]
    {
        check_tables(&mut random, encoding, rows, cols);
    }
}

/// Tables of finite numbers, of one encoding and shape.
fn check_tables(random: &mut Random, encoding: DenseEncoding, rows: usize, cols: usize) {
    let plain = matrix(encoding, rows, cols, |_| random.plain(cols));
    let reads = check_table(random, &plain);
    assert!(reads.iter().any(|reads| reads.screened == rows), "nothing was screened");
    // Every tenth row the same, so that the best tie with others far away.
    let twin = random.plain(cols);
    let ties = matrix(encoding, rows, cols, |i| if i % 10 == 3 { twin.clone() } else { random.plain(cols) });
    check_table(random, &ties);
    let hostile = matrix(encoding, rows, cols, |i| hostile_row(random, cols, i % 7));
    check_table(random, &hostile);
}

/// A table with some vectors and all rules, on every instruction set; what was read.
fn check_table(random: &mut Random, table: &DenseMatrix<'static>) -> Vec<HeadReads> {
    let cols = table.cols();
    // The third row among them, which has twins where rows have.
    let mut third = vec![0.0; cols];
    table.read_row(3, &mut third);
    third.iter_mut().filter(|x| !x.is_finite()).for_each(|x| *x = 1.0);
    let mut spiked = random.plain(cols);
    spiked[cols / 2] = 300.0;
    let xs = [random.plain(cols), third, spiked];
    let mut first: Option<Vec<_>> = None;
    for cpu in backends() {
        let table = cpu.head(table, true);
        let found: Vec<_> = xs.iter().flat_map(|x| KEEPS.map(|keep| check(&cpu, &table, x, keep))).collect();
        assert!(*first.get_or_insert(found.clone()) == found, "{} differs", cpu.isa().name());
    }
    first.into_iter().flatten().map(|(_, reads)| reads).collect()
}

/// Several rows at once, each by its own rule, are what they are alone.
#[test]
fn rows_together_have_the_bits_of_rows_alone() {
    let (rows, cols) = SHAPES[0];
    let mut random = Random(8);
    let table = matrix(DenseEncoding::F16, rows, cols, |_| random.plain(cols));
    let norm = vec![1.0; cols];
    for odd in [false, true] {
        let mut xs = Rows::new(cols);
        xs.set_tokens(KEEPS.len());
        for t in 0..KEEPS.len() {
            xs.row_mut(t).copy_from_slice(&random.plain(cols));
        }
        if odd {
            xs.row_mut(3).fill(f32::NAN);
        }
        for cpu in backends() {
            let table = cpu.head(&table, true);
            let norm = cpu.norm(&norm, 1e-5);
            for keeps in [&KEEPS[..], &KEEPS[..4], &KEEPS[5..10], &KEEPS[2..4]] {
                // In another order than they lie in.
                let order: Vec<usize> = (0..keeps.len()).rev().collect();
                let mut together = vec![f32::NAN; keeps.len() * rows];
                cpu.top_logits(&xs, &order, &norm, &table, keeps, &mut together);
                for ((row, keep), together) in order.iter().zip(keeps).zip(together.chunks(rows)) {
                    let mut alone = vec![f32::NAN; rows];
                    cpu.top_logits(&xs, &[*row], &norm, &table, &[*keep], &mut alone);
                    assert_eq!(bits(together), bits(&alone), "{keep:?} on {}", cpu.isa().name());
                }
            }
        }
    }
}

#[test]
fn a_vector_that_no_bound_holds_for_takes_the_full_head() {
    let (rows, cols) = SHAPES[0];
    let cpu = &backends()[0];
    let mut random = Random(4);
    let table = cpu.head(&matrix(DenseEncoding::F16, rows, cols, |_| random.plain(cols)), false);
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = random.plain(cols);
        x[3] = odd;
        assert_eq!(check(cpu, &table, &x, Keep::best(1)).1.exact, rows);
    }
    assert_eq!(check(cpu, &table, &vec![0.0; cols], Keep::best(1)).1.exact, rows, "all logits tie");
    for size in [1e-44, 1e-20, 1e18, 1e30] {
        let x: Vec<f32> = random.plain(cols).iter().map(|x| x * size).collect();
        check(cpu, &table, &x, Keep::best(1));
    }
}

/// What stands out is found by reading little; where nothing does, most of the table is still spared.
#[test]
fn few_rows_are_read() {
    let (rows, cols) = (8192, 512);
    let mut random = Random(5);
    let x = random.plain(cols);
    let cpu = &backends()[0];
    let mut table = |likeness: f32| {
        let matrix = matrix(DenseEncoding::F16, rows, cols, |i| {
            let noise = random.plain(cols);
            if i == 4321 { noise.iter().zip(&x).map(|(n, x)| n + likeness * x).collect() } else { noise }
        });
        cpu.head(&matrix, false)
    };
    let clear = check(cpu, &table(0.5), &x, Keep::best(1)).1;
    assert!(clear.screened == rows && clear.refined < rows / 50 && clear.exact < 20, "{clear:?}");
    let unclear = check(cpu, &table(0.0), &x, Keep::best(1)).1;
    assert!(unclear.exact < rows / 50 && unclear.bytes < rows * cols, "{unclear:?}");
    // Where a mask leaves few rows, these are read and no other, however many of them are wanted.
    let mut mask = vec![0; rows / 32];
    mask[..FEW.len()].copy_from_slice(FEW);
    let all_allowed = Keep { best: usize::MAX, within: f32::INFINITY, always: &[], allowed: Some(&mask) };
    let masked = check(cpu, &table(0.0), &x, all_allowed).1;
    assert!(masked.screened == 0 && masked.exact == 4, "{masked:?}");
}

#[test]
fn a_rounded_head_is_that_of_a_file_in_its_encoding() {
    let (rows, cols) = (300, 512);
    let mut random = Random(6);
    let values: Vec<f32> = random.plain(rows * cols);
    let original = matrix(DenseEncoding::F16, rows, cols, |i| values[i * cols..][..cols].to_vec());
    let mut row = vec![0.0; cols];
    let x = one_row(&random.plain(cols));
    for (mode, encoding) in [(HeadMode::Q8_0, DenseEncoding::Q8_0), (HeadMode::Q6K, DenseEncoding::Q6K)] {
        let rounded = matrix(encoding, rows, cols, |i| {
            original.read_row(i, &mut row);
            row.clone()
        });
        for threads in [1, 3] {
            let cpu = cpu(available()[0].name(), threads, mode);
            let norm = cpu.norm(&vec![1.0; cols], 1e-5);
            let logits = |table: &Table| {
                let mut out = vec![f32::NAN; rows];
                cpu.logits(&x, &[0], &norm, table, &mut out);
                out
            };
            let (tied, untied) = (cpu.head(&original, true), cpu.head(&original, false));
            let expected = logits(&cpu.table(&rounded));
            assert_eq!(logits(&tied), expected);
            assert_eq!(logits(&untied), expected);
            assert!(untied.bytes() < tied.bytes());
            // Rows are looked up as they were.
            let mut looked_up = cpu.rows(cols);
            cpu.embed(&tied, &[17], 1.0, &mut looked_up);
            original.read_row(17, &mut row);
            assert_eq!(looked_up.row(0), row);
        }
    }
}
