"""Makes the training documents and encodes them.  make_data.py [documents] -> WORK/data.npz"""

import os
import random
import sys
import time

import numpy as np

import chat
import stories
import tools
import words
from common import WORK, load_tokenizer, render

SEED = 20240601
MAX_TOKENS = 1024
MIX = [  # share of the documents
    ("tools", 0.16, tools.tool_conversation),
    ("calls", 0.38, tools.focused_conversation),
    ("conversation", 0.10, chat.conversation),
    ("facts", 0.12, chat.facts_only),
    ("memory", 0.06, chat.memory),
    ("persona", 0.03, chat.personas),
    ("thinking", 0.03, chat.thinking),
    ("story", 0.02, stories.story_request),
    ("prose", 0.05, stories.prose),
    ("copying", 0.05, lambda rng: chat.qa(*chat.copying(rng))),
]


def document(rng, mix=MIX):
    """(kind, text)"""
    kind, _, make = rng.choices(mix, [m[1] for m in mix])[0]
    d = make(rng)
    if isinstance(d, str):
        return kind, d + "<|endoftext|>"
    return kind, render(**d) if isinstance(d, dict) else render(d)


def documents(rng, n, text_only=False):
    for _ in range(n):
        kind, text = document(rng)
        yield text if text_only else (kind, text)


def use_pieces(tokenizer):
    """Lets random words be put together from the vocabulary's own letter pieces."""
    words.PIECES[:] = sorted(s for s in tokenizer.get_vocab() if s.isascii() and s.isalpha() and s.islower() and 1 < len(s) < 9)


class Encoder:
    """Ids and the mask of what the model learns to write: assistant turns with their end, and all of a prose text."""

    def __init__(self, tokenizer):
        self.t = tokenizer
        self.head = tokenizer.encode("<|im_start|>assistant\n").ids
        self.end = tokenizer.token_to_id("<|im_end|>")

    def mask(self, kind, ids):
        if kind == "prose":
            return np.ones(len(ids), bool)
        m = np.zeros(len(ids), bool)
        h = len(self.head)
        starts = [i for i in range(len(ids) - h) if ids[i] == self.head[0] and list(ids[i:i + h]) == self.head]
        for s in starts[-1:] if kind == "thinking" else starts:
            e = s + h
            while e < len(ids) and ids[e] != self.end:
                e += 1
            m[s + h:e + 1] = True
        return m


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 70000
    t0 = time.time()
    t = load_tokenizer()
    use_pieces(t)
    enc = Encoder(t)
    rng = random.Random(SEED)
    ids, masks, lens, kinds = [], [], [], []
    names = [m[0] for m in MIX]
    batch = []
    def flush():
        for (kind, _), e in zip(batch, t.encode_batch([x[1] for x in batch])):
            if len(e.ids) > MAX_TOKENS:
                continue
            ids.append(np.array(e.ids, np.uint16))
            masks.append(enc.mask(kind, e.ids))
            lens.append(len(e.ids))
            kinds.append(names.index(kind))
        batch.clear()
    for kt in documents(rng, n):
        batch.append(kt)
        if len(batch) == 2000:
            flush()
    flush()
    lens = np.array(lens)
    np.savez(os.path.join(WORK, "data.npz"), ids=np.concatenate(ids), mask=np.concatenate(masks), lens=lens, kinds=np.array(kinds, np.uint8))
    print(f"{len(lens)} documents, {lens.sum()} tokens ({np.concatenate(masks).mean():.2f} learned), mean {lens.mean():.0f}, p50 {np.median(lens):.0f}, p90 {np.percentile(lens, 90):.0f}, {time.time() - t0:.0f} s")
    for i, name in enumerate(names):
        print(f"  {name}: {lens[np.array(kinds) == i].sum() / lens.sum():.3f} of the tokens")


if __name__ == "__main__":
    main()
