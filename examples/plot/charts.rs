//! The plots, each a function from the record to an SVG.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use support::Result;
use support::record::Row;

use crate::canvas::{FAINT, INK, PALETTE, page, text};
use crate::select::{Predicted, Record, load, plain};
use crate::tables::{BANDWIDTHS, digits as speed};

/// All plots for which there are rows, by name.
pub(crate) fn all(record: &Record) -> Result<Vec<(String, String)>> {
    let mut plots = vec![
        ("kv".to_owned(), kv(record)?),
        ("bytes".to_owned(), bytes(record)?),
        ("model".to_owned(), model(record)?),
        ("machines".to_owned(), machines(record)?),
    ];
    for (cpu, test) in record.cpus().into_iter().flat_map(|cpu| [(cpu, "decode"), (cpu, "prefill")]) {
        let name = format!("{test}-{}", plain(cpu).to_lowercase().replace(' ', "-"));
        plots.push((name, shares(record, cpu, test)?));
    }
    Ok(plots.into_iter().filter_map(|(name, svg)| Some((name, svg?))).collect())
}

/// Bars of every shape's share of its ceiling on a processor, one per instruction set and number of threads.
fn shares(record: &Record, cpu: &str, test: &str) -> Result<Option<String>> {
    let rows = record.fastest(cpu, test);
    let shapes = distinct(rows.iter().map(|row| row.shape.clone()));
    let series = |row: &Row| format!("{}, {}", row.isa, threads(row.threads));
    let mut legend = distinct(rows.iter().map(|row| series(row)));
    legend.sort();
    if rows.is_empty() {
        return Ok(None);
    }
    let (title, subtitle) = if test == "decode" {
        (
            format!("{}, decoding: share of the memory's read bandwidth (higher is better)", plain(cpu)),
            "Bar: bytes read per second over the bandwidth measured in the same run. Above it: tokens per second.",
        )
    } else {
        (
            format!("{}, reading a prompt: share of the int8 peak (higher is better)", plain(cpu)),
            "Bar: multiply-adds of the ternary weights over the peak measured in the same run. Above it: tokens per second.",
        )
    };
    let colors: Vec<_> = legend.iter().cloned().zip(PALETTE).collect();
    let svg = page(&title, subtitle, &colors, |root, body| {
        let width = shapes.len() as f64;
        let mut chart = ChartBuilder::on(body)
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..width, 0.0..1.15)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .y_labels(12)
            .y_label_formatter(&|y| format!("{:.0} %", 100.0 * y))
            .label_style(("sans-serif", 14).into_font().color(&INK))
            .draw()?;
        let bar = 0.8 / legend.len() as f64;
        for row in &rows {
            let group = shapes.iter().position(|shape| *shape == row.shape).unwrap_or(0) as f64;
            let place = legend.iter().position(|name| *name == series(row)).unwrap_or(0);
            let left = group + 0.1 + bar * place as f64;
            let (from, to) = (left + 0.06 * bar, left + 0.94 * bar);
            chart.draw_series([Rectangle::new(
                [(from, 0.0), (to, row.share)],
                PALETTE[place % PALETTE.len()].filled(),
            )])?;
            let middle = (from + to) / 2.0;
            let (low, high) = (row.share - row.share_spread, row.share + row.share_spread);
            chart.draw_series([PathElement::new(vec![(middle, low), (middle, high)], INK.stroke_width(1))])?;
            let (x, y) = chart.backend_coord(&(middle, high));
            text(root, &speed(row.tokens_per_s), (x, y - 17), 13, INK, HPos::Center)?;
        }
        for (i, shape) in shapes.iter().enumerate() {
            let (x, y) = chart.backend_coord(&(i as f64 + 0.5, 0.0));
            text(root, shape, (x, y + 8), 15, INK, HPos::Center)?;
            let of_shape = rows.iter().filter(|row| row.shape == *shape);
            let layouts = distinct(of_shape.map(|row| match test {
                "decode" => format!("{} + {}", row.layout, row.head),
                _ => format!("{}, prompt of {}", row.layout, row.tokens),
            }));
            text(root, &layouts.join(", "), (x, y + 28), 12, INK, HPos::Center)?;
        }
        chart.draw_series(DashedLineSeries::new([(0.0, 1.0), (width, 1.0)], 6, 4, INK.stroke_width(1)))?;
        let (x, y) = chart.backend_coord(&(width, 1.0));
        text(root, "ceiling", (x - 4, y - 17), 13, INK, HPos::Right)
    })?;
    Ok(Some(svg))
}

/// Decoding speed by the length of the past, with its ceiling.
fn kv(record: &Record) -> Result<Option<String>> {
    let rows = record.one_shape();
    let series = |row: &Row| format!("{} cache, {} + {}", row.kv_type, row.layout, row.head);
    let mut names = distinct(rows.iter().map(|row| series(row)));
    names.retain(|name| rows.iter().filter(|row| series(row) == *name).count() > 1);
    let Some(first) = rows.first().filter(|_| !names.is_empty()) else { return Ok(None) };
    let longest = rows.iter().map(|row| row.kv).max().unwrap_or(0) as f64;
    let top = rows.iter().map(|row| row.ceiling_tokens_per_s().max(row.tokens_per_s)).fold(0.0, f64::max) * 1.1;
    let colors: Vec<_> = names.iter().cloned().zip(PALETTE).collect();
    let title = format!("{}: decoding behind a long text (higher is better)", first.shape);
    let subtitle = format!(
        "{}, {}, {}. Solid: measured, with standard deviation. Dashed: bandwidth of the same run over the bytes per token.",
        plain(&first.cpu),
        first.isa,
        threads(first.threads)
    );
    let svg = page(&title, &subtitle, &colors, |_, body| {
        let mut chart = ChartBuilder::on(body)
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..longest * 1.03, 0.0..top)?;
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .x_desc("tokens in the cache")
            .y_desc("tokens per second")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .label_style(("sans-serif", 14).into_font().color(&INK))
            .draw()?;
        for (name, color) in &colors {
            let mut of: Vec<&&Row> = rows.iter().filter(|row| series(row) == *name).collect();
            of.sort_by_key(|row| row.kv);
            let measured = of.iter().map(|row| (row.kv as f64, row.tokens_per_s));
            let ceiling = of.iter().map(|row| (row.kv as f64, row.ceiling_tokens_per_s()));
            chart.draw_series(LineSeries::new(measured.clone(), color.stroke_width(2)))?;
            chart.draw_series(measured.map(|at| Circle::new(at, 4, color.filled())))?;
            chart.draw_series(of.iter().map(|row| {
                let (x, y, spread) = (row.kv as f64, row.tokens_per_s, row.spread);
                PathElement::new(vec![(x, y - spread), (x, y + spread)], color.stroke_width(1))
            }))?;
            chart.draw_series(DashedLineSeries::new(ceiling, 6, 4, color.stroke_width(1)))?;
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

/// What a token reads in each layout and with each head, and what came of it.
fn bytes(record: &Record) -> Result<Option<String>> {
    let mut rows: Vec<&Row> = record.one_shape().into_iter().filter(|row| row.kv == 0).collect();
    rows.sort_by(|a, b| b.bytes().total_cmp(&a.bytes()));
    let Some(first) = rows.first() else { return Ok(None) };
    let longest = first.bytes() / 1e6;
    let parts = ["ternary matrices", "output head", "keys and values"];
    let legend: Vec<_> = parts.iter().map(|part| (*part).to_owned()).zip(PALETTE).collect();
    let title = format!("{}: memory read per token (less is better)", first.shape);
    let machine = format!("{}, {}, {}", plain(&first.cpu), first.isa, threads(first.threads));
    let subtitle = format!("{machine}. Beside the bars: speed, and its share of the ceiling.");
    let svg = page(&title, &subtitle, &legend, |root, body| {
        let mut chart = ChartBuilder::on(body)
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(200)
            .build_cartesian_2d(0.0..longest * 1.5, 0.0..rows.len() as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .x_desc("MB (10⁶ bytes)")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .label_style(("sans-serif", 14).into_font().color(&INK))
            .draw()?;
        for (i, row) in rows.iter().enumerate() {
            let middle = rows.len() as f64 - i as f64 - 0.5;
            let half = 0.32;
            let mut from = 0.0;
            for (part, color) in [row.ternary_bytes, row.head_bytes, row.kv_bytes].into_iter().zip(PALETTE) {
                let to = from + part as f64 / 1e6;
                chart.draw_series([Rectangle::new([(from, middle - half), (to, middle + half)], color.filled())])?;
                from = to;
            }
            let (x, y) = chart.backend_coord(&(from, middle));
            let mut beside = format!("{from:.0} MB, {} tokens/s", speed(row.tokens_per_s));
            beside += &format!(" ({:.0} % of {})", 100.0 * row.share, speed(row.ceiling_tokens_per_s()));
            text(root, &beside, (x + 8, y - 8), 13, INK, HPos::Left)?;
            let (x, y) = chart.backend_coord(&(0.0, middle));
            let name = format!("{} + {} head", row.layout, row.head);
            text(root, &name, (x - 8, y - 15), 14, INK, HPos::Right)?;
            text(root, &format!("{} cache", row.kv_type), (x - 8, y + 3), 12, INK, HPos::Right)?;
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

/// What the speed model says beside what was measured.
fn model(record: &Record) -> Result<Option<String>> {
    let models = record.cpus().into_iter().filter_map(|cpu| Some((cpu, record.model(cpu)?)));
    let mut legend = Vec::new();
    let mut pairs = Vec::new();
    for ((cpu, (model, rows)), color) in models.zip(PALETTE) {
        legend.push((format!("{}, {}, {}", plain(cpu), rows[0].isa, threads(rows[0].threads)), color));
        pairs.extend(rows.iter().map(|row| (row.tokens_per_s, model.tokens_per_s(load(row)), color)));
    }
    if pairs.is_empty() {
        return Ok(None);
    }
    let all = || pairs.iter().flat_map(|(x, y, _)| [*x, *y]);
    let (low, high) = (all().fold(f64::MAX, f64::min) / 1.3, all().fold(0.0, f64::max) * 1.3);
    let subtitle = "Solid: equal. Dashed: ±10 %.";
    let svg = page("Decoding speed, predicted and measured", subtitle, &legend, |_, body| {
        let mut chart = ChartBuilder::on(body)
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d((low..high).log_scale(), (low..high).log_scale())?;
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .x_labels(12)
            .y_labels(12)
            .x_desc("measured tokens per second")
            .y_desc("predicted tokens per second")
            .x_label_formatter(&|x| speed(*x))
            .y_label_formatter(&|y| speed(*y))
            .label_style(("sans-serif", 14).into_font().color(&INK))
            .draw()?;
        chart.draw_series(LineSeries::new([(low, low), (high, high)], INK.stroke_width(1)))?;
        for factor in [0.9, 1.1] {
            let line = [
                (low.max(low / factor), low.max(low / factor) * factor),
                (high.min(high / factor), high.min(high / factor) * factor),
            ];
            chart.draw_series(DashedLineSeries::new(line, 6, 4, INK.stroke_width(1)))?;
        }
        for (measured, predicted, color) in &pairs {
            chart.draw_series([Circle::new((*measured, *predicted), 5, color.filled())])?;
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

/// The model's answer for other machines.
fn machines(record: &Record) -> Result<Option<String>> {
    let Some((best, shapes)) = record.predicted_shapes() else { return Ok(None) };
    let Some((model, _)) = record.model(&best.cpu) else { return Ok(None) };
    let (from, to) = (25.0, BANDWIDTHS[3]);
    let speed_at = |shape: &Predicted, gb| model.tokens_per_s(shape.on(gb));
    let all = || shapes.iter().flat_map(|shape| [speed_at(shape, from), speed_at(shape, to)]);
    let (low, high) = (all().fold(f64::MAX, f64::min) / 1.3, all().fold(0.0, f64::max) * 1.3);
    let subtitle = format!(
        "By the constants of {}; layout {}, head {}, from an empty cache.",
        plain(&best.cpu),
        best.layout,
        best.head
    );
    let svg = page("Predicted decoding speed on other machines (higher is better)", &subtitle, &[], |root, body| {
        let mut chart = ChartBuilder::on(body)
            .margin(16)
            .margin_right(90)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d((from..to).log_scale(), (low..high).log_scale())?;
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .x_desc("read bandwidth, GB/s")
            .y_desc("tokens per second")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| speed(*y))
            .label_style(("sans-serif", 14).into_font().color(&INK))
            .draw()?;
        for (shape, color) in shapes.iter().zip(PALETTE.into_iter().cycle()) {
            let steps = 40;
            let bandwidth = |i: i32| from * (to / from).powf(f64::from(i) / f64::from(steps));
            let line = (0..=steps).map(|i| (bandwidth(i), speed_at(shape, bandwidth(i))));
            chart.draw_series(LineSeries::new(line, color.stroke_width(2)))?;
            chart.draw_series(BANDWIDTHS.map(|gb| Circle::new((gb, speed_at(shape, gb)), 4, color.filled())))?;
            let (x, y) = chart.backend_coord(&(to, speed_at(shape, to)));
            text(root, shape.name, (x + 10, y - 8), 14, color, HPos::Left)?;
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    names.for_each(|name| {
        if !seen.contains(&name) {
            seen.push(name);
        }
    });
    seen
}

fn threads(n: usize) -> String {
    if n == 1 { "1 thread".into() } else { format!("{n} threads") }
}
