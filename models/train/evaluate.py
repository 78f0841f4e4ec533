"""Measures a GGUF file: evaluate.py [MODEL.gguf] [--n N] [--temperature T] [--show K]

Tool conversations drawn with another seed than the training data (so names, values and schemas are unseen; the generators are
the same), hand-written tools and requests that no generator knows, and hand-written chat checks."""

import argparse
import json
import random
import re

import numpy as np

import chat
import tools
from common import GGUF, render
from handwritten import CHAT, TOOL_CASES
from make_data import use_pieces
from reference import ReferenceModel, ReferenceTokenizer


class Runner:
    def __init__(self, path, temperature, seed):
        self.m = ReferenceModel(path)
        self.t = ReferenceTokenizer(self.m.meta)
        self.stop = {self.t.ids["<|im_end|>"], self.t.ids["<|endoftext|>"]}
        self.temperature, self.rng = temperature, np.random.default_rng(seed)

    def answer(self, messages, tools=None, n=220):
        """(text, ended by itself)"""
        return self.complete(render(messages, tools, True), n)

    def complete(self, text, n=220):
        ids, _ = self.m.generate(self.t.encode(text), n, self.stop, self.temperature, self.rng)
        return self.t.decode(ids), ids[-1] in self.stop


def parse_calls(text):
    """[(name, arguments)], or None if a block is not valid JSON."""
    out = []
    for block in re.findall(r"<tool_call>\n?(.*?)\n?</tool_call>", text, re.S):
        try:
            d = json.loads(block)
            out.append((d["name"], d["arguments"]))
        except (ValueError, KeyError, TypeError):
            return None
    return out


def last_turns(rng, want):
    """(messages up to an assistant turn, tools, that turn) of a kind: call, parallel, second, answer, error, chat."""
    while True:
        d = tools.tool_conversation(rng)
        ms = d["messages"]
        for i, m in enumerate(ms):
            if m["role"] != "assistant":
                continue
            calls, before = m.get("tool_calls"), ms[i - 1]["role"]
            kind = ("second" if before == "tool" else "parallel" if len(calls) > 1 else "call") if calls else \
                ("error" if "failed" in m["content"] else "answer") if before == "tool" else "chat"
            if kind == want:
                return ms[:i], d["tools"], m


def generated(run, n, seed, show):
    rng = random.Random(seed)
    score, shown = {}, 0
    for kind in ("call", "parallel", "second", "answer", "error", "chat"):
        good = valid = names = 0
        for _ in range(n if kind == "call" else n // 2):
            ms, ts, want = last_turns(rng, kind)
            text, ended = run.answer(ms, ts)
            calls = parse_calls(text)
            if "tool_calls" in want:
                expect = [(c["function"]["name"], c["function"]["arguments"]) for c in want["tool_calls"]]
                ok = calls == expect and ended
                names += calls is not None and [c[0] for c in calls] == [e[0] for e in expect]
                valid += bool(calls)
            else:
                expect = want["content"]
                ok = text == expect
                valid += calls == []
            good += ok
            if not ok and shown < show:
                shown += 1
                print(f"--- {kind}: {ms[-1]['content']}\n  want {expect}\n  got  {text}")
        total = n if kind == "call" else n // 2
        score[kind] = good / total
        print(f"generated {kind:9} exact {good}/{total} = {good / total:.2f}   {'valid calls' if kind in ('call', 'parallel', 'second') else 'no call'} {valid / total:.2f}   right names {names / total:.2f}", flush=True)
    return score


def handwritten(run, show):
    good = 0
    for ts, messages, expect in TOOL_CASES:
        text, ended = run.answer(messages, ts)
        calls = parse_calls(text)
        if callable(expect):
            ok = expect(text) and calls == []
        else:
            ok = calls == expect and ended
        good += ok
        if not ok and show:
            print(f"--- {messages[-1]['content']}\n  want {'(a text that passes the check)' if callable(expect) else expect}\n  got  {text}")
    print(f"hand-written tool cases {good}/{len(TOOL_CASES)}", flush=True)
    chats = 0
    for messages, words in CHAT:
        text, ended = run.answer(messages)
        ok = ended and any(w.lower() in text.lower() for w in words)
        chats += ok
        if not ok and show:
            print(f"--- {messages[-1]['content']}\n  want {words}\n  got  {text}")
    print(f"hand-written chat checks {chats}/{len(CHAT)}", flush=True)
    return good / len(TOOL_CASES), chats / len(CHAT)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("model", nargs="?", default=GGUF)
    ap.add_argument("--n", type=int, default=60)
    ap.add_argument("--temperature", type=float, default=0.0)
    ap.add_argument("--seed", type=int, default=987654321)
    ap.add_argument("--show", type=int, default=12)
    a = ap.parse_args()
    run = Runner(a.model, a.temperature, a.seed)
    use_pieces(run.t.t)
    handwritten(run, a.show)
    generated(run, a.n, a.seed, a.show)
    for p in ("Once upon a time", "In the morning,", "The worker took the next job"):
        print(f"{p} ... {run.complete(p, 120)}")


if __name__ == "__main__":
    main()
