"""Writes a checkpoint as GGUF.  export.py CHECKPOINT.pt [OUT.gguf]   Then checks it: logits of the file, run by numpy,
against those of the checkpoint, run by torch."""

import json
import os
import sys

import numpy as np
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from common import CONTROL, GGUF, MARKERS, TEMPLATE_TEXT, WORK, render
from model import Config, Model
from mr_gguf import FLOAT32, INT32, GGUFWriter, permute_rope_rows
from reference import ReferenceModel, ReferenceTokenizer


def add_tokenizer(w):
    t = json.load(open(os.path.join(WORK, "tokenizer.json"), encoding="utf-8"))
    vocab = dict(t["model"]["vocab"])
    vocab.update({a["content"]: a["id"] for a in t["added_tokens"]})
    tokens = [s for s, _ in sorted(vocab.items(), key=lambda kv: kv[1])]
    assert sorted(vocab.values()) == list(range(len(tokens)))
    merges = [m if isinstance(m, str) else " ".join(m) for m in t["model"]["merges"]]
    w.add("tokenizer.ggml.model", "gpt2")
    w.add("tokenizer.ggml.pre", "qwen2")
    w.add("tokenizer.ggml.tokens", tokens)
    w.add("tokenizer.ggml.token_type", [3 if s in CONTROL else 4 if s in MARKERS else 1 for s in tokens], elem=INT32)
    w.add("tokenizer.ggml.merges", merges)
    w.add("tokenizer.ggml.bos_token_id", vocab["<|endoftext|>"])
    w.add("tokenizer.ggml.eos_token_id", vocab["<|endoftext|>"])
    w.add("tokenizer.ggml.eot_token_id", vocab["<|im_end|>"])
    w.add("tokenizer.ggml.padding_token_id", vocab["<|endoftext|>"])
    w.add("tokenizer.ggml.add_bos_token", False)
    w.add("tokenizer.chat_template", TEMPLATE_TEXT)


def write(model, path):
    c = model.cfg
    w = GGUFWriter("llama")
    n = sum(p.numel() for p in model.parameters())
    for k, v in [("type", "model"), ("name", "mistral-runner tiny"), ("basename", "mistral-runner"), ("finetune", "tiny"), ("version", "v1"),
                 ("size_label", f"{n / 1e6:.1f}M"), ("license", "apache-2.0"), ("description", "Small chat model with tool calls that ships with mistral-runner."),
                 ("tags", ["text-generation", "tool-calling"]), ("languages", ["en"])]:
        w.add("general." + k, v)
    for k, v in [("vocab_size", c.n_vocab), ("block_count", c.n_layer), ("context_length", c.n_ctx), ("embedding_length", c.n_embd),
                 ("feed_forward_length", c.n_ff), ("attention.head_count", c.n_head), ("attention.head_count_kv", c.n_head_kv),
                 ("rope.freq_base", c.rope_base), ("rope.dimension_count", c.n_embd // c.n_head)]:
        w.add("llama." + k, v)
    w.add("llama.attention.layer_norm_rms_epsilon", c.eps, FLOAT32)
    w.add("general.file_type", 7)  # mostly Q8_0
    w.add("general.quantization_version", 2)
    add_tokenizer(w)
    f = lambda p: p.detach().float().numpy()
    w.add_tensor("token_embd.weight", f(model.embed.weight), "Q8_0")
    for i, b in enumerate(model.blocks):
        p = f"blk.{i}."
        w.add_tensor(p + "attn_norm.weight", f(b.norm1))
        w.add_tensor(p + "attn_q.weight", permute_rope_rows(f(b.q.weight), c.n_head), "Q8_0")
        w.add_tensor(p + "attn_k.weight", permute_rope_rows(f(b.k.weight), c.n_head_kv), "Q8_0")
        w.add_tensor(p + "attn_v.weight", f(b.v.weight), "Q8_0")
        w.add_tensor(p + "attn_output.weight", f(b.o.weight), "Q8_0")
        w.add_tensor(p + "ffn_norm.weight", f(b.norm2))
        w.add_tensor(p + "ffn_gate.weight", f(b.gate.weight), "Q8_0")
        w.add_tensor(p + "ffn_up.weight", f(b.up.weight), "Q8_0")
        w.add_tensor(p + "ffn_down.weight", f(b.down.weight), "Q8_0")
    w.add_tensor("output_norm.weight", f(model.norm))
    w.add_tensor("output.weight", f(model.output.weight), "Q8_0")
    w.write(path)


def quantized_copy(model):
    """The torch model with weights as they come back from Q8_0, so that only the two implementations are compared."""
    from mr_gguf import dequantize, quantize
    c = Model(model.cfg)
    for p, q in zip(c.parameters(), model.parameters()):
        a = q.detach().float().numpy()
        p.data = torch.from_numpy(a.copy() if a.ndim == 1 else dequantize(quantize(a, "Q8_0"), "Q8_0", a.shape))
    return c


def check(model, path):
    r = ReferenceModel(path)
    t = ReferenceTokenizer(r.meta)
    from tokenizers import Tokenizer
    trained = Tokenizer.from_file(os.path.join(WORK, "tokenizer.json"))
    text = render([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello, how are you? 12+7 -> ünï 日本 🙂"},
                   {"role": "assistant", "content": "I am fine, thank you. How are you?"}], None) + "Once upon a time, there was a cat's hat.\n\n  x"
    ids = t.encode(text)
    assert ids == trained.encode(text).ids and t.decode(ids, True) == text, "tokenizer differs"
    mine = r.forward(ids)
    with torch.no_grad():
        full = model(torch.tensor([ids]))[0].numpy()
        quant = quantized_copy(model)(torch.tensor([ids]))[0].numpy()
    print(f"{path}: {os.path.getsize(path)} bytes; {len(ids)} positions; file against torch with the same weights: max |diff| {abs(mine - quant).max():.2e}; "
          f"against unquantized weights: max |diff| {abs(mine - full).max():.2e}, rms {np.sqrt(((mine - full) ** 2).mean()):.2e}, "
          f"same arg-max {(mine.argmax(1) == full.argmax(1)).mean():.3f}")
    assert abs(mine - quant).max() < 1e-2


def main():
    s = torch.load(os.path.join(WORK, sys.argv[1]) if not os.path.exists(sys.argv[1]) else sys.argv[1])
    m = Model(Config(**s["config"]))
    m.load_state_dict(s["model"])
    out = sys.argv[2] if len(sys.argv) > 2 else GGUF
    write(m, out)
    check(m, out)


if __name__ == "__main__":
    main()
