#!/usr/bin/env python3
"""Writes the small random checkpoints and reference logits that the Rust tests compare with.

Each fixture is a Hugging Face folder with, beside it,

    tokens.json       the input: a JSON array of token ids
    logits.bin        logits of transformers in f32 at every position: f32 little-endian, tokens × vocab
    logits_int8.bin   llama-trilm only: the same with int8 activations (see README.md)

and for the embedding models, whose logits are these rows times the embedding,

    hidden.bin        the rows after the last norm: f32 little-endian, tokens × hidden
    embeddings.json   texts, their token ids with the end token, and their vectors: the last row, of length 1

How tokens and texts are chosen: sharpness.py.
"""

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

import bitnet_numpy
import reference
from sharpness import check_interleaved, check_sensitive, choose_text, choose_tokens, tie_distance
from tokenizer import write_tokenizer, VOCAB
from weights import random_tensors

TOKENS = 28
# Tokens of the texts in embeddings.json, the end token not counted.
TEXT_LENGTHS = (1, 6, 11)

BITNET = {"architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_act": "relu2", "rms_norm_eps": 1e-05}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu"}
QWEN3 = {"model_type": "qwen3", "hidden_act": "silu", "rms_norm_eps": 1e-06, "attention_bias": False}
GEMMA3 = {
    "model_type": "gemma3_text", "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-06, "attention_bias": False,
    "attn_logit_softcapping": None, "final_logit_softcapping": None, "use_bidirectional_attention": False,
}  # fmt: skip
AUTO = {"quant_method": "bitnet", "linear_class": "autobitlinear"}


@dataclass
class Fixture:
    """A checkpoint to make: its config.json, how the linear layers are stored, and the type of the other tensors.

    storage      "master": float weights
                 "multiply", "divide": packed trits with a scale
                 "ternary": floats {-s, 0, +s}, one s per layer; "shards": one per block of its rows or columns
                 "binary", "ternary-128": floats {-d, +d} or {-d, 0, +d}, one d per 128 columns of a row; the embedding too
    input_norms  the name of a norm in each linear layer: "norm" (embedding models), "rms_norm" (transformers' own)
    """

    name: str
    seed: int
    storage: str
    dtype: torch.dtype
    config: dict
    input_norms: str | None = None


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
    # PrismML's models, unpacked. Weights only: nothing is quantised when they run.
    Fixture("qwen3-bonsai", 9, "binary", torch.float16, {
        "architectures": ["Qwen3ForCausalLM"], **QWEN3, **shape(128, 128, 8, 2, layers=1), "head_dim": 32,
        "rope_theta": 1000000.0,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        "use_sliding_window": False, "sliding_window": None, "max_window_layers": 1,
        "tie_word_embeddings": True, "torch_dtype": "float16",
    }),
    Fixture("qwen3-ternary-bonsai", 8, "ternary-128", torch.float16, {
        "architectures": ["Qwen3ForCausalLM"], **QWEN3, **shape(128, 128, 8, 2, layers=1), "head_dim": 32,
        "max_position_embeddings": 1024,
        "rope_parameters": {
            "rope_theta": 1000000.0, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256,
            "beta_fast": 8.0, "beta_slow": 2.0,
        },
        "layer_types": ["full_attention"], "use_sliding_window": False, "sliding_window": None,
        "tie_word_embeddings": False, "dtype": "float16",
    }),
    # Microsoft's BitNet-embedding 0.6B and 270M. Widths are half of what one I2_S block holds, to keep the files small.
    Fixture("qwen3-embedding", 10, "master", torch.bfloat16, {
        "architectures": ["Qwen3Model"], **QWEN3, **shape(64, 128, 4, 2, layers=1), "head_dim": 32,
        "rope_theta": 1000000.0, "rope_scaling": None,
        "use_sliding_window": False, "sliding_window": None, "max_window_layers": 1,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    }, input_norms="norm"),
    Fixture("gemma3-embedding", 10, "master", torch.bfloat16, {
        "architectures": ["Gemma3TextModel"], **GEMMA3, **shape(64, 128, 4, 1), "head_dim": 32, "query_pre_attn_scalar": 32,
        "rope_parameters": {
            "full_attention": {"rope_theta": 1000000.0, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
        },
        "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8,
        "tie_word_embeddings": True, "dtype": "bfloat16",
    }, input_norms="norm"),
    # What a GGUF file of it can say: no window, one base. The tensors have the prefix of a language model.
    Fixture("gemma3-embedding-full", 10, "master", torch.bfloat16, {
        "architectures": ["Gemma3ForCausalLM"], **GEMMA3, **shape(64, 128, 4, 1, layers=1), "head_dim": 32,
        "query_pre_attn_scalar": 32, "rope_theta": 10000.0, "rope_local_base_freq": 10000.0, "rope_scaling": None,
        "layer_types": ["full_attention"], "sliding_window": 512,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    }, input_norms="norm"),
    # transformers' own norm in each linear layer. Its ε comes from quantization_config, and is large so that it shows.
    Fixture("llama-rms-norm", 13, "divide", torch.bfloat16, {
        **LLAMA, **shape(128, 256, 4, 2, layers=1), "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "rope_scaling": None,
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "quantization_config": {
            "quant_method": "bitnet", "linear_class": "bitlinear", "quantization_mode": "offline",
            "use_rms_norm": True, "rms_norm_eps": 0.01, "modules_to_not_convert": None,
        },
    }, input_norms="rms_norm"),
    # Of the 16 frequencies the first is kept, the next two lie between, the others are divided by 8.
    Fixture("llama3-rope", 14, "divide", torch.bfloat16, {
        **LLAMA, **shape(128, 256, 4, 2), "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
        "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
        "max_position_embeddings": 256, "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "quantization_config": {"quant_method": "bitnet"},
    }),
    # TriLM as trained on several devices: q, k, v, gate and up have a scale per block of rows, o and down per block of
    # columns; two of 32 in attention, three of 64 in the feed-forward part.
    Fixture("llama-trilm-shards", 15, "shards", torch.float16, {
        **LLAMA, **shape(64, 192, 4, 4, layers=1), "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
        "tie_word_embeddings": False, "torch_dtype": "float16",
    }),
]  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- fixture


def make(fixture, target):
    """Writes one fixture and prints what was measured."""
    folder = target / fixture.name
    embedding = fixture.input_norms == "norm"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(fixture.config, indent=2) + "\n")
    write_tokenizer(folder, append_end=embedding)

    rng = np.random.Generator(np.random.PCG64(fixture.seed))
    save_file(random_tensors(fixture, rng), folder / "model.safetensors", metadata={"format": "pt"})
    # None: activations as the checkpoint's family has them.
    variants = {"logits.bin": None} | ({"logits_int8.bin": True} if fixture.name == "llama-trilm" else {})
    tokens = choose_tokens([bitnet_numpy.Model(folder, int8=int8) for int8 in variants.values()], rng, TOKENS)
    (folder / "tokens.json").write_text(json.dumps(tokens) + "\n")
    for file, int8 in variants.items():
        logits = reference.logits(reference.load(folder, bool(int8)), tokens)
        logits.astype("<f4").tofile(folder / file)
        check(f"{fixture.name}/{file}", logits, folder, tokens, int8)
    if embedding:
        write_embeddings(folder, tokens, rng)
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
    assert max(f64, f32) < 1e-5, f"{name}: transformers and numpy differ by {f64} in f64, {f32} in f32"
    assert all((output.argmax(-1) == logits.argmax(-1)).all() for output in outputs), f"{name}: argmax differs"
    scaled = max(np.abs(exact - rounded).max() for exact, rounded in zip(*(model.scaled() for model in models)))
    print(
        f"{name:38} max|logit| {largest:5.2f}  top-1 margin {margin:.3f}  distinct argmax {len(set(logits.argmax(-1)))}  "
        f"|Δ|/max: numpy f64 {f64:.1e}, f32 {f32:.1e}  x·s: tie {tie_distance(models[0]):.1e}, f32 error {scaled:.1e}"
    )


def write_embeddings(folder, tokens, rng):
    """Writes hidden.bin, embeddings.json, and how to pool as sentence-transformers says it."""
    exact, model = bitnet_numpy.Model(folder), reference.load(folder)
    hidden = reference.hidden(model, tokens)
    hidden.astype("<f4").tofile(folder / "hidden.bin")

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = []
    for count in TEXT_LENGTHS:
        text = choose_text(exact, lambda text: tokenizer.encode(text).ids, lambda id: tokenizer.decode([id]), rng, count)
        ids = tokenizer.encode(text).ids
        rows = reference.hidden(model, ids)
        vector = rows[-1] / np.linalg.norm(rows[-1])
        assert np.abs(vector - exact.embed(ids)).max() < 1e-5, f"{folder.name}: transformers and numpy differ on {text!r}"
        # What pools otherwise, or forgets the end token, must be seen to.
        mean = rows.mean(0) / np.linalg.norm(rows.mean(0))
        moved = [np.abs(vector - wrong).max() for wrong in (mean, exact.embed(ids[:-1]), rows[-1])]
        assert min(moved) > 5e-2, f"{folder.name}: a mistake in pooling {text!r} would go unseen"
        texts.append({"text": text, "tokens": ids, "vector": [float(str(x)) for x in vector]})
    (folder / "embeddings.json").write_text("[\n" + ",\n".join(json.dumps(text) for text in texts) + "\n]\n")

    modules = ("Transformer", "Pooling", "Normalize")
    (folder / "modules.json").write_text(json.dumps([
        {"idx": i, "name": str(i), "path": f"{i}_{module}" if i else "", "type": f"sentence_transformers.models.{module}"}
        for i, module in enumerate(modules)
    ], indent=2) + "\n")  # fmt: skip
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    pooling = {"word_embedding_dimension": exact.config["hidden_size"]}
    pooling |= {f"pooling_mode_{mode}": mode == "lasttoken" for mode in modes} | {"include_prompt": True}
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling, indent=2) + "\n")


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
