"""Trains the byte-level BPE vocabulary and writes it as tokenizer.json.

Pre-tokenization at run time is exactly the "qwen2" pattern.  The merges, however, are learned from letters alone, with the
space (or other sign) before a word kept apart, and joins of a space with a piece are appended as the last merges.  A word is
thus cut the same way with and without a space before it, which makes copying between text and JSON easy to learn."""

import collections
import json
import os
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from common import CONTROL, MARKERS, QWEN2_REGEX, WORK
from make_data import documents
from mr_gguf import GGUFReader, byte_to_unicode

VOCAB = 3072
N_SPACED = 900  # merges of a space with a piece
LETTERS_APART = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def pre_tokenizer(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def build(vocab, merges, pattern):
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    t.pre_tokenizer = pre_tokenizer(pattern)
    t.decoder = decoders.ByteLevel()
    return t


def save(tokenizer):
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in CONTROL])
    tokenizer.add_tokens([AddedToken(s, special=False, normalized=False) for s in MARKERS])
    tokenizer.save(os.path.join(WORK, "tokenizer.json"))


def from_gguf(path):
    """The vocabulary of a model that is to be trained further."""
    meta = GGUFReader(path).meta
    merges = [tuple(m.split(" ")) for m in meta["tokenizer.ggml.merges"]]
    special = set(CONTROL + MARKERS)
    tokens = meta["tokenizer.ggml.tokens"]
    t = build({s: i for i, s in enumerate(tokens) if s not in special}, merges, QWEN2_REGEX)
    save(t)
    assert all(t.token_to_id(s) == i for i, s in enumerate(tokens))


def main():
    os.makedirs(WORK, exist_ok=True)
    if len(sys.argv) > 2 and sys.argv[1] == "--from":
        return from_gguf(sys.argv[2])
    texts = [d for d in documents(random.Random(7), 12000, text_only=True)]
    n_words = VOCAB - len(CONTROL) - len(MARKERS) - N_SPACED
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizer(LETTERS_APART)
    alphabet = [byte_to_unicode()[b] for b in range(256)]
    for s in CONTROL + MARKERS:
        texts = [x.replace(s, " ") for x in texts]
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=n_words, initial_alphabet=alphabet, show_progress=False, max_token_length=16))
    import json
    model = json.loads(t.to_str())["model"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    tokens = [s for s, _ in sorted(model["vocab"].items(), key=lambda kv: kv[1])]
    assert set(alphabet) <= set(tokens)
    # The alphabet first, in byte order of the stand-ins, then merges in rank order.
    tokens = sorted(alphabet) + [a + b for a, b in merges]
    assert len(set(tokens)) == len(tokens)
    # Which pieces follow a space most often?
    plain = build({s: i for i, s in enumerate(tokens)}, merges, LETTERS_APART)
    count = collections.Counter()
    for e in plain.encode_batch(texts):
        for a, b in zip(e.tokens, e.tokens[1:]):
            if a == "Ġ" and b[0].isalpha() and b[0].isascii():
                count[b] += 1
    spaced = [p for p, _ in count.most_common(VOCAB - len(CONTROL) - len(MARKERS) - len(tokens))]
    merges += [("Ġ", p) for p in spaced]
    tokens += ["Ġ" + p for p in spaced]
    t = build({s: i for i, s in enumerate(tokens)}, merges, QWEN2_REGEX)
    save(t)
    n = [len(e.ids) for e in t.encode_batch(texts)]
    print(f"{t.get_vocab_size()} tokens, {len(merges)} merges, {sum(map(len, texts)) / sum(n):.2f} characters a token, mean {sum(n) / len(n):.0f} tokens a document")


if __name__ == "__main__":
    main()
