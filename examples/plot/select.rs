//! Which rows of the record a plot or a table shows.

use std::cmp::Reverse;

use support::record::{Row, latest};
use support::shapes::SHAPES;
use support::speed_model::{Load, SpeedModel};

/// The shape that plots about one shape show.
const SHAPE: &str = "2b-4t";

/// The shapes that the model is asked about: the BitNet models of each size.
const PREDICTED: [&str; 6] = ["125m", "large", "2b-4t", "3b", "8b", "100b"];

/// A shape that the model is asked about.
pub(crate) struct Predicted {
    pub(crate) name: &'static str,
    pub(crate) layers: usize,
    /// Bytes per token.
    pub(crate) bytes: f64,
}

/// The last row of each setup, small shapes first.
pub(crate) struct Record {
    rows: Vec<Row>,
}

/// Bytes per token up to which a third-level cache may hold part of a shape, whose decoding then is not bound by memory alone.
const CACHED: u64 = 64_000_000;

impl Record {
    pub(crate) fn new(rows: &[Row]) -> Self {
        let mut rows = latest(rows);
        rows.sort_by_key(|r| {
            let kind = (r.layout.clone(), r.head.clone(), r.kv_type.clone());
            (r.ternary_weights, r.cpu.clone(), Reverse(r.isa.clone()), r.threads, kind)
        });
        rows.sort_by_key(|r| (r.ternary_weights, r.kv, r.tokens));
        Self { rows }
    }

    pub(crate) fn rows(&self, test: &str) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.test == test)
    }

    /// The processors, in the order of their names.
    pub(crate) fn cpus(&self) -> Vec<&str> {
        let mut cpus: Vec<&str> = self.rows.iter().map(|row| row.cpu.as_str()).collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    }

    /// Of each shape, instruction set and number of threads of a processor the fastest from an
    /// empty cache: a prompt's length, the layout and the head are free.
    pub(crate) fn fastest(&self, cpu: &str, test: &str) -> Vec<&Row> {
        let place = |row: &Row| (row.shape.clone(), row.isa.clone(), row.threads);
        let mut best: Vec<&Row> = Vec::new();
        for row in self.rows(test).filter(|row| row.kv == 0 && row.cpu == cpu) {
            match best.iter_mut().find(|other| place(other) == place(row)) {
                Some(other) if other.tokens_per_s < row.tokens_per_s => *other = row,
                Some(_) => {}
                None => best.push(row),
            }
        }
        best.sort_by_key(|row| (row.ternary_weights, Reverse(row.isa.clone()), row.threads));
        best
    }

    /// Decoding of the one shape, on the processor, instruction set and number of threads of its fastest row.
    pub(crate) fn one_shape(&self) -> Vec<&Row> {
        let of_shape = || self.rows("decode").filter(|row| row.shape == SHAPE);
        let Some(best) = of_shape().max_by(|a, b| a.tokens_per_s.total_cmp(&b.tokens_per_s)) else {
            return Vec::new();
        };
        let kind = |row: &Row| (row.cpu.clone(), row.isa.clone(), row.threads);
        of_shape().filter(|row| kind(row) == kind(best)).collect()
    }

    /// The row of the one shape that reads the least per token, from an empty cache. (The fastest one may be
    /// whichever was measured while the memory was fast.)
    fn best(&self) -> Option<&Row> {
        let rows = self.one_shape().into_iter().filter(|row| row.kv == 0);
        rows.min_by_key(|row| row.ternary_bytes + row.head_bytes)
    }

    /// The model, fitted to all decoding of a processor (but of shapes that a cache holds) with one instruction set,
    /// number of threads and layout, those with the most rows; and these rows. What is in a head, and how it is
    /// evaluated, are bytes to it like the rest.
    pub(crate) fn model(&self, cpu: &str) -> Option<(SpeedModel, Vec<&Row>)> {
        let kind = |row: &Row| (row.isa.clone(), row.threads, row.layout.clone());
        let rows = || {
            let of_cpu = self.rows("decode").filter(|row| row.cpu == cpu);
            of_cpu.filter(|row| row.ternary_bytes + row.head_bytes > CACHED)
        };
        let alike = |a: &Row| rows().filter(|b| kind(a) == kind(b)).count();
        let most = kind(rows().max_by_key(|row| alike(row))?);
        let rows: Vec<&Row> = rows().filter(|row| kind(row) == most).collect();
        let measured: Vec<(Load, f64)> = rows.iter().map(|row| (load(row), row.tokens_per_s)).collect();
        SpeedModel::fit(&measured).map(|model| (model, rows))
    }

    /// What a token of every shape would read in the layout and head of the one shape's row that reads the least; and that row.
    pub(crate) fn predicted_shapes(&self) -> Option<(&Row, Vec<Predicted>)> {
        let best = self.best()?;
        let shape = SHAPES.iter().find(|shape| shape.name == SHAPE)?;
        let per_ternary = best.ternary_bytes as f64 / shape.ternary_weights() as f64;
        let per_head = best.head_bytes as f64 / shape.head_weights() as f64;
        let mut shapes: Vec<_> = SHAPES
            .iter()
            .filter(|shape| PREDICTED.contains(&shape.name))
            .map(|shape| {
                let bytes = shape.ternary_weights() as f64 * per_ternary + shape.head_weights() as f64 * per_head;
                Predicted { name: shape.name, layers: shape.layers(), bytes }
            })
            .collect();
        shapes.sort_by(|a, b| a.bytes.total_cmp(&b.bytes));
        Some((best, shapes))
    }
}

/// A processor's name without what all of them say.
pub(crate) fn plain(cpu: &str) -> String {
    let words = cpu.replace("(R)", "").replace("(TM)", "");
    words.split_whitespace().filter(|word| !["CPU", "Processor"].contains(word)).collect::<Vec<_>>().join(" ")
}

/// A row as the model sees it.
pub(crate) fn load(row: &Row) -> Load {
    Load { bytes: row.bytes(), layers: row.layers, gb_per_s: row.ceiling, threads: Some(row.threads) }
}

impl Predicted {
    /// The shape on a machine with enough cores.
    pub(crate) fn on(&self, gb_per_s: f64) -> Load {
        Load { bytes: self.bytes, layers: self.layers, gb_per_s, threads: None }
    }
}
