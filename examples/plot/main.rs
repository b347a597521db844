//! Draws the record of measurements.

mod canvas;
mod charts;
mod select;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use support::{Result, fail, record};

use select::Record;

/// Draw benches/record/*.csv: plots into docs/plots, tables into docs/speed.md.
///
/// The tables stand between the comments `<!-- table: NAME -->` and
/// `<!-- end -->`; the rest of that file is left alone. Of each setup, the last
/// measurement counts. The same record draws the same files, byte by byte.
///
///   cargo run --release --example bench -- --model 2b.gguf --record shapes
///   cargo run --release --example plot
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Args {
    /// Change nothing; fail if a file is not what the record draws.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let record = Record::new(&record::read()?);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for (name, svg) in charts::all(&record)? {
        files.push((docs.join("plots").join(format!("{name}.svg")), svg));
    }
    let page = docs.join("speed.md");
    let text = fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
    files.push((page, tables::fill(&text, &record)?));

    let stale = |(path, new): &&(PathBuf, String)| fs::read_to_string(path).is_ok_and(|old| old == *new).eq(&false);
    let stale: Vec<_> = files.iter().filter(stale).collect();
    for (path, new) in &stale {
        let shown = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path).display();
        if args.check {
            eprintln!("{shown} is not what the record draws");
        } else {
            fs::create_dir_all(path.parent().unwrap_or(&docs))?;
            fs::write(path, new).map_err(|e| format!("{shown}: {e}"))?;
            println!("{shown}");
        }
    }
    if args.check && !stale.is_empty() {
        return Err("run `cargo run --release --example plot`".into());
    }
    Ok(())
}
