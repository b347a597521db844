//! What is written is read back, whatever it is.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tritwise_gguf::{Array, Header, Strings, Value, Writer};

fn finite() -> impl Strategy<Value = f32> {
    any::<f32>().prop_filter("NaN equals nothing, itself included", |x| !x.is_nan())
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        finite().prop_map(Value::F32),
        finite().prop_map(|x| Value::F64(x.into())),
        any::<bool>().prop_map(Value::Bool),
        any::<String>().prop_map(Value::String),
        array().prop_map(Value::Array),
    ]
}

fn array() -> impl Strategy<Value = Array> {
    prop_oneof![
        vec(any::<u8>(), 0..20).prop_map(Array::U8),
        vec(any::<i8>(), 0..20).prop_map(Array::I8),
        vec(any::<u16>(), 0..20).prop_map(Array::U16),
        vec(any::<i16>(), 0..20).prop_map(Array::I16),
        vec(any::<u32>(), 0..20).prop_map(Array::U32),
        vec(any::<i32>(), 0..20).prop_map(Array::I32),
        vec(any::<u64>(), 0..20).prop_map(Array::U64),
        vec(any::<i64>(), 0..20).prop_map(Array::I64),
        vec(finite(), 0..20).prop_map(Array::F32),
        vec(finite().prop_map(f64::from), 0..20).prop_map(Array::F64),
        vec(any::<bool>(), 0..20).prop_map(Array::Bool),
        vec(any::<String>(), 0..20).prop_map(|strings| Array::String(strings.into_iter().collect::<Strings>())),
    ]
}

/// Shape, type number and data of one tensor.
fn tensor() -> impl Strategy<Value = (Vec<u64>, u32, Vec<u8>)> {
    (vec(1..6u64, 0..=4), any::<u32>()).prop_flat_map(|(dims, type_id)| {
        let most = dims.iter().product::<u64>() as usize;
        vec(any::<u8>(), most.div_ceil(8)..=most * 4).prop_map(move |data| (dims.clone(), type_id, data))
    })
}

proptest! {
    #[test]
    fn read_back_is_what_was_written(
        entries in btree_map("[a-z.]{1,20}", value(), 0..10),
        alignment in prop::option::of((0..=12u32).prop_map(|n| 1 << n)),
        tensors in btree_map("[a-z0-9.]{1,63}", tensor(), 0..8),
        piece in 1..40usize,
    ) {
        let mut writer = Writer::new();
        for (key, value) in &entries {
            writer.metadata(key, value.clone()).unwrap();
        }
        if let Some(alignment) = alignment {
            writer.metadata("general.alignment", alignment).unwrap();
        }
        for (name, (dims, type_id, data)) in &tensors {
            writer.tensor(name, dims, *type_id, data.len() as u64).unwrap();
        }
        let mut output = writer.start(Vec::new()).unwrap();
        for (name, (_, _, data)) in &tensors {
            for piece in data.chunks(piece) {
                output.append(name, piece).unwrap();
            }
        }
        let file = output.finish().unwrap();

        let header = Header::parse(&file).unwrap();
        let alignment = alignment.unwrap_or(32);
        prop_assert_eq!(header.alignment(), alignment);
        let read: Vec<_> = header.metadata().iter().filter(|(key, _)| *key != "general.alignment").collect();
        let written: Vec<_> = entries.iter().map(|(key, value)| (key.as_str(), value)).collect();
        prop_assert_eq!(read, written);
        for (key, value) in &entries {
            prop_assert_eq!(header.metadata().value(key), Some(value));
        }
        prop_assert_eq!(header.tensors().len(), tensors.len());
        for (tensor, (name, (dims, type_id, data))) in header.tensors().iter().zip(&tensors) {
            prop_assert_eq!((&tensor.name, &tensor.dims, tensor.type_id), (name, dims, *type_id));
            prop_assert_eq!(tensor.window.start % alignment as usize, 0);
            prop_assert!(header.fits(tensor, data.len() as u64));
            let (found, padding) = file[tensor.window.clone()].split_at(data.len());
            prop_assert_eq!(found, &data[..]);
            prop_assert!(padding.iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn noise_behind_an_honest_start_never_panics(noise in vec(any::<u8>(), 0..400), counts in any::<[u8; 2]>()) {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        for count in counts {
            file.extend(u64::from(count % 8).to_le_bytes());
        }
        file.extend(noise);
        let _ = Header::parse(&file);
    }
}
