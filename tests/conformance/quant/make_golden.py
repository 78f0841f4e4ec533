#!/usr/bin/env python3
"""Golden data of the tensor formats: decode.txt and quantize.txt, read by tests/unit/test_dtype.c.

    make_golden.py                         # decode.txt; needs PyPI numpy and gguf, an independent decoder
    make_golden.py --ggml LIBGGML_BASE.SO  # also quantize.txt: the errors of ggml's own quantizers, called through ctypes

decode.txt: one line for each type, `NAME id n_blocks hash offsets`. The blocks are pseudo-random bytes (stream(), seeded by the
type's id); in each block the bytes at `offsets`, the high bytes of its half floats, have bit 6 cleared, so that no scale is
infinite or NaN. The hash is taken of the decoded float32 bits (value_hash()).

quantize.txt: one line for each type and input, `NAME id input rmse`: the root of the mean squared error of the reference
quantizer, without an importance matrix, on 256 rows of 256 values of inputs().
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
    (HERE / "quantize.txt").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ggml", help="path of libggml-base.so")
    args = parser.parse_args()
    write_decode()
    if args.ggml:
        write_quantize(args.ggml)


if __name__ == "__main__":
    main()
