//! A sound checkpoint with some changes, by its seed.

use crate::gguf::Raw;
use crate::random::Random;
use crate::sound::Checkpoint;
use crate::{bytes, folder};

/// What a seed stands for.
#[derive(Debug)]
pub(crate) struct Mutant {
    pub(crate) checkpoint: Checkpoint,
    /// What was changed.
    pub(crate) changes: Vec<String>,
    /// For choices of whoever opens it.
    pub(crate) random: Random,
}

impl Mutant {
    /// The mutant of a seed. The same seed makes the same one of the same checkpoints.
    pub(crate) fn new(seed: u64, sound: &[Checkpoint]) -> Self {
        let mut random = Random(seed);
        let (one, other) = (random.below(sound.len()), random.below(sound.len()));
        let (mut checkpoint, other) = (sound[one].clone(), &sound[other]);
        let count = *random.pick(&[1, 1, 1, 1, 2, 2, 3, 5]).unwrap_or(&1);
        let mut changes = Vec::new();
        for _ in 0..count {
            changes.push(change(&mut checkpoint, other, &mut random));
        }
        Self { checkpoint, changes, random }
    }
}

/// Changes one of the checkpoint's files; says how.
fn change(checkpoint: &mut Checkpoint, other: &Checkpoint, random: &mut Random) -> String {
    let other_file = random.pick(&other.files).map_or(&[][..], |(_, bytes)| bytes);
    let gguf = checkpoint.is_gguf();
    let at = random.below(checkpoint.files.len());
    if checkpoint.files.len() > 1 && random.once_in(12) {
        let (name, _) = checkpoint.files.remove(at);
        return format!("no {name}");
    }
    let Some((name, file)) = checkpoint.files.get_mut(at) else { return "nothing".to_owned() };
    if !gguf {
        return folder::change(name, file, other_file, random);
    }
    let raw = (!random.once_in(3)).then(|| Raw::read(file).ok()).flatten();
    let Some(mut raw) = raw else { return bytes::change(file, other_file, random) };
    let other = if other.is_gguf() { Raw::read(other_file).ok() } else { None };
    let change = raw.change(other.as_ref().unwrap_or(&raw.clone()), random);
    *file = raw.write();
    change
}
