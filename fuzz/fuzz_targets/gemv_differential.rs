//! Any packed bytes, any activations and any shape: every instruction set agrees with the scalar one.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tritwise::kernels::arch::{Activations, BitOp, BitRows, Isa, Layout, Line, Panels, available};

#[derive(Debug, Arbitrary)]
struct Input {
    panels: u8,
    lines: u8,
    tokens: u8,
    group: u8,
    gap: u8,
    bytes: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let (panels, lines_per_panel) = (usize::from(input.panels % 4) + 1, usize::from(input.lines % 32) + 1);
    let (tokens, group) = (usize::from(input.tokens % 9) + 1, usize::from(input.group % 32) + 1);
    let byte = |i: usize| if input.bytes.is_empty() { 0 } else { input.bytes[i % input.bytes.len()] };
    let isas = available();
    let scalar = *isas.last().expect("the scalar one is always there");
    for layout in [Layout::TwoBit, Layout::Base3, Layout::Rows] {
        // A byte above 242 is no base-3 code.
        let most = if layout == Layout::Base3 { 242 } else { 255 };
        let lines: Vec<Line> =
            (0..panels * lines_per_panel).map(|i| Line(std::array::from_fn(|j| byte(64 * i + j).min(most)))).collect();
        let panels = Panels::new(layout, &lines, lines_per_panel);
        let stride = panels.cols() + usize::from(input.gap);
        let x: Vec<i8> = (0..tokens * stride).map(|i| byte(3 * i + 1).cast_signed()).collect();
        let all = Activations::new(&x, stride, tokens);
        let one = Panels::new(layout, &lines[..lines_per_panel], lines_per_panel);
        let run = |isa: &dyn Isa| {
            let mut vector = vec![i32::MIN; panels.rows()];
            isa.gemv(panels, &x[..panels.cols()], &mut vector);
            let mut matrix = vec![i32::MIN; tokens * panels.rows()];
            isa.gemm(panels, all, &mut matrix);
            let mut groups = vec![i32::MIN; lines_per_panel.div_ceil(group) * tokens * one.rows()];
            isa.group_sums(one, group, all, &mut groups);
            [vector, matrix, groups]
        };
        let expected = run(scalar);
        for isa in isas.iter().filter(|isa| layout == Layout::Rows || isa.layouts().contains(&layout)) {
            assert_eq!(run(*isa), expected, "{}, {}", isa.name(), layout.name());
        }
    }
    let bits = |rows: usize, from: usize| -> Vec<Line> {
        (0..rows * lines_per_panel).map(|i| Line(std::array::from_fn(|j| byte(from + 64 * i + j)))).collect()
    };
    let (weights, x) = (bits(panels, 0), bits(tokens, 7));
    for op in [BitOp::Xor, BitOp::And] {
        let run = |isa: &dyn Isa| {
            let mut out: Vec<i32> = (0..panels * tokens).map(|i| i32::from(byte(i)) << 24).collect();
            let factor = i32::from(byte(1)) << (input.group % 25);
            isa.add_ones(
                op,
                factor,
                BitRows::new(&weights, lines_per_panel),
                BitRows::new(&x, lines_per_panel),
                &mut out,
            );
            out
        };
        for isa in &isas {
            assert_eq!(run(*isa), run(scalar), "{}, {op:?}", isa.name());
        }
    }
});
