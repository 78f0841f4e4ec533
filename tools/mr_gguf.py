#!/usr/bin/env python3
"""GGUF version 3 files from Python: a writer, a reader, and the block formats' encoders and decoders.

Needs only numpy.  Layout source: the GGUF specification (magic "GGUF", version, tensor count, metadata count, metadata
pairs, tensor infos, padding to `general.alignment`, tensor data; little-endian).

Writing:

    w = GGUFWriter("llama")                          # sets general.architecture
    w.add("general.name", "tiny")                    # the value type is inferred; see infer_type()
    w.add("llama.block_count", 2)                    # -> UINT32
    w.add("llama.rope.freq_base", 10000.0)           # -> FLOAT32
    w.add("tokenizer.ggml.tokens", ["a", "b"])       # -> ARRAY of STRING
    w.add("tokenizer.ggml.scores", [0.0], elem=FLOAT32)
    w.add("x.y", 7, UINT64)                          # an explicit type
    w.add_tensor("token_embd.weight", array, "Q8_0") # array is [rows, cols], cols = the contiguous (first GGUF) dimension
    w.add_raw_tensor("t", shape, "Q2_K", data)       # bytes that are encoded already
    w.write("out.gguf")

Reading:

    r = GGUFReader("out.gguf")
    r.meta["general.name"];  r.tensors["token_embd.weight"].shape  # numpy order: [rows, cols]
    r.f32("token_embd.weight")                       # decoded to float32
    r.raw("token_embd.weight")                       # encoded bytes as uint8

Encoding alone: quantize(array_f32, "Q4_K") -> bytes;  dequantize(bytes, "Q4_K", shape) -> float32.
As a program: `mr_gguf.py FILE.gguf` lists metadata and tensors; `mr_gguf.py --requantize TYPE IN OUT` rewrites the
matrices of IN in TYPE (see requantize()).
"""

import struct
import sys
from collections import namedtuple

import numpy as np

MAGIC = b"GGUF"
VERSION = 3

# Metadata value types.
UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
TYPE_NAMES = ("uint8 int8 uint16 int16 uint32 int32 float32 bool string array uint64 int64 float64").split()
_SCALAR = {
    UINT8: "<B", INT8: "<b", UINT16: "<H", INT16: "<h", UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?",
    UINT64: "<Q", INT64: "<q", FLOAT64: "<d",
}
_NUMPY_TYPES = {
    "uint8": UINT8, "int8": INT8, "uint16": UINT16, "int16": INT16, "uint32": UINT32, "int32": INT32,
    "float32": FLOAT32, "bool": BOOL, "uint64": UINT64, "int64": INT64, "float64": FLOAT64,
}

# Tensor types: name -> (id, values in a block, bytes of a block).
Format = namedtuple("Format", "id block bytes")
FORMATS = {
    "F32": Format(0, 1, 4), "F16": Format(1, 1, 2), "Q4_0": Format(2, 32, 18), "Q4_1": Format(3, 32, 20),
    "Q5_0": Format(6, 32, 22), "Q5_1": Format(7, 32, 24), "Q8_0": Format(8, 32, 34), "Q8_1": Format(9, 32, 36),
    "Q2_K": Format(10, 256, 84), "Q3_K": Format(11, 256, 110), "Q4_K": Format(12, 256, 144),
    "Q5_K": Format(13, 256, 176), "Q6_K": Format(14, 256, 210), "Q8_K": Format(15, 256, 292),
    "IQ4_NL": Format(20, 32, 18), "IQ3_S": Format(21, 256, 110), "IQ4_XS": Format(23, 256, 136),
    "I8": Format(24, 1, 1), "I16": Format(25, 1, 2), "I32": Format(26, 1, 4), "I64": Format(27, 1, 8),
    "F64": Format(28, 1, 8), "BF16": Format(30, 1, 2), "MXFP4": Format(39, 32, 17),
}
FORMAT_NAMES = {f.id: name for name, f in FORMATS.items()}

TensorInfo = namedtuple("TensorInfo", "name shape type offset nbytes")  # shape in numpy order, offset in the data section


class GGUFError(Exception):
    pass


def row_bytes(type_name, n):
    """Bytes of a row of n values."""
    f = FORMATS[type_name]
    if n % f.block:
        raise GGUFError(f"a row of {n} values does not divide into {type_name} blocks of {f.block}")
    return n // f.block * f.bytes


# ---------------------------------------------------------------------------------------------------- block encoders
# Each works on x = float32 [n_blocks, block] and returns uint8 [n_blocks, bytes].


def _round_away(x):
    """roundf(): halves go away from zero."""
    return np.sign(x) * np.floor(np.abs(x) + np.float32(0.5))


def _inverse(d):
    return np.divide(np.float32(1), d, out=np.zeros_like(d), where=d != 0)


def _f16_bytes(v):
    return np.ascontiguousarray(v.astype("<f2")).reshape(-1, 1).view(np.uint8)


def _f16_read(b):
    return np.ascontiguousarray(b).view("<f2").astype(np.float32)


def _signed_absmax(x):
    """The value of largest magnitude in each row, with its sign."""
    return np.take_along_axis(x, np.abs(x).argmax(1)[:, None], 1)[:, 0]


def _pack_nibbles(q):
    return (q[:, :16] | (q[:, 16:] << 4)).astype(np.uint8)


def _pack_high_bits(q):
    bits = (q >> 4).astype(np.uint32) << np.arange(32, dtype=np.uint32)
    return bits.sum(1, dtype=np.uint32).astype("<u4").reshape(-1, 1).view(np.uint8)


def _enc_bf16(x):
    u = np.ascontiguousarray(x, dtype="<f4").view(np.uint32)
    nan = (u & 0x7FFFFFFF) > 0x7F800000
    rounded = (u + (0x7FFF + ((u >> 16) & 1))) >> 16  # to nearest, ties to even
    return np.where(nan, (u >> 16) | 64, rounded).astype("<u2")


def _enc_q8_0(x):
    d = np.abs(x).max(1) / np.float32(127)
    q = _round_away(x * _inverse(d)[:, None]).astype(np.int8)
    return np.hstack([_f16_bytes(d), q.view(np.uint8)])


def _enc_q4_0(x):
    d = _signed_absmax(x) / np.float32(-8)
    q = np.minimum(15, (x * _inverse(d)[:, None] + np.float32(8.5)).astype(np.int8)).astype(np.uint8)
    return np.hstack([_f16_bytes(d), _pack_nibbles(q)])


def _enc_q4_1(x):
    low = x.min(1)
    d = (x.max(1) - low) / np.float32(15)
    q = np.minimum(15, ((x - low[:, None]) * _inverse(d)[:, None] + np.float32(0.5)).astype(np.int8)).astype(np.uint8)
    return np.hstack([_f16_bytes(d), _f16_bytes(low), _pack_nibbles(q)])


def _enc_q5_0(x):
    d = _signed_absmax(x) / np.float32(-16)
    q = np.minimum(31, (x * _inverse(d)[:, None] + np.float32(16.5)).astype(np.int8)).astype(np.uint8)
    return np.hstack([_f16_bytes(d), _pack_high_bits(q), _pack_nibbles(q & 15)])


def _enc_q5_1(x):
    low = x.min(1)
    d = (x.max(1) - low) / np.float32(31)
    q = np.minimum(31, ((x - low[:, None]) * _inverse(d)[:, None] + np.float32(0.5)).astype(np.int8)).astype(np.uint8)
    return np.hstack([_f16_bytes(d), _f16_bytes(low), _pack_high_bits(q), _pack_nibbles(q & 15)])


def _pack_scales6(sc, mn):
    """Eight 6-bit scales and eight 6-bit minima in 12 bytes, as Q4_K and Q5_K hold them."""
    out = np.zeros((len(sc), 12), np.uint8)
    out[:, 0:4] = sc[:, 0:4] | ((sc[:, 4:8] >> 4) << 6)
    out[:, 4:8] = mn[:, 0:4] | ((mn[:, 4:8] >> 4) << 6)
    out[:, 8:12] = (sc[:, 4:8] & 15) | ((mn[:, 4:8] & 15) << 4)
    return out


def _unpack_scales6(b):
    sc = np.hstack([b[:, 0:4] & 63, (b[:, 8:12] & 15) | ((b[:, 0:4] >> 6) << 4)])
    mn = np.hstack([b[:, 4:8] & 63, (b[:, 8:12] >> 4) | ((b[:, 4:8] >> 6) << 4)])
    return sc.astype(np.float32), mn.astype(np.float32)


def _affine_superblock(x, qmax):
    """Two-level scale and minimum of eight groups of 32: header bytes [n, 16] and quants uint8 [n, 8, 32]."""
    g = x.reshape(-1, 8, 32)
    low = np.minimum(g.min(2), 0)
    scale = (g.max(2) - low) / np.float32(qmax)
    d = (scale.max(1) / np.float32(63)).astype("<f2").astype(np.float32)
    dmin = ((-low).max(1) / np.float32(63)).astype("<f2").astype(np.float32)
    sc = np.clip(_round_away(scale * _inverse(d)[:, None]), 0, 63).astype(np.uint8)
    mn = np.clip(_round_away(-low * _inverse(dmin)[:, None]), 0, 63).astype(np.uint8)
    step = d[:, None] * sc
    base = dmin[:, None] * mn
    q = np.clip(_round_away((g + base[:, :, None]) * _inverse(step)[:, :, None]), 0, qmax).astype(np.uint8)
    return np.hstack([_f16_bytes(d), _f16_bytes(dmin), _pack_scales6(sc, mn)]), q


def _enc_q4_k(x):
    head, q = _affine_superblock(x, 15)
    return np.hstack([head, (q[:, 0::2] | (q[:, 1::2] << 4)).reshape(-1, 128)])


def _enc_q5_k(x):
    head, q = _affine_superblock(x, 31)
    high = ((q >> 4) << np.arange(8, dtype=np.uint8)[None, :, None]).sum(1, dtype=np.uint8)
    low = q & 15
    return np.hstack([head, high, (low[:, 0::2] | (low[:, 1::2] << 4)).reshape(-1, 128)])


def _enc_q6_k(x):
    g = x.reshape(-1, 16, 16)
    flat = g.reshape(-1, 16)
    scale = (_signed_absmax(flat) / np.float32(-32)).reshape(-1, 16)
    d = (_signed_absmax(scale) / np.float32(-128)).astype("<f2").astype(np.float32)
    sc = np.clip(_round_away(scale * _inverse(d)[:, None]), -128, 127).astype(np.int8)
    step = d[:, None] * sc.astype(np.float32)
    q = np.clip(_round_away(g * _inverse(step)[:, :, None]), -32, 31) + 32
    q = q.astype(np.uint8).reshape(-1, 2, 4, 32)  # two halves of 128, each of four runs of 32
    low, high = q & 15, q >> 4
    ql = np.stack([low[:, :, 0] | (low[:, :, 2] << 4), low[:, :, 1] | (low[:, :, 3] << 4)], 2).reshape(-1, 128)
    qh = high[:, :, 0] | (high[:, :, 1] << 2) | (high[:, :, 2] << 4) | (high[:, :, 3] << 6)
    return np.hstack([ql, qh.reshape(-1, 64), sc.view(np.uint8), _f16_bytes(d)])


# ---------------------------------------------------------------------------------------------------- block decoders
# Each works on b = uint8 [n_blocks, bytes] and returns float32 [n_blocks, block].


def _unpack_nibbles(b):
    return np.hstack([b & 15, b >> 4]).astype(np.int32)


def _unpack_high_bits(b):
    u = np.ascontiguousarray(b).view("<u4")
    return (((u >> np.arange(32, dtype=np.uint32)) & 1) << 4).astype(np.int32)


def _dec_q8_0(b):
    return _f16_read(b[:, :2]) * np.ascontiguousarray(b[:, 2:]).view(np.int8).astype(np.float32)


def _dec_q4_0(b):
    return _f16_read(b[:, :2]) * (_unpack_nibbles(b[:, 2:]) - 8).astype(np.float32)


def _dec_q4_1(b):
    return _f16_read(b[:, :2]) * _unpack_nibbles(b[:, 4:]).astype(np.float32) + _f16_read(b[:, 2:4])


def _dec_q5_0(b):
    q = (_unpack_nibbles(b[:, 6:]) | _unpack_high_bits(b[:, 2:6])) - 16
    return _f16_read(b[:, :2]) * q.astype(np.float32)


def _dec_q5_1(b):
    q = _unpack_nibbles(b[:, 8:]) | _unpack_high_bits(b[:, 4:8])
    return _f16_read(b[:, :2]) * q.astype(np.float32) + _f16_read(b[:, 2:4])


def _dec_affine_superblock(b, q):
    sc, mn = _unpack_scales6(b[:, 4:16])
    step = _f16_read(b[:, :2]) * sc
    base = _f16_read(b[:, 2:4]) * mn
    return (step[:, :, None] * q.astype(np.float32) - base[:, :, None]).reshape(-1, 256)


def _group_nibbles(b):
    pairs = b.reshape(-1, 4, 32)
    return np.stack([pairs & 15, pairs >> 4], 2).reshape(-1, 8, 32)


def _dec_q4_k(b):
    return _dec_affine_superblock(b, _group_nibbles(b[:, 16:]))


def _dec_q5_k(b):
    high = ((b[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[None, :, None]) & 1) << 4
    return _dec_affine_superblock(b, _group_nibbles(b[:, 48:]) | high)


def _dec_q6_k(b):
    ql = b[:, :128].reshape(-1, 2, 2, 32)
    qh = b[:, 128:192].reshape(-1, 2, 1, 32)
    low = np.concatenate([ql & 15, ql >> 4], 2)
    high = (qh >> np.array([0, 2, 4, 6], np.uint8)[None, None, :, None]) & 3
    q = (low | (high << 4)).astype(np.int32) - 32
    sc = np.ascontiguousarray(b[:, 192:208]).view(np.int8).astype(np.float32)
    step = _f16_read(b[:, 208:210]) * sc
    return (step[:, :, None] * q.reshape(-1, 16, 16).astype(np.float32)).reshape(-1, 256)


_ENCODERS = {
    "Q8_0": _enc_q8_0, "Q4_0": _enc_q4_0, "Q4_1": _enc_q4_1, "Q5_0": _enc_q5_0, "Q5_1": _enc_q5_1,
    "Q4_K": _enc_q4_k, "Q5_K": _enc_q5_k, "Q6_K": _enc_q6_k,
}
_DECODERS = {
    "Q8_0": _dec_q8_0, "Q4_0": _dec_q4_0, "Q4_1": _dec_q4_1, "Q5_0": _dec_q5_0, "Q5_1": _dec_q5_1,
    "Q4_K": _dec_q4_k, "Q5_K": _dec_q5_k, "Q6_K": _dec_q6_k,
}
_PLAIN = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
QUANTIZERS = tuple(_PLAIN) + ("BF16",) + tuple(_ENCODERS)


def quantize(array, type_name):
    """Encodes an array (rows along the last axis) to bytes of the named type."""
    array = np.ascontiguousarray(array)
    if type_name in _PLAIN:
        return array.astype(_PLAIN[type_name]).tobytes()
    x = array.astype(np.float32)
    if type_name == "BF16":
        return _enc_bf16(x).tobytes()
    if type_name not in _ENCODERS:
        raise GGUFError(f"no encoder for {type_name}; there are {', '.join(QUANTIZERS)}")
    row_bytes(type_name, x.shape[-1])
    return np.ascontiguousarray(_ENCODERS[type_name](x.reshape(-1, FORMATS[type_name].block))).tobytes()


def dequantize(data, type_name, shape):
    """Decodes bytes to float32 of `shape`; integer and F64 tensors keep their own type."""
    if type_name in _PLAIN:
        a = np.frombuffer(data, _PLAIN[type_name])
        return (a.astype(np.float32) if type_name in ("F32", "F16") else a).reshape(shape)
    if type_name == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if type_name not in _DECODERS:
        raise GGUFError(f"no decoder for {type_name}")
    blocks = np.frombuffer(data, np.uint8).reshape(-1, FORMATS[type_name].bytes)
    return _DECODERS[type_name](blocks).astype(np.float32).reshape(shape)


# ------------------------------------------------------------------------------------------------------------- writer


def infer_type(value):
    """bool, int (UINT32, INT32 if negative, 64-bit if it must), float (FLOAT32), str and bytes, list/tuple/ndarray."""
    if isinstance(value, (bool, np.bool_)):
        return BOOL
    if isinstance(value, np.generic) and value.dtype.name in _NUMPY_TYPES:
        return _NUMPY_TYPES[value.dtype.name]
    if isinstance(value, int):
        if value < 0:
            return INT32 if value >= -(1 << 31) else INT64
        return UINT32 if value < (1 << 32) else UINT64
    if isinstance(value, float):
        return FLOAT32
    if isinstance(value, (str, bytes)):
        return STRING
    if isinstance(value, (list, tuple, np.ndarray)):
        return ARRAY
    raise GGUFError(f"no metadata type for a {type(value).__name__}")


def _infer_elem(values):
    if isinstance(values, np.ndarray) and values.dtype.name in _NUMPY_TYPES:
        return _NUMPY_TYPES[values.dtype.name]
    types = {infer_type(v) for v in values}
    if not types or types <= {UINT32, INT32}:
        return INT32  # what converters write for lists of integers, e.g. token types
    if len(types) > 1:
        raise GGUFError("an array needs elements of one type; name it with elem=")
    return types.pop()


def _pack_string(s):
    b = s if isinstance(s, bytes) else s.encode("utf-8")
    return struct.pack("<Q", len(b)) + b


def _pack_value(value, vtype, elem=None):
    if vtype == STRING:
        return _pack_string(value)
    if vtype == ARRAY:
        elem = _infer_elem(value) if elem is None else elem
        return struct.pack("<IQ", elem, len(value)) + b"".join(_pack_value(v, elem) for v in value)
    return struct.pack(_SCALAR[vtype], value)


class GGUFWriter:
    """Collects metadata and tensors, then writes one file."""

    def __init__(self, arch=None, alignment=32):
        self.alignment = alignment
        self.pairs = []    # (key, value, type, element type)
        self.tensors = []  # (name, shape in numpy order, type, bytes)
        if arch is not None:
            self.add("general.architecture", arch)
        if alignment != 32:
            self.add("general.alignment", alignment)

    def add(self, key, value, vtype=None, elem=None):
        """One metadata pair; `vtype` and (for arrays) `elem` override the inferred types. Duplicates are allowed, for tests."""
        self.pairs.append((key, value, infer_type(value) if vtype is None else vtype, elem))
        return self

    def add_tensor(self, name, array, type_name="F32"):
        """Encodes `array` (numpy order: last axis contiguous)."""
        array = np.asarray(array)
        return self.add_raw_tensor(name, array.shape, type_name, quantize(array, type_name))

    def add_raw_tensor(self, name, shape, type_name, data):
        shape = tuple(int(n) for n in shape) or (1,)
        self.tensors.append((name, shape, type_name, bytes(data)))
        return self

    def _pad(self, n):
        return -n % self.alignment

    def tobytes(self):
        out = [MAGIC, struct.pack("<IQQ", VERSION, len(self.tensors), len(self.pairs))]
        for key, value, vtype, elem in self.pairs:
            out += [_pack_string(key), struct.pack("<I", vtype), _pack_value(value, vtype, elem)]
        offset = 0
        for name, shape, type_name, data in self.tensors:
            dims = shape[::-1]  # GGUF names the contiguous dimension first
            out += [_pack_string(name), struct.pack("<I", len(dims)), struct.pack(f"<{len(dims)}Q", *dims)]
            out.append(struct.pack("<IQ", FORMATS[type_name].id, offset))
            offset += len(data) + self._pad(len(data))
        head = b"".join(out)
        body = [head, bytes(self._pad(len(head)))]
        for _, _, _, data in self.tensors:
            body += [data, bytes(self._pad(len(data)))]
        return b"".join(body)

    def write(self, path):
        with open(path, "wb") as f:
            f.write(self.tobytes())


# ------------------------------------------------------------------------------------------------------------- reader


class GGUFReader:
    """Reads GGUF v2 and v3 (little-endian). meta: key -> value; types: key -> (type, element type)."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = f.read()
        self.pos = 0
        if self._take(4) != MAGIC:
            raise GGUFError(f"{path}: not a GGUF file")
        self.version, n_tensors, n_meta = self._unpack("<IQQ")
        if self.version not in (2, 3):
            raise GGUFError(f"{path}: GGUF version {self.version}; versions 2 and 3 are known")
        self.meta, self.types, self.tensors = {}, {}, {}
        for _ in range(n_meta):
            key = self._string()
            vtype = self._unpack("<I")[0]
            self.meta[key], elem = self._value(vtype)
            self.types[key] = (vtype, elem)
        self.alignment = self.meta.get("general.alignment", 32)
        for _ in range(n_tensors):
            info = self._tensor_info()
            self.tensors[info.name] = info
        self.data_start = self.pos + -self.pos % self.alignment

    def _take(self, n):
        if n > len(self.data) - self.pos:
            raise GGUFError(f"the file ends at byte {len(self.data)}, {n} more wanted at {self.pos}")
        self.pos += n
        return self.data[self.pos - n:self.pos]

    def _unpack(self, fmt):
        return struct.unpack(fmt, self._take(struct.calcsize(fmt)))

    def _string(self):
        b = self._take(self._unpack("<Q")[0])
        try:
            return b.decode("utf-8")
        except UnicodeDecodeError:
            return b

    def _value(self, vtype):
        if vtype == STRING:
            return self._string(), None
        if vtype == ARRAY:
            elem, n = self._unpack("<IQ")
            if elem in _SCALAR:
                return list(struct.unpack(f"<{n}{_SCALAR[elem][1]}", self._take(n * struct.calcsize(_SCALAR[elem])))), elem
            return [self._value(elem)[0] for _ in range(n)], elem
        if vtype not in _SCALAR:
            raise GGUFError(f"unknown metadata type {vtype}")
        return self._unpack(_SCALAR[vtype])[0], None

    def _tensor_info(self):
        name = self._string()
        n_dims = self._unpack("<I")[0]
        dims = self._unpack(f"<{n_dims}Q")
        type_id, offset = self._unpack("<IQ")
        type_name = FORMAT_NAMES.get(type_id)
        if type_name is None:
            raise GGUFError(f"tensor {name}: unknown type id {type_id}")
        shape = tuple(reversed(dims)) or (1,)
        rows = int(np.prod(shape[:-1], dtype=np.int64))
        return TensorInfo(name, shape, type_name, offset, rows * row_bytes(type_name, shape[-1]))

    def raw(self, name):
        t = self.tensors[name]
        start = self.data_start + t.offset
        if start + t.nbytes > len(self.data):
            raise GGUFError(f"tensor {name} ends beyond the file")
        return np.frombuffer(self.data, np.uint8, t.nbytes, start)

    def f32(self, name):
        t = self.tensors[name]
        return dequantize(self.raw(name).tobytes(), t.type, t.shape)


def requantize(source, target, type_name):
    """Copies a file with every 2-D tensor re-encoded as `type_name`; rows that do not divide into blocks become F16."""
    r = GGUFReader(source)
    w = GGUFWriter(alignment=r.alignment)
    w.pairs = [(k, v, *r.types[k]) for k, v in r.meta.items() if k != "general.file_type"]
    for name, t in r.tensors.items():
        if len(t.shape) < 2:
            w.add_raw_tensor(name, t.shape, t.type, r.raw(name).tobytes())
            continue
        fits = t.shape[-1] % FORMATS[type_name].block == 0
        w.add_tensor(name, r.f32(name), type_name if fits else "F16")
    w.write(target)


def permute_rope_rows(weight, n_head):
    """Rows of a q/k projection [n_head*head_dim, ...] from the half-split rotary order (transformers' Llama) to the
    interleaved pairs that the GGUF `llama` architecture rotates."""
    head_dim = weight.shape[0] // n_head
    split = weight.reshape(n_head, 2, head_dim // 2, *weight.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(weight.shape)


def byte_to_unicode():
    """GPT-2's printable stand-in for each byte, as byte-level BPE vocabularies spell their tokens."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in keep}
    spare = (b for b in range(256) if b not in table)
    return {**table, **{b: chr(256 + i) for i, b in enumerate(spare)}}


def _list(path):
    r = GGUFReader(path)
    for key, value in r.meta.items():
        vtype, elem = r.types[key]
        kind = TYPE_NAMES[vtype] if elem is None else f"{TYPE_NAMES[elem]}[{len(value)}]"
        text = repr(value[:6] if isinstance(value, list) else value)
        print(f"{key} ({kind}) = {text if len(text) < 100 else text[:97] + '...'}")
    for t in r.tensors.values():
        print(f"{t.name:40} {t.type:6} {list(t.shape)}")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        _list(sys.argv[1])
    elif len(sys.argv) == 5 and sys.argv[1] == "--requantize":
        requantize(sys.argv[3], sys.argv[4], sys.argv[2])
    else:
        sys.exit(f"usage: {sys.argv[0]} FILE.gguf | --requantize TYPE IN.gguf OUT.gguf")
