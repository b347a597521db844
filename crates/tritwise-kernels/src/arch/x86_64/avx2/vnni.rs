//! Sums of code × activation with the 256-bit `vpdpbusd` of AVX-VNNI: Alder Lake
//! (2021), Zen 5 (2024) and later, whether or not they have AVX-512.
//!
//! As with 512 bits (`avx512/two_bit.rs`), in halves of a line: eight rows.
//! Many tokens take five panels at a time (`pairs.rs`).
//! The kernels are a macro, because AVX-512 has the same instruction in another
//! coding: on a CPU with that one alone, the tests run the kernels through it.

use std::arch::x86_64::*;

use super::super::stream;
use super::pairs;
use crate::arch::{Activations, Layout, Line, Panels};

/// Rows of a panel, and columns of a line.
const ROWS: usize = Layout::TwoBit.rows();
const COLS: usize = Layout::TwoBit.cols();

/// Sixteen activations: what meets one line.
type Run = [i8; COLS];

/// The most one line adds to an accumulator: four products of -128 with code 3,
/// which lies in the top field, worth 64 times itself.
const LINE_MAX: i32 = 4 * 128 * (3 * 64);

/// Lines after which the accumulators are shifted and added up, so that none overflows.
const RUN_LINES: usize = (i32::MAX / LINE_MAX) as usize;

/// Tokens of a tile at most: with two halves of a line, twelve of the sixteen
/// registers hold sums.
const TILE: usize = 6;

macro_rules! kernels {
    ($features:literal, $dot:ident) => {
        /// Fields are masked where they lie; each has its accumulators, shifted once at the end.
        #[target_feature(enable = $features)]
        pub(super) fn gemv(panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
            let masks = [0x03, 0x0C, 0x30, 0xC0_u8 as i8].map(|mask| _mm256_set1_epi8(mask));
            let (x, _) = x.as_chunks::<COLS>();
            let (out, _) = out.as_chunks_mut::<ROWS>();
            for (panel, out) in panels.iter().zip(out) {
                let mut sums = [_mm256_setzero_si256(); 2];
                for (panel, x) in panel.chunks(RUN_LINES).zip(x.chunks(RUN_LINES)) {
                    let mut scaled = [[_mm256_setzero_si256(); 2]; 4];
                    for (line, x) in panel.iter().zip(x) {
                        stream::prefetch(&line.0, stream::AHEAD_ALONE);
                        let halves: [__m256i; 2] = bytemuck::cast(line.0);
                        let words: [i32; 4] = bytemuck::cast(*x);
                        for f in 0..4 {
                            let word = _mm256_set1_epi32(words[f]);
                            for half in 0..2 {
                                let codes = _mm256_and_si256(halves[half], masks[f]);
                                scaled[f][half] = $dot(scaled[f][half], codes, word);
                            }
                        }
                    }
                    for half in 0..2 {
                        // Exact: each accumulator is a multiple of what it is divided by.
                        let low = _mm256_add_epi32(scaled[0][half], _mm256_srai_epi32::<2>(scaled[1][half]));
                        let by_16 = _mm256_srai_epi32::<4>(scaled[2][half]);
                        let high = _mm256_add_epi32(by_16, _mm256_srai_epi32::<6>(scaled[3][half]));
                        sums[half] = _mm256_add_epi32(sums[half], _mm256_add_epi32(low, high));
                    }
                }
                *out = bytemuck::cast(sums);
            }
        }

        #[target_feature(enable = $features)]
        pub(super) fn gemm(panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
            let many = x.tokens() >= pairs::MANY && panels.cols() <= pairs::MOST_COLS;
            for (i, group) in panels.groups(pairs::PANELS).enumerate() {
                let out = &mut out[i * pairs::PANELS * ROWS..];
                if !many || group.len() < pairs::PANELS {
                    tiles(group, x, out, panels.rows());
                    continue;
                }
                for run in x.tiles(pairs::MOST) {
                    five_panels(group, x.rows(run.clone()), &mut out[run.start * panels.rows()..], panels.rows());
                }
            }
        }

        /// [`gemm`] of some panels whose codes are made for each tile of tokens.
        #[target_feature(enable = $features)]
        fn tiles(panels: Panels<'_>, x: Activations<'_>, out: &mut [i32], stride: usize) {
            for (i, panel) in panels.iter().enumerate() {
                for tile in x.tiles(TILE) {
                    let (first, tokens) = (tile.start, tile.len());
                    let out = &mut out[first * stride + i * ROWS..];
                    match tokens {
                        1 => sums::<1>(panel, x, first, out, stride),
                        2 => sums::<2>(panel, x, first, out, stride),
                        3 => sums::<3>(panel, x, first, out, stride),
                        4 => sums::<4>(panel, x, first, out, stride),
                        5 => sums::<5>(panel, x, first, out, stride),
                        TILE => sums::<TILE>(panel, x, first, out, stride),
                        _ => unreachable!("a tile has 1 to {TILE} tokens"),
                    }
                }
            }
        }

        pairs::kernels!($features, $dot);

        /// The sums of a panel's rows for `T` tokens from `first`. The first one's go to
        /// the beginning of `out`, the others' `stride` further each.
        #[target_feature(enable = $features)]
        fn sums<const T: usize>(panel: &[Line], x: Activations<'_>, first: usize, out: &mut [i32], stride: usize) {
            let x: [&[Run]; T] = std::array::from_fn(|t| x.row(first + t, panel.len() * COLS).as_chunks::<COLS>().0);
            let mut sums = [[_mm256_setzero_si256(); 2]; T];
            for (i, line) in panel.iter().enumerate() {
                stream::prefetch(&line.0, stream::AHEAD_ALONE);
                step::<0, T>(line, x, i, &mut sums);
                step::<1, T>(line, x, i, &mut sums);
                step::<2, T>(line, x, i, &mut sums);
                step::<3, T>(line, x, i, &mut sums);
            }
            for (t, sums) in sums.into_iter().enumerate() {
                let sums: [i32; ROWS] = bytemuck::cast(sums);
                out[t * stride..][..ROWS].copy_from_slice(&sums);
            }
        }

        /// Adds field `F` of a line, times the activations of `T` tokens.
        #[target_feature(enable = $features)]
        #[inline]
        fn step<const F: usize, const T: usize>(line: &Line, x: [&[Run]; T], i: usize, sums: &mut [[__m256i; 2]; T]) {
            let halves: [__m256i; 2] = bytemuck::cast(line.0);
            let shift = _mm256_set1_epi32(2 * F as i32);
            // Bits that come in from the byte above fall to the mask.
            let codes = halves.map(|half| _mm256_and_si256(_mm256_srlv_epi32(half, shift), _mm256_set1_epi8(3)));
            for (sums, x) in sums.iter_mut().zip(x) {
                let words: [i32; 4] = bytemuck::cast(x[i]);
                let word = _mm256_set1_epi32(words[F]);
                sums[0] = $dot(sums[0], codes[0], word);
                sums[1] = $dot(sums[1], codes[1], word);
            }
        }

        /// Twelve independent `vpdpbusd` a round: enough to hide the latency of each.
        #[target_feature(enable = $features)]
        pub(super) fn peak_macs(rounds: usize) -> u64 {
            let codes = _mm256_set1_epi8(std::hint::black_box(1));
            let activations = _mm256_set1_epi8(std::hint::black_box(-1));
            let mut sums = [_mm256_setzero_si256(); 12];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $dot(*sum, codes, activations);
                }
            }
            std::hint::black_box(sums);
            (rounds * 12 * 32) as u64
        }
    };
}

kernels!("avx2,avxvnni", _mm256_dpbusd_avx_epi32);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::IntegerOps;
    use crate::arch::scalar::Scalar;

    /// The same kernels with AVX-512's coding of the instruction.
    mod evex {
        use super::super::*;

        kernels!("avx2,avx512vnni,avx512vl", _mm256_dpbusd_epi32);
    }

    /// Whether this CPU has the instruction in AVX-512's coding.
    fn has_evex() -> bool {
        let has = is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl");
        if !has {
            println!("skipped: this CPU has no AVX-512 VNNI");
        }
        has
    }

    #[test]
    fn the_kernels_agree_with_the_scalar_ones() {
        if !has_evex() {
            return;
        }
        let noise = |i: usize| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29) as u8;
        for (panels, lines_per_panel) in [(1, 1), (2, 3), (3, 40), (1, RUN_LINES + 3)] {
            let lines: Vec<Line> =
                (0..panels * lines_per_panel).map(|i| Line(std::array::from_fn(|j| noise(64 * i + j)))).collect();
            let panels = Panels::new(Layout::TwoBit, &lines, lines_per_panel);
            for tokens in (1..=TILE + 1).chain([25]).take(if lines_per_panel > 40 { 1 } else { 99 }) {
                // The largest sums there are, and any.
                for x in
                    [vec![-128; tokens * panels.cols()], (0..tokens * panels.cols()).map(|i| noise(i) as i8).collect()]
                {
                    let activations = Activations::new(&x, panels.cols(), tokens);
                    let mut expected = vec![0; tokens * panels.rows()];
                    Scalar::new().gemm(panels, activations, &mut expected);
                    let mut found = vec![i32::MIN; expected.len()];
                    // SAFETY: the features were looked for above.
                    unsafe { evex::gemm(panels, activations, &mut found) };
                    assert_eq!(found, expected, "gemm, {tokens} tokens");
                    let one = &mut found[..panels.rows()];
                    // SAFETY: as above.
                    unsafe { evex::gemv(panels, &x[..panels.cols()], one) };
                    assert_eq!(one, &expected[..panels.rows()], "gemv");
                }
            }
        }
        // SAFETY: as above.
        assert_eq!(unsafe { evex::peak_macs(2) }, 2 * 12 * 32);
    }

    #[test]
    fn five_panels_agree_with_the_scalar_kernel() {
        if !has_evex() {
            return;
        }
        let noise = |i: usize| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29) as u8;
        let shapes = [(5, 1, 24), (6, 15, 25), (10, 16, 26), (5, 17, 64), (13, 33, 65), (9, 3, 130)];
        for (panels, lines_per_panel, tokens) in shapes.into_iter().take(if cfg!(miri) { 1 } else { 6 }) {
            let line = |i| Line(std::array::from_fn(|j| noise(64 * i + j)));
            compare(panels, lines_per_panel, tokens, line, |i| noise(i) as i8);
        }
    }

    /// Where each step of taking rows apart is as wrong as it can be.
    #[test]
    #[cfg_attr(miri, ignore = "hours of it")]
    fn five_panels_of_the_largest_sums_agree_with_the_scalar_kernel() {
        if !has_evex() {
            return;
        }
        let lines = pairs::MOST_COLS / COLS;
        // Code 3, which never occurs, in all panels, in the first, in the others, and in every other one.
        for panels in [0b1_1111, 0b0_0001, 0b1_1110, 0b1_0101] {
            for x in [-128, 127] {
                let line = |i: usize| Line([if panels >> (i / lines) & 1 == 1 { 0xFF } else { 0 }; 64]);
                compare(pairs::PANELS, lines, pairs::MANY, line, |_| x);
            }
        }
    }

    fn compare(
        panels: usize,
        lines_per_panel: usize,
        tokens: usize,
        line: impl Fn(usize) -> Line,
        activation: impl Fn(usize) -> i8,
    ) {
        let lines: Vec<Line> = (0..panels * lines_per_panel).map(line).collect();
        let panels = Panels::new(Layout::TwoBit, &lines, lines_per_panel);
        let x: Vec<i8> = (0..tokens * panels.cols()).map(activation).collect();
        let x = Activations::new(&x, panels.cols(), tokens);
        let mut expected = vec![0; tokens * panels.rows()];
        Scalar::new().gemm(panels, x, &mut expected);
        let mut found = vec![i32::MIN; expected.len()];
        // SAFETY: the caller looked for the features.
        unsafe { evex::gemm(panels, x, &mut found) };
        assert!(found == expected, "{} panels of {lines_per_panel} lines, {tokens} tokens", panels.len());
    }
}
