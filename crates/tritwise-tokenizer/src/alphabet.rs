//! GPT-2's alphabet: one printable character for each of the 256 bytes.
//!
//! Byte-level BPE files spell tokens in it, so that a token that ends inside a
//! UTF-8 sequence is still a string. Printable Latin-1 characters stand for
//! themselves; the other 68 bytes, in rising order, are U+0100, U+0101, …
//! (`bytes_to_unicode` in openai/gpt-2's `encoder.py`).
//!
//! ```text
//! byte      0x00 … 0x20   0x21 … 0x7E   0x7F … 0xA0   0xA1 … 0xAC   0xAD    0xAE … 0xFF
//! char    U+0100 … U+0120     itself  U+0121 … U+0142     itself    U+0143     itself
//! ```

/// The byte that `c` stands for, if it is in the alphabet.
pub(crate) fn byte(c: char) -> Option<u8> {
    let code = u32::from(c);
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::byte;

    #[test]
    fn every_byte_has_one_character() {
        let bytes: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte).collect();
        assert_eq!(bytes.len(), 256);
        assert_eq!(bytes.iter().collect::<BTreeSet<_>>().len(), 256);
    }

    #[test]
    fn known_characters() {
        assert_eq!(byte('Ġ'), Some(b' '));
        assert_eq!(byte('Ċ'), Some(b'\n'));
        assert_eq!(byte('a'), Some(b'a'));
        assert_eq!(byte('ÿ'), Some(0xFF));
        assert_eq!(byte('Ń'), Some(0xAD));
        assert_eq!(byte(' '), None);
        assert_eq!(byte('▁'), None);
    }
}
