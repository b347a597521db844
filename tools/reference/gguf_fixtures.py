#!/usr/bin/env python3
"""Writes GGUF files that test our reader against other hands than ours.

encodings.gguf, by the `gguf` package of the llama.cpp project: metadata of every value type (METADATA below), and one
tensor per encoding, each with its values in a F32 tensor named `<name>.decoded`. They are what that package decodes; for
the types that it does not know, what encoders.py encoded, or what `decoded` below makes of random bits. Its alignment
is 64.

Whole models, from the folders that fixtures.py made, so that their logits.bin holds for these files too: MODELS below,
in the tensor types of encoders.py. Those of architecture llama have the rows of q and k permuted for interleaved RoPE.
"""

import argparse
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

import bitnet_numpy
from encoders import check_golden, i2_s, iq1_bn, iq2_bn, iq2_bn_r4, PQ2_0, ptq1_0, Q1_0, q1_0, Q2_0, q2_0, tq, TQ1_0, TQ2_0
from tokenizer import MERGES, TOKENS

# ------------------------------------------------------------------------------------------------------- encodings.gguf

# What the metadata of encodings.gguf says, under `test.<name>`; (value, type) and for arrays (value, array, element).
V = gguf.GGUFValueType
METADATA = {
    "u8": (255, V.UINT8),
    "i8": (-128, V.INT8),
    "u16": (65535, V.UINT16),
    "i16": (-32768, V.INT16),
    "u32": (4294967295, V.UINT32),
    "i32": (-2147483648, V.INT32),
    "u64": (18446744073709551615, V.UINT64),
    "i64": (-9223372036854775808, V.INT64),
    "f32": (0.15625, V.FLOAT32),
    "f64": (-1.1, V.FLOAT64),
    "true": (True, V.BOOL),
    "false": (False, V.BOOL),
    "string": ("träne 🙂", V.STRING),
    "empty_string": ("", V.STRING),
    "u8s": ([0, 127, 255], V.ARRAY, V.UINT8),
    "i8s": ([-128, 0, 127], V.ARRAY, V.INT8),
    "u16s": ([0, 65535], V.ARRAY, V.UINT16),
    "i16s": ([-32768, 32767], V.ARRAY, V.INT16),
    "u32s": ([0, 4294967295], V.ARRAY, V.UINT32),
    "i32s": ([-2147483648, 2147483647], V.ARRAY, V.INT32),
    "u64s": ([0, 18446744073709551615], V.ARRAY, V.UINT64),
    "i64s": ([-9223372036854775808, 9223372036854775807], V.ARRAY, V.INT64),
    "f32s": ([0.5, -2.0, 3.25], V.ARRAY, V.FLOAT32),
    "f64s": ([0.1, -1e300], V.ARRAY, V.FLOAT64),
    "bools": ([True, False, True], V.ARRAY, V.BOOL),
    "strings": (["", "a", "ß", "🙂"], V.ARRAY, V.STRING),
}


def write_encodings(path):
    writer = gguf.GGUFWriter(path, arch="llama")
    writer.add_custom_alignment(64)
    for name, (value, *types) in METADATA.items():
        writer.add_key_value(f"test.{name}", value, *types)
    for name, (encoding, data) in encoded_tensors().items():
        writer.add_tensor(name, data, raw_dtype=encoding)
        writer.add_tensor(f"{name}.decoded", gguf.quants.dequantize(data, encoding))
    for name, (encoding, data, values) in foreign_tensors().items():
        # As i8, or the package asks for the type's block size.
        writer.add_tensor(name, np.frombuffer(data, np.int8), raw_shape=values.shape, raw_dtype=encoding)
        writer.add_tensor(f"{name}.decoded", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def encoded_tensors():
    """{name: (encoding, data)}; three rows, so that tensors do not all end on the alignment."""
    rng = np.random.Generator(np.random.PCG64(7))
    values = rng.normal(0, 1, (3, 512)).astype(np.float32)
    # One scale per block of 256, all different, and one block of zeros.
    block_scales = rng.uniform(0.25, 4, (3, 2)).astype(np.float16).astype(np.float32)
    trits = rng.integers(-1, 2, (3, 2, 256)).astype(np.float32)
    trits[1, 1] = 0
    ternary = (trits * block_scales[:, :, None]).reshape(3, 512)
    tensors = {"f32": (Type.F32, values), "f16": (Type.F16, values.astype(np.float16))}
    for name, encoding in {"bf16": Type.BF16, "q8_0": Type.Q8_0}.items():
        tensors[name] = (encoding, gguf.quants.quantize(values, encoding))
    for name, encoding in {"tq1_0": Type.TQ1_0, "tq2_0": Type.TQ2_0}.items():
        tensors[name] = (encoding, gguf.quants.quantize(ternary, encoding))
        assert (gguf.quants.dequantize(tensors[name][1], encoding) == ternary).all()
    # The package decodes Q6_K but does not encode it: any bytes are valid, except that the scale must be a number.
    blocks = rng.integers(0, 256, (3, 2, 210), dtype=np.uint8)
    blocks[..., 208:] = rng.uniform(-0.01, 0.01, (3, 2, 1)).astype(np.float16).view(np.uint8)
    tensors["q6_k"] = (Type.Q6_K, blocks.reshape(3, 420))
    tensors["q4_0"] = (Type.Q4_0, gguf.quants.quantize(values, Type.Q4_0))
    # Likewise Q4_K, with two scales, and IQ4_NL.
    blocks = rng.integers(0, 256, (3, 2, 144), dtype=np.uint8)
    blocks[..., :4] = rng.uniform(-0.01, 0.01, (3, 2, 2)).astype(np.float16).view(np.uint8)
    tensors["q4_k"] = (Type.Q4_K, blocks.reshape(3, 288))
    tensors["iq4_nl"] = (Type.IQ4_NL, scale_first(rng, 3, 16, 18).reshape(3, 288))
    return tensors


def foreign_tensors():
    """{name: (type, bytes, values)} of the types that the package cannot decode."""
    rng = np.random.Generator(np.random.PCG64(8))

    def weights(group, rows=3, signs=(-1, 0, 1)):
        scales = rng.uniform(0.25, 4, (rows, 512 // group, 1)).astype(np.float16).astype(np.float32)
        return (rng.choice(signs, (rows, 512 // group, group)) * scales).reshape(rows, 512).astype(np.float32)

    tensors = {
        "q1_0": (q1_0, weights(128, signs=(-1, 1))),
        # With fewer rows these would take as many bytes, padding included, as other types of the same numbers.
        "q2_0": (q2_0(Q2_0), weights(64, rows=8)),
        "pq2_0": (q2_0(PQ2_0), weights(128, rows=16)),
        "ptq1_0": (ptq1_0, weights(128)),
        "iq1_bn": (iq1_bn, weights(512)),
        "iq2_bn": (iq2_bn, weights(512)),
        "iq2_bn_r4": (iq2_bn_r4, weights(512, rows=4)),
    }
    tensors = {name: (*encode(values), values) for name, (encode, values) in tensors.items()}
    # Random bits, as in tables: in Q2_0 all four codes. PrismML's early files had other groups under these numbers.
    for name, encoding, group, bits in (
        ("q1_0.table", Q1_0, 128, 1),
        ("q1_0_of_32.table", 40, 32, 1),
        ("q2_0.table", Q2_0, 64, 2),
        ("q2_0_of_128.table", Q2_0, 128, 2),
    ):
        data = scale_first(rng, 8 if encoding == Q2_0 else 3, 512 // group, 2 + group * bits // 8)
        tensors[name] = (encoding, data.tobytes(), decoded(data, bits))
    return tensors


def scale_first(rng, rows, blocks, size):
    """Blocks of random bits that begin with an f16 scale."""
    data = rng.integers(0, 256, (rows, blocks, size), dtype=np.uint8)
    data[..., :2] = rng.uniform(-0.01, 0.01, (rows, blocks, 1)).astype(np.float16).view(np.uint8)
    return data


def decoded(data, bits):
    """The values of blocks of a scale and codes of one bit (-d, +d) or two (-d, 0, d, 2d), lowest bits first."""
    scales = data[..., :2].copy().view(np.float16).astype(np.float32)
    codes = (data[..., 2:, None] >> np.arange(0, 8, bits)) & (2**bits - 1)
    steps = np.array([-1, 1] if bits == 1 else [-1, 0, 1, 2], np.float32)
    return (scales * steps[codes].reshape(*data.shape[:2], -1)).reshape(len(data), -1)


# --------------------------------------------------------------------------------------------------------- whole models


def f16(array):
    half = array.astype("<f2")
    assert (half == array).all(), "not exact in F16"
    return Type.F16, half.tobytes()


def f32(array):
    return Type.F32, array.astype("<f4").tobytes()


@dataclass
class File:
    """`folder`.`suffix`.gguf: what it is called inside, and how it stores its tensors."""

    folder: str
    suffix: str
    arch: str
    linears: list[Callable]  # one encoder per layer
    file_type: int
    tables: Callable = f16  # embedding and head
    norms: Callable = f32
    pre: str = "gpt-2"
    metadata: dict = field(default_factory=dict)


def yarn(*betas):
    """Metadata of RoPE scaling; without betas the defaults hold, 32 and 1."""
    keys = {"rope.scaling.type": ("yarn", V.STRING), "rope.scaling.factor": (4.0, V.FLOAT32)}
    keys["rope.scaling.original_context_length"] = (256 if betas else 16, V.UINT32)
    names = ("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow")
    return keys | {name: (beta, V.FLOAT32) for name, beta in zip(names, betas)}


# The end token is appended, and the vector of the last token is the text's.
LAST_TOKEN = {"pooling_type": (3, V.UINT32), "tokenizer.ggml.add_eos_token": (True, V.BOOL)}
TERNARY_BONSAI = {"pre": "qwen2", "metadata": yarn(8.0, 2.0)}

# file_type means different things to different projects; these are the numbers of those that write such files.
MODELS = [
    File("llama-bitlinear-divide", "i2_s", "llama", [i2_s, i2_s], 40),
    # Rows of 64 and 192, so that I2_S blocks of 128 straddle rows.
    File("bitnet-1bitllm", "i2_s", "bitnet", [i2_s, i2_s], 40),
    File("bitnet-1bitllm", "iq2_bn", "bitnet", [iq2_bn, iq2_bn_r4], 137),
    File("bitnet-2b4t-offline", "tq", "bitnet-b1.58", [tq(TQ1_0), tq(TQ2_0)], 36),
    File("llama-autobitlinear-offline", "iq1_bn", "llama", [iq1_bn, iq1_bn], 136),
    File("llama3-rope", "i2_s", "llama", [i2_s, i2_s], 40),
    File("qwen3-bonsai", "q1_0", "qwen3", [q1_0], 40, q1_0, pre="qwen2", metadata=yarn()),
    File("qwen3-ternary-bonsai", "q2_0", "qwen3", [q2_0(Q2_0)], 41, q2_0(Q2_0), **TERNARY_BONSAI),
    File("qwen3-ternary-bonsai", "pq2_0", "qwen3", [q2_0(PQ2_0)], 141, q2_0(PQ2_0), **TERNARY_BONSAI),
    File("qwen3-ternary-bonsai", "ptq1_0", "qwen3", [ptq1_0], 143, ptq1_0, **TERNARY_BONSAI),
    File("qwen3-embedding", "i2_s", "qwen3", [i2_s], 40, norms=f16, pre="qwen2", metadata=LAST_TOKEN),
    File("gemma3-embedding-full", "i2_s", "gemma3", [i2_s], 40, norms=f16, metadata=LAST_TOKEN),
]


def permute(weights, heads):
    """Rows of q or k from rotate-half order to interleaved order: row 2i of a head is row i, row 2i + 1 is row i + d/2."""
    rows, cols = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def model_tensors(file, model):
    """[(name, dims, type, bytes)] of a model. Norms of Gemma3 have their 1 added already."""

    def tensor(name, array, encode):
        return f"{name}.weight", array.shape[::-1], *encode(array)

    yield tensor("token_embd", model.embedding, file.tables)
    yield tensor("output_norm", model.norm, file.norms)
    if model.head is not model.embedding:
        yield tensor("output", model.head, file.tables)
    rope = model.layers[0]["rope"]
    if rope.get("rope_type") == "llama3":
        plain = bitnet_numpy.frequencies({"rope_theta": rope["rope_theta"]}, model.head_dim)[0]
        yield tensor("rope_freqs", bitnet_numpy.llama3_divisors(plain, rope), f32)
    norms = {name: name for name in ("attn_norm", "ffn_norm", "attn_sub_norm", "ffn_sub_norm")}
    norms |= {"q_norm": "attn_q_norm", "k_norm": "attn_k_norm"}
    norms |= {"post_attn_norm": "post_attention_norm", "post_ffn_norm": "post_ffw_norm"}
    linears = {name: f"attn_{name}" for name in "qkv"} | {"o": "attn_output"}
    linears |= {name: f"ffn_{name}" for name in ("gate", "up", "down")}
    for i, layer in enumerate(model.layers):
        for ours, theirs in norms.items():
            if layer[ours] is not None:
                yield tensor(f"blk.{i}.{theirs}", layer[ours], file.norms)
        for ours, theirs in linears.items():
            weights = layer[ours].weights
            if file.arch == "llama" and ours in "qk":
                weights = permute(weights, len(weights) // model.head_dim)
            yield tensor(f"blk.{i}.{theirs}", weights, file.linears[i])
            if layer[ours].norm is not None:
                yield tensor(f"blk.{i}.{theirs}_norm_in", layer[ours].norm, file.norms)


def write_model(path, file, model):
    config, arch = model.config, file.arch
    u32, f32 = V.UINT32, V.FLOAT32
    metadata = {
        "general.architecture": (arch, V.STRING),
        "general.name": (path.stem, V.STRING),
        "general.file_type": (file.file_type, u32),
        "general.quantization_version": (2, u32),
        f"{arch}.vocab_size": (config["vocab_size"], u32),
        f"{arch}.context_length": (config["max_position_embeddings"], u32),
        f"{arch}.embedding_length": (config["hidden_size"], u32),
        f"{arch}.block_count": (config["num_hidden_layers"], u32),
        f"{arch}.feed_forward_length": (config["intermediate_size"], u32),
        f"{arch}.rope.dimension_count": (model.head_dim, u32),
        f"{arch}.rope.freq_base": (model.layers[0]["rope"]["rope_theta"], f32),
        f"{arch}.attention.head_count": (model.heads, u32),
        f"{arch}.attention.head_count_kv": (model.kv_heads, u32),
        f"{arch}.attention.layer_norm_rms_epsilon": (model.eps, f32),
        "tokenizer.ggml.model": ("gpt2", V.STRING),
        "tokenizer.ggml.pre": (file.pre, V.STRING),
        "tokenizer.ggml.tokens": (TOKENS, V.STRING),
        "tokenizer.ggml.token_type": ([3] + [1] * (len(TOKENS) - 1), V.INT32),
        "tokenizer.ggml.merges": ([" ".join(m) for m in MERGES], V.STRING),
        "tokenizer.ggml.bos_token_id": (0, u32),
        "tokenizer.ggml.eos_token_id": (0, u32),
        "tokenizer.ggml.add_bos_token": (False, V.BOOL),
    }
    if model.head_dim * model.heads != config["hidden_size"]:
        metadata |= {f"{arch}.attention.{part}_length": (model.head_dim, u32) for part in ("key", "value")}
    metadata |= {key if key.startswith("tokenizer") else f"{arch}.{key}": value for key, value in file.metadata.items()}
    path.write_bytes(gguf_bytes(metadata, list(model_tensors(file, model))))


def gguf_bytes(metadata, tensors, alignment=32):
    """A GGUF version 3 file: header, key-value pairs, tensor infos, then the tensors' bytes, each padded."""
    formats = {V.UINT32: "<I", V.INT32: "<i", V.FLOAT32: "<f", V.BOOL: "<?"}

    def string(text):
        return struct.pack("<Q", len(text.encode())) + text.encode()

    def scalar(value, kind):
        return string(value) if kind == V.STRING else struct.pack(formats[kind], value)

    def pad(data):
        return data + bytes(-len(data) % alignment)

    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, (value, kind) in metadata.items():
        header += string(key)
        if isinstance(value, list):
            header += struct.pack("<IIQ", V.ARRAY, kind, len(value)) + b"".join(scalar(x, kind) for x in value)
        else:
            header += struct.pack("<I", kind) + scalar(value, kind)
    body = b""
    for name, dims, encoding, data in tensors:
        header += string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, encoding, len(body))
        body = pad(body + data)
    return pad(header) + body


# ----------------------------------------------------------------------------------------------------------------- check


def check_readable(path):
    """The `gguf` package reads the file and finds the tensors of the right size. It knows only ggml's older types."""
    reader = gguf.GGUFReader(path)
    for tensor in reader.tensors:
        decoded = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert decoded.size == tensor.n_elements and np.isfinite(decoded).all(), tensor.name
    return len(reader.tensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    crates = Path(__file__).resolve().parents[2] / "crates"
    parser.add_argument("--crates", type=Path, default=crates, help="the crates/ folder (default: %(default)s)")
    args = parser.parse_args()

    encodings = args.crates / "tritwise-loader/tests/fixtures/encodings.gguf"
    encodings.parent.mkdir(parents=True, exist_ok=True)
    write_encodings(encodings)
    # The package does not read the types that it does not know.
    print(encodings.name, encodings.stat().st_size, "bytes")

    check_golden()
    fixtures = args.crates / "tritwise/tests/fixtures"
    (fixtures / "gguf").mkdir(exist_ok=True)
    for file in MODELS:
        path = fixtures / "gguf" / f"{file.folder}.{file.suffix}.gguf"
        write_model(path, file, bitnet_numpy.Model(fixtures / file.folder))
        tensors = f"{check_readable(path)} tensors" if file.suffix == "tq" else ""
        print(path.name, path.stat().st_size, "bytes", tensors)


if __name__ == "__main__":
    main()
