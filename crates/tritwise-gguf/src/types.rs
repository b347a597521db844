//! The ggml tensor types, by number.
//!
//! A number alone does not say how a tensor is stored: forks of ggml have used
//! the same numbers for different things (36 and 38 to 42 above all). The table
//! lists every known meaning, so that a reader can compare each one's size with
//! the bytes there are, and so that an error can name what a file holds.
//!
//! Sources: ggml's `include/ggml.h` and `ggml-common.h`; the llama.cpp forks of
//! microsoft/BitNet, ikawrakow/ik_llama.cpp and PrismML-Eng/llama.cpp.

use std::fmt::Write as _;

/// One meaning of a type number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Type {
    /// The number in the file.
    pub id: u32,
    /// ggml's or the fork's name for it.
    pub name: &'static str,
    /// Who gave the number this meaning.
    pub project: &'static str,
    /// How many bytes a tensor takes.
    pub size: Size,
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
            Size::LinesAnd64 => {
                let lines = rows.div_ceil(80).checked_mul(cols.div_ceil(4))?;
                lines.checked_mul(64)?.checked_add(64)
            }
            Size::Unknown => None,
        }
    }
}

/// 32-bit floats.
pub const F32: u32 = 0;
/// 16-bit IEEE floats.
pub const F16: u32 = 1;
/// Blocks of 32 eight-bit weights.
pub const Q8_0: u32 = 8;
/// Super-blocks of 256 six-bit weights.
pub const Q6_K: u32 = 14;
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

/// Every meaning of type number `id` that is known.
pub fn meanings(id: u32) -> impl Iterator<Item = &'static Type> {
    TYPES.iter().filter(move |known| known.id == id)
}

/// A phrase that names type `id` for people: `TQ2_0`, or `TL2 (bitnet.cpp) or MXFP4 (ggml)`.
pub fn describe(id: u32) -> String {
    let mut phrase = String::new();
    let several = meanings(id).count() > 1;
    for (nth, known) in meanings(id).enumerate() {
        let or = if nth == 0 { "" } else { " or " };
        // Writing to a string cannot fail.
        let _ = match several || known.project != GGML {
            true => write!(phrase, "{or}{} ({})", known.name, known.project),
            false => write!(phrase, "{or}{}", known.name),
        };
    }
    if phrase.is_empty() { "unknown".to_owned() } else { phrase }
}

const GGML: &str = "ggml";
const BITNET_CPP: &str = "bitnet.cpp";
const IK: &str = "ik_llama.cpp";
const PRISM: &str = "PrismML";
const TRITWISE: &str = "tritwise";

const fn blocks(id: u32, name: &'static str, project: &'static str, elements: u64, bytes: u64) -> Type {
    Type { id, name, project, size: Size::Blocks { elements, bytes } }
}

const fn sized(id: u32, name: &'static str, project: &'static str, size: Size) -> Type {
    Type { id, name, project, size }
}

const TYPES: &[Type] = &[
    blocks(F32, "F32", GGML, 1, 4),
    blocks(F16, "F16", GGML, 1, 2),
    blocks(2, "Q4_0", GGML, 32, 18),
    blocks(3, "Q4_1", GGML, 32, 20),
    sized(4, "Q4_2 (removed)", GGML, Size::Unknown),
    sized(5, "Q4_3 (removed)", GGML, Size::Unknown),
    blocks(6, "Q5_0", GGML, 32, 22),
    blocks(7, "Q5_1", GGML, 32, 24),
    blocks(Q8_0, "Q8_0", GGML, 32, 34),
    blocks(9, "Q8_1", GGML, 32, 36),
    blocks(10, "Q2_K", GGML, 256, 84),
    blocks(11, "Q3_K", GGML, 256, 110),
    blocks(12, "Q4_K", GGML, 256, 144),
    blocks(13, "Q5_K", GGML, 256, 176),
    blocks(Q6_K, "Q6_K", GGML, 256, 210),
    blocks(15, "Q8_K", GGML, 256, 292),
    sized(16, "IQ2_XXS", GGML, Size::Unknown),
    sized(17, "IQ2_XS", GGML, Size::Unknown),
    sized(18, "IQ3_XXS", GGML, Size::Unknown),
    sized(19, "IQ1_S", GGML, Size::Unknown),
    sized(20, "IQ4_NL", GGML, Size::Unknown),
    sized(21, "IQ3_S", GGML, Size::Unknown),
    sized(22, "IQ2_S", GGML, Size::Unknown),
    sized(23, "IQ4_XS", GGML, Size::Unknown),
    blocks(24, "I8", GGML, 1, 1),
    blocks(25, "I16", GGML, 1, 2),
    blocks(26, "I32", GGML, 1, 4),
    blocks(27, "I64", GGML, 1, 8),
    blocks(28, "F64", GGML, 1, 8),
    blocks(29, "IQ1_M", GGML, 256, 56),
    blocks(BF16, "BF16", GGML, 1, 2),
    blocks(31, "Q4_0_4_4 (removed)", GGML, 32, 18),
    blocks(32, "Q4_0_4_8 (removed)", GGML, 32, 18),
    blocks(33, "Q4_0_8_8 (removed)", GGML, 32, 18),
    blocks(TQ1_0, "TQ1_0", GGML, 256, 54),
    blocks(TQ2_0, "TQ2_0", GGML, 256, 66),
    sized(I2_S, "I2_S", BITNET_CPP, Size::QuarterAnd32),
    blocks(I2_S, "IQ4_NL_4_4 (removed)", GGML, 32, 18),
    sized(37, "I8_S", BITNET_CPP, Size::Unknown),
    sized(TL1, "TL1", BITNET_CPP, Size::QuarterAnd32),
    sized(39, "TL2", BITNET_CPP, Size::Unknown),
    blocks(39, "MXFP4", GGML, 32, 17),
    blocks(40, "NVFP4", GGML, 64, 36),
    blocks(40, "Q1_0 in groups of 32", PRISM, 32, 6),
    blocks(41, "Q1_0", GGML, 128, 18),
    blocks(42, "Q2_0", GGML, 64, 18),
    blocks(42, "Q2_0 in groups of 128", PRISM, 128, 34),
    sized(42, "TL2", BITNET_CPP, Size::Unknown),
    sized(134, "IQ1_BN", IK, Size::Rows { header: 2, elements: 64, bytes: 13 }),
    sized(135, "IQ2_BN", IK, Size::Rows { header: 4, elements: 64, bytes: 16 }),
    blocks(142, "PQ2_0", PRISM, 128, 34),
    sized(142, "IQ2_TN (deprecated)", IK, Size::Unknown),
    blocks(143, "PTQ1_0", PRISM, 128, 28),
    sized(143, "IQ1_TN (deprecated)", IK, Size::Unknown),
    sized(335, "IQ2_BN_R4", IK, Size::Rows { header: 4, elements: 64, bytes: 16 }),
    sized(BASE3, "BASE3", TRITWISE, Size::LinesAnd64),
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
    fn every_number_is_described() {
        assert_eq!(describe(TQ2_0), "TQ2_0");
        assert_eq!(describe(39), "TL2 (bitnet.cpp) or MXFP4 (ggml)");
        assert_eq!(describe(999), "unknown");
        for id in 0..=42 {
            assert_ne!(describe(id), "unknown", "{id}");
        }
    }
}
