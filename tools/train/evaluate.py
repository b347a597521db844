"""Bits per byte on held-out text, in f32 with exact quantisation.

The text is encoded as it stands and cut into non-overlapping windows of 512
tokens (the last may be shorter). In each window every token but the first is
predicted from those before it. The figure is

    bits per byte = sum of -log2 p(token) / sum of bytes of those tokens,

both sums over the predicted tokens of all windows.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import model as M
from tokenizer import encode_verbatim


@dataclass
class Score:
    """What was measured: total nats over `tokens` predicted tokens that spell `bytes` bytes."""

    nats: float
    tokens: int
    bytes: int

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    def __str__(self) -> str:
        return f"{self.bits_per_byte:.4f} bits per byte, {self.nats_per_token:.4f} nats per token ({self.tokens} tokens, {self.bytes} bytes)"


def windows(ids: np.ndarray, sizes: np.ndarray, length: int, batch: int):
    """Batches of whole windows, then the shorter rest; yields (ids [n, length], predicted bytes)."""
    whole = len(ids) // length
    for start in range(0, whole, batch):
        span = slice(start * length, min(start + batch, whole) * length)
        yield torch.from_numpy(ids[span].reshape(-1, length)), int(sizes[span].reshape(-1, length)[:, 1:].sum())
    rest = slice(whole * length, None)
    if len(ids[rest]) > 1:
        yield torch.from_numpy(ids[rest][None]), int(sizes[rest][1:].sum())


@torch.no_grad()
def score(logits_of, ids: np.ndarray, sizes: np.ndarray, length: int = 512, batch: int = 4, progress: bool = False) -> Score:
    """Score a model given as a function from ids [n, length] to logits [n, length, vocab]."""
    total = Score(0.0, 0, 0)
    for tokens, size in windows(ids, sizes, length, batch):
        logits = logits_of(tokens)[:, :-1].float()
        targets = tokens[:, 1:]
        total.nats += F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="sum").item()
        total.tokens += targets.numel()
        total.bytes += size
        if progress:
            print(f"\r{total.tokens}/{len(ids)} tokens, {total.bits_per_byte:.4f} bits per byte", end="", flush=True)
    if progress:
        print()
    return total


def own_model(masters: dict, config: M.Config, quantised: bool = True):
    """The logits function of our own implementation, in f32."""
    weights = M.materialise(masters, config, quantised, torch.float32)

    def logits_of(tokens: torch.Tensor) -> torch.Tensor:
        cos, sin = M.rope_tables(config, tokens.shape[1])
        return F.linear(M.final_hidden(weights, tokens, cos, sin, config, quantised), weights["embed"])

    return logits_of


def transformers_model(folder: Path):
    """The logits function of `transformers`, in f32."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return lambda tokens: model(tokens, use_cache=False).logits


def load_export(folder: Path) -> tuple[dict, M.Config]:
    """Masters (f32 copies of the stored bf16) and sizes of an exported folder."""
    from safetensors.torch import load_file

    settings = json.loads((folder / "config.json").read_text())
    config = M.Config(
        vocab=settings["vocab_size"],
        hidden=settings["hidden_size"],
        ffn=settings["intermediate_size"],
        layers=settings["num_hidden_layers"],
        heads=settings["num_attention_heads"],
        kv_heads=settings["num_key_value_heads"],
        context=settings["max_position_embeddings"],
        rope_theta=settings["rope_theta"],
        eps=settings["rms_norm_eps"],
    )
    return {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}, config


def main() -> None:
    from tokenizers import Tokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder written by export.py")
    parser.add_argument("--text", type=Path, required=True, help="held-out text")
    parser.add_argument("--windows", type=int, help="only the first so many windows (default: all of the text)")
    parser.add_argument("--length", type=int, default=512, help="tokens per window (default 512)")
    parser.add_argument("--transformers", action="store_true", help="use BitNetForCausalLM of transformers instead of our own code")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ids, sizes = encode_verbatim(Tokenizer.from_file(str(args.model / "tokenizer.json")), args.text.read_text("utf-8"))
    if args.windows:
        ids, sizes = ids[: args.windows * args.length], sizes[: args.windows * args.length]
    logits_of = transformers_model(args.model) if args.transformers else own_model(*load_export(args.model))
    print(score(logits_of, ids, sizes, args.length, progress=True))


if __name__ == "__main__":
    main()
