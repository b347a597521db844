#!/usr/bin/env python3
"""Writes the vectors with which tritwise-tensor tests TL1 and TL2 against bitnet.cpp's converter.

    lookup_tables.py BITNET/utils/convert-hf-to-gguf-bitnet.py

BITNET is a checkout of microsoft/BitNet (16da220).

Each file is what the converter makes of one matrix after the other, without a scale:

    tl1.bin    128 × 64 in tiles of 64 × 32, blocks of 32 rows      64 × 48 in tiles of 64 × 16, blocks of 64 rows
    tl2.bin    64 × 320 in tiles of 32 × 96                         64 × 448 in tiles of 64 × 96

The trits are those of the generator in `trits`, seeded with the number of columns. tl_published.txt has a line for each of
some published shapes, PUBLISHED below, with the trits of `pattern`:

    tl1 or tl2, rows, columns, tile rows, tile columns, block rows, bytes, their Adler-32
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import zlib
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

TL1 = [(128, 64, (64, 32, 32)), (64, 48, (64, 16, 64))]
TL2 = [(64, 320, (32, 96, 32)), (64, 448, (64, 96, 32))]
PUBLISHED = {
    "tl1": [(1536, 4096, (256, 128, 32)), (1536, 1536, (128, 64, 64)), (3200, 3200, (320, 128, 64))],
    "tl2": [(1536, 4096, (256, 96, 32)), (1536, 1536, (128, 192, 32)), (3200, 3200, (320, 96, 32))],
}


def trits(count, seed):
    """A stream of trits, from a xorshift generator (Marsaglia 2003)."""
    state, out = seed | 1, []
    for _ in range(count):
        state ^= state << 13 & (1 << 64) - 1
        state ^= state >> 7
        state ^= state << 17 & (1 << 64) - 1
        out.append(np.uint8(state >> 33 & 255).astype(np.int8) % 3 - 1)
    return np.array(out, dtype=np.float32)


def pattern(count, _seed):
    """A hash of the index for each trit, which takes no loop."""
    i = np.arange(count, dtype=np.uint64)
    hashed = (i * np.uint64(2654435761) + (i >> np.uint64(7)) * np.uint64(40503)).astype(np.uint32)
    return ((hashed >> np.uint32(16)) % np.uint32(3)).astype(np.float32) - 1


def load(path):
    """The converter as a module, without running it. What it imports plays no part in packing weights."""
    sys.modules |= {name: MagicMock() for name in ("convert", "gguf", "torch")}
    spec = importlib.util.spec_from_file_location("converter", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def convert(preprocess, shapes, trits=trits):
    """The converter reads tiles from include/kernel_config.ini, under the working folder."""
    config = Path("include/kernel_config.ini")
    config.parent.mkdir(exist_ok=True)
    out = b""
    for rows, cols, (bm, bk, bmm) in shapes:
        config.write_text(f"[Kernels_0]\nm = {rows}\nk = {cols}\nbm = {bm}\nbk = {bk}\nbmm = {bmm}\n")
        out += preprocess(trits(rows * cols, cols).reshape(rows, cols)).tobytes()
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("converter", type=Path, help="convert-hf-to-gguf-bitnet.py in a checkout of microsoft/BitNet")
    default = Path(__file__).resolve().parents[2] / "crates/tritwise-tensor/tests/fixtures"
    parser.add_argument("--out", type=Path, default=default, help="folder to write to (default: %(default)s)")
    args = parser.parse_args()
    converter = load(args.converter.resolve())
    out = args.out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        files = {
            "tl1.bin": convert(converter.preprocess_weights_tl1, TL1),
            "tl2.bin": convert(converter.preprocess_weights_tl2, TL2),
        }
        lines = []
        for kind, preprocess in (("tl1", converter.preprocess_weights_tl1), ("tl2", converter.preprocess_weights_tl2)):
            for rows, cols, tile in PUBLISHED[kind]:
                data = convert(preprocess, [(rows, cols, tile)], pattern)
                lines.append(" ".join(map(str, (kind, rows, cols, *tile, len(data), zlib.adler32(data)))) + "\n")
        files["tl_published.txt"] = "".join(lines).encode()
        os.chdir(out)
    for name, data in files.items():
        (out / name).write_bytes(data)
        print(name, len(data), "bytes")


if __name__ == "__main__":
    main()
