//! What lies beside an operation's operands: it changes no result, and stays as it was.
//!
//! Every operand is the middle of a buffer that is filled with poison, so that its ends lie where no vector
//! begins or ends. Read, the poison would spoil a result; written, it would be gone.

mod support;

use bytemuck::{cast_slice, cast_slice_mut};
use support::{Random, bits, scalar};
use tritwise_kernels::arch::{
    Activations, Angles, CoarsePanels, Isa, KV_BLOCK, KvChunk, KvLayout, KvType, Layout, Line, NormWeight, PANEL_ROWS,
    Panels, Probe, Queries, QueryValues, SKETCH_COLS, SKETCH_GROUP, SKETCH_LINES, Softmax, TableRows, available,
};
use tritwise_tensor::{Activation, DenseEncoding, RopeStyle};

/// Lengths around those of vectors.
const LENGTHS: &[usize] = if cfg!(miri) { &[1, 17, 31] } else { &[1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 65, 100] };

/// Widths of heads.
const HEADS: &[usize] = if cfg!(miri) { &[31] } else { &[2, 31, 33, 64, 100] };

/// Elements of poison on either side: an odd number, more than a vector of 64 bytes has.
const GUARD: usize = 67;

/// A line of keys or values that nobody has written yet, aligned as a cache's are.
const UNWRITTEN: Line = Line([0xff; 64]);

/// Values with poison on both sides.
struct Guarded<T> {
    all: Vec<T>,
    poison: T,
}

impl<T: bytemuck::Pod> Guarded<T> {
    fn new(poison: T, values: &[T]) -> Self {
        let guard = [poison; GUARD];
        Self { all: [&guard, values, &guard].concat(), poison }
    }

    fn values(&self) -> &[T] {
        &self.all[GUARD..self.all.len() - GUARD]
    }

    /// The values after a call that writes to them.
    fn after(mut self, call: impl FnOnce(&mut [T])) -> Vec<T> {
        let end = self.all.len() - GUARD;
        call(&mut self.all[GUARD..end]);
        let poison = [self.poison; GUARD];
        let bytes = |x: &[T]| cast_slice::<T, u8>(x).to_vec();
        assert!(bytes(&self.all[..GUARD]) == bytes(&poison), "something was written in front of an operand");
        assert!(bytes(&self.all[end..]) == bytes(&poison), "something was written behind an operand");
        self.values().to_vec()
    }
}

fn floats(values: &[f32]) -> Guarded<f32> {
    Guarded::new(f32::NAN, values)
}

fn bytes(values: &[u8]) -> Guarded<u8> {
    Guarded::new(0xff, values)
}

/// `len` elements that nobody has written yet.
fn unwritten<T: bytemuck::Pod>(poison: T, len: usize) -> Guarded<T> {
    Guarded::new(poison, &vec![poison; len])
}

/// Holds each instruction set's results against the scalar one's on operands without neighbours.
fn check<T: PartialEq + std::fmt::Debug>(what: &str, plain: T, guarded: impl Fn(&'static dyn Isa) -> T) {
    for isa in available() {
        assert_eq!(guarded(isa), plain, "{what} on {}", isa.name());
    }
}

/// An operation that changes a row, given another one.
type Change<'a> = dyn Fn(&'static dyn Isa, &mut [f32], &[f32]) + 'a;

#[test]
fn rows_of_floats() {
    let mut random = Random(41);
    for &len in LENGTHS {
        let (x, y, weight) = (random.plain(len), random.plain(len), random.plain(len));
        let [gx, gy, gw] = [&x, &y, &weight].map(|values| floats(values));
        let (norm, guarded_norm) =
            (NormWeight { weight: &weight, eps: 1e-5 }, NormWeight { weight: gw.values(), eps: 1e-5 });
        let changed = |what: &str, call: &Change<'_>| {
            let mut plain = x.clone();
            call(scalar(), &mut plain, &y);
            check(what, bits(&plain), |isa| bits(&floats(&x).after(|row| call(isa, row, gy.values()))));
        };
        changed("exp", &|isa, x, _| isa.exp(x));
        changed("divide", &|isa, x, _| isa.divide(x, 3.0));
        changed("add", &|isa, x, y| isa.add(x, y));
        for activation in [Activation::SquaredRelu, Activation::Silu, Activation::GeluTanh] {
            changed("gate", &|isa, x, y| isa.gate(activation, x, y));
        }

        let mut plain = vec![f32::NAN; len];
        scalar().normalize(&x, norm, &mut plain);
        check("normalize", bits(&plain), |isa| {
            bits(&unwritten(f32::NAN, len).after(|out| isa.normalize(gx.values(), guarded_norm, out)))
        });

        let mut plain = vec![99; len];
        let scale = scalar().quantize(&x, Some(norm), &mut plain);
        check("quantize", (plain, scale), |isa| {
            let mut scale = (0.0, 0);
            let codes = unwritten(99_i8, len).after(|out| scale = isa.quantize(gx.values(), Some(guarded_norm), out));
            (codes, scale)
        });

        let sums_len = len.div_ceil(16);
        let (mut high, mut low, mut sums) = (vec![99; len], vec![99; len], vec![99; sums_len]);
        let scale = scalar().quantize16(&x, None, &mut high, &mut low, &mut sums);
        check("quantize16", (high, low, sums, scale), |isa| {
            let (mut low, mut sums, mut scale) = (Vec::new(), Vec::new(), 0.0);
            let high = unwritten(99_i8, len).after(|high| {
                low = unwritten(99_i8, len).after(|low| {
                    sums = unwritten(99_i32, sums_len)
                        .after(|sums| scale = isa.quantize16(gx.values(), None, high, low, sums));
                });
            });
            (high, low, sums, scale)
        });

        let sums: Vec<i32> = (0..len).map(|_| random.bits() as i32).collect();
        let mut plain = vec![f32::NAN; len];
        scalar().scale_sums(&sums, 5, 0.7, 1.3, &mut plain);
        let guarded = Guarded::new(i32::MIN, &sums);
        check("scale_sums", bits(&plain), |isa| {
            bits(&unwritten(f32::NAN, len).after(|out| isa.scale_sums(guarded.values(), 5, 0.7, 1.3, out)))
        });

        // An odd last code has a zero beside it.
        let codes_len = len.next_multiple_of(2);
        let mut plain = vec![99; codes_len];
        let scale = scalar().round_query(&x, &mut plain);
        check("round_query", (plain, scale), |isa| {
            let mut scale = 0.0;
            let codes = unwritten(99_i16, codes_len).after(|codes| scale = isa.round_query(gx.values(), codes));
            (codes, scale)
        });
    }
}

#[test]
fn heads_that_rotate() {
    let mut random = Random(42);
    for &head_dim in if cfg!(miri) { &[34][..] } else { &[2, 8, 30, 32, 50, 100] } {
        let [cos, sin, heads] = [head_dim, head_dim, 3 * head_dim].map(|len| random.plain(len));
        let (guarded_cos, guarded_sin) = (floats(&cos), floats(&sin));
        for style in [RopeStyle::Halves, RopeStyle::Interleaved] {
            let mut plain = heads.clone();
            scalar().rotate(style, Angles { cos: &cos, sin: &sin }, &mut plain);
            let angles = Angles { cos: guarded_cos.values(), sin: guarded_sin.values() };
            check("rotate", bits(&plain), |isa| bits(&floats(&heads).after(|heads| isa.rotate(style, angles, heads))));
        }
    }
}

#[test]
fn keys_and_values() {
    let mut random = Random(43);
    // Miri does not know the conversion to binary16.
    let types = if cfg!(miri) { &[KvType::F32, KvType::Int8][..] } else { &[KvType::F16, KvType::F32, KvType::Int8] };
    for (kv, head_dim) in types.iter().flat_map(|kv| HEADS.iter().map(move |dim| (*kv, *dim))) {
        let layout = KvLayout::new(kv, head_dim, 33);
        let (key, value) = (random.plain(head_dim), random.plain(head_dim));
        let (guarded_key, guarded_value) = (floats(&key), floats(&value));
        for pos in if cfg!(miri) { vec![1, 32] } else { vec![0, 1, 31, 32] } {
            let mut plain = vec![UNWRITTEN; layout.lines()];
            scalar().store_kv(layout, cast_slice_mut(&mut plain), pos, &key, &value);
            check("store_kv", plain, |isa| {
                unwritten(UNWRITTEN, layout.lines()).after(|lines| {
                    isa.store_kv(layout, cast_slice_mut(lines), pos, guarded_key.values(), guarded_value.values());
                })
            });
        }
    }
}

/// Two queries of two heads over the positions of a chunk that are written; the others hold what is no number.
#[test]
fn attention() {
    let mut random = Random(47);
    let (rows, heads, start) = (2, 2, if cfg!(miri) { 1 } else { 16 });
    for (kv, head_dim) in
        [KvType::F16, KvType::F32, KvType::Int8].into_iter().flat_map(|kv| HEADS.iter().map(move |dim| (kv, *dim)))
    {
        let layout = KvLayout::new(kv, head_dim, KV_BLOCK);
        let mut lines = vec![UNWRITTEN; layout.lines()];
        for pos in 0..start + rows {
            scalar().store_kv(
                layout,
                cast_slice_mut(&mut lines),
                pos,
                &random.plain(head_dim),
                &random.plain(head_dim),
            );
        }
        let (stride, padded) = (heads * head_dim, head_dim.next_multiple_of(2));
        let query = random.plain(rows * stride);
        let (mut codes, mut scales) = (vec![0; rows * heads * padded], vec![0.0; rows * heads]);
        for ((query, codes), scale) in query.chunks(head_dim).zip(codes.chunks_mut(padded)).zip(&mut scales) {
            *scale = scalar().round_query(query, codes);
        }
        let [guarded_query, guarded_scales] = [&query, &scales].map(|values| floats(values));
        let (guarded_codes, guarded_lines) = (Guarded::new(i16::MIN, &codes), Guarded::new(UNWRITTEN, &lines));
        let attend = |isa: &dyn Isa, lines: &[Line], values: QueryValues<'_>, out: &mut [f32]| {
            let chunk = KvChunk { layout, base: 0, lines: cast_slice(lines) };
            let queries = Queries { values, stride, rows, heads, start, window: usize::MAX };
            let mut softmax = vec![Softmax::default(); rows * heads];
            isa.attend_chunk(chunk, queries, &mut softmax, out);
            bits(&softmax.iter().flat_map(|softmax| [softmax.max, softmax.sum]).collect::<Vec<_>>())
        };
        let values = |codes, scales, query| match kv {
            KvType::Int8 => QueryValues::Rounded { codes, scales },
            _ => QueryValues::Plain(query),
        };
        let mut plain = vec![f32::NAN; rows * stride];
        let softmax = attend(scalar(), &lines, values(&codes, &scales, &query), &mut plain);
        check("attend_chunk", (bits(&plain), softmax), |isa| {
            let values = values(guarded_codes.values(), guarded_scales.values(), guarded_query.values());
            let mut softmax = Vec::new();
            let out = unwritten(f32::NAN, rows * stride)
                .after(|out| softmax = attend(isa, guarded_lines.values(), values, out));
            (bits(&out), softmax)
        });
    }
}

#[test]
fn rows_of_tables() {
    let mut random = Random(44);
    for (encoding, cols) in [
        (DenseEncoding::F32, 33),
        (DenseEncoding::F16, 33),
        (DenseEncoding::Bf16, 33),
        (DenseEncoding::Q8_0, 96),
        (DenseEncoding::Q4_0, 96),
        (DenseEncoding::Q6K, 256),
        (DenseEncoding::Q4K, 256),
    ] {
        let (rows, tokens) = if cfg!(miri) { (3, 1) } else { (5, 3) };
        let table = encoding.encode(&random.plain(rows * cols), rows, cols).unwrap();
        let guarded = bytes(&table);
        let plain_rows = TableRows::new(encoding, rows, cols, &table);
        let guarded_rows = TableRows::new(encoding, rows, cols, guarded.values());
        let mut plain = vec![f32::NAN; cols];
        scalar().decode(plain_rows.slice(2, 1), &mut plain);
        check("decode", bits(&plain), |isa| {
            bits(&unwritten(f32::NAN, cols).after(|out| isa.decode(guarded_rows.slice(2, 1), out)))
        });

        let padded = cols.next_multiple_of(16);
        let mut x = vec![0.0; tokens * padded];
        x.chunks_mut(padded).for_each(|x| x[..cols].copy_from_slice(&random.plain(cols)));
        let guarded_x = floats(&x);
        let mut plain = vec![f32::NAN; tokens * rows];
        scalar().project(plain_rows, &x, &mut plain);
        check("project", bits(&plain), |isa| {
            bits(&unwritten(f32::NAN, tokens * rows).after(|out| isa.project(guarded_rows, guarded_x.values(), out)))
        });
    }
}

#[test]
fn sketches() {
    let mut random = Random(45);
    let cols = 3 * SKETCH_GROUP;
    let row = random.plain(cols);
    let guarded_row = floats(&row);
    let (mut codes, mut steps) = (vec![99; cols], vec![99; cols / SKETCH_GROUP]);
    let sketch = scalar().sketch(&row, &mut codes, &mut steps);
    check("sketch", (codes, steps, sketch), |isa| {
        let mut found = (Vec::new(), sketch);
        let codes = unwritten(99_u8, cols).after(|codes| {
            found.0 = unwritten(99_u8, cols / SKETCH_GROUP)
                .after(|steps| found.1 = isa.sketch(guarded_row.values(), codes, steps));
        });
        (codes, found.0, found.1)
    });

    let lines: Vec<Line> =
        (0..2 * 256 / SKETCH_COLS * SKETCH_LINES).map(|_| Line(std::array::from_fn(|_| random.bits() as u8))).collect();
    let scales = random.plain(2 * PANEL_ROWS);
    let mut probe = Probe::default();
    assert!(probe.set(&random.plain(200)));
    let (guarded_lines, guarded_scales) = (Guarded::new(UNWRITTEN, &lines), floats(&scales));
    let mut plain = vec![f32::NAN; scales.len()];
    scalar().screen(CoarsePanels::new(&lines, 200), &scales, &probe, &mut plain);
    check("screen", bits(&plain), |isa| {
        let panels = CoarsePanels::new(guarded_lines.values(), 200);
        bits(&unwritten(f32::NAN, scales.len()).after(|out| isa.screen(panels, guarded_scales.values(), &probe, out)))
    });
}

#[test]
fn sums_of_codes() {
    let mut random = Random(46);
    for layout in [Layout::TwoBit, Layout::Base3, Layout::Rows] {
        let (panels, per_panel, tokens) = if cfg!(miri) { (1, 2, 2) } else { (3, 5, 4) };
        let most = if layout == Layout::Base3 { 243 } else { 256 };
        let lines: Vec<Line> =
            (0..panels * per_panel).map(|_| Line(std::array::from_fn(|_| random.below(most) as u8))).collect();
        let guarded_lines = Guarded::new(UNWRITTEN, &lines);
        let (plain, guarded) =
            (Panels::new(layout, &lines, per_panel), Panels::new(layout, guarded_lines.values(), per_panel));
        let (rows, cols) = (plain.rows(), plain.cols());
        let x: Vec<i8> = random.bytes(tokens * cols).into_iter().map(|x| x as i8).collect();
        let guarded_x = Guarded::new(-77_i8, &x);
        let [one, all] = [1, tokens].map(|tokens| {
            let mut sums = vec![i32::MIN; tokens * rows];
            scalar().gemm(plain, Activations::new(&x, cols, tokens), &mut sums);
            sums
        });
        for isa in available().into_iter().filter(|isa| layout == Layout::Rows || isa.layouts().contains(&layout)) {
            let found = unwritten(i32::MIN, rows).after(|out| isa.gemv(guarded, &guarded_x.values()[..cols], out));
            assert_eq!(found, one, "gemv on {}", isa.name());
            let x = Activations::new(guarded_x.values(), cols, tokens);
            let found = unwritten(i32::MIN, tokens * rows).after(|out| isa.gemm(guarded, x, out));
            assert_eq!(found, all, "gemm on {}", isa.name());
        }
    }
}

#[test]
fn sums_of_trits_times_floats() {
    let mut random = Random(48);
    let lines: Vec<Line> = (0..6).map(|_| Line(std::array::from_fn(|_| random.bits() as u8))).collect();
    let guarded_lines = Guarded::new(UNWRITTEN, &lines);
    let x = random.plain(2 * 48);
    let guarded_x = floats(&x);
    let mut plain = vec![f32::NAN; 2 * 32];
    scalar().trit_sums(Panels::new(Layout::TwoBit, &lines, 3), &x, 48, &mut plain);
    check("trit_sums", bits(&plain), |isa| {
        let panels = Panels::new(Layout::TwoBit, guarded_lines.values(), 3);
        bits(&unwritten(f32::NAN, 2 * 32).after(|out| isa.trit_sums(panels, guarded_x.values(), 48, out)))
    });
}
