//! Sums of code × activation.

use super::Avx512Vnni;
use crate::arch::{Activations, IntegerOps, Panels, scalar::Scalar};

impl IntegerOps for Avx512Vnni {
    fn gemv(&self, panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
        Scalar::new().gemv(panels, x, out);
    }

    fn gemm(&self, panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
        Scalar::new().gemm(panels, x, out);
    }
}
