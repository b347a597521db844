//! Changes to what Hugging Face folders hold: JSON, and safetensors files.

use serde_json::{Map, Value as Json, json};

use crate::bytes;
use crate::random::Random;

/// Changes the file called `name`, by its kind; says how.
pub(crate) fn change(name: &str, file: &mut Vec<u8>, other: &[u8], random: &mut Random) -> String {
    let how = if random.once_in(3) {
        None
    } else if name.ends_with(".safetensors") {
        change_safetensors(file, random)
    } else {
        change_json(file, random)
    };
    let how = how.unwrap_or_else(|| bytes::change(file, other, random));
    format!("{name}: {how}")
}

fn change_json(file: &mut Vec<u8>, random: &mut Random) -> Option<String> {
    let mut json: Json = serde_json::from_slice(file).ok()?;
    let how = change_value(&mut json, random);
    *file = serde_json::to_vec(&json).ok()?;
    Some(how)
}

/// Changes the header, or what it describes.
fn change_safetensors(file: &mut Vec<u8>, random: &mut Random) -> Option<String> {
    let (len, rest) = file.split_first_chunk::<8>()?;
    let (header, data) = rest.split_at_checked(u64::from_le_bytes(*len) as usize)?;
    let (mut header, mut data): (Map<String, Json>, Vec<u8>) = (serde_json::from_slice(header).ok()?, data.to_vec());
    let names: Vec<String> = header.keys().cloned().collect();
    let name = random.pick(&names)?.clone();
    let mut claimed = None;
    let how = match random.below(16) {
        0 => {
            claimed = Some(random.integer(*len.first()? as u64 + 256 * *len.get(1)? as u64));
            "length of the header".to_owned()
        }
        1 => format!("no {}", header.remove(&name).map_or("nothing", |_| &name)),
        2 => {
            let entry = header.get(random.pick(&names)?)?.clone();
            header.insert(name.clone(), entry);
            format!("{name} where another is")
        }
        3 => {
            let new = random.text(&name);
            let entry = header.remove(&name)?;
            header.insert(new, entry);
            format!("{name} under another name")
        }
        4 => {
            let types = ["U8", "BF16", "F16", "F32", "F64", "I8", "BOOL", "F8_E4M3", "F4", "Q7"];
            header.get_mut(&name)?["dtype"] = json!(random.pick(&types)?);
            format!("{name} of another type")
        }
        5 => {
            let shape = header.get_mut(&name)?.get_mut("shape")?.as_array_mut()?;
            let at = random.below(shape.len());
            let dim = shape.get_mut(at)?;
            *dim = json!(random.integer(dim.as_u64().unwrap_or(1)));
            format!("{name} of another shape")
        }
        6 => {
            let offsets = header.get_mut(&name)?.get_mut("data_offsets")?.as_array_mut()?;
            let offset = offsets.get_mut(random.below(2))?;
            *offset = json!(random.integer(offset.as_u64().unwrap_or(1)));
            format!("{name} elsewhere")
        }
        7 => {
            let mut json = Json::Object(header);
            let how = change_value(&mut json, random);
            header = json.as_object().cloned().unwrap_or_default();
            how
        }
        _ if data.is_empty() => return None,
        _ => bytes::spoil(&mut data, random),
    };
    let header = serde_json::to_vec(&header).ok()?;
    *file = [&claimed.unwrap_or(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    Some(how)
}

/// Changes a part of `json`; says how.
fn change_value(json: &mut Json, random: &mut Random) -> String {
    let other = node(json, random.below(count(json))).cloned().unwrap_or_default();
    let at = random.below(count(json));
    let Some(value) = node(json, at) else { return String::new() };
    let old = value.to_string();
    match random.below(8) {
        0 => *value = other,
        1 => *value = Json::Null,
        2 => *value = (0..1 << random.below(12)).fold(value.take(), |inner, _| json!([inner])),
        _ => match value {
            Json::Array(items) if !items.is_empty() => {
                let at = random.below(items.len());
                match random.below(3) {
                    0 => drop(items.remove(at)),
                    1 => items.extend(items.get(at).cloned()),
                    _ => items.insert(at, other),
                }
            }
            Json::Object(fields) if !fields.is_empty() => {
                let keys: Vec<String> = fields.keys().cloned().collect();
                let key = random.pick(&keys).cloned().unwrap_or_default();
                let old = fields.remove(&key).unwrap_or_default();
                if random.once_in(2) {
                    fields.insert(random.text(&key), old);
                }
            }
            Json::String(text) => *text = random.text(text),
            Json::Bool(flag) => *flag = !*flag,
            Json::Number(number) if number.is_f64() || random.once_in(4) => {
                *value = serde_json::Number::from_f64(random.float()).map_or(Json::Null, Json::Number);
            }
            Json::Number(number) => *value = json!(random.integer(number.as_u64().unwrap_or(0))),
            _ => *value = json!(random.integer(0)),
        },
    }
    format!("{old:.60} becomes another")
}

fn count(json: &Json) -> usize {
    1 + match json {
        Json::Array(items) => items.iter().map(count).sum(),
        Json::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Part `index` of `json`, counted from the outside, as `count` counts.
fn node(json: &mut Json, index: usize) -> Option<&mut Json> {
    let mut left = index;
    let mut at = json;
    while left > 0 {
        left -= 1;
        let items: Vec<&mut Json> = match at {
            Json::Array(items) => items.iter_mut().collect(),
            Json::Object(fields) => fields.values_mut().collect(),
            _ => return None,
        };
        let mut found = None;
        for item in items {
            let size = count(item);
            if left < size {
                found = Some(item);
                break;
            }
            left -= size;
        }
        at = found?;
    }
    Some(at)
}
