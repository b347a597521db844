//! How fast a shape decodes on a machine, from three constants.
//!
//! ```text
//!                              bytes                     bytes
//! seconds per token = max( ──────────────────────, ──────────────── )  +  layers · seconds per layer
//!                          bandwidth · efficiency   threads · core
//! ```
//!
//! The first term is the stream of all weights, keys and values: at the share
//! of the read bandwidth that the kernels sustain, or, where memory is faster
//! than the cores, at what each core gets through. The second is what does not
//! stream: handing regions to the threads, norms, rotations, the start of each
//! region. The constants are fitted to measurements of several shapes, small
//! ones for the second term and large ones for the first.

/// The constants, of one processor, instruction set and layout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpeedModel {
    /// Share of the read bandwidth while weights stream.
    pub efficiency: f64,
    /// GB/s of weights that one core gets through; infinite if memory was
    /// always slower.
    pub core_gb_per_s: f64,
    /// Seconds per transformer block in which nothing streams.
    pub layer_s: f64,
}

/// What a token takes, of a machine and of a model.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Bytes per token.
    pub bytes: f64,
    /// Transformer blocks.
    pub layers: usize,
    /// The machine's read bandwidth.
    pub gb_per_s: f64,
    /// Cores at work; `None` for as many as it takes.
    pub threads: Option<usize>,
}

impl SpeedModel {
    /// The constants that minimise the squared relative errors of the predicted
    /// times of measurements, which are loads with tokens per second. `None`
    /// where all have one shape and so do not tell the terms apart.
    pub fn fit(measured: &[(Load, f64)]) -> Option<Self> {
        let layers = |(load, _): &(Load, f64)| load.layers as f64 / load.bytes;
        let (low, high) =
            measured.iter().map(layers).fold((f64::MAX, 0.0), |(a, b), x| (f64::min(a, x), f64::max(b, x)));
        if measured.is_empty() || high < 1.1 * low {
            return None;
        }
        let candidates = |core: f64| (60..=200).map(move |e| (f64::from(e) / 200.0, core));
        // No limit first: one that does not explain more is not there.
        let cores = std::iter::once(f64::INFINITY).chain((0..240).rev().map(|i| 3.0 * 1.02f64.powi(i)));
        let mut best: Option<(f64, Self)> = None;
        for (efficiency, core_gb_per_s) in cores.flat_map(candidates) {
            let model = Self { efficiency, core_gb_per_s, layer_s: 0.0 }.with_best_layer_s(measured);
            let error: f64 = measured.iter().map(|(load, speed)| (model.seconds(*load) * speed - 1.0).powi(2)).sum();
            if best.is_none_or(|(least, _)| error < 0.98 * least - 1e-9) {
                best = Some((error, model));
            }
        }
        best.map(|(_, model)| model)
    }

    /// The same with the time per layer that fits best, given the rest: least squares in one unknown.
    fn with_best_layer_s(self, measured: &[(Load, f64)]) -> Self {
        let stream = Self { layer_s: 0.0, ..self };
        let (mut xx, mut xy) = (0.0, 0.0);
        for (load, speed) in measured {
            let x = load.layers as f64 * speed;
            xx += x * x;
            xy += x * (1.0 - stream.seconds(*load) * speed);
        }
        Self { layer_s: f64::max(xy / xx, 0.0), ..self }
    }

    fn seconds(&self, load: Load) -> f64 {
        let cores = load.threads.map_or(f64::INFINITY, |threads| threads as f64 * self.core_gb_per_s);
        let gb_per_s = f64::min(load.gb_per_s * self.efficiency, cores);
        load.bytes / (gb_per_s * 1e9) + load.layers as f64 * self.layer_s
    }

    /// Predicted speed.
    pub fn tokens_per_s(&self, load: Load) -> f64 {
        1.0 / self.seconds(load)
    }

    /// Cores that it takes to keep up with a memory of `gb_per_s`; `None` if
    /// the measurements did not show what one can do.
    pub fn cores_for(&self, gb_per_s: f64) -> Option<usize> {
        let cores = gb_per_s * self.efficiency / self.core_gb_per_s;
        (cores > 0.0).then(|| cores.ceil() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measurements of a machine with these constants, one of them behind a faster memory.
    fn measured(truth: SpeedModel) -> Vec<(Load, f64)> {
        [(50e6, 12, 34.0), (260e6, 24, 55.0), (1.2e9, 30, 33.0), (1.2e9, 30, 60.0), (3e9, 32, 40.0)]
            .map(|(bytes, layers, gb_per_s)| Load { bytes, layers, gb_per_s, threads: Some(2) })
            .map(|load| (load, truth.tokens_per_s(load)))
            .to_vec()
    }

    fn near(a: f64, b: f64) -> bool {
        a == b || (a / b - 1.0).abs() < 0.05
    }

    #[test]
    fn the_constants_are_found_again() {
        for core_gb_per_s in [f64::INFINITY, 22.0] {
            let truth = SpeedModel { efficiency: 0.9, core_gb_per_s, layer_s: 20e-6 };
            let found = SpeedModel::fit(&measured(truth)).unwrap();
            assert!(near(found.efficiency, truth.efficiency), "{found:?}");
            assert!(near(found.core_gb_per_s, truth.core_gb_per_s), "{found:?}");
            assert!(near(found.layer_s, truth.layer_s), "{found:?}");
        }
    }

    #[test]
    fn one_shape_does_not_tell_the_terms_apart() {
        let truth = SpeedModel { efficiency: 0.9, core_gb_per_s: f64::INFINITY, layer_s: 20e-6 };
        assert_eq!(SpeedModel::fit(&[]), None);
        assert_eq!(SpeedModel::fit(&[measured(truth)[0]; 3]), None);
    }

    #[test]
    fn enough_cores_are_as_many_as_stream_what_memory_gives() {
        let model = SpeedModel { efficiency: 0.9, core_gb_per_s: 20.0, layer_s: 0.0 };
        assert_eq!(model.cores_for(100.0), Some(5));
        assert_eq!(SpeedModel { core_gb_per_s: f64::INFINITY, ..model }.cores_for(100.0), None);
    }
}
