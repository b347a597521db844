//! Which encoding a tensor has: its type number is a hint, its size decides.

use std::collections::HashMap;
use std::ops::Range;

use tritwise_gguf::types::{self, Project, Type};
use tritwise_gguf::{Header, Tensor};
use tritwise_tensor::{DenseEncoding, FloatKind, Group, TernaryEncoding};

use crate::container::Encoding;

/// What the type numbers of one file mean.
///
/// Forks of ggml gave the same numbers to different types. Each known meaning of a number says how many
/// bytes a shape takes, and the one that fills the tensor's window is meant. Where several do, as in small
/// tensors, it is the one that fits all tensors of that number, since a file is one program's; else that of
/// the project which wrote the file, if that is said. Nothing else is guessed: the tensor is not readable.
pub(super) struct Meanings<'a> {
    header: &'a Header,
    written_by: Option<Project>,
    /// The meanings of a number that fit all tensors which any fits.
    common: HashMap<u32, Vec<&'static Type>>,
}

impl<'a> Meanings<'a> {
    pub(super) fn of(header: &'a Header, written_by: Option<Project>) -> Self {
        let mut common = HashMap::new();
        for tensor in header.tensors() {
            let fitting = fitting(header, tensor);
            if !fitting.is_empty() {
                common.entry(tensor.type_id).or_insert_with(|| fitting.clone()).retain(|known| fitting.contains(known));
            }
        }
        Self { header, written_by, common }
    }

    /// The encoding of `tensor`, and its bytes without padding.
    pub(super) fn settle(&self, tensor: &Tensor) -> (Encoding, Range<usize>) {
        let fitting = fitting(self.header, tensor);
        let one = |meant: &dyn Fn(&Type) -> bool| {
            let mut all = fitting.iter().copied().filter(|known| meant(known));
            all.next().filter(|_| all.next().is_none())
        };
        let common = self.common.get(&tensor.type_id);
        let meant = one(&|_| true)
            .or_else(|| one(&|known| common.is_some_and(|common| common.contains(&known))))
            .or_else(|| one(&|known| self.written_by == Some(known.project)));
        let window = tensor.window.clone();
        let Some(meaning) = meant else {
            let why = if fitting.is_empty() { misfit(tensor) } else { ambiguity(tensor, &fitting) };
            return (unreadable(&types::describe(tensor.type_id), why), window);
        };
        let size = meaning.bytes(&tensor.dims).and_then(|size| usize::try_from(size).ok());
        match (readable(meaning), size) {
            (Some(encoding), Some(size)) => (encoding, window.start..window.start + size),
            _ => (unreadable(meaning.name, refusal(meaning)), window),
        }
    }
}

/// The meanings of a tensor's number that have its size.
fn fitting(header: &Header, tensor: &Tensor) -> Vec<&'static Type> {
    let fits = |known: &&Type| known.bytes(&tensor.dims).is_some_and(|size| header.fits(tensor, size));
    types::meanings(tensor.type_id).filter(fits).collect()
}

fn readable(meaning: &Type) -> Option<Encoding> {
    use DenseEncoding as Dense;
    use TernaryEncoding as Ternary;
    let dense = |encoding| Some(Encoding::Dense(encoding));
    let ternary = |encoding| Some(Encoding::Ternary(encoding));
    match (meaning.id, meaning.name) {
        (types::F32, _) => dense(Dense::F32),
        (types::F16, _) => dense(Dense::F16),
        (types::BF16, _) => dense(Dense::Bf16),
        (types::Q8_0, _) => dense(Dense::Q8_0),
        (types::Q6_K, _) => dense(Dense::Q6K),
        (types::Q4_0, _) => dense(Dense::Q4_0),
        (types::Q4_K, _) => dense(Dense::Q4K),
        (types::IQ4_NL, _) => dense(Dense::Iq4Nl),
        (types::TQ1_0, _) => ternary(Ternary::Tq1_0),
        (types::TQ2_0, _) => ternary(Ternary::Tq2_0),
        (types::I2_S, "I2_S") => Some(Encoding::I2S),
        (types::TL1, _) => Some(Encoding::Tl1),
        (_, "TL2") => Some(Encoding::Tl2),
        (_, "Q1_0") => ternary(Ternary::Q1_0(Group::Of128)),
        (_, "Q1_0 in groups of 32") => ternary(Ternary::Q1_0(Group::Of32)),
        (_, "Q2_0") => ternary(Ternary::Q2_0(Group::Of64)),
        (_, "Q2_0 in groups of 128" | "PQ2_0") => ternary(Ternary::Q2_0(Group::Of128)),
        (_, "PTQ1_0") => ternary(Ternary::Ptq1_0),
        (types::IQ1_BN, _) => ternary(Ternary::Iq1Bn),
        (types::IQ2_BN, _) => ternary(Ternary::Iq2Bn),
        (types::IQ2_BN_R4, _) => ternary(Ternary::Iq2BnR4),
        (types::BASE3, _) => ternary(Ternary::Base3),
        _ => None,
    }
}

/// The type number under which linear layers are written in `encoding`, the other way round from [`readable`]; `None` if
/// GGUF files hold no such.
pub(crate) fn linear_type(encoding: TernaryEncoding) -> Option<u32> {
    Some(match encoding {
        TernaryEncoding::I2S(_) => types::I2_S,
        TernaryEncoding::Tq1_0 => types::TQ1_0,
        TernaryEncoding::Tq2_0 => types::TQ2_0,
        TernaryEncoding::Ptq1_0 => types::PTQ1_0,
        TernaryEncoding::Q1_0(group) => q1_0(group)?,
        TernaryEncoding::Q2_0(group) => q2_0(group)?,
        TernaryEncoding::Iq1Bn => types::IQ1_BN,
        TernaryEncoding::Iq2Bn => types::IQ2_BN,
        TernaryEncoding::Iq2BnR4 => types::IQ2_BN_R4,
        TernaryEncoding::Base3 => types::BASE3,
        TernaryEncoding::Float(FloatKind::F32, _) => types::F32,
        TernaryEncoding::Float(FloatKind::F16, _) => types::F16,
        TernaryEncoding::Float(FloatKind::Bf16, _) => types::BF16,
        TernaryEncoding::HfPacked | TernaryEncoding::Tl1(_) | TernaryEncoding::Tl2(_) => return None,
    })
}

fn q1_0(group: Group) -> Option<u32> {
    match group {
        Group::Of32 => Some(types::Q1_0_OF_32),
        Group::Of64 => None,
        Group::Of128 => Some(types::Q1_0),
    }
}

fn q2_0(group: Group) -> Option<u32> {
    match group {
        Group::Of32 => None,
        Group::Of64 => Some(types::Q2_0),
        Group::Of128 => Some(types::PQ2_0),
    }
}

/// The same for tables.
pub(crate) fn table_type(encoding: DenseEncoding) -> Option<u32> {
    Some(match encoding {
        DenseEncoding::F32 => types::F32,
        DenseEncoding::F16 => types::F16,
        DenseEncoding::Bf16 => types::BF16,
        DenseEncoding::Q8_0 => types::Q8_0,
        DenseEncoding::Q6K => types::Q6_K,
        DenseEncoding::Q4_0 => types::Q4_0,
        DenseEncoding::Q4K => types::Q4_K,
        DenseEncoding::Iq4Nl => types::IQ4_NL,
        DenseEncoding::Q1_0(group) => q1_0(group)?,
        DenseEncoding::Q2_0(group) => q2_0(group)?,
        DenseEncoding::Tq1_0 => types::TQ1_0,
        DenseEncoding::Tq2_0 => types::TQ2_0,
        DenseEncoding::Ptq1_0 => types::PTQ1_0,
    })
}

fn unreadable(name: &str, why: String) -> Encoding {
    Encoding::Unreadable { name: name.to_owned(), why }
}

/// What linear layers and tables are read from, for people.
const LINEAR_LAYERS: &str =
    "I2_S, TL1, TL2, TQ1_0, TQ2_0, Q1_0, Q2_0, PQ2_0, PTQ1_0, IQ1_BN, IQ2_BN, IQ2_BN_R4, BASE3, F32, F16, BF16";
pub(crate) const TABLES: &str =
    "F32, F16, BF16, Q8_0, Q6_K, Q4_0, Q4_K, IQ4_NL, Q1_0, Q2_0, PQ2_0, PTQ1_0, TQ1_0, TQ2_0";

fn remedy() -> String {
    format!(
        "linear layers are read from {LINEAR_LAYERS}, tables from {TABLES}: convert the original checkpoint to one of these"
    )
}

fn refusal(meaning: &Type) -> String {
    let Type { id, name, project, .. } = meaning;
    format!("is stored as {name} (type {id} of {project}), which is not read; {}", remedy())
}

/// What to say when several meanings of the type have the size.
fn ambiguity(tensor: &Tensor, fitting: &[&Type]) -> String {
    let meanings: Vec<String> = fitting.iter().map(|known| format!("{} ({})", known.name, known.project)).collect();
    format!(
        "has type {}, which by its size may be {}; say whose file it is (Options::written_by)",
        tensor.type_id,
        meanings.join(" or ")
    )
}

/// What to say when no known meaning of the type has the size that the file gives the tensor.
fn misfit(tensor: &Tensor) -> String {
    let Tensor { dims, type_id, window, .. } = tensor;
    let described = types::describe(*type_id);
    let found = window.len();
    let sized: Vec<String> = types::meanings(*type_id)
        .filter_map(|meaning| Some(format!("{} takes {} bytes", meaning.name, meaning.bytes(dims)?)))
        .collect();
    match sized.is_empty() {
        true => format!("has type {type_id} ({described}) and shape {dims:?}, which is not read; {}", remedy()),
        false => format!(
            "has type {type_id}, shape {dims:?} and {found} bytes in the file, padding included, but {}; \
             the file is corrupt, or written by a program that gives the number another meaning",
            sized.join(", ")
        ),
    }
}
