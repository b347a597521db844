//! A GGUF file by another hand: tools/reference/gguf_fixtures.py writes it with llama.cpp's `gguf` package.

use tritwise_gguf::{Array, Header, Value, types};
use tritwise_tensor::{DenseEncoding, DenseMatrix, Scales, TernaryEncoding, TernaryMatrix};

const FILE: &[u8] = include_bytes!("fixtures/encodings.gguf");

#[test]
fn metadata_of_every_type() {
    let header = Header::parse(FILE).unwrap();
    assert_eq!((header.version(), header.alignment()), (3, 64));
    let strings = ["", "a", "ß", "🙂"].into_iter().collect();
    let expected = [
        ("u8", Value::U8(255)),
        ("i8", Value::I8(-128)),
        ("u16", Value::U16(65535)),
        ("i16", Value::I16(-32768)),
        ("u32", Value::U32(4294967295)),
        ("i32", Value::I32(-2147483648)),
        ("u64", Value::U64(18446744073709551615)),
        ("i64", Value::I64(-9223372036854775808)),
        ("f32", Value::F32(0.15625)),
        ("f64", Value::F64(-1.1)),
        ("true", Value::Bool(true)),
        ("false", Value::Bool(false)),
        ("string", Value::String("träne 🙂".into())),
        ("empty_string", Value::String(String::new())),
        ("u8s", vec![0u8, 127, 255].into()),
        ("i8s", vec![-128i8, 0, 127].into()),
        ("u16s", vec![0u16, 65535].into()),
        ("i16s", vec![-32768i16, 32767].into()),
        ("u32s", vec![0u32, 4294967295].into()),
        ("i32s", vec![-2147483648i32, 2147483647].into()),
        ("u64s", vec![0u64, 18446744073709551615].into()),
        ("i64s", vec![-9223372036854775808i64, 9223372036854775807].into()),
        ("f32s", vec![0.5f32, -2.0, 3.25].into()),
        ("f64s", vec![0.1f64, -1e300].into()),
        ("bools", vec![true, false, true].into()),
        ("strings", Value::Array(Array::String(strings))),
    ];
    for (name, value) in &expected {
        assert_eq!(header.metadata().value(&format!("test.{name}")), Some(value), "{name}");
    }
    // And the architecture and the alignment.
    assert_eq!(header.metadata().len(), expected.len() + 2);
}

#[test]
fn tensors_of_every_encoding() {
    let header = Header::parse(FILE).unwrap();
    let tensor = |name: &str| header.tensors().iter().find(|tensor| tensor.name == name).unwrap();
    let bytes = |name: &str, type_id: u32| {
        let tensor = tensor(name);
        assert_eq!((tensor.type_id, &tensor.dims[..]), (type_id, &[512, 3][..]), "{name}");
        let size = types::meanings(type_id).next().unwrap().bytes(&tensor.dims).unwrap();
        assert!(header.fits(tensor, size), "{name}");
        &FILE[tensor.window.start..][..size as usize]
    };
    let decoded = |name: &str| -> Vec<f32> {
        let (values, _) = bytes(&format!("{name}.decoded"), types::F32).as_chunks();
        values.iter().copied().map(f32::from_le_bytes).collect()
    };
    for (name, type_id, encoding) in [
        ("f32", types::F32, DenseEncoding::F32),
        ("f16", types::F16, DenseEncoding::F16),
        ("bf16", types::BF16, DenseEncoding::Bf16),
        ("q8_0", types::Q8_0, DenseEncoding::Q8_0),
        ("q6_k", types::Q6_K, DenseEncoding::Q6K),
    ] {
        let matrix = DenseMatrix::new(encoding, 3, 512, bytes(name, type_id)).unwrap();
        let mut values = vec![0.0; 3 * 512];
        values.chunks_exact_mut(512).enumerate().for_each(|(row, out)| matrix.read_row(row, out));
        assert_eq!(values, decoded(name), "{name}");
    }
    for (name, type_id, encoding) in
        [("tq1_0", types::TQ1_0, TernaryEncoding::Tq1_0), ("tq2_0", types::TQ2_0, TernaryEncoding::Tq2_0)]
    {
        let matrix = TernaryMatrix::new(encoding, 3, 512, bytes(name, type_id), None).unwrap();
        let Scales::Groups { cols: 256, values: scales } = matrix.scales() else { panic!("a scale for each block") };
        let mut values = Vec::new();
        for row in 0..3 {
            let mut trits = [0; 512];
            matrix.read_row(row, &mut trits);
            values.extend(trits.iter().enumerate().map(|(col, &trit)| f32::from(trit) * scales[row * 2 + col / 256]));
        }
        assert_eq!(values, decoded(name), "{name}");
    }
}
