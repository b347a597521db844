#!/usr/bin/env python3
"""Writes GGUF files that test our reader against other hands than ours.

encodings.gguf, by the `gguf` package of the llama.cpp project: metadata of every value type (METADATA below), and one
tensor per encoding, each with its values as that package decodes them in a F32 tensor named `<name>.decoded`. Its
alignment is 64.

Whole models, from the folders that fixtures.py made, so that their logits.bin holds for these files too. The package
does not know I2_S, so these are written by the few lines below, after the same facts as any reader:

    llama-bitlinear-divide.i2_s.gguf    arch llama: q and k rows permuted for interleaved RoPE
    bitnet-1bitllm.i2_s.gguf            arch bitnet, SiLU; rows of 64 and 192, so that I2_S blocks of 128 straddle rows
    bitnet-2b4t-offline.tq.gguf         arch bitnet-b1.58, squared ReLU; layer 0 in TQ1_0, layer 1 in TQ2_0
"""

import argparse
import json
import struct
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

import bitnet_numpy
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
    return tensors


# --------------------------------------------------------------------------------------------------------- whole models

I2_S = 36


def i2_s(trits, scale):
    """I2_S, layout A: codes t + 1 of 128 consecutive elements in 32 bytes, the first 32 elements in the top bits; then the
    f32 scale and 28 bytes that mean nothing. Old converters repeat the scale there, which proves that readers skip it."""
    codes = (trits.reshape(-1, 4, 32) + 1).astype(np.uint8)
    packed = codes[:, 0] << 6 | codes[:, 1] << 4 | codes[:, 2] << 2 | codes[:, 3]
    return I2_S, packed.tobytes() + struct.pack("<f", scale) * 8


def tq(encoding):
    """An encoder to one of ggml's ternary types, by the `gguf` package. The scale must be exact in F16."""

    def encode(trits, scale):
        assert np.float16(scale) == scale
        return encoding, gguf.quants.quantize((trits * scale).astype(np.float32), encoding).tobytes()

    return encode


def permute(trits, heads):
    """Rows of q or k from rotate-half order to interleaved order: row 2i of a head is row i, row 2i + 1 is row i + d/2."""
    rows, cols = trits.shape
    return trits.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def model_tensors(model, encode):
    """[(name, dims, type, bytes)] of a model; `encode[layer]` stores its linear layers."""

    def dense(name, array):
        half = array.astype("<f2")
        assert (half == array).all(), f"{name} is not exact in F16"
        return name, array.shape[::-1], Type.F16, half.tobytes()

    def norm(name, array):
        return name, array.shape, Type.F32, array.astype("<f4").tobytes()

    yield dense("token_embd.weight", model.embedding)
    yield norm("output_norm.weight", model.norm)
    if model.head is not model.embedding:
        yield dense("output.weight", model.head)
    linears = {name: f"attn_{name}" for name in "qkv"} | {"o": "attn_output"}
    linears |= {name: f"ffn_{name}" for name in ("gate", "up", "down")}
    for i, layer in enumerate(model.layers):
        for name in ("attn_norm", "ffn_norm", "attn_sub_norm", "ffn_sub_norm"):
            if layer[name] is not None:
                yield norm(f"blk.{i}.{name}.weight", layer[name])
        for ours, theirs in linears.items():
            trits = layer[ours].trits
            if model.config["architectures"] == ["LlamaForCausalLM"] and ours in "qk":
                trits = permute(trits, len(trits) // model.head_dim)
            yield f"blk.{i}.{theirs}.weight", trits.shape[::-1], *encode[i](trits, layer[ours].scale)


def write_model(path, arch, model, encode, file_type):
    config = model.config
    u32, f32 = V.UINT32, V.FLOAT32
    metadata = {
        "general.architecture": (arch, V.STRING),
        "general.name": (path.stem, V.STRING),
        "general.file_type": (file_type, u32),
        "general.quantization_version": (2, u32),
        f"{arch}.vocab_size": (config["vocab_size"], u32),
        f"{arch}.context_length": (config["max_position_embeddings"], u32),
        f"{arch}.embedding_length": (config["hidden_size"], u32),
        f"{arch}.block_count": (config["num_hidden_layers"], u32),
        f"{arch}.feed_forward_length": (config["intermediate_size"], u32),
        f"{arch}.rope.dimension_count": (model.head_dim, u32),
        f"{arch}.rope.freq_base": (model.theta, f32),
        f"{arch}.attention.head_count": (model.heads, u32),
        f"{arch}.attention.head_count_kv": (model.kv_heads, u32),
        f"{arch}.attention.layer_norm_rms_epsilon": (model.eps, f32),
        "tokenizer.ggml.model": ("gpt2", V.STRING),
        "tokenizer.ggml.pre": ("gpt-2", V.STRING),
        "tokenizer.ggml.tokens": (TOKENS, V.STRING),
        "tokenizer.ggml.token_type": ([3] + [1] * (len(TOKENS) - 1), V.INT32),
        "tokenizer.ggml.merges": ([" ".join(m) for m in MERGES], V.STRING),
        "tokenizer.ggml.bos_token_id": (0, u32),
        "tokenizer.ggml.eos_token_id": (0, u32),
        "tokenizer.ggml.add_bos_token": (False, V.BOOL),
    }
    path.write_bytes(gguf_bytes(metadata, list(model_tensors(model, encode))))


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
    """The `gguf` package reads the file and finds the tensors of the right size (it does not know I2_S)."""
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
    print(encodings.name, encodings.stat().st_size, "bytes,", check_readable(encodings), "tensors")

    fixtures = args.crates / "tritwise/tests/fixtures"
    (fixtures / "gguf").mkdir(exist_ok=True)
    tq_layers = [tq(Type.TQ1_0), tq(Type.TQ2_0)]
    for folder, suffix, arch, encode, file_type in (
        ("llama-bitlinear-divide", "i2_s", "llama", [i2_s, i2_s], 40),
        ("bitnet-1bitllm", "i2_s", "bitnet", [i2_s, i2_s], 40),
        ("bitnet-2b4t-offline", "tq", "bitnet-b1.58", tq_layers, 36),
    ):
        path = fixtures / "gguf" / f"{folder}.{suffix}.gguf"
        write_model(path, arch, bitnet_numpy.Model(fixtures / folder), encode, file_type)
        tensors = f"{check_readable(path)} tensors" if suffix != "i2_s" else ""
        print(path.name, path.stat().st_size, "bytes", tensors)


if __name__ == "__main__":
    main()
