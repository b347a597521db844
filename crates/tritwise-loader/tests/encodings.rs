//! A GGUF file by another hand: tools/reference/gguf_fixtures.py writes it with llama.cpp's `gguf` package.

use tritwise_gguf::{Array, Header, Value, types};
use tritwise_tensor::{DenseEncoding, DenseMatrix, Group, Scales, TernaryEncoding, TernaryMatrix};

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

/// A tensor's rows, columns and bytes. Exactly one meaning of its number has the size that it has in the file.
fn stored(header: &Header, name: &str, type_id: u32) -> (usize, usize, &'static [u8]) {
    let tensor = header.tensors().iter().find(|tensor| tensor.name == name).unwrap();
    assert_eq!(tensor.type_id, type_id, "{name}");
    let sizes = types::meanings(type_id).filter_map(|meaning| meaning.bytes(&tensor.dims));
    let [size] = sizes.filter(|size| header.fits(tensor, *size)).collect::<Vec<u64>>()[..] else { panic!("{name}") };
    let [cols, rows] = tensor.dims[..] else { panic!("{name} is no matrix") };
    (rows as usize, cols as usize, &FILE[tensor.window.start..][..size as usize])
}

/// The values that the file has for `name` beside its encoding.
fn decoded(header: &Header, name: &str) -> Vec<f32> {
    let (_, _, bytes) = stored(header, &format!("{name}.decoded"), types::F32);
    bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect()
}

#[test]
fn tables_in_every_encoding() {
    let header = Header::parse(FILE).unwrap();
    for (name, type_id, encoding) in [
        ("f32", types::F32, DenseEncoding::F32),
        ("f16", types::F16, DenseEncoding::F16),
        ("bf16", types::BF16, DenseEncoding::Bf16),
        ("q8_0", types::Q8_0, DenseEncoding::Q8_0),
        ("q6_k", types::Q6_K, DenseEncoding::Q6K),
        ("q4_0", types::Q4_0, DenseEncoding::Q4_0),
        ("q4_k", types::Q4_K, DenseEncoding::Q4K),
        ("iq4_nl", types::IQ4_NL, DenseEncoding::Iq4Nl),
        ("q1_0.table", types::Q1_0, DenseEncoding::Q1_0(Group::Of128)),
        ("q1_0_of_32.table", types::Q1_0_OF_32, DenseEncoding::Q1_0(Group::Of32)),
        ("q2_0.table", types::Q2_0, DenseEncoding::Q2_0(Group::Of64)),
        ("q2_0_of_128.table", types::Q2_0, DenseEncoding::Q2_0(Group::Of128)),
        ("pq2_0", types::PQ2_0, DenseEncoding::Q2_0(Group::Of128)),
        ("ptq1_0", types::PTQ1_0, DenseEncoding::Ptq1_0),
        ("tq1_0", types::TQ1_0, DenseEncoding::Tq1_0),
        ("tq2_0", types::TQ2_0, DenseEncoding::Tq2_0),
    ] {
        let (rows, cols, bytes) = stored(&header, name, type_id);
        let matrix = DenseMatrix::new(encoding, rows, cols, bytes).unwrap();
        let mut values = vec![0.0; rows * cols];
        values.chunks_exact_mut(cols).enumerate().for_each(|(row, out)| matrix.read_row(row, out));
        assert_eq!(values, decoded(&header, name), "{name}");
    }
}

#[test]
fn linear_layers_in_every_encoding() {
    let header = Header::parse(FILE).unwrap();
    for (name, type_id, encoding, group) in [
        ("tq1_0", types::TQ1_0, TernaryEncoding::Tq1_0, 256),
        ("tq2_0", types::TQ2_0, TernaryEncoding::Tq2_0, 256),
        ("q1_0", types::Q1_0, TernaryEncoding::Q1_0(Group::Of128), 128),
        ("q2_0", types::Q2_0, TernaryEncoding::Q2_0(Group::Of64), 64),
        ("pq2_0", types::PQ2_0, TernaryEncoding::Q2_0(Group::Of128), 128),
        ("ptq1_0", types::PTQ1_0, TernaryEncoding::Ptq1_0, 128),
        ("iq1_bn", types::IQ1_BN, TernaryEncoding::Iq1Bn, 512),
        ("iq2_bn", types::IQ2_BN, TernaryEncoding::Iq2Bn, 512),
        ("iq2_bn_r4", types::IQ2_BN_R4, TernaryEncoding::Iq2BnR4, 512),
    ] {
        let (rows, cols, bytes) = stored(&header, name, type_id);
        let matrix = TernaryMatrix::new(encoding, rows, cols, bytes, None).unwrap();
        let scales = match matrix.scales() {
            Scales::Groups { cols, values } if *cols == group => values,
            Scales::Rows(values) if group == cols => values,
            other => panic!("{name}: a scale for each of its groups, not {other:?}"),
        };
        let mut values = Vec::new();
        for (row, scales) in scales.chunks_exact(cols / group).enumerate() {
            let mut trits = vec![0; cols];
            matrix.read_row(row, &mut trits);
            values.extend(trits.iter().enumerate().map(|(col, &trit)| f32::from(trit) * scales[col / group]));
        }
        assert_eq!(values, decoded(&header, name), "{name}");
    }
}
