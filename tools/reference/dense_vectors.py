#!/usr/bin/env python3
"""Writes the vectors with which tritwise-tensor tests Q8_0, Q6_K and TQ1_0 against the `gguf` package of llama.cpp.

Each file is stored blocks, then the f32 (little-endian) that the package decodes from them:

    q6_k.bin    4 blocks of random bits     every scale, code and sign
    tq1_0.bin   8 blocks of random bits     also the bytes that no encoder writes
    q8_0.bin    8 blocks that the package made from normally distributed f32; these f32 come third
"""

import argparse
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants


def random_blocks(random, count, size, scale_at):
    blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
    scales = random.normal(0, 0.01, (count, 1)).astype("<f2")
    blocks[:, scale_at : scale_at + 2] = scales.view(np.uint8)
    return blocks


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(__file__).parents[2] / "crates/tritwise-tensor/tests/fixtures"
    parser.add_argument("--out", type=Path, default=default, help="folder to write to")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(58)

    q6_k = random_blocks(random, 4, 210, 208)
    (out / "q6_k.bin").write_bytes(q6_k.tobytes() + quants.dequantize(q6_k, Type.Q6_K).astype("<f4").tobytes())

    tq1_0 = random_blocks(random, 8, 54, 52)
    (out / "tq1_0.bin").write_bytes(tq1_0.tobytes() + quants.dequantize(tq1_0, Type.TQ1_0).astype("<f4").tobytes())

    values = random.normal(0, 0.02, (1, 256)).astype("<f4")
    q8_0 = quants.quantize(values, Type.Q8_0)
    decoded = quants.dequantize(q8_0, Type.Q8_0).astype("<f4")
    (out / "q8_0.bin").write_bytes(q8_0.tobytes() + decoded.tobytes() + values.tobytes())


if __name__ == "__main__":
    main()
