//! BASE3, this project's own: five trits a byte, in the order in which a kernel reads them.
//!
//! ```text
//! panel 0: rows  0 .. 80    line 0: columns 0 .. 4 │ line 1: columns 4 .. 8 │ …    a line is 64 bytes: 80 rows × 4 columns
//! panel 1: rows 80 .. 160   line 0 │ …
//! at the end                the scale, f32 little-endian; 60 bytes of padding, zeros when written
//!
//! line, byte 4r + j  =  d₀ + 3 d₁ + 9 d₂ + 27 d₃ + 81 d₄        dₖ: the trit of row 16k + r, column j, plus one
//! ```
//!
//! Rows are padded to whole panels and columns to whole lines with trits of zero (a byte of nothing
//! else is 1 + 3 + 9 + 27 + 81 = 121). So much for 1.6 bits a weight: 80 rows need 64 bytes for every
//! four columns.
//!
//! The other encodings serve a file that many programs read, and are repacked for the instruction
//! set at hand. This one is for a model that fits memory once and not twice: it is computed with
//! where it lies, in the pages of the file. That is why a tensor is a multiple of 64 bytes, and why
//! its file has `general.alignment = 64`.
#![expect(
    clippy::indexing_slicing,
    reason = "lengths were compared with the shape, and offsets in a block are constants"
)]

use super::Scales;
use crate::TensorError;

/// Rows of a panel.
pub(super) const ROWS: usize = 80;
/// Columns of a line.
pub(super) const COLS: usize = 4;
/// Bytes of a line, and of the scale with its padding.
const LINE: usize = 64;

/// What a byte with all its digits 2 holds; higher ones are never written.
const MOST: u8 = 242;

pub(super) fn len(rows: usize, cols: usize) -> Option<usize> {
    let lines = rows.div_ceil(ROWS).checked_mul(cols.div_ceil(COLS))?;
    lines.checked_mul(LINE)?.checked_add(LINE)
}

/// Checks every byte and returns the scale. `bytes` has the right length.
pub(super) fn validate(cols: usize, bytes: &[u8]) -> Result<Scales, TensorError> {
    const PIECE: usize = 4096;
    let (codes, tail) = bytes.split_at(bytes.len() - LINE);
    // The largest of a piece is vector code, which a search is not.
    let beyond = |piece: &[u8]| piece.iter().fold(0, |most, byte| most.max(*byte)) > MOST;
    if let Some(piece) = codes.chunks(PIECE).position(beyond) {
        let byte = codes[piece * PIECE..].iter().position(|byte| *byte > MOST).unwrap_or(0) + piece * PIECE;
        let row = byte / (cols.div_ceil(COLS) * LINE) * ROWS + byte % LINE / 4;
        let what = format!("a byte is {}, and five trits make {MOST} at most; is the file damaged?", codes[byte]);
        return Err(TensorError::Weight { row, what });
    }
    let scale = f32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
    TensorError::check_scale(0, scale)?;
    Ok(Scales::Tensor(scale))
}

pub(super) fn read_row(bytes: &[u8], row: usize, out: &mut [i8]) {
    let (lines, _) = bytes.as_chunks::<LINE>();
    let panel = &lines[row / ROWS * out.len().div_ceil(COLS)..];
    let (digit, lane) = (&TRITS[row % ROWS / 16], row % 16);
    for (out, line) in out.chunks_mut(COLS).zip(panel) {
        for (out, byte) in out.iter_mut().zip(&line[4 * lane..]) {
            *out = digit[usize::from(*byte)];
        }
    }
}

pub(super) fn encode(trits: &[i8], rows: usize, cols: usize, scale: f32) -> Vec<u8> {
    let per_panel = cols.div_ceil(COLS);
    let codes = rows.div_ceil(ROWS) * per_panel * LINE;
    let mut bytes = vec![0; codes + LINE];
    let (lines, tail) = bytes.split_at_mut(codes);
    let (lines, _) = lines.as_chunks_mut::<LINE>();
    // The bytes of five rows, which lie 64 apart in the lines; a byte of nothing but zeros is 121.
    let mut row = vec![0; per_panel * COLS];
    for (panel, lines) in lines.chunks_exact_mut(per_panel).enumerate() {
        for lane in 0..16 {
            row.fill(121u8);
            for (digit, weight) in [1i8, 3, 9, 27, 81].into_iter().enumerate() {
                let at = panel * ROWS + 16 * digit + lane;
                if at < rows {
                    for (byte, trit) in row.iter_mut().zip(&trits[at * cols..][..cols]) {
                        *byte = byte.wrapping_add_signed(trit * weight);
                    }
                }
            }
            for (line, bytes) in lines.iter_mut().zip(row.as_chunks::<COLS>().0) {
                line[lane * COLS..][..COLS].copy_from_slice(bytes);
            }
        }
    }
    tail[..4].copy_from_slice(&scale.to_le_bytes());
    bytes
}

/// `TRITS[k][byte]`: the trit in digit `k`. (Bytes beyond 242, which are refused, have digits here too.)
#[expect(clippy::cast_possible_truncation, reason = "a digit is below 3")]
static TRITS: [[i8; 256]; 5] = {
    let mut trits = [[0; 256]; 5];
    let (mut k, mut power) = (0, 1);
    while k < 5 {
        let mut byte = 0;
        while byte < 256 {
            trits[k][byte] = (byte / power % 3) as i8 - 1;
            byte += 1;
        }
        k += 1;
        power *= 3;
    }
    trits
};
