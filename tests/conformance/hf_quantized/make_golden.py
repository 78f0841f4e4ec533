#!/usr/bin/env python3
"""Small folders whose weights are quantized as GPTQ, AWQ and FP8 repositories have them, and golden.txt.

    make_golden.py        needs PyPI numpy

golden.txt: one line for each matrix, `FOLDER TENSOR TYPE hash`: our name, the type it gets, and value_hash() of its float32
values, decoded here from the packed arrays by the definitions of the formats:

  GPTQ   (AutoGPTQ, GPTQModel) qweight[in/n, out] holds n = 32/bits columns of `in` in a word, lowest bits first;
         qzeros[groups, out/n] likewise along `out`, less one before version 2; w = scales[g, out] * (q - z), g = g_idx[in].
  AWQ    (AutoAWQ, "GEMM") qweight[in, out/8]: a word holds 8 of `out` in the order 0 2 4 6 1 3 5 7; qzeros[groups, out/8] too.
  FP8    w = number * scale, one for the tensor, a row, or a block (DeepSeek-V3's weight_scale_inv).

Values that halves cannot hold are rounded as hf_quantized.h says.
"""

import json
import pathlib
import struct

import numpy as np

HERE = pathlib.Path(__file__).parent
HIDDEN, HEADS, KV, FF, VOCAB = 64, 2, 1, 128, 40
SHAPES = {"self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (HIDDEN // HEADS * KV, HIDDEN),
          "self_attn.v_proj": (HIDDEN // HEADS * KV, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
          "mlp.gate_proj": (FF, HIDDEN), "mlp.up_proj": (FF, HIDDEN), "mlp.down_proj": (HIDDEN, FF)}
OURS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
DTYPES = {"float32": "F32", "float16": "F16", "int32": "I32", "uint16": "BF16"}


def save(path, tensors):
    """A safetensors file; pairs (dtype, array) name types that numpy lacks."""
    header, data, at = {}, [], 0
    for name, value in tensors.items():
        dtype, array = value if isinstance(value, tuple) else (DTYPES[str(value.dtype)], value)
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + len(raw)]}
        data.append(raw)
        at += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def mix(counter):
    with np.errstate(over="ignore"):
        z = (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def value_hash(values):
    bits = np.ascontiguousarray(values, "<f4").view(np.uint32).ravel().astype(np.uint64)
    with np.errstate(over="ignore"):
        return int(np.sum(bits * (mix(np.arange(bits.size, dtype=np.uint64)) | np.uint64(1)), dtype=np.uint64))


def bf16(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(x):
    return (x.astype(np.uint32) << 16).view(np.float32)


def pack(values, axis, bits, order=None):
    """Integers along an axis into words, lowest bits first; `order` says which of them goes where."""
    n = 32 // bits
    values = np.moveaxis(values, axis, -1)
    values = values.reshape(*values.shape[:-1], -1, n).astype(np.uint32)
    words = np.zeros(values.shape[:-1], np.uint32)
    for i in range(n):
        words |= values[..., order[i] if order else i] << np.uint32(bits * i)
    return np.ascontiguousarray(np.moveaxis(words, -1, axis)).view(np.int32)


def unpack(words, axis, bits, back=None):
    n = 32 // bits
    words = np.moveaxis(words.view(np.uint32), axis, -1)
    values = (words[..., None] >> (np.arange(n, dtype=np.uint32) * np.uint32(bits))) & np.uint32(2**bits - 1)
    if back:
        values = values[..., back]
    return np.moveaxis(values.reshape(*values.shape[:-2], -1), -1, axis).astype(np.int64)


def f8_numbers(exponents, mantissas, bias):
    bits = np.arange(256)
    e, m = (bits & 127) >> mantissas, bits & (2**mantissas - 1)
    value = np.where(e == 0, m * 2.0 ** (1 - bias - mantissas), (m + 2**mantissas) * 2.0 ** (e.astype(float) - bias - mantissas))
    return np.where(bits & 128, -value, value).astype(np.float32)


E4M3, E5M2 = f8_numbers(4, 3, 7), f8_numbers(5, 2, 15)


class Gptq:
    def __init__(self, bits, group, symmetric, version=1, act_order=False, scale_bf16=False):
        self.bits, self.group, self.symmetric, self.version, self.act_order = bits, group, symmetric, version, act_order
        self.scale_bf16 = scale_bf16
        self.config = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": act_order, "sym": symmetric}
        if version == 2:
            self.config["checkpoint_format"] = "gptq_v2"

    def tensors(self, name, n_out, n_in, rng):
        bits, group = self.bits, self.group if self.group > 0 else n_in
        n_groups = n_in // group
        q = rng.integers(0, 2**bits, (n_in, n_out))
        least = 1 if self.version == 1 else 0
        zeros = np.full((n_groups, n_out), 2 ** (bits - 1))
        if not self.symmetric:
            zeros = rng.integers(least, 2**bits, (n_groups, n_out))
        scales = rng.uniform(0.2, 1.0, (n_groups, n_out)) * 0.5 * 2.0**-bits
        scales = bf16(scales) if self.scale_bf16 else scales.astype(np.float16)
        g_idx = np.arange(n_in) // group
        if self.act_order:
            g_idx = rng.permutation(g_idx)
        return {name + ".qweight": pack(q, 0, bits), name + ".qzeros": pack(zeros - least, 1, bits),
                name + ".scales": scales, name + ".g_idx": g_idx.astype(np.int32)}

    def decode(self, t, name):
        q, zeros = unpack(t[name + ".qweight"], 0, self.bits), unpack(t[name + ".qzeros"], 1, self.bits)
        zeros = zeros + (1 if self.version == 1 else 0)
        scales = t[name + ".scales"]
        scales = from_bf16(scales) if self.scale_bf16 else scales.astype(np.float32)
        g = t[name + ".g_idx"]
        w = (scales[g] * (q - zeros[g]).astype(np.float32)).T
        if self.act_order:
            return "F16", w.astype(np.float16).astype(np.float32)
        if self.bits == 8 and not self.symmetric:
            d = scales[g].T
            m = (d * (128 - zeros[g]).T.astype(np.float32)).astype(np.float16).astype(np.float32)
            return "HQQ8", d * (q - 128).T.astype(np.float32) + m
        return {(4, True): "Q4_0", (4, False): "Q5_0", (8, True): "Q8_0"}[self.bits, self.symmetric], w


class Awq:
    ORDER, BACK = [0, 2, 4, 6, 1, 3, 5, 7], [0, 4, 1, 5, 2, 6, 3, 7]

    def __init__(self, group):
        self.group = group
        self.config = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}

    def tensors(self, name, n_out, n_in, rng):
        n_groups = n_in // self.group
        q, zeros = rng.integers(0, 16, (n_in, n_out)), rng.integers(0, 16, (n_groups, n_out))
        scales = (rng.uniform(0.2, 1.0, (n_groups, n_out)) * 0.03).astype(np.float16)
        return {name + ".qweight": pack(q, 1, 4, self.ORDER), name + ".qzeros": pack(zeros, 1, 4, self.ORDER),
                name + ".scales": scales}

    def decode(self, t, name):
        q, zeros = unpack(t[name + ".qweight"], 1, 4, self.BACK), unpack(t[name + ".qzeros"], 1, 4, self.BACK)
        g = np.arange(len(q)) // self.group
        return "Q5_0", (t[name + ".scales"].astype(np.float32)[g] * (q - zeros[g]).astype(np.float32)).T


class Fp8:
    def __init__(self, scale, config, ending=".weight_scale", dtype="F8_E4M3", block=None, scale_bf16=False):
        self.scale, self.config, self.ending, self.dtype, self.block = scale, config, ending, dtype, block
        self.scale_bf16 = scale_bf16

    def tensors(self, name, n_out, n_in, rng):
        top = 0x7F if self.dtype == "F8_E4M3" else 0x60
        q = (rng.integers(0, top, (n_out, n_in)) | rng.integers(0, 2, (n_out, n_in)) << 7).astype(np.uint8)
        t = {name + ".weight": (self.dtype, q)}
        shape = {"none": None, "tensor": (), "one": (1,), "row": (n_out, 1)}.get(self.scale)
        if self.scale == "block":
            shape = (-(-n_out // self.block[0]), -(-n_in // self.block[1]))
        if shape is not None:
            scales = (rng.uniform(0.2, 1.0, shape) * 1e-3).astype(np.float32) * np.ones(shape, np.float32)
            t[name + self.ending] = bf16(scales) if self.scale_bf16 else scales
        return t

    def decode(self, t, name):
        q = t[name + ".weight"][1]
        w = (E4M3 if self.dtype == "F8_E4M3" else E5M2)[q]
        scales = t.get(name + self.ending)
        exact = self.dtype == "F8_E4M3" and q.shape[1] % 64 == 0
        if scales is None:
            return ("F8E4M3" if exact else "F16"), w
        scales = from_bf16(scales) if self.scale_bf16 else scales
        if self.scale == "block":
            scales = np.repeat(np.repeat(scales, self.block[0], 0), self.block[1], 1)[:q.shape[0], :q.shape[1]]
            exact = exact and self.block[1] % 64 == 0
        return ("F8E4M3" if exact else "F32"), w * scales.astype(np.float32)


def compressed(strategy):
    return {"quant_method": "compressed-tensors", "format": "float-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float",
                                                                             "strategy": strategy, "symmetric": True}}}}


FOLDERS = {
    "gptq-4-sym": Gptq(4, 32, True),
    "gptq-4-asym": Gptq(4, 64, False),
    "gptq-4-v2": Gptq(4, 32, False, version=2, scale_bf16=True),
    "gptq-4-act-order": Gptq(4, 32, False, act_order=True),
    "gptq-8-sym": Gptq(8, -1, True),
    "gptq-8-asym": Gptq(8, 64, False),
    "awq": Awq(32),
    "fp8-blocks": Fp8("block", {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [48, 64]}, ".weight_scale_inv",
                      block=(48, 64), scale_bf16=True),
    "fp8-odd-blocks": Fp8("block", {"quant_method": "fp8", "weight_block_size": [32, 48]}, ".weight_scale_inv",
                          block=(32, 48)),
    "fp8-tensor": Fp8("tensor", compressed("tensor")),
    "fp8-row": Fp8("row", compressed("channel")),
    "fp8-bare": Fp8("none", None),
    "fp8-e5m2": Fp8("none", None, dtype="F8_E5M2"),
}


def main():
    lines = []
    for seed, (folder, kind) in enumerate(FOLDERS.items()):
        rng = np.random.default_rng(seed)
        where = HERE / folder
        where.mkdir(exist_ok=True)
        half = lambda *shape: rng.normal(0, 0.1, shape).astype(np.float16)
        tensors = {"model.embed_tokens.weight": half(VOCAB, HIDDEN), "model.norm.weight": half(HIDDEN) + np.float16(1)}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.0.{norm}.weight"] = half(HIDDEN) + np.float16(1)
        for name, (n_out, n_in) in SHAPES.items():
            full = "model.layers.0." + name
            tensors.update(kind.tensors(full, n_out, n_in, rng))
            dtype, values = kind.decode(tensors, full)
            lines.append(f"{folder} blk.0.{OURS[name]}.weight {dtype} {value_hash(values):016x}")
        save(where / "model.safetensors", tensors)
        config = dict(model_type="llama", hidden_size=HIDDEN, num_hidden_layers=1, num_attention_heads=HEADS,
                      num_key_value_heads=KV, intermediate_size=FF, rms_norm_eps=1e-5, rope_theta=10000.0,
                      max_position_embeddings=64, vocab_size=VOCAB, tie_word_embeddings=True)
        if kind.config:
            config["quantization_config"] = kind.config
        (where / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (HERE / "golden.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
