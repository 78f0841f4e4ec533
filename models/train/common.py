"""What data, training, export and evaluation share: files, special tokens, template rendering, tokenizer loading."""

import json
import os

import jinja2
import jinja2.sandbox

HERE = os.path.dirname(os.path.abspath(__file__))
WORK = os.environ.get("TRAIN_DIR", os.path.join(HERE, "work"))  # checkpoints and encoded data; not committed
GGUF = os.path.join(os.path.dirname(HERE), "mistral-runner-tiny.gguf")

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKERS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>"]
QWEN2_REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

TEMPLATE_TEXT = open(os.path.join(HERE, "chat_template.jinja"), encoding="utf-8").read().rstrip("\n")


def _tojson(value, indent=None):
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _template():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    env.filters["tojson"] = _tojson
    return env.from_string(TEMPLATE_TEXT)


_compiled = _template()


def render(messages, tools=None, add_generation_prompt=False):
    return _compiled.render(messages=messages, tools=tools, add_generation_prompt=add_generation_prompt)


def load_tokenizer():
    from tokenizers import Tokenizer
    return Tokenizer.from_file(os.path.join(WORK, "tokenizer.json"))
