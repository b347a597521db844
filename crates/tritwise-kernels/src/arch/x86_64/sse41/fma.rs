//! Fused multiply-add on CPUs that have none: in binary64, rounded to odd, then to binary32.
//!
//! For finite `a`, `b` and `c`:
//!
//! 1. `a · b` has at most 24 + 24 significant bits and an exponent far inside binary64's, so the product is exact there.
//! 2. `sum = RN(product + c)`, and TwoSum (Knuth, *The Art of Computer Programming* 2, 4.2.2, theorem B) gives
//!    `error` with `product + c = sum + error`, exactly: nothing overflows, because all is below 2²⁵⁷.
//! 3. Where `error` is not zero, `product + c` lies strictly between two neighbours in binary64, one of which has an odd last bit, and
//!    *rounding to odd* gives that one. It is the nearer neighbour towards zero with its last bit set: `sum` itself
//!    lies towards zero if `error` has its sign, and else the number before it does, whose bits are an integer
//!    less by one. (`sum` is not zero then, because sums too small to be normal are exact.)
//! 4. The result is that number rounded to nearest binary32. Rounding first to odd with `p + k` bits and then to nearest with `p`
//!    is rounding to nearest once, if k ≥ 2 and the wider format's smallest exponent is lower by 2 at least (Boldo and Melquiond,
//!    *Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd*, IEEE Transactions on
//!    Computers 57(4), 2008, theorem 1): a number that is odd in its 53rd bit is neither representable nor a midpoint in 24 bits, so it
//!    stays on the side of every midpoint on which `product + c` was. This holds for the 29 bits between the formats, for subnormal
//!    results, which have fewer than 24, and for overflow, whose threshold is a midpoint too.
//!
//! Zeros: a product or a sum that is zero has the sign that IEEE 754 gives it in a fused operation, because both
//! are exact here. Infinities and NaN come out of `sum`; `error` is NaN then, which counts as zero.

use std::arch::x86_64::*;

/// `a · b + c` of sixteen lanes, rounded once.
///
/// Out of line: it is some 160 instructions, and the algorithms ask for it in a thousand places.
#[target_feature(enable = "ssse3,sse4.1")]
#[inline(never)]
pub(super) fn fma(a: [__m128; 4], b: [__m128; 4], c: [__m128; 4]) -> [__m128; 4] {
    [
        fma_quarter(a[0], b[0], c[0]),
        fma_quarter(a[1], b[1], c[1]),
        fma_quarter(a[2], b[2], c[2]),
        fma_quarter(a[3], b[3], c[3]),
    ]
}

#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn fma_quarter(a: __m128, b: __m128, c: __m128) -> __m128 {
    let low = fma_pair(_mm_cvtps_pd(a), _mm_cvtps_pd(b), _mm_cvtps_pd(c));
    let (a, b, c) = (_mm_movehl_ps(a, a), _mm_movehl_ps(b, b), _mm_movehl_ps(c, c));
    let high = fma_pair(_mm_cvtps_pd(a), _mm_cvtps_pd(b), _mm_cvtps_pd(c));
    _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high))
}

/// `a · b + c` of numbers that binary32 has, rounded to odd.
#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn fma_pair(a: __m128d, b: __m128d, c: __m128d) -> __m128d {
    let product = _mm_mul_pd(a, b);
    let sum = _mm_add_pd(product, c);
    let of_c = _mm_sub_pd(sum, product);
    let of_product = _mm_sub_pd(sum, of_c);
    let error = _mm_add_pd(_mm_sub_pd(product, of_product), _mm_sub_pd(c, of_c));

    // False for NaN.
    let inexact = _mm_cmpgt_pd(_mm_andnot_pd(_mm_set1_pd(-0.0), error), _mm_setzero_pd());
    let one = _mm_srli_epi64::<63>(_mm_castpd_si128(inexact));
    let signs_differ = _mm_srli_epi64::<63>(_mm_castpd_si128(_mm_xor_pd(sum, error)));
    let toward_zero = _mm_sub_epi64(_mm_castpd_si128(sum), _mm_and_si128(signs_differ, one));
    _mm_castsi128_pd(_mm_or_si128(toward_zero, one))
}
