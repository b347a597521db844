//! Floating-point algorithms, written once over sixteen lanes.
//!
//! An algorithm here takes a [`Lanes`] value, which is the proof that an
//! instruction set may be used and the source of its sixteen-lane operations.
//! Every one of those operations is defined to the bit, so an algorithm has the
//! same result whichever instruction set it is instantiated for. What remains is
//! to fix the order of operations, and that is done here, once:
//!
//! * Lanes run over outputs (keys of a block, features of a value, elements of a
//!   row), and each output is accumulated in ascending order with fused
//!   multiply-add.
//! * Where the reduction itself must be vectorised, element `i` goes to partial
//!   `i % 16`, and the sixteen partials are folded by [`Lanes::sum`]'s tree. A
//!   row whose length is no multiple of sixteen counts as padded with zeros.
//!
//! Everything is `#[inline(always)]`, down to the single operation, so that it
//! is compiled inside the one function per instruction set and algorithm that
//! carries `#[target_feature]` (see [`float_ops`]). A function that was left out
//! of line would be compiled for the baseline and call each intrinsic. For the
//! same reason there are no closures here: an attribute cannot force them inline.
#![allow(
    clippy::needless_range_loop,
    reason = "tiles of registers are small arrays that are walked together; zipping them hides which is which"
)]

pub(in crate::arch) mod attend;
mod attend_int8;
pub(in crate::arch) mod elementwise;
pub(in crate::arch) mod exp;
pub(in crate::arch) mod kv;
mod lanes;
pub(in crate::arch) mod norm;
pub(in crate::arch) mod rotate;
pub(in crate::arch) mod sketch;
pub(in crate::arch) mod softmax;
pub(in crate::arch) mod table;
pub(in crate::arch) mod trits;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(in crate::arch) use lanes::lanes_ops;
pub(in crate::arch) use lanes::{LANES, Lanes};

/// Lanes `start..start + 16` of `x`; zeros where `x` has ended.
#[inline(always)]
fn load_at<L: Lanes>(isa: L, x: &[f32], start: usize) -> L::F32 {
    let rest = &x[start..];
    match rest.first_chunk() {
        Some(lanes) => isa.load(lanes),
        None => {
            let mut lanes = [0.0; LANES];
            lanes[..rest.len()].copy_from_slice(rest);
            isa.load(&lanes)
        }
    }
}

/// Stores to `out[start..start + 16]`, or as much of it as there is.
#[inline(always)]
fn store_at<L: Lanes>(isa: L, x: L::F32, out: &mut [f32], start: usize) {
    let rest = &mut out[start..];
    match rest.first_chunk_mut() {
        Some(lanes) => isa.store(x, lanes),
        None => {
            let mut lanes = [0.0; LANES];
            isa.store(x, &mut lanes);
            rest.copy_from_slice(&lanes[..rest.len()]);
        }
    }
}

/// The largest of sixteen numbers that are not negative, NaN above all.
#[inline(always)]
fn largest<L: Lanes>(isa: L, x: L::F32) -> f32 {
    let mut lanes = [0.0; LANES];
    isa.store(x, &mut lanes);
    let mut bits = 0;
    for lane in lanes {
        bits = lane.to_bits().max(bits);
    }
    f32::from_bits(bits)
}

/// Implements [`FloatOps`](crate::arch::FloatOps) for an instruction set by
/// instantiating each algorithm inside a function that enables its features.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
macro_rules! float_ops {
    ($isa:ty, $features:literal) => {
        impl $crate::arch::FloatOps for $isa {
            $crate::arch::generic::float_ops! { @each $isa, $features,
                fn exp(x: &mut [f32]) = exp::exp_row;
                fn normalize(x: &[f32], norm: $crate::arch::NormWeight<'_>, out: &mut [f32]) = norm::normalize;
                fn quantize(
                    x: &[f32], norm: Option<$crate::arch::NormWeight<'_>>, out: &mut [i8]
                ) -> (f32, i32) = norm::quantize;
                fn quantize16(
                    x: &[f32],
                    norm: Option<$crate::arch::NormWeight<'_>>,
                    high: &mut [i8],
                    low: &mut [i8],
                    sums: &mut [i32]
                ) -> f32 = norm::quantize16;
                fn trit_sums(
                    panels: $crate::arch::Panels<'_>, x: &[f32], stride: usize, out: &mut [f32]
                ) = trits::trit_sums;
                fn gate(activation: tritwise_tensor::Activation, gate: &mut [f32], up: &[f32]) = elementwise::gate;
                fn add(x: &mut [f32], y: &[f32]) = elementwise::add;
                fn scale_sums(
                    sums: &[i32], less: i32, scale: f32, by: f32, out: &mut [f32]
                ) = elementwise::scale_sums;
                fn rotate(
                    style: tritwise_tensor::RopeStyle, angles: $crate::arch::Angles<'_>, heads: &mut [f32]
                ) = rotate::rotate;
                fn store_kv(
                    layout: $crate::arch::KvLayout,
                    lines: &mut [$crate::arch::KvLine],
                    pos: usize,
                    key: &[f32],
                    value: &[f32]
                ) = kv::store_kv;
                fn round_query(query: &[f32], codes: &mut [i16]) -> f32 = kv::round_query;
                fn attend_chunk(
                    chunk: $crate::arch::KvChunk<'_>,
                    queries: $crate::arch::Queries<'_>,
                    softmax: &mut [$crate::arch::Softmax],
                    out: &mut [f32]
                ) = attend::attend_chunk;
                fn join_chunks(parts: &[f32], heads: usize, out: &mut [f32]) = softmax::join_chunks;
                fn divide(x: &mut [f32], by: f32) = softmax::divide;
                fn decode(row: $crate::arch::TableRows<'_>, out: &mut [f32]) = table::decode;
                fn sketch(
                    row: &[f32], codes: &mut [u8], steps: &mut [u8]
                ) -> $crate::arch::RowSketch = sketch::sketch;
                fn prefetch(bytes: &[u8]) = sketch::prefetch;
                fn project(table: $crate::arch::TableRows<'_>, x: &[f32], out: &mut [f32]) = table::project;
            }
        }
    };
    (@each $isa:ty, $features:literal,
        $(fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = $module:ident::$algorithm:ident;)*
    ) => {$(
        fn $name(&self, $($arg: $ty),*) $(-> $ret)? {
            #[target_feature(enable = $features)]
            fn instance(isa: $isa, $($arg: $ty),*) $(-> $ret)? {
                $crate::arch::generic::$module::$algorithm(isa, $($arg),*)
            }
            // SAFETY: a value of this type exists only where its `detect` saw these features.
            unsafe { instance(*self, $($arg),*) }
        }
    )*};
}
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "simd128")
))]
pub(in crate::arch) use float_ops;
