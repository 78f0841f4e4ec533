"""Trains the model on CPU.  train.py NAME [--minutes M] [--tokens-per-step N] [--resume FILE] ...

bfloat16 copies of float32 master weights; Muon for the matrices, Adam for embedding and norms; batches of documents of like
length, each document alone in its row; learning rate: warm-up, constant, then linear decay over the last part of the time.
Progress is counted in time, so that a run ends when it was told to on a machine of any speed."""

import argparse
import json
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

from common import WORK, load_tokenizer
from model import Config, Model


def load_data():
    z = np.load(os.path.join(WORK, "data.npz"))
    return z["ids"], z["mask"], np.concatenate([[0], np.cumsum(z["lens"])]), z["kinds"]


def batches(rng, lens, budget, short_first):
    """Document numbers grouped by like length, in random order; the first groups of a run hold short documents only."""
    order = rng.permutation(len(lens))
    if short_first:
        short = order[lens[order] < 200][:short_first]
        order = np.concatenate([short, np.setdiff1d(order, short, assume_unique=True)[rng.permutation(len(order) - len(short))]])
        chunks = [short] + np.array_split(order[len(short):], max(1, (len(order) - len(short)) // 3000))
    else:
        chunks = np.array_split(order, max(1, len(order) // 3000))
    for chunk in chunks:
        chunk = chunk[np.argsort(lens[chunk], kind="stable")]
        out, cur, longest = [], [], 0
        for i in chunk:
            if cur and (len(cur) + 1) * max(longest, lens[i]) > budget:
                out.append(cur)
                cur, longest = [], 0
            cur.append(i)
            longest = max(longest, lens[i])
        out.append(cur)
        for j in rng.permutation(len(out)):
            yield out[j]


def make_batch(data, group):
    ids, mask, off, _ = data
    n = max(off[i + 1] - off[i] for i in group)
    x = np.zeros((len(group), n), np.int64)
    m = np.zeros((len(group), n), bool)
    for r, i in enumerate(group):
        k = off[i + 1] - off[i]
        x[r, :k] = ids[off[i]:off[i + 1]]
        m[r, :k] = mask[off[i]:off[i + 1]]
    x, m = torch.from_numpy(x), torch.from_numpy(m)
    return x[:, :-1], x[:, 1:][m[:, 1:]], m[:, 1:].reshape(-1)


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
        self.matrices = [p for n, p in named if p.ndim == 2 and not n.startswith("embed")]
        self.embed = [p for n, p in named if n.startswith("embed")]
        self.norms = [p for n, p in named if p.ndim == 1]
        self.momentum = [torch.zeros_like(p) for p in self.matrices]
        self.adam = torch.optim.AdamW([{"params": self.embed, "base": a.lr_embed}, {"params": self.norms, "base": a.lr_norm}],
                                      betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0)

    @torch.no_grad()
    def step(self, scale):
        for g in self.adam.param_groups:
            g["lr"] = g["base"] * scale
        self.adam.step()
        groups = {}
        for p, m in zip(self.matrices, self.momentum):
            m.lerp_(p.grad, 0.05)
            groups.setdefault(tuple(p.shape), []).append((p, p.grad.lerp(m, 0.95)))
        for shape, items in groups.items():
            u = orthogonalize(torch.stack([g for _, g in items]))
            lr = self.a.lr_matrix * scale * max(1.0, shape[0] / shape[1]) ** 0.5
            for (p, _), v in zip(items, u):
                p.mul_(1 - lr * self.a.decay).add_(v, alpha=-lr)

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


def sample(model, tokenizer, prompt, n=60):
    ids = tokenizer.encode(prompt).ids
    end = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    out = []
    with torch.no_grad():
        for _ in range(n):
            t = int((model.hidden(torch.tensor([ids + out]), torch.bfloat16)[0, -1] @ model.embed.weight.T).argmax())
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
    ap.add_argument("--tokens-per-step", type=int, default=8192)
    ap.add_argument("--small-steps", type=float, default=0.4, help="share of the time in which steps are half as large")
    ap.add_argument("--layers", type=int, default=6)
    ap.add_argument("--ff", type=int, default=704)
    ap.add_argument("--lr-matrix", type=float, default=0.02)
    ap.add_argument("--lr-embed", type=float, default=0.004)
    ap.add_argument("--lr-norm", type=float, default=0.004)
    ap.add_argument("--decay", type=float, default=0.02)
    ap.add_argument("--cooldown", type=float, default=0.4, help="share of the time in which the learning rate falls")
    ap.add_argument("--short-first", type=int, default=4000, help="this many short documents come first")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--resume")
    a = ap.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(a.seed)
    rng = np.random.default_rng(a.seed)
    tok = load_tokenizer()
    data = load_data()
    lens = np.diff(data[2])
    cfg = Config(n_layer=a.layers, n_ff=a.ff)
    master = Model(cfg)
    tie_spaced_pieces(master, tok)
    opt = Optimizer(master, a)
    if a.resume:
        s = torch.load(os.path.join(WORK, a.resume))
        master.load_state_dict(s["model"])
        opt.load(s["optimizer"])
        a.short_first = 0
    work = Model(cfg)
    work.load_state_dict(master.state_dict())
    for p in work.parameters():
        p.data = p.data.bfloat16()
    pairs = list(zip(master.parameters(), work.parameters()))
    log = open(os.path.join(WORK, a.name + ".log"), "a")
    say = lambda s: (print(s, flush=True), log.write(s + "\n"), log.flush())
    say(f"# {json.dumps(vars(a))} {sum(p.numel() for p in master.parameters())} parameters")
    start, step, seen, learned, epoch = time.time(), 0, 0, 0, 0
    acc, acc_n, mark, saved, probed = 0.0, 0, time.time(), time.time(), time.time()
    done = False
    while not done:
        for group in batches(rng, lens, a.tokens_per_step, a.short_first if epoch == 0 else 0):
            x, target, where = make_batch(data, group)
            h = work.hidden(x, torch.bfloat16).reshape(-1, cfg.n_embd)[where]
            loss = F.cross_entropy((h @ work.embed.weight.T).float(), target)
            loss.backward()
            with torch.no_grad():
                for m, w in pairs:
                    m.grad = w.grad.float()
                    w.grad = None
                torch.nn.utils.clip_grad_norm_(opt.embed + opt.norms, 1.0)
            t = (time.time() - start) / (a.minutes * 60)
            scale = min(1.0, (step + 1) / 30, max(0.02, (1 - t) / a.cooldown))
            opt.step(scale)
            with torch.no_grad():
                for m, w in pairs:
                    w.copy_(m)
            step += 1
            seen += x.numel()
            learned += len(target)
            acc += loss.item() * len(target)
            acc_n += len(target)
            if step % 20 == 0:
                say(f"step {step} epoch {epoch} t {t:.3f} loss {acc / acc_n:.4f} lr x{scale:.2f} tokens {seen / 1e6:.2f}M learned {learned / 1e6:.2f}M {int(20 * a.tokens_per_step / (time.time() - mark))} tok/s")
                acc, acc_n, mark = 0.0, 0, time.time()
            done = t >= 1
            if done or time.time() - saved > 240:
                torch.save({"model": master.state_dict(), "optimizer": opt.state(), "config": vars(cfg), "step": step, "seen": seen, "args": vars(a)}, os.path.join(WORK, a.name + ".pt"))
                saved = time.time()
            if done or time.time() - probed > 150:
                for p in PROBES:
                    say("    > " + repr(sample(work, tok, p)))
                probed = mark = time.time()
            if done:
                break
        epoch += 1
    say(f"# end: {step} steps, {seen} tokens, {learned} learned, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
