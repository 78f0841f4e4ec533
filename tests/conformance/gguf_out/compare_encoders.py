#!/usr/bin/env python3
"""Do the encoders that `mistral-runner quantize` writes mean the same to llama.cpp?

    compare_encoders.py MISTRAL_RUNNER [--types F32,Q8_0]

Writes the folders of ../embedding as GGUF, loads the files with llama.cpp, and compares token ids and vectors of texts.
llama.cpp approximates GELU, so vectors are close and not equal; it does not take Hangul apart as BERT does, so there is none
among the texts. Needs PyPI numpy and llama-cpp-python.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).parent
MORE = ["  leading and   trailing  ", "It's 50% off: $1,000.00!", "don'T\u00a0stop", "\u4f60\u597d\u4e16\u754c abc\u4eba",
        "na\u00efve caf\u00e9 STRASSE", "x = a[i] + b->c; // path/to/file", "\uff21\uff22\uff23\uff11", "a_b #tag @me"]


def ours(runner, command, model, texts):
    options = [part for text in texts for part in ("--text", text)]
    out = subprocess.run([runner, command, "-m", model, *options], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return out.stdout.decode()


def our_ids(runner, model, text):
    return [int(i) for i in ours(runner, "tokenize", model, [text]).split()]


def compare(runner, name, kind, path, texts):
    import llama_cpp
    llm = llama_cpp.Llama(str(path), embedding=True, n_ctx=64, n_batch=64, n_ubatch=64, n_threads=1, verbose=False)
    other = [t for t in texts if our_ids(runner, path, t) != llm.tokenize(t.encode(), add_bos=True, special=True)]
    texts = [t for t in texts if "<mask>" not in t]  # Llama.embed() takes special tokens for text
    vectors = np.array([json.loads(line) for line in ours(runner, "embed", path, texts).splitlines()])
    theirs = np.array([llm.embed(t, normalize=False) for t in texts])
    cosines = (vectors * theirs).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(theirs, axis=1)
    good = not other and cosines.min() > (0.99999 if kind == "F32" else 0.998)
    print(f"{'ok' if good else 'FAIL':4} {name:12} {kind:5} other ids of {len(other)} texts, least cosine {cosines.min():.7f}",
          *[repr(t) for t in other], flush=True)
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runner")
    parser.add_argument("--types", default="F32,Q8_0")
    args = parser.parse_args()
    good = True
    for golden in sorted((HERE.parent / "embedding").glob("*/golden.json")):
        texts = [one["text"] for one in json.loads(golden.read_text())] + MORE
        for kind in args.types.split(","):
            with tempfile.TemporaryDirectory() as where:
                out = pathlib.Path(where, "model.gguf")
                subprocess.run([args.runner, "quantize", golden.parent, out, kind], check=True, stdout=subprocess.DEVNULL)
                good = compare(args.runner, golden.parent.name, kind, out, texts) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
