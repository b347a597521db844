//! What a token costs beside its ternary products: rounding, rotations, the
//! gate, the head, and handing work to the threads.
//!
//! `cargo bench --bench operations`, or `… -- quantize` for one group. Each
//! result is compared with the scalar one on one thread before it is timed.
//! Throughput is elements of the row, and for the head bytes of its table, so
//! that it can be held against this machine's read bandwidth
//! (`cargo run --release --example bench` measures it).

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tritwise_kernels::arch::{Isa, NormWeight, available};
use tritwise_kernels::cpu::{CpuBackend, Rows};
use tritwise_kernels::{Backend, arch::Angles};
use tritwise_tensor::{Activation, DenseEncoding, DenseMatrix, RopeStyle};

/// Widths of BitNet b1.58 2B-4T: the hidden state, and inside the feed-forward half.
const WIDTHS: [usize; 2] = [2560, 6912];

/// Numbers between -2 and 2: any will do, as long as they vary.
fn noise(len: usize) -> Vec<f32> {
    let mut state = 1u64;
    let next = || {
        // Knuth's multiplier; the upper bits are the random ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 22) as f32 - 2.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// All instruction sets but the scalar one, which is the reference, not a contestant.
fn contestants() -> Vec<&'static dyn Isa> {
    let mut all = available();
    if all.len() > 1 {
        all.pop();
    }
    all
}

fn scalar() -> &'static dyn Isa {
    available().pop().expect("the scalar one is always there")
}

fn backend(isa: &dyn Isa, threads: usize) -> CpuBackend {
    CpuBackend::builder().threads(threads).isa(isa.name()).build().expect("this CPU has it")
}

/// Times `operation` on a fresh copy of `row` for every instruction set and
/// width, after comparing what it makes of it with what the scalar one does.
fn on_rows<T: PartialEq>(c: &mut Criterion, name: &str, operation: impl Fn(&dyn Isa, &mut [f32]) -> T) {
    let mut group = c.benchmark_group(name);
    for width in WIDTHS {
        let row = noise(width);
        group.throughput(Throughput::Elements(width as u64));
        let mut expected = row.clone();
        let returned = operation(scalar(), &mut expected);
        for isa in contestants() {
            let mut x = row.clone();
            assert!(operation(isa, &mut x) == returned && x == expected, "{}", isa.name());
            group.bench_function(BenchmarkId::new(isa.name(), width), |b| b.iter(|| operation(isa, black_box(&mut x))));
        }
    }
}

/// A row's norm, and its rounding to int8: before every product.
fn quantize(c: &mut Criterion) {
    let weight = vec![1.25; WIDTHS[1]];
    on_rows(c, "quantize", |isa, x| {
        let mut codes = [0; WIDTHS[1]];
        let norm = NormWeight { weight: &weight[..x.len()], eps: 1e-5 };
        let (scale, sum) = isa.quantize(x, Some(norm), &mut codes[..x.len()]);
        (scale.to_bits(), sum, codes)
    });
    on_rows(c, "normalize", |isa, x| {
        let mut out = [0.0; WIDTHS[1]];
        isa.normalize(x, NormWeight { weight: &weight[..x.len()], eps: 1e-5 }, &mut out[..x.len()]);
        out
    });
}

/// Element by element.
fn elementwise(c: &mut Criterion) {
    // Small, so that what is repeated on one row stays finite.
    let up: Vec<f32> = noise(WIDTHS[1]).iter().map(|x| x / 4.0).collect();
    on_rows(c, "gate/squared_relu", |isa, x| isa.gate(Activation::SquaredRelu, x, &up[..x.len()]));
    on_rows(c, "gate/silu", |isa, x| isa.gate(Activation::Silu, x, &up[..x.len()]));
    on_rows(c, "add", |isa, x| isa.add(x, &up[..x.len()]));
    on_rows(c, "exp", |isa, x| {
        let mut copy = [0.0; WIDTHS[1]];
        let copy = &mut copy[..x.len()];
        copy.copy_from_slice(x);
        isa.exp(copy);
        copy.iter().fold(0u32, |all, e| all.rotate_left(1) ^ e.to_bits())
    });
}

/// All heads of a row.
fn rotate(c: &mut Criterion) {
    let angles = noise(2 * 128);
    for style in [RopeStyle::Halves, RopeStyle::Interleaved] {
        on_rows(c, &format!("rotate/{style:?}"), |isa, x| {
            isa.rotate(style, Angles { cos: &angles[..128], sin: &angles[128..] }, x);
        });
    }
}

/// All logits of one token, from a table that is more than a cache holds.
fn head(c: &mut Criterion) {
    let (vocab, hidden) = (16 << 10, 2560);
    let mut x = Rows::new(hidden);
    x.set_tokens(1);
    x.as_mut_slice().copy_from_slice(&noise(hidden));
    let mut group = c.benchmark_group("head");
    for encoding in [DenseEncoding::F16, DenseEncoding::Q8_0, DenseEncoding::Q6K] {
        // A few rows again and again: encoding takes longer than all the rest.
        let rows = 64;
        let bytes = encoding.encode(&noise(rows * hidden), rows, hidden).expect("whole blocks");
        let weights =
            DenseMatrix::new(encoding, vocab, hidden, bytes.repeat(vocab / rows)).expect("bytes just written");
        let logits = |cpu: &CpuBackend, out: &mut [f32]| {
            let (table, norm) = (cpu.table(&weights), cpu.norm(&vec![1.0; hidden], 1e-5));
            cpu.logits(&x, &[0], &norm, &table, out);
            (table, norm)
        };
        let mut expected = vec![0.0; vocab];
        logits(&backend(scalar(), 1), &mut expected);
        group.throughput(Throughput::Bytes(weights.bytes().len() as u64));
        for isa in contestants() {
            for threads in [1, 2] {
                let cpu = backend(isa, threads);
                let mut out = vec![0.0; vocab];
                let (table, norm) = logits(&cpu, &mut out);
                assert_eq!(out, expected, "{} on {threads} threads", isa.name());
                let id = BenchmarkId::new(isa.name(), format!("{}, {threads} threads", encoding.name()));
                group.bench_function(id, |b| b.iter(|| cpu.logits(&x, &[0], &norm, &table, &mut out)));
            }
        }
    }
}

/// Calling all threads together, once they have just worked and once they sleep.
fn hand_off(c: &mut Criterion) {
    let mut group = c.benchmark_group("hand_off");
    for threads in [1, 2] {
        let cpu = backend(scalar(), threads);
        group.bench_function(format!("hot, {threads} threads"), |b| b.iter(|| cpu.gather()));
        group.bench_function(format!("asleep, {threads} threads"), |b| {
            b.iter_custom(|rounds| {
                let mut taken = Duration::ZERO;
                for _ in 0..rounds {
                    std::thread::sleep(Duration::from_micros(500));
                    let start = Instant::now();
                    cpu.gather();
                    taken += start.elapsed();
                }
                taken
            });
        });
    }
}

criterion_group!(benches, quantize, elementwise, rotate, head, hand_off);
criterion_main!(benches);
