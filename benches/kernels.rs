//! The kernels one by one, on every instruction set of this CPU.
//!
//! `cargo bench --bench kernels`, or `… -- gemv` for one group. Each result is
//! compared with the scalar one before it is timed. Throughput is bytes of
//! packed weights for `gemv` and `matmul` of one token, multiplications for the
//! rest, so that figures can be held against this machine's read bandwidth and
//! its int8 peak (`cargo run --release --example bench` measures both).

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tritwise_kernels::arch::{Activations, Isa, Layout, Line, Panels, available};
use tritwise_kernels::binary::{Binarize, BinaryMatrix, BinaryRows, TernaryPlanes};
use tritwise_kernels::cpu::{Cache, CpuBackend, KvType, Quantized, Rows};
use tritwise_kernels::{Backend, PackedMatrix};
use tritwise_tensor::{
    Activation, Config, Inputs, Norms, Rope, RopeScaling, RopeStyle, Scales, TernaryEncoding, TernaryMatrix,
};

/// Widths of BitNet b1.58 2B-4T: into attention and up, and down.
const COLS: [usize; 2] = [2560, 6912];

/// Trits, activations and the like: any bytes will do, as long as they vary.
fn noise(len: usize) -> impl Iterator<Item = u8> {
    let mut state = 1u64;
    (0..len).map(move |_| {
        // Knuth's multiplier; the upper bits are the random ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
}

fn activations(len: usize) -> Vec<i8> {
    noise(len).map(|byte| byte as i8).collect()
}

/// Lines of codes 0, 1 and 2.
fn lines(layout: Layout, len: usize) -> Vec<Line> {
    let code = |byte: u8, field: u8| (((byte >> (2 * field)) & 3) % 3) << (2 * field);
    let byte = |byte: u8| match layout {
        Layout::Base3 => byte % 243,
        _ => (0..4).map(|field| code(byte, field)).sum(),
    };
    let bytes: Vec<u8> = noise(64 * len).map(byte).collect();
    bytes.as_chunks().0.iter().map(|bytes| Line(*bytes)).collect()
}

/// The contestants that have kernels for a layout.
fn kernels() -> impl Iterator<Item = (Layout, Vec<&'static dyn Isa>)> {
    Layout::ALL.into_iter().filter_map(|layout| {
        let isas: Vec<_> = contestants().into_iter().filter(|isa| isa.layouts().contains(&layout)).collect();
        (!isas.is_empty()).then_some((layout, isas))
    })
}

/// The fastest instruction set and the next; scalar code is the reference, not a contestant.
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

/// One token, weights in the second-level cache: the kernel's own speed.
fn gemv(c: &mut Criterion) {
    let mut group = c.benchmark_group("gemv");
    for (layout, isas) in kernels() {
        for cols in COLS {
            let lines_per_panel = cols / layout.cols();
            let panels = 256 * 1024 / size_of::<Line>() / lines_per_panel;
            let (lines, x) = (lines(layout, panels * lines_per_panel), activations(cols));
            let panels = Panels::new(layout, &lines, lines_per_panel);
            let mut expected = vec![0; panels.rows()];
            scalar().gemv(panels, &x, &mut expected);
            group.throughput(Throughput::Bytes(size_of_val(&*lines) as u64));
            for isa in &isas {
                let mut out = vec![0; expected.len()];
                isa.gemv(panels, &x, &mut out);
                assert_eq!(out, expected, "{}", isa.name());
                let id = BenchmarkId::new(isa.name(), format!("{}/{cols}", layout.name()));
                group.bench_function(id, |b| b.iter(|| isa.gemv(black_box(panels), black_box(&x), &mut out)));
            }
        }
    }
}

/// Several tokens, for the shapes of tiles.
fn gemm(c: &mut Criterion) {
    let mut group = c.benchmark_group("gemm");
    for (layout, isas) in kernels() {
        for cols in COLS {
            let lines_per_panel = cols / layout.cols();
            let lines = lines(layout, 80 / layout.rows() * lines_per_panel);
            let panels = Panels::new(layout, &lines, lines_per_panel);
            for tokens in [2, 8, 12, 60] {
                let x = activations(tokens * cols);
                let x = Activations::new(&x, cols, tokens);
                let mut expected = vec![0; tokens * panels.rows()];
                scalar().gemm(panels, x, &mut expected);
                group.throughput(Throughput::Elements((panels.rows() * cols * tokens) as u64));
                for isa in &isas {
                    let mut out = vec![0; expected.len()];
                    isa.gemm(panels, x, &mut out);
                    assert_eq!(out, expected, "{}", isa.name());
                    let id = BenchmarkId::new(isa.name(), format!("{}/{cols}×{tokens}", layout.name()));
                    group.bench_function(id, |b| b.iter(|| isa.gemm(black_box(panels), black_box(x), &mut out)));
                }
            }
        }
    }
}

/// Products with the signs of activations, beside those of the same shape with activations of eight
/// bits. The weights of two bits are about as much as `gemv`'s; those of one bit are half of that.
fn binary(c: &mut Criterion) {
    let layout = Layout::TwoBit;
    let mut group = c.benchmark_group("binary");
    for cols in COLS {
        let lines_per_panel = cols / layout.cols();
        let panels = 256 * 1024 / size_of::<Line>() / lines_per_panel;
        let lines = lines(layout, panels * lines_per_panel);
        let panels = Panels::new(layout, &lines, lines_per_panel);
        let rows = panels.rows();
        let read_row = |row: usize, trits: &mut [i8]| {
            let panel = &lines[row / layout.rows() * lines_per_panel..];
            for (col, trit) in trits.iter_mut().enumerate() {
                *trit = panel[col / layout.cols()].code(layout, row % layout.rows(), col % layout.cols()) as i8 - 1;
            }
        };
        let planes = TernaryPlanes::from_rows(rows, cols, read_row).expect("trits");
        let matrix = BinaryMatrix::from_rows(rows, cols, |row, signs| {
            read_row(row, signs);
            signs.iter_mut().for_each(|sign| *sign |= 1);
        })
        .expect("1 and -1");
        for tokens in [1, 8, 60] {
            let mut floats = Rows::new(cols);
            floats.set_tokens(tokens);
            let x = activations(tokens * cols);
            floats.as_mut_slice().iter_mut().zip(&x).for_each(|(float, x)| *float = f32::from(*x));
            let mut signs = BinaryRows::new(cols, Binarize::Sign);
            signs.set(&floats);

            type Product<'a> = &'a dyn Fn(&dyn Isa, &mut [i32]);
            let products: [(&str, Product<'_>); 3] = [
                ("2bit by int8", &|isa, out| match tokens {
                    1 => isa.gemv(panels, &x, out),
                    _ => isa.gemm(panels, Activations::new(&x, cols, tokens), out),
                }),
                ("planes by signs", &|isa, out| planes.multiply(isa, &signs, out)),
                ("binary by signs", &|isa, out| matrix.multiply(isa, &signs, out)),
            ];
            group.throughput(Throughput::Elements((rows * cols * tokens) as u64));
            for (name, product) in products {
                let (mut expected, mut out) = (vec![0; tokens * rows], vec![0; tokens * rows]);
                product(scalar(), &mut expected);
                for isa in contestants() {
                    product(isa, &mut out);
                    assert_eq!(out, expected, "{}: {name}", isa.name());
                    let id = BenchmarkId::new(isa.name(), format!("{name}/{cols}×{tokens}"));
                    group.bench_function(id, |b| b.iter(|| product(isa, black_box(&mut out))));
                }
            }
        }
    }
    // What comes before: a row of activations to bits.
    let (mut x, mut signs) = (Rows::new(COLS[0]), BinaryRows::new(COLS[0], Binarize::Sign));
    x.set_tokens(1);
    group.throughput(Throughput::Elements(COLS[0] as u64));
    group.bench_function("set", |b| b.iter(|| signs.set(black_box(&x))));
}

/// The gate and up projections of the 2B shape, threads and scaling included.
/// Their 8.8 MB are more than a second-level cache holds.
fn matmul(c: &mut Criterion) {
    let (rows, cols) = (6912, 2560);
    let weights = ternary(rows, cols);
    let mut group = c.benchmark_group("matmul");
    for tokens in [1, 16, 256] {
        let reference = CpuBackend::builder().threads(1).isa("scalar").build().expect("always there");
        let x = quantized(&reference, cols, tokens.min(4));
        let expected = product(&reference, &reference.pack(&weights).unwrap(), &x);
        group.throughput(Throughput::Elements((2 * rows * cols * tokens) as u64));
        for (isa, layout) in
            contestants().into_iter().flat_map(|isa| isa.layouts().iter().map(move |l| (isa, l.name())))
        {
            for threads in [1, 2] {
                let cpu = CpuBackend::builder().threads(threads).isa(isa.name()).layout(layout).build();
                let cpu = cpu.expect("this CPU has it");
                let packed = [0; 2].map(|_| cpu.pack(&weights).unwrap());
                assert_eq!(product(&cpu, &packed[0], &x), expected, "{} on {threads} threads", isa.name());
                let x = quantized(&cpu, cols, tokens);
                let mut outs = [cpu.rows(rows), cpu.rows(rows)];
                if tokens == 1 {
                    group.throughput(Throughput::Bytes((packed[0].bytes() + packed[1].bytes()) as u64));
                }
                let id = BenchmarkId::new(isa.name(), format!("{layout}, {tokens} tokens, {threads} threads"));
                group.bench_function(id, |b| {
                    let [first, second] = &mut outs;
                    b.iter(|| cpu.matmul(&x, &[&packed[0], &packed[1]], &mut [&mut *first, &mut *second]));
                });
            }
        }
    }
}

/// Attention of one token over 4,096 positions, by turns in eight layers of the 2B shape,
/// whose keys and values are more than a cache holds.
fn attend_one(c: &mut Criterion) {
    const POSITIONS: usize = 4096;
    let mut group = c.benchmark_group("attend_one");
    for kv in [KvType::F16, KvType::Int8] {
        let mut expected = None;
        for isa in contestants() {
            for threads in [1, 2] {
                let cpu =
                    CpuBackend::builder().threads(threads).isa(isa.name()).kv(kv).build().expect("this CPU has it");
                let config = attention_config(8);
                let mut cache = cpu.cache(&config, POSITIONS);
                // One query head is enough to fill the cache.
                Batch::new(&config, 0, POSITIONS - 1, 1).attend(&cpu, &mut cache, config.layers);
                let mut batch = Batch::new(&config, POSITIONS - 1, 1, 4);
                batch.attend(&cpu, &mut cache, config.layers);
                let out = batch.out.as_slice().to_vec();
                assert_eq!(*expected.get_or_insert(out.clone()), out, "{} on {threads} threads", isa.name());
                group.throughput(Throughput::Bytes(cpu.cache_bytes(&config, POSITIONS) as u64));
                group.bench_function(BenchmarkId::new(isa.name(), format!("{kv:?}, {threads} threads")), |b| {
                    b.iter(|| batch.attend(&cpu, &mut cache, config.layers));
                });
            }
        }
    }
}

/// Attention of a prompt's last 512 tokens in one layer of the 2B shape.
fn attend_prompt(c: &mut Criterion) {
    const TOKENS: usize = 512;
    let mut group = c.benchmark_group("attend_prompt");
    for kv in [KvType::F16, KvType::Int8] {
        for positions in [512, 2048] {
            let mut expected = None;
            for isa in contestants() {
                for threads in [1, 2] {
                    let cpu =
                        CpuBackend::builder().threads(threads).isa(isa.name()).kv(kv).build().expect("this CPU has it");
                    let config = attention_config(1);
                    let mut cache = cpu.cache(&config, positions);
                    let start = positions - TOKENS;
                    Batch::new(&config, 0, start, 1).attend(&cpu, &mut cache, 1);
                    let mut batch = Batch::new(&config, start, TOKENS, 4);
                    batch.attend(&cpu, &mut cache, 1);
                    let out = batch.out.as_slice().to_vec();
                    assert_eq!(*expected.get_or_insert(out.clone()), out, "{} on {threads} threads", isa.name());
                    // Multiplications of queries with keys, and of weights with values.
                    let seen: usize = (start..positions).map(|pos| pos + 1).sum();
                    group.throughput(Throughput::Elements((2 * seen * config.heads * config.head_dim) as u64));
                    let name = format!("{kv:?}, {positions} positions, {threads} threads");
                    group.bench_function(BenchmarkId::new(isa.name(), name), |b| {
                        b.iter(|| batch.attend(&cpu, &mut cache, 1));
                    });
                }
            }
        }
    }
}

/// Attention as 2B-4T has it.
fn attention_config(layers: usize) -> Config {
    Config {
        architecture: "bench".into(),
        hidden: 2560,
        layers,
        heads: 20,
        kv_heads: 5,
        head_dim: 128,
        ffn: 6912,
        vocab: 128_256,
        context: 4096,
        norm_eps: 1e-5,
        input_norm_eps: 1e-5,
        rope: Rope { theta: 500_000.0, style: RopeStyle::Halves, scaling: RopeScaling::None },
        activation: Activation::SquaredRelu,
        window: None,
        norms: Norms { sub: true, ..Norms::default() },
        embedding_scale: 1.0,
        inputs: Inputs::Int8,
        pooling: None,
        tied: true,
    }
}

/// Rows of one sequence, the same in all layers.
struct Batch {
    start: usize,
    q: Rows,
    k: Rows,
    v: Rows,
    out: Rows,
}

impl Batch {
    /// `tokens` rows from position `start` on, with `heads` query heads for each kv head.
    fn new(config: &Config, start: usize, tokens: usize, heads: usize) -> Self {
        let width = config.kv_heads * config.head_dim;
        let rows = |width: usize| {
            let mut rows = Rows::new(width);
            rows.set_tokens(tokens);
            for (x, byte) in rows.as_mut_slice().iter_mut().zip(noise(tokens * width)) {
                *x = f32::from(byte) / 64.0 - 2.0;
            }
            rows
        };
        Self { start, q: rows(heads * width), k: rows(width), v: rows(width), out: rows(heads * width) }
    }

    fn attend(&mut self, cpu: &CpuBackend, cache: &mut Cache, layers: usize) {
        let Self { start, q, k, v, out } = self;
        for layer in 0..layers {
            cpu.attend(layer, cache, *start, usize::MAX, 0..q.tokens(), q, k, v, out);
        }
    }
}

/// From a file's encoding to panels.
fn pack(c: &mut Criterion) {
    let weights = ternary(2560, 2560);
    let mut group = c.benchmark_group("pack");
    group.throughput(Throughput::Elements(2560 * 2560));
    let isa = available()[0];
    for (layout, threads) in isa.layouts().iter().flat_map(|layout| [(layout.name(), 1), (layout.name(), 2)]) {
        let cpu = CpuBackend::builder().threads(threads).layout(layout).build().expect("a pool of two");
        let id = BenchmarkId::new("i2_s", format!("{layout}, {threads} threads"));
        group.bench_function(id, |b| b.iter(|| cpu.pack(&weights)));
    }
}

fn ternary(rows: usize, cols: usize) -> TernaryMatrix<'static> {
    let trits: Vec<i8> = noise(rows * cols).map(|byte| (byte % 3) as i8 - 1).collect();
    let encoding = TernaryEncoding::I2S(Default::default());
    let bytes = encoding.encode(&trits, rows, cols, &Scales::Tensor(0.5)).expect("a shape that I2_S holds");
    TernaryMatrix::new(encoding, rows, cols, bytes, None).expect("bytes just written")
}

fn quantized(cpu: &CpuBackend, cols: usize, tokens: usize) -> Quantized {
    let mut x = cpu.rows(cols);
    x.set_tokens(tokens);
    for (x, byte) in x.as_mut_slice().iter_mut().zip(noise(tokens * cols)) {
        *x = f32::from(byte) - 127.5;
    }
    let mut q = cpu.quantized(cols, Inputs::Int8);
    cpu.quantize(&x, None, &mut q);
    q
}

fn product(cpu: &CpuBackend, weights: &PackedMatrix, x: &Quantized) -> Vec<f32> {
    let mut out: Rows = cpu.rows(weights.rows());
    cpu.matmul(x, &[weights], &mut [&mut out]);
    out.as_slice().to_vec()
}

criterion_group!(benches, gemv, gemm, binary, matmul, attend_one, attend_prompt, pack);
criterion_main!(benches);
