//! How fast a shape decodes on a machine, from two constants.
//!
//! ```text
//! seconds per token = bytes / (bandwidth · efficiency) + layers · seconds per layer
//! ```
//!
//! The first term is the memory: all weights and all keys and values, once,
//! at the share of the read bandwidth that the kernels sustain. The second is
//! what does not read: handing regions to the threads, norms, rotations, the
//! first lines of each region. Both constants are fitted to measurements of
//! several shapes, small ones for the second and large ones for the first.

/// The two constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpeedModel {
    /// Share of the read bandwidth while weights stream.
    pub efficiency: f64,
    /// Seconds per transformer block in which nothing streams.
    pub layer_s: f64,
}

/// One measured decoding speed.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Bytes per token.
    pub bytes: f64,
    /// The read bandwidth at the time.
    pub gb_per_s: f64,
    /// Transformer blocks.
    pub layers: usize,
    /// The speed.
    pub tokens_per_s: f64,
}

impl SpeedModel {
    /// The constants that minimise the squared relative errors of the points'
    /// times. `None` if the points do not tell the two terms apart.
    pub fn fit(points: &[Point]) -> Option<Self> {
        // Times over the measured time: 1 = a · x + b · y, least squares.
        let terms = points.iter().map(|p| {
            let (x, y) = (p.bytes / (p.gb_per_s * 1e9), p.layers as f64);
            (x * p.tokens_per_s, y * p.tokens_per_s)
        });
        let sum = |f: &dyn Fn(f64, f64) -> f64| terms.clone().map(|(x, y)| f(x, y)).sum::<f64>();
        let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
        let (x, y) = (sum(&|x, _| x), sum(&|_, y| y));
        let determinant = xx * yy - xy * xy;
        if points.len() < 2 || determinant <= 1e-9 * xx * yy {
            return None;
        }
        let (a, b) = ((x * yy - y * xy) / determinant, (y * xx - x * xy) / determinant);
        // A negative time is no time.
        let (a, b) = if b < 0.0 { (x / xx, 0.0) } else { (a, b) };
        (a > 0.0).then_some(Self { efficiency: 1.0 / a, layer_s: b })
    }

    /// Predicted speed of a shape that reads `bytes` per token.
    pub fn tokens_per_s(&self, bytes: f64, layers: usize, gb_per_s: f64) -> f64 {
        1.0 / (bytes / (gb_per_s * 1e9 * self.efficiency) + layers as f64 * self.layer_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUE: SpeedModel = SpeedModel { efficiency: 0.9, layer_s: 20e-6 };

    fn point(bytes: f64, layers: usize, gb_per_s: f64) -> Point {
        Point { bytes, gb_per_s, layers, tokens_per_s: TRUE.tokens_per_s(bytes, layers, gb_per_s) }
    }

    #[test]
    fn the_constants_are_found_again() {
        let points = [point(50e6, 12, 34.0), point(260e6, 24, 55.0), point(1.2e9, 30, 33.0), point(3e9, 32, 40.0)];
        let found = SpeedModel::fit(&points).unwrap();
        assert!((found.efficiency - TRUE.efficiency).abs() < 1e-9, "{found:?}");
        assert!((found.layer_s - TRUE.layer_s).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn one_shape_does_not_tell_the_terms_apart() {
        assert_eq!(SpeedModel::fit(&[]), None);
        assert_eq!(SpeedModel::fit(&[point(1e9, 30, 34.0); 3]), None);
    }
}
