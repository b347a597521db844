//! Changes to bytes, whatever they mean.

use crate::random::Random;

/// Numbers that make others of them: NaN, infinity and the largest ones, as F32, F16 and BF16 write them.
const SPOILT: [&[u8]; 9] = [
    &[0, 0, 0xc0, 0x7f],
    &[0, 0, 0x80, 0x7f],
    &[0xff, 0xff, 0x7f, 0x7f],
    &[0, 0x7e],
    &[0, 0x7c],
    &[0xff, 0x7b],
    &[0xc0, 0x7f],
    &[0x7f, 0x7f],
    &[0xff],
];

/// Changes `bytes`; says how.
pub(crate) fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) -> String {
    if bytes.is_empty() {
        bytes.extend(other);
        return "empty bytes become others".to_owned();
    }
    match random.below(7) {
        0 => {
            // Where headers are, half of the time.
            let end = if random.once_in(2) { bytes.len() } else { bytes.len().min(4096) };
            let flips = 1 + random.below(8);
            for _ in 0..flips {
                let at = random.below(end);
                bytes[at] ^= 1 << random.below(8);
            }
            format!("{flips} bits flipped")
        }
        1 => {
            let len = random.below(bytes.len());
            bytes.truncate(len);
            format!("cut to {len} bytes")
        }
        2 => {
            let most = 1 << random.below(14);
            let count = 1 + random.below(most);
            bytes.extend((0..count).map(|_| random.next() as u8));
            format!("{count} bytes more")
        }
        3 => {
            let (at, from) = (random.below(bytes.len()), random.below(other.len()));
            bytes.truncate(at);
            bytes.extend(other.get(from..).unwrap_or_default());
            format!("from byte {at} on, another file's from {from} on")
        }
        4 => {
            let from = random.range(bytes.len(), 4096);
            let to = random.below(bytes.len() - from.len() + 1);
            bytes.copy_within(from.clone(), to);
            format!("bytes {from:?} again at {to}")
        }
        5 => {
            let range = random.range(bytes.len(), 64);
            drop(bytes.drain(range.clone()));
            format!("bytes {range:?} missing")
        }
        _ => spoil(bytes, random),
    }
}

/// Makes some numbers of a tensor wrong; says how.
pub(crate) fn spoil(bytes: &mut [u8], random: &mut Random) -> String {
    let most = if random.once_in(3) { bytes.len() } else { 256 };
    let range = random.range(bytes.len(), most);
    let start = range.start / 4 * 4;
    match random.below(6) {
        0 => bytes[range.clone()].fill(0),
        // Codes and scales that are ones, in other places.
        1 => {
            let by = random.below(range.len());
            bytes[range.clone()].rotate_left(by);
        }
        2 => {
            let to = random.below(bytes.len() - range.len() + 1);
            bytes.copy_within(range.clone(), to);
        }
        3 => bytes[range.clone()].iter_mut().for_each(|byte| *byte ^= 1 << random.below(8)),
        4 => bytes[range.clone()].iter_mut().for_each(|byte| *byte = random.next() as u8),
        _ => {
            let number = random.pick(&SPOILT).copied().unwrap_or(&[0]);
            bytes[start..range.end].iter_mut().zip(number.iter().cycle()).for_each(|(byte, new)| *byte = *new);
        }
    }
    format!("bytes {range:?} spoilt")
}
