#!/usr/bin/env python3
"""Renders the small Jinja cases (cases.json) and every chat template of the fixtures over every conversation
(conversations.json) with Python's jinja2, set up as transformers does for apply_chat_template, and writes what comes out.

Usage: make_golden.py [FIXTURES]   (default: ../../../../shared/fixtures; needs the package jinja2 3.1)

golden_cases.json holds one result for each case, golden_templates.json a result for each template and conversation. A result
is {"o": output} or {"e": exception class, "m": message}. The clock of strftime_now stands at 2024-07-04 12:34:56.
"""
import copy
import datetime
import json
import os
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2024, 7, 4, 12, 34, 56)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
HERE = os.path.dirname(os.path.abspath(__file__))


class Generation(jinja2.ext.Extension):
    """{% generation %}…{% endgeneration %}: gives its body."""

    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(lineno)

    @jinja2.pass_eval_context
    def _body(self, context, caller):
        return caller()


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def make_environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: NOW.strftime(format)
    return env


ENV = make_environment()


def render(template, variables):
    try:
        return {"o": ENV.from_string(template).render(**copy.deepcopy(variables))}
    except RecursionError:
        return {"e": "RecursionError", "m": ""}
    except Exception as e:
        return {"e": type(e).__name__, "m": str(e)}


def prepare(messages):
    """What transformers does to messages: null members go, reasoning gets both of its names."""
    out = []
    for message in messages:
        message = {k: v for k, v in message.items() if v is not None}
        reasoning = next(
            (message[k] for k in ("reasoning_content", "thinking", "reasoning") if message.get(k) is not None), None
        )
        if reasoning is not None:
            message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
        out.append(message)
    return out


def with_text_arguments(messages):
    messages = copy.deepcopy(messages)
    for message in messages:
        for call in message.get("tool_calls", []):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return messages


def render_chat(template, conversation):
    """With arguments as objects; where the template fails on these, as JSON texts."""
    messages = prepare(conversation["messages"])
    variables = {
        "documents": None,
        **TOKENS,
        **conversation.get("vars", {}),
        "tools": conversation.get("tools"),
        "add_generation_prompt": conversation.get("add_generation_prompt", True),
    }
    result = render(template, {**variables, "messages": messages})
    if "e" in result and any(m.get("tool_calls") for m in messages):
        second = render(template, {**variables, "messages": with_text_arguments(messages)})
        if "o" in second:
            return second
    return result


def load(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as f:
        return json.load(f)


def store(name, value):
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=0, separators=(",", ":"))
        f.write("\n")


def main():
    fixtures = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "../../../../shared/fixtures")
    cases = load("cases.json")
    defaults = cases["vars"]
    store("golden_cases.json", [render(c["t"], {**defaults, **c.get("v", {})}) for c in cases["cases"]])
    conversations = load("conversations.json")
    folder = os.path.join(fixtures, "templates")
    golden = {}
    for file in sorted(os.listdir(folder)):
        with open(os.path.join(folder, file), encoding="utf-8") as f:
            template = f.read()
        golden[file] = {c["name"]: render_chat(template, c) for c in conversations}
    store("golden_templates.json", golden)
    errors = sum("e" in r for t in golden.values() for r in t.values())
    print(f"{len(cases['cases'])} cases, {len(golden)} templates x {len(conversations)} conversations ({errors} refused)")


if __name__ == "__main__":
    main()
