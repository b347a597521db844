//! Instruction sets of x86-64.

mod avx2;
mod avx512vnni;
mod rows;

pub(super) use avx2::Avx2;
pub(super) use avx512vnni::Avx512Vnni;
