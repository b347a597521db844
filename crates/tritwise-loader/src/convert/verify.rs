//! Comparing what was written with its source, weight by weight.

use tritwise_tensor::{
    Checkpoint, CheckpointError, Config, DenseMatrix, Scales, TensorId, TernaryEncoding, TernaryMatrix,
};

use super::ahead::ahead;
use super::plan::{Kind, Piece, Plan, Planned};
use super::{Conversion, Input, Meter, Progress, Stage, metadata, tokenizer};
use crate::error::{file_error, tensor_error};
use crate::source::Source;
use crate::vocabulary::Vocabulary;

/// Compares `written`, which [`convert`](crate::convert()) made from `source` by `conversion`, with its source.
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
    let plan = Plan::new(&Input::of(source), conversion)?;
    let mut expected = Config { architecture: plan.graph.architecture.to_owned(), ..source.config().clone() };
    expected.rope.style = written.config().rope.style;
    if *written.config() != expected {
        return Err(file_error(
            written.name(),
            format_args!("reads back as {:?} instead of {expected:?}", written.config()),
        ));
    }
    let tables = plan.tensors.iter().map(|tensor| match tensor.kind {
        Kind::Table(id, ..) => written.dense(id, tensor.rows, tensor.cols).map(Some),
        _ => Ok(None),
    });
    let tables: Vec<Option<DenseMatrix<'_>>> = tables.collect::<Result<_, _>>()?;
    let mut meter = Meter::new(&plan, progress);
    meter.start(Stage::Verify);
    ahead(
        &plan.pieces(),
        Piece::memory,
        |piece| same(source, written, piece, tables.get(piece.index).and_then(Option::as_ref)),
        |piece, same| {
            meter.advance(piece.weights());
            match same {
                true => Ok(()),
                false => Err(tensor_error(
                    written.name(),
                    &piece.tensor.name,
                    format_args!("differs from {}; this is a bug, please report it", source.name()),
                )),
            }
        },
    )?;
    written.finish()?;
    if conversion.without_tokenizer { Ok(()) } else { same_tokenizer(source, written) }
}

/// Of two files the keys, which were copied, whether they are understood here or not; else what is made of texts.
fn same_tokenizer(source: &Source, written: &Source) -> Result<(), CheckpointError> {
    let lost = || file_error(written.name(), "has lost its tokenizer; this is a bug, please report it");
    if let (Vocabulary::Gguf(a), Vocabulary::Gguf(b)) = (&source.vocabulary, &written.vocabulary) {
        let mut keys = a.metadata().iter().filter(|(key, _)| metadata::is_tokenizer(key));
        return if keys.all(|(key, value)| b.metadata().value(key) == Some(value)) { Ok(()) } else { Err(lost()) };
    }
    let Some(original) = source.tokenizer()? else {
        return Ok(());
    };
    let translated = written.tokenizer()?.ok_or_else(lost)?;
    tokenizer::compare(&original, &translated).map_err(|message| file_error(written.name(), message))
}

fn same(
    source: &Source,
    written: &Source,
    piece: &Piece<'_, '_>,
    table: Option<&DenseMatrix<'_>>,
) -> Result<bool, CheckpointError> {
    let tensor = piece.tensor;
    match (&tensor.kind, table) {
        (Kind::Norm(id), _) => Ok(source.vector(*id, tensor.cols)? == written.vector(*id, tensor.cols)?),
        (Kind::Table(_, original, _), Some(table)) => Ok(same_rows(original, table, piece)),
        (Kind::Linear(id, _), _) => same_linear(source, written, tensor, *id),
        // A hyperparameter, and those were compared.
        (Kind::Divisors(_) | Kind::Table(..), _) => Ok(true),
    }
}

fn same_rows(a: &DenseMatrix<'_>, b: &DenseMatrix<'_>, piece: &Piece<'_, '_>) -> bool {
    let same = if a.encoding() == b.encoding() {
        piece.bytes_in(a) == piece.bytes_in(b)
    } else {
        let (mut x, mut y) = (vec![0.0f32; a.cols()], vec![0.0f32; a.cols()]);
        piece.rows.clone().all(|row| {
            a.read_row(row, &mut x);
            b.read_row(row, &mut y);
            let largest = x.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            x.iter().zip(&y).all(|(x, y)| (x - y).abs() <= largest / 16.0)
        })
    };
    a.bytes().release(piece.range_in(a));
    b.bytes().release(piece.range_in(b));
    same
}

fn same_linear(source: &Source, written: &Source, tensor: &Planned<'_>, id: TensorId) -> Result<bool, CheckpointError> {
    let &Planned { rows, cols, order, .. } = tensor;
    let (a, b) = (source.ternary(id, rows, cols)?, written.ternary(id, rows, cols)?);
    let (mut x, mut y) = (vec![0; cols], vec![0; cols]);
    let same_trits = (0..rows).all(|row| {
        a.read_row(order.source_row(row), &mut x);
        b.read_row(row, &mut y);
        x == y
    });
    let same = same_trits && same_scales(&order.scales(a.scales(), rows, cols), &b);
    a.bytes().release(0..a.bytes().len());
    b.bytes().release(0..b.bytes().len());
    Ok(same)
}

/// Whether `written` has the scales `source`, as its encoding keeps them.
fn same_scales(source: &Scales, written: &TernaryMatrix<'_>) -> bool {
    let (rows, cols, encoding) = (written.rows(), written.cols(), written.encoding());
    // Every run of columns within which neither side changes its scale.
    let step = gcd(run(source, cols), run(written.scales(), cols));
    (0..rows).all(|row| {
        let (a, b) = (of_row(source, row, cols), of_row(written.scales(), row, cols));
        (0..cols).step_by(step).all(|col| stored(encoding, a(col)) == b(col))
    })
}

fn stored(encoding: TernaryEncoding, scale: f32) -> f32 {
    encoding.stored_scale(scale)
}

/// Columns that share a scale.
fn run(scales: &Scales, cols: usize) -> usize {
    match scales {
        Scales::Tensor(_) | Scales::Rows(_) => cols,
        Scales::Groups { cols, .. } => *cols,
    }
}

/// The scale of each column of a row.
#[expect(clippy::indexing_slicing, reason = "rows and columns are those of the matrix that has the scales")]
fn of_row(scales: &Scales, row: usize, cols: usize) -> impl Fn(usize) -> f32 {
    move |col| match scales {
        Scales::Tensor(scale) => *scale,
        Scales::Rows(values) => values[row],
        Scales::Groups { cols: group, values } => values[row * (cols / group) + col / group],
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
