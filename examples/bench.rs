//! Measures speed, beside what the machine could do at best.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use serde_json::{Value, json};
use support::machine::{Memory, int8_gmac_per_s, peak_rss};
use support::{Compute, Layout, ModelPath, Result, bar, fail, print_json};
use tritwise::Model;
use tritwise::kernels::Backend;
use tritwise::transformer::{Turn, Wanted};

/// Measure a model's speed beside this machine's ceilings.
///
/// Decoding one token reads every weight once, so its ceiling is the memory's
/// read bandwidth over the bytes per token. Reading a prompt reuses each
/// weight for every token, so its ceiling is the int8 multiply-add rate over
/// the ternary weights. Both ceilings are measured in the same run, and each
/// figure is given as a share of its own. Figures are medians.
///
///   cargo run --release --example dummy -- --shape 2b-4t /tmp/2b.gguf
///   cargo run --release --example bench -- --model /tmp/2b.gguf
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Args {
    #[command(flatten)]
    model: ModelPath,
    /// Prompt lengths.
    #[arg(short, value_name = "TOKENS", value_delimiter = ',', default_value = "128,512")]
    p: Vec<usize>,
    /// Tokens to decode.
    #[arg(short, value_name = "TOKENS", default_value_t = 128)]
    n: usize,
    /// Tokens in the cache before decoding.
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "0")]
    kv: Vec<usize>,
    /// Numbers of threads [default: one per physical core].
    #[arg(long, short, value_delimiter = ',')]
    threads: Vec<usize>,
    /// Repetitions of each measurement.
    #[arg(long, default_value_t = 5)]
    reps: usize,
    /// Instruction set [default: the best this CPU has, or $TRITWISE_ISA].
    #[arg(long)]
    isa: Option<String>,
    /// Layout of ternary weights: `2bit` or `base3` [default: the faster one, or $TRITWISE_LAYOUT].
    #[arg(long)]
    layout: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What does not depend on the number of threads. Peak memory is taken before
/// the measurement of bandwidth adds its own.
struct Facts {
    isa: &'static str,
    load_s: f64,
    peak_rss_bytes: Option<u64>,
    weight_bytes: usize,
    bytes_per_token: usize,
}

impl Facts {
    /// Of a model just opened, after one token.
    fn of(model: &Model) -> Result<Self> {
        let network = model.network();
        let (mut sequence, mut workspace) = (network.sequence(1), network.workspace());
        let turn = Turn { sequence: &mut sequence, tokens: &[0], wanted: Wanted::Last };
        network.forward(&mut workspace, &mut [turn])?;
        Ok(Self {
            isa: model.isa(),
            load_s: model.load_time().as_secs_f64(),
            peak_rss_bytes: peak_rss(),
            weight_bytes: network.weight_bytes(),
            bytes_per_token: network.bytes_per_token(),
        })
    }
}

/// What the machine can do with a number of threads.
struct Ceiling {
    threads: usize,
    read_gb_per_s: f64,
    int8_gmac_per_s: f64,
}

/// A repeated measurement.
struct Measured {
    tokens: usize,
    kv: usize,
    threads: usize,
    tokens_per_s: f64,
    stddev: f64,
    gb_per_s: f64,
    share: f64,
}

fn main() -> ExitCode {
    fail(run(&Args::parse()))
}

fn run(args: &Args) -> Result {
    let longest = args.p.iter().copied().chain(args.kv.iter().map(|kv| kv + args.n)).max().unwrap_or(args.n);
    let compute = |threads| Compute {
        threads,
        decode_threads: None,
        isa: args.isa.clone(),
        layout: args.layout.clone(),
        context: Some(longest.max(1)),
        i2s_layout: Layout::A,
    };
    let mut model = compute(args.threads.first().copied()).open(&args.model)?;
    let facts = Facts::of(&model)?;
    let threads = if args.threads.is_empty() { vec![model.threads()] } else { args.threads.clone() };
    let memory = Memory::new(threads.iter().copied().max().unwrap_or(1));

    let (mut ceilings, mut prefill, mut decode) = (Vec::new(), Vec::new(), Vec::new());
    for &threads in &threads {
        if model.threads() != threads {
            model = compute(Some(threads)).open(&args.model)?;
        }
        let ceiling = Ceiling {
            threads,
            read_gb_per_s: memory.read_gb_per_s(threads, args.reps),
            int8_gmac_per_s: int8_gmac_per_s(model.network().backend().isa(), threads, args.reps),
        };
        let bar = bar("measuring", (args.p.len() + args.kv.len()) as u64);
        for &tokens in &args.p {
            prefill.push(measure_prefill(&model, &ceiling, tokens, args.reps)?);
            bar.inc(1);
        }
        for &kv in &args.kv {
            decode.push(measure_decode(&model, &ceiling, kv, args.n, args.reps)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        ceilings.push(ceiling);
    }
    if args.json {
        report_json(&facts, &ceilings, &prefill, &decode);
    } else {
        report(&facts, &ceilings, &prefill, &decode);
    }
    Ok(())
}

/// One forward call over a prompt; its last logits are computed, as for a real one.
fn measure_prefill(model: &Model, ceiling: &Ceiling, tokens: usize, reps: usize) -> Result<Measured> {
    let network = model.network();
    let mut workspace = network.workspace();
    let mut sequence = network.sequence(tokens);
    let prompt = prompt(model, tokens);
    let mut once = || -> Result<f64> {
        sequence.truncate(0);
        let start = Instant::now();
        let turn = Turn { sequence: &mut sequence, tokens: &prompt, wanted: Wanted::Last };
        network.forward(&mut workspace, &mut [turn])?;
        Ok(tokens as f64 / start.elapsed().as_secs_f64())
    };
    once()?; // the first call makes the buffers
    let rates = (0..reps).map(|_| once()).collect::<Result<Vec<_>>>()?;
    let (tokens_per_s, stddev) = median_and_spread(rates);
    let config = network.config();
    let gmac_per_token = config.layer_parameters() as f64 * config.layers as f64 / 1e9;
    Ok(Measured {
        tokens,
        kv: 0,
        threads: ceiling.threads,
        tokens_per_s,
        stddev,
        gb_per_s: 0.0,
        share: tokens_per_s * gmac_per_token / ceiling.int8_gmac_per_s,
    })
}

/// `n` forward calls of one token each, after `kv` tokens.
fn measure_decode(model: &Model, ceiling: &Ceiling, kv: usize, n: usize, reps: usize) -> Result<Measured> {
    let network = model.network();
    let mut workspace = network.workspace();
    let mut sequence = network.sequence(kv + n);
    let text = prompt(model, kv + n);
    if kv > 0 {
        let turn = Turn { sequence: &mut sequence, tokens: &text[..kv], wanted: Wanted::Nothing };
        network.forward(&mut workspace, &mut [turn])?;
    }
    let mut once = || -> Result<f64> {
        sequence.truncate(kv);
        let start = Instant::now();
        for token in &text[kv..] {
            let turn = Turn { sequence: &mut sequence, tokens: std::slice::from_ref(token), wanted: Wanted::Last };
            network.forward(&mut workspace, &mut [turn])?;
        }
        Ok(n as f64 / start.elapsed().as_secs_f64())
    };
    once()?;
    let rates = (0..reps).map(|_| once()).collect::<Result<Vec<_>>>()?;
    let (tokens_per_s, stddev) = median_and_spread(rates);
    // Weights, and the keys and values of a sequence half way through the run.
    let cache = network.backend().cache_bytes(network.config(), kv + n / 2);
    let gb_per_s = tokens_per_s * (network.bytes_per_token() + cache) as f64 / 1e9;
    Ok(Measured {
        tokens: n,
        kv,
        threads: ceiling.threads,
        tokens_per_s,
        stddev,
        gb_per_s,
        share: gb_per_s / ceiling.read_gb_per_s,
    })
}

/// Any tokens will do: speed does not depend on what they say.
fn prompt(model: &Model, len: usize) -> Vec<u32> {
    let vocab = model.config().vocab as u32;
    (0..len as u32).map(|i| i.wrapping_mul(2_654_435_761) % vocab).collect()
}

fn median_and_spread(mut rates: Vec<f64>) -> (f64, f64) {
    rates.sort_by(f64::total_cmp);
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    let variance = rates.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (rates.len().max(2) - 1) as f64;
    (rates[rates.len() / 2], variance.sqrt())
}

fn report_json(facts: &Facts, ceilings: &[Ceiling], prefill: &[Measured], decode: &[Measured]) {
    let per_threads = |figure: fn(&Ceiling) -> f64| -> Value {
        ceilings.iter().map(|c| (c.threads.to_string(), json!(figure(c)))).collect::<serde_json::Map<_, _>>().into()
    };
    print_json(&json!({
        "isa": facts.isa,
        "read_gb_per_s": per_threads(|c| c.read_gb_per_s),
        "int8_gmac_per_s": per_threads(|c| c.int8_gmac_per_s),
        "load_s": facts.load_s,
        "peak_rss_bytes": facts.peak_rss_bytes,
        "weight_bytes": facts.weight_bytes,
        "bytes_per_token": facts.bytes_per_token,
        "prefill": prefill.iter().map(|m| json!({
            "tokens": m.tokens, "threads": m.threads,
            "tokens_per_s": m.tokens_per_s, "stddev": m.stddev, "share": m.share,
        })).collect::<Vec<_>>(),
        "decode": decode.iter().map(|m| json!({
            "tokens": m.tokens, "kv": m.kv, "threads": m.threads,
            "tokens_per_s": m.tokens_per_s, "stddev": m.stddev, "gb_per_s": m.gb_per_s, "share": m.share,
        })).collect::<Vec<_>>(),
    }));
}

fn report(facts: &Facts, ceilings: &[Ceiling], prefill: &[Measured], decode: &[Measured]) {
    println!(
        "{}; weights {:.0} MB, read per token {:.0} MB; loaded in {:.2} s; peak memory {:.0} MB",
        facts.isa,
        facts.weight_bytes as f64 / 1e6,
        facts.bytes_per_token as f64 / 1e6,
        facts.load_s,
        facts.peak_rss_bytes.unwrap_or(0) as f64 / 1e6,
    );
    for c in ceilings {
        println!(
            "ceiling, {} threads: memory reads {:.1} GB/s, int8 {:.0} GMAC/s",
            c.threads, c.read_gb_per_s, c.int8_gmac_per_s
        );
    }
    for m in prefill {
        println!(
            "prefill {:>5} tokens,           {} threads: {:>8.1} ± {:.1} tokens/s, {:>3.0} % of the int8 ceiling",
            m.tokens,
            m.threads,
            m.tokens_per_s,
            m.stddev,
            100.0 * m.share
        );
    }
    for m in decode {
        println!(
            "decode  {:>5} tokens, KV {:>5}, {} threads: {:>8.1} ± {:.1} tokens/s, {:>3.0} % of the memory ceiling",
            m.tokens,
            m.kv,
            m.threads,
            m.tokens_per_s,
            m.stddev,
            100.0 * m.share
        );
    }
}
