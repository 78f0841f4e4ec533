"""Gemma 4 (text)."""

import numpy as np
from transformers import Gemma4ForCausalLM, Gemma4TextConfig

from golden import Case, SANDWICH_NAMES, rope_of

NAMES = {
    **SANDWICH_NAMES, "layer_scalar": "layer_output_scale", "per_layer_input_gate": "inp_gate",
    "per_layer_projection": "proj", "post_per_layer_input_norm": "post_norm", "router.proj": "ffn_gate_inp",
    "router.scale": "ffn_gate_inp.scale", "router.per_expert_scale": "ffn_down_exps.scale",
    "experts.gate_up_proj": "ffn_gate_up_exps", "experts.down_proj": "ffn_down_exps",
    "post_feedforward_layernorm_1": "post_ffw_norm_1", "post_feedforward_layernorm_2": "post_ffw_norm_2",
    "pre_feedforward_layernorm_2": "pre_ffw_norm_2",
    "model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
    "model.per_layer_model_projection.weight": "per_layer_model_proj.weight",
    "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
}
ROPE = {"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 100000.0}}
TYPES = ["sliding_attention", "full_attention"]


def sizes(config, name):
    """A setting of each layer, where full layers have their own."""
    return [getattr(config.per_layer_config[i], name) for i in range(config.num_hidden_layers)]


def keys(config):
    full, local = max(sizes(config, "head_dim")), min(sizes(config, "head_dim"))
    n_own = config.num_hidden_layers - config.num_kv_shared_layers
    ff = config.intermediate_size
    return {
        "attention.shared_kv_layers": config.num_kv_shared_layers,
        "embedding_length_per_layer_input": config.hidden_size_per_layer_input or 0,
        "attention.sliding_window": config.sliding_window,
        "attention.sliding_window_pattern": [t == "sliding_attention" for t in config.layer_types],
        "attention.key_length": full, "attention.value_length": full,
        "attention.key_length_swa": local, "attention.value_length_swa": local,
        "attention.head_count_kv": sizes(config, "num_key_value_heads"),
        "feed_forward_length": [ff if i < n_own else 2 * ff for i in range(config.num_hidden_layers)]
        if config.use_double_wide_mlp else ff,
        "rope.dimension_count": full, "rope.dimension_count_swa": local,
        "rope.freq_base_swa": rope_of(config, "sliding_attention")["rope_theta"],
        "final_logit_softcapping": config.final_logit_softcapping, "expert_used_count": config.top_k_experts,
    }


def extra(config):
    """Rotation of full layers leaves the later pairs alone, which a huge divisor of their frequencies does."""
    full, rope = max(sizes(config, "head_dim")), rope_of(config)
    n_rotated = int(full * rope["partial_rotary_factor"] / 2)
    return {"rope_freqs.weight": np.array([1.0] * n_rotated + [1e30] * (full // 2 - n_rotated), dtype=np.float32)}


def gemma4(name, n_tokens=40, **config):
    config = dict(dict(head_dim=8, global_head_dim=16, hidden_size=24, intermediate_size=24, sliding_window=12,
                       num_hidden_layers=4, layer_types=TYPES * 2, rope_parameters=ROPE, num_attention_heads=4,
                       num_key_value_heads=2, hidden_size_per_layer_input=0, final_logit_softcapping=30.0,
                       vocab_size_per_layer_input=48, tie_word_embeddings=True), **config)
    return Case(name, "gemma4", (Gemma4TextConfig, Gemma4ForCausalLM), config, n_tokens, NAMES, keys=keys, extra=extra)


CASES = [
    # Every layer has an embedding of its own, and the last layers attend to earlier layers' keys and values.
    gemma4("gemma4-e2b", 60, hidden_size_per_layer_input=4, num_kv_shared_layers=2, use_double_wide_mlp=True,
           num_key_value_heads=1, num_hidden_layers=6, layer_types=TYPES * 3),
    # Full layers have fewer heads of keys, which are values as well.
    gemma4("gemma4-31b", attention_k_eq_v=True, num_global_key_value_heads=1),
    gemma4("gemma4-26b-a4b", attention_k_eq_v=True, num_global_key_value_heads=1, enable_moe_block=True, num_experts=4,
           top_k_experts=2, moe_intermediate_size=8, num_hidden_layers=2, layer_types=TYPES),
]
