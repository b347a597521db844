//! Reading: a file's bytes to typed metadata and tensor windows.
//!
//! ```text
//! magic "GGUF" │ version u32 │ tensors u64 │ entries u64
//! entries ×  key string │ type u32 │ value
//! tensors ×  name string │ dimensions u32 │ dimensions × u64 │ type u32 │ offset u64
//! zeros up to a multiple of the alignment ── offset 0 is here
//! tensor data, each at a multiple of the alignment
//! ```
//!
//! Everything is little-endian; a string is a u64 length and so many bytes of
//! UTF-8; an array is a u32 element type, a u64 count and the elements. The
//! format is described in ggml's `docs/gguf.md`; what to distrust in it, in the
//! reports cited in [`limits`].

use std::ops::Range;

use crate::{Array, Error, Metadata, Strings, Value, cursor::Cursor, limits};

/// The alignment of files that do not set `general.alignment`, in bytes.
pub const DEFAULT_ALIGNMENT: u32 = 32;

/// The key that sets a file's alignment.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";

/// A validated header: all metadata, and tensors whose bytes are known to be in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    version: u32,
    alignment: u32,
    metadata: Metadata,
    tensors: Vec<Tensor>,
}

/// A tensor's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// The name; unique in its file.
    pub name: String,
    /// The shape, fastest-varying dimension first: `[cols, rows]` for a matrix.
    pub dims: Vec<u64>,
    /// The ggml type number, whose meaning depends on the project that wrote the file (see [`types`](crate::types)).
    pub type_id: u32,
    /// The bytes from where the tensor begins to where the next one begins or
    /// the file ends, as a range of the whole file: the tensor and its padding.
    pub window: Range<usize>,
}

impl Tensor {
    /// Number of elements, the product of the dimensions.
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }
}

impl Header {
    /// Reads the header of the GGUF file `bytes`, which is the whole file.
    ///
    /// Nothing is allocated by a number in the file that the file's own length
    /// does not bear out, and no tensor data is read.
    ///
    /// # Errors
    /// The first thing found that is not as the format wants it. Files of version 1 and
    /// big-endian files are refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut cursor = Cursor::new(bytes);
        let version = read_version(&mut cursor)?;
        let tensors = cursor.count("tensors", SMALLEST_TENSOR, limits::TENSORS)?;
        let entries = cursor.count("metadata entries", SMALLEST_ENTRY, limits::ENTRIES)?;
        let metadata = read_metadata(&mut cursor, entries)?;
        let alignment = match metadata.value(ALIGNMENT_KEY) {
            None => DEFAULT_ALIGNMENT,
            Some(value) => check_alignment(value)?,
        };
        let found = (0..tensors).map(|_| read_tensor(&mut cursor)).collect::<Result<Vec<_>, _>>()?;
        let tensors = place(found, bytes.len(), cursor.at(), alignment)?;
        Ok(Self { version, alignment, metadata, tensors })
    }

    /// The format version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What every tensor's offset is a multiple of, in bytes.
    pub fn alignment(&self) -> u32 {
        self.alignment
    }

    /// The key–value pairs.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors, in header order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Whether `size` bytes fill `tensor`'s window but for padding.
    ///
    /// This is how an encoding is told from others with the same type number:
    /// a size that leaves more than padding, or does not fit, is not the tensor's.
    pub fn fits(&self, tensor: &Tensor, size: u64) -> bool {
        (tensor.window.len() as u64).checked_sub(size).is_some_and(|rest| rest < u64::from(self.alignment))
    }
}

/// An empty-named u8: 8 bytes of key length, 1 of key, 4 of type, 1 of value.
const SMALLEST_ENTRY: u64 = 8 + 1 + 4 + 1;
/// A tensor without dimensions and with a name of one byte.
const SMALLEST_TENSOR: u64 = 8 + 1 + 4 + 4 + 8;

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, Error> {
    let magic: [u8; 4] = cursor.array("the magic number")?;
    if magic != *b"GGUF" {
        return Err(Error::Magic { found: magic.escape_ascii().to_string() });
    }
    let version = cursor.u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        // There is no flag: a big-endian file shows its small version in the upper half.
        word if word & 0xffff == 0 && word != 0 => Err(Error::BigEndian { word }),
        version => Err(Error::Version { version }),
    }
}

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<Metadata, Error> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let key = cursor.string("a metadata key")?;
        check_key(key)?;
        let value_type = cursor.u32(key)?;
        entries.push((key.to_owned(), read_value(cursor, key, value_type)?));
    }
    Metadata::new(entries)
}

pub(crate) fn check_key(key: &str) -> Result<(), Error> {
    match key.len() {
        0 => Err(Error::metadata(key, "is empty")),
        len if len > limits::KEY => {
            Err(Error::metadata(key, format!("is {len} bytes long; the format allows {}", limits::KEY)))
        }
        _ => Ok(()),
    }
}

/// The alignment that metadata sets.
pub(crate) fn check_alignment(value: &Value) -> Result<u32, Error> {
    match *value {
        Value::U32(alignment) if alignment.is_power_of_two() && alignment <= limits::ALIGNMENT => Ok(alignment),
        ref value => Err(Error::metadata(
            ALIGNMENT_KEY,
            format!(
                "is {value} of type {}; expected a u32 that is a power of two, at most {}",
                value.type_name(),
                limits::ALIGNMENT
            ),
        )),
    }
}

fn read_value(cursor: &mut Cursor<'_>, key: &str, value_type: u32) -> Result<Value, Error> {
    Ok(match value_type {
        0 => Value::U8(u8::from_le_bytes(cursor.array(key)?)),
        1 => Value::I8(i8::from_le_bytes(cursor.array(key)?)),
        2 => Value::U16(u16::from_le_bytes(cursor.array(key)?)),
        3 => Value::I16(i16::from_le_bytes(cursor.array(key)?)),
        4 => Value::U32(cursor.u32(key)?),
        5 => Value::I32(i32::from_le_bytes(cursor.array(key)?)),
        6 => Value::F32(f32::from_le_bytes(cursor.array(key)?)),
        7 => Value::Bool(boolean(key, cursor.array::<1>(key)?[0])?),
        8 => Value::String(cursor.string(key)?.to_owned()),
        9 => Value::Array(read_array(cursor, key)?),
        10 => Value::U64(cursor.u64(key)?),
        11 => Value::I64(i64::from_le_bytes(cursor.array(key)?)),
        12 => Value::F64(f64::from_le_bytes(cursor.array(key)?)),
        other => return Err(Error::metadata(key, format!("has type {other}; types end at 12"))),
    })
}

fn read_array(cursor: &mut Cursor<'_>, key: &str) -> Result<Array, Error> {
    let element_type = cursor.u32(key)?;
    let count = cursor.u64(key)?;
    Ok(match element_type {
        0 => Array::U8(numbers(cursor, key, count, u8::from_le_bytes)?),
        1 => Array::I8(numbers(cursor, key, count, i8::from_le_bytes)?),
        2 => Array::U16(numbers(cursor, key, count, u16::from_le_bytes)?),
        3 => Array::I16(numbers(cursor, key, count, i16::from_le_bytes)?),
        4 => Array::U32(numbers(cursor, key, count, u32::from_le_bytes)?),
        5 => Array::I32(numbers(cursor, key, count, i32::from_le_bytes)?),
        6 => Array::F32(numbers(cursor, key, count, f32::from_le_bytes)?),
        7 => Array::Bool(cursor.take(count, key)?.iter().map(|&byte| boolean(key, byte)).collect::<Result<_, _>>()?),
        8 => Array::String(strings(cursor, key, count)?),
        9 => {
            return Err(Error::metadata(key, "is an array of arrays, which no model uses; refused"));
        }
        10 => Array::U64(numbers(cursor, key, count, u64::from_le_bytes)?),
        11 => Array::I64(numbers(cursor, key, count, i64::from_le_bytes)?),
        12 => Array::F64(numbers(cursor, key, count, f64::from_le_bytes)?),
        other => {
            return Err(Error::metadata(key, format!("has elements of type {other}; types end at 12")));
        }
    })
}

fn numbers<const N: usize, T>(
    cursor: &mut Cursor<'_>,
    key: &str,
    count: u64,
    convert: fn([u8; N]) -> T,
) -> Result<Vec<T>, Error> {
    let size = count.checked_mul(N as u64).ok_or(Error::Count {
        what: "elements in a metadata array",
        count,
        most: cursor.left() as u64 / N as u64,
    })?;
    let (elements, _) = cursor.take(size, key)?.as_chunks();
    Ok(elements.iter().copied().map(convert).collect())
}

fn strings(cursor: &mut Cursor<'_>, key: &str, count: u64) -> Result<Strings, Error> {
    cursor.check_count(count, "strings in a metadata array", 8, u64::MAX)?;
    let mut strings = Strings::default();
    for _ in 0..count {
        strings.push(cursor.string(key)?);
    }
    Ok(strings)
}

fn boolean(key: &str, byte: u8) -> Result<bool, Error> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Error::metadata(key, format!("holds the boolean {other}; expected 0 or 1"))),
    }
}

/// A tensor whose window is not known yet: it begins at `offset` in the data.
struct Unplaced {
    name: String,
    dims: Vec<u64>,
    type_id: u32,
    offset: u64,
}

fn read_tensor(cursor: &mut Cursor<'_>) -> Result<Unplaced, Error> {
    let name = cursor.string("a tensor name")?;
    check_name(name)?;
    let n_dims = cursor.u32(name)?;
    if n_dims > limits::DIMS {
        return Err(Error::tensor(name, format!("has {n_dims} dimensions; the format allows {}", limits::DIMS)));
    }
    let dims = (0..n_dims).map(|_| cursor.u64(name)).collect::<Result<Vec<_>, _>>()?;
    check_dims(name, &dims)?;
    Ok(Unplaced { name: name.to_owned(), dims, type_id: cursor.u32(name)?, offset: cursor.u64(name)? })
}

pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    match name.len() {
        0 => Err(Error::tensor(name, "has no name")),
        len if len > limits::NAME => {
            Err(Error::tensor(name, format!("has a name of {len} bytes; the format allows {}", limits::NAME)))
        }
        _ => Ok(()),
    }
}

pub(crate) fn check_dims(name: &str, dims: &[u64]) -> Result<u64, Error> {
    if let Some(dim) = dims.iter().find(|&&dim| dim == 0 || dim > limits::DIM) {
        return Err(Error::tensor(name, format!("has shape {dims:?}; {dim} is not between 1 and {}", limits::DIM)));
    }
    dims.iter()
        .try_fold(1u64, |product, &dim| product.checked_mul(dim))
        .ok_or_else(|| Error::tensor(name, format!("has shape {dims:?}, whose element count overflows")))
}

/// Gives each tensor the bytes up to the next one, and refuses any that leaves
/// the file or shares its bytes.
fn place(found: Vec<Unplaced>, file_len: usize, header_len: usize, alignment: u32) -> Result<Vec<Tensor>, Error> {
    let data_start = (header_len as u64).next_multiple_of(alignment.into());
    let mut starts = Vec::with_capacity(found.len());
    for (index, tensor) in found.iter().enumerate() {
        let Unplaced { name, offset, .. } = tensor;
        if !offset.is_multiple_of(alignment.into()) {
            return Err(Error::tensor(
                name,
                format!("has offset {offset}, not a multiple of the alignment {alignment}"),
            ));
        }
        let start = data_start.checked_add(*offset).and_then(|start| usize::try_from(start).ok());
        match start {
            Some(start) if start < file_len => starts.push((start, index)),
            _ => {
                return Err(Error::tensor(
                    name,
                    format!(
                        "begins {offset} bytes into the data, beyond the end of the file ({file_len} bytes); \
                         it is cut short or corrupt, download it again"
                    ),
                ));
            }
        }
    }
    starts.sort_unstable();
    let ends = starts.iter().skip(1).map(|&(start, _)| start).chain([file_len]);
    let mut windows: Vec<(usize, Range<usize>)> =
        starts.iter().zip(ends).map(|(&(start, index), end)| (index, start..end)).collect();
    windows.sort_unstable_by_key(|(index, _)| *index);

    let tensors: Vec<Tensor> = found
        .into_iter()
        .zip(windows)
        .map(|(Unplaced { name, dims, type_id, .. }, (_, window))| Tensor { name, dims, type_id, window })
        .collect();
    for tensor in &tensors {
        check_window(tensor)?;
    }
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    match names.iter().zip(names.iter().skip(1)).find(|(name, next)| name == next) {
        Some((name, _)) => Err(Error::tensor(name, "stands in the file twice; each name may occur once")),
        None => Ok(tensors),
    }
}

fn check_window(tensor: &Tensor) -> Result<(), Error> {
    let Tensor { name, dims, window, .. } = tensor;
    if window.is_empty() {
        return Err(Error::tensor(name, "begins at the same byte as another tensor; tensors may not overlap"));
    }
    if tensor.elements().div_ceil(limits::ELEMENTS_PER_BYTE) > window.len() as u64 {
        return Err(Error::tensor(
            name,
            format!(
                "has shape {dims:?} but only {} bytes in the file; the file is cut short or its shapes are false",
                window.len()
            ),
        ));
    }
    Ok(())
}
