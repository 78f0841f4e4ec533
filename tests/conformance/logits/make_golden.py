#!/usr/bin/env python3
"""Writes the golden models of this folder, or those whose names begin with one of the arguments.

Each NAME.gguf is a complete tiny model whose metadata also holds the test: `mr.test.tokens` (int32 [n_tokens]),
`mr.test.logits` (float32 [n_tokens * n_vocab], row by row), `mr.test.reference` (who computed them) and, where they
matter, `mr.test.hidden` (float32 [n_tokens * hidden_size], the rows behind the last norm) and `mr.test.n_ctx` (the
context to load for). Run where torch, transformers and numpy are installed:

    python3 tests/conformance/logits/make_golden.py [NAME ...]
"""

import importlib
import os
import sys

import golden


def main():
    modules = sorted(f[:-3] for f in os.listdir(golden.HERE) if f.startswith("family_") and f.endswith(".py"))
    cases = [case for module in modules for case in importlib.import_module(module).CASES]
    for case in cases:
        if len(sys.argv) == 1 or case.name.startswith(tuple(sys.argv[1:])):
            golden.make(case)


if __name__ == "__main__":
    main()
