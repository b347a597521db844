//! Sound checkpoints with changes to their parts: refused, or a model whose logits are numbers.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value as Json};
use tritwise::Model;
use tritwise_fuzz::Tensor;
use tritwise_gguf::{Array, Header, Value, Writer};

#[derive(Debug, Arbitrary)]
enum Input {
    Gguf { file: u8, in_place: bool, changes: Vec<Change>, bytes: Vec<(u16, u8)> },
    Folder { changes: Vec<Change>, bytes: Vec<(u16, u8)> },
}

/// Numbers that say which entry or tensor are taken modulo how many there are.
#[derive(Debug, Arbitrary)]
enum Change {
    /// An entry's number becomes another of its type.
    Number(u8, Number),
    /// An entry becomes a text.
    Text(u8, String),
    /// An entry becomes a list.
    List(u8, Vec<Number>),
    /// An entry is not there.
    NoEntry(u8),
    /// An entry has the key of another, or a new one.
    Key(u8, u8, Option<String>),
    Dim(u8, u8, Number),
    Dims(u8, Vec<Number>),
    Type(u8, u8),
    /// A tensor has the name of another, or a new one.
    Name(u8, u8, Option<String>),
    NoTensor(u8),
    /// Bytes of a tensor from a place on.
    Data(u8, u16, Vec<u8>),
    /// A tensor's bytes become more or fewer.
    Size(u8, u16),
}

/// A number near which things go wrong.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Number {
    Small(u8),
    Power(u8, i8),
    Any(u64),
    Float(f64),
}

impl Number {
    fn integer(self) -> u64 {
        match self {
            Self::Small(number) => number.into(),
            Self::Power(power, more) => (1u64 << (power % 64)).wrapping_add_signed(more.into()),
            Self::Any(number) => number,
            Self::Float(number) => number as u64,
        }
    }

    fn float(self) -> f64 {
        match self {
            Self::Float(number) => number,
            other => other.integer() as f64,
        }
    }

    fn json(self) -> Json {
        match self {
            Self::Float(number) => number.into(),
            other => other.integer().into(),
        }
    }

    /// This number as a value of the type of `like`.
    fn value(self, like: &Value) -> Value {
        match like {
            Value::U8(_) => Value::U8(self.integer() as u8),
            Value::I32(_) => Value::I32(self.integer() as i32),
            Value::U64(_) => Value::U64(self.integer()),
            Value::F32(_) => Value::F32(self.float() as f32),
            Value::F64(_) => Value::F64(self.float()),
            Value::Bool(_) => Value::Bool(self.integer() % 2 == 1),
            Value::Array(Array::I32(list)) => {
                let mut list = list.clone();
                let at = (self.integer() >> 32) as usize % list.len().max(1);
                list.get_mut(at).into_iter().for_each(|number| *number = self.integer() as i32);
                Value::Array(Array::I32(list))
            }
            Value::Array(Array::F32(list)) => {
                let mut list = list.clone();
                let at = self.integer() as usize % list.len().max(1);
                list.get_mut(at).into_iter().for_each(|number| *number = self.float() as f32);
                Value::Array(Array::F32(list))
            }
            _ => Value::U32(self.integer() as u32),
        }
    }
}

/// Makes the changes that are about tensors.
fn change_tensors<T: Copy>(tensors: &mut Vec<Tensor<T>>, change: &Change, type_of: impl Fn(u8) -> T) {
    let count = tensors.len();
    let at = |index: &u8| usize::from(*index) % count.max(1);
    if count == 0 {
        return;
    }
    match change {
        Change::Dim(index, dim, number) => {
            let dims = &mut tensors[at(index)].1;
            let dim = usize::from(*dim) % dims.len().max(1);
            dims.get_mut(dim).into_iter().for_each(|dim| *dim = number.integer());
        }
        Change::Dims(index, dims) => tensors[at(index)].1 = dims.iter().map(|dim| dim.integer()).collect(),
        Change::Type(index, number) => tensors[at(index)].2 = type_of(*number),
        Change::Name(index, other, new) => {
            let name = new.clone().unwrap_or_else(|| tensors[at(other)].0.clone());
            tensors[at(index)].0 = name;
        }
        Change::NoTensor(index) => drop(tensors.remove(at(index))),
        Change::Data(index, start, bytes) => {
            let data = &mut tensors[at(index)].3;
            let start = usize::from(*start) % data.len().max(1);
            data.iter_mut().skip(start).zip(bytes).for_each(|(old, new)| *old = *new);
        }
        Change::Size(index, size) => tensors[at(index)].3.resize(usize::from(*size), 0),
        _ => {}
    }
}

fn change_metadata(entries: &mut Vec<(String, Value)>, change: &Change) {
    let count = entries.len();
    let at = |index: &u8| usize::from(*index) % count.max(1);
    if count == 0 {
        return;
    }
    match change {
        Change::Number(index, number) => entries[at(index)].1 = number.value(&entries[at(index)].1),
        Change::Text(index, text) => entries[at(index)].1 = text.as_str().into(),
        Change::List(index, list) => {
            entries[at(index)].1 =
                Value::Array(Array::U32(list.iter().map(|number| number.integer() as u32).collect()));
        }
        Change::NoEntry(index) => drop(entries.remove(at(index))),
        Change::Key(index, other, new) => {
            let key = new.clone().unwrap_or_else(|| entries[at(other)].0.clone());
            entries[at(index)].0 = key;
        }
        _ => {}
    }
}

/// The file with its changes; `None` if no file can say so.
fn gguf(sound: &[u8], changes: &[Change]) -> Option<Vec<u8>> {
    let header = Header::parse(sound).expect("a sound file");
    let mut metadata: Vec<_> = header.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    let mut tensors: Vec<_> = header
        .tensors()
        .iter()
        .map(|tensor| (tensor.name.clone(), tensor.dims.clone(), tensor.type_id, sound[tensor.window.clone()].to_vec()))
        .collect();
    for change in changes {
        change_metadata(&mut metadata, change);
        change_tensors(&mut tensors, change, u32::from);
    }
    let mut writer = Writer::new();
    for (key, value) in metadata {
        writer.metadata(&key, value).ok()?;
    }
    for (name, dims, type_id, bytes) in &tensors {
        writer.tensor(name, dims, *type_id, bytes.len() as u64).ok()?;
    }
    let mut data = writer.start(Vec::new()).ok()?;
    for (name, _, _, bytes) in &tensors {
        data.append(name, bytes).ok()?;
    }
    data.finish().ok()
}

fn change_config(config: &mut Map<String, Json>, change: &Change) {
    let keys: Vec<String> = config.keys().cloned().collect();
    if keys.is_empty() {
        return;
    }
    let key = |index: &u8| &keys[usize::from(*index) % keys.len()];
    match change {
        Change::Number(index, number) => drop(config.insert(key(index).clone(), number.json())),
        Change::Text(index, text) => drop(config.insert(key(index).clone(), text.as_str().into())),
        Change::List(index, list) => {
            drop(config.insert(key(index).clone(), list.iter().map(|number| number.json()).collect()));
        }
        Change::NoEntry(index) => drop(config.remove(key(index))),
        Change::Key(index, other, new) => {
            let value = config.remove(key(index)).unwrap_or_default();
            config.insert(new.clone().unwrap_or_else(|| key(other).clone()), value);
        }
        _ => {}
    }
}

const DTYPES: [&str; 8] = ["U8", "BF16", "F16", "F32", "F64", "I8", "BOOL", "F8_E4M3"];

/// `config.json` and the weights with their changes.
fn folder(changes: &[Change]) -> (Vec<u8>, Vec<u8>) {
    let mut config: Map<String, Json> = serde_json::from_str(tritwise_fuzz::CONFIG).expect("sound JSON");
    let mut tensors = tritwise_fuzz::tensors();
    for change in changes {
        change_config(&mut config, change);
        change_tensors(&mut tensors, change, |number| DTYPES[usize::from(number) % DTYPES.len()]);
    }
    (serde_json::to_vec(&config).expect("JSON"), tritwise_fuzz::safetensors(&tensors))
}

/// Bytes at the beginning, where headers are, become others.
fn patch(file: &mut [u8], bytes: &[(u16, u8)]) {
    for (at, byte) in bytes {
        let at = usize::from(*at) % file.len();
        file[at] = *byte;
    }
}

fuzz_target!(|input: Input| {
    let builder = Model::builder().threads(1);
    let model = match input {
        Input::Gguf { file, in_place, changes, bytes } => {
            let sound = tritwise_fuzz::gguf();
            let Some(mut file) = gguf(&sound[usize::from(file) % sound.len()], &changes) else { return };
            patch(&mut file, &bytes);
            builder.in_place(in_place).open_bytes("fuzz", file)
        }
        Input::Folder { changes, bytes } => {
            let (config, mut weights) = folder(&changes);
            patch(&mut weights, &bytes);
            builder.open(tritwise_fuzz::folder(&[("config.json", &config), ("model.safetensors", &weights)]))
        }
    };
    if let Ok(model) = model {
        tritwise_fuzz::run(&model);
    }
});
