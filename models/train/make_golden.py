"""Writes golden.json: greedy continuations of the shipped GGUF file, computed in float32 from its decoded weights."""

import hashlib
import json
import os

from common import GGUF, HERE, render
from handwritten import ADD, WEATHER, call, t, u
from reference import ReferenceModel, ReferenceTokenizer

PROMPTS = [
    ("chat", [u("Hello, how are you?")], None),
    ("knowledge", [u("What is the capital of Japan?")], None),
    ("system", [{"role": "system", "content": "You are a pirate."}, u("Who are you?")], None),
    ("tool call", [u("What is the weather in Paris?")], [WEATHER]),
    ("parallel calls", [u("What is the weather in Oslo, and what is 2 plus 3?")], [WEATHER, ADD]),
    ("tool result", [u("Add 12 and 30."), call(("add", {"a": 12, "b": 30})), t("42")], [ADD]),
    ("completion", "Once upon a time", None),
    ("single token", "The", None),
]


def main():
    m = ReferenceModel(GGUF)
    tok = ReferenceTokenizer(m.meta)
    stop = {tok.ids["<|im_end|>"], tok.ids["<|endoftext|>"]}
    cases = []
    for name, messages, tools in PROMPTS:
        text = messages if isinstance(messages, str) else render(messages, tools, True)
        ids = tok.encode(text)
        logits = m.forward(ids)[-1]
        top = logits.argsort()[::-1][:8]
        out, gaps = m.generate(ids, 16, stop)
        case = {"name": name, "prompt": text, "prompt_ids": ids, "next_ids": out, "next_text": tok.decode(out, True),
                "margins": [round(g, 4) for g in gaps],
                "top_logits_after_prompt": [[int(i), round(float(logits[i]), 4)] for i in top]}
        if not isinstance(messages, str):
            case["messages"], case["tools"] = messages, tools
        cases.append(case)
        print(f"{name}: {case['next_text']!r}, smallest margin {min(gaps):.3f}")
    sha = hashlib.sha256(open(GGUF, "rb").read()).hexdigest()
    lines = ",\n  ".join(json.dumps(c, ensure_ascii=False) for c in cases)
    with open(os.path.join(HERE, "golden.json"), "w", encoding="utf-8") as f:
        f.write(f'{{"model": "{os.path.basename(GGUF)}", "sha256": "{sha}", "stop_ids": {sorted(stop)}, "cases": [\n  {lines}\n]}}\n')


if __name__ == "__main__":
    main()
