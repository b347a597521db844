//! One position's key and value as bytes that do not say where they lay.
//!
//! ```text
//! F16, F32   key [head_dim]   value [head_dim]
//! Int8       key [head_dim]   value [head_dim]   key's scale   value's scale      scales are binary32
//! ```
//!
//! All little-endian. What is written to files is this and not [`KvLayout`]'s lines, which
//! depend on the capacity of their cache and are free to change.

use bytemuck::{cast_slice, cast_slice_mut};

use super::{KV_BLOCK, KvLayout, KvLine, KvType};

/// Bytes of a scale.
const SCALE: usize = size_of::<f32>();

impl KvLayout {
    /// Bytes of the record of one position.
    pub fn record_bytes(&self) -> usize {
        let scales = if self.kv() == KvType::Int8 { 2 * SCALE } else { 0 };
        2 * self.number_bytes() * self.head_dim() + scales
    }

    /// Writes the key and the value of position `pos` to `record`.
    ///
    /// # Panics
    /// There is no such position, or `lines` or `record` has another length than the layout says.
    pub fn read_record(&self, lines: &[KvLine], pos: usize, record: &mut [u8]) {
        self.check(lines, pos, record);
        let (numbers, scales) = record.split_at_mut(2 * self.number_bytes() * self.head_dim());
        let bytes: &[u8] = lines.as_flattened();
        match self.kv() {
            KvType::F16 => gather::<2>(bytes, self.places(pos), numbers),
            KvType::F32 => gather::<4>(bytes, self.places(pos), numbers),
            KvType::Int8 => gather::<1>(bytes, self.places(pos), numbers),
        }
        let all: &[f32] = cast_slice(&lines[self.key_lines() + self.value_lines()..]);
        for (scale, i) in scales.as_chunks_mut().0.iter_mut().zip([pos, self.positions() + pos]) {
            *scale = all[i].to_le_bytes();
        }
    }

    /// Makes `record` the key and the value of position `pos`; whether it is one, as
    /// [`store_kv`](super::FloatOps::store_kv) never writes the code −128. If not, nothing is changed.
    ///
    /// # Panics
    /// As for [`read_record`](Self::read_record).
    #[must_use]
    pub fn write_record(&self, lines: &mut [KvLine], pos: usize, record: &[u8]) -> bool {
        self.check(lines, pos, record);
        let (numbers, scales) = record.split_at(2 * self.number_bytes() * self.head_dim());
        if self.kv() == KvType::Int8 && numbers.contains(&i8::MIN.cast_unsigned()) {
            return false;
        }
        let bytes = lines.as_flattened_mut();
        match self.kv() {
            KvType::F16 => scatter::<2>(numbers, self.places(pos), bytes),
            KvType::F32 => scatter::<4>(numbers, self.places(pos), bytes),
            KvType::Int8 => scatter::<1>(numbers, self.places(pos), bytes),
        }
        let all: &mut [f32] = cast_slice_mut(&mut lines[self.key_lines() + self.value_lines()..]);
        for (scale, i) in scales.as_chunks().0.iter().zip([pos, self.positions() + pos]) {
            all[i] = f32::from_le_bytes(*scale);
        }
        true
    }

    fn check(&self, lines: &[KvLine], pos: usize, record: &[u8]) {
        assert!(pos < self.positions(), "position {pos} of {}", self.positions());
        assert_eq!(lines.len(), self.lines(), "as many lines as the layout says");
        assert_eq!(record.len(), self.record_bytes(), "one position's record");
    }

    fn number_bytes(&self) -> usize {
        match self.kv() {
            KvType::F16 => 2,
            KvType::F32 => 4,
            KvType::Int8 => 1,
        }
    }

    /// Where the numbers of position `pos` begin, in bytes: the key's, then the value's.
    fn places(&self, pos: usize) -> impl Iterator<Item = usize> {
        let (head_dim, positions, size) = (self.head_dim(), self.positions(), self.number_bytes());
        let values = self.key_lines() * size_of::<KvLine>();
        let (block, slot) = (pos / KV_BLOCK, pos % KV_BLOCK);
        let pairs = self.kv() == KvType::Int8;
        let key = move |d: usize| match pairs {
            false => size * ((block * head_dim + d) * KV_BLOCK + slot),
            true => 2 * ((block * head_dim.div_ceil(2) + d / 2) * KV_BLOCK + slot) + d % 2,
        };
        let value = move |d: usize| match pairs {
            false => size * ((d / KV_BLOCK * positions + pos) * KV_BLOCK + d % KV_BLOCK),
            true => 2 * ((d / KV_BLOCK * (positions / 2) + pos / 2) * KV_BLOCK + d % KV_BLOCK) + pos % 2,
        };
        (0..head_dim).map(key).chain((0..head_dim).map(move |d| values + value(d)))
    }
}

/// Numbers of `N` bytes from their places, one after the other.
fn gather<const N: usize>(bytes: &[u8], places: impl Iterator<Item = usize>, numbers: &mut [u8]) {
    for (number, place) in numbers.as_chunks_mut::<N>().0.iter_mut().zip(places) {
        number.copy_from_slice(&bytes[place..place + N]);
    }
}

/// Numbers of `N` bytes to their places.
fn scatter<const N: usize>(numbers: &[u8], places: impl Iterator<Item = usize>, bytes: &mut [u8]) {
    for (number, place) in numbers.as_chunks::<N>().0.iter().zip(places) {
        bytes[place..place + N].copy_from_slice(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::FloatOps;
    use crate::arch::scalar::Scalar;

    const TYPES: [KvType; 3] = [KvType::F16, KvType::F32, KvType::Int8];

    /// Keys and values of all positions, as the scalar kernels store them.
    fn stored(layout: KvLayout) -> Vec<KvLine> {
        let mut lines = vec![[0; 64]; layout.lines()];
        for pos in 0..layout.positions() {
            let number = |i: usize| ((pos * 613 + i * 89) % 1009) as f32 / 64.0 - 7.0;
            let key: Vec<f32> = (0..layout.head_dim()).map(number).collect();
            let value: Vec<f32> = (0..layout.head_dim()).map(|d| number(d + 500)).collect();
            Scalar::new().store_kv(layout, &mut lines, pos, &key, &value);
        }
        lines
    }

    #[test]
    fn records_rebuild_every_line_and_none_overlap() {
        for kv in TYPES {
            for head_dim in [2, 6, 31, 64, 80] {
                let layout = KvLayout::new(kv, head_dim, 96);
                let (lines, mut copy) = (stored(layout), vec![[0; 64]; layout.lines()]);
                let mut record = vec![0; layout.record_bytes()];
                for pos in (0..layout.positions()).rev() {
                    layout.read_record(&lines, pos, &mut record);
                    assert!(layout.write_record(&mut copy, pos, &record));
                }
                assert!(copy == lines, "{kv:?}, head_dim {head_dim}");
            }
        }
    }

    #[test]
    fn a_record_is_the_numbers_in_order_whatever_the_capacity() {
        let (key, value) = ([1.0, -2.0, 0.5], [4.0, 127.0, -0.25]);
        for positions in [32, 256] {
            let layout = KvLayout::new(KvType::F32, 3, positions);
            let mut lines = vec![[0; 64]; layout.lines()];
            Scalar::new().store_kv(layout, &mut lines, 17, &key, &value);
            let mut record = vec![0; layout.record_bytes()];
            layout.read_record(&lines, 17, &mut record);
            let expected: Vec<u8> = key.iter().chain(&value).flat_map(|x: &f32| x.to_le_bytes()).collect();
            assert_eq!(record, expected);

            let layout = KvLayout::new(KvType::Int8, 3, positions);
            let mut lines = vec![[0; 64]; layout.lines()];
            Scalar::new().store_kv(layout, &mut lines, 17, &key, &value);
            let mut record = vec![0; layout.record_bytes()];
            layout.read_record(&lines, 17, &mut record);
            assert_eq!(record[..6], [64, 129, 32, 4, 127, 0], "codes of two's complement");
            let scales: Vec<u8> = [2.0f32 / 127.0, 1.0].iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(record[6..], scales);
        }
    }

    #[test]
    fn a_code_that_is_never_written_is_refused_and_changes_nothing() {
        let layout = KvLayout::new(KvType::Int8, 4, 32);
        let mut lines = stored(layout);
        let before = lines.clone();
        let mut record = vec![0; layout.record_bytes()];
        record[5] = 0x80;
        assert!(!layout.write_record(&mut lines, 3, &record));
        assert!(lines == before);
    }
}
