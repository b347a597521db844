//! The ggml tensor types, by number.
//!
//! A number alone does not say how a tensor is stored: forks of ggml have used
//! the same numbers for different things (36 and 38 to 42 above all). The table
//! lists every known meaning, so that a reader can compare each one's size with
//! the bytes there are, and so that an error can name what a file holds.
//!
//! Sources: ggml's `include/ggml.h` and `ggml-common.h`; the llama.cpp forks of
//! microsoft/BitNet, ikawrakow/ik_llama.cpp and PrismML-Eng/llama.cpp.

use std::fmt::{self, Write as _};

use Project::{BitnetCpp, Ggml, IkLlamaCpp, PrismMl, Tritwise};

/// One meaning of a type number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Type {
    /// The number in the file.
    pub id: u32,
    /// ggml's or the fork's name for it.
    pub name: &'static str,
    /// Who gave the number this meaning.
    pub project: Project,
    /// How many bytes a tensor takes.
    pub size: Size,
}

/// A project that gives numbers to tensor types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Project {
    /// ggml, and llama.cpp with it.
    Ggml,
    /// microsoft/BitNet and its forks of llama.cpp.
    BitnetCpp,
    /// ikawrakow/ik_llama.cpp.
    IkLlamaCpp,
    /// PrismML-Eng/llama.cpp.
    PrismMl,
    /// This project.
    Tritwise,
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ggml => "ggml",
            Self::BitnetCpp => "bitnet.cpp",
            Self::IkLlamaCpp => "ik_llama.cpp",
            Self::PrismMl => "PrismML",
            Self::Tritwise => "tritwise",
        })
    }
}

/// How many bytes a tensor of a type takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Every `elements` of a row take `bytes`.
    Blocks {
        /// Weights in a block.
        elements: u64,
        /// Bytes of a block.
        bytes: u64,
    },
    /// As `Blocks`, after `header` bytes at the start of each row.
    Rows {
        /// Bytes before a row's first block.
        header: u64,
        /// Weights in a block.
        elements: u64,
        /// Bytes of a block.
        bytes: u64,
    },
    /// A quarter byte per weight and 32 more for the tensor (bitnet.cpp).
    QuarterAnd32,
    /// 5/24 of a byte per weight but for 256 columns, which take a quarter (TL2 of bitnet.cpp).
    FiveOf24,
    /// As `FiveOf24`, then up to a multiple of 32, and 32 more for the tensor.
    FiveOf24And32,
    /// 64 bytes for every 80 rows of 4 columns, or part of them, and 64 more for the tensor (tritwise).
    LinesAnd64,
    /// Not given by the shape, or not known here.
    Unknown,
}

impl Type {
    /// Bytes that a tensor of shape `dims` (fastest first) takes without padding; `None` if
    /// the type cannot hold the shape or its size is not known.
    pub fn bytes(&self, dims: &[u64]) -> Option<u64> {
        let cols = dims.first().copied().unwrap_or(1);
        let rows = dims.iter().skip(1).try_fold(1u64, |product, &dim| product.checked_mul(dim))?;
        let row = |header: u64, elements: u64, bytes: u64| {
            (cols % elements == 0).then_some(())?;
            rows.checked_mul((cols / elements).checked_mul(bytes)?.checked_add(header)?)
        };
        match self.size {
            Size::Blocks { elements, bytes } => row(0, elements, bytes),
            Size::Rows { header, elements, bytes } => row(header, elements, bytes),
            Size::QuarterAnd32 => {
                let weights = cols.checked_mul(rows)?;
                weights.is_multiple_of(4).then_some(weights / 4 + 32)
            }
            Size::FiveOf24 => five_of_24(cols, rows),
            Size::FiveOf24And32 => five_of_24(cols, rows)?.checked_next_multiple_of(32)?.checked_add(32),
            Size::LinesAnd64 => {
                let lines = rows.div_ceil(80).checked_mul(cols.div_ceil(4))?;
                lines.checked_mul(64)?.checked_add(64)
            }
            Size::Unknown => None,
        }
    }
}

/// The bytes of TL2's codes, as bitnet.cpp counts them, with two divisions that round down.
fn five_of_24(cols: u64, rows: u64) -> Option<u64> {
    let triples = cols.checked_sub(256)?.checked_mul(rows)? / 3;
    (triples.checked_mul(5)? / 8).checked_add(rows.checked_mul(64)?)
}

/// 32-bit floats.
pub const F32: u32 = 0;
/// 16-bit IEEE floats.
pub const F16: u32 = 1;
/// Blocks of 32 four-bit weights.
pub const Q4_0: u32 = 2;
/// Blocks of 32 eight-bit weights.
pub const Q8_0: u32 = 8;
/// Super-blocks of 256 four-bit weights.
pub const Q4_K: u32 = 12;
/// Super-blocks of 256 six-bit weights.
pub const Q6_K: u32 = 14;
/// Blocks of 32 four-bit indices into sixteen values.
pub const IQ4_NL: u32 = 20;
/// The upper halves of 32-bit floats.
pub const BF16: u32 = 30;
/// ggml's ternary blocks at 1.6875 bits per weight.
pub const TQ1_0: u32 = 34;
/// ggml's ternary blocks at 2.0625 bits per weight.
pub const TQ2_0: u32 = 35;
/// bitnet.cpp's ternary planes at 2 bits per weight.
pub const I2_S: u32 = 36;
/// This project's 1.6-bit panels: "TW" and a number, where no fork counts to.
pub const BASE3: u32 = 0x5457_0001;
/// bitnet.cpp's lookup-table kernels for Arm.
pub const TL1: u32 = 38;
/// bitnet.cpp's lookup-table kernels for x86, until April 2026; since then they have [`Q2_0`]'s number.
pub const TL2: u32 = 39;
/// PrismML's sign bits in groups of 32, in files of April 2026; ggml's NVFP4.
pub const Q1_0_OF_32: u32 = 40;
/// ggml's sign bits in groups of 128.
pub const Q1_0: u32 = 41;
/// ggml's two-bit codes in groups of 64; before July 2026, PrismML's in groups of 128.
pub const Q2_0: u32 = 42;
/// ik_llama.cpp's ternary rows at 1.625 bits per weight.
pub const IQ1_BN: u32 = 134;
/// ik_llama.cpp's ternary rows at 2 bits per weight.
pub const IQ2_BN: u32 = 135;
/// PrismML's two-bit codes in groups of 128.
pub const PQ2_0: u32 = 142;
/// PrismML's ternary blocks at 1.75 bits per weight.
pub const PTQ1_0: u32 = 143;
/// The same as [`IQ2_BN`] with four rows interleaved.
pub const IQ2_BN_R4: u32 = 335;

/// Every meaning of type number `id` that is known.
pub fn meanings(id: u32) -> impl Iterator<Item = &'static Type> {
    TYPES.iter().filter(move |known| known.id == id)
}

/// A phrase that names type `id` for people: `TQ2_0`, or `TL2 (bitnet.cpp) or MXFP4 (ggml)`.
pub fn describe(id: u32) -> String {
    let mut phrase = String::new();
    let mut names: Vec<(&str, Project)> = meanings(id).map(|known| (known.name, known.project)).collect();
    names.dedup();
    for (nth, (name, project)) in names.iter().enumerate() {
        let or = if nth == 0 { "" } else { " or " };
        // Writing to a string cannot fail.
        let _ = match names.len() > 1 || *project != Ggml {
            true => write!(phrase, "{or}{name} ({project})"),
            false => write!(phrase, "{or}{name}"),
        };
    }
    if phrase.is_empty() { "unknown".to_owned() } else { phrase }
}

const fn blocks(id: u32, name: &'static str, project: Project, elements: u64, bytes: u64) -> Type {
    Type { id, name, project, size: Size::Blocks { elements, bytes } }
}

const fn sized(id: u32, name: &'static str, project: Project, size: Size) -> Type {
    Type { id, name, project, size }
}

const TYPES: &[Type] = &[
    blocks(F32, "F32", Ggml, 1, 4),
    blocks(F16, "F16", Ggml, 1, 2),
    blocks(Q4_0, "Q4_0", Ggml, 32, 18),
    blocks(3, "Q4_1", Ggml, 32, 20),
    sized(4, "Q4_2 (removed)", Ggml, Size::Unknown),
    sized(5, "Q4_3 (removed)", Ggml, Size::Unknown),
    blocks(6, "Q5_0", Ggml, 32, 22),
    blocks(7, "Q5_1", Ggml, 32, 24),
    blocks(Q8_0, "Q8_0", Ggml, 32, 34),
    blocks(9, "Q8_1", Ggml, 32, 36),
    blocks(10, "Q2_K", Ggml, 256, 84),
    blocks(11, "Q3_K", Ggml, 256, 110),
    blocks(Q4_K, "Q4_K", Ggml, 256, 144),
    blocks(13, "Q5_K", Ggml, 256, 176),
    blocks(Q6_K, "Q6_K", Ggml, 256, 210),
    blocks(15, "Q8_K", Ggml, 256, 292),
    sized(16, "IQ2_XXS", Ggml, Size::Unknown),
    sized(17, "IQ2_XS", Ggml, Size::Unknown),
    sized(18, "IQ3_XXS", Ggml, Size::Unknown),
    sized(19, "IQ1_S", Ggml, Size::Unknown),
    blocks(IQ4_NL, "IQ4_NL", Ggml, 32, 18),
    sized(21, "IQ3_S", Ggml, Size::Unknown),
    sized(22, "IQ2_S", Ggml, Size::Unknown),
    sized(23, "IQ4_XS", Ggml, Size::Unknown),
    blocks(24, "I8", Ggml, 1, 1),
    blocks(25, "I16", Ggml, 1, 2),
    blocks(26, "I32", Ggml, 1, 4),
    blocks(27, "I64", Ggml, 1, 8),
    blocks(28, "F64", Ggml, 1, 8),
    blocks(29, "IQ1_M", Ggml, 256, 56),
    blocks(BF16, "BF16", Ggml, 1, 2),
    blocks(31, "Q4_0_4_4 (removed)", Ggml, 32, 18),
    blocks(32, "Q4_0_4_8 (removed)", Ggml, 32, 18),
    blocks(33, "Q4_0_8_8 (removed)", Ggml, 32, 18),
    blocks(TQ1_0, "TQ1_0", Ggml, 256, 54),
    blocks(TQ2_0, "TQ2_0", Ggml, 256, 66),
    sized(I2_S, "I2_S", BitnetCpp, Size::QuarterAnd32),
    blocks(I2_S, "IQ4_NL_4_4 (removed)", Ggml, 32, 18),
    sized(37, "I8_S", BitnetCpp, Size::Unknown),
    // TL1 and TL2 with the scale behind the codes, and with a tensor of its own for it.
    sized(TL1, "TL1", BitnetCpp, Size::QuarterAnd32),
    blocks(TL1, "TL1", BitnetCpp, 4, 1),
    sized(TL2, "TL2", BitnetCpp, Size::FiveOf24And32),
    sized(TL2, "TL2", BitnetCpp, Size::FiveOf24),
    blocks(39, "MXFP4", Ggml, 32, 17),
    blocks(Q1_0_OF_32, "NVFP4", Ggml, 64, 36),
    blocks(Q1_0_OF_32, "Q1_0 in groups of 32", PrismMl, 32, 6),
    blocks(Q1_0, "Q1_0", Ggml, 128, 18),
    blocks(Q2_0, "Q2_0", Ggml, 64, 18),
    blocks(Q2_0, "Q2_0 in groups of 128", PrismMl, 128, 34),
    sized(Q2_0, "TL2", BitnetCpp, Size::FiveOf24And32),
    sized(Q2_0, "TL2", BitnetCpp, Size::FiveOf24),
    sized(IQ1_BN, "IQ1_BN", IkLlamaCpp, Size::Rows { header: 2, elements: 64, bytes: 13 }),
    sized(IQ2_BN, "IQ2_BN", IkLlamaCpp, Size::Rows { header: 4, elements: 64, bytes: 16 }),
    blocks(PQ2_0, "PQ2_0", PrismMl, 128, 34),
    sized(PQ2_0, "IQ2_TN (deprecated)", IkLlamaCpp, Size::Rows { header: 4, elements: 256, bytes: 64 }),
    blocks(PTQ1_0, "PTQ1_0", PrismMl, 128, 28),
    sized(PTQ1_0, "IQ1_TN (deprecated)", IkLlamaCpp, Size::Rows { header: 2, elements: 256, bytes: 52 }),
    sized(IQ2_BN_R4, "IQ2_BN_R4", IkLlamaCpp, Size::Rows { header: 4, elements: 64, bytes: 16 }),
    sized(BASE3, "BASE3", Tritwise, Size::LinesAnd64),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_the_published_2b_model() {
        let i2s = meanings(I2_S).next().unwrap();
        assert_eq!(i2s.bytes(&[2560, 6912]), Some(2560 * 6912 / 4 + 32));
        assert_eq!(meanings(F16).next().unwrap().bytes(&[2560, 128_256]), Some(656_670_720));
        assert_eq!(meanings(TQ1_0).next().unwrap().bytes(&[3200, 3200]), None, "3200 is not a multiple of 256");
        assert_eq!(meanings(135).next().unwrap().bytes(&[128, 2]), Some(2 * (4 + 32)));
        assert_eq!(meanings(F32).next().unwrap().bytes(&[u64::MAX, 2]), None);
        let base3 = meanings(BASE3).next().unwrap();
        assert_eq!(base3.bytes(&[2560, 6912]), Some(2560 * 6960 / 5 + 64), "6,912 rows are 86.4 panels");
        assert_eq!(base3.bytes(&[u64::MAX, u64::MAX]), None);
    }

    #[test]
    fn sizes_of_bitnet_cpps_lookup_tables() {
        let sizes = |id, dims: [u64; 2]| -> Vec<Option<u64>> {
            meanings(id).filter(|known| known.project == BitnetCpp).map(|known| known.bytes(&dims)).collect()
        };
        assert_eq!(sizes(TL1, [8640, 3200]), [Some(6_912_032), Some(6_912_000)]);
        // 2944 · 3200 · 5 / 24 = 1,962,666.67 and 256 · 3200 / 4 = 204,800; then up to 32 and 32 more.
        assert_eq!(sizes(TL2, [3200, 3200]), [Some(2_167_520), Some(2_167_466)]);
        assert_eq!(sizes(Q2_0, [3200, 3200]), sizes(TL2, [3200, 3200]));
        for dims in [[255, 32], [u64::MAX, u64::MAX], [u64::MAX, 1]] {
            assert_eq!(sizes(TL2, dims), [None, None]);
        }
    }

    #[test]
    fn the_deprecated_types_have_other_sizes_than_those_that_took_their_numbers() {
        let sizes = |id, dims: [u64; 2]| -> Vec<Option<u64>> { meanings(id).map(|known| known.bytes(&dims)).collect() };
        assert_eq!(sizes(PQ2_0, [2048, 10]), [Some(5440), Some(5160)]);
        assert_eq!(sizes(PTQ1_0, [2048, 10]), [Some(4480), Some(4180)]);
        // One block to the row is where they are as large.
        assert_eq!(sizes(PQ2_0, [256, 10]), [Some(680), Some(680)]);
    }

    #[test]
    fn every_number_is_described() {
        assert_eq!(describe(TQ2_0), "TQ2_0");
        assert_eq!(describe(39), "TL2 (bitnet.cpp) or MXFP4 (ggml)");
        assert_eq!(describe(999), "unknown");
        for id in 0..=42 {
            assert_ne!(describe(id), "unknown", "{id}");
        }
    }
}
