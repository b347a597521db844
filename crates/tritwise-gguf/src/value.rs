//! Typed metadata values.
//!
//! Arrays are stored by element type and strings back to back in one buffer,
//! so that a value occupies about as much memory as it does in the file. (An
//! array of `Value`s would be simpler and take 32 bytes for each byte of an
//! array of u8.)

use std::fmt;

use crate::error::quote;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants are named after the types they hold")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value {
    /// The value as an unsigned integer, from any integer type that holds one.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_i128().and_then(|v| v.try_into().ok())
    }

    /// The value as a signed integer, from any integer type.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_i128().and_then(|v| v.try_into().ok())
    }

    fn as_i128(&self) -> Option<i128> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::I8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::I16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::I32(v) => Some(v.into()),
            Self::U64(v) => Some(v.into()),
            Self::I64(v) => Some(v.into()),
            _ => None,
        }
    }

    /// The value as a float, from either float type (f64 is rounded).
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Self::F32(v) => Some(v),
            #[expect(clippy::cast_possible_truncation, reason = "rounding is what the caller asks for")]
            Self::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// The value, if it is a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// The value, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(v) => Some(v),
            _ => None,
        }
    }

    /// The value, if it is an array.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Self::Array(v) => Some(v),
            _ => None,
        }
    }

    /// The type's name, as error messages give it: `u32`, `string`, `[f32]`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::F32(_) => "f32",
            Self::Bool(_) => "bool",
            Self::String(_) => "string",
            Self::Array(array) => array.type_name(),
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F64(_) => "f64",
        }
    }
}

/// For people: one line of at most about a hundred characters; long strings
/// and arrays are clipped.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(v) => v.fmt(f),
            Self::I8(v) => v.fmt(f),
            Self::U16(v) => v.fmt(f),
            Self::I16(v) => v.fmt(f),
            Self::U32(v) => v.fmt(f),
            Self::I32(v) => v.fmt(f),
            // `{:?}` writes 1e300 where `{}` writes three hundred digits.
            Self::F32(v) => write!(f, "{v:?}"),
            Self::Bool(v) => v.fmt(f),
            Self::String(v) => f.write_str(&quote(v)),
            Self::Array(v) => v.fmt(f),
            Self::U64(v) => v.fmt(f),
            Self::I64(v) => v.fmt(f),
            Self::F64(v) => write!(f, "{v:?}"),
        }
    }
}

/// A metadata array: elements of one type, never arrays again.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants are named after the types they hold")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Strings),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::String(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `index` as a value of its own, `None` past the end.
    pub fn value(&self, index: usize) -> Option<Value> {
        match self {
            Self::U8(v) => v.get(index).copied().map(Value::U8),
            Self::I8(v) => v.get(index).copied().map(Value::I8),
            Self::U16(v) => v.get(index).copied().map(Value::U16),
            Self::I16(v) => v.get(index).copied().map(Value::I16),
            Self::U32(v) => v.get(index).copied().map(Value::U32),
            Self::I32(v) => v.get(index).copied().map(Value::I32),
            Self::F32(v) => v.get(index).copied().map(Value::F32),
            Self::Bool(v) => v.get(index).copied().map(Value::Bool),
            Self::String(v) => v.at(index).map(|text| Value::String(text.to_owned())),
            Self::U64(v) => v.get(index).copied().map(Value::U64),
            Self::I64(v) => v.get(index).copied().map(Value::I64),
            Self::F64(v) => v.get(index).copied().map(Value::F64),
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "[u8]",
            Self::I8(_) => "[i8]",
            Self::U16(_) => "[u16]",
            Self::I16(_) => "[i16]",
            Self::U32(_) => "[u32]",
            Self::I32(_) => "[i32]",
            Self::F32(_) => "[f32]",
            Self::Bool(_) => "[bool]",
            Self::String(_) => "[string]",
            Self::U64(_) => "[u64]",
            Self::I64(_) => "[i64]",
            Self::F64(_) => "[f64]",
        }
    }
}

/// The first elements and the count.
impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        f.write_str("[")?;
        for index in 0..SHOWN {
            let Some(value) = self.value(index) else { break };
            write!(f, "{}{value}", if index == 0 { "" } else { ", " })?;
        }
        if self.len() > SHOWN {
            write!(f, ", … {} in all", self.len())?;
        }
        f.write_str("]")
    }
}

/// An array of strings, in one buffer.
///
/// ```
/// use tritwise_gguf::Strings;
/// let words: Strings = ["one", "", "three"].into_iter().collect();
/// assert_eq!(words.len(), 3);
/// assert_eq!(words.at(2), Some("three"));
/// assert_eq!(words.iter().map(str::len).sum::<usize>(), 8);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    /// Where each string ends in `text`; it begins where the previous one ends.
    ends: Vec<usize>,
}

impl Strings {
    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String `index`, `None` past the end.
    pub fn at(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.text.get(start..end)
    }

    /// The strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|index| self.at(index).unwrap_or_default())
    }

    /// Adds a string at the end.
    pub fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len());
    }
}

impl fmt::Debug for Strings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(iter: I) -> Self {
        let mut strings = Self::default();
        iter.into_iter().for_each(|string| strings.push(string.as_ref()));
        strings
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        }
        impl From<Vec<$type>> for Value {
            fn from(values: Vec<$type>) -> Self {
                Self::Array(Array::$variant(values))
            }
        }
    )*};
}
from! { u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, bool => Bool, u64 => U64, i64 => I64, f64 => F64 }

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<Strings> for Value {
    fn from(value: Strings) -> Self {
        Self::Array(Array::String(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_integer_type_gives_an_unsigned_number_if_it_is_one() {
        for value in [Value::U8(7), Value::I8(7), Value::U16(7), Value::I32(7), Value::U64(7), Value::I64(7)] {
            assert_eq!(value.as_u64(), Some(7), "{value:?}");
        }
        assert_eq!(Value::I32(-1).as_u64(), None);
        assert_eq!(Value::F32(7.0).as_u64(), None);
        assert_eq!(Value::U64(u64::MAX).as_i64(), None);
        assert_eq!(Value::U64(u64::MAX).as_u64(), Some(u64::MAX));
    }

    #[test]
    fn display_is_one_short_line() {
        let long = "a\nb".repeat(1000);
        let strings: Strings = [long.as_str(), "", "c", "d", "e"].into_iter().collect();
        for (value, shown) in [
            (Value::U32(3), "3"),
            (Value::Bool(true), "true"),
            (Value::F64(1e300), "1e300"),
            (Value::from(vec![1u8, 2]), "[1, 2]"),
            (Value::from(vec![1i32, 2, 3, 4, 5]), "[1, 2, 3, 4, … 5 in all]"),
            (Value::from(Vec::<f64>::new()), "[]"),
        ] {
            assert_eq!(value.to_string(), shown);
        }
        for value in [Value::from(long), Value::from(strings)] {
            let shown = value.to_string();
            assert!(shown.len() < 150 && !shown.contains('\n'), "{shown}");
        }
    }
}
