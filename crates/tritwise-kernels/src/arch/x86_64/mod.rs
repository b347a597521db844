//! Instruction sets of x86-64.

mod avx2;
mod avx512vnni;
mod rows;
mod sse41;
mod stream;

pub(super) use avx2::Avx2;
pub(super) use avx512vnni::Avx512Vnni;
pub(super) use sse41::Sse41;
