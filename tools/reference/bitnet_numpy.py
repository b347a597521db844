#!/usr/bin/env python3
"""BitNet b1.58 and its relatives in NumPy: the executable version of docs/model.md.

Reads a Hugging Face folder (config.json, model.safetensors) and computes the logits of a list of tokens, in float64 by
default. Nothing here is fast and nothing is clever; each function is one formula. It shares no code with transformers
or with the Rust crates, so that two implementations that agree with it agree for a reason.

One block, for a row x of the residual stream. A norm that the family does not have is left out:

    n = rms_norm(x, attn_norm)
    q, k, v = linear(n, Wq), linear(n, Wk), linear(n, Wv)
    q, k = rms_norm(q, q_norm), rms_norm(k, k_norm)    per head: Qwen3, Gemma3
    a = attention(rope(q), rope(k), v)                 causal, query head h reads key/value head h // (heads // kv_heads)
    a = rms_norm(a, attn_sub_norm)                     BitNet
    x = x + rms_norm(linear(a, Wo), post_attn_norm)    Gemma3
    n = rms_norm(x, ffn_norm)
    h = act(linear(n, Wgate)) * linear(n, Wup)
    h = rms_norm(h, ffn_sub_norm)                      BitNet
    x = x + rms_norm(linear(h, Wdown), post_ffn_norm)  Gemma3

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


def rope_parameters(config, layer_type):
    """What config.json says of the RoPE of such layers: `rope_parameters` of transformers 5, or the keys before it."""
    if "rope_parameters" in config:
        return config["rope_parameters"].get(layer_type, config["rope_parameters"])
    if layer_type == "sliding_attention":
        return {"rope_theta": config["rope_local_base_freq"]}
    return {"rope_theta": config["rope_theta"]} | (config.get("rope_scaling") or {})


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
    """x / sqrt(mean(x²) + eps) * weight, per row; x itself where the model has no such norm."""
    return x if weight is None else x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * weight


def frequencies(parameters, d):
    """Frequencies [d/2] of RoPE, in radians per position, and the factor of its cosine and sine.

    Plainly theta^(-2i/d). The reference computes them in f32, and so must everyone who wants its logits at large positions.
    """
    theta = parameters["rope_theta"]
    plain = (1 / np.float32(theta) ** (np.arange(0, d, 2, dtype=np.float32) / np.float32(d))).astype(np.float32)
    kind = parameters.get("rope_type", "default")
    if kind == "llama3":
        return (plain / llama3_divisors(plain, parameters)).astype(np.float32), 1.0
    if kind == "yarn":
        kept, factor = yarn_kept(parameters, d), parameters["factor"]
        return (plain * (kept + (1 - kept) / factor)).astype(np.float32), 1 + 0.1 * np.log(factor)
    assert kind == "default", f"RoPE of type {kind}"
    return plain, 1.0


def llama3_divisors(plain, parameters):
    """1 for wavelengths below L / high, `factor` beyond L / low, and between them the mean of the two frequencies."""
    factor, low, high = (parameters[name] for name in ("factor", "low_freq_factor", "high_freq_factor"))
    turns = parameters["original_max_position_embeddings"] * plain.astype(np.float64) / (2 * np.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - kept) / factor + kept)


def yarn_kept(parameters, d):
    """How much of each frequency YaRN (arXiv 2309.00071) keeps, the rest being divided by `factor`: 1 for pairs that turn
    more than beta_fast times in the original context, 0 for those that turn less than beta_slow times, a ramp between."""
    context, theta = parameters["original_max_position_embeddings"], parameters["rope_theta"]

    def pair(turns):
        return d * np.log(context / (turns * 2 * np.pi)) / (2 * np.log(theta))

    low = max(np.floor(pair(parameters.get("beta_fast", 32))), 0)
    high = min(np.ceil(pair(parameters.get("beta_slow", 1))), d - 1)
    return 1 - np.clip((np.arange(d // 2) - low) / max(high - low, 0.001), 0, 1)


def rope(x, positions, parameters, interleaved=False):
    """Rotates x [tokens, heads, d]: pair i turns by position * frequency i. A pair is (i, i + d/2), or (2i, 2i + 1)."""
    d = x.shape[-1]
    frequency, magnitude = frequencies(parameters, d)
    angle = (positions[:, None, None].astype(np.float32) * frequency).astype(x.dtype)
    cos, sin = (f(angle) * x.dtype.type(magnitude) for f in (np.cos, np.sin))
    first, second = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., : d // 2], x[..., d // 2 :])
    turned = first * cos - second * sin, second * cos + first * sin
    if interleaved:
        return np.stack(turned, -1).reshape(x.shape)
    return np.concatenate(turned, -1)


def attention(q, k, v, start, window=None):
    """softmax(q kᵀ / sqrt(d)) v, causal; q [new, heads, d] at positions start.., k and v [seen, kv_heads, d].

    With a window each position sees that many, itself included.
    """
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1]).astype(q.dtype)
    distance = start + np.arange(q.shape[0])[:, None] - np.arange(k.shape[0])[None, :]
    hidden = (distance < 0) | (distance >= (window or np.inf))
    scores = np.where(hidden, -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", weights, v).reshape(q.shape[0], -1)


def silu(x):
    return x / (1 + np.exp(-x))


def squared_relu(x):
    return np.maximum(x, 0) ** 2


def gelu_tanh(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi).astype(x.dtype) * (x + x.dtype.type(0.044715) * x**3)))


ACTIVATIONS = {"silu": silu, "relu2": squared_relu, "gelu_pytorch_tanh": gelu_tanh}


# ---------------------------------------------------------------------------------------------------------------- model


class Linear:
    """A linear layer: weights [rows, cols], in some families a norm of its input, and whether that is rounded to int8."""

    def __init__(self, weights, norm, eps, dtype, int8):
        self.weights = weights.astype(dtype)
        self.norm = norm if norm is None else norm.astype(dtype)
        self.eps, self.int8 = eps, int8

    def __call__(self, x):
        x = rms_norm(x, self.norm, self.eps)
        codes, scale = quantize(x)
        self.scaled = x * scale  # x * s, before rounding
        return (codes @ self.weights.T) / scale if self.int8 else x @ self.weights.T


LINEARS = ("q", "k", "v", "o", "gate", "up", "down")


class Model:
    """A checkpoint folder, ready to run.

    dtype        arithmetic type of everything but the ternary decisions
    int8         whether linear layers quantise their input; by default as the checkpoint's family does
    interleaved  RoPE pairs (2i, 2i + 1), for q and k rows permuted the way GGUF files of architecture llama have them
    """

    def __init__(self, folder, dtype=np.float64, int8=None, interleaved=False):
        config = json.loads((Path(folder) / "config.json").read_text())
        tensors = read_safetensors(Path(folder) / "model.safetensors")
        # An embedding model is a base model saved alone: no prefix, and no head but the embedding.
        prefix = "model." if "model.embed_tokens.weight" in tensors else ""
        bit_embedding = f"{prefix}layers.0.mlp.down_proj.norm.weight" in tensors
        architecture, quantization = config["architectures"][0], config.get("quantization_config", {})
        published = architecture == "BitnetForCausalLM"  # 1bitLLM's names
        gemma = architecture.startswith("Gemma3")
        online = published or bit_embedding or quantization
        int8 = bool(online) if int8 is None else int8
        self.dtype, self.interleaved, self.config = dtype, interleaved, config
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.head_dim = config.get("head_dim") or config["hidden_size"] // self.heads
        self.eps = config["rms_norm_eps"]
        self.act = ACTIVATIONS[config.get("hidden_act") or config["hidden_activation"]]
        self.embedding_scale = dtype(np.sqrt(config["hidden_size"]) if gemma else 1)

        def vector(name):
            return tensors.pop(f"{prefix}{name}.weight").astype(dtype)

        def norm(name):
            """A norm's weight, or None. Gemma3 stores the distance from 1."""
            found = tensors.pop(f"{prefix}{name}.weight", None)
            return found if found is None else found.astype(dtype) + (1 if gemma else 0)

        def linear(name):
            weights = tensors.pop(f"{prefix}{name}.weight")
            if weights.dtype == np.uint8:
                scale = np.float64(tensors.pop(f"{prefix}{name}.weight_scale").item())
                if quantization.get("linear_class", "bitlinear") == "bitlinear":
                    scale = 1 / scale  # this class stores 1 / mean|W| and divides by it
                weights = unpack(weights) * scale
            elif online:
                trits, scale = absmean(weights)
                weights = trits * scale
            if quantization.get("use_rms_norm"):
                inner, eps = tensors.pop(f"{prefix}{name}.rms_norm.weight"), quantization.get("rms_norm_eps", 1e-6)
            else:
                inner, eps = tensors.pop(f"{prefix}{name}.norm.weight", None), self.eps
            return Linear(weights, inner, eps, dtype, int8)

        self.embedding = vector("embed_tokens")
        self.layers = []
        for i in range(config["num_hidden_layers"]):
            layer, attn, mlp = f"layers.{i}", f"layers.{i}.self_attn", f"layers.{i}.mlp"
            layer_type = (config.get("layer_types") or {i: "full_attention"})[i]
            self.layers.append({
                "attn_norm": norm(f"{layer}.input_layernorm"),
                "q_norm": norm(f"{attn}.q_norm"),
                "k_norm": norm(f"{attn}.k_norm"),
                "attn_sub_norm": norm(f"{attn}.{'inner_attn_ln' if published else 'attn_sub_norm'}"),
                # What others call so is the norm before the feed-forward part.
                "post_attn_norm": norm(f"{layer}.post_attention_layernorm") if gemma else None,
                "ffn_norm": norm(f"{layer}.{'pre_feedforward' if gemma else 'post_attention'}_layernorm"),
                "ffn_sub_norm": norm(f"{mlp}.{'ffn_layernorm' if published else 'ffn_sub_norm'}"),
                "post_ffn_norm": norm(f"{layer}.post_feedforward_layernorm"),
                **{x: linear(f"{attn}.{x}_proj") for x in LINEARS[:4]},
                **{x: linear(f"{mlp}.{x}_proj") for x in LINEARS[4:]},
                "rope": rope_parameters(config, layer_type),
                "window": config["sliding_window"] if layer_type == "sliding_attention" else None,
            })  # fmt: skip
        self.norm = norm("norm")
        self.head = self.embedding if config["tie_word_embeddings"] else tensors.pop("lm_head.weight").astype(dtype)
        assert not tensors, f"tensors that nothing read: {sorted(tensors)}"

    def forward(self, tokens, cache=None):
        """Logits [tokens, vocab]. With a cache (a list that starts empty) the tokens continue the earlier calls'.

        Leaves in `self.hidden` the rows that the head reads.
        """
        cache = [] if cache is None else cache
        if not cache:
            empty = np.zeros((0, self.kv_heads, self.head_dim), self.dtype)
            cache.extend((empty, empty) for _ in self.layers)
        start = len(cache[0][0])
        positions = np.arange(start, start + len(tokens))
        x = self.embedding[np.asarray(tokens)] * self.embedding_scale
        for i, layer in enumerate(self.layers):
            n = rms_norm(x, layer["attn_norm"], self.eps)
            q, k, v = (layer[name](n).reshape(len(tokens), -1, self.head_dim) for name in "qkv")
            q, k = (self.place(y, layer[f"{name}_norm"], positions, layer["rope"]) for name, y in (("q", q), ("k", k)))
            cache[i] = tuple(np.concatenate(pair) for pair in zip(cache[i], (k, v)))
            a = rms_norm(attention(q, *cache[i], start, layer["window"]), layer["attn_sub_norm"], self.eps)
            x = x + rms_norm(layer["o"](a), layer["post_attn_norm"], self.eps)
            n = rms_norm(x, layer["ffn_norm"], self.eps)
            h = rms_norm(self.act(layer["gate"](n)) * layer["up"](n), layer["ffn_sub_norm"], self.eps)
            x = x + rms_norm(layer["down"](h), layer["post_ffn_norm"], self.eps)
        self.hidden = rms_norm(x, self.norm, self.eps)
        return self.hidden @ self.head.T

    def place(self, x, weight, positions, parameters):
        """Queries or keys [tokens, heads, d], normalised where the model does that, then rotated to their positions."""
        return rope(rms_norm(x, weight, self.eps), positions, parameters, self.interleaved)

    def scaled(self):
        """The x * s of every linear layer's input in the last call, before they are rounded."""
        return [layer[name].scaled for layer in self.layers for name in LINEARS]

    def embed(self, tokens):
        """The vector of a text for search: the hidden row of its last token, of length 1."""
        self.forward(tokens)
        return self.hidden[-1] / np.linalg.norm(self.hidden[-1])


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
