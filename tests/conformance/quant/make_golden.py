#!/usr/bin/env python3
"""Golden data of the tensor formats: decode.txt and quantize.txt, read by tests/unit/test_dtype.c.

    make_golden.py                         # decode.txt; needs PyPI numpy and gguf, an independent decoder
    make_golden.py --ggml LIBGGML_BASE.SO  # also quantize.txt: the errors of ggml's own quantizers, called through ctypes

decode.txt: one line for each type, `NAME id n_blocks hash offsets`. The blocks are pseudo-random bytes (stream(), seeded by the
type's id); in each block the bytes at `offsets`, the high bytes of its half floats, have bit 6 cleared, so that no scale is
infinite or NaN. The hash is taken of the decoded float32 bits (value_hash()).

quantize.txt: one line for each type and input, `NAME id input rmse`: the root of the mean squared error of the reference
quantizer, without an importance matrix, on 256 rows of 256 values of inputs(). F8E4M3 is numpy here.

hqq.txt: the same for HQQ, with the mean of |error|^0.7 of hqq(), and of rounding without its search.
"""

import argparse
import ctypes
import pathlib

import gguf
import numpy as np

HERE = pathlib.Path(__file__).parent
N_BLOCKS = 1000
ROWS, COLS = 256, 256

# Offsets of the high bytes of the half floats in a block.
DECODED = {
    "Q4_0": [1], "Q4_1": [1, 3], "Q5_0": [1], "Q5_1": [1, 3], "Q8_0": [1], "Q8_1": [1, 3], "Q2_K": [81, 83], "Q3_K": [109],
    "Q4_K": [1, 3], "Q5_K": [1, 3], "Q6_K": [209], "Q8_K": [3], "IQ2_XXS": [1], "IQ2_XS": [1], "IQ3_XXS": [1],
    "IQ1_S": [1], "IQ4_NL": [1], "IQ3_S": [1], "IQ2_S": [1], "IQ4_XS": [1], "IQ1_M": [55], "BF16": [1], "F16": [1],
    "TQ1_0": [53], "TQ2_0": [65], "MXFP4": [],
}
QUANTIZED = ("Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4").split()


# Block bytes that the package states differently from the files.
BLOCK_BYTES = {"Q8_1": 36}


def mix(counter):
    """splitmix64 of the numbers in `counter`."""
    with np.errstate(over="ignore"):
        z = (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def stream(seed, n_bytes):
    """Pseudo-random bytes: the little-endian words mix(seed * 2^32 + k)."""
    words = mix(np.arange((n_bytes + 7) // 8, dtype=np.uint64) + np.uint64(seed << 32))
    return words.astype("<u8").view(np.uint8)[:n_bytes].copy()


def value_hash(values):
    """Sum of bits(values[i]) * (mix(i) | 1), modulo 2^64."""
    bits = np.ascontiguousarray(values, "<f4").view(np.uint32).ravel().astype(np.uint64)
    with np.errstate(over="ignore"):
        return int(np.sum(bits * (mix(np.arange(bits.size, dtype=np.uint64)) | np.uint64(1)), dtype=np.uint64))


def random_blocks(name, type_id, n_block_bytes):
    blocks = stream(type_id, N_BLOCKS * n_block_bytes).reshape(N_BLOCKS, n_block_bytes)
    blocks[:, DECODED[name]] &= 0xBF
    return blocks


def decode(name, qtype, blocks):
    if name == "Q8_1":  # not in gguf: half d, half s, 32 bytes
        return blocks[:, :2].copy().view("<f2").astype(np.float32) * blocks[:, 4:].copy().view(np.int8).astype(np.float32)
    if name == "Q8_K":  # not in gguf: float d, 256 bytes, sums
        return blocks[:, :4].copy().view("<f4") * blocks[:, 4:260].copy().view(np.int8).astype(np.float32)
    return gguf.quants.dequantize(blocks, qtype)


def write_decode():
    lines = []
    for name, offsets in DECODED.items():
        qtype = gguf.GGMLQuantizationType[name]
        n_bytes = BLOCK_BYTES.get(name, gguf.GGML_QUANT_SIZES[qtype][1])
        blocks = random_blocks(name, qtype.value, n_bytes)
        digest = value_hash(decode(name, qtype, blocks))
        lines.append(f"{name} {qtype.value} {N_BLOCKS} {digest:016x} {','.join(map(str, offsets)) or '-'}")
    (HERE / "decode.txt").write_text("\n".join(lines) + "\n")


def inputs():
    """Three kinds of rows: nearly normal (sums of four uniform numbers), its cube (heavy tails), and normal about 0.5."""
    quarters = stream(1 << 20, ROWS * COLS * 8).view("<u2").reshape(ROWS, COLS, 4).astype(np.float32)
    normal = (quarters.sum(2) - np.float32(131070)) * np.float32(2.0**-16)
    return {"normal": normal, "heavy": normal * normal * normal, "shifted": normal + np.float32(0.5)}


def hqq(x, bits, search=True):
    """Half-quadratic quantization in groups of 64, after the authors' description, in double precision."""
    x = x.reshape(-1, 64).astype(np.float64)
    top = 2**bits - 1
    low, high = x.min(1, keepdims=True), x.max(1, keepdims=True)
    scale = (high - low) / top
    zero, best_zero, best = -low / scale, -low / scale, np.full((len(x), 1), np.inf)
    running, beta, p = np.ones((len(x), 1), bool), 10.0, 0.7
    for _ in range(20 if search else 0):
        q = np.clip(np.rint(x / scale + zero), 0, top)
        error = x - (q - zero) * scale
        running &= np.abs(error).mean(1, keepdims=True) < best
        best = np.where(running, np.abs(error).mean(1, keepdims=True), best)
        best_zero = np.where(running, zero, best_zero)
        size = np.maximum(np.abs(error), 1e-30)
        e = np.sign(error) * np.maximum(size - size ** (p - 1) / beta, 0)
        zero = (q - (x - e) / scale).mean(1, keepdims=True)
        beta *= 1.01
    q = np.clip(np.rint(x / scale + best_zero), 0, top)
    return (q - best_zero) * scale


def f8_e4m3(x):
    """Groups of 64 with a scale that makes the largest magnitude 448."""
    numbers = np.array([(i & 7) * 2.0**-9 if i < 8 else (8 + (i & 7)) * 2.0 ** ((i >> 3) - 10) for i in range(127)])
    x = x.reshape(-1, 64).astype(np.float64)
    scale = np.abs(x).max(1, keepdims=True) / 448
    magnitude = np.abs(x) / scale
    at = np.clip(np.searchsorted(numbers, magnitude), 1, 126)
    nearest = np.where(magnitude - numbers[at - 1] < numbers[at] - magnitude, numbers[at - 1], numbers[at])
    return np.sign(x) * nearest * scale


def write_hqq():
    lines = []
    for bits, name, number in ((4, "HQQ4", 60), (8, "HQQ8", 61)):
        for kind, x in inputs().items():
            found, plain = (np.mean(np.abs(hqq(x, bits, search) - x.reshape(-1, 64)) ** 0.7) for search in (True, False))
            lines.append(f"{name} {number} {kind} {found:.6e} {plain:.6e}")
    (HERE / "hqq.txt").write_text("\n".join(lines) + "\n")


def rounded(name, x, ggml):
    """What the reference makes of x where ggml_quantize_chunk does not know the type."""
    if name == "F8E4M3":
        return f8_e4m3(x).reshape(x.shape)
    if name in ("F16", "BF16"):
        qtype = gguf.GGMLQuantizationType[name]
        return gguf.quants.dequantize(gguf.quants.quantize(x, qtype), qtype)
    block, n_bytes = {"Q8_1": (32, 36), "Q8_K": (256, 292)}[name]
    out = np.zeros((x.size // block, n_bytes), np.uint8)
    function = getattr(ggml, f"quantize_row_{name[:3].lower()}{name[3:]}_ref")
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    function.restype = None
    function(x.ctypes.data, out.ctypes.data, x.size)
    return decode(name, None, out).reshape(x.shape)


def write_quantize(library):
    ggml = ctypes.CDLL(library)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                                         ctypes.c_int64, ctypes.c_void_p]
    lines = []
    for name in QUANTIZED:
        qtype = gguf.GGMLQuantizationType[name]
        block, n_bytes = gguf.GGML_QUANT_SIZES[qtype]
        for kind, x in inputs().items():
            x = np.ascontiguousarray(x)
            out = np.zeros((ROWS, COLS // block * n_bytes), np.uint8)
            ggml.ggml_quantize_chunk(qtype.value, x.ctypes.data, out.ctypes.data, 0, ROWS, COLS, None)
            error = (gguf.quants.dequantize(out, qtype) - x).astype(np.float64)
            lines.append(f"{name} {qtype.value} {kind} {np.sqrt((error**2).mean()):.6e}")
    for name, number in (("F16", 1), ("BF16", 30), ("Q8_1", 9), ("Q8_K", 15), ("F8E4M3", 62)):
        for kind, x in inputs().items():
            error = (rounded(name, np.ascontiguousarray(x), ggml) - x).astype(np.float64)
            lines.append(f"{name} {number} {kind} {np.sqrt((error**2).mean()):.6e}")
    (HERE / "quantize.txt").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ggml", help="path of libggml-base.so")
    args = parser.parse_args()
    write_decode()
    write_hqq()
    if args.ggml:
        write_quantize(args.ggml)


if __name__ == "__main__":
    main()
