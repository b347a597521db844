//! The matrix: one model's logits in every way of computing them, against one of them.

use std::collections::{BTreeMap, BTreeSet};

use tritwise::kernels::CpuBackend;
use tritwise::kernels::arch::{self, Layout};
use tritwise::tensor::{Checkpoint, Config, Inputs, TernaryEncoding};
use tritwise::transformer::{Model, Turn, Wanted};
use tritwise::{HeadMode, KvType};

use crate::digests;
use crate::subjects::Subject;

/// What is rounded, and so may change logits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mode {
    name: &'static str,
    kv: KvType,
    head: HeadMode,
    inputs: Rounding,
    /// The largest difference from [`DEFAULT`]'s logits, as a share of the largest of them.
    bound: f32,
}

/// What the inputs of linear layers are rounded to, in models whose reference leaves them as they are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rounding {
    Bits16,
    Bits8,
    None,
}

/// What a model does unless it is asked for something else.
pub(crate) const DEFAULT: Mode =
    Mode { name: "default", kv: KvType::F16, head: HeadMode::Full, inputs: Rounding::Bits16, bound: 0.0 };

/// The others, each of which changes one thing. The bounds are about twice the largest difference that is found.
const OTHERS: [Mode; 6] = [
    Mode { name: "kv-f32", kv: KvType::F32, bound: 0.15, ..DEFAULT },
    Mode { name: "kv-int8", kv: KvType::Int8, bound: 0.4, ..DEFAULT },
    Mode { name: "head-q8_0", head: HeadMode::Q8_0, bound: 0.015, ..DEFAULT },
    Mode { name: "head-q6_k", head: HeadMode::Q6K, bound: 0.04, ..DEFAULT },
    Mode { name: "inputs-f32", inputs: Rounding::None, bound: 0.02, ..DEFAULT },
    Mode { name: "inputs-int8", inputs: Rounding::Bits8, bound: 0.4, ..DEFAULT },
];

impl Mode {
    /// Those that mean something for the model.
    fn all(config: &Config) -> impl Iterator<Item = Self> {
        let weight_only = config.inputs == Inputs::Float;
        let blocks_of_256 = config.hidden.is_multiple_of(256);
        [DEFAULT].into_iter().chain(OTHERS).filter(move |mode| {
            (weight_only || mode.inputs == Rounding::Bits16) && (blocks_of_256 || mode.head != HeadMode::Q6K)
        })
    }
}

/// How a text is cut into calls.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// Calls of these numbers of tokens, over and over.
    Pieces(&'static [usize]),
    /// One call, in which other sequences take part.
    Beside,
}

const ONE_BY_ONE: Cut = Cut::Pieces(&[1]);
const WHOLE: Cut = Cut::Pieces(&[usize::MAX]);
const ODD: Cut = Cut::Pieces(&[7, 1, 30]);
const CHUNK: Cut = Cut::Pieces(&[256, 44]);

/// How much of the matrix is run.
#[derive(Debug)]
pub(crate) struct Extent {
    /// Numbers of threads and cuts that go together.
    ways: Vec<(usize, Cut)>,
    modes: Modes,
}

/// Which modes are run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Modes {
    Default,
    /// The default one in all ways, and the others as they are defined, for their digests and their distance.
    Defined,
    All,
}

impl Extent {
    /// Each number of threads with each cut, as far as this target can start threads.
    pub(crate) fn whole(modes: Modes) -> Self {
        let cuts = [ONE_BY_ONE, WHOLE, ODD, CHUNK, Cut::Beside];
        let ways = startable(1..=8).into_iter().flat_map(|threads| cuts.map(|cut| (threads, cut))).collect();
        Self { ways, modes }
    }

    /// Other code paths, but not each with each.
    pub(crate) fn quick(modes: Modes) -> Self {
        let threads = |cut| move |threads| (threads, cut);
        let ways = startable([1]).into_iter().map(threads(WHOLE)).chain(startable([3]).into_iter().map(threads(ODD)));
        Self { ways: ways.collect(), modes }
    }

    /// The ways for an instruction set. Scalar code is so slow, and threads are so little of its business, that it
    /// runs on the fewest, on two and on the most.
    fn ways_of(&self, form: Form) -> impl Iterator<Item = (usize, Cut)> {
        let scalar = form.isa == Form::DEFINITION.isa && self.ways.len() > 2;
        self.ways.iter().copied().filter(move |(threads, _)| !scalar || [1, 2, 8].contains(threads))
    }
}

/// Those numbers of threads that this target can start: one, where there are no threads.
pub(crate) fn startable(threads: impl IntoIterator<Item = usize>) -> Vec<usize> {
    threads.into_iter().filter(|&threads| CpuBackend::builder().threads(threads).build().is_ok()).collect()
}

/// An instruction set, and how it has the weights in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    isa: &'static str,
    memory: Memory,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Memory {
    Packed(Layout),
    InPlace,
}

impl Form {
    const DEFINITION: Self = Self { isa: "scalar", memory: Memory::Packed(Layout::TwoBit) };

    /// Every one that this CPU has for the subject in that mode.
    fn all(subject: &Subject, mode: &Mode) -> Vec<Self> {
        let mut all = Vec::new();
        for isa in arch::available() {
            let form = |memory| Self { isa: isa.name(), memory };
            all.extend(isa.layouts().iter().map(|layout| form(Memory::Packed(*layout))));
            let lines_of_base3 =
                subject.weights.linear() == TernaryEncoding::Base3 && isa.layouts().contains(&Layout::Base3);
            if lines_of_base3 || subject.weights.is_in_rows() {
                all.push(form(Memory::InPlace));
            }
        }
        all.retain(|form| mode.inputs != Rounding::None || form.memory == Memory::Packed(Layout::TwoBit));
        all
    }

    fn name(&self) -> String {
        match self.memory {
            Memory::Packed(layout) => format!("{} {}", self.isa, layout.name()),
            Memory::InPlace => format!("{} in place", self.isa),
        }
    }
}

/// A model on `threads` threads.
pub(crate) fn load(subject: &Subject, mode: &Mode, form: Form, threads: usize) -> Model<CpuBackend> {
    let cpu = CpuBackend::builder().isa(form.isa).threads(threads).kv(mode.kv).head(mode.head);
    let cpu = cpu.exact_inputs(mode.inputs == Rounding::None);
    let cpu = match form.memory {
        Memory::Packed(layout) => cpu.layout(layout.name()),
        Memory::InPlace => cpu.in_place(true),
    };
    let config = subject.weights.config().clone();
    let inputs = if mode.inputs == Rounding::Bits8 { Inputs::Int8 } else { config.inputs };
    let weights = subject.weights.with_config(Config { inputs, ..config });
    let cpu = cpu.build().unwrap_or_else(|e| panic!("{e}"));
    Model::load(cpu, &weights, subject.tokens.len(), &mut |_| {}).unwrap_or_else(|e| panic!("{}: {e}", subject.name))
}

/// The logits of every token.
fn logits(model: &Model<CpuBackend>, tokens: &[u32], cut: Cut) -> Vec<u32> {
    let (mut sequence, mut workspace) = (model.sequence(tokens.len()), model.workspace());
    let mut all = Vec::new();
    let Cut::Pieces(lengths) = cut else {
        let (mut before, mut behind) = (model.sequence(tokens.len()), model.sequence(tokens.len()));
        let reversed: Vec<u32> = tokens.iter().rev().copied().collect();
        let (one, few) = (&reversed[..1], &reversed[..tokens.len().div_ceil(3)]);
        let mut batch = [
            Turn { sequence: &mut before, tokens: one, wanted: Wanted::Last },
            Turn { sequence: &mut sequence, tokens, wanted: Wanted::All },
            Turn { sequence: &mut behind, tokens: few, wanted: Wanted::All },
        ];
        let logits = model.forward(&mut workspace, &mut batch).expect("tokens fit");
        logits.rows().skip(1).take(tokens.len()).for_each(|row| all.extend(bits(row)));
        return all;
    };
    let mut rest = tokens;
    for length in lengths.iter().cycle() {
        let (now, later) = rest.split_at(rest.len().min(*length));
        let turn = Turn { sequence: &mut sequence, tokens: now, wanted: Wanted::All };
        all.extend(bits(model.forward(&mut workspace, &mut [turn]).expect("tokens fit").as_slice()));
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    all
}

fn bits(logits: &[f32]) -> impl Iterator<Item = u32> {
    assert!(logits.iter().all(|x| x.is_finite()));
    logits.iter().map(|x| x.to_bits())
}

/// What the definition computes: scalar code, one thread, one token at a time.
pub(crate) fn defined(subject: &Subject, mode: &Mode) -> Vec<u32> {
    logits(&load(subject, mode, Form::DEFINITION, 1), &subject.tokens, ONE_BY_ONE)
}

/// Computes the subject's logits in every way of `extent`, holds each against what the definition gives, that
/// against the digests that are recorded, and modes against the distance they may have from the default one.
pub(crate) fn check(subject: &Subject, extent: &Extent) {
    let mut digests = BTreeMap::new();
    let expected_of_default = defined(subject, &DEFAULT);
    let modes = Mode::all(subject.weights.config());
    for mode in modes.take(if extent.modes == Modes::Default { 1 } else { usize::MAX }) {
        let expected = defined(subject, &mode);
        digests.insert(format!("{} {}", subject.name, mode.name), digests::of(&expected));
        let distance = distance(&expected, &expected_of_default);
        assert!(distance <= mode.bound, "{}, {}: {distance:.1e} from the default mode", subject.name, mode.name);
        let runs = if mode.name == DEFAULT.name || extent.modes == Modes::All {
            run(subject, &mode, extent, &expected)
        } else {
            "not run".into()
        };
        println!("{} | {} | {} tokens | {runs} | {distance:.1e}", subject.name, mode.name, subject.tokens.len());
    }
    digests::check(&digests);
}

/// Holds all ways against `expected`, and says which there were.
fn run(subject: &Subject, mode: &Mode, extent: &Extent, expected: &[u32]) -> String {
    let (mut forms, mut runs) = (Vec::new(), 0);
    for form in Form::all(subject, mode) {
        let mut threads_seen = BTreeSet::new();
        let mut model = None;
        for (threads, cut) in extent.ways_of(form) {
            if threads_seen.insert(threads) {
                model = Some(load(subject, mode, form, threads));
            }
            let found = logits(model.as_ref().expect("it was just loaded"), &subject.tokens, cut);
            let (subject, mode, form) = (&subject.name, mode.name, form.name());
            assert!(found == expected, "{subject}, {mode}: {form}, {threads} threads, {cut:?} differs");
            runs += 1;
        }
        forms.push(format!("{} on {threads_seen:?}", form.name()));
    }
    format!("{} | {runs} runs equal", forms.join(", "))
}

/// The largest difference, as a share of the largest logit expected.
fn distance(found: &[u32], expected: &[u32]) -> f32 {
    let float = |bits: &u32| f32::from_bits(*bits);
    let largest = expected.iter().map(|bits| float(bits).abs()).fold(0.0, f32::max);
    found.iter().zip(expected).map(|(a, b)| (float(a) - float(b)).abs()).fold(0.0, f32::max) / largest
}
