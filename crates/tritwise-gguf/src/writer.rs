//! Writing: the header from what is declared, then tensor data as it comes.

use std::io::{self, Read as _, Write};

use crate::header::{ALIGNMENT_KEY, check_alignment, check_dims, check_key, check_name};
use crate::{Array, DEFAULT_ALIGNMENT, Error, Value, WriteError, error::quote, limits};

/// A GGUF file in the making: declare metadata and tensors, then [`start`](Writer::start).
///
/// What is declared is held to the rules of [`Header::parse`](crate::Header::parse), so that a finished file
/// is read back as it was declared.
///
/// ```
/// use tritwise_gguf::{Header, Writer, types};
/// let mut writer = Writer::new();
/// writer.metadata("general.architecture", "llama")?;
/// writer.tensor("output_norm.weight", &[2], types::F32, 8)?;
/// let mut data = writer.start(Vec::new())?;
/// data.append("output_norm.weight", &[0; 8])?;
/// let file = data.finish()?;
/// assert_eq!(Header::parse(&file)?.tensors()[0].dims, [2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Writer {
    alignment: u32,
    metadata: Vec<(String, Value)>,
    tensors: Vec<Declared>,
}

#[derive(Debug, Clone)]
struct Declared {
    name: String,
    dims: Vec<u64>,
    type_id: u32,
    bytes: u64,
}

impl Writer {
    /// An empty file of the default alignment; `general.alignment` sets another.
    pub fn new() -> Self {
        Self { alignment: DEFAULT_ALIGNMENT, metadata: Vec::new(), tensors: Vec::new() }
    }

    /// Adds a metadata entry. Entries keep their order.
    ///
    /// # Errors
    /// The key is empty, too long or there already, or the value does not fit the key `general.alignment`.
    pub fn metadata(&mut self, key: &str, value: impl Into<Value>) -> Result<&mut Self, Error> {
        let value = value.into();
        check_key(key)?;
        if self.metadata.iter().any(|(existing, _)| existing == key) {
            return Err(Error::metadata(key, "is set twice"));
        }
        if self.metadata.len() as u64 >= limits::ENTRIES {
            return Err(Error::metadata(key, format!("is one entry more than the {} allowed", limits::ENTRIES)));
        }
        if key == ALIGNMENT_KEY {
            self.alignment = check_alignment(&value)?;
        }
        self.metadata.push((key.to_owned(), value));
        Ok(self)
    }

    /// Declares the next tensor: its shape (fastest dimension first), its ggml type and its size in bytes.
    ///
    /// # Errors
    /// The name is empty, too long or there already; there are too many dimensions; a
    /// dimension is 0 or huge; or no encoding fits so many elements in so few bytes.
    pub fn tensor(&mut self, name: &str, dims: &[u64], type_id: u32, bytes: u64) -> Result<&mut Self, Error> {
        check_name(name)?;
        if self.tensors.iter().any(|existing| existing.name == name) {
            return Err(Error::tensor(name, "is declared twice"));
        }
        if self.tensors.len() as u64 >= limits::TENSORS {
            return Err(Error::tensor(name, format!("is one more than the {} allowed", limits::TENSORS)));
        }
        if dims.len() > limits::DIMS as usize {
            return Err(Error::tensor(
                name,
                format!("has {} dimensions; the format allows {}", dims.len(), limits::DIMS),
            ));
        }
        if check_dims(name, dims)?.div_ceil(limits::ELEMENTS_PER_BYTE) > bytes {
            return Err(Error::tensor(name, format!("has shape {dims:?} but only {bytes} bytes")));
        }
        self.tensors.push(Declared { name: name.to_owned(), dims: dims.to_vec(), type_id, bytes });
        Ok(self)
    }

    /// Writes the header to `sink` and returns what takes the tensor data.
    ///
    /// Writes are small; give it a buffered sink.
    ///
    /// # Errors
    /// The sink fails, or the declared sizes overflow the file's offsets.
    pub fn start<W: Write>(self, mut sink: W) -> Result<TensorData<W>, WriteError> {
        let mut header = Vec::new();
        header.extend_from_slice(b"GGUF");
        header.extend_from_slice(&3u32.to_le_bytes());
        put_len(&mut header, self.tensors.len());
        put_len(&mut header, self.metadata.len());
        for (key, value) in &self.metadata {
            put_string(&mut header, key);
            put_value(&mut header, value);
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            put_string(&mut header, &tensor.name);
            #[expect(clippy::cast_possible_truncation, reason = "at most limits::DIMS")]
            header.extend_from_slice(&(tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|dim| header.extend_from_slice(&dim.to_le_bytes()));
            header.extend_from_slice(&tensor.type_id.to_le_bytes());
            header.extend_from_slice(&offset.to_le_bytes());
            offset = offset
                .checked_add(tensor.bytes)
                .and_then(|end| end.checked_next_multiple_of(self.alignment.into()))
                .ok_or_else(|| Error::tensor(&tensor.name, "ends beyond what an offset can say"))?;
        }
        header.resize(header.len().next_multiple_of(self.alignment as usize), 0);
        sink.write_all(&header)?;
        Ok(TensorData { sink, alignment: self.alignment, tensors: self.tensors, current: 0, given: 0 })
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

/// The data part of a file whose header is written.
///
/// Tensors come in the order in which they were declared, each in as many pieces as one likes.
#[derive(Debug)]
pub struct TensorData<W> {
    sink: W,
    alignment: u32,
    tensors: Vec<Declared>,
    /// The tensor that is being written, and how much of it is.
    current: usize,
    given: u64,
}

impl<W: Write> TensorData<W> {
    /// Writes the next bytes of tensor `name`.
    ///
    /// # Errors
    /// It is another tensor's turn, there are more bytes than declared, or the sink fails.
    pub fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        let Some(tensor) = self.tensors.get(self.current).filter(|tensor| tensor.name == name) else {
            let expected = self.tensors.get(self.current).map_or("none".to_owned(), |tensor| quote(&tensor.name));
            return Err(WriteError::Order { expected, found: quote(name) });
        };
        let given = self.given + bytes.len() as u64;
        if given > tensor.bytes {
            return Err(WriteError::Length { name: quote(name), declared: tensor.bytes, given });
        }
        self.sink.write_all(bytes)?;
        self.given = given;
        if given == tensor.bytes {
            let padding = given.next_multiple_of(self.alignment.into()) - given;
            io::copy(&mut io::repeat(0).take(padding), &mut self.sink)?;
            self.current += 1;
            self.given = 0;
        }
        Ok(())
    }

    /// Flushes and returns the sink.
    ///
    /// # Errors
    /// A tensor is not complete, or the sink fails.
    pub fn finish(mut self) -> Result<W, WriteError> {
        if let Some(tensor) = self.tensors.get(self.current) {
            return Err(WriteError::Length { name: quote(&tensor.name), declared: tensor.bytes, given: self.given });
        }
        self.sink.flush()?;
        Ok(self.sink)
    }
}

fn put_len(header: &mut Vec<u8>, len: usize) {
    header.extend_from_slice(&(len as u64).to_le_bytes());
}

fn put_string(header: &mut Vec<u8>, string: &str) {
    put_len(header, string.len());
    header.extend_from_slice(string.as_bytes());
}

fn put_value(header: &mut Vec<u8>, value: &Value) {
    header.extend_from_slice(&value_type(value).to_le_bytes());
    match value {
        Value::U8(v) => header.push(*v),
        Value::I8(v) => header.extend_from_slice(&v.to_le_bytes()),
        Value::U16(v) => header.extend_from_slice(&v.to_le_bytes()),
        Value::I16(v) => header.extend_from_slice(&v.to_le_bytes()),
        Value::U32(v) => header.extend_from_slice(&v.to_le_bytes()),
        Value::I32(v) => header.extend_from_slice(&v.to_le_bytes()),
        Value::F32(v) => header.extend_from_slice(&v.to_le_bytes()),
        Value::Bool(v) => header.push((*v).into()),
        Value::String(v) => put_string(header, v),
        Value::Array(v) => put_array(header, v),
        Value::U64(v) => header.extend_from_slice(&v.to_le_bytes()),
        Value::I64(v) => header.extend_from_slice(&v.to_le_bytes()),
        Value::F64(v) => header.extend_from_slice(&v.to_le_bytes()),
    }
}

fn put_array(header: &mut Vec<u8>, array: &Array) {
    macro_rules! put_numbers {
        ($numbers:expr) => {
            $numbers.iter().for_each(|v| header.extend_from_slice(&v.to_le_bytes()))
        };
    }
    header.extend_from_slice(&element_type(array).to_le_bytes());
    put_len(header, array.len());
    match array {
        Array::U8(v) => header.extend_from_slice(v),
        Array::I8(v) => put_numbers!(v),
        Array::U16(v) => put_numbers!(v),
        Array::I16(v) => put_numbers!(v),
        Array::U32(v) => put_numbers!(v),
        Array::I32(v) => put_numbers!(v),
        Array::F32(v) => put_numbers!(v),
        Array::Bool(v) => header.extend(v.iter().map(|&v| u8::from(v))),
        Array::String(v) => v.iter().for_each(|string| put_string(header, string)),
        Array::U64(v) => put_numbers!(v),
        Array::I64(v) => put_numbers!(v),
        Array::F64(v) => put_numbers!(v),
    }
}

fn value_type(value: &Value) -> u32 {
    match value {
        Value::U8(_) => 0,
        Value::I8(_) => 1,
        Value::U16(_) => 2,
        Value::I16(_) => 3,
        Value::U32(_) => 4,
        Value::I32(_) => 5,
        Value::F32(_) => 6,
        Value::Bool(_) => 7,
        Value::String(_) => 8,
        Value::Array(_) => 9,
        Value::U64(_) => 10,
        Value::I64(_) => 11,
        Value::F64(_) => 12,
    }
}

fn element_type(array: &Array) -> u32 {
    match array {
        Array::U8(_) => 0,
        Array::I8(_) => 1,
        Array::U16(_) => 2,
        Array::I16(_) => 3,
        Array::U32(_) => 4,
        Array::I32(_) => 5,
        Array::F32(_) => 6,
        Array::Bool(_) => 7,
        Array::String(_) => 8,
        Array::U64(_) => 10,
        Array::I64(_) => 11,
        Array::F64(_) => 12,
    }
}
