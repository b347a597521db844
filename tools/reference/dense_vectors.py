#!/usr/bin/env python3
"""Writes the vectors with which tritwise-tensor tests its dense encodings against the `gguf` package of llama.cpp.

Each file is stored blocks, then the f32 (little-endian) that the package decodes from them:

    q6_k.bin    4 blocks of random bits     every scale, code and sign
    tq1_0.bin   8 blocks of random bits     also the bytes that no encoder writes
    q4_k.bin    4 blocks of random bits     every scale, offset and code
    iq4_nl.bin  8 blocks of random bits
    q8_0.bin    8 blocks that the package made from normally distributed f32; these f32 come third
    q4_0.bin    likewise
"""

import argparse
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants


def random_blocks(random, count, size, *scales_at):
    blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
    for at in scales_at:
        scales = random.normal(0, 0.01, (count, 1)).astype("<f2")
        blocks[:, at : at + 2] = scales.view(np.uint8)
    return blocks


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(__file__).parents[2] / "crates/tritwise-tensor/tests/fixtures"
    parser.add_argument("--out", type=Path, default=default, help="folder to write to")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(58)

    def write_random(name, kind, count, size, *scales_at):
        blocks = random_blocks(random, count, size, *scales_at)
        (out / name).write_bytes(blocks.tobytes() + quants.dequantize(blocks, kind).astype("<f4").tobytes())

    def write_quantised(name, kind):
        values = random.normal(0, 0.02, (1, 256)).astype("<f4")
        blocks = quants.quantize(values, kind)
        decoded = quants.dequantize(blocks, kind).astype("<f4")
        (out / name).write_bytes(blocks.tobytes() + decoded.tobytes() + values.tobytes())

    write_random("q6_k.bin", Type.Q6_K, 4, 210, 208)
    write_random("tq1_0.bin", Type.TQ1_0, 8, 54, 52)
    write_quantised("q8_0.bin", Type.Q8_0)
    write_quantised("q4_0.bin", Type.Q4_0)
    write_random("q4_k.bin", Type.Q4_K, 4, 144, 0, 2)
    write_random("iq4_nl.bin", Type.IQ4_NL, 8, 18, 0)


if __name__ == "__main__":
    main()
