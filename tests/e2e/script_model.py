"""Writes a GGUF model that says what it is told to: for tests of what happens around a model.

usage: script_model.py OUT.gguf LINES.json

LINES.json: {"NAME": "text" or ["piece", "piece", ...], ...}. The first user message of a chat names the answers, in order and
with blanks between: `add done` makes the model answer with the line `add`, and, after that round, with `done`. When the names
run out it answers with nothing. A line whose name is one character goes on where the prompt ends with that character, as it
does where a call is forced.

How it works: the chat template ends each prompt with the token <<NAME>>, and the only thing the weights know is which token
follows which (one-hot embeddings through a layer of zeros): the pieces of the line, then the end.
"""
import json
import struct
import sys

TEMPLATE = """{#- Calls are written as <tool_call>{"name": ..., "arguments": ...}</tool_call>. -#}
{%- if tools %}{% for tool in tools %}<tool>{{ tool | tojson }}</tool>
{% endfor %}{% endif -%}
{%- set ns = namespace(script='', n=0) -%}
{%- for message in messages -%}
{%- if message.role == 'user' and ns.script == '' %}{% set ns.script = message.content %}{% endif -%}
{%- if message.role == 'assistant' %}{% set ns.n = ns.n + 1 %}{% endif -%}
[{{ message.role }}]{{ message.content }}
{%- for call in message.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}
{% endfor -%}
{%- if add_generation_prompt %}
{%- set names = ns.script.split(' ') -%}
<<{{ names[ns.n] if ns.n < names | length else 'end' }}>>
{%- endif -%}"""

N_EMBD, N_FF, N_HEAD, CONTEXT = 256, 64, 4, 16384
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


def byte_letters():
    """The letters that byte-level BPE writes bytes as."""
    keep = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    moved = [b for b in range(256) if b not in keep]
    return [chr(b if b in keep else 256 + moved.index(b)) for b in range(256)]


def vocabulary(lines):
    """tokens [(text, type)], which follows which {id: id}, and the id of the end."""
    letters = byte_letters()
    tokens = [(letter, NORMAL) for letter in letters]
    end = len(tokens)
    tokens.append(("<<<end of answer>>>", CONTROL))
    follows = {len(tokens): end}
    tokens.append(("<<end>>", USER_DEFINED))
    ids = {}
    for name, pieces in lines.items():
        last = len(tokens)
        if len(name) == 1:
            last = tokens.index((name, NORMAL))
        else:
            tokens.append(("<<%s>>" % name, USER_DEFINED))
        for piece in [pieces] if isinstance(pieces, str) else pieces:
            if piece in ids:
                raise SystemExit("the piece %r stands in two places" % piece)
            ids[piece] = follows[last] = len(tokens)
            last = len(tokens)
            tokens.append(("".join(letters[byte] for byte in piece.encode()), NORMAL))
        follows[last] = end
    return tokens, follows, end


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def write_gguf(path, metadata, tensors):
    """metadata: [(key, type number, packed value)]; tensors: [(name, [columns, rows] or [n], floats)]."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    for key, kind, value in metadata:
        head += text(key) + struct.pack("<I", kind) + value
    offset, infos, blobs = 0, b"", []
    for name, shape, values in tensors:
        blob = struct.pack("<%df" % len(values), *values)
        blob += b"\0" * (-len(blob) % 32)
        infos += text(name) + struct.pack("<I", len(shape)) + struct.pack("<%dQ" % len(shape), *shape)
        infos += struct.pack("<IQ", 0, offset)
        offset += len(blob)
        blobs.append(blob)
    head += infos
    with open(path, "wb") as file:
        file.write(head + b"\0" * (-len(head) % 32) + b"".join(blobs))


def main():
    with open(sys.argv[2]) as file:
        tokens, follows, end = vocabulary(json.load(file))
    if len(follows) > N_EMBD:
        raise SystemExit("there are more pieces than the model has dimensions")
    n = len(tokens)
    embd, out = [0.0] * (n * N_EMBD), [0.0] * (n * N_EMBD)
    for dimension, (token, following) in enumerate(follows.items()):
        embd[token * N_EMBD + dimension] = 1.0
        out[following * N_EMBD + dimension] = 4.0
    head_dim = N_EMBD // N_HEAD

    def zeros(rows, columns):
        return [columns, rows], [0.0] * (rows * columns)

    ones = ([N_EMBD], [1.0] * N_EMBD)
    tensors = [
        ("token_embd.weight", [N_EMBD, n], embd), ("output.weight", [N_EMBD, n], out), ("output_norm.weight", *ones),
        ("blk.0.attn_norm.weight", *ones), ("blk.0.ffn_norm.weight", *ones),
        ("blk.0.attn_q.weight", *zeros(N_EMBD, N_EMBD)), ("blk.0.attn_k.weight", *zeros(head_dim, N_EMBD)),
        ("blk.0.attn_v.weight", *zeros(head_dim, N_EMBD)), ("blk.0.attn_output.weight", *zeros(N_EMBD, N_EMBD)),
        ("blk.0.ffn_gate.weight", *zeros(N_FF, N_EMBD)), ("blk.0.ffn_up.weight", *zeros(N_FF, N_EMBD)),
        ("blk.0.ffn_down.weight", *zeros(N_EMBD, N_FF)),
    ]

    def number(key, value):
        return key, 4, struct.pack("<I", value)

    def string(key, value):
        return key, 8, text(value)

    metadata = [
        string("general.architecture", "llama"), string("general.name", "script"),
        number("llama.block_count", 1), number("llama.context_length", CONTEXT), number("llama.embedding_length", N_EMBD),
        number("llama.feed_forward_length", N_FF), number("llama.attention.head_count", N_HEAD),
        number("llama.attention.head_count_kv", 1), number("llama.vocab_size", n),
        ("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-6)),
        string("tokenizer.ggml.model", "gpt2"), string("tokenizer.ggml.pre", "gpt-2"),
        ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, n) + b"".join(text(t) for t, _ in tokens)),
        ("tokenizer.ggml.token_type", 9, struct.pack("<IQ%di" % n, 5, n, *(kind for _, kind in tokens))),
        ("tokenizer.ggml.merges", 9, struct.pack("<IQ", 8, 0)),
        number("tokenizer.ggml.eos_token_id", end), ("tokenizer.ggml.add_bos_token", 7, b"\0"),
        string("tokenizer.chat_template", TEMPLATE),
    ]
    write_gguf(sys.argv[1], metadata, tensors)


main()
