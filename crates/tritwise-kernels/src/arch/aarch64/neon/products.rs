//! Two ways to multiply bytes, alike in use, from which kernels are made twice.
//!
//! Either adds products of sixteen codes, in four lanes of four, to the lanes' sums. With [`sdot`] a
//! lane's sum is one of 32 bits. With [`smlal`] it is four of 16 bits, one for each of its bytes,
//! which hold some steps only and are then added up in 32 bits.

/// `smlal` of NEON: 16-bit products of eight bytes.
pub(super) mod smlal {
    use std::arch::aarch64::*;

    /// Sums of four lanes: the first two, the last two.
    pub(crate) type Sums = [int16x8_t; 2];

    /// Steps that sums bear, if a product is at most `product`: each adds one.
    pub(crate) const fn steps(product: i32) -> usize {
        (i16::MAX as i32 / product) as usize
    }

    #[target_feature(enable = "neon")]
    #[inline]
    pub(crate) fn zero() -> Sums {
        [vdupq_n_s16(0); 2]
    }

    /// Adds each byte of `codes` times that of `x`.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(crate) fn dot(sums: Sums, codes: int8x16_t, x: int8x16_t) -> Sums {
        [vmlal_s8(sums[0], vget_low_s8(codes), vget_low_s8(x)), vmlal_high_s8(sums[1], codes, x)]
    }

    /// Adds the four bytes of each lane times those of word `WORD` of `x`.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(crate) fn dot_word<const WORD: i32>(sums: Sums, codes: int8x16_t, x: int8x16_t) -> Sums {
        let word = vdupq_laneq_s32::<WORD>(vreinterpretq_s32_s8(x));
        dot(sums, codes, vreinterpretq_s8_s32(word))
    }

    /// The lanes' sums.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(crate) fn widen(sums: Sums) -> int32x4_t {
        vpaddq_s32(vpaddlq_s16(sums[0]), vpaddlq_s16(sums[1]))
    }
}

/// `sdot` of FEAT_DotProd: sums of four products.
pub(super) mod sdot {
    use std::arch::aarch64::*;
    use std::arch::asm;

    /// Sums of four lanes.
    pub(crate) type Sums = int32x4_t;

    /// Steps that sums bear, if a product is at most `product`: each adds four.
    pub(crate) const fn steps(product: i32) -> usize {
        (i32::MAX / (4 * product)) as usize
    }

    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    pub(crate) fn zero() -> Sums {
        vdupq_n_s32(0)
    }

    /// Adds each byte of `codes` times that of `x`.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    pub(crate) fn dot(mut sums: Sums, codes: int8x16_t, x: int8x16_t) -> Sums {
        // SAFETY: an instruction of these features, on registers alone.
        unsafe {
            asm!(
                "sdot {sums:v}.4s, {codes:v}.16b, {x:v}.16b",
                sums = inlateout(vreg) sums,
                codes = in(vreg) codes,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sums
    }

    /// Adds the four bytes of each lane times those of word `WORD` of `x`.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    pub(crate) fn dot_word<const WORD: i32>(mut sums: Sums, codes: int8x16_t, x: int8x16_t) -> Sums {
        // SAFETY: an instruction of these features, on registers alone.
        unsafe {
            asm!(
                "sdot {sums:v}.4s, {codes:v}.16b, {x:v}.4b[{word}]",
                sums = inlateout(vreg) sums,
                codes = in(vreg) codes,
                x = in(vreg) x,
                word = const WORD,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sums
    }

    /// The lanes' sums.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    pub(crate) fn widen(sums: Sums) -> int32x4_t {
        sums
    }
}
