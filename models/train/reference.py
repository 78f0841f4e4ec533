"""The model run from its GGUF file with numpy alone, in float32: the yardstick for the engine and for the export.

Rotary embedding here is the GGUF `llama` one: neighbouring pairs of each head's values are rotated."""

import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from mr_gguf import GGUFReader, byte_to_unicode


class ReferenceModel:
    def __init__(self, path):
        r = GGUFReader(path)
        m = self.meta = r.meta
        self.n_layer, self.n_embd = m["llama.block_count"], m["llama.embedding_length"]
        self.n_head, self.n_head_kv = m["llama.attention.head_count"], m["llama.attention.head_count_kv"]
        self.hd = self.n_embd // self.n_head
        self.eps = np.float32(m["llama.attention.layer_norm_rms_epsilon"])
        self.w = {n: r.f32(n) for n in r.tensors}
        inv = m["llama.rope.freq_base"] ** (-np.arange(0, self.hd, 2, dtype=np.float64) / self.hd)
        angle = np.arange(m["llama.context_length"])[:, None] * inv
        self.cos, self.sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w[name]

    def rope(self, x, pos):
        """x: [n, heads, head_dim]"""
        c, s = self.cos[pos:pos + len(x), None], self.sin[pos:pos + len(x), None]
        a, b = x[..., 0::2], x[..., 1::2]
        return np.stack([a * c - b * s, a * s + b * c], -1).reshape(x.shape)

    def forward(self, ids, cache=None):
        """Logits [n, n_vocab] of the tokens; `cache` is a list that grows from call to call."""
        cache = [] if cache is None else cache
        n, pos = len(ids), cache[0][0].shape[0] if cache else 0
        w, x = self.w, self.w["token_embd.weight"][ids]
        for l in range(self.n_layer):
            b = f"blk.{l}."
            h = self.norm(x, b + "attn_norm.weight")
            q = self.rope((h @ w[b + "attn_q.weight"].T).reshape(n, self.n_head, self.hd), pos)
            k = self.rope((h @ w[b + "attn_k.weight"].T).reshape(n, self.n_head_kv, self.hd), pos)
            v = (h @ w[b + "attn_v.weight"].T).reshape(n, self.n_head_kv, self.hd)
            if len(cache) > l:
                k, v = np.concatenate([cache[l][0], k]), np.concatenate([cache[l][1], v])
                cache[l] = (k, v)
            else:
                cache.append((k, v))
            x = x + self.attend(q, k, v, pos).reshape(n, -1) @ w[b + "attn_output.weight"].T
            h = self.norm(x, b + "ffn_norm.weight")
            g = h @ w[b + "ffn_gate.weight"].T
            x = x + (g / (1 + np.exp(-g)) * (h @ w[b + "ffn_up.weight"].T)) @ w[b + "ffn_down.weight"].T
        return self.norm(x, "output_norm.weight") @ w.get("output.weight", w["token_embd.weight"]).T

    def attend(self, q, k, v, pos):
        n, total, r = len(q), len(k), self.n_head // self.n_head_kv
        q = q.reshape(n, self.n_head_kv, r, self.hd)
        s = np.einsum("nkrd,tkd->krnt", q, k, optimize=True) / np.float32(np.sqrt(self.hd))
        s = np.where(np.arange(total)[None, :] <= pos + np.arange(n)[:, None], s, np.float32(-np.inf))
        p = np.exp(s - s.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        return np.einsum("krnt,tkd->nkrd", p, v, optimize=True)

    def generate(self, ids, n, stop=(), temperature=0.0, rng=None):
        """New ids (the stop token included) and, for each, the gap between the two largest logits."""
        cache, out, gaps = [], [], []
        logits = self.forward(ids, cache)[-1]
        for _ in range(n):
            top = np.partition(logits, -2)[-2:]
            gaps.append(float(top[1] - top[0]))
            if temperature > 0:
                p = np.exp((logits - logits.max()) / temperature)
                t = int(rng.choice(len(p), p=p / p.sum()))
            else:
                t = int(logits.argmax())
            out.append(t)
            if t in stop or len(ids) + len(out) >= len(self.cos):
                break
            logits = self.forward([t], cache)[-1]
        return out, gaps


class ReferenceTokenizer:
    """The tokenizer as the GGUF file holds it, run by the `tokenizers` package."""

    def __init__(self, meta):
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
        from common import QWEN2_REGEX
        tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
        vocab = {s: i for i, s in enumerate(tokens) if types[i] == 1}
        t = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(m.split(" ")) for m in meta["tokenizer.ggml.merges"]]))
        t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2_REGEX), "isolated"),
                                                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        t.decoder = decoders.ByteLevel()
        for kind, special in ((3, True), (4, False)):
            added = [AddedToken(s, special=special, normalized=False) for i, s in enumerate(tokens) if types[i] == kind]
            t.add_special_tokens(added) if special else t.add_tokens(added)
        self.ids = {s: i for i, s in enumerate(tokens)}
        self.tokens, self.types, self.t = tokens, types, t
        self.bytes = {u: b for b, u in byte_to_unicode().items()}

    def encode(self, text):
        return [self.ids[s] for s in self.t.encode(text).tokens]

    def decode(self, ids, special=False):
        out = b""
        for i in ids:
            if self.types[i] == 1:
                out += bytes(self.bytes[c] for c in self.tokens[i])
            elif self.types[i] == 4 or special:
                out += self.tokens[i].encode()
        return out.decode("utf-8", "replace")
