//! The graph against an independent, obvious one in `f64`.

mod support;

use support::{Random, RandomCheckpoint, bitnet, gemma, llama};
use tritwise_kernels::CpuBackend;
use tritwise_kernels::cpu::KvType;
use tritwise_model::{Model, Turn, Wanted};
use tritwise_tensor::{Activation, Config, Inputs, LayerTensor, Rope, RopeScaling, RopeStyle, TensorId};

#[test]
fn logits_agree_with_the_formulas() {
    for (name, config) in [("bitnet", bitnet()), ("llama", llama()), ("gemma", gemma())] {
        let errors = errors(name, config, false);
        // An activation that lies on a tie may round to another int8 in f64 than
        // in f32, and that shows; it must be rare. Everything else agrees closely.
        let flipped = errors.iter().filter(|e| **e > 1e-5).count();
        println!("{name}: {flipped} positions have a flip");
        assert!(flipped <= errors.len() / 8 && errors.iter().all(|e| *e < 5e-2), "{name}: {errors:?}");
    }
}

#[test]
fn logits_of_weight_only_models_agree_with_the_formulas() {
    for config in [bitnet(), llama(), gemma()].map(|config| Config { inputs: Inputs::Float, ..config }) {
        for (name, exact, tolerance) in [("inputs of 16 bits", false, 2e-3), ("inputs as they are", true, 2e-5)] {
            let errors = errors(name, config.clone(), exact);
            assert!(errors.iter().all(|e| *e < tolerance), "{name}: {errors:?}");
        }
    }
}

/// The largest difference of each position's logits, as a share of the largest logit.
fn errors(name: &str, config: Config, exact_inputs: bool) -> Vec<f64> {
    let checkpoint = RandomCheckpoint::new(config, 1);
    let mut random = Random(9);
    let tokens: Vec<u32> = (0..40).map(|_| random.below(checkpoint.config.vocab as u32)).collect();
    let expected = reference(&checkpoint, &tokens);
    let cpu = CpuBackend::builder().threads(1).kv(KvType::F32).exact_inputs(exact_inputs);
    let cpu = cpu.build().expect("a CPU has a backend");
    let model = Model::load(cpu, &checkpoint, 64, &mut |_| {}).expect("the checkpoint is whole");
    let (mut sequence, mut workspace) = (model.sequence(64), model.workspace());
    let turn = Turn { sequence: &mut sequence, tokens: &tokens, wanted: Wanted::All };
    let found = model.forward(&mut workspace, &mut [turn]).expect("tokens fit");

    let largest = expected.iter().flatten().fold(0.0f64, |m, x| m.max(x.abs()));
    let errors: Vec<f64> = found
        .rows()
        .zip(&expected)
        .map(|(f, e)| f.iter().zip(e).map(|(f, e)| (f64::from(*f) - e).abs()).fold(0.0, f64::max) / largest)
        .collect();
    println!("{name}: largest difference {:.1e} of the largest logit", errors.iter().fold(0.0f64, |m, e| m.max(*e)));
    errors
}

/// Logits of every position, written down as the papers do.
fn reference(checkpoint: &RandomCheckpoint, tokens: &[u32]) -> Vec<Vec<f64>> {
    let c = &checkpoint.config;
    let tensor = |id| checkpoint.tensors[&id].iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let layer = |n, t| tensor(TensorId::Layer(n, t));
    let embedding = tensor(TensorId::TokenEmbedding);
    let row = |t: &u32| {
        let row = &embedding[*t as usize * c.hidden..][..c.hidden];
        row.iter().map(|x| x * f64::from(c.embedding_scale)).collect::<Vec<_>>()
    };
    let mut xs: Vec<Vec<f64>> = tokens.iter().map(row).collect();
    let norm_with = |eps: f32, x: &[f64], w: &[f64]| {
        let r = (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + f64::from(eps)).sqrt();
        x.iter().zip(w).map(|(x, w)| x / r * w).collect::<Vec<_>>()
    };
    let norm = |x: &[f64], w: &[f64]| norm_with(c.norm_eps, x, w);
    // A projection's input, through its own norm where it has one.
    let own = |x: &[f64], n, t, any: bool| match any {
        true => norm_with(if c.norms.inputs { c.input_norm_eps } else { c.norm_eps }, x, &layer(n, t)),
        false => x.to_vec(),
    };
    let post = |x: Vec<f64>, n, t| if c.norms.post { norm(&x, &layer(n, t)) } else { x };
    let linear = |x: &[f64], w: &[f64]| {
        let s = 127.0 / x.iter().fold(1e-5f64, |m, x| m.max(x.abs()));
        let rounded = |x: &f64| if c.inputs == Inputs::Int8 { (x * s).round_ties_even() / s } else { *x };
        let q: Vec<f64> = x.iter().map(rounded).collect();
        w.chunks(x.len()).map(|w| dot(w, &q)).collect::<Vec<f64>>()
    };
    for n in 0..c.layers {
        let (rotary, window) = match &c.window {
            Some(window) if window.layers[n] => (&window.rope, window.width),
            _ => (&c.rope, usize::MAX),
        };
        let heads = |x: &[f64], pos: usize, head_norm: Option<LayerTensor>| -> Vec<Vec<f64>> {
            let head = |h: &[f64]| match head_norm {
                None => h.to_vec(),
                Some(t) if c.norms.heads => rope(&norm(h, &layer(n, t)), pos, rotary),
                Some(_) => rope(h, pos, rotary),
            };
            x.chunks(c.head_dim).map(head).collect()
        };
        let (mut ks, mut vs) = (Vec::new(), Vec::new());
        for (pos, x) in xs.iter_mut().enumerate() {
            let h = norm(x, &layer(n, LayerTensor::AttnNorm));
            let project = |norm, t| linear(&own(&h, n, norm, c.norms.inputs), &layer(n, t));
            let q = project(LayerTensor::QueryInputNorm, LayerTensor::Query);
            let k = project(LayerTensor::KeyInputNorm, LayerTensor::Key);
            let q = heads(&q, pos, Some(LayerTensor::QueryNorm));
            ks.push(heads(&k, pos, Some(LayerTensor::KeyNorm)));
            vs.push(heads(&project(LayerTensor::ValueInputNorm, LayerTensor::Value), pos, None));
            let first = (pos + 1).saturating_sub(window);
            let mut a = Vec::new();
            for (i, q) in q.iter().enumerate() {
                let kv = i * c.kv_heads / c.heads;
                let weights: Vec<f64> =
                    ks[first..].iter().map(|k| (dot(q, &k[kv]) / (c.head_dim as f64).sqrt()).exp()).collect();
                let sum: f64 = weights.iter().sum();
                a.extend(
                    (0..c.head_dim)
                        .map(|d| weights.iter().zip(&vs[first..]).map(|(w, v)| w / sum * v[kv][d]).sum::<f64>()),
                );
            }
            let a = own(&a, n, LayerTensor::AttnSubNorm, c.norms.sub);
            add(x, &post(linear(&a, &layer(n, LayerTensor::AttnOutput)), n, LayerTensor::PostAttnNorm));
            let h = norm(x, &layer(n, LayerTensor::FfnNorm));
            let project = |norm, t| linear(&own(&h, n, norm, c.norms.inputs), &layer(n, t));
            let g = project(LayerTensor::GateInputNorm, LayerTensor::Gate);
            let u = project(LayerTensor::UpInputNorm, LayerTensor::Up);
            let act = |g: f64| match c.activation {
                Activation::SquaredRelu => g.max(0.0).powi(2),
                Activation::Silu => g / (1.0 + (-g).exp()),
                Activation::GeluTanh => {
                    let u = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044_715 * g.powi(3));
                    g / 2.0 * (1.0 + u.tanh())
                }
            };
            let f: Vec<f64> = g.iter().zip(&u).map(|(g, u)| act(*g) * u).collect();
            let f = own(&f, n, LayerTensor::FfnSubNorm, c.norms.sub);
            add(x, &post(linear(&f, &layer(n, LayerTensor::Down)), n, LayerTensor::PostFfnNorm));
        }
    }
    let head = if c.tied { embedding } else { tensor(TensorId::Output) };
    let output_norm = tensor(TensorId::OutputNorm);
    xs.iter().map(|x| head.chunks(c.hidden).map(|w| dot(w, &norm(x, &output_norm))).collect()).collect()
}

fn rope(head: &[f64], pos: usize, rope: &Rope) -> Vec<f64> {
    let d = head.len();
    let theta = f64::from(rope.theta);
    let mut out = head.to_vec();
    for i in 0..d / 2 {
        let (factor, magnitude) = match &rope.scaling {
            RopeScaling::None => (1.0, 1.0),
            RopeScaling::Linear { factor } => (f64::from(*factor), 1.0),
            RopeScaling::Divisors(divisors) => (f64::from(divisors[i]), 1.0),
            RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, magnitude } => {
                let turns = |t: f32| {
                    let ratio = *original_context as f64 / (f64::from(t) * 2.0 * std::f64::consts::PI);
                    d as f64 * ratio.ln() / (2.0 * theta.ln())
                };
                let (fast, slow) = (turns(*beta_fast).floor().max(0.0), turns(*beta_slow).ceil().min(d as f64 - 1.0));
                let kept = 1.0 - ((i as f64 - fast) / (slow - fast)).clamp(0.0, 1.0);
                (1.0 / (kept + (1.0 - kept) / f64::from(*factor)), f64::from(*magnitude))
            }
        };
        let angle = pos as f64 / factor * theta.powf(-2.0 * i as f64 / d as f64);
        let (a, b) = match rope.style {
            RopeStyle::Halves => (i, i + d / 2),
            RopeStyle::Interleaved => (2 * i, 2 * i + 1),
        };
        out[a] = magnitude * (head[a] * angle.cos() - head[b] * angle.sin());
        out[b] = magnitude * (head[b] * angle.cos() + head[a] * angle.sin());
    }
    out
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
