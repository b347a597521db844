//! Whole logits, bit for bit: however a text is cut into calls, batched with
//! others, spread over threads or run on another instruction set.

mod support;

use support::{Random, RandomCheckpoint, bitnet, gemma, llama};
use tritwise_kernels::cpu::CpuBuilder;
use tritwise_kernels::{CpuBackend, arch};
use tritwise_model::{Error, Model, Sequence, Turn, Wanted};
use tritwise_tensor::{Config, Inputs};

fn model(config: &Config, isa: &str, threads: usize) -> Model<CpuBackend> {
    load(config, CpuBackend::builder().isa(isa).threads(threads))
}

fn load(config: &Config, cpu: CpuBuilder) -> Model<CpuBackend> {
    let cpu = cpu.build().expect("the instruction set and the layout are available");
    Model::load(cpu, &RandomCheckpoint::new(config.clone(), 1), 700, &mut |_| {}).expect("the checkpoint is whole")
}

fn text(len: usize, seed: u64, vocab: usize) -> Vec<u32> {
    let mut random = Random(seed);
    (0..len).map(|_| random.below(vocab as u32)).collect()
}

/// Logits of every token, evaluated in calls of the given sizes.
fn logits(model: &Model<CpuBackend>, tokens: &[u32], cuts: &[usize]) -> Vec<u32> {
    let mut sequence = model.sequence(700);
    let mut workspace = model.workspace();
    let mut all = Vec::new();
    let mut rest = tokens;
    for &cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(cut.min(rest.len()));
        rest = later;
        let turn = Turn { sequence: &mut sequence, tokens: now, wanted: Wanted::All };
        all.extend(bits(model.forward(&mut workspace, &mut [turn]).expect("tokens fit").as_slice()));
    }
    all
}

fn bits(logits: &[f32]) -> Vec<u32> {
    assert!(logits.iter().all(|x| x.is_finite()));
    logits.iter().map(|x| x.to_bits()).collect()
}

/// The whole matrix of ways is tritwise/tests/exactness/; this much of it runs in Miri too, with instruction sets that
/// the CPU lacks.
#[test]
fn cuts_threads_layouts_and_instruction_sets_change_nothing() {
    for config in [bitnet(), Config { inputs: Inputs::Float, ..llama() }, gemma()] {
        // Beyond one attention chunk (256 positions), and no multiple of anything.
        let tokens = text(if cfg!(miri) { 3 } else { 301 }, 2, config.vocab);
        let expected = logits(&model(&config, "scalar", 1), &tokens, &[tokens.len()]);
        for (isa, layout) in arch::available().iter().flat_map(|isa| isa.layouts().iter().map(move |l| (isa, l.name())))
        {
            let model = load(&config, CpuBackend::builder().isa(isa.name()).layout(layout).threads(2));
            for cuts in [&[tokens.len()][..], &[2, 1, 30]] {
                let found = logits(&model, &tokens, cuts);
                assert!(found == expected, "{}, {layout}, cut {cuts:?}", isa.name());
            }
            println!("{}, {layout}: equal", isa.name());
        }
    }
}

#[test]
fn neighbours_in_a_batch_change_nothing() {
    let config = bitnet();
    let model = model(&config, arch::available()[0].name(), 2);
    let texts: Vec<Vec<u32>> = [5, 1, 17, 32].iter().zip(10..).map(|(&n, seed)| text(n, seed, config.vocab)).collect();
    let alone: Vec<Vec<u32>> = texts.iter().map(|t| logits(&model, t, &[t.len()])).collect();

    let mut sequences: Vec<Sequence<CpuBackend>> = texts.iter().map(|_| model.sequence(64)).collect();
    let mut workspace = model.workspace();
    let mut batch: Vec<_> = sequences
        .iter_mut()
        .zip(&texts)
        .map(|(sequence, tokens)| Turn { sequence, tokens, wanted: Wanted::All })
        .collect();
    let together = bits(model.forward(&mut workspace, &mut batch).expect("tokens fit").as_slice());
    assert!(together == alone.concat());
}

#[test]
fn wanted_logits_are_rows_of_all_logits() {
    let config = llama();
    let model = model(&config, arch::available()[0].name(), 1);
    let tokens = text(9, 3, config.vocab);
    let all = logits(&model, &tokens, &[9]);
    let mut workspace = model.workspace();
    for (wanted, expected) in [(Wanted::Last, &all[8 * config.vocab..]), (Wanted::Nothing, &[][..])] {
        let mut sequence = model.sequence(9);
        let turn = Turn { sequence: &mut sequence, tokens: &tokens, wanted };
        let found = model.forward(&mut workspace, &mut [turn]).expect("tokens fit");
        assert!(bits(found.as_slice()) == expected);
        assert_eq!(sequence.len(), 9);
    }
}

#[test]
fn truncated_and_forked_sequences_go_on_as_fresh_ones_would() {
    let config = bitnet();
    let model = model(&config, arch::available()[0].name(), 2);
    let (head, tail, other) = (text(20, 4, config.vocab), text(6, 5, config.vocab), text(6, 6, config.vocab));
    let expected = logits(&model, &[&head[..], &tail].concat(), &[26])[20 * config.vocab..].to_vec();

    let mut workspace = model.workspace();
    let mut run = |sequence: &mut Sequence<CpuBackend>, tokens: &[u32]| {
        let turn = Turn { sequence, tokens, wanted: Wanted::All };
        bits(model.forward(&mut workspace, &mut [turn]).expect("tokens fit").as_slice())
    };
    let mut sequence = model.sequence(64);
    run(&mut sequence, &head);
    run(&mut sequence, &other);
    sequence.truncate(20);
    let mut fork = sequence.fork(&model);
    run(&mut fork, &other);
    assert!(run(&mut sequence, &tail) == expected, "rewound");
    fork.truncate(20);
    assert!(run(&mut fork, &tail) == expected, "forked");
}

#[test]
fn a_failed_call_changes_no_sequence() {
    let config = bitnet();
    let model = model(&config, arch::available()[0].name(), 1);
    let mut workspace = model.workspace();
    let (mut good, mut small) = (model.sequence(8), model.sequence(2));
    let outside = config.vocab as u32;
    for (tokens, error) in [
        (&[1, 2, 3][..], Error::Full { len: 0, adding: 3, capacity: 2 }),
        (&[1, outside], Error::Token { token: outside, vocab: config.vocab }),
        (&[], Error::Empty),
    ] {
        let mut batch = [
            Turn { sequence: &mut good, tokens: &[1, 2], wanted: Wanted::All },
            Turn { sequence: &mut small, tokens, wanted: Wanted::All },
        ];
        assert_eq!(model.forward(&mut workspace, &mut batch).expect_err("the second turn is wrong"), error);
        assert_eq!((good.len(), small.len()), (0, 0));
    }
}
