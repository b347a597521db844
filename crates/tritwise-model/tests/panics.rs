//! A panic on the model's threads, at any point of a forward call: the caller's, and nothing is spoilt by it.

mod support;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{RandomCheckpoint, bitnet, gemma, llama};
use tritwise_kernels::{Backend, CpuBackend, HeadReads, Keep, PackError};
use tritwise_model::{Model, Turn, Wanted};
use tritwise_tensor::{
    Activation, Config, DenseEncoding, DenseMatrix, Inputs, Rope, SharedBytes, Storage, TernaryMatrix,
};

/// A CPU on whose threads the `n`-th operation from now panics, before it has changed anything.
#[derive(Debug)]
struct Faulty {
    cpu: CpuBackend,
    /// Operations until then; none at 0.
    left: AtomicUsize,
}

impl Faulty {
    fn step(&self) {
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) == Ok(1) {
            // Copying a table is a region of the pool, which calls this storage on whatever thread takes a piece.
            let (rows, cols) = (1 << 11, 1 << 10);
            let bytes = SharedBytes::new(Arc::new(Mine(vec![0; 4 * rows * cols])), 0..4 * rows * cols);
            self.cpu.table(&DenseMatrix::new(DenseEncoding::F32, rows, cols, bytes).expect("sizes fit"));
        }
    }
}

/// Bytes whose keeper panics when they are given back.
struct Mine(Vec<u8>);

impl Storage for Mine {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn release(&self, _range: Range<usize>) {
        // Without the hook's message in the test's output.
        resume_unwind(Box::new("the kernel's own mistake"));
    }
}

/// Operations that count, each a call of the CPU's.
macro_rules! faulty {
    ($(fn $name:ident(&self $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)?;)*) => {$(
        #[allow(clippy::too_many_arguments, reason = "the operands of the operation")]
        fn $name(&self $(, $arg: $ty)*) $(-> $ret)? {
            self.step();
            self.cpu.$name($($arg),*)
        }
    )*};
}

impl Backend for Faulty {
    type Matrix = <CpuBackend as Backend>::Matrix;
    type Table = <CpuBackend as Backend>::Table;
    type Norm = <CpuBackend as Backend>::Norm;
    type Rows = <CpuBackend as Backend>::Rows;
    type Quantized = <CpuBackend as Backend>::Quantized;
    type Rotary = <CpuBackend as Backend>::Rotary;
    type Cache = <CpuBackend as Backend>::Cache;

    faulty! {
        fn pack(&self, weights: &TernaryMatrix<'_>) -> Result<Self::Matrix, PackError>;
        fn table(&self, weights: &DenseMatrix<'_>) -> Self::Table;
        fn head(&self, weights: &DenseMatrix<'_>, tied: bool) -> Self::Table;
        fn norm(&self, weight: &[f32], eps: f32) -> Self::Norm;
        fn rows(&self, width: usize) -> Self::Rows;
        fn quantized(&self, width: usize, inputs: Inputs) -> Self::Quantized;
        fn rotary(&self, rope: &Rope, head_dim: usize, context: usize) -> Self::Rotary;
        fn cache(&self, config: &Config, capacity: usize) -> Self::Cache;
        fn fork(&self, cache: &Self::Cache, positions: usize) -> Self::Cache;
        fn record_bytes(&self, cache: &Self::Cache) -> usize;
        fn read_record(&self, cache: &Self::Cache, position: usize, record: &mut [u8]);
        fn write_record(&self, cache: &mut Self::Cache, position: usize, record: &[u8]) -> bool;
        fn matrix_bytes(&self, matrix: &Self::Matrix) -> usize;
        fn table_bytes(&self, table: &Self::Table) -> usize;
        fn logits_bytes(&self, table: &Self::Table) -> usize;
        fn cache_bytes(&self, config: &Config, capacity: usize) -> usize;
        fn embed(&self, table: &Self::Table, tokens: &[u32], scale: f32, out: &mut Self::Rows);
        fn normalize(&self, x: &Self::Rows, norm: &Self::Norm, out: &mut Self::Rows);
        fn quantize(&self, x: &Self::Rows, norm: Option<&Self::Norm>, out: &mut Self::Quantized);
        fn matmul(&self, x: &Self::Quantized, weights: &[&Self::Matrix], outs: &mut [&mut Self::Rows]);
        fn gated_matmul(
            &self,
            x: &Self::Quantized,
            gate_up: [&Self::Matrix; 2],
            activation: Activation,
            out: &mut Self::Rows,
            scratch: &mut Self::Rows
        );
        fn rope(&self, x: &mut Self::Rows, rows: Range<usize>, start: usize, rotary: &Self::Rotary);
        fn attend(
            &self,
            layer: usize,
            cache: &mut Self::Cache,
            start: usize,
            window: usize,
            rows: Range<usize>,
            q: &Self::Rows,
            k: &Self::Rows,
            v: &Self::Rows,
            out: &mut Self::Rows
        );
        fn gate(&self, activation: Activation, gate: &mut Self::Rows, up: &Self::Rows);
        fn add(&self, x: &mut Self::Rows, y: &Self::Rows);
        fn hidden(&self, x: &Self::Rows, rows: &[usize], norm: &Self::Norm, out: &mut [f32]);
        fn logits(&self, x: &Self::Rows, rows: &[usize], norm: &Self::Norm, table: &Self::Table, out: &mut [f32]);
        fn top_logits(
            &self,
            x: &Self::Rows,
            rows: &[usize],
            norm: &Self::Norm,
            table: &Self::Table,
            keeps: &[Keep<'_>],
            out: &mut [f32]
        ) -> HeadReads;
    }
}

#[test]
fn a_forward_call_that_panics_leaves_the_sequence_the_workspace_and_the_threads() {
    for config in [bitnet(), llama(), gemma()] {
        let cpu = CpuBackend::builder().threads(2).build().expect("two threads can be started");
        let backend = Faulty { cpu, left: AtomicUsize::new(0) };
        let model = Model::load(backend, &RandomCheckpoint::new(config, 1), 64, &mut |_| {});
        let model = model.expect("the checkpoint is whole");
        let mut workspace = model.workspace();
        let mut run = |sequence: &mut _, tokens: &[u32]| {
            let turn = Turn { sequence, tokens, wanted: Wanted::All };
            model.forward(&mut workspace, &mut [turn]).expect("tokens fit").as_slice().to_vec()
        };
        let expected = [run(&mut model.sequence(64), &[7, 3, 20, 41, 5])].concat();

        let mut panics = 0;
        for operation in 1.. {
            let mut sequence = model.sequence(64);
            run(&mut sequence, &[7, 3]);
            model.backend().left.store(operation, Ordering::Relaxed);
            let call = catch_unwind(AssertUnwindSafe(|| run(&mut sequence, &[20, 41, 5])));
            if model.backend().left.swap(0, Ordering::Relaxed) > 0 {
                // The call had fewer operations.
                assert!(call.is_ok());
                break;
            }
            assert_eq!(call.expect_err("it panicked").downcast_ref(), Some(&"the kernel's own mistake"));
            assert_eq!(sequence.len(), 2);
            let found = run(&mut sequence, &[20, 41, 5]);
            assert_eq!(found, expected[2 * model.config().vocab..], "after a panic in operation {operation}");
            panics += 1;
        }
        assert!(panics > 10 * model.config().layers, "{panics} operations");
    }
}
