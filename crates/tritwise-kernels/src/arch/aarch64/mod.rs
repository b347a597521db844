//! Instruction sets of 64-bit Arm, little-endian.

mod neon;

pub(super) use neon::Neon;
