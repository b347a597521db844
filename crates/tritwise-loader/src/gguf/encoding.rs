//! Which encoding a tensor has: its type number is a hint, its size decides.

use std::ops::Range;

use tritwise_gguf::types::{self, Project, Type};
use tritwise_gguf::{Header, Tensor};
use tritwise_tensor::{DenseEncoding, FloatKind, Group, TernaryEncoding};

use crate::container::Encoding;

/// The encoding of `tensor`, and its bytes without padding.
///
/// Forks of ggml gave the same numbers to different types. Each known meaning
/// of the number says how many bytes the shape takes; the one that fills the
/// tensor's window is meant. Of several that of the project which wrote the file is meant, if
/// that is said. None, or several still: the tensor is not readable.
pub(crate) fn settle(header: &Header, tensor: &Tensor, written_by: Option<Project>) -> (Encoding, Range<usize>) {
    let start = tensor.window.start;
    let fitting: Vec<(&Type, u64)> = types::meanings(tensor.type_id)
        .filter_map(|meaning| Some((meaning, meaning.bytes(&tensor.dims)?)))
        .filter(|&(_, size)| header.fits(tensor, size))
        .collect();
    let theirs = || fitting.iter().copied().filter(|(meaning, _)| written_by == Some(meaning.project));
    let meant = match fitting[..] {
        [one] => Some(one),
        _ if theirs().count() == 1 => theirs().next(),
        _ => None,
    };
    match meant {
        Some((meaning, size)) => match readable(meaning) {
            // A size that fits the window fits memory.
            Some(encoding) => (encoding, start..start + size as usize),
            None => (unreadable(meaning.name, refusal(meaning)), tensor.window.clone()),
        },
        None => {
            let why = if fitting.is_empty() { misfit(tensor) } else { ambiguity(tensor, &fitting) };
            (unreadable(&types::describe(tensor.type_id), why), tensor.window.clone())
        }
    }
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
fn ambiguity(tensor: &Tensor, fitting: &[(&Type, u64)]) -> String {
    let meanings: Vec<String> =
        fitting.iter().map(|(meaning, _)| format!("{} ({})", meaning.name, meaning.project)).collect();
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
