"""Trains the model on CPU.  train.py NAME [--minutes M] [--tokens-per-step N] [--resume FILE] ...

bfloat16 copies of float32 master weights; Muon for the matrices, Adam for embedding and norms; batches of documents of like
length, each document alone in its row; learning rate: warm-up, constant, then linear decay over the last part of the time.
Progress is counted in time, so that a run ends when it was told to on a machine of any speed."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # each Python thread works on its own piece of a batch, with no barriers between them

import argparse
import concurrent.futures
import json
import queue
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

import induction
from common import WORK, load_tokenizer
from make_data import MIX
from model import Config, Model

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from mr_gguf import GGUFReader


def load_data():
    z = np.load(os.path.join(WORK, "data.npz"))
    return z["ids"], z["mask"], np.concatenate([[0], np.cumsum(z["lens"])]), z["kinds"]


def batches(rng, lens, order, budget):
    """Document numbers grouped by like length, the groups in random order within chunks."""
    order = rng.permutation(order)
    for chunk in np.array_split(order, max(1, len(order) // 3000)):
        chunk = chunk[np.argsort(lens[chunk], kind="stable")]
        out, cur = [], []
        for i in chunk:
            if cur and (len(cur) + 1) * lens[i] > budget:
                out.append(cur)
                cur = []
            cur.append(i)
        out.append(cur)
        for j in rng.permutation(len(out)):
            yield out[j]


def schedule(rng, lens, kinds, a, elapsed):
    """First documents that are copied from the prompt, then short documents, then all."""
    names = [m[0] for m in MIX]
    copies = np.flatnonzero((kinds == names.index("copying")) & (lens < a.short_below))
    short = np.flatnonzero(lens < a.short_below)
    ends = (a.copy_minutes * 60, a.copy_minutes * 60 + a.short_minutes * 60, float("inf"))
    for end, docs, budget in zip(ends, (copies, short, np.flatnonzero(lens <= a.longest)), (a.short_tokens, a.short_tokens, a.tokens_per_step)):
        while elapsed() < end:
            for group in batches(rng, lens, docs, budget):
                if elapsed() > end:
                    break
                yield group


def make_batch(data, group, rng, prompt_share):
    """Inputs, targets, places of the targets, kind of document of each, and whether it is the assistant's own text.  Of the
    tokens that the model need not write, a random share is learned as well."""
    ids, mask, off, kinds = data
    n = max(off[i + 1] - off[i] for i in group)
    x = np.zeros((len(group), n), np.int64)
    own, real = np.zeros((len(group), n), bool), np.zeros((len(group), n), bool)
    for r, i in enumerate(group):
        k = off[i + 1] - off[i]
        x[r, :k] = ids[off[i]:off[i + 1]]
        own[r, :k] = mask[off[i]:off[i + 1]]
        real[r, :k] = True
    m = own | (real & (rng.random(real.shape) < prompt_share))
    kind = np.broadcast_to(kinds[group][:, None], m.shape)[:, 1:][m[:, 1:]]
    return (torch.from_numpy(x[:, :-1]), torch.from_numpy(x[:, 1:][m[:, 1:]]), torch.from_numpy(m[:, 1:].reshape(-1)),
            kind, own[:, 1:][m[:, 1:]])


def orthogonalize(g):
    """Newton-Schulz iteration of Muon (quintic, five steps) on a batch of matrices."""
    x = g.bfloat16()
    flip = x.shape[-2] > x.shape[-1]
    x = x.mT if flip else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.mT if flip else x).float()


class Optimizer:
    def __init__(self, model, a):
        self.a = a
        named = list(model.named_parameters())
        self.matrices = [p for n, p in named if n.startswith("blocks") and p.ndim == 2]
        self.embed = [p for n, p in named if n.startswith("embed")]
        self.output = [p for n, p in named if n.startswith("output")]
        self.norms = [p for n, p in named if p.ndim == 1]
        self.momentum = [torch.zeros_like(p) for p in self.matrices]
        self.adam = torch.optim.AdamW([{"params": self.embed, "base": a.lr_embed}, {"params": self.norms, "base": a.lr_norm},
                                       {"params": self.output, "base": a.lr_output}],
                                      betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0)

    def update(self, shape, items, scale):
        with torch.no_grad():
            u = orthogonalize(torch.stack([g for _, g in items]))
            lr = self.a.lr_matrix * scale * max(1.0, shape[0] / shape[1]) ** 0.5
            for (p, _), v in zip(items, u):
                p.mul_(1 - lr * self.a.decay).add_(v, alpha=-lr)

    @torch.no_grad()
    def step(self, scale, pool):
        for g in self.adam.param_groups:
            g["lr"] = g["base"] * scale
        self.adam.step()
        groups = {}
        for p, m in zip(self.matrices, self.momentum):
            m.lerp_(p.grad, 0.05)
            groups.setdefault(tuple(p.shape), []).append((p, p.grad.lerp(m, 0.95)))
        list(pool.map(lambda g: self.update(g[0], g[1], scale), groups.items()))

    def state(self):
        return {"momentum": self.momentum, "adam": self.adam.state_dict()}

    def load(self, s):
        for a, b in zip(self.momentum, s["momentum"]):
            a.copy_(b)
        self.adam.load_state_dict(s["adam"])


def tie_spaced_pieces(model, tokenizer):
    """A piece with a space before it starts near the same piece without: copies from text into JSON need that link."""
    v = tokenizer.get_vocab()
    pairs = [(i, v[s[1:]]) for s, i in v.items() if s[0] == "Ġ" and s[1:] in v]
    a, b = torch.tensor(pairs).T
    w = model.embed.weight.data
    w[a] = 0.8 * w[b] + 0.6 * w[a]


@torch.no_grad()
def read_weights(model, path):
    """Takes the weights of a GGUF file."""
    r, c = GGUFReader(path), model.cfg

    def take(p, name, n_head=0):
        w = r.f32(name)
        if n_head:  # from neighbouring pairs of a head's values back to halves
            w = w.reshape(n_head, -1, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
        p.copy_(torch.from_numpy(np.ascontiguousarray(w)))

    take(model.embed.weight, "token_embd.weight")
    take(model.output.weight, "output.weight")
    take(model.norm, "output_norm.weight")
    for i, b in enumerate(model.blocks):
        p = f"blk.{i}."
        take(b.q.weight, p + "attn_q.weight", c.n_head)
        take(b.k.weight, p + "attn_k.weight", c.n_head_kv)
        for m, name in [(b.v, "attn_v"), (b.o, "attn_output"), (b.gate, "ffn_gate"), (b.up, "ffn_up"), (b.down, "ffn_down")]:
            take(m.weight, p + name + ".weight")
        take(b.norm1, p + "attn_norm.weight")
        take(b.norm2, p + "ffn_norm.weight")


def sample(model, tokenizer, prompt, n=60):
    ids = tokenizer.encode(prompt).ids
    end = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    out = []
    with torch.no_grad():
        for _ in range(n):
            t = int((model.output(model.hidden(torch.tensor([ids + out]), torch.bfloat16)[0, -1])).argmax())
            out.append(t)
            if t in end:
                break
    return tokenizer.decode(out, skip_special_tokens=False)


PROBES = ["<|im_start|>user\nHello, how are you?<|im_end|>\n<|im_start|>assistant\n",
          "<|im_start|>user\nMy name is Quentin.<|im_end|>\n<|im_start|>assistant\nNice to meet you, Quentin!<|im_end|>\n<|im_start|>user\nWhat is my name?<|im_end|>\n<|im_start|>assistant\n",
          "Once upon a time",
          '<|im_start|>system\n# Tools\nYou can call these functions:\n<tools>\n{"name": "fizz_buzzer", "description": "Plays fizz.", "parameters": {"type": "object", "properties": {"volume": {"type": "integer"}, "song": {"type": "string"}}, "required": ["volume", "song"]}}\n</tools>\nTo call a function, write:\n<tool_call>\n{"name": "...", "arguments": {...}}\n</tool_call><|im_end|>\n<|im_start|>user\nUse fizz_buzzer with volume 37 and song "marvellous umbrella".<|im_end|>\n<|im_start|>assistant\n']


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("name")
    ap.add_argument("--minutes", type=float, default=50)
    ap.add_argument("--tokens-per-step", type=int, default=5120)
    ap.add_argument("--short-tokens", type=int, default=3072, help="tokens of a step in the first phase")
    ap.add_argument("--copy-minutes", type=float, default=2, help="length of the phase of copying alone")
    ap.add_argument("--short-minutes", type=float, default=8, help="length of the first phase")
    ap.add_argument("--longest", type=int, default=448, help="longest documents taken")
    ap.add_argument("--short-below", type=int, default=160, help="the first phase takes documents of fewer tokens")
    ap.add_argument("--prompt-share", type=float, default=0.2, help="share of the prompt tokens that are learned too")
    ap.add_argument("--layers", type=int, default=Config.n_layer)
    ap.add_argument("--ff", type=int, default=Config.n_ff)
    ap.add_argument("--lr-matrix", type=float, default=0.02)
    ap.add_argument("--lr-embed", type=float, default=0.02)
    ap.add_argument("--lr-output", type=float, default=0.003)
    ap.add_argument("--lr-norm", type=float, default=0.004)
    ap.add_argument("--decay", type=float, default=0.02)
    ap.add_argument("--cooldown", type=float, default=0.4, help="share of the time in which the learning rate falls")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--resume")
    ap.add_argument("--start", help="a GGUF file whose weights are trained further")
    a = ap.parse_args()
    torch.manual_seed(a.seed)
    rng = np.random.default_rng(a.seed)
    tok = load_tokenizer()
    data = load_data()
    lens = np.diff(data[2])
    cfg = Config(n_layer=a.layers, n_ff=a.ff)
    master = Model(cfg)
    if a.start:
        read_weights(master, a.start)
    else:
        tie_spaced_pieces(master, tok)
        induction.start(master)
    opt = Optimizer(master, a)
    if a.resume:
        s = torch.load(os.path.join(WORK, a.resume))
        master.load_state_dict(s["model"])
        opt.load(s["optimizer"])
    copies = queue.SimpleQueue()
    works = [Model(cfg) for _ in range(a.threads)]
    for w in works:
        w.load_state_dict(master.state_dict())
        for p in w.parameters():
            p.data = p.data.bfloat16()
        copies.put(w)
    pool = concurrent.futures.ThreadPoolExecutor(a.threads)

    def piece(batch, total):
        """Forward and backward of a piece of the batch, on whichever copy of the weights is free."""
        x, target, where, kind, own = batch
        w = copies.get()
        h = w.hidden(x, torch.bfloat16).reshape(-1, cfg.n_embd)[where]
        each = F.cross_entropy(w.output(h).float(), target, reduction="none")
        (each.sum() / total).backward()
        copies.put(w)
        each = each.detach().numpy()
        return np.bincount(kind[own], each[own], len(MIX)), np.bincount(kind[own], minlength=len(MIX)), x.numel()

    log = open(os.path.join(WORK, a.name + ".log"), "a")
    say = lambda s: (print(s, flush=True), log.write(s + "\n"), log.flush())
    say(f"# {json.dumps(vars(a))} {sum(p.numel() for p in master.parameters())} parameters")
    start, mark, saved, probed = (time.time(),) * 4
    step = seen = learned = seen_mark = 0
    sums, counts = np.zeros(len(MIX)), np.zeros(len(MIX))
    for group in schedule(rng, lens, data[3], a, lambda: time.time() - start):
        parts = [make_batch(data, g, rng, a.prompt_share) for g in np.array_split(group, min(len(group), 2 * a.threads))]
        total = sum(len(p[1]) for p in parts)
        for s, c, n in pool.map(lambda p: piece(p, total), parts):
            sums, counts, seen, learned = sums + s, counts + c, seen + n, learned + int(c.sum())
        with torch.no_grad():
            for m, *ws in zip(master.parameters(), *(w.parameters() for w in works)):
                grads = [w.grad.float() for w in ws if w.grad is not None]
                m.grad = sum(grads)
                for w in ws:
                    w.grad = None
            torch.nn.utils.clip_grad_norm_(opt.embed + opt.norms + opt.output, 1.0)
        t = (time.time() - start) / (a.minutes * 60)
        scale = min(1.0, (step + 1) / 30, max(0.02, (1 - t) / a.cooldown))
        opt.step(scale, pool)
        with torch.no_grad():
            for m, *ws in zip(master.parameters(), *(w.parameters() for w in works)):
                for w in ws:
                    w.copy_(m)
        step += 1
        if step % 20 == 0:
            by_kind = " ".join(f"{name} {s / c:.3f}" for (name, _, _), s, c in zip(MIX, sums, counts) if c)
            say(f"step {step} t {t:.3f} loss {sums.sum() / counts.sum():.4f} ({by_kind}) lr x{scale:.2f} "
                f"tokens {seen / 1e6:.2f}M learned {learned / 1e6:.2f}M {int((seen - seen_mark) / (time.time() - mark))} tok/s")
            sums[:], counts[:], seen_mark, mark = 0, 0, seen, time.time()
        if t >= 1 or time.time() - saved > 200:
            torch.save({"model": master.state_dict(), "optimizer": opt.state(), "config": vars(cfg), "step": step, "seen": seen, "args": vars(a)}, os.path.join(WORK, a.name + ".pt"))
            saved = time.time()
        if t >= 1 or time.time() - probed > 900:
            for p in PROBES:
                say("    > " + repr(sample(works[0], tok, p)))
            probed = time.time()
        if t >= 1:
            break
    say(f"# end: {step} steps, {seen} tokens, {learned} learned, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
