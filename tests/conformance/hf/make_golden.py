#!/usr/bin/env python3
"""Writes the golden models of this folder: tiny random models as `transformers` saves them, with its logits.

    python3 tests/conformance/hf/make_golden.py [NAME ...]

writes all of them, or those whose names begin with one of the arguments.

Each folder holds config.json, the weights (one of them sharded, one in BF16), and golden.safetensors with `tokens` and `logits`.
"""

import json
import os
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

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
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", dict(head_dim=16), dict()),
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

SINGLE = dict(pad_token_id=0, bos_token_id=1, eos_token_id=1)
TIED = dict(SINGLE, tie_word_embeddings=True)
ROUTED = dict(num_experts_per_tok=2, moe_intermediate_size=12)
FULL_YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 32,
             "beta_fast": 32.0, "beta_slow": 1.0}
LOCAL_ROPE = {"rope_type": "default", "rope_theta": 20000.0}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0}
LATENT = dict(SINGLE, **ROUTED, num_key_value_heads=4, kv_lora_rank=16, q_lora_rank=12, qk_nope_head_dim=8,
              qk_rope_head_dim=4, v_head_dim=6, first_k_dense_replace=1, n_routed_experts=4, n_shared_experts=1,
              n_group=2, topk_group=1, routed_scaling_factor=1.5)
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 32,
            "short_factor": [1.0, 1.02, 1.05, 1.3], "long_factor": [1.1, 2.0, 8.0, 30.0]}
# `transformers` never takes this family's long factors.
PHIMOE_ROPE = dict(LONGROPE, short_factor=LONGROPE["long_factor"], short_mscale=1.2, long_mscale=1.2)
CASES.update({
    "ministral": ("MinistralForCausalLM", "MinistralConfig",
                  dict(SINGLE, sliding_window=12, head_dim=8, layer_types=["full_attention", "sliding_attention"]), dict()),
    "ministral3": ("Ministral3ForCausalLM", "Ministral3Config",
                   dict(SINGLE, head_dim=8, rope_parameters=dict(FULL_YARN, mscale=1.0, mscale_all_dim=1.0,
                                                                 llama_4_scaling_beta=0.1)), dict()),
    "mistral3-nested": ("MistralForCausalLM", "MistralConfig", dict(SINGLE, sliding_window=None), dict(rewrite=lambda *model: nested(*model))),
    "qwen2moe": ("Qwen2MoeForCausalLM", "Qwen2MoeConfig", dict(EXPERTS, intermediate_size=16, norm_topk_prob=False), dict()),
    "qwen3moe": ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", dict(ROUTED, num_experts=4, head_dim=8, norm_topk_prob=True), dict()),
    "deepseek2-lite": ("DeepseekV2ForCausalLM", "DeepseekV2Config",
                       dict(LATENT, q_lora_rank=None, topk_method="greedy", n_group=1, topk_group=1), dict()),
    "deepseek2": ("DeepseekV2ForCausalLM", "DeepseekV2Config",
                  dict(LATENT, topk_method="group_limited_greedy",
                       rope_parameters=dict(FULL_YARN, mscale=0.707, mscale_all_dim=0.707)), dict()),
    "deepseek3": ("DeepseekV3ForCausalLM", "DeepseekV3Config",
                  dict(LATENT, topk_group=2, rope_parameters=dict(FULL_YARN, mscale=1.0, mscale_all_dim=1.0)), dict()),
    "glm4moe-lite": ("Glm4MoeLiteForCausalLM", "Glm4MoeLiteConfig",
                     dict(LATENT, num_hidden_layers=3, mlp_layer_types=["dense", "dense", "sparse"], n_group=1, topk_group=1), dict()),
    "gpt-oss": ("GptOssForCausalLM", "GptOssConfig",
                dict(SINGLE, head_dim=8, num_local_experts=4, num_experts_per_tok=2, intermediate_size=12,
                     sliding_window=16, rope_parameters=dict(FULL_YARN, truncate=False)), dict()),
    "gpt-oss-mxfp4": ("GptOssForCausalLM", "GptOssConfig",
                      dict(SINGLE, head_dim=8, num_local_experts=2, num_experts_per_tok=2, intermediate_size=32,
                           sliding_window=16, rope_parameters=dict(FULL_YARN, truncate=False)), dict(mxfp4=True)),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", dict(SINGLE), dict()),
    "olmo3": ("Olmo3ForCausalLM", "Olmo3Config",
              dict(SINGLE, sliding_window=12, layer_types=["full_attention", "sliding_attention"],
                   rope_parameters={"sliding_attention": LOCAL_ROPE, "full_attention": dict(FULL_YARN, rope_theta=20000.0)}), dict()),
    "olmoe": ("OlmoeForCausalLM", "OlmoeConfig",
              dict(SINGLE, num_experts=4, num_experts_per_tok=2, intermediate_size=12, norm_topk_prob=False), dict()),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", dict(TIED, head_dim=16, num_key_value_heads=1), dict()),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig",
               dict(TIED, head_dim=8, sliding_window=12, query_pre_attn_scalar=12, num_hidden_layers=3,
                    layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                    rope_parameters={"sliding_attention": LOCAL_ROPE, "full_attention": LINEAR_ROPE}), dict()),
    "phi2": ("PhiForCausalLM", "PhiConfig",
             dict(SINGLE, num_key_value_heads=4, rope_parameters={"rope_theta": 10000.0, "partial_rotary_factor": 0.5,
                                                                  "rope_type": "default"}), dict()),
    "phi3-longrope": ("Phi3ForCausalLM", "Phi3Config",
                      dict(SINGLE, original_max_position_embeddings=32, rope_parameters=LONGROPE, sliding_window=None), dict()),
    "phimoe": ("PhimoeForCausalLM", "PhimoeConfig",
               dict(SINGLE, num_local_experts=4, num_experts_per_tok=2, intermediate_size=12, attention_bias=True,
                    lm_head_bias=True, rope_parameters=PHIMOE_ROPE, sliding_window=None), dict()),
    "glm": ("GlmForCausalLM", "GlmConfig", dict(SINGLE, head_dim=8, attention_bias=True), dict()),
    "glm4": ("Glm4ForCausalLM", "Glm4Config", dict(SINGLE, head_dim=8, attention_bias=True), dict()),
    "glm4moe": ("Glm4MoeForCausalLM", "Glm4MoeConfig",
                dict(SINGLE, **ROUTED, n_routed_experts=4, head_dim=8, routed_scaling_factor=1.5, first_k_dense_replace=1,
                     attention_bias=True, use_qk_norm=True, n_group=1, topk_group=1), dict()),
    "cohere": ("CohereForCausalLM", "CohereConfig", dict(TIED, logit_scale=0.25, use_qk_norm=True), dict()),
    "cohere2": ("Cohere2ForCausalLM", "Cohere2Config",
                dict(TIED, logit_scale=0.25, head_dim=8, sliding_window=12,
                     layer_types=["full_attention", "sliding_attention"]), dict()),
    "starcoder2": ("Starcoder2ForCausalLM", "Starcoder2Config", dict(TIED, sliding_window=16), dict()),
    # Families without a class, whose equations are Llama's.
    "exaone": ("LlamaForCausalLM", "LlamaConfig", dict(SINGLE, rope_parameters=dict(LLAMA3, rope_theta=10000.0)),
               dict(rewrite=lambda *model: as_exaone(*model))),
    "internlm2": ("LlamaForCausalLM", "LlamaConfig", dict(SINGLE, rope_theta=1000000.0),
                  dict(rewrite=lambda *model: as_internlm2(*model))),
    "internlm3": ("LlamaForCausalLM", "LlamaConfig", dict(SINGLE, head_dim=16),
                  dict(rewrite=lambda config, tensors: (dict(config, model_type="internlm3", rope_scaling={
                      "rope_type": "dynamic", "factor": 6.0}, rope_parameters=None, rope_theta=10000.0), tensors))),
    "smollm3": ("SmolLM3ForCausalLM", "SmolLM3Config", dict(TIED, num_hidden_layers=4, hidden_size=24, intermediate_size=32), dict()),
    "exaone4": ("Exaone4ForCausalLM", "Exaone4Config",
                dict(SINGLE, head_dim=8, sliding_window=12, rope_parameters=dict(LLAMA3, rope_theta=10000.0),
                     layer_types=["full_attention", "sliding_attention"]), dict()),
    "ernie4_5": ("Ernie4_5ForCausalLM", "Ernie4_5Config", dict(TIED, head_dim=16), dict()),
    "ernie4_5-moe": ("Ernie4_5_MoeForCausalLM", "Ernie4_5_MoeConfig",
                     dict(TIED, moe_num_experts=4, moe_k=2, moe_intermediate_size=8, moe_num_shared_experts=1,
                          moe_layer_start_index=1, moe_layer_end_index=1), dict()),
    "hunyuan": ("HunYuanDenseV1ForCausalLM", "HunYuanDenseV1Config",
                dict(TIED, head_dim=8, rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 1000.0,
                                                        "factor": 1.0}), dict()),
    "hunyuan-moe": ("HunYuanMoEV1ForCausalLM", "HunYuanMoEV1Config",
                    dict(SINGLE, num_experts=4, moe_topk=2, head_dim=8, intermediate_size=12), dict()),
    "seed_oss": ("SeedOssForCausalLM", "SeedOssConfig",
                 dict(SINGLE, head_dim=16, attention_bias=True, attention_out_bias=False), dict()),
    "apertus": ("ApertusForCausalLM", "ApertusConfig",
                dict(SINGLE, rope_parameters=dict(LLAMA3, rope_theta=10000.0), dtype="float32"), dict()),
    "granitemoe": ("GraniteMoeForCausalLM", "GraniteMoeConfig",
                   dict(TIED, num_local_experts=4, num_experts_per_tok=2, intermediate_size=12,
                        embedding_multiplier=3.0, residual_multiplier=0.4, attention_multiplier=0.2, logits_scaling=2.0), dict()),
    "granitemoeshared": ("GraniteMoeSharedForCausalLM", "GraniteMoeSharedConfig",
                         dict(TIED, num_local_experts=4, num_experts_per_tok=2, intermediate_size=12,
                              shared_intermediate_size=8, residual_multiplier=0.4), dict()),
})


GEMMA3N = dict(TIED, head_dim=8, num_hidden_layers=4, sliding_window=12, num_kv_shared_layers=2,
               layer_types=["sliding_attention", "full_attention"] * 2, hidden_size_per_layer_input=4, laurel_rank=4,
               rope_parameters={"sliding_attention": dict(LOCAL_ROPE, rope_theta=10000.0),
                                "full_attention": dict(LOCAL_ROPE, rope_theta=100000.0)})
GEMMA4 = dict(GEMMA3N, intermediate_size=64, global_head_dim=16, hidden_size_per_layer_input=0, num_kv_shared_layers=0,
              final_logit_softcapping=30.0, num_global_key_value_heads=1,
              rope_parameters={"sliding_attention": LOCAL_ROPE, "full_attention": {
                  "rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 100000.0}})
CASES.update({
    # Fewer tokens than there are have embeddings for each layer, and FFNs differ in width.
    "gemma3n": ("Gemma3nForCausalLM", "Gemma3nTextConfig",
                dict(GEMMA3N, intermediate_size=[64, 96, 64, 64], vocab_size_per_layer_input=48,
                     activation_sparsity_pattern=[0.8, 0.5, 0.0, 0.0]), dict()),
    "gemma3n-nested": ("Gemma3nForCausalLM", "Gemma3nTextConfig",
                       dict(GEMMA3N, intermediate_size=32, num_hidden_layers=5, num_kv_shared_layers=0,
                            layer_types=["sliding_attention"] * 4 + ["full_attention"], num_attention_heads=2,
                            num_key_value_heads=1, altup_num_inputs=2, vocab_size_per_layer_input=64),
                       dict(rewrite=lambda *model: as_gemma3n(*model))),
    "gemma4-e2b": ("Gemma4ForCausalLM", "Gemma4TextConfig",
                   dict(GEMMA4, hidden_size_per_layer_input=4, num_kv_shared_layers=2, use_double_wide_mlp=True,
                        num_key_value_heads=1, vocab_size_per_layer_input=64), dict()),
    "gemma4-31b": ("Gemma4ForCausalLM", "Gemma4TextConfig", dict(GEMMA4, attention_k_eq_v=True), dict()),
    "gemma4-26b-a4b": ("Gemma4ForCausalLM", "Gemma4TextConfig",
                       dict(GEMMA4, attention_k_eq_v=True, enable_moe_block=True, num_experts=4, top_k_experts=2,
                            moe_intermediate_size=32, num_hidden_layers=3,
                            layer_types=["sliding_attention"] * 2 + ["full_attention"]),
                       dict(rewrite=lambda *model: as_gemma4(*model))),
    "gemma4-unified": ("Gemma4UnifiedForCausalLM", "Gemma4UnifiedTextConfig",
                       dict(GEMMA4, num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"]), dict()),
})


# Models that see, of which text is read.
VISION = dict(depth=1, hidden_size=8, intermediate_size=8, num_heads=2, out_hidden_size=32, patch_size=2,
              spatial_merge_size=1, temporal_patch_size=1)
CASES.update({
    "qwen2.5vl": ("Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLConfig",
                  dict(text_config=dict(SINGLE, rope_parameters=dict(LOCAL_ROPE, mrope_section=[2, 1, 1])),
                       vision_config=dict(VISION, fullatt_block_indexes=[0], window_size=4)), dict()),
    "qwen3vl": ("Qwen3VLForConditionalGeneration", "Qwen3VLConfig",
                dict(text_config=dict(SINGLE, head_dim=16, rope_parameters=dict(LOCAL_ROPE, mrope_section=[4, 2, 2])),
                     vision_config=dict(VISION, num_position_embeddings=4, deepstack_visual_indexes=[0])), dict()),
})


def multimodal(model_type, config, tensors):
    """The language part beside parts that see and hear, of which nothing is to be read."""
    beside = {f"model.{part}.layers.0.self_attn.q_proj.weight": torch.zeros(2, 2) for part in ("vision_tower", "audio_tower")}
    return ({"model_type": model_type, "text_config": config, "vision_config": {"num_hidden_layers": 1},
             "audio_config": {"num_hidden_layers": 1}, "tie_word_embeddings": True},
            {**{key.replace("model.", "model.language_model.", 1): value for key, value in tensors.items()}, **beside})


def as_gemma3n(config, tensors):
    """Published files have the older names of the bases, and a scale that nothing uses; what is usual may be missing."""
    bases = {kind: rope["rope_theta"] for kind, rope in config.pop("rope_parameters").items()}
    for key in ("layer_types", "activation_sparsity_pattern", "final_logit_softcapping"):
        config.pop(key)
    return multimodal("gemma3n", dict(config, rope_scaling=None, rope_theta=bases["full_attention"],
                                      rope_local_base_freq=bases["sliding_attention"], query_pre_attn_scalar=256), tensors)


def as_gemma4(config, tensors):
    """Published files have names of their own for what full layers have otherwise."""
    config.pop("per_layer_config")
    return multimodal("gemma4", dict(config, global_head_dim=16, num_global_key_value_heads=1), tensors)


def rewrite(folder, change):
    """Stores the model as change(configuration, tensors) gives it."""
    path, weights = os.path.join(folder, "config.json"), os.path.join(folder, "model.safetensors")
    with open(path) as f:
        config, tensors = change(json.load(f), load_file(weights))
    with open(path, "w") as f:
        json.dump(config, f, indent=2)
    save_file(tensors, weights)


def nested(config, tensors):
    """The language part of a multimodal model."""
    return ({"model_type": "mistral3", "tie_word_embeddings": False, "text_config": config},
            {"language_model." + key: value for key, value in tensors.items()})


def renamed(tensors, names):
    out = {}
    for key, value in tensors.items():
        for theirs, ours in names.items():
            key = key.replace(theirs, ours)
        out[key] = value
    return out


def as_exaone(config, tensors):
    config["num_layers"], config["layer_norm_epsilon"] = config.pop("num_hidden_layers"), config.pop("rms_norm_eps")
    return dict(config, model_type="exaone"), renamed(tensors, {
        "model.layers.": "transformer.h.", "model.embed_tokens": "transformer.wte", "model.norm": "transformer.ln_f",
        "self_attn.": "attn.attention.", "o_proj": "out_proj", "gate_proj": "c_fc_0", "up_proj": "c_fc_1",
        "down_proj": "c_proj", "input_layernorm": "ln_1", "post_attention_layernorm": "ln_2"})


def as_internlm2(config, tensors):
    """Queries, keys and values are one tensor, sorted by the key-value heads."""
    n_kv, out = config["num_key_value_heads"], dict(tensors)
    for i in range(config["num_hidden_layers"]):
        parts = [out.pop(f"model.layers.{i}.self_attn.{part}_proj.weight") for part in "qkv"]
        groups = torch.cat([part.reshape(n_kv, -1, part.shape[1]) for part in parts], 1)
        out[f"model.layers.{i}.attention.wqkv.weight"] = groups.reshape(-1, groups.shape[2]).contiguous()
    return dict(config, model_type="internlm2"), renamed(out, {
        "model.embed_tokens": "model.tok_embeddings", "lm_head": "output", "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2",
        "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm"})


E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])
packed = {}  # of the model at hand


def mxfp4_weight(key, shape):
    """A random weight that MXFP4 holds, [expert, inputs, outputs]; its blocks run along the inputs."""
    n_expert, n_in, n_out = shape
    codes = torch.randint(0, 16, (n_expert, n_out, n_in // 32, 32))
    scales = torch.randint(121, 123, (n_expert, n_out, n_in // 32))
    packed[key + "_blocks"] = (codes[..., ::2] + 16 * codes[..., 1::2]).to(torch.uint8).contiguous()
    packed[key + "_scales"] = scales.to(torch.uint8)
    values = E2M1[codes] * torch.exp2(scales - 127.0)[..., None]
    return values.reshape(n_expert, n_out, n_in).transpose(1, 2)


def store_packed(folder):
    """Puts the packed weights in the place of the others."""
    path = os.path.join(folder, "model.safetensors")
    tensors = {key: value for key, value in load_file(path).items() if key + "_blocks" not in packed}
    save_file({**tensors, **packed}, path)
    packed.clear()
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        config = json.load(f)
    with open(path, "w") as f:
        json.dump({**config, "quantization_config": {"quant_method": "mxfp4"}}, f, indent=2)


def main():
    for name, (model_class, config_class, changes, saving) in CASES.items():
        if len(sys.argv) > 1 and not name.startswith(tuple(sys.argv[1:])):
            continue
        folder = os.path.join(HERE, name)
        shutil.rmtree(folder, ignore_errors=True)
        torch.manual_seed(sum(map(ord, name)))
        if "text_config" in changes:
            changes = {**changes, "text_config": {**SMALL, **changes["text_config"]}}
        else:
            changes = {**SMALL, **changes}
        config = getattr(transformers, config_class)(**changes)
        config._attn_implementation = "eager"
        model = getattr(transformers, model_class)(config).eval()
        with torch.no_grad():
            for key, value in model.named_parameters():
                if "norm" in key:
                    less_one = name.startswith(("gemma", "qwen3next", "qwen35")) and "linear_attn" not in key
                    less_one = less_one and not name.startswith(("gemma3n", "gemma4"))
                    value.copy_((0.0 if less_one else 1.0) + 0.2 * torch.randn_like(value))
                elif key.endswith(("A_log", "dt_bias", ".D", "_scale", ".scale")):
                    value.add_(0.2 * torch.randn_like(value))
                elif "mxfp4" in saving and key.endswith(("gate_up_proj", "down_proj")):
                    value.copy_(mxfp4_weight(key, value.shape))
                elif "bias" in key:
                    value.copy_(0.2 * torch.randn_like(value))
                else:
                    value.copy_(torch.randn_like(value) * (1.0 if "embed" in key else 1.6 / value.shape[-1] ** 0.5))
            for key, value in model.named_buffers():
                if key.endswith(("correction_bias", "layer_scalar")):
                    value.add_(0.2 * torch.randn_like(value))
        if saving.get("bf16"):
            model = model.to(torch.bfloat16)
        model.save_pretrained(folder, max_shard_size=saving.get("max_shard_size", "5GB"))
        if "rewrite" in saving:
            rewrite(folder, saving["rewrite"])
        if packed:
            store_packed(folder)
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
