//! Dense tables on every instruction set: decoded exactly, and multiplied in the order of the definition.

mod support;

use support::{Random, bits, same_bits, tree};
use tritwise_kernels::arch::TableRows;
use tritwise_tensor::{DenseEncoding, DenseMatrix, Group};

/// A table of random weights: its bytes, and the weights as the encoding defines them.
fn table(random: &mut Random, encoding: DenseEncoding, rows: usize, cols: usize) -> (Vec<u8>, Vec<f32>) {
    let half = |random: &mut Random| half::f16::from_f32(random.unit());
    let mut bytes = Vec::new();
    let mut weights = Vec::new();
    match encoding {
        DenseEncoding::F32 => {
            weights = random.wild(rows * cols);
            bytes.extend(weights.iter().flat_map(|w| w.to_le_bytes()));
        }
        DenseEncoding::F16 => {
            for _ in 0..rows * cols {
                let w = half::f16::from_bits(random.bits() as u16 & 0xbfff);
                bytes.extend(w.to_le_bytes());
                weights.push(w.to_f32());
            }
        }
        DenseEncoding::Bf16 => {
            for w in random.plain(rows * cols) {
                let w = f32::from_bits(w.to_bits() & 0xffff_0000);
                bytes.extend(&w.to_le_bytes()[2..]);
                weights.push(w);
            }
        }
        DenseEncoding::Q8_0 => {
            for _ in 0..rows * cols / 32 {
                let d = half(random);
                let q = random.bytes(32);
                bytes.extend(d.to_le_bytes());
                bytes.extend(&q);
                weights.extend(q.iter().map(|q| d.to_f32() * f32::from(*q as i8)));
            }
        }
        DenseEncoding::Q6K => {
            for _ in 0..rows * cols / 256 {
                let d = half(random);
                let block = random.bytes(208);
                for e in 0..256 {
                    let (h, q, l) = (e / 128, e % 128 / 32, e % 32);
                    let low = block[64 * h + l + 32 * (q % 2)] >> (4 * (q / 2)) & 15;
                    let high = block[128 + 32 * h + l] >> (2 * q) & 3;
                    let scale = f32::from(block[192 + 8 * h + 2 * q + l / 16] as i8);
                    weights.push((d.to_f32() * scale) * f32::from(i16::from(low | high << 4) - 32));
                }
                bytes.extend(block);
                bytes.extend(d.to_le_bytes());
            }
        }
        _ => {
            // As tritwise-tensor reads them, whose tests hold that against the definitions.
            let (block, len) = encoding.block();
            let scales: &[usize] = match encoding {
                DenseEncoding::Q4K => &[0, 2],
                DenseEncoding::Tq1_0 | DenseEncoding::Tq2_0 | DenseEncoding::Ptq1_0 => &[len - 2],
                _ => &[0],
            };
            for _ in 0..rows * cols / block {
                let mut block = random.bytes(len);
                for at in scales {
                    block[*at..at + 2].copy_from_slice(&half(random).to_le_bytes());
                }
                bytes.extend(block);
            }
            weights = vec![f32::NAN; rows * cols];
            let matrix = DenseMatrix::new(encoding, rows, cols, &bytes).unwrap();
            weights.chunks_mut(cols).enumerate().for_each(|(row, out)| matrix.read_row(row, out));
        }
    }
    (bytes, weights)
}

const ENCODINGS: [(DenseEncoding, &[usize]); 17] = [
    (DenseEncoding::F32, &[1, 15, 16, 33, 100, 640]),
    (DenseEncoding::F16, &[1, 15, 16, 33, 100, 640]),
    (DenseEncoding::Bf16, &[1, 15, 16, 33, 100, 640]),
    (DenseEncoding::Q8_0, &[32, 64, 96, 640]),
    (DenseEncoding::Q6K, &[256, 768]),
    (DenseEncoding::Q4_0, &[32, 96, 640]),
    (DenseEncoding::Q4K, &[256, 768]),
    (DenseEncoding::Iq4Nl, &[32, 96, 640]),
    (DenseEncoding::Q1_0(Group::Of32), &[32, 96, 640]),
    (DenseEncoding::Q1_0(Group::Of64), &[64, 192, 640]),
    (DenseEncoding::Q1_0(Group::Of128), &[128, 384, 640]),
    (DenseEncoding::Q2_0(Group::Of32), &[32, 96, 640]),
    (DenseEncoding::Q2_0(Group::Of64), &[64, 192, 640]),
    (DenseEncoding::Q2_0(Group::Of128), &[128, 384, 640]),
    (DenseEncoding::Tq1_0, &[256, 768]),
    (DenseEncoding::Tq2_0, &[256, 768]),
    (DenseEncoding::Ptq1_0, &[128, 384, 640]),
];

#[test]
fn table_rows_decode_exactly() {
    let mut random = Random(13);
    for (encoding, widths) in ENCODINGS {
        for &cols in widths {
            let (bytes, weights) = table(&mut random, encoding, 3, cols);
            let table = TableRows::new(encoding, 3, cols, &bytes);
            for (row, weights) in weights.chunks(cols).enumerate() {
                let got = same_bits("decode", |isa| {
                    let mut out = vec![f32::NAN; cols];
                    isa.decode(table.slice(row, 1), &mut out);
                    bits(&out)
                });
                assert_eq!(got, bits(weights), "{encoding:?} cols={cols} row={row}");
            }
        }
    }
}

#[test]
fn project_is_a_dot_product_in_sixteen_partials() {
    let mut random = Random(14);
    for (encoding, widths) in ENCODINGS {
        for &cols in widths {
            for (rows, tokens) in [(1, 1), (4, 1), (7, 1), (9, 2), (6, 3), (5, 4), (11, 9)] {
                let (bytes, weights) = table(&mut random, encoding, rows, cols);
                let padded = cols.next_multiple_of(16);
                let mut x = vec![0.0; tokens * padded];
                for x in x.chunks_mut(padded) {
                    x[..cols].copy_from_slice(&random.plain(cols));
                }
                let got = same_bits("project", |isa| {
                    let mut out = vec![f32::NAN; tokens * rows];
                    isa.project(TableRows::new(encoding, rows, cols, &bytes), &x, &mut out);
                    bits(&out)
                });
                for (t, x) in x.chunks(padded).enumerate() {
                    for (r, weights) in weights.chunks(cols).enumerate() {
                        let mut partials = [0.0_f32; 16];
                        for (i, (w, x)) in weights.iter().zip(x).enumerate() {
                            partials[i % 16] = w.mul_add(*x, partials[i % 16]);
                        }
                        let got = f32::from_bits(got[t * rows + r]);
                        // `==` and not the bits: padding makes +0 of a partial that is -0.
                        assert_eq!(got, tree(partials), "{encoding:?} cols={cols} row={r} token={t}");
                        let exact: f64 = weights.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                        let size: f64 = weights.iter().zip(x).map(|(w, x)| (f64::from(*w) * f64::from(*x)).abs()).sum();
                        assert!((f64::from(got) - exact).abs() <= 1e-5 * size + 1e-30, "{got} for {exact}");
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "rows of")]
fn table_rows_of_the_wrong_size_are_refused() {
    TableRows::new(DenseEncoding::F16, 2, 8, &[0; 31]);
}
