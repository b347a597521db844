//! Margins of a trained model, planted in a model of random weights.
//!
//! What a screened head reads depends on how far the likeliest tokens stand out,
//! and with random weights none does. Here the head of a random model gets, for
//! each position of the text that `bench` measures with, some rows whose cosines
//! with that position's hidden vector are those of the best tokens at one position of a
//! story that the bundled model tells. All other rows stay as they were drawn.

use tritwise::tensor::{DenseEncoding, DenseMatrix};
use tritwise::transformer::{Turn, Wanted};
use tritwise::{HeadMode, Model, Sampling};
use tritwise_gguf::Header;

use crate::measure::text;
use crate::{Result, bundled};

/// Positions whose margins are planted: as many as `bench` decodes from an empty cache.
const POSITIONS: usize = 128;

/// Rows per position: the best tokens of the trained model. What follows is background.
const ROWS: usize = 32;

/// Plants the bundled model's margins in `file`, a GGUF file with an F16 head.
///
/// # Errors
/// The file is no such file, or its vocabulary is too small.
pub fn plant(file: &mut [u8]) -> Result {
    let margins = margins()?;
    let model = Model::builder().head(HeadMode::Full).open_bytes("planting", file.to_vec())?;
    let (vocab, width) = (model.config().vocab, model.config().hidden);
    let tokens = text(&model, POSITIONS);
    drop(model);
    let hidden = hidden_vectors(file, &tokens)?;
    let rows = unused(&tokens, vocab, POSITIONS * ROWS)?;
    let head = head(file)?;
    let mut row = vec![0.0; width];
    for (i, id) in rows.into_iter().enumerate() {
        let (x, cosine) = (&hidden[i / ROWS], margins[i / ROWS][i % ROWS]);
        let bytes = &mut file[head.start + 2 * width * id..][..2 * width];
        DenseMatrix::new(DenseEncoding::F16, 1, width, &*bytes)?.read_row(0, &mut row);
        let length = norm(&row);
        // What of the row is at right angles to x, and x, in the proportion that has the cosine.
        let along = dot(&row, x) / dot(x, x);
        row.iter_mut().zip(x).for_each(|(w, x)| *w -= along * x);
        let (keep, add) = (length * (1.0 - cosine * cosine).sqrt() / norm(&row), length * cosine / norm(x));
        row.iter_mut().zip(x).for_each(|(w, x)| *w = keep * *w + add * x);
        bytes.copy_from_slice(&DenseEncoding::F16.encode(&row, 1, width)?);
    }
    Ok(())
}

/// Tokens of the cycle that a copying model goes round in.
const CYCLE: usize = 64;

/// A text that a model with a planted [`cycle`](plant_cycle) copies: twice round.
pub fn cycle(model: &Model) -> Vec<u32> {
    text(model, CYCLE).repeat(2)
}

/// Plants a cycle in `file`, a GGUF file with an F16 head of its own: behind each token of it, the next one is the
/// likeliest. Its row of the head becomes the mean hidden vector there, over the second and third time round.
///
/// # Errors
/// The file is no such file, or its vocabulary is too small.
pub fn plant_cycle(file: &mut [u8]) -> Result {
    let model = Model::builder().head(HeadMode::Full).open_bytes("planting", file.to_vec())?;
    if model.config().tied {
        return Err("a cycle is planted in a head of its own, and this one is the embedding too".into());
    }
    let (cycle, width, network) = (text(&model, CYCLE), model.config().hidden, model.network());
    let tokens = cycle.repeat(3);
    let (mut sequence, mut workspace) = (network.sequence(tokens.len()), network.workspace());
    let turn = Turn { sequence: &mut sequence, tokens: &tokens, wanted: Wanted::All };
    let hidden = network.hidden(&mut workspace, &mut [turn])?;
    let mut means = vec![vec![0.0; width]; CYCLE];
    for (i, x) in hidden.enumerate().skip(CYCLE) {
        let length = norm(x);
        means[i % CYCLE].iter_mut().zip(x).for_each(|(mean, x)| *mean += x / length);
    }
    let head = head(file)?;
    let mut row = vec![0.0; width];
    for (i, mean) in means.iter().enumerate() {
        let bytes = &mut file[head.start + 2 * width * cycle[(i + 1) % CYCLE] as usize..][..2 * width];
        DenseMatrix::new(DenseEncoding::F16, 1, width, &*bytes)?.read_row(0, &mut row);
        let scale = norm(&row) / norm(mean);
        row.iter_mut().zip(mean).for_each(|(w, x)| *w = scale * x);
        bytes.copy_from_slice(&DenseEncoding::F16.encode(&row, 1, width)?);
    }
    Ok(())
}

/// The cosines of the best rows of the bundled model's head, best first, at each position of its own story.
pub fn margins() -> Result<Vec<Vec<f32>>> {
    let file = std::fs::read(bundled())?;
    let model = Model::builder().open_bytes("the bundled model", file.clone())?;
    let mut session = model.session();
    session.push("The little girl looked at the dragon")?;
    session.generate(&Sampling::default().max_tokens(POSITIONS))?.try_for_each(|piece| piece.map(drop))?;
    let tokens = session.tokens().get(..POSITIONS).ok_or("the bundled model's story is too short")?;
    let (vocab, width) = (model.config().vocab, model.config().hidden);
    let head = DenseMatrix::new(DenseEncoding::F16, vocab, width, &file[head(&file)?][..2 * vocab * width])?;
    let mut row = vec![0.0; width];
    let mut all = Vec::new();
    for x in hidden_vectors(&file, tokens)? {
        let mut cosines = Vec::with_capacity(vocab);
        for id in 0..vocab {
            head.read_row(id, &mut row);
            cosines.push(dot(&row, &x) / (norm(&row) * norm(&x)));
        }
        cosines.sort_by(|a, b| b.total_cmp(a));
        cosines.truncate(ROWS);
        all.push(cosines);
    }
    Ok(all)
}

/// The normalised hidden vectors that meet the head, at each of `tokens`: logits of
/// rows that are made unit vectors. Those rows belong to no token of the text, so nothing else changes.
fn hidden_vectors(file: &[u8], tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
    const ONE_F16: [u8; 2] = [0x00, 0x3c];
    let mut file = file.to_vec();
    let head = head(&file)?;
    let header = Header::parse(&file)?;
    let tensor = header.tensors().iter().find(|t| t.window == head).ok_or("no head")?;
    let (width, vocab) = (usize::try_from(tensor.dims[0])?, usize::try_from(tensor.dims[1])?);
    let rows = unused(tokens, vocab, width)?;
    for (feature, id) in rows.iter().enumerate() {
        let row = &mut file[head.start + 2 * width * id..][..2 * width];
        row.fill(0);
        row[2 * feature..][..2].copy_from_slice(&ONE_F16);
    }
    let model = Model::builder().head(HeadMode::Full).open_bytes("planting", file)?;
    let network = model.network();
    let (mut sequence, mut workspace) = (network.sequence(tokens.len()), network.workspace());
    let turn = Turn { sequence: &mut sequence, tokens, wanted: Wanted::All };
    let logits = network.forward(&mut workspace, &mut [turn])?;
    Ok(logits.rows().map(|logits| rows.iter().map(|id| logits[*id]).collect()).collect())
}

/// Where the head's weights are.
fn head(file: &[u8]) -> Result<std::ops::Range<usize>> {
    let header = Header::parse(file)?;
    let named = |name: &str| header.tensors().iter().find(|tensor| tensor.name == name);
    let tensor = named("output.weight").or_else(|| named("token_embd.weight")).ok_or("the file has no head")?;
    if tensor.type_id != tritwise_gguf::types::F16 {
        return Err("margins are planted in F16 heads only".into());
    }
    Ok(tensor.window.clone())
}

/// `count` rows spread over the vocabulary, none of them one of `tokens`.
fn unused(tokens: &[u32], vocab: usize, count: usize) -> Result<Vec<usize>> {
    let free: Vec<usize> = (0..vocab).filter(|id| !tokens.contains(&(*id as u32))).collect();
    let stride = free.len() / count;
    if stride == 0 {
        return Err(format!("a vocabulary of {vocab} has no {count} tokens to spare").into());
    }
    Ok(free.into_iter().step_by(stride).take(count).collect())
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f32]) -> f32 {
    dot(a, a).sqrt()
}
