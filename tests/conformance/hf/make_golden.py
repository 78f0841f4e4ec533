#!/usr/bin/env python3
"""Writes the golden models of this folder: tiny random models as `transformers` saves them, with its logits.

    python3 tests/conformance/hf/make_golden.py [NAME ...]

writes all of them, or those whose names begin with one of the arguments.

Each folder holds config.json, the weights (one of them sharded, one in BF16), and golden.safetensors with `tokens` and `logits`.
"""

import os
import shutil
import sys

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
HYBRID = dict(num_hidden_layers=3, vocab_size=64, hidden_size=32, pad_token_id=None, bos_token_id=None,
              eos_token_id=None)
DELTA = dict(HYBRID, layer_types=["linear_attention", "full_attention", "linear_attention"], head_dim=16,
             linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=10)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, shared_expert_intermediate_size=8)
MAMBA = dict(HYBRID, layer_types=["mamba", "attention", "mamba"], mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8,
             mamba_n_groups=1, shared_intermediate_size=16, num_experts_per_tok=2, residual_multiplier=0.4)
CONVS = dict(HYBRID, layer_types=["conv", "full_attention", "conv"])
CASES.update({
    "lfm2": ("Lfm2ForCausalLM", "Lfm2Config", dict(CONVS, block_multiple_of=8), dict()),
    "lfm2moe": ("Lfm2MoeForCausalLM", "Lfm2MoeConfig",
                dict(CONVS, num_dense_layers=1, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12), dict()),
    "granitehybrid": ("GraniteMoeHybridForCausalLM", "GraniteMoeHybridConfig", dict(MAMBA, num_local_experts=0), dict()),
    "granitehybrid-moe": ("GraniteMoeHybridForCausalLM", "GraniteMoeHybridConfig",
                          dict(MAMBA, num_local_experts=4, intermediate_size=12), dict()),
    # See the same case in ../logits/family_hybrid.py about the smallest step.
    "nemotron_h": ("NemotronHForCausalLM", "NemotronHConfig",
                   dict(HYBRID, num_hidden_layers=5, layers_block_type=["mamba", "mlp", "attention", "mlp", "mamba"],
                        mamba_num_heads=4, mamba_head_dim=10, n_groups=2, ssm_state_size=8, head_dim=8,
                        time_step_min=1e-30), dict()),
    "qwen3next": ("Qwen3NextForCausalLM", "Qwen3NextConfig", dict(DELTA, **EXPERTS), dict()),
    "qwen35": ("Qwen3_5ForCausalLM", "Qwen3_5TextConfig", dict(DELTA), dict()),
    "qwen35moe": ("Qwen3_5MoeForCausalLM", "Qwen3_5MoeTextConfig", dict(DELTA, **EXPERTS), dict()),
})


def main():
    for name, (model_class, config_class, changes, saving) in CASES.items():
        if len(sys.argv) > 1 and not name.startswith(tuple(sys.argv[1:])):
            continue
        folder = os.path.join(HERE, name)
        shutil.rmtree(folder, ignore_errors=True)
        torch.manual_seed(sum(map(ord, name)))
        config = getattr(transformers, config_class)(**{**SMALL, **changes})
        config._attn_implementation = "eager"
        model = getattr(transformers, model_class)(config).eval()
        with torch.no_grad():
            for key, value in model.named_parameters():
                if "norm" in key:
                    less_one = name.startswith(("gemma", "qwen3next", "qwen35")) and "linear_attn" not in key
                    value.copy_((0.0 if less_one else 1.0) + 0.2 * torch.randn_like(value))
                elif key.endswith(("A_log", "dt_bias", ".D")):
                    value.add_(0.2 * torch.randn_like(value))
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
