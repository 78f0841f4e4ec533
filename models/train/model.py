"""The Llama-shaped transformer in PyTorch, in transformers' weight order (half-split rotary embedding)."""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    n_vocab: int = 3072
    n_embd: int = 256
    n_layer: int = 5
    n_head: int = 4
    n_head_kv: int = 2
    n_ff: int = 640
    n_ctx: int = 2048
    rope_base: float = 1000000.0
    eps: float = 1e-5


def rope_tables(cfg, n):
    d = cfg.n_embd // cfg.n_head
    inv = 1.0 / cfg.rope_base ** (torch.arange(0, d, 2, dtype=torch.float32) / d)
    a = torch.arange(n, dtype=torch.float32)[:, None] * inv
    return torch.cat([a, a], 1).cos(), torch.cat([a, a], 1).sin()


def rotate(x, cos, sin):
    """x: [batch, heads, n, head_dim]"""
    h = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., h:], x[..., :h]], -1) * sin


class Block(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        d, hd = cfg.n_embd, cfg.n_embd // cfg.n_head
        self.cfg, self.hd = cfg, hd
        lin = lambda i, o: nn.Linear(i, o, bias=False)
        self.norm1, self.norm2 = nn.Parameter(torch.ones(d)), nn.Parameter(torch.ones(d))
        self.q, self.k, self.v, self.o = lin(d, d), lin(d, cfg.n_head_kv * hd), lin(d, cfg.n_head_kv * hd), lin(d, d)
        self.gate, self.up, self.down = lin(d, cfg.n_ff), lin(d, cfg.n_ff), lin(cfg.n_ff, d)

    def forward(self, x, cos, sin):
        b, n, d = x.shape
        c = self.cfg
        h = F.rms_norm(x, (d,), self.norm1.to(x.dtype), c.eps)
        q = self.q(h).view(b, n, c.n_head, self.hd).transpose(1, 2)
        k = self.k(h).view(b, n, c.n_head_kv, self.hd).transpose(1, 2)
        v = self.v(h).view(b, n, c.n_head_kv, self.hd).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        r = c.n_head // c.n_head_kv
        k, v = k.repeat_interleave(r, 1), v.repeat_interleave(r, 1)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(a.transpose(1, 2).reshape(b, n, d))
        h = F.rms_norm(x, (d,), self.norm2.to(x.dtype), c.eps)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.embed = nn.Embedding(cfg.n_vocab, cfg.n_embd)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.n_layer))
        self.norm = nn.Parameter(torch.ones(cfg.n_embd))
        self.output = nn.Linear(cfg.n_embd, cfg.n_vocab, bias=False)
        cos, sin = rope_tables(cfg, cfg.n_ctx)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        nn.init.normal_(self.embed.weight, std=1.0)
        nn.init.zeros_(self.output.weight)
        for b in self.blocks:
            for m in (b.q, b.k, b.v, b.gate, b.up):
                nn.init.normal_(m.weight, std=cfg.n_embd ** -0.5)
            for m in (b.o, b.down):
                nn.init.zeros_(m.weight)

    def hidden(self, ids, dtype=torch.float32):
        n = ids.shape[1]
        cos, sin = self.cos[:n].to(dtype), self.sin[:n].to(dtype)
        x = F.embedding(ids, self.embed.weight).to(dtype)
        for b in self.blocks:
            x = b(x, cos, sin)
        return F.rms_norm(x, (self.cfg.n_embd,), self.norm.to(x.dtype), self.cfg.eps)

    def forward(self, ids):
        return self.output(self.hidden(ids))
