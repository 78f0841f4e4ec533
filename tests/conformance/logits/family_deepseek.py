"""DeepSeek V2 and V3: attention with compressed keys and values, experts in groups."""

import numpy as np

from golden import Case, rope_of

NAMES = {"self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.q_b_proj": "attn_q_b",
         "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm",
         "self_attn.kv_b_proj": "attn_kv_b", "mlp.gate.e_score_correction_bias": "exp_probs_b.bias"}


def common(config):
    rope = rope_of(config)
    return {"leading_dense_block_count": config.first_k_dense_replace, "vocab_size": config.vocab_size,
            "attention.q_lora_rank": config.q_lora_rank, "attention.kv_lora_rank": config.kv_lora_rank,
            "expert_count": config.n_routed_experts, "expert_shared_count": config.n_shared_experts,
            "expert_weights_scale": config.routed_scaling_factor, "expert_weights_norm": config.norm_topk_prob or None,
            "expert_gating_func": 2 if config.model_type == "deepseek_v3" else None,
            "rope.dimension_count": config.qk_rope_head_dim,
            "rope.scaling.yarn_log_multiplier": 0.1 * rope["mscale_all_dim"] if "mscale_all_dim" in rope else None}


def keys(config):
    return {**common(config), "attention.head_count_kv": 1,
            "attention.key_length": config.kv_lora_rank + config.qk_rope_head_dim,
            "attention.value_length": config.kv_lora_rank,
            "attention.key_length_mla": config.qk_nope_head_dim + config.qk_rope_head_dim,
            "attention.value_length_mla": config.v_head_dim}


def old_keys(config):
    return {**common(config), "attention.head_count_kv": config.num_attention_heads,
            "attention.key_length": config.qk_nope_head_dim + config.qk_rope_head_dim,
            "attention.value_length": config.v_head_dim}


def split_kv_b(name, value, config):
    """A stack of keys' matrices, transposed, and one of values' matrices."""
    if "attn_kv_b" not in name:
        return value
    heads = value.reshape(config.num_attention_heads, -1, config.kv_lora_rank)
    k, v = np.split(heads, [config.qk_nope_head_dim], axis=1)
    return [(name.replace("kv_b", "k_b"), np.ascontiguousarray(k.swapaxes(1, 2))), (name.replace("kv_b", "v_b"), v)]


BASE = dict(num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=16, q_lora_rank=12, qk_nope_head_dim=8,
            qk_rope_head_dim=4, v_head_dim=6, first_k_dense_replace=1, num_hidden_layers=3, hidden_size=24,
            intermediate_size=24, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2,
            moe_intermediate_size=6, routed_scaling_factor=1.5)
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 32,
        "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 0.707, "mscale_all_dim": 0.707}

CASES = [
    Case("deepseek-v2-lite", "deepseek2", "DeepseekV2", dict(BASE, q_lora_rank=None), names=NAMES, keys=keys,
         tensor=split_kv_b),
    Case("deepseek-v2", "deepseek2", "DeepseekV2",
         dict(BASE, n_group=4, topk_group=2, topk_method="group_limited_greedy", rope_parameters=YARN), 60,
         names=NAMES, keys=keys, tensor=split_kv_b),
    Case("deepseek-v2-old", "deepseek2", "DeepseekV2", dict(BASE, rope_parameters=YARN), names=NAMES, keys=old_keys),
    Case("deepseek-v3", "deepseek2", "DeepseekV3",
         dict(BASE, n_group=4, topk_group=2, rope_parameters=dict(YARN, mscale=1.0, mscale_all_dim=1.0)), 60,
         names=NAMES, keys=keys, tensor=split_kv_b),
]
