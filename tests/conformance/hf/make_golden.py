#!/usr/bin/env python3
"""Writes the golden models of this folder: tiny random models as `transformers` saves them, with its logits.

    python3 tests/conformance/hf/make_golden.py

Each folder holds config.json, the weights (one of them sharded, one in BF16), and golden.safetensors with `tokens` and `logits`.
"""

import os
import shutil

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
SMALL = dict(vocab_size=64, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=128)
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}

# name -> (model class, config class, changes, what to do when saving)
CASES = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", dict(rope_scaling=LLAMA3), dict()),
    "mistral": ("MistralForCausalLM", "MistralConfig", dict(sliding_window=16, head_dim=8), dict()),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", dict(tie_word_embeddings=True), dict()),
    "qwen3-bf16": ("Qwen3ForCausalLM", "Qwen3Config", dict(head_dim=16), dict(bf16=True)),
    "gemma2-sharded": ("Gemma2ForCausalLM", "Gemma2Config",
                       dict(head_dim=8, sliding_window=16, query_pre_attn_scalar=12, num_hidden_layers=3),
                       dict(max_shard_size="20KB")),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=None), dict()),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", dict(pad_token_id=0, eos_token_id=1, bos_token_id=1), dict()),
    "granite": ("GraniteForCausalLM", "GraniteConfig",
                dict(embedding_multiplier=3.0, residual_multiplier=0.4, attention_multiplier=0.2, logits_scaling=2.0), dict()),
}


def main():
    for name, (model_class, config_class, changes, saving) in CASES.items():
        folder = os.path.join(HERE, name)
        shutil.rmtree(folder, ignore_errors=True)
        torch.manual_seed(sum(map(ord, name)))
        config = getattr(transformers, config_class)(**{**SMALL, **changes})
        config._attn_implementation = "eager"
        model = getattr(transformers, model_class)(config).eval()
        with torch.no_grad():
            for key, value in model.named_parameters():
                if "norm" in key:
                    value.copy_((0.0 if "gemma" in name else 1.0) + 0.2 * torch.randn_like(value))
                elif "bias" in key:
                    value.copy_(0.2 * torch.randn_like(value))
                else:
                    value.copy_(torch.randn_like(value) * (1.0 if "embed" in key else 1.6 / value.shape[-1] ** 0.5))
        if saving.get("bf16"):
            model = model.to(torch.bfloat16)
        model.save_pretrained(folder, max_shard_size=saving.get("max_shard_size", "5GB"))
        tokens = np.random.default_rng(len(name)).integers(0, 64, 70).tolist()
        with torch.no_grad():
            logits = model.to(torch.float32)(torch.tensor([tokens])).logits[0].contiguous()
        save_file({"tokens": torch.tensor(tokens, dtype=torch.int32), "logits": logits.float()},
                  os.path.join(folder, "golden.safetensors"))
        for extra in ("generation_config.json", "README.md"):
            path = os.path.join(folder, extra)
            if os.path.exists(path):
                os.remove(path)
        print(name, sorted(os.listdir(folder)))


if __name__ == "__main__":
    main()
