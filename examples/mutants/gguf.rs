//! GGUF files in parts that can say anything, other than those of the library's writer.

use std::collections::HashSet;

use tritwise_gguf::{Array, Header, Value};

use crate::bytes;
use crate::random::Random;

/// A file in parts. Where a number is `None`, the true one is written.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    version: u32,
    tensor_count: Option<u64>,
    entry_count: Option<u64>,
    entries: Vec<Entry>,
    tensors: Vec<Tensor>,
    /// Of where tensors are put, whatever the metadata says.
    alignment: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    key: Text,
    type_id: u32,
    /// As it stands in the file.
    value: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Tensor {
    name: Text,
    dim_count: Option<u32>,
    dims: Vec<u64>,
    type_id: u32,
    offset: Option<u64>,
    data: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Text {
    bytes: Vec<u8>,
    len: Option<u64>,
}

/// A number in a header: what it says, where it is, and how many bytes it has.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "the test of allocations makes them lie")]
pub(crate) struct Number {
    pub(crate) what: String,
    pub(crate) at: usize,
    pub(crate) width: usize,
}

/// A header as it is written, and where its numbers are.
struct Noted {
    bytes: Vec<u8>,
    numbers: Vec<Number>,
}

impl Noted {
    fn number(&mut self, what: &str, bytes: &[u8]) {
        self.numbers.push(Number { what: what.to_owned(), at: self.bytes.len(), width: bytes.len() });
        self.bytes.extend(bytes);
    }

    fn text(&mut self, what: &str, text: &Text) {
        self.number(what, &text.len.unwrap_or(text.bytes.len() as u64).to_le_bytes());
        self.bytes.extend(&text.bytes);
    }

    /// An entry's value: a number, or a text or list with a length, and of a list of numbers also the first and the last.
    fn value(&mut self, key: &str, type_id: u32, value: &[u8]) {
        let rest = match (type_id, value.split_at_checked(if type_id == 9 { 12 } else { 8 })) {
            (8, Some((len, rest))) => {
                self.number(&format!("length of {key}"), len);
                rest
            }
            (9, Some((head, rest))) => {
                self.number(&format!("element type of {key}"), &head[..4]);
                self.number(&format!("length of {key}"), &head[4..]);
                let width = match head[0] {
                    0 | 1 | 7 => 1,
                    2 | 3 => 2,
                    4..=6 => 4,
                    8 | 10 | 11 | 12 => 8,
                    _ => 0,
                };
                if width > 0 && rest.len() >= 2 * width {
                    self.number(&format!("first of {key}"), &rest[..width]);
                    let last = rest.len() - width;
                    self.bytes.extend(&rest[width..last]);
                    // In a list of texts these are bytes of the last text.
                    self.number(&format!("last of {key}"), &rest[last..]);
                    return;
                }
                rest
            }
            _ => {
                self.number(key, value);
                return;
            }
        };
        self.bytes.extend(rest);
    }
}

impl Raw {
    pub(crate) fn read(file: &[u8]) -> Result<Self, tritwise_gguf::Error> {
        let header = Header::parse(file)?;
        let entries = header.metadata().iter().map(|(key, value)| {
            let (type_id, value) = serialize(value);
            Entry { key: key.into(), type_id, value }
        });
        let tensors = header.tensors().iter().map(|tensor| Tensor {
            name: tensor.name.as_str().into(),
            dim_count: None,
            dims: tensor.dims.clone(),
            type_id: tensor.type_id,
            offset: None,
            data: file[tensor.window.clone()].to_vec(),
        });
        Ok(Self {
            version: header.version(),
            tensor_count: None,
            entry_count: None,
            entries: entries.collect(),
            tensors: tensors.collect(),
            alignment: header.alignment() as usize,
        })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        self.write_noting().0
    }

    /// The file, and every number in its header.
    pub(crate) fn write_noting(&self) -> (Vec<u8>, Vec<Number>) {
        let mut out = Noted { bytes: b"GGUF".to_vec(), numbers: Vec::new() };
        out.number("version", &self.version.to_le_bytes());
        out.number("number of tensors", &self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.number("number of entries", &self.entry_count.unwrap_or(self.entries.len() as u64).to_le_bytes());
        for entry in &self.entries {
            let key = entry.key.to_string();
            out.text(&format!("length of key {key}"), &entry.key);
            out.number(&format!("type of {key}"), &entry.type_id.to_le_bytes());
            out.value(&key, entry.type_id, &entry.value);
        }
        let mut end = 0;
        for tensor in &self.tensors {
            let name = tensor.name.to_string();
            out.text(&format!("length of name {name}"), &tensor.name);
            let count = tensor.dim_count.unwrap_or(tensor.dims.len() as u32);
            out.number(&format!("number of dimensions of {name}"), &count.to_le_bytes());
            tensor.dims.iter().for_each(|dim| out.number(&format!("dimension of {name}"), &dim.to_le_bytes()));
            out.number(&format!("type of {name}"), &tensor.type_id.to_le_bytes());
            out.number(&format!("offset of {name}"), &tensor.offset.unwrap_or(end).to_le_bytes());
            end += tensor.data.len().next_multiple_of(self.alignment) as u64;
        }
        let Noted { mut bytes, numbers } = out;
        for tensor in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
            bytes.extend(&tensor.data);
        }
        (bytes, numbers)
    }

    /// The first tensors with all metadata, and the others, as parts of a split file.
    pub(crate) fn split(mut self) -> [Self; 2] {
        let total = self.tensors.len();
        let rest = self.tensors.split_off(total / 2);
        let mut second = Self { entries: Vec::new(), tensors: rest, ..self.clone() };
        for (no, part) in [&mut self, &mut second].into_iter().enumerate() {
            part.put("split.no", &Value::U16(no as u16));
            part.put("split.count", &Value::U16(2));
            part.put("split.tensors.count", &Value::I32(total as i32));
        }
        [self, second]
    }

    /// With the entry, in place of an old one if there is one.
    pub(crate) fn put(&mut self, key: &str, value: &Value) {
        self.put_all(&[(key.to_owned(), value.clone())]);
    }

    /// With all of the entries, in place of old ones.
    pub(crate) fn put_all(&mut self, entries: &[(String, Value)]) {
        let new: HashSet<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
        self.entries.retain(|entry| !new.contains(&*entry.key.to_string()));
        for (key, value) in entries {
            let (type_id, value) = serialize(value);
            self.entries.push(Entry { key: key.as_str().into(), type_id, value });
        }
    }

    /// Changes one thing; says what.
    pub(crate) fn change(&mut self, other: &Self, random: &mut Random) -> String {
        let (entry, tensor) = (random.below(self.entries.len()), random.below(self.tensors.len()));
        match random.below(28) {
            0 => {
                self.version = random.integer(self.version.into()) as u32;
                format!("version {}", self.version)
            }
            1 => {
                let count = random.integer(self.tensors.len() as u64);
                self.tensor_count = Some(count);
                format!("{count} tensors claimed")
            }
            2 => {
                let count = random.integer(self.entries.len() as u64);
                self.entry_count = Some(count);
                format!("{count} entries claimed")
            }
            3 if random.once_in(2) => {
                self.put("general.alignment", &Value::U32(random.integer(32) as u32));
                "another alignment claimed".to_owned()
            }
            3 => {
                self.entries.extend(random.pick(&other.entries).cloned());
                "an entry of another file".to_owned()
            }
            4 if !self.entries.is_empty() => {
                let entry = self.entries.remove(entry);
                format!("no {}", entry.key)
            }
            5 => {
                self.entries.extend(self.entries.get(entry).cloned());
                "an entry twice".to_owned()
            }
            6..=11 => self.entries.get_mut(entry).map_or_else(String::new, |entry| entry.change(random)),
            12 if !self.tensors.is_empty() => {
                let tensor = self.tensors.remove(tensor);
                format!("no {}", tensor.name)
            }
            13 => {
                self.tensors.extend(self.tensors.get(tensor).cloned());
                "a tensor twice".to_owned()
            }
            14 => {
                self.tensors.extend(random.pick(&other.tensors).cloned());
                "a tensor of another file".to_owned()
            }
            15 => {
                let to = random.below(self.tensors.len());
                if let Ok([a, b]) = self.tensors.get_disjoint_mut([tensor, to]) {
                    std::mem::swap(&mut a.data, &mut b.data);
                }
                "bytes of two tensors exchanged".to_owned()
            }
            _ => self.tensors.get_mut(tensor).map_or_else(String::new, |tensor| tensor.change(random)),
        }
    }
}

impl Entry {
    fn change(&mut self, random: &mut Random) -> String {
        let key = self.key.to_string();
        match random.below(6) {
            0 => return self.key.change(random),
            1 => self.type_id = random.integer(self.type_id.into()) as u32,
            2 => self.type_id = random.below(14) as u32,
            _ => match (self.type_id, self.value.len()) {
                (8, 8..) => {
                    let mut text = Text { bytes: self.value.split_off(8), len: None };
                    text.change(random);
                    self.value.clear();
                    text.write(&mut self.value);
                }
                (9, 12..) => self.change_array(random),
                (6, _) => self.value = (random.float() as f32).to_le_bytes().to_vec(),
                (12, _) => self.value = random.float().to_le_bytes().to_vec(),
                (_, len) => {
                    let old = self.value.iter().rev().fold(0, |old, byte| old << 8 | u64::from(*byte));
                    self.value = random.integer(old).to_le_bytes().into_iter().chain([0; 8]).take(len).collect();
                }
            },
        }
        format!("{key} changed")
    }

    fn change_array(&mut self, random: &mut Random) {
        let count = self.value[4..12].iter().rev().fold(0, |old, byte| old << 8 | u64::from(*byte));
        match random.below(4) {
            0 => self.value[..4].copy_from_slice(&(random.below(14) as u32).to_le_bytes()),
            1 => self.value[4..12].copy_from_slice(&random.integer(count).to_le_bytes()),
            2 => {
                let (mut elements, other) = (self.value.split_off(12), self.value.clone());
                bytes::change(&mut elements, &other, random);
                self.value.extend(elements);
            }
            _ => {
                let at = 12 + random.below(self.value.len() - 12);
                let word = random.integer(0).to_le_bytes();
                self.value[at..].iter_mut().zip(word).for_each(|(byte, new)| *byte = new);
            }
        }
    }
}

impl Tensor {
    fn change(&mut self, random: &mut Random) -> String {
        let name = self.name.to_string();
        let dim = random.below(self.dims.len());
        let how = match random.below(22) {
            0 => return self.name.change(random),
            1 => {
                self.dim_count = Some(random.integer(self.dims.len() as u64) as u32);
                "dimensions claimed"
            }
            2 => {
                if let Some(dim) = self.dims.get_mut(dim) {
                    *dim = random.integer(*dim);
                }
                "another shape"
            }
            3 => {
                self.dims.reverse();
                "transposed"
            }
            4 => {
                self.type_id =
                    *random.pick(&[0, 1, 2, 8, 12, 14, 20, 30, 34, 35, 36, 38, 39, 40, 41, 42]).unwrap_or(&0);
                "another type"
            }
            5 => {
                self.type_id = random.integer(self.type_id.into()) as u32;
                "another type"
            }
            6 | 7 => {
                let old = self.data.len() as u64;
                let aligned = random.once_in(2);
                let offset = random.integer(old);
                self.offset = Some(if aligned { offset / 32 * 32 } else { offset });
                "another offset"
            }
            8 => {
                self.data.truncate(random.below(self.data.len()));
                "bytes missing"
            }
            _ => {
                if !self.data.is_empty() {
                    bytes::spoil(&mut self.data, random);
                }
                "data spoilt"
            }
        };
        format!("{name}: {how}")
    }
}

impl Text {
    fn change(&mut self, random: &mut Random) -> String {
        let old = self.to_string();
        match random.below(4) {
            0 => self.len = Some(random.integer(self.bytes.len() as u64)),
            1 => self.bytes.push(0xff),
            _ => self.bytes = random.text(&old).into_bytes(),
        }
        format!("text {old:.40?} changed")
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.len.unwrap_or(self.bytes.len() as u64).to_le_bytes());
        out.extend(&self.bytes);
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self { bytes: text.into(), len: None }
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.bytes))
    }
}

/// Type number and bytes of a value.
fn serialize(value: &Value) -> (u32, Vec<u8>) {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    match value {
        Value::U8(v) => (0, v.to_le_bytes().to_vec()),
        Value::I8(v) => (1, v.to_le_bytes().to_vec()),
        Value::U16(v) => (2, v.to_le_bytes().to_vec()),
        Value::I16(v) => (3, v.to_le_bytes().to_vec()),
        Value::U32(v) => (4, v.to_le_bytes().to_vec()),
        Value::I32(v) => (5, v.to_le_bytes().to_vec()),
        Value::F32(v) => (6, v.to_le_bytes().to_vec()),
        Value::Bool(v) => (7, vec![u8::from(*v)]),
        Value::String(v) => (8, text(v)),
        Value::Array(array) => (9, serialize_array(array)),
        Value::U64(v) => (10, v.to_le_bytes().to_vec()),
        Value::I64(v) => (11, v.to_le_bytes().to_vec()),
        Value::F64(v) => (12, v.to_le_bytes().to_vec()),
    }
}

fn serialize_array(array: &Array) -> Vec<u8> {
    let elements: Vec<_> =
        (0..array.len()).filter_map(|index| array.value(index)).map(|value| serialize(&value)).collect();
    // An empty array's type is lost, and does not matter.
    let type_id = elements.first().map_or(4, |(type_id, _)| *type_id);
    let mut out = type_id.to_le_bytes().to_vec();
    out.extend((elements.len() as u64).to_le_bytes());
    elements.iter().for_each(|(_, bytes)| out.extend(bytes));
    out
}
