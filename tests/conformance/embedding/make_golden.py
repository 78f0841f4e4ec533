#!/usr/bin/env python3
"""Writes bert.gguf: a tiny random encoder as llama.cpp's converter lays it out, with a WordPiece vocabulary, whose
metadata also holds the test: `mr.test.tokens` (int32 [n_tokens]) and `mr.test.hidden` (float32 [n_tokens * hidden_size],
the last hidden states that transformers' BertModel computed). Run where torch, transformers and numpy are installed.
"""

import os
import sys

import numpy as np
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "..", "tools"))
import mr_gguf  # noqa: E402

WORDS = "hello world a dog runs through the garden tree sun ##s ##ing ##er . , !".split()
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + WORDS + [f"w{i}" for i in range(48 - 4 - len(WORDS))]
N_CONTROL = 4

EMBEDDINGS = {
    "word_embeddings": "token_embd", "position_embeddings": "position_embd", "token_type_embeddings": "token_types",
    "LayerNorm": "token_embd_norm",
}
LAYER = {
    "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm",
}


def gguf_name(key):
    parts = key.split(".")
    if parts[0] == "embeddings":
        return f"{EMBEDDINGS[parts[1]]}.{parts[-1]}"
    return f"blk.{parts[2]}.{LAYER['.'.join(parts[3:-1])]}.{parts[-1]}"


def randomize(model):
    with torch.no_grad():
        for key, value in sorted(model.named_parameters()):
            noise = torch.randn_like(value)
            if value.dim() < 2:
                value.add_(0.2 * noise)
            elif "embeddings" in key:
                value.copy_(noise)
            else:
                value.copy_(noise * 1.6 / value.shape[-1] ** 0.5)


def add_vocabulary(w):
    """The file marks beginnings of words with U+2581 instead of continuations with ##."""
    pieces = [t if i < N_CONTROL else t[2:] if t.startswith("##") else "\u2581" + t for i, t in enumerate(VOCAB)]
    w.add("tokenizer.ggml.model", "bert")
    w.add("tokenizer.ggml.tokens", pieces)
    w.add("tokenizer.ggml.token_type", np.array([3] * N_CONTROL + [1] * (len(VOCAB) - N_CONTROL), dtype=np.int32))
    for key, value in dict(padding=0, unknown=1, bos=2, seperator=3).items():
        w.add(f"tokenizer.ggml.{key}_token_id", value)


def main():
    torch.manual_seed(1810)
    config = transformers.BertConfig(
        vocab_size=len(VOCAB), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=64, type_vocab_size=2)
    config._attn_implementation = "eager"
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    randomize(model)
    tokens = [2] + np.random.default_rng(4805).integers(N_CONTROL, len(VOCAB), 48).tolist() + [3]
    with torch.no_grad():
        hidden = model(torch.tensor([tokens])).last_hidden_state[0].numpy()
    w = mr_gguf.GGUFWriter("bert")
    w.add("general.name", "bert")
    keys = {
        "context_length": config.max_position_embeddings, "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads, "attention.layer_norm_epsilon": config.layer_norm_eps,
        "attention.causal": False, "pooling_type": 1,
    }
    for key, value in keys.items():
        w.add(f"bert.{key}", value)
    add_vocabulary(w)
    w.add("mr.test.tokens", np.array(tokens, dtype=np.int32))
    w.add("mr.test.hidden", hidden.reshape(-1).astype(np.float32))
    for key, value in model.state_dict().items():
        if not key.endswith("_ids"):
            w.add_tensor(gguf_name(key), value.detach().numpy().astype(np.float32), "F32")
    w.write(os.path.join(HERE, "bert.gguf"))
    print(f"bert: {len(tokens)} tokens, hidden {hidden.min():.2f} .. {hidden.max():.2f}")


if __name__ == "__main__":
    main()
