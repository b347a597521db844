//! Any packed bytes and any activations: every instruction set agrees with the scalar one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tritwise_kernels::arch::{Isa, Layout, Line, Panels, available};

fuzz_target!(|input: (u8, u8, Vec<u8>)| {
    let (panels, lines_per_panel, bytes) = (usize::from(input.0 % 4) + 1, usize::from(input.1 % 32) + 1, input.2);
    let byte = |i: usize| if bytes.is_empty() { 0 } else { bytes[i % bytes.len()] };
    for layout in Layout::ALL {
        // A byte above 242 is no base-3 code.
        let most = if layout == Layout::Base3 { 242 } else { 255 };
        let lines: Vec<Line> =
            (0..panels * lines_per_panel).map(|i| Line(std::array::from_fn(|j| byte(64 * i + j).min(most)))).collect();
        let panels = Panels::new(layout, &lines, lines_per_panel);
        let x: Vec<i8> = (0..panels.cols()).map(|i| byte(3 * i + 1) as i8).collect();
        let run = |isa: &dyn Isa| {
            let mut out = vec![i32::MIN; panels.rows()];
            isa.gemv(panels, &x, &mut out);
            out
        };
        let isas = available();
        let expected = run(*isas.last().expect("the scalar one is always there"));
        for isa in isas.iter().filter(|isa| isa.layouts().contains(&layout)) {
            assert_eq!(run(*isa), expected, "{}, {}", isa.name(), layout.name());
        }
    }
});
