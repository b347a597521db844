#!/usr/bin/env python3
"""Whether transformers reads what `convert --to hf-packed` writes: every fixture's logits and token ids from such a folder.

    cargo build --release --example convert && python packed.py ../../target/release/examples/convert

Every fixture is converted, from its folder and from its GGUF files. A model whose activations are not rounded has no
packed form, and neither have divisors of RoPE frequencies from a GGUF file: these must be refused.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

import reference

FIXTURES = Path(__file__).parents[2] / "crates/tritwise/tests/fixtures"
REFUSED = ["llama-trilm", "llama-trilm-shards", "qwen3-bonsai", "qwen3-ternary-bonsai", "llama3-rope.i2_s.gguf"]
TEXT = "The king's daughter, 123 years old"


def check(convert, source, expected, folder):
    """Largest difference of a logit as a share of the largest logit; None if the conversion is refused."""
    done = subprocess.run([convert, "--to", "hf-packed", source, folder], capture_output=True, text=True)
    if done.returncode:
        return print(done.stderr.strip())
    logits = reference.logits(reference.load(folder), json.loads((expected / "tokens.json").read_text()))
    wanted = np.fromfile(expected / "logits.bin", dtype="<f4").reshape(logits.shape)
    ids = [AutoTokenizer.from_pretrained(path)(TEXT, add_special_tokens=False)["input_ids"] for path in (expected, folder)]
    if ids[0] != ids[1]:
        raise SystemExit(f"{source}: the text is {ids[1]}, not {ids[0]}")
    return float(np.abs(logits - wanted).max() / np.abs(wanted).max())


def main():
    folders = [(path, path) for path in sorted(FIXTURES.iterdir()) if (path / "logits.bin").exists()]
    files = [(path, FIXTURES / path.name.split(".")[0]) for path in sorted((FIXTURES / "gguf").iterdir())]
    for source, expected in folders + files:
        with tempfile.TemporaryDirectory() as folder:
            difference = check(sys.argv[1], source, expected, Path(folder) / "packed")
        if difference is not None:
            print(f"{source.name}: {difference:.1e}")
        refused = source.name in REFUSED or expected.name in REFUSED
        if (difference is None) != refused or (difference or 0) > 1e-5:
            raise SystemExit(f"{source.name}: expected {'a refusal' if refused else 'the same logits'}")


if __name__ == "__main__":
    main()
