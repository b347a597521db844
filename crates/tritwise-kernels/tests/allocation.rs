//! Once its buffers have grown, a backend runs a token without allocating.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use tritwise_kernels::{Backend, CpuBackend, Keep};
use tritwise_tensor::{
    Activation, Config, DenseEncoding, DenseMatrix, Inputs, Norms, Rope, RopeScaling, RopeStyle, Scales,
    TernaryEncoding, TernaryMatrix,
};

/// The system's allocator, with a count.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract, which is this one's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `alloc`, so from the system.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HIDDEN: usize = 256;
const FFN: usize = 512;
/// Enough for the head to have a sketch.
const VOCAB: usize = 2100;

fn config() -> Config {
    Config {
        architecture: "test".into(),
        hidden: HIDDEN,
        layers: 1,
        heads: 8,
        kv_heads: 4,
        head_dim: 32,
        ffn: FFN,
        vocab: VOCAB,
        context: 64,
        norm_eps: 1e-5,
        input_norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, style: RopeStyle::Halves, scaling: RopeScaling::None },
        activation: Activation::SquaredRelu,
        window: None,
        norms: Norms { sub: true, ..Norms::default() },
        embedding_scale: 1.0,
        inputs: Inputs::Int8,
        pooling: None,
        tied: true,
    }
}

fn matrix(rows: usize, cols: usize) -> TernaryMatrix<'static> {
    let trits: Vec<i8> = (0..rows * cols).map(|i| (i % 3) as i8 - 1).collect();
    let encoding = TernaryEncoding::Tq2_0;
    let bytes = encoding.encode(&trits, rows, cols, &Scales::Tensor(0.25)).unwrap();
    TernaryMatrix::new(encoding, rows, cols, bytes, None).unwrap()
}

#[test]
fn a_token_after_the_first_allocates_nothing() {
    for isa in tritwise_kernels::arch::available() {
        let ways = [(Inputs::Int8, false), (Inputs::Float, false), (Inputs::Float, true)];
        for (threads, (inputs, exact)) in [1, 2].into_iter().flat_map(|threads| ways.map(|way| (threads, way))) {
            let cpu = CpuBackend::builder().threads(threads).isa(isa.name()).exact_inputs(exact).build().unwrap();
            let config = config();
            let weights: Vec<f32> = (0..VOCAB * HIDDEN).map(|i| (i % 17) as f32 - 8.0).collect();
            let bytes = DenseEncoding::F16.encode(&weights, VOCAB, HIDDEN).unwrap();
            let table = cpu.head(&DenseMatrix::new(DenseEncoding::F16, VOCAB, HIDDEN, bytes).unwrap(), true);
            let norm = cpu.norm(&vec![1.0; HIDDEN], config.norm_eps);
            let qkv = [matrix(HIDDEN, HIDDEN), matrix(HIDDEN / 2, HIDDEN), matrix(HIDDEN / 2, HIDDEN)];
            let qkv = qkv.map(|matrix| cpu.pack(&matrix).unwrap());
            let gate_up = [0; 2].map(|_| cpu.pack(&matrix(FFN, HIDDEN)).unwrap());
            let rotary = cpu.rotary(&config.rope, config.head_dim, config.context);
            let mut cache = cpu.cache(&config, config.context);
            let (mut x, mut quantized) = (cpu.rows(HIDDEN), cpu.quantized(HIDDEN, inputs));
            let [mut q, mut out] = [0; 2].map(|_| cpu.rows(HIDDEN));
            let [mut k, mut v] = [0; 2].map(|_| cpu.rows(HIDDEN / 2));
            let [mut gate, mut up] = [0; 2].map(|_| cpu.rows(FFN));
            let mut logits = vec![0.0; VOCAB];

            let mut pass = |tokens: &[u32], start: usize| {
                cpu.embed(&table, tokens, 1.0, &mut x);
                cpu.quantize(&x, Some(&norm), &mut quantized);
                cpu.matmul(&quantized, &[&qkv[0], &qkv[1], &qkv[2]], &mut [&mut q, &mut k, &mut v]);
                cpu.rope(&mut q, 0..tokens.len(), start, &rotary);
                cpu.rope(&mut k, 0..tokens.len(), start, &rotary);
                cpu.attend(0, &mut cache, start, usize::MAX, 0..tokens.len(), &q, &k, &v, &mut out);
                cpu.add(&mut x, &out);
                cpu.quantize(&x, Some(&norm), &mut quantized);
                cpu.gated_matmul(&quantized, [&gate_up[0], &gate_up[1]], config.activation, &mut gate, &mut up);
                cpu.logits(&x, &[tokens.len() - 1], &norm, &table, &mut logits);
                for keep in [Keep::best(1), Keep { best: 20, within: 3.0, always: tokens, allowed: None }] {
                    let reads = cpu.top_logits(&x, &[tokens.len() - 1], &norm, &table, &[keep], &mut logits);
                    assert_eq!(reads.screened, VOCAB);
                }
            };
            pass(&[1, 2, 3, 4, 5], 0);
            // The count is the process's: a thread that is just starting, of the pool or of
            // the test harness, adds its own. What tokens allocate is there in every round.
            let round = |round: usize| {
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                for position in 0..10 {
                    pass(&[7], 5 + 14 * round + position);
                }
                pass(&[8, 9, 10, 11], 15 + 14 * round);
                ALLOCATIONS.load(Ordering::Relaxed) - before
            };
            let least = (0..4).map(round).min();
            assert_eq!(least, Some(0), "{} on {threads} threads, {inputs:?}, exact: {exact}", isa.name());
        }
    }
}
