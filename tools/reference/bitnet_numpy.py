#!/usr/bin/env python3
"""BitNet b1.58 and its relatives in NumPy: the executable version of docs/model.md.

Reads a Hugging Face folder (config.json, model.safetensors) and computes the logits of a list of tokens, in float64 by
default. Nothing here is fast and nothing is clever; each function is one formula. It shares no code with transformers
or with the Rust crates, so that two implementations that agree with it agree for a reason.

One block, for a row x of the residual stream:

    n = rms_norm(x, attn_norm)
    q, k, v = bit_linear(n, Wq), bit_linear(n, Wk), bit_linear(n, Wv)
    a = attention(rope(q), rope(k), v)          causal, query head h reads key/value head h // (heads // kv_heads)
    a = rms_norm(a, attn_sub_norm)              BitNet only
    x = x + bit_linear(a, Wo)
    n = rms_norm(x, ffn_norm)
    h = act(bit_linear(n, Wgate)) * bit_linear(n, Wup)
    h = rms_norm(h, ffn_sub_norm)               BitNet only
    x = x + bit_linear(h, Wdown)

and at the end logits = rms_norm(x, output_norm) @ head.T, where the head is dense and its input is not quantised.
"""

import argparse
import json
import struct
from pathlib import Path

import numpy as np

# ---------------------------------------------------------------------------------------------------------------- files


def read_safetensors(path):
    """{name: array} of a safetensors file: u64 length, JSON header, data. bf16 is widened to f32, the rest kept."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    types = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1"}
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        array = np.frombuffer(data[8 + length + begin : 8 + length + end], types[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            array = (array.astype("<u4") << 16).view("<f4")
        tensors[name] = array
    return tensors


def unpack(packed):
    """Trits of a packed uint8 [rows/4, cols] matrix. Bits 2i and 2i+1 of a byte belong to the i-th quarter of the rows."""
    codes = [(packed >> (2 * i)) & 3 for i in range(4)]
    return np.concatenate(codes).astype(np.float64) - 1


# ------------------------------------------------------------------------------------------------------------- formulas


def absmean(weights):
    """Trits and scale of float weights: m = mean|W|, T = clamp(round(W / m), -1, 1); W is approximated by m * T.

    The product with the reciprocal is in f32, like the reference's, because the rounding that follows is discontinuous.
    """
    reciprocal = np.float32(1) / np.float32(max(np.mean(np.abs(weights), dtype=np.float64), 1e-5))
    trits = np.clip(np.rint(weights.astype(np.float32) * reciprocal), -1, 1)
    return trits.astype(np.float64), 1 / np.float64(reciprocal)


def quantize(x):
    """int8 codes and their reciprocal scale, per row: s = 127 / max|x|, q = round_half_even(x * s); x is about q / s."""
    scale = 127 / np.maximum(np.abs(x).max(-1, keepdims=True), 1e-5)
    return np.clip(np.rint(x * scale), -128, 127), scale


def rms_norm(x, weight, eps):
    """x / sqrt(mean(x²) + eps) * weight, per row."""
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * weight


def rope(x, positions, theta, interleaved=False):
    """Rotates x [tokens, heads, d]: pair i turns by position * theta^(-2i/d). A pair is (i, i + d/2), or (2i, 2i + 1)."""
    d = x.shape[-1]
    # The reference computes the angle in f32, and so must everyone who wants its logits at large positions.
    frequency = (1 / np.float32(theta) ** (np.arange(0, d, 2, dtype=np.float32) / np.float32(d))).astype(np.float32)
    angle = (positions[:, None, None].astype(np.float32) * frequency).astype(x.dtype)
    cos, sin = np.cos(angle), np.sin(angle)
    first, second = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., : d // 2], x[..., d // 2 :])
    turned = first * cos - second * sin, second * cos + first * sin
    if interleaved:
        return np.stack(turned, -1).reshape(x.shape)
    return np.concatenate(turned, -1)


def attention(q, k, v, start):
    """softmax(q kᵀ / sqrt(d)) v, causal; q [new, heads, d] at positions start.., k and v [seen, kv_heads, d]."""
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1]).astype(q.dtype)
    future = np.arange(k.shape[0])[None, :] > start + np.arange(q.shape[0])[:, None]
    scores = np.where(future, -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", weights, v).reshape(q.shape[0], -1)


def silu(x):
    return x / (1 + np.exp(-x))


def squared_relu(x):
    return np.maximum(x, 0) ** 2


# ---------------------------------------------------------------------------------------------------------------- model


class Linear:
    """A ternary linear layer: trits [rows, cols] and one multiplier. W = scale * trits."""

    def __init__(self, tensors, name, config, dtype, int8):
        weight = tensors.pop(f"{name}.weight")
        quantization = config.get("quantization_config")
        if weight.dtype == np.uint8:
            trits, scale = unpack(weight), np.float64(tensors.pop(f"{name}.weight_scale").item())
            if quantization.get("linear_class", "bitlinear") == "bitlinear":
                scale = 1 / scale  # this class stores 1 / mean|W| and divides by it
        elif quantization or config["architectures"] == ["BitnetForCausalLM"]:
            trits, scale = absmean(weight)
        else:
            scale = np.abs(weight).max().astype(np.float64)
            trits = weight.astype(np.float64) / scale
            assert np.isin(trits, (-1, 0, 1)).all(), f"{name}: not ternary with one scale"
        self.trits, self.scale, self.int8 = trits.astype(dtype), dtype(scale), int8

    def __call__(self, x):
        if not self.int8:
            return (x @ self.trits.T) * self.scale
        codes, scale = quantize(x)
        return (codes @ self.trits.T) * (self.scale / scale)


class Model:
    """A checkpoint folder, ready to run.

    dtype        arithmetic type of everything but the ternary decisions
    int8         whether linear layers quantise their input; by default as the checkpoint's family does
    interleaved  RoPE pairs (2i, 2i + 1), for q and k rows permuted the way GGUF files of architecture llama have them
    """

    def __init__(self, folder, dtype=np.float64, int8=None, interleaved=False):
        config = json.loads((Path(folder) / "config.json").read_text())
        tensors = read_safetensors(Path(folder) / "model.safetensors")
        bitnet = config["architectures"][0] in ("BitNetForCausalLM", "BitnetForCausalLM")
        if int8 is None:
            int8 = bitnet or "quantization_config" in config
        self.dtype, self.interleaved, self.config = dtype, interleaved, config
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.head_dim = config.get("head_dim") or config["hidden_size"] // self.heads
        self.eps = config["rms_norm_eps"]
        self.theta = config["rope_theta"] if "rope_theta" in config else config["rope_parameters"]["rope_theta"]
        self.act = {"silu": silu, "relu2": squared_relu}[config["hidden_act"]]

        def vector(name):
            return tensors.pop(f"{name}.weight").astype(dtype)

        def linear(name):
            return Linear(tensors, name, config, dtype, int8)

        self.embedding = vector("model.embed_tokens")
        self.layers = []
        for i in range(config["num_hidden_layers"]):
            attn, mlp = f"model.layers.{i}.self_attn", f"model.layers.{i}.mlp"
            published = config["architectures"] == ["BitnetForCausalLM"]  # 1bitLLM's names
            self.layers.append({
                "attn_norm": vector(f"model.layers.{i}.input_layernorm"),
                "ffn_norm": vector(f"model.layers.{i}.post_attention_layernorm"),
                "attn_sub_norm": vector(f"{attn}.{'inner_attn_ln' if published else 'attn_sub_norm'}") if bitnet else None,
                "ffn_sub_norm": vector(f"{mlp}.{'ffn_layernorm' if published else 'ffn_sub_norm'}") if bitnet else None,
                **{x: linear(f"{attn}.{x}_proj") for x in "qkvo"},
                **{x: linear(f"{mlp}.{x}_proj") for x in ("gate", "up", "down")},
            })
        self.norm = vector("model.norm")
        self.head = self.embedding if config["tie_word_embeddings"] else vector("lm_head")
        assert not tensors, f"tensors that nothing read: {sorted(tensors)}"

    def forward(self, tokens, cache=None):
        """Logits [tokens, vocab]. With a cache (a list that starts empty) the tokens continue the earlier calls'.

        Leaves in `self.scaled` the x * s of every linear layer's input in this call, before they are rounded.
        """
        cache = [] if cache is None else cache
        if not cache:
            empty = np.zeros((0, self.kv_heads, self.head_dim), self.dtype)
            cache.extend((empty, empty) for _ in self.layers)
        self.scaled = []
        start = len(cache[0][0])
        positions = np.arange(start, start + len(tokens))
        x = self.embedding[np.asarray(tokens)]
        for i, layer in enumerate(self.layers):
            n = self.record(rms_norm(x, layer["attn_norm"], self.eps))
            q, k, v = (layer[name](n).reshape(len(tokens), -1, self.head_dim) for name in "qkv")
            q, k = (rope(y, positions, self.theta, self.interleaved) for y in (q, k))
            cache[i] = tuple(np.concatenate(pair) for pair in zip(cache[i], (k, v)))
            a = attention(q, *cache[i], start)
            if layer["attn_sub_norm"] is not None:
                a = rms_norm(a, layer["attn_sub_norm"], self.eps)
            x = x + layer["o"](self.record(a))
            n = self.record(rms_norm(x, layer["ffn_norm"], self.eps))
            h = self.act(layer["gate"](n)) * layer["up"](n)
            if layer["ffn_sub_norm"] is not None:
                h = rms_norm(h, layer["ffn_sub_norm"], self.eps)
            x = x + layer["down"](self.record(h))
        return rms_norm(x, self.norm, self.eps) @ self.head.T

    def record(self, x):
        self.scaled.append(x * quantize(x)[1])
        return x


def main():
    parser = argparse.ArgumentParser(description="Logits of a checkpoint folder, in float64.")
    parser.add_argument("folder", help="config.json and model.safetensors")
    parser.add_argument("tokens", nargs="*", type=int, help="token ids (default: tokens.json in the folder)")
    parser.add_argument("--float32", action="store_true", help="compute in float32")
    parser.add_argument("--out", help="write the logits there, f32 little-endian, tokens × vocab")
    args = parser.parse_args()
    tokens = args.tokens or json.loads((Path(args.folder) / "tokens.json").read_text())
    logits = Model(args.folder, np.float32 if args.float32 else np.float64).forward(tokens)
    for token, row in zip(tokens, logits):
        print(token, "->", row.argmax(), row.max())
    if args.out:
        logits.astype("<f4").tofile(args.out)


if __name__ == "__main__":
    main()
