"""A head start for copying: weights set so that an induction circuit is there from the first step.

The residual stream starts out in parts: dimension 0 a constant, then the token's embedding, then room for what layer 0 knows of
the previous token, then room for what the output reads.  Layer 0 gets a head that looks at the previous token; layer 1 gets
heads that look for a place whose previous token is like the current one and hand on the token found there, which the output
matrix turns into its logit.  (The circuit is the one described in Olsson et al., "In-context Learning and Induction Heads",
2022.)  Everything stays trainable.  Left to itself, a model of this size needs many times the training spent here to find it."""

import torch

N_PREV, N_OUT = 32, 64
CONSTANT = 4.0


def orthonormal_rows(n, d):
    return torch.linalg.qr(torch.randn(d, n))[0].T


@torch.no_grad()
def start(model):
    c = model.cfg
    hd, half = c.n_embd // c.n_head, c.n_embd // c.n_head // 2
    n_used = c.n_embd - N_PREV - N_OUT - 1
    used, prev, out = slice(1, 1 + n_used), slice(1 + n_used, 1 + n_used + N_PREV), slice(c.n_embd - N_OUT, c.n_embd)
    e = model.embed.weight
    e[:, 0] = CONSTANT
    e[:, prev] = 0
    e[:, out] = 0
    theta = c.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
    group = c.n_head // c.n_head_kv
    slow = torch.cat([theta, theta]).argsort()[:N_PREV]  # dimensions that the rotary embedding hardly turns
    code = orthonormal_rows(N_PREV, n_used)  # what is remembered of the previous token
    copy = orthonormal_rows(N_OUT, n_used)   # what is handed on of a token

    b = model.blocks[0]  # head 0: the previous token
    fast = (theta > 0.02).float()
    b.q.weight[:hd], b.k.weight[:hd], b.v.weight[:hd] = 0, 0, 0
    b.q.weight[:half, 0], b.q.weight[half:hd, 0] = 1.6 * fast * theta.cos(), -1.6 * fast * theta.sin()
    b.k.weight[:half, 0] = 1.6 * fast
    b.v.weight[:N_PREV, used] = code
    b.o.weight[prev, :N_PREV] = torch.eye(N_PREV)

    b = model.blocks[1]  # the first head of each group: the token after the last one that was like this
    for g in range(c.n_head_kv):
        q, k = slice(g * group * hd, (g * group + 1) * hd), slice(g * hd, (g + 1) * hd)
        b.q.weight[q], b.k.weight[k], b.v.weight[k] = 0, 0, 0
        b.q.weight[q][slow, used] = 2.0 * code
        b.k.weight[k][slow, prev] = 2.0 * torch.eye(N_PREV)
        b.v.weight[k, used] = copy
        b.o.weight[out, q] = 0.5 * torch.eye(N_OUT, hd)
    model.output.weight.zero_()
    model.output.weight[:, out] = OUTPUT * e[:, used] @ copy.T


OUTPUT = 0.12
