"""The random tensors of the fixtures: linear layers in every form that families store them in, and all norms.

Every norm weight and every scale is different, so that mixing any two up shows in the logits.
"""

import numpy as np
import torch

# Deviation of the embedding's elements where they enter the model: small beside what the layers add, or the model would
# merely repeat its input, and so small beside the norm's ε of 1e-5 that a wrong ε shows.
EMBEDDING = 0.01
# Distance of W * s from a rounding tie, so that the trits of master weights do not hang on the last bit of the mean.
WEIGHT_TIE = 1e-4
# Columns that share a scale in "binary" and "ternary-128".
GROUP = 128


def random_tensors(fixture, rng):
    """Tensors of a checkpoint by name."""
    config, dtype = fixture.config, fixture.dtype
    architecture = config["architectures"][0]
    one_bit_llm, gemma = architecture == "BitnetForCausalLM", architecture.startswith("Gemma3")
    hidden, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    heads, kv_heads = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    prefix = "" if architecture.endswith("Model") else "model."
    # Embedding models normalise every input twice. Only these small outputs, which q_norm and k_norm restore, show their ε.
    sharp = 0.02 if fixture.input_norms == "norm" else 1.5
    tensors = {}

    def put(name, values):
        tensors[f"{name}.weight"] = torch.from_numpy(values).to(dtype)

    def norm(name, width):
        put(name, distance_from_one(-128, 128, width) if gemma else rng.uniform(0.5, 1.5, width))

    def head_norm(name):
        # Larger than the others, or attention would be so even that it hardly matters which keys it sees.
        put(name, distance_from_one(0, 256, head_dim) if gemma else rng.uniform(1, 2.5, head_dim))

    def distance_from_one(low, high, width):
        # As Gemma3 stores norms; in steps of 1/256, so that 1 + w is exact in F16 as well.
        return rng.integers(low, high, width) / 256

    def linear(name, rows, cols, gain=1.0):
        # With two thirds of the trits non-zero, unit inputs give outputs of about `gain`.
        scale = gain * rng.uniform(0.8, 1.25) * (2 / 3 * cols) ** -0.5
        by_columns = name.endswith(("o_proj", "down_proj"))
        for suffix, tensor in linear_tensors(fixture, rng, rows, cols, scale, by_columns).items():
            tensors[f"{name}.{suffix}"] = tensor
        if fixture.input_norms:
            put(f"{name}.{fixture.input_norms}", rng.uniform(0.5, 1.5, cols))

    def table(name):
        if fixture.storage in ("binary", "ternary-128"):
            put(name, grouped(fixture, rng, vocab, hidden, EMBEDDING))
            return
        values = rng.normal(0, EMBEDDING / hidden**0.5 if gemma else EMBEDDING, (vocab, hidden))
        values[np.abs(values) < 2**-14] = 0  # would not be exact in F16, which GGUF files have for bf16
        put(name, values)

    table(f"{prefix}embed_tokens")
    for i in range(config["num_hidden_layers"]):
        layer = f"{prefix}layers.{i}"
        norm(f"{layer}.input_layernorm", hidden)
        norm(f"{layer}.post_attention_layernorm", hidden)
        linear(f"{layer}.self_attn.q_proj", heads, hidden, sharp)
        linear(f"{layer}.self_attn.k_proj", kv_heads, hidden, sharp)
        linear(f"{layer}.self_attn.v_proj", kv_heads, hidden)
        linear(f"{layer}.self_attn.o_proj", hidden, heads)
        linear(f"{layer}.mlp.gate_proj", ffn, hidden)
        linear(f"{layer}.mlp.up_proj", ffn, hidden)
        linear(f"{layer}.mlp.down_proj", hidden, ffn)
        if one_bit_llm or architecture == "BitNetForCausalLM":
            norm(f"{layer}.self_attn.{'inner_attn_ln' if one_bit_llm else 'attn_sub_norm'}", hidden)
            norm(f"{layer}.mlp.{'ffn_layernorm' if one_bit_llm else 'ffn_sub_norm'}", ffn)
        if gemma or architecture.startswith("Qwen3"):
            head_norm(f"{layer}.self_attn.q_norm")
            head_norm(f"{layer}.self_attn.k_norm")
        if gemma:
            norm(f"{layer}.pre_feedforward_layernorm", hidden)
            norm(f"{layer}.post_feedforward_layernorm", hidden)
    norm(f"{prefix}norm", hidden)
    if not config["tie_word_embeddings"]:
        table("lm_head")
    return tensors


def linear_tensors(fixture, rng, rows, cols, scale, by_columns):
    """`weight` and, where the storage has one, `weight_scale` of a linear layer whose weights are about ±`scale`."""
    if fixture.storage == "master":
        while True:  # a normal variable's mean magnitude is sqrt(2/π) of its deviation
            weight = torch.from_numpy(rng.normal(0, scale * (np.pi / 2) ** 0.5, (rows, cols))).to(fixture.dtype)
            magnitude = np.abs(weight.to(torch.float64).numpy())
            if np.abs(magnitude / magnitude.mean() - 0.5).min() > WEIGHT_TIE:  # 16-bit floats leave such gaps
                return {"weight": weight}
    if fixture.storage in ("binary", "ternary-128"):
        return {"weight": torch.from_numpy(grouped(fixture, rng, rows, cols, scale)).to(fixture.dtype)}
    trits = rng.choice([-1, 0, 1], (rows, cols), p=[0.32, 0.35, 0.33])
    if fixture.storage == "shards":
        scale = scale * shards(rng, rows, cols, by_columns)
    if fixture.storage in ("ternary", "shards"):
        return {"weight": torch.from_numpy(trits * scale).to(fixture.dtype)}
    # Four quarters of the rows share the bytes, the first in the lowest bits.
    quarters = (trits + 1).reshape(4, rows // 4, cols)
    packed = sum(quarters[i] << (2 * i) for i in range(4)).astype(np.uint8)
    scale = 1 / scale if fixture.storage == "divide" else scale
    return {"weight": torch.from_numpy(packed), "weight_scale": torch.tensor([scale], dtype=fixture.dtype)}


def grouped(fixture, rng, rows, cols, scale):
    """Weights ±d, or 0 as well, where every GROUP columns of a row have a d of their own."""
    scales = scale * rng.uniform(0.5, 1.5, (rows, cols // GROUP))
    choices = {"binary": [-1, 1], "ternary-128": [-1, 0, 1]}[fixture.storage]
    return rng.choice(choices, (rows, cols)) * np.repeat(scales, GROUP, 1)


def shards(rng, rows, cols, by_columns):
    """Factors [rows, cols] of a matrix that was cut among two or three devices, each with a scale of its own."""
    length = cols if by_columns else rows
    count = 3 if length % 3 == 0 else 2
    factors = np.repeat(rng.permutation([0.6, 1.0, 1.5])[:count], length // count)
    return factors[None, :] if by_columns else factors[:, None]
