//! Operands that end with the last page of a mapping: a kernel that reads or writes a byte behind one ends the program.
//!
//! `neighbours.rs` shows that no result depends on what lies beside an operand, and AddressSanitizer sees reads and writes beyond
//! one, but only in what the compiler made. Kernels in assembly are seen here alone.
#![cfg(all(unix, not(miri)))]

mod support;

use std::fs::{self, File, OpenOptions};

use bytemuck::{AnyBitPattern, NoUninit, cast_slice, cast_slice_mut};
use memmap2::{MmapMut, MmapOptions};
use support::Random;
use tritwise_kernels::arch::{Activations, Isa, Layout, Line, Panels, available};

/// A multiple of every page size in use.
const PAGES: usize = 1 << 16;

/// Values whose last byte is the last one of a file, with nothing but pages that cannot be touched behind it.
struct Edge {
    map: MmapMut,
    range: std::ops::Range<usize>,
}

impl Edge {
    fn new<T: NoUninit>(values: &[T]) -> Self {
        let values: &[u8] = cast_slice(values);
        let end = values.len().next_multiple_of(PAGES);
        // SAFETY: the file has no name any more, so nobody else changes it; what is behind its end is not touched, or this test is to fail.
        let mut map = unsafe { MmapOptions::new().len(end + PAGES).map_copy(&unnamed_file(end)) }.unwrap();
        let range = end - values.len()..end;
        map[range.clone()].copy_from_slice(values);
        Self { map, range }
    }

    fn values<T: AnyBitPattern>(&self) -> &[T] {
        cast_slice(&self.map[self.range.clone()])
    }

    fn values_mut<T: AnyBitPattern + NoUninit>(&mut self) -> &mut [T] {
        cast_slice_mut(&mut self.map[self.range.clone()])
    }
}

fn unnamed_file(len: usize) -> File {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("tritwise-page-edge-{}-{number}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    fs::remove_file(path).unwrap();
    file.set_len(len as u64).unwrap();
    file
}

/// A matrix of random codes, of whole panels.
struct Matrix {
    layout: Layout,
    lines: Vec<Line>,
    lines_per_panel: usize,
}

impl Matrix {
    fn panels<'l>(&self, lines: &'l [Line]) -> Panels<'l> {
        Panels::new(self.layout, lines, self.lines_per_panel)
    }

    /// The sums that `call` writes, with operands anywhere and at the edge.
    fn check(&self, what: &str, x: &[i8], sums: usize, call: impl Fn(Panels<'_>, &[i8], &mut [i32])) {
        let mut expected = vec![i32::MIN; sums];
        call(self.panels(&self.lines), x, &mut expected);
        let (lines, x, mut found) = (Edge::new(&self.lines), Edge::new(x), Edge::new(&vec![i32::MIN; sums]));
        call(self.panels(lines.values()), x.values(), found.values_mut());
        assert!(found.values::<i32>() == expected, "{what}");
    }
}

#[test]
fn integer_kernels_stay_inside_their_operands() {
    let mut random = Random(67);
    for isa in available() {
        for layout in isa.layouts().iter().copied().chain([Layout::Rows]) {
            // Widths around those of tiles, of what is unpacked together and of chunks between widened sums.
            for lines_per_panel in [1, 3, 16, 64, 67, 150] {
                for panels in [1, 4, 5] {
                    // Digits of base 3 are below 243; any two bits are a code.
                    let line = |_| Line(std::array::from_fn(|_| random.below(243) as u8));
                    let lines = (0..panels * lines_per_panel).map(line).collect();
                    check(isa, &Matrix { layout, lines, lines_per_panel }, &mut random);
                }
            }
        }
    }
}

fn check(isa: &dyn Isa, matrix: &Matrix, random: &mut Random) {
    let panels = matrix.panels(&matrix.lines);
    let (rows, cols) = (panels.rows(), panels.cols());
    let on = |operation: &str| format!("{operation} of {rows} × {cols}, {}, on {}", matrix.layout.name(), isa.name());
    for tokens in [1, 2, 7, 16, 21, 64, 70] {
        let x: Vec<i8> = (0..tokens * cols).map(|_| random.bits() as i8).collect();
        matrix.check(&on("gemm"), &x, tokens * rows, |panels, x, sums| {
            isa.gemm(panels, Activations::new(x, cols, tokens), sums);
        });
        if tokens == 1 {
            matrix.check(&on("gemv"), &x, rows, |panels, x, sums| isa.gemv(panels, x, sums));
        }
        // Groups are of one panel.
        if rows == matrix.layout.rows() {
            let group = matrix.lines_per_panel.div_ceil(3);
            let sums = matrix.lines_per_panel.div_ceil(group) * tokens * rows;
            matrix.check(&on("group_sums"), &x, sums, |panels, x, sums| {
                isa.group_sums(panels, group, Activations::new(x, cols, tokens), sums);
            });
        }
    }
}
