//! The graph against an independent, obvious one in `f64`.

mod support;

use support::{Random, RandomCheckpoint, bitnet, llama};
use tritwise_kernels::CpuBackend;
use tritwise_kernels::cpu::KvType;
use tritwise_model::{Model, Turn, Wanted};
use tritwise_tensor::{Activation, LayerTensor, RopeScaling, RopeStyle, TensorId};

#[test]
fn logits_agree_with_the_formulas() {
    for (name, config) in [("bitnet", bitnet()), ("llama", llama())] {
        let checkpoint = RandomCheckpoint::new(config, 1);
        let mut random = Random(9);
        let tokens: Vec<u32> = (0..40).map(|_| random.below(checkpoint.config.vocab as u32)).collect();
        let expected = reference(&checkpoint, &tokens);
        let cpu = CpuBackend::builder().threads(1).kv(KvType::F32).build().expect("a CPU has a backend");
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
        // An activation that lies on a tie may round to another int8 in f64 than
        // in f32, and that shows; it must be rare. Everything else agrees closely.
        let flipped = errors.iter().filter(|e| **e > 1e-5).count();
        let worst = errors.iter().fold(0.0f64, |m, e| m.max(*e));
        println!("{name}: {flipped} positions have a flip, largest difference {worst:.1e} of the largest logit");
        assert!(flipped <= tokens.len() / 8 && worst < 5e-2, "{name}: {errors:?}");
    }
}

/// Logits of every position, written down as the papers do.
fn reference(checkpoint: &RandomCheckpoint, tokens: &[u32]) -> Vec<Vec<f64>> {
    let c = &checkpoint.config;
    let tensor = |id| checkpoint.tensors[&id].iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let layer = |n, t| tensor(TensorId::Layer(n, t));
    let embedding = tensor(TensorId::TokenEmbedding);
    let row = |t: &u32| embedding[*t as usize * c.hidden..][..c.hidden].to_vec();
    let mut xs: Vec<Vec<f64>> = tokens.iter().map(row).collect();
    let norm = |x: &[f64], w: &[f64]| {
        let r = (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + f64::from(c.norm_eps)).sqrt();
        x.iter().zip(w).map(|(x, w)| x / r * w).collect::<Vec<_>>()
    };
    let linear = |x: &[f64], w: &[f64]| {
        let s = 127.0 / x.iter().fold(1e-5f64, |m, x| m.max(x.abs()));
        let q: Vec<f64> = x.iter().map(|x| (x * s).round_ties_even() / s).collect();
        w.chunks(x.len()).map(|w| dot(w, &q)).collect::<Vec<f64>>()
    };
    for n in 0..c.layers {
        let heads = |x: &[f64], pos: usize, rotate: bool| -> Vec<Vec<f64>> {
            x.chunks(c.head_dim).map(|h| if rotate { rope(h, pos, c) } else { h.to_vec() }).collect()
        };
        let (mut ks, mut vs) = (Vec::new(), Vec::new());
        for (pos, x) in xs.iter_mut().enumerate() {
            let h = norm(x, &layer(n, LayerTensor::AttnNorm));
            let q = heads(&linear(&h, &layer(n, LayerTensor::Query)), pos, true);
            ks.push(heads(&linear(&h, &layer(n, LayerTensor::Key)), pos, true));
            vs.push(heads(&linear(&h, &layer(n, LayerTensor::Value)), pos, false));
            let mut a = Vec::new();
            for (i, q) in q.iter().enumerate() {
                let kv = i * c.kv_heads / c.heads;
                let weights: Vec<f64> =
                    ks.iter().map(|k| (dot(q, &k[kv]) / (c.head_dim as f64).sqrt()).exp()).collect();
                let sum: f64 = weights.iter().sum();
                a.extend(
                    (0..c.head_dim).map(|d| weights.iter().zip(&vs).map(|(w, v)| w / sum * v[kv][d]).sum::<f64>()),
                );
            }
            if c.norms.sub {
                a = norm(&a, &layer(n, LayerTensor::AttnSubNorm));
            }
            add(x, &linear(&a, &layer(n, LayerTensor::AttnOutput)));
            let h = norm(x, &layer(n, LayerTensor::FfnNorm));
            let (g, u) = (linear(&h, &layer(n, LayerTensor::Gate)), linear(&h, &layer(n, LayerTensor::Up)));
            let act = |g: f64| match c.activation {
                Activation::SquaredRelu => g.max(0.0).powi(2),
                Activation::Silu => g / (1.0 + (-g).exp()),
                Activation::GeluTanh => {
                    let u = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044_715 * g.powi(3));
                    g / 2.0 * (1.0 + u.tanh())
                }
            };
            let mut f: Vec<f64> = g.iter().zip(&u).map(|(g, u)| act(*g) * u).collect();
            if c.norms.sub {
                f = norm(&f, &layer(n, LayerTensor::FfnSubNorm));
            }
            add(x, &linear(&f, &layer(n, LayerTensor::Down)));
        }
    }
    let head = if c.tied { embedding } else { tensor(TensorId::Output) };
    let output_norm = tensor(TensorId::OutputNorm);
    xs.iter().map(|x| head.chunks(c.hidden).map(|w| dot(w, &norm(x, &output_norm))).collect()).collect()
}

fn rope(head: &[f64], pos: usize, c: &tritwise_tensor::Config) -> Vec<f64> {
    let d = head.len();
    let mut out = head.to_vec();
    for i in 0..d / 2 {
        let factor = match &c.rope.scaling {
            RopeScaling::None => 1.0,
            RopeScaling::Linear { factor } => f64::from(*factor),
            RopeScaling::Divisors(divisors) => f64::from(divisors[i]),
            RopeScaling::Yarn { .. } => unimplemented!("compared with transformers"),
        };
        let angle = pos as f64 / factor * f64::from(c.rope.theta).powf(-2.0 * i as f64 / d as f64);
        let (a, b) = match c.rope.style {
            RopeStyle::Halves => (i, i + d / 2),
            RopeStyle::Interleaved => (2 * i, 2 * i + 1),
        };
        out[a] = head[a] * angle.cos() - head[b] * angle.sin();
        out[b] = head[b] * angle.cos() + head[a] * angle.sin();
    }
    out
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
