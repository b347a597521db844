//! TL1 and TL2 against the bytes of bitnet.cpp's converter, and what is refused of them.

use proptest::prelude::*;
use tritwise_tensor::{Scales, TensorError, TernaryEncoding, TernaryMatrix, Tile};

use super::{random_trits, read};

const fn tile(rows: usize, cols: usize, block_rows: usize) -> Tile {
    Tile { rows, cols, block_rows }
}

/// What `tools/reference/lookup_tables.py` had converted.
const CONVERTED: [(TernaryEncoding, usize, usize); 4] = [
    (TernaryEncoding::Tl1(tile(64, 32, 32)), 128, 64),
    (TernaryEncoding::Tl1(tile(64, 16, 64)), 64, 48),
    (TernaryEncoding::Tl2(tile(32, 96, 32)), 64, 320),
    (TernaryEncoding::Tl2(tile(64, 96, 32)), 64, 448),
];

#[test]
fn bytes_of_the_converter() {
    let (mut tl1, mut tl2) = (&include_bytes!("../fixtures/tl1.bin")[..], &include_bytes!("../fixtures/tl2.bin")[..]);
    for (encoding, rows, cols) in CONVERTED {
        let file = if matches!(encoding, TernaryEncoding::Tl1(_)) { &mut tl1 } else { &mut tl2 };
        let bytes = file.split_off(..encoding.encoded_len(rows, cols).unwrap()).unwrap();
        let trits = random_trits(rows * cols, cols as u64);
        let matrix = TernaryMatrix::new(encoding, rows, cols, bytes, Some(0.5)).unwrap();
        assert_eq!(read(&matrix), trits, "{encoding:?} {rows}×{cols}");
        assert_eq!(matrix.scales(), &Scales::Tensor(0.5));
        assert_eq!(encoding.encode(&trits, rows, cols, &Scales::Tensor(0.5)).unwrap(), bytes, "{encoding:?}");
    }
    assert_eq!((tl1.len(), tl2.len()), (0, 0));
}

/// Every tile of a published kernel, with its shape.
fn published() -> Vec<(TernaryEncoding, usize, usize)> {
    let sizes = [1024, 1536, 3200, 4096, 8640, 14336];
    let shapes = sizes.into_iter().flat_map(|rows| sizes.map(|cols| (rows, cols)));
    let found = shapes.flat_map(|(rows, cols)| {
        let tl1 = Tile::tl1(rows, cols).iter().map(move |tile| (TernaryEncoding::Tl1(*tile), rows, cols));
        tl1.chain(Tile::tl2(rows, cols).iter().map(move |tile| (TernaryEncoding::Tl2(*tile), rows, cols)))
    });
    found.collect()
}

#[test]
fn published_tiles_fit_their_shapes() {
    let published = published();
    assert_eq!(published.len(), 6 + 2 * 4 + 10);
    for (encoding, rows, cols) in published {
        let len = encoding.encoded_len(rows, cols).unwrap();
        let expected = match encoding {
            TernaryEncoding::Tl1(_) => rows * cols / 4,
            // As the converter counts.
            _ => (cols - 256) * rows / 3 * 5 / 8 + 256 * rows / 2 * 4 / 8,
        };
        assert_eq!(len, expected, "{encoding} {rows}×{cols}");
    }
    assert_eq!((Tile::tl1(2560, 6912), Tile::tl2(6912, 2560)), (&[][..], &[][..]), "no kernels for the 2B model");
}

#[test]
fn published_shapes_are_written_as_the_converter_does() {
    for line in include_str!("../fixtures/tl_published.txt").lines() {
        let (kind, numbers) = line.split_once(' ').unwrap();
        let numbers: Vec<usize> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
        let [rows, cols, tile_rows, tile_cols, block_rows, len, checksum] = numbers[..] else { panic!("{line}") };
        let tile = tile(tile_rows, tile_cols, block_rows);
        let (encoding, published) = match kind {
            "tl1" => (TernaryEncoding::Tl1(tile), Tile::tl1(rows, cols)),
            _ => (TernaryEncoding::Tl2(tile), Tile::tl2(rows, cols)),
        };
        assert_eq!(published, [tile], "{line}");
        let trits: Vec<i8> = (0..(rows * cols) as u64).map(hashed_trit).collect();
        let bytes = encoding.encode(&trits, rows, cols, &Scales::Tensor(1.0)).unwrap();
        assert_eq!((bytes.len(), adler_32(&bytes) as usize), (len, checksum), "{line}");
        assert!(read(&TernaryMatrix::new(encoding, rows, cols, bytes, Some(1.0)).unwrap()) == trits, "{line}");
    }
}

/// `pattern` of `tools/reference/lookup_tables.py`.
fn hashed_trit(i: u64) -> i8 {
    let hashed = i.wrapping_mul(2_654_435_761).wrapping_add((i >> 7).wrapping_mul(40_503)) as u32;
    ((hashed >> 16) % 3) as i8 - 1
}

/// RFC 1950, section 9.
fn adler_32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

#[track_caller]
fn refused<T>(result: Result<T, TensorError>, sentence: &str) {
    assert_eq!(result.err().map(|error| error.to_string()).as_deref(), Some(sentence));
}

#[test]
fn numbers_that_no_weights_have_are_refused() {
    for (encoding, rows, cols) in CONVERTED {
        let bytes = encoding.encode(&random_trits(rows * cols, 5), rows, cols, &Scales::Tensor(1.0)).unwrap();
        let open = |bytes: &[u8]| TernaryMatrix::new(encoding, rows, cols, bytes.to_vec(), Some(1.0)).map(|_| ());
        let (triples, end) = match encoding {
            TernaryEncoding::Tl1(_) => (0, bytes.len()),
            _ => (rows * (cols / 96 * 96) / 6, rows * (cols / 96 * 96) * 5 / 24 + rows * (cols % 96) / 4),
        };
        let signs = triples..triples + triples / 4;
        for byte in (0..bytes.len()).step_by(61) {
            // A byte of one row and a few columns; find out which row by what changes.
            let mut changed = bytes.clone();
            changed[byte] ^= if byte < triples { 0x11 } else { 0x10 };
            for value in [0xf0, 0x0f] {
                let mut damaged = bytes.clone();
                damaged[byte] = value;
                if signs.contains(&byte) || byte >= end {
                    // Signs may be anything, and so may the zeros at the end.
                    assert!(open(&damaged).is_ok(), "{encoding} byte {byte}");
                    continue;
                }
                let message = open(&damaged).unwrap_err().to_string();
                let row: usize = message.strip_prefix("row ").unwrap().split(':').next().unwrap().parse().unwrap();
                assert_eq!(message, format!("row {row}: 15 stands for no weights; is the file damaged?"));
                // The row it names is the one whose weights lie there.
                let at_zero = |value: u8| {
                    let mut other = bytes.clone();
                    other[byte] = value;
                    read(&TernaryMatrix::new(encoding, rows, cols, other, Some(1.0)).unwrap())
                };
                let (a, b) = (at_zero(0x00), at_zero(0x88));
                let rows: Vec<usize> = (0..rows * cols).filter(|&i| a[i] != b[i]).map(|i| i / cols).collect();
                assert!(!rows.is_empty() && rows.iter().all(|found| *found == row), "{encoding} byte {byte}: {rows:?}");
            }
        }
    }
}

#[test]
fn tiles_that_do_not_fit_are_refused() {
    const BLOCKS: &str = "a tile's blocks divide its rows, which divide the matrix's";
    let tl1 = [
        (tile(64, 32, 16), "a tile of TL1 has blocks of 32 or 64 rows"),
        (tile(64, 32, 0), "a tile of TL1 has blocks of 32 or 64 rows"),
        (tile(64, 0, 32), "a tile's blocks divide its columns, which divide the matrix's"),
        (tile(64, 12, 32), "a tile's blocks divide its columns, which divide the matrix's"),
        (tile(64, 96, 32), "a tile's blocks divide its columns, which divide the matrix's"),
        (tile(0, 32, 32), BLOCKS),
        (tile(48, 32, 32), BLOCKS),
        (tile(96, 32, 32), BLOCKS),
        (tile(usize::MAX, usize::MAX, 64), "a tile's blocks divide its columns, which divide the matrix's"),
    ];
    for (tile, rule) in tl1 {
        refused(TernaryEncoding::Tl1(tile).encoded_len(128, 320), &format!("TL1 cannot hold 128×320: {rule}"));
    }
    const COLS: &str = "a tile of TL2 has a multiple of 24 columns, at most 240";
    const LEFT: &str = "there are 256 columns at least, and a multiple of 32 is left by whole tiles";
    let tl2 = [
        (tile(64, 96, 64), 320, "a tile of TL2 has blocks of 32 rows"),
        (tile(64, 0, 32), 320, COLS),
        (tile(64, 100, 32), 320, COLS),
        (tile(64, 264, 32), 528, COLS),
        (tile(64, 96, 32), 224, LEFT),
        (tile(64, 96, 32), 336, LEFT),
        (tile(48, 96, 32), 320, BLOCKS),
        (tile(0, 96, 32), 320, BLOCKS),
        (tile(256, 96, 32), 320, BLOCKS),
    ];
    for (tile, cols, rule) in tl2 {
        refused(TernaryEncoding::Tl2(tile).encoded_len(128, cols), &format!("TL2 cannot hold 128×{cols}: {rule}"));
    }
}

#[test]
fn sizes_and_scales_are_refused_as_elsewhere() {
    for (encoding, rows, cols) in CONVERTED {
        let len = encoding.encoded_len(rows, cols).unwrap();
        let sentence = format!("{encoding} {rows}×{cols} takes {len} bytes, found {}", len - 1);
        refused(TernaryMatrix::new(encoding, rows, cols, vec![0; len - 1], Some(1.0)), &sentence);
        let missing = TernaryMatrix::new(encoding, rows, cols, vec![0; len], None);
        refused(missing, &format!("{encoding} does not contain its scale, and none was given"));
        let infinite = TernaryMatrix::new(encoding, rows, cols, vec![0; len], Some(f32::INFINITY));
        refused(infinite, "scale 0 is inf, which is not a finite number");
        let several = encoding.encode(&vec![0; rows * cols], rows, cols, &Scales::Rows(vec![1.0; rows]));
        refused(several, &format!("{encoding} cannot hold these scales: there is place for one scale"));
        let overflow = encoding.encoded_len(usize::MAX, usize::MAX);
        refused(overflow, &format!("{encoding} cannot hold {0}×{0}: the size overflows", usize::MAX));
    }
    // A size of 5 / 24 overflows where the number of weights does not.
    let tl2 = TernaryEncoding::Tl2(tile(32, 24, 32));
    refused(
        tl2.encoded_len(1 << 32, 3 << 30),
        &format!("TL2 cannot hold {}×{}: the size overflows", 1_u64 << 32, 3_u64 << 30),
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read(which in 0..4_usize, tiles in 1..4_usize, extra in 0..3_usize, seed: u64) {
        let (encoding, rows, cols) = CONVERTED[which];
        let (rows, cols) = match encoding {
            TernaryEncoding::Tl1(tile) => (tile.rows * tiles, tile.cols * (extra + 1)),
            _ => (rows * tiles, cols + 96 * extra),
        };
        let trits = random_trits(rows * cols, seed);
        let bytes = encoding.encode(&trits, rows, cols, &Scales::Tensor(0.25)).unwrap();
        let matrix = TernaryMatrix::new(encoding, rows, cols, bytes, Some(0.25)).unwrap();
        prop_assert_eq!(read(&matrix), trits);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 64 * 448 / 4), which in 0..4_usize) {
        let (encoding, rows, cols) = CONVERTED[which];
        // Halved nibbles, so that some of them pass.
        let bytes: Vec<u8> = bytes.into_iter().map(|byte| byte & 0x77).collect();
        let bytes = &bytes[..encoding.encoded_len(rows, cols).unwrap()];
        let matrix = TernaryMatrix::new(encoding, rows, cols, bytes, Some(1.0)).unwrap();
        prop_assert!(read(&matrix).iter().all(|trit| (-1..=1).contains(trit)));
    }
}
