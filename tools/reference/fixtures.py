#!/usr/bin/env python3
"""Writes the small random checkpoints and reference logits that the Rust tests compare with.

Each fixture is a Hugging Face folder with, beside it,

    tokens.json       the input: a JSON array of token ids
    logits.bin        logits of transformers in f32 at every position: f32 little-endian, tokens × vocab
    logits_int8.bin   llama-trilm only: the same with int8 activations (see README.md)

Int8 rounding is discontinuous: two correct engines whose x * s straddle a half round it differently, and one such flip
moves a logit by far more than any float error. So the tokens are chosen, one after another, so that in float64 no
input of a linear layer comes near a tie and no position has two near-equal best logits. A correct f32 engine then has
no excuse.
"""

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import bitnet_numpy
import reference
from tokenizer import write_tokenizer, VOCAB

TOKENS = 28
# An f32 engine's x * s differs from the exact one by up to 1.5e-4 here (`check` prints it).
TIE_DISTANCE = 4e-4
# Distance of the best logit from the second, relative to the largest |logit|.
TOP1_MARGIN = 2e-2
# Deviation of the embedding's elements: small beside what the layers add, or the model would merely repeat its input, and
# so small beside the norm's ε of 1e-5 that a wrong ε shows.
EMBEDDING = 0.01
# Distance of W * s from a rounding tie, so that the trits of master weights do not hang on the last bit of the mean.
WEIGHT_TIE = 1e-4

BITNET = {"architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_act": "relu2", "rms_norm_eps": 1e-05}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu"}
AUTO = {"quant_method": "bitnet", "linear_class": "autobitlinear"}


@dataclass
class Fixture:
    """A checkpoint to make: its config.json, how the linear layers are stored, and the type of the other tensors."""

    name: str
    seed: int
    storage: str  # "master": float weights; "multiply", "divide": packed with a scale; "ternary": floats {-s, 0, +s}
    dtype: torch.dtype
    config: dict


def shape(hidden, ffn, heads, kv_heads, layers=2):
    """The part of config.json that gives the shapes."""
    return {
        "vocab_size": VOCAB, "hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "max_position_embeddings": 64,
        "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip


FIXTURES = [
    Fixture("bitnet-2b4t-online", 1, "master", torch.bfloat16, {
        **BITNET, **shape(128, 256, 4, 1, layers=1), "rope_theta": 500000.0, "tie_word_embeddings": True,
        "torch_dtype": "bfloat16", "quantization_config": AUTO | {"quantization_mode": "online"},
    }),
    # All widths are multiples of 256, so that this one can also be written with ggml's TQ1_0 and TQ2_0.
    Fixture("bitnet-2b4t-offline", 2, "multiply", torch.bfloat16, {
        **BITNET, **shape(256, 512, 8, 2), "rope_theta": 500000.0, "tie_word_embeddings": True,
        "torch_dtype": "bfloat16", "quantization_config": AUTO | {"quantization_mode": "offline"},
    }),
    # As published: model_type says llama, and only `architectures` tells it from one. 192 is a multiple of 64 but not of
    # 128, like the 8640 of the 3B model.
    Fixture("bitnet-1bitllm", 3, "master", torch.float16, {
        "architectures": ["BitnetForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-05,
        **shape(64, 192, 4, 4), "rope_theta": 10000.0, "rope_scaling": None, "attention_bias": False,
        "tie_word_embeddings": True, "torch_dtype": "float16", "weight_bits": 1, "input_bits": 8,
    }),
    Fixture("llama-bitlinear-divide", 4, "divide", torch.bfloat16, {
        **LLAMA, **shape(128, 256, 4, 2), "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "rope_scaling": None,
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": "bitnet"},
    }),
    # As transformers 5 writes it: `dtype` and `rope_parameters`. The heads are together twice as wide as the model.
    Fixture("llama-autobitlinear-offline", 5, "multiply", torch.bfloat16, {
        **LLAMA, **shape(128, 384, 4, 2), "head_dim": 64, "rms_norm_eps": 1e-06,
        "rope_parameters": {"rope_theta": 1000042.0, "rope_type": "default"}, "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": False, "dtype": "bfloat16",
        "quantization_config": AUTO | {"quantization_mode": "offline", "modules_to_not_convert": None},
    }),
    Fixture("llama-trilm", 6, "ternary", torch.float16, {
        **LLAMA, **shape(64, 128, 4, 4, layers=1), "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
        "tie_word_embeddings": False, "torch_dtype": "float16",
    }),
]  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- weights


def random_tensors(fixture, rng):
    """Tensors of a checkpoint by name. Every norm weight and every scale is different, so that mixing any two shows."""
    config, one_bit_llm = fixture.config, fixture.config["architectures"] == ["BitnetForCausalLM"]
    hidden, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    heads, kv_heads = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    sub_norms = "LlamaForCausalLM" not in config["architectures"]
    tensors = {}

    def norm(name, width):
        tensors[f"{name}.weight"] = torch.from_numpy(rng.uniform(0.5, 1.5, width)).to(fixture.dtype)

    def linear(name, rows, cols, gain=1.0):
        # With two thirds of the trits non-zero, unit inputs give outputs of about `gain`.
        scale = gain * rng.uniform(0.8, 1.25) * (2 / 3 * cols) ** -0.5
        for suffix, tensor in linear_tensors(fixture, rng, rows, cols, scale).items():
            tensors[f"{name}.{suffix}"] = tensor

    def table(name):
        values = rng.normal(0, EMBEDDING, (vocab, hidden))
        values[np.abs(values) < 2**-14] = 0  # would not be exact in F16, which GGUF files have for bf16
        tensors[f"{name}.weight"] = torch.from_numpy(values).to(fixture.dtype)

    table("model.embed_tokens")
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        norm(f"{layer}.input_layernorm", hidden)
        norm(f"{layer}.post_attention_layernorm", hidden)
        linear(f"{layer}.self_attn.q_proj", heads, hidden, 1.5)
        linear(f"{layer}.self_attn.k_proj", kv_heads, hidden, 1.5)
        linear(f"{layer}.self_attn.v_proj", kv_heads, hidden)
        linear(f"{layer}.self_attn.o_proj", hidden, heads)
        linear(f"{layer}.mlp.gate_proj", ffn, hidden)
        linear(f"{layer}.mlp.up_proj", ffn, hidden)
        linear(f"{layer}.mlp.down_proj", hidden, ffn)
        if sub_norms:
            norm(f"{layer}.self_attn.{'inner_attn_ln' if one_bit_llm else 'attn_sub_norm'}", hidden)
            norm(f"{layer}.mlp.{'ffn_layernorm' if one_bit_llm else 'ffn_sub_norm'}", ffn)
    norm("model.norm", hidden)
    if not config["tie_word_embeddings"]:
        table("lm_head")
    return tensors


def linear_tensors(fixture, rng, rows, cols, scale):
    """`weight` and, where the storage has one, `weight_scale` of a linear layer whose weights are about ±`scale`."""
    if fixture.storage == "master":
        while True:  # a normal variable's mean magnitude is sqrt(2/π) of its deviation
            weight = torch.from_numpy(rng.normal(0, scale * (np.pi / 2) ** 0.5, (rows, cols))).to(fixture.dtype)
            magnitude = np.abs(weight.to(torch.float64).numpy())
            if np.abs(magnitude / magnitude.mean() - 0.5).min() > WEIGHT_TIE:  # 16-bit floats leave such gaps
                return {"weight": weight}
    trits = rng.choice([-1, 0, 1], (rows, cols), p=[0.32, 0.35, 0.33])
    if fixture.storage == "ternary":
        return {"weight": torch.from_numpy(trits * scale).to(fixture.dtype)}
    # Four quarters of the rows share the bytes, the first in the lowest bits.
    quarters = (trits + 1).reshape(4, rows // 4, cols)
    packed = sum(quarters[i] << (2 * i) for i in range(4)).astype(np.uint8)
    scale = 1 / scale if fixture.storage == "divide" else scale
    return {"weight": torch.from_numpy(packed), "weight_scale": torch.tensor([scale], dtype=fixture.dtype)}


# --------------------------------------------------------------------------------------------------------------- tokens


def choose_tokens(models, rng):
    """A sequence whose every position keeps TIE_DISTANCE and TOP1_MARGIN in each of the (float64) models."""
    tokens, caches = [], [[] for _ in models]
    while len(tokens) < TOKENS:
        for token in rng.permutation(VOCAB):
            trials = [list(cache) for cache in caches]
            if all(keeps_distance(model, token, trial) for model, trial in zip(models, trials)):
                tokens.append(int(token))
                caches = trials
                break
        else:
            raise SystemExit(f"no token keeps the distances at position {len(tokens)}: try another seed")
    return tokens


def keeps_distance(model, token, cache):
    """Whether `token`, after those in `cache`, is rounded and predicted with room to spare, and does not predict itself."""
    row = model.forward([token], cache)[0]
    second, best = np.sort(row)[-2:]
    return tie_distance(model) > TIE_DISTANCE and best - second > TOP1_MARGIN * np.abs(row).max() and row.argmax() != token


def tie_distance(model):
    """How far the nearest x * s of the model's last call lies from half-way between two integers, in [0, 0.5]."""
    return min(np.abs(np.abs(scaled - np.floor(scaled)) - 0.5).min() for scaled in model.scaled)


# -------------------------------------------------------------------------------------------------------------- fixture


def make(fixture, target):
    """Writes one fixture and returns what was measured."""
    folder = target / fixture.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(fixture.config, indent=2) + "\n")
    write_tokenizer(folder)

    rng = np.random.Generator(np.random.PCG64(fixture.seed))
    save_file(random_tensors(fixture, rng), folder / "model.safetensors", metadata={"format": "pt"})
    # None: activations as the checkpoint's family has them.
    variants = {"logits.bin": None} | ({"logits_int8.bin": True} if fixture.storage == "ternary" else {})
    tokens = choose_tokens([bitnet_numpy.Model(folder, int8=int8) for int8 in variants.values()], rng)
    (folder / "tokens.json").write_text(json.dumps(tokens) + "\n")
    for file, int8 in variants.items():
        logits = reference.logits(reference.load(folder, bool(int8)), tokens)
        logits.astype("<f4").tofile(folder / file)
        check(f"{fixture.name}/{file}", logits, folder, tokens, int8)
    check_sensitive(folder, tokens)
    if "llama" in fixture.name:
        check_interleaved(folder, tokens)


def check(name, logits, folder, tokens, int8):
    """Prints, and bounds, how far transformers' logits lie from the NumPy program's in f64 and in f32."""
    largest = np.abs(logits).max()
    rows = np.sort(logits, -1)
    margin = ((rows[:, -1] - rows[:, -2]) / np.abs(logits).max(-1)).min()
    models = [bitnet_numpy.Model(folder, dtype, int8) for dtype in (np.float64, np.float32)]
    outputs = [model.forward(tokens) for model in models]
    f64, f32 = (np.abs(output - logits).max() / largest for output in outputs)
    assert max(f64, f32) < 1e-4, f"{name}: transformers and numpy differ by {f64} in f64, {f32} in f32"
    assert all((output.argmax(-1) == logits.argmax(-1)).all() for output in outputs), f"{name}: argmax differs"
    scaled = max(np.abs(exact - rounded).max() for exact, rounded in zip(*(model.scaled for model in models)))
    print(
        f"{name:38} max|logit| {largest:5.2f}  top-1 margin {margin:.3f}  distinct argmax {len(set(logits.argmax(-1)))}  "
        f"|Δ|/max: numpy f64 {f64:.1e}, f32 {f32:.1e}  x·s: tie {tie_distance(models[0]):.1e}, f32 error {scaled:.1e}"
    )


def check_sensitive(folder, tokens):
    """Prints, and bounds, how far the usual mistakes move the logits: a test with tolerance 1e-3 must see each of them."""

    def mistaken(**changes):
        model = bitnet_numpy.Model(folder)
        for name, value in changes.items():
            setattr(model, name, value)
        return model

    model = mistaken()
    exact = model.forward(tokens)
    other_act = bitnet_numpy.silu if model.act is bitnet_numpy.squared_relu else bitnet_numpy.squared_relu
    models = {
        "activation": mistaken(act=other_act),
        "rope theta": mistaken(theta=1e4 if model.theta > 1e4 else 5e5),
        "rope pairs": mistaken(interleaved=True),
        "norm eps": mistaken(eps=1e-6 if model.eps == 1e-5 else 1e-5),
        "int8": bitnet_numpy.Model(folder, int8=not model.layers[0]["q"].int8),
        "head scale": mistaken(norm=np.ones_like(model.norm)),
    }
    for name in ("attn_norm", "ffn_norm", "attn_sub_norm", "ffn_sub_norm"):
        if model.layers[0][name] is not None:
            models[name] = mistaken(layers=[layer | {name: np.ones_like(layer[name])} for layer in model.layers])
    # A sub-norm removes the scale of v, and of gate and up together.
    for name in ("q", "k", "o", "down") + (() if "attn_sub_norm" in models else ("v", "gate", "up")):
        models[f"{name} scale"] = mistaken()
        for layer in models[f"{name} scale"].layers:
            layer[name].scale = 1 / layer[name].scale
    moved = {name: np.abs(other.forward(tokens) - exact).max() / np.abs(exact).max() for name, other in models.items()}
    print("    moved by " + ", ".join(f"{name} {distance:.2f}" for name, distance in moved.items()))
    assert min(moved.values()) > 5e-3, f"{folder.name}: a mistake would go unseen"


def check_interleaved(folder, tokens):
    """RoPE on pairs (2i, 2i + 1) of a model whose q and k rows are permuted per head gives the same logits."""
    halves, interleaved = (bitnet_numpy.Model(folder, interleaved=x) for x in (False, True))
    for layer in interleaved.layers:
        for name in "qk":
            rows, cols = layer[name].trits.shape
            heads = rows // interleaved.head_dim
            grouped = layer[name].trits.reshape(heads, 2, interleaved.head_dim // 2, cols)
            layer[name].trits = grouped.swapaxes(1, 2).reshape(rows, cols)
    difference = np.abs(halves.forward(tokens) - interleaved.forward(tokens)).max()
    assert difference < 1e-9, f"{folder.name}: the two RoPE layouts differ by {difference}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "crates/tritwise/tests/fixtures"
    parser.add_argument("--out", type=Path, default=default, help="folder to write to (default: %(default)s)")
    parser.add_argument("--only", help="make this fixture alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for fixture in FIXTURES:
        if args.only in (None, fixture.name):
            make(fixture, args.out)


if __name__ == "__main__":
    main()
