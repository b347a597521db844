//! Products of many tokens with AMX: Sapphire Rapids servers (2023) and later.
//!
//! A tile is 16 rows of 64 bytes, and one `tdpbsud` multiplies 16 tokens × 64 columns with 64 columns × 16 rows of weights: eight
//! times what `vpdpbusd` does in the time. Its second operand has four neighbouring columns of 16 rows side by side, as a
//! [`Line`] has, so that what [`base3`] makes of 16 lines is five such operands, one for each function of a byte:
//!
//! ```text
//! 16 tokens × 64 activations   ·   5 × (64 columns × 16 lanes)   +=   5 × (16 tokens × 16 lanes)
//! tmm5                             tmm6, tmm7 in turn                 tmm0 … tmm4
//! ```
//!
//! Weights are unpacked once for up to 64 tokens, some columns at a time so that they stay near, and the five sums are taken
//! apart at the end as in [`base3`]. Sums are exact, so the bits are those of every other way.
//!
//! The compiler's intrinsics for AMX are not stable, so this is assembly, and Linux has to be asked for the use of tiles:
//! docs/decisions/0012-tiles-in-assembly.md.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::OnceLock;

use super::base3::{self, COLS, DIGITS, ROWS};
use crate::arch::{Activations, Line, Panels};

/// Rows of a tile, and bytes of each.
const TILE_ROWS: usize = 16;
const TILE_BYTES: usize = 64;

/// Sums of a row of a tile.
const LANES: usize = TILE_BYTES / size_of::<i32>();

/// Tokens for which weights are unpacked together, and from how many on that is faster than not unpacking them.
const TOKENS: usize = 4 * TILE_ROWS;
const FEW: usize = 16;

/// Blocks of 64 columns that are unpacked together, 5 KiB each.
const BLOCKS: usize = 8;

/// A tile of unpacked weights: four columns of sixteen lanes, sixteen times.
type Weights = [MaybeUninit<__m512i>; TILE_ROWS];

/// A tile of sums: sixteen lanes of sixteen tokens.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Sums([[i32; LANES]; TILE_ROWS]);

/// Whether this CPU has tiles with products of bytes, and the system lets this process use them.
pub(super) fn detect() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // Miri knows neither the question nor the answer's use.
        if cfg!(miri) {
            return false;
        }
        #[allow(unused_unsafe, reason = "unsafe functions in older compilers")]
        // SAFETY: every CPU of x86-64 can be asked, and leaf 7 is asked for only where there is one.
        let features = unsafe { if __cpuid(0).eax < 7 { 0 } else { __cpuid_count(7, 0).edx } };
        let (tiles, bytes) = (1 << 24, 1 << 25);
        features & (tiles | bytes) == tiles | bytes && permitted()
    })
}

/// Asks Linux to let all threads of this process use tiles, whose 8 KiB it would otherwise not keep for them.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let mut result = ARCH_PRCTL;
    // SAFETY: a system call that takes two numbers and touches no memory of ours; it overwrites the registers that are named.
    unsafe {
        asm!("syscall", inout("rax") result, in("rdi") REQUEST_PERMISSION, in("rsi") TILE_DATA,
            out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

/// Elsewhere nobody has tried.
#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Whether these products are faster with tiles.
pub(super) fn is_worth_it(panels: Panels<'_>, x: Activations<'_>) -> bool {
    x.tokens() >= FEW && panels.cols() >= 4 * TILE_BYTES
}

/// As [`base3::gemm`].
///
/// # Safety
/// [`detect`] is true.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
pub(super) unsafe fn gemm(panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
    let mut weights = [[[MaybeUninit::uninit(); TILE_ROWS]; DIGITS]; BLOCKS];
    for (p, panel) in panels.iter().enumerate() {
        for tokens in x.tiles(TOKENS) {
            let mut sums = [[Sums([[0; LANES]; TILE_ROWS]); DIGITS]; TOKENS / TILE_ROWS];
            let mut configured = 0;
            for (chunk, lines) in panel.chunks(BLOCKS * TILE_ROWS).enumerate() {
                unpack(lines, &mut weights);
                let col = chunk * BLOCKS * TILE_BYTES;
                for (tile, sums) in tiles(tokens.clone()).zip(&mut sums) {
                    if configured != tile.len() {
                        configured = tile.len();
                        // SAFETY: the caller says that there are tiles.
                        unsafe { configure(configured) };
                    }
                    // SAFETY: they are configured for that many tokens.
                    unsafe { multiply(x, tile, col, lines.len(), &weights, sums) };
                }
            }
            // SAFETY: there are tiles.
            unsafe { asm!("tilerelease", options(nomem, nostack)) };
            for (tile, sums) in tiles(tokens).zip(&sums) {
                for (i, token) in tile.enumerate() {
                    let rows = base3::rows(std::array::from_fn(|d| bytemuck::cast(sums[d].0[i])));
                    out[token * panels.rows() + p * ROWS..][..ROWS].copy_from_slice(rows.as_flattened());
                }
            }
        }
    }
}

/// Tokens in runs of at most sixteen, of about the same length.
fn tiles(tokens: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let (start, len, tiles) = (tokens.start, tokens.len(), tokens.len().div_ceil(TILE_ROWS));
    (0..tiles).map(move |i| start + i * len / tiles..start + (i + 1) * len / tiles)
}

/// Writes the five functions of each line's bytes to its row of five tiles, and zeros to the rest of the last ones.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
fn unpack(lines: &[Line], to: &mut [[Weights; DIGITS]; BLOCKS]) {
    for (lines, tiles) in lines.chunks(TILE_ROWS).zip(to) {
        for row in 0..TILE_ROWS {
            let functions = lines.get(row).map_or([_mm512_setzero_si512(); DIGITS], |line| base3::functions(line));
            for (tile, function) in tiles.iter_mut().zip(functions) {
                tile[row].write(function);
            }
        }
    }
}

/// Shapes the tiles for so many tokens.
///
/// # Safety
/// [`detect`] is true.
unsafe fn configure(tokens: usize) {
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }
    let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    for tile in 0..8 {
        config.row_bytes[tile] = TILE_BYTES as u16;
        config.rows[tile] = if tile < 6 { tokens } else { TILE_ROWS } as u8;
    }
    // SAFETY: it reads 64 bytes of `config`; and tiles hold nothing that anybody else wants.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(readonly, nostack)) };
}

/// Adds to the tiles of `sums` the products of a tile's tokens, from column `col` on, with so many lines' weights.
///
/// # Panics
/// A token has not that many columns.
///
/// # Safety
/// The tiles are configured for that many tokens, and `weights` of the lines are written.
unsafe fn multiply(
    x: Activations<'_>,
    tokens: Range<usize>,
    col: usize,
    lines: usize,
    weights: &[[Weights; DIGITS]; BLOCKS],
    sums: &mut [Sums; DIGITS],
) {
    let (blocks, rest) = (lines / TILE_ROWS, lines % TILE_ROWS * COLS);
    let whole = blocks * TILE_BYTES;
    assert!(lines <= BLOCKS * TILE_ROWS && tokens.len() <= TILE_ROWS);
    if blocks > 0 {
        // Each of these rows has the columns that are read.
        tokens.clone().for_each(|token| _ = &x.row(token, col + whole)[col..]);
        let first = &x.row(tokens.start, col + whole)[col..];
        // SAFETY: rows of `x` are `stride` apart, and those of these tokens were seen to have that many columns; `weights` has that many blocks.
        unsafe { multiply_blocks(first.as_ptr(), x.stride(), weights.as_ptr(), blocks, sums) };
    }
    if rest > 0 {
        let mut padded = [[0; TILE_BYTES]; TILE_ROWS];
        for (padded, token) in padded.iter_mut().zip(tokens) {
            padded[..rest].copy_from_slice(&x.row(token, col + whole + rest)[col + whole..]);
        }
        let last = &weights[blocks];
        // SAFETY: sixteen rows of 64 bytes, and one block.
        unsafe { multiply_blocks(padded.as_ptr().cast(), TILE_BYTES, last, 1, sums) };
    }
}

/// # Safety
/// Tiles are configured; a tile's rows at `x`, `stride` apart, have `64 · blocks` bytes, and `weights` has so many blocks, which are written.
unsafe fn multiply_blocks(
    x: *const i8,
    stride: usize,
    weights: *const [Weights; DIGITS],
    blocks: usize,
    sums: &mut [Sums; DIGITS],
) {
    // SAFETY: it reads what the caller promises, reads and writes `sums`, in rows of 64 bytes, and overwrites what it names.
    unsafe {
        asm!(
            "tileloadd tmm0, [{sums} + {row}]",
            "tileloadd tmm1, [{sums} + {row} + 1024]",
            "tileloadd tmm2, [{sums} + {row} + 2048]",
            "tileloadd tmm3, [{sums} + {row} + 3072]",
            "tileloadd tmm4, [{sums} + {row} + 4096]",
            "2:",
            "tileloadd tmm5, [{x} + {stride}]",
            "tileloadd tmm6, [{weights} + {row}]",
            "tileloadd tmm7, [{weights} + {row} + 1024]",
            "tdpbsud tmm0, tmm5, tmm6",
            "tileloadd tmm6, [{weights} + {row} + 2048]",
            "tdpbsud tmm1, tmm5, tmm7",
            "tileloadd tmm7, [{weights} + {row} + 3072]",
            "tdpbsud tmm2, tmm5, tmm6",
            "tileloadd tmm6, [{weights} + {row} + 4096]",
            "tdpbsud tmm3, tmm5, tmm7",
            "tdpbsud tmm4, tmm5, tmm6",
            "add {x}, 64",
            "add {weights}, 5120",
            "dec {blocks}",
            "jnz 2b",
            "tilestored [{sums} + {row}], tmm0",
            "tilestored [{sums} + {row} + 1024], tmm1",
            "tilestored [{sums} + {row} + 2048], tmm2",
            "tilestored [{sums} + {row} + 3072], tmm3",
            "tilestored [{sums} + {row} + 4096], tmm4",
            x = inout(reg) x => _,
            stride = in(reg) stride,
            weights = inout(reg) weights => _,
            blocks = inout(reg) blocks => _,
            sums = in(reg) sums,
            row = in(reg) TILE_BYTES,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Four independent products of tiles a round.
///
/// # Safety
/// [`detect`] is true.
pub(super) unsafe fn peak_macs(rounds: usize) -> u64 {
    // SAFETY: as the caller says.
    unsafe { configure(TILE_ROWS) };
    // SAFETY: what tiles hold does not matter, and nothing else is touched.
    unsafe {
        asm!(
            "tilezero tmm5", "tilezero tmm6",
            "2:",
            "tdpbsud tmm0, tmm5, tmm6",
            "tdpbsud tmm1, tmm5, tmm6",
            "tdpbsud tmm2, tmm5, tmm6",
            "tdpbsud tmm3, tmm5, tmm6",
            "dec {rounds}",
            "jnz 2b",
            "tilerelease",
            rounds = inout(reg) rounds.max(1) => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nomem, nostack),
        );
    }
    (rounds.max(1) * 4 * TILE_ROWS * TILE_BYTES * LANES) as u64
}
