//! Comparing a written file with its source, weight by weight.

use half::f16;
use tritwise_tensor::{Checkpoint, CheckpointError, Config, Scales, TernaryEncoding};

use super::plan::{Kind, Plan, Planned};
use super::{Conversion, Progress, Stage, permute, tokenizer};
use crate::error::{file_error, tensor_error};
use crate::source::Source;

/// Compares `written`, which [`write_gguf`](crate::write_gguf) made from `source` by `conversion`, with its source.
///
/// Trits, norms and tables that keep their encoding must be equal; scales, up
/// to the rounding of their type; other tables, up to a coarse bound that only
/// finds misplaced rows, as their encoding is meant to lose something; the
/// tokenizers, in what they make of some awkward texts.
///
/// # Errors
/// Names the first thing that differs, or a tensor of either that cannot be read.
pub fn verify(
    source: &Source,
    written: &Source,
    conversion: &Conversion,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), CheckpointError> {
    let plan = Plan::new(source, conversion)?;
    let mut expected = Config { architecture: plan.architecture.to_owned(), ..source.config().clone() };
    expected.rope.style = written.config().rope.style;
    if *written.config() != expected {
        return Err(file_error(
            written.name(),
            format_args!("reads back as {:?} instead of {expected:?}", written.config()),
        ));
    }
    for (done, tensor) in plan.tensors.iter().enumerate() {
        progress(Progress { stage: Stage::Verify, done, total: plan.tensors.len() });
        let equal = match tensor.kind {
            Kind::Vector => same_vector(source, written, tensor)?,
            Kind::Table(_) => same_table(source, written, tensor)?,
            Kind::Linear(_) => same_linear(source, written, tensor)?,
        };
        if !equal {
            return Err(tensor_error(
                written.name(),
                &tensor.name,
                format_args!("differs from {}; this is a bug, please report it", source.name()),
            ));
        }
    }
    progress(Progress { stage: Stage::Verify, done: plan.tensors.len(), total: plan.tensors.len() });
    written.finish()?;
    if let (false, Some(original)) = (conversion.without_tokenizer, source.tokenizer()?) {
        let Some(translated) = written.tokenizer()? else {
            return Err(file_error(written.name(), "has lost its tokenizer; this is a bug, please report it"));
        };
        tokenizer::compare(&original, &translated).map_err(|message| file_error(written.name(), message))?;
    }
    Ok(())
}

fn same_vector(source: &Source, written: &Source, tensor: &Planned) -> Result<bool, CheckpointError> {
    Ok(source.vector(tensor.id, tensor.cols)? == written.vector(tensor.id, tensor.cols)?)
}

fn same_table(source: &Source, written: &Source, tensor: &Planned) -> Result<bool, CheckpointError> {
    let &Planned { id, rows, cols, .. } = tensor;
    let (a, b) = (source.dense(id, rows, cols)?, written.dense(id, rows, cols)?);
    if a.encoding() == b.encoding() {
        return Ok(a.bytes() == b.bytes());
    }
    let (mut x, mut y) = (vec![0.0f32; cols], vec![0.0f32; cols]);
    Ok((0..rows).all(|row| {
        a.read_row(row, &mut x);
        b.read_row(row, &mut y);
        let largest = x.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        x.iter().zip(&y).all(|(x, y)| (x - y).abs() <= largest / 16.0)
    }))
}

fn same_linear(source: &Source, written: &Source, tensor: &Planned) -> Result<bool, CheckpointError> {
    let &Planned { id, rows, cols, .. } = tensor;
    let (a, b) = (source.ternary(id, rows, cols)?, written.ternary(id, rows, cols)?);
    let (mut x, mut y) = (vec![0; cols], vec![0; cols]);
    let same_trits = (0..rows).all(|row| {
        a.read_row(tensor.source_row(row), &mut x);
        b.read_row(row, &mut y);
        x == y
    });
    Ok(same_trits && same_scales(&permute(a.scales(), tensor), b.scales(), b.encoding()))
}

fn same_scales(source: &Scales, written: &Scales, encoding: TernaryEncoding) -> bool {
    let stored = |scale: &f32| match encoding {
        TernaryEncoding::Tq1_0 | TernaryEncoding::Tq2_0 => f16::from_f32(*scale).to_f32(),
        _ => *scale,
    };
    let same = |a: &[f32], b: &[f32]| a.iter().map(stored).eq(b.iter().copied());
    match (source, written) {
        (Scales::Tensor(a), Scales::Tensor(b)) => stored(a) == *b,
        (Scales::Rows(a), Scales::Rows(b)) => same(a, b),
        (Scales::Groups { cols: a_cols, values: a }, Scales::Groups { cols: b_cols, values: b }) => {
            a_cols == b_cols && same(a, b)
        }
        // Rounding may make different scales equal, and equal ones take a simpler form.
        (Scales::Rows(a) | Scales::Groups { values: a, .. }, Scales::Tensor(b)) => a.iter().all(|a| stored(a) == *b),
        _ => false,
    }
}
