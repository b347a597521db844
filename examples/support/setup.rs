//! What a measurement depends on, as the record's columns have it.

use std::path::Path;

use tritwise::Model;
use tritwise::kernels::Backend;

use crate::machine::cpu_name;
use crate::measure::{Measured, Test};
use crate::record::{Row, commit, now};
use crate::shapes::SHAPES;

/// The columns that all measurements of `model`, opened from `path`, share.
pub fn columns(model: &Model, path: &Path, peak_rss: Option<u64>) -> Row {
    let (network, config) = (model.network(), model.config());
    let shape = SHAPES.iter().find(|shape| shape.is(config)).map(|shape| shape.name.to_owned());
    let ternary_weights = config.layers as u64 * config.layer_parameters();
    let head_bits = 8.0 * network.head_bytes() as f64 / (config.vocab * config.hidden) as f64;
    let positions = 1024;
    let numbers = 2 * positions * config.layers * config.kv_heads * config.head_dim;
    let kv_bits = 8.0 * network.backend().cache_bytes(config, positions) as f64 / numbers as f64;
    Row {
        date: now(),
        commit: commit(),
        cpu: cpu_name().unwrap_or_else(|| "unknown".into()),
        threads: model.threads(),
        isa: model.isa().into(),
        layout: network.backend().layout().name().into(),
        head: named(head_bits, &[(7.0, "q6_k"), (9.0, "q8_0"), (17.0, "f16"), (33.0, "f32")]),
        kv_type: named(kv_bits, &[(12.0, "int8"), (24.0, "f16"), (48.0, "f32")]),
        shape: shape.unwrap_or_else(|| path.file_stem().map_or("?".into(), |stem| stem.to_string_lossy().into_owned())),
        layers: config.layers,
        ternary_weights,
        test: String::new(),
        tokens: 0,
        kv: 0,
        n: 0,
        tokens_per_s: 0.0,
        spread: 0.0,
        ceiling: 0.0,
        unit: String::new(),
        share: 0.0,
        share_spread: 0.0,
        ternary_bytes: network.matrix_bytes() as u64,
        head_bytes: network.head_bytes() as u64,
        kv_bytes: 0,
        rows_refined: None,
        load_s: round(model.load_time().as_secs_f64()),
        peak_rss_mb: peak_rss.map(|bytes| bytes / 1_000_000),
    }
}

/// The name of the first limit that a number of bits is below.
fn named(bits: f64, limits: &[(f64, &str)]) -> String {
    limits.iter().find(|(limit, _)| bits < *limit).map_or_else(|| format!("{bits:.2}-bit"), |(_, name)| (*name).into())
}

/// The row of a measurement.
pub fn row(setup: &Row, measured: &Measured) -> Row {
    let (test, unit) = match measured.test {
        Test::Prefill => ("prefill", "GMAC/s"),
        Test::Decode => ("decode", "GB/s"),
    };
    let screened = if measured.head.screened > 0 { "-screened" } else { "" };
    Row {
        head: format!("{}{screened}", setup.head),
        head_bytes: measured.head.bytes as u64,
        rows_refined: (measured.head.screened > 0).then_some(measured.head.refined as f64),
        test: test.into(),
        tokens: measured.tokens,
        kv: measured.kv,
        n: measured.n,
        tokens_per_s: round(measured.tokens_per_s.median),
        spread: round(measured.tokens_per_s.spread),
        ceiling: round(measured.ceiling.median),
        unit: unit.into(),
        share: round(measured.share.median),
        share_spread: round(measured.share.spread),
        kv_bytes: measured.kv_bytes as u64,
        ..setup.clone()
    }
}

/// To four decimals: more would be noise.
fn round(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}
