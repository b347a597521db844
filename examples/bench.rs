//! Measures speed, beside what the machine could do at best.

use std::process::ExitCode;

use clap::Parser;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use support::machine::{Memory, peak_rss};
use support::measure::{self, Measured, Median, Test};
use support::record::{self, Row};
use support::{Compute, HeadArg, Kv, ModelPath, Result, bar, fail, print_json, setup};
use tritwise::Model;
use tritwise::kernels::CpuBackend;
use tritwise::transformer::{Sequence, Turn, Wanted};

/// Measure a model's speed beside this machine's ceilings.
///
/// Decoding one token reads every weight once, so its ceiling is the memory's
/// read bandwidth over the bytes per token. Reading a prompt reuses each
/// weight for every token, so its ceiling is the int8 multiply-add rate over
/// the ternary weights. Both ceilings are measured again and again between the
/// pieces of a measurement, because they change from second to second where
/// others share the machine, and each figure is given as a share of its own.
/// Figures are medians with standard deviations.
///
///   cargo run --release --example dummy -- --shape 2b-4t /tmp/2b.gguf
///   cargo run --release --example bench -- --model /tmp/2b.gguf
///
/// Options that take several values, separated by commas, are swept:
///
///   … bench -- --model /tmp/2b.gguf --isa x86_64-avx2,x86_64-avx512vnni -t 1,2
///   … bench -- --model /tmp/2b.gguf -p 128,512,2048 --kv 0,512,2048,4096 -n 32
///
/// `--record NAME` keeps the figures, with the commit they belong to, in
/// benches/record/NAME.csv, from which the example `plot` draws.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Args {
    #[command(flatten)]
    model: ModelPath,
    /// Prompt lengths; 0 for none.
    #[arg(short, value_name = "TOKENS", value_delimiter = ',', default_value = "128,512")]
    p: Vec<usize>,
    /// Tokens to decode; 0 for none.
    #[arg(short, value_name = "TOKENS", default_value_t = 128)]
    n: usize,
    /// Tokens in the cache before decoding.
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "0")]
    kv: Vec<usize>,
    /// Numbers of threads [default: one per physical core].
    #[arg(long, short, value_delimiter = ',')]
    threads: Vec<usize>,
    /// Instruction sets [default: the best this CPU has, or $TRITWISE_ISA].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    isa: Vec<String>,
    /// Layouts of ternary weights: `2bit`, `base3` [default: the faster one, or $TRITWISE_LAYOUT].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    layout: Vec<String>,
    /// How the output head is multiplied with, to find the likeliest token [default: screened].
    #[arg(long, value_enum, value_name = "MODE", value_delimiter = ',')]
    head: Vec<HeadArg>,
    /// Numbers in which keys and values are kept [default: f16].
    #[arg(long, value_enum, value_name = "TYPE", value_delimiter = ',')]
    kv_type: Vec<Kv>,
    /// Compute with the weights where they lie in the file (I2_S, BASE3), in pages that the system's cache has anyway.
    #[arg(long)]
    in_place: bool,
    /// Repetitions of each measurement.
    #[arg(long, default_value_t = 5)]
    reps: usize,
    /// Append the figures to benches/record/NAME.csv.
    #[arg(long, value_name = "NAME")]
    record: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Every combination of the options that are swept.
    fn setups(&self) -> Vec<Compute> {
        let context = self.p.iter().copied().chain(self.kv.iter().map(|kv| kv + self.n)).max().unwrap_or(0);
        let plain = Compute { context: Some(context.max(1)), in_place: self.in_place, ..Compute::default() };
        let setups = sweep(vec![plain], &self.isa, |setup, isa| setup.isa = Some(isa));
        let setups = sweep(setups, &self.layout, |setup, layout| setup.layout = Some(layout));
        let setups = sweep(setups, &self.head, |setup, head| setup.head = head);
        let setups = sweep(setups, &self.kv_type, |setup, kv| setup.kv = kv);
        sweep(setups, &self.threads, |setup, threads| setup.threads = Some(threads))
    }

    /// What the measurements of one setup add to the progress bar.
    fn steps(&self) -> usize {
        let prefill: usize = self.p.iter().map(|&p| measure::prefill_steps(p, self.reps)).sum();
        prefill + self.kv.len() * measure::decode_steps(self.n, self.reps)
    }
}

/// Each of `setups` with each of `choices`, or as it is where there are none.
fn sweep<T: Clone>(setups: Vec<Compute>, choices: &[T], choose: impl Fn(&mut Compute, T)) -> Vec<Compute> {
    if choices.is_empty() {
        return setups;
    }
    let mut swept = Vec::new();
    for setup in setups {
        for choice in choices {
            let mut setup = setup.clone();
            choose(&mut setup, choice.clone());
            swept.push(setup);
        }
    }
    swept
}

/// A model in one setup, and what was measured of it.
struct Report {
    /// The columns that all measurements share.
    setup: Row,
    weight_bytes: usize,
    peak_rss: Option<u64>,
    measured: Vec<Measured>,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    if args.reps == 0 {
        return Err("--reps 0 measures nothing; use 5 or more".into());
    }
    let setups = args.setups();
    let past_steps = args.kv.iter().max().copied().unwrap_or(0);
    let bar = bar("measuring", (setups.len() * args.steps() + past_steps) as u64);
    let (mut reports, mut memory, mut past) = (Vec::new(), None, Past::default());
    for compute in &setups {
        let model = compute.open(&args.model)?;
        warm_up(&model)?;
        // Before the buffer whose reading is the ceiling adds its own.
        let peak_rss = memory.is_none().then(peak_rss).flatten();
        let memory = match &memory {
            Some(memory) => memory,
            None => memory.insert(Memory::new().map_err(|e| format!("memory to measure the bandwidth with: {e}"))?),
        };
        let setup = setup::columns(&model, &args.model.model, peak_rss);
        let past = if args.n > 0 { past.of(args, &model, &setup.kv_type, &bar)? } else { None };
        let measured = measure(args, &model, memory, past, &bar)?;
        let report = Report { setup, weight_bytes: model.network().weight_bytes(), peak_rss, measured };
        if !args.json {
            bar.suspend(|| print(&report));
        }
        if let Some(name) = &args.record {
            let rows: Vec<Row> = report.measured.iter().map(|m| setup::row(&report.setup, m)).collect();
            record::append(name, &rows)?;
        }
        reports.push(report);
    }
    bar.finish_and_clear();
    if args.json {
        print_json(&summary(&reports));
    }
    Ok(())
}

/// Makes what the first token makes.
fn warm_up(model: &Model) -> Result {
    let network = model.network();
    let (mut sequence, mut workspace) = (network.sequence(1), network.workspace());
    let turn = Turn { sequence: &mut sequence, tokens: &[0], wanted: Wanted::Last };
    network.forward(&mut workspace, &mut [turn])?;
    Ok(())
}

/// The longest past that is asked for, computed once for all setups that keep
/// keys and values the same way. Shorter ones are its beginning.
#[derive(Default)]
struct Past(Option<(String, Sequence<CpuBackend>)>);

impl Past {
    fn of(
        &mut self,
        args: &Args,
        model: &Model,
        kv_type: &str,
        bar: &ProgressBar,
    ) -> Result<Option<&Sequence<CpuBackend>>> {
        if self.0.as_ref().is_none_or(|(of, _)| of != kv_type) {
            let longest = args.kv.iter().copied().max().unwrap_or(0);
            self.0 = Some((kv_type.to_owned(), measure::past(model, longest, args.n, bar)?));
        }
        Ok(self.0.as_ref().map(|(_, past)| past))
    }
}

/// All measurements of one setup.
fn measure(
    args: &Args,
    model: &Model,
    memory: &Memory,
    past: Option<&Sequence<CpuBackend>>,
    bar: &ProgressBar,
) -> Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for &tokens in args.p.iter().filter(|&&tokens| tokens > 0) {
        measured.push(measure::prefill(model, tokens, args.reps, bar)?);
    }
    for (past, &kv) in past.into_iter().flat_map(|past| args.kv.iter().map(move |kv| (past, kv))) {
        let mut copy = past.fork(model.network());
        copy.truncate(kv);
        measured.push(measure::decode(model, memory, &mut copy, args.n, args.reps, bar)?);
    }
    Ok(measured)
}

fn summary(reports: &[Report]) -> Value {
    let all = || reports.iter().flat_map(|r| r.measured.iter().map(move |m| (r, m)));
    let ceilings = |test: Test| -> Value {
        let mut by_threads = serde_json::Map::new();
        for threads in reports.iter().map(|r| r.setup.threads) {
            let of = all().filter(|(r, m)| r.setup.threads == threads && m.test == test);
            let figures: Vec<f64> = of.map(|(_, m)| m.ceiling.median).collect();
            if !figures.is_empty() {
                by_threads.insert(threads.to_string(), json!(Median::of(figures).median));
            }
        }
        by_threads.into()
    };
    let figures = |test: Test| -> Value {
        let of = all().filter(|(_, m)| m.test == test);
        of.map(|(r, m)| {
            json!({
                "isa": r.setup.isa, "threads": r.setup.threads, "layout": r.setup.layout, "head": r.setup.head,
                "kv_type": r.setup.kv_type, "tokens": m.tokens, "kv": m.kv, "n": m.n,
                "tokens_per_s": m.tokens_per_s.median, "stddev": m.tokens_per_s.spread,
                "ceiling": m.ceiling.median, "ceiling_stddev": m.ceiling.spread,
                "gb_per_s": (test == Test::Decode).then_some(m.reached.median),
                "bytes_per_token": r.setup.ternary_bytes + m.head.bytes as u64 + m.kv_bytes as u64,
                "rows_refined": m.head.refined, "rows_exact": m.head.exact,
                "share": m.share.median, "share_stddev": m.share.spread,
            })
        })
        .collect()
    };
    let first = reports.first();
    json!({
        "isa": first.map(|r| &r.setup.isa),
        "read_gb_per_s": ceilings(Test::Decode),
        "int8_gmac_per_s": ceilings(Test::Prefill),
        "load_s": first.map(|r| r.setup.load_s),
        "peak_rss_bytes": first.and_then(|r| r.peak_rss),
        "weight_bytes": first.map(|r| r.weight_bytes),
        "bytes_per_token": first.map(|r| r.setup.ternary_bytes + r.setup.head_bytes),
        "prefill": figures(Test::Prefill),
        "decode": figures(Test::Decode),
    })
}

fn print(report: &Report) {
    let Row { shape, isa, layout, head, kv_type, threads, load_s, .. } = &report.setup;
    println!("{shape}: {isa}, {layout} weights, {head} head, {kv_type} cache, {threads} threads");
    print!(
        "  weights {:.0} MB, {:.0} MB read for all logits of a token; loaded in {load_s:.2} s",
        report.weight_bytes as f64 / 1e6,
        report.setup.bytes() / 1e6
    );
    println!(
        "{}",
        report.peak_rss.map_or(String::new(), |bytes| format!("; peak memory {:.0} MB", bytes as f64 / 1e6))
    );
    for m in &report.measured {
        let (what, unit) = match m.test {
            Test::Prefill => (format!("prefill {:>5}", m.tokens), "GMAC/s"),
            Test::Decode => (format!("decode  {:>5}, KV {:>5}", m.tokens, m.kv), "GB/s"),
        };
        print!(
            "  {what:<24} {:>8.1} ± {:<5.1} tokens/s  {:>5.1} ± {:<4.1} % of {:.1} ± {:.1} {unit}",
            m.tokens_per_s.median,
            m.tokens_per_s.spread,
            100.0 * m.share.median,
            100.0 * m.share.spread,
            m.ceiling.median,
            m.ceiling.spread,
        );
        if m.head.screened > 0 {
            let bytes = report.setup.ternary_bytes as f64 + m.head.bytes as f64 + m.kv_bytes;
            print!("; {:.0} MB a token, {} rows refined, {} exact", bytes / 1e6, m.head.refined, m.head.exact);
        }
        println!();
    }
}
