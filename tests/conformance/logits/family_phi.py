"""Phi 2, 3, 3.5 and 4."""

import math

import numpy as np

from golden import Case, head_dim_of, rope_of

PHI2_NAMES = {"self_attn.dense": "attn_output", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down",
              "model.final_layernorm.weight": "output_norm.weight", "model.final_layernorm.bias": "output_norm.bias"}


def rotated(config):
    return int(head_dim_of(config) * rope_of(config).get("partial_rotary_factor", 1.0))


def phi2_keys(config):
    return {"rope.dimension_count": rotated(config), "rope.freq_base": None}


def phi3_keys(config):
    original, rope = config.original_max_position_embeddings, rope_of(config)
    scale = config.max_position_embeddings / original
    factor = math.sqrt(1 + math.log(scale) / math.log(original)) if rope["rope_type"] == "longrope" else None
    return {"rope.dimension_count": rotated(config), "rope.scaling.original_context_length": original,
            "attention.sliding_window": config.sliding_window or 0, "rope.scaling.attn_factor": factor}


def phi3_extra(config):
    rope = rope_of(config)
    return {f"rope_factors_{which}.weight": np.array(rope[f"{which}_factor"], dtype=np.float32)
            for which in ("long", "short") if f"{which}_factor" in rope}


def phi3(name, n_tokens=40, n_ctx=0, **config):
    config = {"original_max_position_embeddings": config.get("max_position_embeddings", 256), **config}
    return Case(name, "phi3", "Phi3", config, n_tokens, keys=phi3_keys, extra=phi3_extra, n_ctx=n_ctx)


LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 64,
            "short_factor": [1.0, 1.02, 1.05, 1.3], "long_factor": [1.1, 2.0, 8.0, 30.0]}
LONG = dict(max_position_embeddings=512, original_max_position_embeddings=64, rope_parameters=LONGROPE)

CASES = [
    Case("phi2", "phi2", "Phi", dict(num_key_value_heads=4, intermediate_size=128,
                                     rope_parameters={"rope_theta": 10000.0, "partial_rotary_factor": 0.5,
                                                      "rope_type": "default"}),
         names=PHI2_NAMES, keys=phi2_keys),
    phi3("phi3", num_key_value_heads=4),
    phi3("phi3-window", 60, sliding_window=20),
    # Sequences within the original context rotate by the short factors, longer ones by the long factors.
    phi3("phi3-short", 60, 64, **LONG),
    phi3("phi3-long", 100, 0, **LONG),
    phi3("phi4-mini", head_dim=16, hidden_size=64, num_hidden_layers=1, tie_word_embeddings=True,
         rope_parameters={"rope_theta": 10000.0, "partial_rotary_factor": 0.75, "rope_type": "default"}),
]
