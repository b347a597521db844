//! A file's key–value pairs.

use crate::{Array, Error, Strings, Value, error::quote};

/// Metadata in file order, each key once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    /// Indices into `entries`, ordered by key. A hash map would hold every key twice.
    by_key: Vec<u32>,
}

impl Metadata {
    /// Takes entries in file order.
    pub(crate) fn new(entries: Vec<(String, Value)>) -> Result<Self, Error> {
        let mut sorted: Vec<(&str, u32)> = entries.iter().map(|(key, _)| key.as_str()).zip(0..).collect();
        sorted.sort_unstable();
        for (&(key, _), &(next, _)) in sorted.iter().zip(sorted.iter().skip(1)) {
            if key == next {
                return Err(Error::metadata(key, "stands in the file twice; each key may occur once"));
            }
        }
        let by_key = sorted.into_iter().map(|(_, index)| index).collect();
        Ok(Self { entries, by_key })
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`, whatever its type.
    pub fn value(&self, key: &str) -> Option<&Value> {
        let entry = |&index: &u32| self.entries.get(index as usize);
        let position = self.by_key.binary_search_by_key(&Some(key), |index| Some(entry(index)?.0.as_str())).ok()?;
        Some(&self.by_key.get(position).and_then(entry)?.1)
    }

    /// An unsigned integer, from any integer type; `None` if the key is absent.
    ///
    /// # Errors
    /// The value is negative or not an integer.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>, Error> {
        self.typed(key, "a non-negative integer", Value::as_u64)
    }

    /// A float; `None` if the key is absent.
    ///
    /// # Errors
    /// The value is not a float.
    pub fn float(&self, key: &str) -> Result<Option<f32>, Error> {
        self.typed(key, "a float", Value::as_f32)
    }

    /// A boolean; `None` if the key is absent.
    ///
    /// # Errors
    /// The value is not a boolean.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "a boolean", Value::as_bool)
    }

    /// A string; `None` if the key is absent.
    ///
    /// # Errors
    /// The value is not a string.
    pub fn string(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "a string", Value::as_str)
    }

    /// An array of strings; `None` if the key is absent.
    ///
    /// # Errors
    /// The value is not an array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&Strings>, Error> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Array(Array::String(strings)) => Some(strings),
            _ => None,
        })
    }

    /// An array of f32; `None` if the key is absent.
    ///
    /// # Errors
    /// The value is not an array of f32.
    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>, Error> {
        self.typed(key, "an array of f32", |value| match value {
            Value::Array(Array::F32(floats)) => Some(floats.as_slice()),
            _ => None,
        })
    }

    /// An array of i32; `None` if the key is absent.
    ///
    /// # Errors
    /// The value is not an array of i32.
    pub fn integers(&self, key: &str) -> Result<Option<&[i32]>, Error> {
        self.typed(key, "an array of i32", |value| match value {
            Value::Array(Array::I32(integers)) => Some(integers.as_slice()),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let wrong = || Error::Metadata {
            key: quote(key),
            problem: format!("is {value} of type {}; expected {wanted}", value.type_name()),
        };
        convert(value).map(Some).ok_or_else(wrong)
    }
}
