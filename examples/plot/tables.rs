//! The tables of docs/speed.md.

use std::fmt::Write;

use support::Result;
use support::record::Row;
use support::speed_model::SpeedModel;

use crate::select::{Record, load, plain};

/// Bandwidths that the model is asked about, in GB/s.
pub(crate) const BANDWIDTHS: [f64; 4] = [50.0, 100.0, 400.0, 800.0];

/// What stands for a table without rows.
const NOTHING: &str = "Not enough measurements yet.\n";

/// `text` with its tables drawn anew.
pub(crate) fn fill(text: &str, record: &Record) -> Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<!-- table: ") {
        let (name, after) = after.split_once(" -->").ok_or("docs/speed.md: a table's comment does not end")?;
        let (_, after) = after
            .split_once("<!-- end -->")
            .ok_or_else(|| format!("docs/speed.md: table {name} has no <!-- end -->"))?;
        let table = match name {
            "decode" if record.rows("decode").next().is_some() => decode(record),
            "prefill" if record.rows("prefill").next().is_some() => prefill(record),
            "decode" | "prefill" => NOTHING.into(),
            "model" => model(record),
            "machines" => machines(record),
            _ => return Err(format!("docs/speed.md: there is no table {name}").into()),
        };
        write!(filled, "{before}<!-- table: {name} -->\n\n{table}\n<!-- end -->")?;
        rest = after;
    }
    Ok(filled + rest)
}

fn decode(record: &Record) -> String {
    let mut table =
        head("shape | CPU | instruction set | threads | layout | head | KV | MB per token | tokens/s | of ceiling");
    for r in record.rows("decode") {
        let Row { shape, isa, threads, layout, head, kv, kv_type, .. } = r;
        let cpu = plain(&r.cpu);
        let kv = if *kv == 0 { "0".into() } else { format!("{kv} × {kv_type}") };
        let mb = r.bytes() / 1e6;
        let setup = format!("{shape} | {cpu} | {isa} | {threads} | {layout} | {head} | {kv}");
        line(&mut table, &format!("{setup} | {mb:.0} | {}", figures(r)));
    }
    table
}

fn prefill(record: &Record) -> String {
    let mut table = head("shape | CPU | instruction set | threads | layout | prompt | tokens/s | of ceiling");
    for r in record.rows("prefill") {
        let Row { shape, isa, threads, layout, tokens, .. } = r;
        let cpu = plain(&r.cpu);
        line(&mut table, &format!("{shape} | {cpu} | {isa} | {threads} | {layout} | {tokens} | {}", figures(r)));
    }
    table
}

/// Speed and share, with spreads.
fn figures(r: &Row) -> String {
    format!(
        "{} ± {} | {:.1} ± {:.1} % of {:.1} {}",
        digits(r.tokens_per_s),
        digits(r.spread),
        100.0 * r.share,
        100.0 * r.share_spread,
        r.ceiling,
        r.unit
    )
}

fn model(record: &Record) -> String {
    let tables: Vec<String> = record.cpus().into_iter().filter_map(|cpu| model_on(record, cpu)).collect();
    if tables.is_empty() { NOTHING.into() } else { tables.join("\n") }
}

fn model_on(record: &Record, cpu: &str) -> Option<String> {
    let (model, rows) = record.model(cpu)?;
    let mut table = format!(
        "{}, fitted to {} measurements ({}, {} threads, {} weights): {}.\n\n",
        plain(cpu),
        rows.len(),
        rows[0].isa,
        rows[0].threads,
        rows[0].layout,
        constants(&model)
    );
    table += &head("shape | head | KV | MB per token | at GB/s | predicted | measured | error");
    for r in rows {
        let predicted = model.tokens_per_s(load(r));
        let Row { shape, head, kv, kv_type, .. } = r;
        let kv = if *kv == 0 { "0".into() } else { format!("{kv} × {kv_type}") };
        let row = format!(
            "{shape} | {head} | {kv} | {:.0} | {:.1} | {} | {} | {:+.1} %",
            r.bytes() / 1e6,
            r.ceiling,
            digits(predicted),
            digits(r.tokens_per_s),
            100.0 * (predicted / r.tokens_per_s - 1.0)
        );
        line(&mut table, &row);
    }
    Some(table)
}

/// The model's constants in words.
fn constants(model: &SpeedModel) -> String {
    let core = if model.core_gb_per_s.is_finite() {
        format!("a core gets through {:.1} GB/s", model.core_gb_per_s)
    } else {
        "cores never the limit".into()
    };
    format!("efficiency {:.1} %, {core}, {:.1} µs per layer", 100.0 * model.efficiency, 1e6 * model.layer_s)
}

fn machines(record: &Record) -> String {
    let Some((best, shapes)) = record.predicted_shapes() else { return NOTHING.into() };
    let Some((model, _)) = record.model(&best.cpu) else { return NOTHING.into() };
    let mut table = format!(
        "By the constants of {}; {} weights, {} head, from an empty cache; tokens/s.\n\n",
        plain(&best.cpu),
        best.layout,
        best.head
    );
    let columns: Vec<String> = BANDWIDTHS.iter().map(|gb| format!("{gb:.0} GB/s")).collect();
    table += &head(&format!("shape | MB per token | {}", columns.join(" | ")));
    for shape in shapes {
        let speeds = BANDWIDTHS.iter().map(|gb| digits(model.tokens_per_s(shape.on(*gb))));
        let speeds = speeds.collect::<Vec<_>>().join(" | ");
        line(&mut table, &format!("{} | {:.0} | {speeds}", shape.name, shape.bytes / 1e6));
    }
    let cores = BANDWIDTHS.iter().map(|gb| model.cores_for(*gb).map_or("?".into(), |cores| cores.to_string()));
    line(&mut table, &format!("cores of this kind to keep up | | {}", cores.collect::<Vec<_>>().join(" | ")));
    table
}

/// About three digits.
pub(crate) fn digits(x: f64) -> String {
    if x >= 99.95 {
        format!("{x:.0}")
    } else if x >= 9.995 {
        format!("{x:.1}")
    } else {
        format!("{x:.2}")
    }
}

fn head(columns: &str) -> String {
    let rule = "|---".repeat(columns.split(" | ").count());
    format!("| {columns} |\n{rule}|\n")
}

fn line(table: &mut String, cells: &str) {
    table.push_str(&format!("| {cells} |\n"));
}
