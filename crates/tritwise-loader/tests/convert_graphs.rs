//! Every graph in every container that has a name for it, and back.

mod support;

use std::path::Path;

use support::*;
use tritwise_loader::{Conversion, Error, Options, Source};
use tritwise_tensor::{
    Activation, Checkpoint, CheckpointError, Config, DenseEncoding, DenseMatrix, FloatKind, Inputs, LayerTensor, Norms,
    Pooling, Rope, RopeScaling, RopeStyle, Scales, SlidingWindow, TensorId, Ternarize, TernaryEncoding, TernaryMatrix,
};

/// A checkpoint that is in no file.
struct Made {
    config: Config,
    /// Of the linear layers.
    encoding: TernaryEncoding,
}

impl Checkpoint for Made {
    fn config(&self) -> &Config {
        &self.config
    }

    fn ternary(&self, id: TensorId, rows: usize, cols: usize) -> Result<TernaryMatrix<'_>, CheckpointError> {
        let bytes = match self.encoding {
            TernaryEncoding::Float(FloatKind::Bf16, Ternarize::Absmean) => {
                DenseEncoding::Bf16.encode(&floats(id, rows * cols), rows, cols).unwrap()
            }
            encoding => encoding.encode(&trits(id, rows, cols), rows, cols, &Scales::Tensor(scale(id))).unwrap(),
        };
        Ok(TernaryMatrix::new(self.encoding, rows, cols, bytes, None).unwrap())
    }

    fn dense(&self, id: TensorId, rows: usize, cols: usize) -> Result<DenseMatrix<'_>, CheckpointError> {
        let bytes = DenseEncoding::Bf16.encode(&floats(id, rows * cols), rows, cols).unwrap();
        Ok(DenseMatrix::new(DenseEncoding::Bf16, rows, cols, bytes).unwrap())
    }

    fn vector(&self, id: TensorId, len: usize) -> Result<Vec<f32>, CheckpointError> {
        Ok(floats(id, len))
    }

    fn finish(&self) -> Result<(), CheckpointError> {
        Ok(())
    }
}

fn rope(scaling: RopeScaling) -> Rope {
    Rope { theta: 1e6, style: RopeStyle::Halves, scaling }
}

fn llama() -> Config {
    Config {
        architecture: String::new(),
        hidden: HIDDEN,
        layers: LAYERS,
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_dim: HEAD_DIM,
        ffn: FFN,
        vocab: VOCAB,
        context: 64,
        norm_eps: 1e-6,
        input_norm_eps: 1e-6,
        rope: rope(RopeScaling::None),
        window: None,
        activation: Activation::Silu,
        norms: Norms::default(),
        embedding_scale: 1.0,
        inputs: Inputs::Int8,
        tied: false,
        pooling: None,
    }
}

fn bitnet() -> Config {
    Config {
        norms: Norms { sub: true, ..Norms::default() },
        activation: Activation::SquaredRelu,
        tied: true,
        ..llama()
    }
}

fn qwen3() -> Config {
    Config { norms: Norms { heads: true, ..Norms::default() }, ..llama() }
}

fn gemma3() -> Config {
    Config {
        norms: Norms { heads: true, post: true, ..Norms::default() },
        activation: Activation::GeluTanh,
        embedding_scale: 16.0,
        tied: true,
        ..llama()
    }
}

/// With a norm in front of each projection.
fn with_inputs(config: Config) -> Config {
    Config { norms: Norms { inputs: true, sub: true, ..config.norms }, ..config }
}

fn windows(layers: &[bool]) -> Config {
    let window = SlidingWindow {
        width: 16,
        layers: layers.to_vec(),
        rope: Rope { theta: 1e4, style: RopeStyle::Halves, scaling: RopeScaling::None },
    };
    Config { layers: layers.len(), window: Some(window), ..gemma3() }
}

fn yarn(magnitude: f32) -> RopeScaling {
    RopeScaling::Yarn { factor: 4.0, original_context: 16, beta_fast: 32.0, beta_slow: 1.0, magnitude }
}

fn usual_magnitude() -> f32 {
    (1.0 + 4f64.ln() / 10.0) as f32
}

/// What a GGUF file and a folder call each graph; empty where they have no word for it.
fn graphs() -> Vec<(&'static str, &'static str, Config)> {
    let every_third = [true, true, false, true, true, false, true];
    let irregular = [false, true, true, false, true];
    let divisors: Vec<f32> = (0..HEAD_DIM / 2).map(|i| 1.0 + i as f32 / 4.0).collect();
    vec![
        ("bitnet-b1.58", "BitNetForCausalLM", bitnet()),
        ("bitnet", "BitNetForCausalLM", Config { activation: Activation::Silu, ..bitnet() }),
        ("llama", "LlamaForCausalLM", llama()),
        ("llama", "LlamaForCausalLM", Config { rope: rope(RopeScaling::Linear { factor: 2.5 }), ..llama() }),
        ("llama", "", Config { rope: rope(RopeScaling::Divisors(divisors)), ..llama() }),
        ("llama", "", Config { inputs: Inputs::Float, ..llama() }),
        ("llama", "LlamaForCausalLM", with_inputs(llama())),
        ("", "LlamaForCausalLM", Config { input_norm_eps: 1e-5, ..with_inputs(llama()) }),
        ("", "LlamaForCausalLM", Config { activation: Activation::SquaredRelu, ..llama() }),
        ("", "", Config { embedding_scale: 2.0, ..llama() }),
        ("qwen3", "Qwen3ForCausalLM", qwen3()),
        ("qwen3", "Qwen3ForCausalLM", Config { rope: rope(yarn(usual_magnitude())), ..qwen3() }),
        ("qwen3", "Qwen3ForCausalLM", Config { rope: rope(yarn(1.0)), ..qwen3() }),
        ("qwen3", "", Config { rope: rope(yarn(usual_magnitude())), inputs: Inputs::Float, ..qwen3() }),
        ("qwen3", "Qwen3ForCausalLM", Config { pooling: Some(Pooling::Last), tied: true, ..with_inputs(qwen3()) }),
        (
            "",
            "Qwen3ForCausalLM",
            Config {
                window: Some(SlidingWindow { rope: rope(RopeScaling::None), ..windows(&irregular).window.unwrap() }),
                layers: 5,
                ..qwen3()
            },
        ),
        ("", "", Config { window: windows(&irregular).window, layers: 5, ..llama() }),
        ("gemma3", "Gemma3ForCausalLM", gemma3()),
        ("gemma3", "Gemma3ForCausalLM", windows(&every_third)),
        ("gemma3", "Gemma3ForCausalLM", windows(&irregular)),
        ("gemma3", "Gemma3ForCausalLM", Config { pooling: Some(Pooling::Mean), ..with_inputs(windows(&irregular)) }),
    ]
}

fn to(linear: TernaryEncoding) -> Conversion {
    let mut conversion = Conversion::default();
    conversion.linear = linear;
    conversion
}

fn open(path: &Path) -> Source {
    tritwise_loader::open(path, &Options::default()).unwrap()
}

/// Whether `source` is the graph `config` with all of its tensors, the rows of rotated heads wherever its style wants them.
fn assert_is(source: &Source, architecture: &str, config: &Config) {
    let mut expected = Config { architecture: architecture.to_owned(), ..config.clone() };
    expected.rope.style = source.config().rope.style;
    assert_eq!(*source.config(), expected);
    for Tensor { id, rows, cols, linear } in tensors_of(config) {
        match (linear, rows) {
            (false, 1) => assert_eq!(source.vector(id, cols).unwrap(), floats(id, cols), "{id}"),
            (false, _) => {
                let (table, expected) = (source.dense(id, rows, cols).unwrap(), floats(id, rows * cols));
                let mut found = vec![0.0; rows * cols];
                found.chunks_exact_mut(cols).enumerate().for_each(|(row, out)| table.read_row(row, out));
                assert_eq!(found, expected, "{id}");
            }
            (true, _) => {
                let (matrix, expected) = (source.ternary(id, rows, cols).unwrap(), trits(id, rows, cols));
                assert_eq!(*matrix.scales(), Scales::Tensor(scale(id)), "{id}");
                let rotated = matches!(id, TensorId::Layer(_, LayerTensor::Query | LayerTensor::Key));
                let interleaved = rotated && expected_style(source) == RopeStyle::Interleaved;
                let mut found = vec![0; cols];
                for row in 0..rows {
                    matrix.read_row(row, &mut found);
                    let (head, pair, half) = (row / HEAD_DIM, row % HEAD_DIM / 2, row % 2);
                    let from = if interleaved { head * HEAD_DIM + half * (HEAD_DIM / 2) + pair } else { row };
                    assert_eq!(found, expected[from * cols..][..cols], "{id} row {row}");
                }
            }
        }
    }
    source.finish().unwrap();
}

/// GGUF's llama is the one graph of interleaved heads.
fn expected_style(source: &Source) -> RopeStyle {
    let style = source.config().rope.style;
    assert_eq!(style == RopeStyle::Interleaved, source.config().architecture == "llama");
    style
}

#[test]
fn every_graph_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    for (n, (gguf, hf, config)) in graphs().into_iter().enumerate() {
        let path = |name: &str| folder.path().join(format!("{n}{name}"));
        let made = Made { config: config.clone(), encoding: I2S };
        let write = |name: &str, linear| tritwise_loader::write(&made, path(name), &to(linear), &mut |_| {});
        let check = |written: Result<(), Error>, name: &str, architecture: &str| match (written, architecture) {
            (Ok(()), "") => panic!("{config:?} was written as {name}"),
            (Ok(()), _) => assert_is(&open(&path(name)), architecture, &config),
            (Err(error), "") => assert!(error.to_string().starts_with("the checkpoint: "), "{error}"),
            (Err(error), _) => panic!("{config:?}: {error}"),
        };
        check(write("a.gguf", I2S), "a.gguf", gguf);
        check(write("a", TernaryEncoding::HfPacked), "a", hf);
        if gguf.is_empty() || hf.is_empty() {
            continue;
        }
        // From file to folder and from folder to file; both compare what they wrote with what they read.
        let convert = |from: &str, name: &str, linear| {
            tritwise_loader::convert(&open(&path(from)), path(name), &to(linear), &mut |_| {})
        };
        check(convert("a.gguf", "b", TernaryEncoding::HfPacked), "b", hf);
        check(convert("b", "b.gguf", TernaryEncoding::Tq1_0), "b.gguf", gguf);
        assert!(
            std::fs::read(path("a").join("model.safetensors")).unwrap()
                == std::fs::read(path("b").join("model.safetensors")).unwrap()
        );
        // Without what is written as the rope's style was not known to the folder.
        let json = |name: &str| std::fs::read_to_string(path(name).join("config.json")).unwrap();
        assert_eq!(json("a"), json("b"));
    }
}

#[test]
fn master_weights_are_copied_and_their_mean_taken_on_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let masters = TernaryEncoding::Float(FloatKind::Bf16, Ternarize::Absmean);
    for config in [bitnet(), llama(), with_inputs(qwen3()), gemma3()] {
        let path = folder.path().join(format!("{:?}", config.norms));
        let made = Made { config: config.clone(), encoding: masters };
        tritwise_loader::write(&made, &path, &to(masters), &mut |_| {}).unwrap();
        let source = open(&path);
        for Tensor { id, rows, cols, .. } in tensors_of(&config).into_iter().filter(|tensor| tensor.linear) {
            assert!(source.ternary(id, rows, cols).unwrap() == made.ternary(id, rows, cols).unwrap(), "{id}");
        }
        let written = path.join("model.gguf");
        tritwise_loader::convert(&source, &written, &to(I2S), &mut |_| {}).unwrap();
        // To another encoding only as what they are made of.
        let refused =
            tritwise_loader::write(&Made { config, encoding: I2S }, path.join("b"), &to(masters), &mut |_| {});
        assert!(refused.unwrap_err().to_string().contains("it can be written as I2_S"));
        assert!(!path.join("b").exists() && !path.join("b.partial").exists());
    }
}
