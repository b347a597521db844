"""Encoders of GGUF tensor types, from weights [rows, cols] to (type id, bytes).

All weights of a block of a ternary type are -d, 0 or +d, of a binary type -d or +d; d is what the block stores. That must
be exact in the type of d, and is asserted. The `gguf` package knows only TQ1_0 and TQ2_0; the others are written after
the same facts as any reader: I2_S is bitnet.cpp's (layout A), Q1_0 and Q2_0 are ggml's, PQ2_0 and PTQ1_0 PrismML's, and
those with BN ik_llama.cpp's. GOLDEN is what the projects' own encoders made of a known pattern.
"""

import struct

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

TQ1_0, TQ2_0 = Type.TQ1_0, Type.TQ2_0
I2_S, Q1_0, Q2_0, IQ1_BN, IQ2_BN, PQ2_0, PTQ1_0, IQ2_BN_R4 = 36, 41, 42, 134, 135, 142, 143, 335


def i2_s(weights):
    """Codes t + 1 of 128 consecutive elements in 32 bytes, the first 32 elements in the top bits; then the f32 scale and 28
    bytes that mean nothing. Old converters repeat the scale there, which proves that readers skip it."""
    trits, scales = blocks(weights.reshape(1, -1), weights.size, np.float32)
    codes = (trits.reshape(-1, 4, 32) + 1).astype(np.uint8)
    packed = codes[:, 0] << 6 | codes[:, 1] << 4 | codes[:, 2] << 2 | codes[:, 3]
    return I2_S, packed.tobytes() + struct.pack("<f", scales.item()) * 8


def tq(encoding):
    """An encoder to one of ggml's ternary types, by the `gguf` package."""

    def encode(weights):
        blocks(weights, 256, np.float16)
        return encoding, gguf.quants.quantize(weights.astype(np.float32), encoding).tobytes()

    return encode


def q1_0(weights):
    """f16 d, then a bit per element from the lowest up: 1 is +d, 0 is -d."""
    signs, scales = blocks(weights, 128, np.float16)
    assert (signs != 0).all()
    return Q1_0, join(scales, np.packbits(signs > 0, axis=-1, bitorder="little"))


def q2_0(encoding):
    """f16 d, then the codes t + 1, four a byte, the first in the lowest bits. Blocks of 64, or of 128 in PQ2_0."""

    def encode(weights):
        trits, scales = blocks(weights, {Q2_0: 64, PQ2_0: 128}[encoding], np.float16)
        return encoding, join(scales, two_bits((trits + 1).reshape(*trits.shape[:-1], -1, 4)))

    return encode


def ptq1_0(weights):
    """26 bytes of five digits each, then f16 d: elements 0..80 in 16 bytes, each byte with every 16th of them, likewise
    80..120 in 8 and 120..128 in 2, with four digits. The earlier element is the higher digit."""
    trits, scales = blocks(weights, 128, np.float16)
    digits = (trits + 1).astype(np.int64)

    def packed(begin, end, size):
        rows = digits[..., begin:end].reshape(*digits.shape[:-1], -1, size)
        return fraction(sum(rows[..., n, :] * 3 ** (4 - n) for n in range(rows.shape[-2])))

    return PTQ1_0, join(packed(0, 80, 16), packed(80, 120, 8), packed(120, 128, 2), scales)


def iq1_bn(weights):
    """A row: f16 scale, then 13 bytes per 64. Of every 16 elements 15 lie in three bytes, five digits each, the earlier
    element being the lower digit; the sixteenth elements share the last byte."""
    trits, scales = blocks(weights, weights.shape[1], np.float16)
    digits = (trits + 1).astype(np.int64).reshape(len(weights), -1, 4, 16)
    fives = digits[..., :15].reshape(*digits.shape[:2], 12, 5)
    codes = [fraction(sum(part[..., n] * 3**n for n in range(part.shape[-1]))) for part in (fives, digits[..., 15])]
    return IQ1_BN, join(scales[:, 0], np.concatenate([codes[0], codes[1][..., None]], -1).reshape(len(weights), -1))


def iq2_bn(weights):
    """A row: f32 scale, then 16 bytes per 64, byte i with the elements i, i + 16, i + 32, i + 48 from the lowest bits up."""
    trits, scales = blocks(weights, weights.shape[1], np.float32)
    codes = (trits + 1).reshape(len(weights), -1, 4, 16).swapaxes(-1, -2)
    return IQ2_BN, join(scales[:, 0], two_bits(codes).reshape(len(weights), -1))


def iq2_bn_r4(weights):
    """Four rows at a time: their f32 scales, then 64 bytes per 64 columns. Byte 4k + i + 16l holds of row k the elements
    16l + i + {0, 4, 8, 12} from the lowest bits up."""
    trits, scales = blocks(weights, weights.shape[1], np.float32)
    codes = (trits + 1).reshape(len(weights) // 4, 4, -1, 4, 4, 4)  # group, k, block, l, bits, i
    packed = two_bits(codes.transpose(0, 2, 3, 1, 5, 4))  # group, block, l, k, i
    return IQ2_BN_R4, join(scales.reshape(-1, 4), packed.reshape(len(packed), -1))


# ---------------------------------------------------------------------------------------------------------------- parts


def blocks(weights, size, dtype):
    """Signs [rows, blocks, size] and the bytes of each block's scale in little-endian `dtype`."""
    cut = weights.reshape(len(weights), -1, size)
    exact = np.abs(cut).max(-1, keepdims=True)
    scales = exact.astype(dtype)
    signs = np.sign(cut)
    assert (np.abs(cut) == np.abs(signs) * exact).all(), "not all weights of a block are -d, 0 or +d"
    assert dtype == np.float32 or (scales == exact).all(), "a scale is not exact in F16"
    return signs.astype(np.int8), scales


def two_bits(codes):
    """Bytes of four codes each, along the last axis."""
    return sum(codes[..., i].astype(np.uint8) << (2 * i) for i in range(4))


def fraction(number):
    """A number of five digits to the base 3 as a fraction of 256, rounded up: digits come off by multiplying with 3."""
    return ((256 * number + 242) // 243).astype(np.uint8)


def join(*parts):
    """The bytes of the parts, row by row of all their leading axes."""
    return np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts], -1).tobytes()


# --------------------------------------------------------------------------------------------------------------- check

# Of the first elements of 0.5 * (((7i + i // 11) mod 3) - 1); for Q1_0, which has no zero, negative where that is.
GOLDEN = {
    q1_0: (128, "003824210949484212929084242421094948"),
    q2_0(Q2_0): (64, "003824491249924492249124492449124992"),
    ptq1_0: (128, "465dd1515ed11874f11b74465dd1515e1c72f2097cfb037f79430038"),
    iq1_bn: (64, "00386c45444544cf44cfcbcfcb6c3a"),
    iq2_bn: (64, "0000003f58811668811660055aa0055881166881"),
}


def check_golden():
    i = np.arange(128)
    pattern = 0.5 * ((7 * i + i // 11) % 3 - 1)
    for encode, (count, expected) in GOLDEN.items():
        values = np.where(pattern > 0, 0.5, -0.5) if encode is q1_0 else pattern
        found = encode(values[None, :count])[1].hex()
        assert found == expected, f"{encode.__name__}: {found}, not {expected}"
