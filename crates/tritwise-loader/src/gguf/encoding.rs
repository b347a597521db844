//! Which encoding a tensor has: its type number is a hint, its size decides.

use std::ops::Range;

use tritwise_gguf::types::{self, Type};
use tritwise_gguf::{Header, Tensor};
use tritwise_tensor::{DenseEncoding, FloatKind, TernaryEncoding};

use crate::container::Encoding;

/// The encoding of `tensor`, and its bytes without padding.
///
/// Forks of ggml gave the same numbers to different types. Each known meaning
/// of the number says how many bytes the shape takes; the one that fills the
/// tensor's window is meant. None, or several: the tensor is not readable.
pub(crate) fn settle(header: &Header, tensor: &Tensor) -> (Encoding, Range<usize>) {
    let start = tensor.window.start;
    let fitting: Vec<(&Type, u64)> = types::meanings(tensor.type_id)
        .filter_map(|meaning| Some((meaning, meaning.bytes(&tensor.dims)?)))
        .filter(|&(_, size)| header.fits(tensor, size))
        .collect();
    match fitting[..] {
        [(meaning, size)] => match readable(meaning) {
            // A size that fits the window fits memory.
            Some(encoding) => (encoding, start..start + size as usize),
            None => (unreadable(meaning.name, refusal(meaning)), tensor.window.clone()),
        },
        [] => (unreadable(&types::describe(tensor.type_id), misfit(tensor)), tensor.window.clone()),
        _ => {
            let why = format!("could be any of {} by its size; refused", types::describe(tensor.type_id));
            (unreadable(&types::describe(tensor.type_id), why), tensor.window.clone())
        }
    }
}

fn readable(meaning: &Type) -> Option<Encoding> {
    Some(match (meaning.id, meaning.name) {
        (types::F32, _) => Encoding::Dense(DenseEncoding::F32),
        (types::F16, _) => Encoding::Dense(DenseEncoding::F16),
        (types::BF16, _) => Encoding::Dense(DenseEncoding::Bf16),
        (types::Q8_0, _) => Encoding::Dense(DenseEncoding::Q8_0),
        (types::Q6_K, _) => Encoding::Dense(DenseEncoding::Q6K),
        (types::TQ1_0, _) => Encoding::Tq1_0,
        (types::TQ2_0, _) => Encoding::Tq2_0,
        (types::BASE3, _) => Encoding::Base3,
        (types::I2_S, "I2_S") => Encoding::I2S,
        _ => return None,
    })
}

/// The type number under which linear layers are written in `encoding`, the other way round from [`readable`]; `None` if
/// GGUF files hold no such.
pub(crate) fn linear_type(encoding: TernaryEncoding) -> Option<u32> {
    Some(match encoding {
        TernaryEncoding::I2S(_) => types::I2_S,
        TernaryEncoding::Tq1_0 => types::TQ1_0,
        TernaryEncoding::Tq2_0 => types::TQ2_0,
        TernaryEncoding::Base3 => types::BASE3,
        TernaryEncoding::Float(FloatKind::F32, _) => types::F32,
        TernaryEncoding::Float(FloatKind::F16, _) => types::F16,
        TernaryEncoding::Float(FloatKind::Bf16, _) => types::BF16,
        TernaryEncoding::HfPacked => return None,
    })
}

/// The same for tables.
pub(crate) fn table_type(encoding: DenseEncoding) -> u32 {
    match encoding {
        DenseEncoding::F32 => types::F32,
        DenseEncoding::F16 => types::F16,
        DenseEncoding::Bf16 => types::BF16,
        DenseEncoding::Q8_0 => types::Q8_0,
        DenseEncoding::Q6K => types::Q6_K,
    }
}

fn unreadable(name: &str, why: String) -> Encoding {
    Encoding::Unreadable { name: name.to_owned(), why }
}

const REMEDY: &str = "linear layers are read from I2_S, TQ1_0, TQ2_0, BASE3, F32, F16 and BF16, tables from F32, F16, BF16, \
                      Q8_0 and Q6_K: convert the original checkpoint to one of these";

const LOOKUP_TABLES: &str = "whose byte order depends on tile sizes of the build that wrote it, which the file does \
                             not record; use the model's I2_S file or its safetensors folder instead";

fn refusal(meaning: &Type) -> String {
    match meaning.name {
        "TL1" | "TL2" => format!("is stored as {}, {LOOKUP_TABLES}", meaning.name),
        name => {
            format!("is stored as {name} (type {} of {}), which is not read; {REMEDY}", meaning.id, meaning.project)
        }
    }
}

/// What to say when no known meaning of the type has the size that the file gives the tensor.
fn misfit(tensor: &Tensor) -> String {
    let Tensor { dims, type_id, window, .. } = tensor;
    let described = types::describe(*type_id);
    let found = window.len();
    let sized: Vec<String> = types::meanings(*type_id)
        .filter_map(|meaning| Some(format!("{} takes {} bytes", meaning.name, meaning.bytes(dims)?)))
        .collect();
    let lookup_tables = types::meanings(*type_id).find(|meaning| matches!(meaning.name, "TL1" | "TL2"));
    match (lookup_tables, sized.is_empty()) {
        (Some(meaning), _) => {
            format!("has type {type_id}, which is {described}; by its size it is {}, {LOOKUP_TABLES}", meaning.name)
        }
        (None, true) => format!("has type {type_id} ({described}) and shape {dims:?}, which is not read; {REMEDY}"),
        (None, false) => format!(
            "has type {type_id}, shape {dims:?} and {found} bytes in the file, padding included, but {}; \
             the file is corrupt, or written by a program that gives the number another meaning",
            sized.join(", ")
        ),
    }
}
