#!/usr/bin/env python3
"""The GGUF kinds against Hugging Face `tokenizers`: writes tokenizer.json vocabularies as GGUF files and compares the ids.

    python3 gguf.py --driver DRIVER VOCABULARIES [--strings N] [--seed S]

DRIVER and VOCABULARIES as for differential.py; the vocabularies used are those made from packages.
"""
import argparse, json, os, struct, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "..", "tools"))
import differential
from mr_gguf import GGUFWriter

PRE = {"llama3": "llama-bpe", "qwen2": "qwen2", "gpt2": "gpt-2", "o200k": "gpt-4o", "tekken": "tekken", "cl100k": "dbrx",
       "deepseek-v3": "deepseek-v3", "minilm": None}
NORMAL, UNKNOWN, CONTROL, USER = 1, 2, 3, 4


def convert(path, pre, out):
    with open(path) as f:
        state = json.load(f)
    model = state["model"]
    texts = {i: t for t, i in model["vocab"].items()}
    types = {i: NORMAL for i in texts}
    for token in state["added_tokens"]:
        texts[token["id"]] = token["content"]
        types[token["id"]] = CONTROL if token["special"] else USER
    n = max(texts) + 1
    tokens = [texts.get(i, f"[PAD{i}]") for i in range(n)]
    kinds = [types.get(i, USER) for i in range(n)]
    w = GGUFWriter("llama")
    if pre is None:
        tokens = [t if k == CONTROL else t[2:] if t.startswith("##") else "\u2581" + t for t, k in zip(tokens, kinds)]
        w.add("tokenizer.ggml.model", "bert")
        for key, text in (("unknown", "[UNK]"), ("bos", "[CLS]"), ("seperator", "[SEP]"), ("padding", "[PAD]")):
            w.add(f"tokenizer.ggml.{key}_token_id", model["vocab"][text])
    else:
        w.add("tokenizer.ggml.model", "gpt2")
        w.add("tokenizer.ggml.pre", pre)
        w.add("tokenizer.ggml.merges", [m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    w.add("tokenizer.ggml.tokens", tokens)
    w.add("tokenizer.ggml.token_type", kinds)
    w.write(out)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vocabularies")
    parser.add_argument("--driver", required=True)
    parser.add_argument("--strings", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sweep", action="store_true")
    args = parser.parse_args()
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, pre in PRE.items():
            path = os.path.join(args.vocabularies, name, "tokenizer.json")
            if not os.path.exists(path):
                continue
            out = os.path.join(folder, "model.gguf")
            convert(path, pre, out)
            generator = differential.Generator(f"{args.seed} gguf {name}")
            texts = [generator.data() for _ in range(args.strings)] + (list(differential.sweep()) if args.sweep else [])
            as_text = [t.decode("utf-8", "replace") for t in texts]
            reference = differential.HuggingFace(path)
            expected = reference.encode(b"e", as_text) + reference.encode(b"p", as_text)
            got = differential.Driver(args.driver, out).run([(b"e", t) for t in texts] + [(b"p", t) for t in texts])
            lists = [i for i in expected[:len(texts)] if i]
            decoded = differential.Driver(args.driver, out).run([(b"d", struct.pack(f"<{len(i)}i", *i)) for i in lists])
            bad = [(t, e, g) for t, e, g in zip(as_text * 2, expected, got) if e != g]
            bad += [(i, reference.decode(b"d", i), g) for i, g in zip(lists, decoded) if reference.decode(b"d", i) != g]
            for text, want, have in bad[:3]:
                print(f"  {text!r:.200}\n    expected {want!r:.200}\n    got      {have!r:.200}")
            print(f"{name} as {pre or 'bert'}: {len(expected) + len(lists)} comparisons, {len(bad)} differences", flush=True)
            total += len(bad)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
