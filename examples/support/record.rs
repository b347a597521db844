//! The record of measurements: rows of `benches/record/*.csv`.
//!
//! Every file has the same columns, so that a plot picks rows by what they say
//! and not by where they are. `benches/record/README.md` describes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Result;

/// One measurement and all that it depends on; the fields are the columns, in their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "benches/record/README.md describes the columns, once")]
pub struct Row {
    pub date: String,
    pub commit: String,
    pub cpu: String,
    pub threads: usize,
    pub isa: String,
    pub layout: String,
    pub head: String,
    pub kv_type: String,
    pub shape: String,
    pub layers: usize,
    pub ternary_weights: u64,
    pub test: String,
    pub tokens: usize,
    pub kv: usize,
    pub n: usize,
    pub tokens_per_s: f64,
    pub spread: f64,
    pub ceiling: f64,
    pub unit: String,
    pub share: f64,
    pub share_spread: f64,
    pub ternary_bytes: u64,
    pub head_bytes: u64,
    pub kv_bytes: u64,
    pub rows_refined: Option<f64>,
    pub load_s: f64,
    pub peak_rss_mb: Option<u64>,
}

impl Row {
    /// Bytes that a token reads.
    pub fn bytes(&self) -> f64 {
        (self.ternary_bytes + self.head_bytes + self.kv_bytes) as f64
    }

    /// Tokens per second at the ceiling.
    pub fn ceiling_tokens_per_s(&self) -> f64 {
        self.tokens_per_s / self.share
    }

    /// Whether two rows measured the same thing, on whatever day.
    pub fn same_setup(&self, other: &Self) -> bool {
        let setup = |row: &Self| {
            let Self { cpu, threads, isa, layout, head, kv_type, shape, test, kv, .. } = row.clone();
            // A prompt's length is what is measured, the length of a run of single tokens is not.
            let prompt = (test == "prefill").then_some(row.tokens);
            (cpu, threads, isa, layout, head, kv_type, shape, test, prompt, kv)
        };
        setup(self) == setup(other)
    }
}

/// The directory of the record.
pub fn directory() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/benches/record").into()
}

/// Appends rows to the file `NAME.csv` of the record, which is made if need be.
///
/// # Errors
/// The name is no plain word, or the file cannot be written.
pub fn append(name: &str, rows: &[Row]) -> Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        return Err(format!("--record {name}: use letters, digits, - and _").into());
    }
    append_to(&directory().join(format!("{name}.csv")), rows)
}

fn append_to(path: &Path, rows: &[Row]) -> Result<PathBuf> {
    let new = fs::metadata(path).map_or(true, |file| file.len() == 0);
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    let file = file.map_err(|e| format!("{}: {e}", path.display()))?;
    let mut writer = csv::WriterBuilder::new().has_headers(new).from_writer(file);
    for row in rows {
        writer.serialize(row)?;
    }
    writer.flush()?;
    Ok(path.to_owned())
}

/// All rows of the record, oldest first.
///
/// # Errors
/// A file cannot be read, or has other columns.
pub fn read() -> Result<Vec<Row>> {
    let directory = directory();
    let mut rows = Vec::new();
    for entry in fs::read_dir(&directory).map_err(|e| format!("{}: {e}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            let name = |e: csv::Error| format!("{}: {e}", path.display());
            for row in csv::Reader::from_path(&path).map_err(name)?.deserialize() {
                rows.push(row.map_err(name)?);
            }
        }
    }
    rows.sort_by(|a: &Row, b: &Row| a.date.cmp(&b.date));
    Ok(rows)
}

/// The last row of each setup.
pub fn latest(rows: &[Row]) -> Vec<Row> {
    let superseded = |i: usize| rows[i + 1..].iter().any(|later| later.same_setup(&rows[i]));
    (0..rows.len()).filter(|&i| !superseded(i)).map(|i| rows[i].clone()).collect()
}

/// The commit of the code that runs, with a `+` where files were changed since; `unknown` outside a repository.
pub fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".into() };
    // The record itself may have grown.
    let code = ["status", "--porcelain", "--", "crates", "examples", "Cargo.toml", "Cargo.lock"];
    let changed = git(&code).is_some_and(|changes| !changes.is_empty());
    if changed { commit + "+" } else { commit }
}

/// Now, in UTC: `2026-01-31T12:00:00Z`.
pub fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date `days` after 1970-01-01, counted in years that begin with March,
/// so that the leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * era + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_453, (2025, 12, 31)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(days), date, "{days}");
        }
    }

    #[test]
    fn every_row_of_the_record_can_be_read() {
        read().unwrap();
    }

    #[test]
    fn a_later_row_of_a_setup_takes_the_place_of_an_earlier_one() {
        let mut rows = read().unwrap();
        rows.truncate(1);
        let Some(first) = rows.first().cloned() else { return };
        let again = Row { date: "9999-01-01T00:00:00Z".into(), tokens_per_s: 1.0, ..first.clone() };
        let other = Row { threads: first.threads + 1, ..first.clone() };
        assert_eq!(latest(&[first, other.clone(), again.clone()]), [other, again]);
    }
}
