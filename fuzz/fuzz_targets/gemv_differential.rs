//! Any packed bytes and any activations: every instruction set agrees with the scalar one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tritwise_kernels::arch::{LINE_COLS, Line, PANEL_ROWS, Panels, available};

fuzz_target!(|input: (u8, u8, Vec<u8>)| {
    let (panels, lines_per_panel, bytes) = (usize::from(input.0 % 4) + 1, usize::from(input.1 % 32) + 1, input.2);
    let byte = |i: usize| if bytes.is_empty() { 0 } else { bytes[i % bytes.len()] };
    let lines: Vec<Line> =
        (0..panels * lines_per_panel).map(|i| Line(std::array::from_fn(|j| byte(64 * i + j)))).collect();
    let x: Vec<i8> = (0..lines_per_panel * LINE_COLS).map(|i| byte(3 * i + 1) as i8).collect();
    let run = |isa: &dyn tritwise_kernels::arch::Isa| {
        let mut out = vec![i32::MIN; panels * PANEL_ROWS];
        isa.gemv(Panels::new(&lines, lines_per_panel), &x, &mut out);
        out
    };
    let isas = available();
    let expected = run(*isas.last().expect("the scalar one is always there"));
    for isa in isas {
        assert_eq!(run(isa), expected, "{}", isa.name());
    }
});
