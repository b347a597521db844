//! Files that lie: one test per lie, named after it.
//!
//! A test takes a file that is in order, changes the one thing it is about, and
//! asks for the error that names it. None may panic, and none may allocate by
//! the number it lies with: several of them would ask for more memory than any
//! machine has.

use tritwise_gguf::{Error, Header, Value, Writer, limits, types};

/// A file taken apart, so that each part can be made to lie.
struct File {
    magic: [u8; 4],
    version: u32,
    tensor_count: u64,
    entry_count: u64,
    entries: Vec<u8>,
    tensors: Vec<u8>,
    data: usize,
}

/// Two entries, two tensors of 32 bytes each.
fn honest() -> File {
    let mut entries = entry("general.architecture", 8, &string("llama"));
    entries.extend(entry("n", 4, &7u32.to_le_bytes()));
    let mut tensors = tensor("a", &[8], types::F32, 0);
    tensors.extend(tensor("b", &[4, 2], types::F32, 32));
    File { magic: *b"GGUF", version: 3, tensor_count: 2, entry_count: 2, entries, tensors, data: 64 }
}

impl File {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.entry_count.to_le_bytes());
        bytes.extend(&self.entries);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32) + self.data, 0xaa);
        bytes
    }

    /// With one more entry.
    fn and_entry(mut self, key: &str, value_type: u32, value: &[u8]) -> Self {
        self.entry_count += 1;
        self.entries.extend(entry(key, value_type, value));
        self
    }

    /// With this as its only tensor.
    fn only_tensor(mut self, name: &str, dims: &[u64], type_id: u32, offset: u64) -> Self {
        self.tensor_count = 1;
        self.tensors = tensor(name, dims, type_id, offset);
        self
    }

    /// What the reader says, which must contain every one of `words`.
    fn refused(&self, words: &[&str]) {
        let error = Header::parse(&self.bytes()).expect_err("the file lies");
        let message = error.to_string();
        for word in words {
            assert!(message.contains(word), "{message:?} does not say {word:?}");
        }
        assert!(message.len() < 1000, "{message}");
    }
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn entry(key: &str, value_type: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = string(key);
    bytes.extend(value_type.to_le_bytes());
    bytes.extend(value);
    bytes
}

fn array(element_type: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    let mut bytes = element_type.to_le_bytes().to_vec();
    bytes.extend(count.to_le_bytes());
    bytes.extend(elements);
    bytes
}

fn tensor(name: &str, dims: &[u64], type_id: u32, offset: u64) -> Vec<u8> {
    tensor_claiming(name, dims.len() as u32, dims, type_id, offset)
}

fn tensor_claiming(name: &str, n_dims: u32, dims: &[u64], type_id: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend(n_dims.to_le_bytes());
    dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
    bytes.extend(type_id.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

#[test]
fn no_lie() {
    let bytes = honest().bytes();
    let header = Header::parse(&bytes).unwrap();
    assert_eq!((header.version(), header.alignment(), header.metadata().len()), (3, 32, 2));
    assert_eq!(header.metadata().string("general.architecture").unwrap(), Some("llama"));
    assert_eq!(header.metadata().unsigned("n").unwrap(), Some(7));
    assert_eq!(header.metadata().unsigned("absent").unwrap(), None);
    let [a, b] = header.tensors() else { panic!("two tensors") };
    assert_eq!((a.name.as_str(), &a.dims[..], a.window.clone()), ("a", &[8][..], bytes.len() - 64..bytes.len() - 32));
    assert_eq!((b.elements(), b.window.clone()), (8, bytes.len() - 32..bytes.len()));
}

#[test]
fn version_2_is_the_same() {
    let file = File { version: 2, ..honest() };
    assert_eq!(Header::parse(&file.bytes()).unwrap().version(), 2);
}

#[test]
fn truncated_anywhere() {
    let bytes = honest().bytes();
    // Up to the last tensor's last byte: how many of those there must be is for the encoding to say.
    for len in 0..bytes.len() - 31 {
        Header::parse(&bytes[..len]).expect_err(&format!("{len} of {} bytes", bytes.len()));
    }
}

#[test]
fn any_byte_changed_never_panics() {
    let bytes = honest().bytes();
    for at in 0..bytes.len() - 64 {
        for value in [0, 1, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x80] {
            let mut changed = bytes.clone();
            changed[at] = value;
            if let Ok(header) = Header::parse(&changed) {
                let inside = |tensor: &tritwise_gguf::Tensor| changed.get(tensor.window.clone()).is_some();
                assert!(header.tensors().iter().all(inside), "byte {at} = {value}");
            }
        }
    }
}

#[test]
fn empty_file() {
    assert!(matches!(Header::parse(&[]), Err(Error::Truncated { .. })));
}

#[test]
fn wrong_magic() {
    File { magic: *b"PK\x03\x04", ..honest() }.refused(&["GGUF", r"PK\x03\x04"]);
    File { magic: *b"ggml", ..honest() }.refused(&["GGUF", "ggml"]);
}

#[test]
fn version_0_and_1_are_too_old() {
    File { version: 0, ..honest() }.refused(&["version 0", "too old"]);
    File { version: 1, ..honest() }.refused(&["version 1", "too old", "convert"]);
}

#[test]
fn version_4_is_too_new() {
    File { version: 4, ..honest() }.refused(&["version 4", "too new"]);
}

#[test]
fn big_endian() {
    File { version: 3u32.swap_bytes(), ..honest() }.refused(&["big-endian", "convert"]);
}

// Counts (CVE-2024-21836, CVE-2024-23605, llama.cpp issue 15711): each of these times the size of anything wraps or is
// more than there is memory for.

#[test]
fn more_tensors_than_bytes() {
    for count in [100, 1 << 32, u64::MAX / 32, u64::MAX] {
        File { tensor_count: count, ..honest() }.refused(&[&count.to_string(), "tensors"]);
    }
}

#[test]
fn more_entries_than_bytes() {
    for count in [100, 1 << 32, u64::MAX / 14, u64::MAX] {
        File { entry_count: count, ..honest() }.refused(&[&count.to_string(), "metadata entries"]);
    }
}

#[test]
fn one_tensor_more_than_there_is() {
    let file = File { tensor_count: 3, ..honest() };
    // What follows is padding and data, of which nothing can be made.
    assert!(Header::parse(&file.bytes()).is_err());
}

#[test]
fn more_entries_than_the_limit() {
    let mut file = File { entry_count: limits::ENTRIES + 1, entries: Vec::new(), ..honest() };
    for i in 0..file.entry_count {
        file.entries.extend(entry(&format!("{i}"), 0, &[0]));
    }
    file.refused(&[&limits::ENTRIES.to_string()]);
}

#[test]
fn more_tensors_than_the_limit() {
    let mut file = File { tensor_count: limits::TENSORS + 1, tensors: Vec::new(), ..honest() };
    for i in 0..file.tensor_count {
        file.tensors.extend(tensor(&format!("{i}"), &[], 0, i * 32));
    }
    file.refused(&[&limits::TENSORS.to_string()]);
}

#[test]
fn empty_key() {
    honest().and_entry("", 0, &[0]).refused(&["metadata key", "empty"]);
}

#[test]
fn key_longer_than_the_limit() {
    let key = "k".repeat(limits::KEY);
    assert!(Header::parse(&honest().and_entry(&key, 0, &[0]).bytes()).is_ok());
    honest().and_entry(&format!("{key}k"), 0, &[0]).refused(&["65536 bytes"]);
}

#[test]
fn key_twice() {
    honest().and_entry("n", 0, &[0]).refused(&["\"n\"", "twice"]);
}

#[test]
fn value_type_that_is_none() {
    honest().and_entry("k", 13, &[0; 8]).refused(&["\"k\"", "type 13"]);
    honest().and_entry("k", u32::MAX, &[0; 8]).refused(&["\"k\""]);
}

#[test]
fn element_type_that_is_none() {
    honest().and_entry("k", 9, &array(13, 1, &[0; 8])).refused(&["\"k\"", "type 13"]);
}

#[test]
fn array_of_arrays() {
    // A chain of these overflows the stack of a reader that recurses.
    honest().and_entry("k", 9, &array(9, 1, &array(0, 1, &[0]))).refused(&["\"k\"", "array of arrays"]);
}

#[test]
fn boolean_that_is_neither() {
    honest().and_entry("k", 7, &[2]).refused(&["\"k\"", "boolean 2"]);
    honest().and_entry("k", 9, &array(7, 2, &[1, 3])).refused(&["\"k\"", "boolean 3"]);
}

#[test]
fn string_longer_than_the_file() {
    // CVE-2024-23496: a length of 2⁶⁴ - 1 plus a terminator is 0.
    for len in [1 << 20, u64::MAX - 1, u64::MAX] {
        honest().and_entry("k", 8, &len.to_le_bytes()).refused(&["ends inside k"]);
    }
}

#[test]
fn array_longer_than_the_file() {
    // CVE-2024-21825, CVE-2024-21802: count times size wraps to something small.
    for (element_type, count) in [(0, u64::MAX), (2, 1 << 63), (6, (1 << 62) + 1), (10, (1 << 61) + 1), (12, 1 << 40)] {
        honest().and_entry("k", 9, &array(element_type, count, &[0; 8])).refused(&[]);
    }
}

#[test]
fn more_strings_than_bytes() {
    for count in [1 << 20, 1 << 60, u64::MAX] {
        honest().and_entry("k", 9, &array(8, count, &[0; 8])).refused(&["strings"]);
    }
}

#[test]
fn text_that_is_not_utf8() {
    let mut latin1 = 2u64.to_le_bytes().to_vec();
    latin1.extend([b'n', 0xe9]);
    honest().and_entry("k", 8, &latin1).refused(&["k at byte", "UTF-8"]);
    let mut file = honest();
    file.tensors[8] = 0xff;
    file.refused(&["tensor name", "UTF-8"]);
}

// Alignment (ggml pull request 1516, llama.cpp pull requests 24997 and 26318).

#[test]
fn alignment_of_another_type() {
    honest().and_entry("general.alignment", 10, &32u64.to_le_bytes()).refused(&["general.alignment", "u64", "u32"]);
    honest().and_entry("general.alignment", 8, &string("32")).refused(&["general.alignment", "string"]);
}

#[test]
fn alignment_that_is_no_power_of_two() {
    for alignment in [0u32, 3, 33, u32::MAX] {
        honest()
            .and_entry("general.alignment", 4, &alignment.to_le_bytes())
            .refused(&["general.alignment", &alignment.to_string()]);
    }
}

#[test]
fn alignment_beyond_the_limit() {
    let alignment = limits::ALIGNMENT * 2;
    honest().and_entry("general.alignment", 4, &alignment.to_le_bytes()).refused(&[&alignment.to_string(), "at most"]);
}

#[test]
fn offset_that_is_not_aligned() {
    honest().only_tensor("t", &[4], types::F32, 16).refused(&["\"t\"", "offset 16", "alignment 32"]);
}

// Shapes (ggml pull request 709, llama.cpp pull request 18674, CVE-2025-53630, CVE-2026-27940).

#[test]
fn more_dimensions_than_the_limit() {
    for n_dims in [5, 8, u32::MAX] {
        let mut file = honest().only_tensor("t", &[], types::F32, 0);
        file.tensors = tensor_claiming("t", n_dims, &[1; 8], types::F32, 0);
        file.refused(&["\"t\"", &format!("{n_dims} dimensions")]);
    }
}

#[test]
fn dimension_of_zero() {
    honest().only_tensor("t", &[4, 0], types::F32, 0).refused(&["\"t\"", "[4, 0]"]);
}

#[test]
fn dimension_longer_than_the_limit() {
    // Both products wrap to 2⁴².
    honest().only_tensor("t", &[(1 << 42) + 1, 1 << 42], types::F32, 0).refused(&["\"t\"", "not between"]);
    honest().only_tensor("t", &[limits::DIM + 1], types::F32, 0).refused(&["\"t\"", "not between"]);
    honest().only_tensor("t", &[u64::MAX], types::F32, 0).refused(&["\"t\"", "not between"]);
}

#[test]
fn product_of_dimensions_that_wraps() {
    let dim = limits::DIM;
    honest().only_tensor("t", &[dim, dim, dim, dim], types::F32, 0).refused(&["\"t\"", "overflow"]);
}

#[test]
fn shape_larger_than_the_file() {
    // CVE-2026-7482: whoever believes the shape reads what lies behind the file's bytes.
    honest().only_tensor("t", &[1 << 20, 1 << 10], types::F32, 0).refused(&["\"t\"", "64 bytes"]);
    let bits = limits::ELEMENTS_PER_BYTE;
    assert!(Header::parse(&honest().only_tensor("t", &[64 * bits], 41, 0).bytes()).is_ok());
    honest().only_tensor("t", &[64 * bits + 1], 41, 0).refused(&["\"t\""]);
}

#[test]
fn tensor_beyond_the_end() {
    for offset in [64, 1 << 20, u64::MAX - 31] {
        honest().only_tensor("t", &[4], types::F32, offset).refused(&["\"t\"", &offset.to_string(), "end of the file"]);
    }
}

#[test]
fn tensors_that_overlap() {
    let mut file = honest();
    file.tensors = tensor("a", &[8], types::F32, 32);
    file.tensors.extend(tensor("b", &[8], types::F32, 32));
    file.refused(&["same byte", "overlap"]);
}

#[test]
fn tensors_in_any_order_are_no_lie() {
    let mut file = honest();
    file.tensors = tensor("a", &[8], types::F32, 32);
    file.tensors.extend(tensor("b", &[8], types::F32, 0));
    let header = Header::parse(&file.bytes()).unwrap();
    let [a, b] = header.tensors() else { panic!("two tensors") };
    assert_eq!((a.window.start, a.window.len()), (b.window.end, 32));
}

#[test]
fn tensor_without_name() {
    honest().only_tensor("", &[4], types::F32, 0).refused(&["no name"]);
}

#[test]
fn tensor_name_longer_than_the_limit() {
    let name = "n".repeat(limits::NAME);
    assert!(Header::parse(&honest().only_tensor(&name, &[4], types::F32, 0).bytes()).is_ok());
    honest().only_tensor(&format!("{name}n"), &[4], types::F32, 0).refused(&["64 bytes"]);
}

#[test]
fn tensor_name_twice() {
    let mut file = honest();
    file.tensors = tensor("a", &[8], types::F32, 0);
    file.tensors.extend(tensor("a", &[8], types::F32, 32));
    file.refused(&["\"a\"", "twice"]);
}

#[test]
fn value_of_another_type_than_asked_for() {
    let bytes = honest().and_entry("f", 6, &1.5f32.to_le_bytes()).bytes();
    let header = Header::parse(&bytes).unwrap();
    let metadata = header.metadata();
    assert_eq!(metadata.float("f").unwrap(), Some(1.5));
    for error in [
        metadata.unsigned("f").unwrap_err(),
        metadata.boolean("f").unwrap_err(),
        metadata.string("f").unwrap_err(),
        metadata.strings("f").unwrap_err(),
        metadata.floats("f").unwrap_err(),
        metadata.integers("f").unwrap_err(),
    ] {
        let message = error.to_string();
        assert!(message.contains("\"f\"") && message.contains("1.5") && message.contains("f32"), "{message}");
    }
}

#[test]
fn sizes_that_fill_a_window() {
    let bytes = honest().bytes();
    let header = Header::parse(&bytes).unwrap();
    let tensor = &header.tensors()[0];
    let fitting: Vec<u64> = (0..100).filter(|&size| header.fits(tensor, size)).collect();
    assert_eq!(fitting, (1..=32).collect::<Vec<_>>(), "a window of 32 bytes, aligned to 32");
}

// The writer holds what it is told to the same rules.

#[test]
fn writer_refuses_what_the_reader_would() {
    let mut writer = Writer::new();
    writer.metadata("k", 1u8).unwrap();
    writer.tensor("t", &[8], types::F32, 32).unwrap();
    for error in [
        writer.metadata("k", 2u8).unwrap_err(),
        writer.metadata("", 2u8).unwrap_err(),
        writer.metadata(&"k".repeat(limits::KEY + 1), 2u8).unwrap_err(),
        writer.metadata("general.alignment", 48u32).unwrap_err(),
        writer.metadata("general.alignment", 64u64).unwrap_err(),
        writer.tensor("t", &[8], types::F32, 32).unwrap_err(),
        writer.tensor("", &[8], types::F32, 32).unwrap_err(),
        writer.tensor(&"n".repeat(limits::NAME + 1), &[8], types::F32, 32).unwrap_err(),
        writer.tensor("u", &[1; 5], types::F32, 4).unwrap_err(),
        writer.tensor("u", &[0], types::F32, 4).unwrap_err(),
        writer.tensor("u", &[8], types::F32, 0).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Metadata { .. } | Error::Tensor { .. }), "{error}");
    }
    assert_eq!(Value::from(1u8).as_u64(), Some(1));
}

#[test]
fn writer_refuses_data_out_of_order_or_of_wrong_length() {
    let start = || {
        let mut writer = Writer::new();
        writer.tensor("a", &[8], types::F32, 32).unwrap().tensor("b", &[2], types::F32, 8).unwrap();
        writer.start(Vec::new()).unwrap()
    };
    let mut data = start();
    assert!(data.append("b", &[0; 8]).unwrap_err().to_string().contains("\"a\" is next"));
    assert!(data.append("a", &[0; 33]).unwrap_err().to_string().contains("32 bytes and given 33"));
    data.append("a", &[0; 20]).unwrap();
    assert!(data.append("b", &[0; 8]).is_err());
    data.append("a", &[0; 12]).unwrap();
    data.append("b", &[0; 7]).unwrap();
    assert!(data.append("a", &[]).is_err());
    assert!(data.finish().unwrap_err().to_string().contains("8 bytes and given 7"));
    assert!(start().finish().is_err());
}
