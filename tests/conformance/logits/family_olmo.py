"""OLMo 2, 3 and OLMoE."""

from golden import Case

NAMES = {"post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm"}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 32,
        "attention_factor": 1.1386, "beta_fast": 32.0, "beta_slow": 1.0}


def window_keys(config):
    return {"attention.sliding_window": config.sliding_window,
            "attention.sliding_window_pattern": [t == "sliding_attention" for t in config.layer_types]}


def olmo3(name, n_tokens, **config):
    return Case(name, "olmo2", "Olmo3", dict(num_hidden_layers=4, hidden_size=24, intermediate_size=32,
                                             sliding_window=12, **config), n_tokens, NAMES, keys=window_keys)


CASES = [
    Case("olmo2", "olmo2", "Olmo2", dict(rope_theta=500000.0), names=NAMES),
    olmo3("olmo3", 60, rope_parameters={"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                                        "full_attention": YARN}),
    # Windows on other layers than usual.
    olmo3("olmo3-types", 40, layer_types=["full_attention", "sliding_attention", "sliding_attention",
                                          "full_attention"]),
    Case("olmoe", "olmoe", "Olmoe", dict(num_experts=6, num_experts_per_tok=2, intermediate_size=10, num_key_value_heads=4,
                                         norm_topk_prob=False)),
]
