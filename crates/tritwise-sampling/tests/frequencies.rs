//! Draws have the frequencies that the chain's exact distribution asks for, and a slightly wrong chain is noticed.

use tritwise_sampling::{Params, Step};

/// The logits of twelve tokens, no two alike.
const LOGITS: [f32; 12] = [0.0, 1.0, 2.0, -1.0, 0.5, 1.5, -2.0, 0.25, 2.25, -0.5, 1.25, -3.0];

/// What was said before: 2 and 8 often, and 4 5 6 about to go on with 7.
const HISTORY: [u32; 9] = [2, 8, 4, 5, 6, 7, 4, 5, 6];

const NEVER: f64 = f64::NEG_INFINITY;

fn softmax(logits: &[f64]) -> Vec<f64> {
    let total: f64 = logits.iter().map(|x| x.exp()).sum();
    logits.iter().map(|x| x.exp() / total).collect()
}

fn entropy(probabilities: &[f64]) -> f64 {
    probabilities.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}

/// Ids by what `key` says, lowest first.
fn by(key: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..LOGITS.len()).collect();
    ids.sort_by(|&a, &b| key(a).total_cmp(&key(b)));
    ids
}

/// Keeps those for which `keep` is true.
fn cut(logits: &mut [f64], keep: impl Fn(usize) -> bool) {
    logits.iter_mut().enumerate().filter(|(id, _)| !keep(*id)).for_each(|(_, logit)| *logit = NEVER);
}

/// The shortest head of `order` of which the probabilities sum to `p`.
fn head(order: &[usize], probabilities: &[f64], p: f64) -> Vec<usize> {
    let mut mass = 0.0;
    let mut head = Vec::new();
    for &id in order {
        head.push(id);
        mass += probabilities[id];
        if mass >= p {
            break;
        }
    }
    head
}

/// The distribution after `steps`, from the definitions; with XTC it is a mixture of two.
fn distribution(params: &Params, steps: &[Step], mut logits: Vec<f64>) -> Vec<f64> {
    let Some((step, rest)) = steps.split_first() else { return softmax(&logits) };
    let p = softmax(&logits);
    let best = logits.iter().copied().fold(NEVER, f64::max);
    let possible: Vec<f64> = logits.iter().copied().filter(|x| *x > NEVER).collect();
    let given = logits.clone();
    match step {
        Step::Ban => cut(&mut logits, |id| !params.banned.contains(&(id as u32))),
        Step::LogitBias => params.logit_bias.iter().for_each(|&(id, bias)| logits[id as usize] += f64::from(bias)),
        Step::Penalties => {
            for (id, logit) in logits.iter_mut().enumerate() {
                let n = HISTORY.iter().filter(|&&said| said == id as u32).count() as f64;
                if n > 0.0 {
                    let theta = f64::from(params.repetition_penalty);
                    *logit = if *logit > 0.0 { *logit / theta } else { *logit * theta };
                    *logit -= n * f64::from(params.frequency_penalty) + f64::from(params.presence_penalty);
                }
            }
        }
        // The one repeat there is: 4 5 6, and 7 continues it.
        Step::Dry if params.dry_multiplier > 0.0 => {
            let longer = 3 - params.dry_allowed_length as i32;
            logits[7] -= f64::from(params.dry_multiplier) * f64::from(params.dry_base).powi(longer);
        }
        Step::TopNSigma if params.top_n_sigma > 0.0 => {
            let mean = possible.iter().sum::<f64>() / possible.len() as f64;
            let variance = possible.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / possible.len() as f64;
            cut(&mut logits, |id| given[id] >= best - f64::from(params.top_n_sigma) * variance.sqrt());
        }
        Step::TopK if params.top_k > 0 => {
            let kept = &by(|id| -given[id])[..params.top_k];
            cut(&mut logits, |id| kept.contains(&id));
        }
        Step::TypicalP if params.typical_p < 1.0 => {
            let order = by(|id| (-p[id].ln() - entropy(&p)).abs());
            let kept = head(&order, &p, params.typical_p.into());
            cut(&mut logits, |id| kept.contains(&id));
        }
        Step::TopP if params.top_p < 1.0 => {
            let kept = head(&by(|id| -p[id]), &p, params.top_p.into());
            cut(&mut logits, |id| kept.contains(&id));
        }
        Step::MinP => {
            let most = p.iter().copied().fold(0.0, f64::max);
            cut(&mut logits, |id| p[id] >= most * f64::from(params.min_p));
        }
        Step::Xtc if params.xtc_probability > 0.0 => {
            let mut top = by(|id| p[id]);
            top.retain(|&id| p[id] >= f64::from(params.xtc_threshold));
            let dropped = top.get(1..).unwrap_or_default();
            cut(&mut logits, |id| !dropped.contains(&id));
            let (with, without) = (distribution(params, rest, logits), distribution(params, rest, given));
            let chance = f64::from(params.xtc_probability);
            return with.iter().zip(without).map(|(with, without)| chance * with + (1.0 - chance) * without).collect();
        }
        Step::Temperature => {
            let (t, range) = (f64::from(params.temperature), f64::from(params.dynamic_temperature_range));
            let share = entropy(&p) / (possible.len() as f64).ln();
            let t = t - range + 2.0 * range * share.powf(params.dynamic_temperature_exponent.into());
            logits.iter_mut().for_each(|logit| *logit /= t);
        }
        Step::Mirostat if params.mirostat_tau > 0.0 => {
            cut(&mut logits, |id| -p[id].log2() <= 2.0 * f64::from(params.mirostat_tau));
        }
        _ => {}
    }
    distribution(params, rest, logits)
}

const DRAWS: u32 = 200_000;

fn count(params: &Params) -> [u32; LOGITS.len()] {
    let mut sampler = params.sampler().unwrap();
    sampler.prompt(&HISTORY);
    let mut counts = [0; LOGITS.len()];
    for _ in 0..DRAWS {
        counts[sampler.sample(&LOGITS).unwrap() as usize] += 1;
    }
    counts
}

/// Pearson's statistic over what its critical value is, at one false alarm in a thousand (the seeds are fixed).
/// Infinite if something was drawn that cannot be.
fn surprise(counts: &[u32], expected: &[f64]) -> f64 {
    let mut statistic = 0.0;
    for (&count, &p) in counts.iter().zip(expected) {
        let expected = f64::from(DRAWS) * p;
        if expected > 0.0 {
            statistic += (f64::from(count) - expected).powi(2) / expected;
        } else if count > 0 {
            return f64::INFINITY;
        }
    }
    let degrees = expected.iter().filter(|p| **p > 0.0).count() as f64 - 1.0;
    // The cube root of chi-square is nearly normal (Wilson and Hilferty 1931); 3.09 is the normal's 0.999 quantile.
    let spread = 2.0 / (9.0 * degrees);
    statistic / (degrees * (1.0 - spread + 3.09 * spread.sqrt()).powi(3))
}

/// Each chain with a near miss of it, of which the draws must not be mistaken for.
fn chains() -> Vec<(Params, Params)> {
    let plain = Params { seed: 2024, ..Params::neutral() };
    let all = Params {
        top_k: 10,
        top_p: 0.97,
        min_p: 0.02,
        typical_p: 0.97,
        top_n_sigma: 3.0,
        xtc_probability: 0.3,
        xtc_threshold: 0.12,
        temperature: 1.2,
        dynamic_temperature_range: 0.4,
        repetition_penalty: 1.2,
        frequency_penalty: 0.1,
        presence_penalty: 0.2,
        dry_multiplier: 0.3,
        dry_base: 1.5,
        logit_bias: vec![(9, 1.0)],
        banned: vec![1],
        ..plain.clone()
    };
    let mut reversed = Step::DEFAULT_ORDER.to_vec();
    reversed.reverse();
    let miss = |params: &Params, change: fn(&mut Params)| {
        let mut missed = params.clone();
        change(&mut missed);
        (params.clone(), missed)
    };
    let with = |change: fn(&mut Params)| miss(&plain, change).1;
    vec![
        miss(&plain, |miss| miss.temperature = 1.02),
        miss(&with(|p| p.temperature = 0.5), |miss| miss.temperature = 0.51),
        miss(&with(|p| p.temperature = 2.0), |miss| miss.temperature = 2.05),
        miss(&with(|p| p.top_k = 5), |miss| miss.top_k = 6),
        miss(&with(|p| p.top_p = 0.8), |miss| miss.top_p = 0.9),
        miss(&with(|p| p.min_p = 0.2), |miss| miss.min_p = 0.3),
        miss(&with(|p| p.typical_p = 0.7), |miss| miss.typical_p = 0.9),
        miss(&with(|p| p.top_n_sigma = 1.0), |miss| miss.top_n_sigma = 1.2),
        miss(&with(|p| (p.xtc_probability, p.xtc_threshold) = (0.5, 0.1)), |miss| miss.xtc_probability = 0.51),
        miss(&with(|p| (p.xtc_probability, p.xtc_threshold) = (0.5, 0.1)), |miss| miss.xtc_threshold = 0.14),
        miss(&with(|p| (p.temperature, p.dynamic_temperature_range) = (1.5, 0.8)), |miss| {
            miss.dynamic_temperature_range = 0.95;
        }),
        miss(&with(|p| p.repetition_penalty = 1.3), |miss| miss.repetition_penalty = 1.33),
        miss(&with(|p| p.frequency_penalty = 0.5), |miss| miss.frequency_penalty = 0.52),
        miss(&with(|p| p.presence_penalty = 0.5), |miss| miss.presence_penalty = 0.53),
        miss(&with(|p| p.dry_multiplier = 0.3), |miss| miss.dry_base = 2.0),
        miss(&with(|p| p.logit_bias = vec![(3, 1.0)]), |miss| miss.logit_bias[0].1 = 1.1),
        miss(&with(|p| p.banned = vec![8]), |miss| miss.banned.clear()),
        miss(&with(|p| p.mirostat_tau = 1.7), |miss| miss.mirostat_tau = 1.9),
        miss(&all, |miss| miss.xtc_probability = 0.33),
        miss(&Params { order: reversed, ..all.clone() }, |miss| miss.order.reverse()),
    ]
}

#[test]
fn draws_have_the_frequencies_of_the_exact_distribution() {
    for (params, miss) in chains() {
        let counts = count(&params);
        let distribution = |params: &Params| distribution(params, &params.order, LOGITS.map(f64::from).to_vec());
        let (right, wrong) = (surprise(&counts, &distribution(&params)), surprise(&counts, &distribution(&miss)));
        println!("{right:.2} {wrong:7.2}  {}", params.chain().unwrap());
        assert!(right < 1.0, "{right} of {}: {counts:?}", params.chain().unwrap());
        assert!(wrong > 1.0, "{wrong}: {miss:?} would have passed for {params:?}");
    }
}

/// XTC's number and the draw's are different ones: which tokens are excluded says nothing on what is drawn then.
#[test]
fn the_numbers_of_xtc_and_of_the_draw_are_independent() {
    // Two tokens alike: excluded, the second is certain; else each has a half. With one number for both, the first
    // half of the numbers would exclude and the draw would see only the second.
    let params = Params { xtc_probability: 0.5, xtc_threshold: 0.1, seed: 3, ..Params::neutral() };
    let mut sampler = params.sampler().unwrap();
    let first = (0..40_000).filter(|_| sampler.sample(&[0.0, 0.0]).unwrap() == 0).count();
    assert!(first.abs_diff(10_000) < 350, "{first}");
}
