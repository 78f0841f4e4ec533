#!/usr/bin/env python3
"""Writes the golden models of this folder: tiny random Llama models with the logits that `transformers` computes.

Each NAME.gguf is a complete model in F32 whose metadata also holds the test: `mr.test.tokens` (int32 [n_tokens]) and
`mr.test.logits` (float32 [n_tokens * n_vocab], row by row). Run where torch, transformers and numpy are installed:

    python3 tests/conformance/logits/make_golden.py
"""

import os
import sys

import numpy as np
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "..", "tools"))
import mr_gguf  # noqa: E402

N_VOCAB = 64
BASE = dict(
    vocab_size=N_VOCAB, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=4, max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False,
)

# name -> (what differs from BASE, how many tokens)
CASES = {
    "llama-mha": (dict(), 40),
    "llama-gqa": (dict(num_attention_heads=8, num_key_value_heads=2), 70),
    "llama-mqa-tied": (dict(num_key_value_heads=1, tie_word_embeddings=True, hidden_size=40, rope_theta=500000.0), 40),
    "llama-head-dim": (dict(head_dim=24, num_key_value_heads=2), 40),
    "llama-bias": (dict(attention_bias=True, mlp_bias=True, num_key_value_heads=2), 40),
    "llama-linear": (dict(rope_scaling={"rope_type": "linear", "factor": 4.0}, num_key_value_heads=2), 70),
    "llama-yarn": (dict(rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
                        num_key_value_heads=2), 100),
    "llama-llama3": (dict(rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                        "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
                          num_key_value_heads=2), 100),
}


def permute(w, n_head):
    """Rows of each head from the halves order of transformers to the adjacent pairs of GGUF's llama."""
    shape = w.shape
    return w.reshape(n_head, 2, shape[0] // n_head // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def llama3_factors(config, head_dim):
    """Divisors of the rope frequencies, as GGUF stores Llama 3.1's scaling in rope_freqs.weight."""
    s = config["rope_scaling"]
    freq = 1.0 / (config["rope_theta"] ** (np.arange(0, head_dim, 2, dtype=np.float32) / head_dim))
    low = s["original_max_position_embeddings"] / s["low_freq_factor"]
    high = s["original_max_position_embeddings"] / s["high_freq_factor"]
    out = []
    for f in freq:
        wavelength = 2 * np.pi / f
        if wavelength < high:
            out.append(1.0)
        elif wavelength > low:
            out.append(s["factor"])
        else:
            smooth = (s["original_max_position_embeddings"] / wavelength - s["low_freq_factor"]) / (
                s["high_freq_factor"] - s["low_freq_factor"])
            out.append(1.0 / ((1.0 - smooth) / s["factor"] + smooth))
    return np.array(out, dtype=np.float32)


def write_gguf(path, config, model, tokens, logits):
    w = mr_gguf.GGUFWriter("llama")
    n_head, n_kv = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // n_head
    w.add("general.name", os.path.basename(path)[:-5])
    w.add("llama.context_length", config["max_position_embeddings"])
    w.add("llama.embedding_length", config["hidden_size"])
    w.add("llama.block_count", config["num_hidden_layers"])
    w.add("llama.feed_forward_length", config["intermediate_size"])
    w.add("llama.attention.head_count", n_head)
    w.add("llama.attention.head_count_kv", n_kv)
    w.add("llama.attention.key_length", head_dim)
    w.add("llama.attention.value_length", head_dim)
    w.add("llama.rope.dimension_count", head_dim)
    w.add("llama.attention.layer_norm_rms_epsilon", config["rms_norm_eps"])
    w.add("llama.rope.freq_base", config["rope_theta"])
    scaling = config.get("rope_scaling")
    if scaling and scaling["rope_type"] in ("linear", "yarn"):
        w.add("llama.rope.scaling.type", scaling["rope_type"])
        w.add("llama.rope.scaling.factor", scaling["factor"])
    if scaling and scaling["rope_type"] == "yarn":
        w.add("llama.rope.scaling.original_context_length", scaling["original_max_position_embeddings"])
    w.add("mr.test.tokens", np.array(tokens, dtype=np.int32))
    w.add("mr.test.logits", logits.reshape(-1).astype(np.float32))
    state = {k: v.detach().numpy().astype(np.float32) for k, v in model.state_dict().items()}
    if scaling and scaling["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(config, head_dim), "F32")
    w.add_tensor("token_embd.weight", state["model.embed_tokens.weight"], "F32")
    w.add_tensor("output_norm.weight", state["model.norm.weight"], "F32")
    if not config["tie_word_embeddings"]:
        w.add_tensor("output.weight", state["lm_head.weight"], "F32")
    names = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }
    for il in range(config["num_hidden_layers"]):
        for theirs, ours in names.items():
            for part in ("weight", "bias"):
                key = f"model.layers.{il}.{theirs}.{part}"
                if key not in state:
                    continue
                value = state[key]
                if ours == "attn_q":
                    value = permute(value, n_head)
                if ours == "attn_k":
                    value = permute(value, n_kv)
                w.add_tensor(f"blk.{il}.{ours}.{part}", value, "F32")
    w.write(path)


def main():
    for name, (changes, n_tokens) in CASES.items():
        config = {**BASE, **changes}
        torch.manual_seed(sum(map(ord, name)))
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)).eval()
        with torch.no_grad():
            for key, value in model.named_parameters():
                # Wider than the default, so that attention and logits are far from uniform.
                if "norm" in key:
                    value.copy_(1.0 + 0.2 * torch.randn_like(value))
                elif "bias" in key:
                    value.copy_(0.2 * torch.randn_like(value))
                else:
                    value.copy_(torch.randn_like(value) * (1.0 if "embed" in key else 1.6 / value.shape[1] ** 0.5))
            tokens = np.random.default_rng(len(name)).integers(0, N_VOCAB, n_tokens).tolist()
            logits = model(torch.tensor([tokens])).logits[0].numpy()
        write_gguf(os.path.join(HERE, name + ".gguf"), config, model, tokens, logits)
        print(f"{name}: {n_tokens} tokens, logits {logits.min():.2f} .. {logits.max():.2f}")


if __name__ == "__main__":
    main()
