"""Qwen 2 and 3, dense and with experts."""

from golden import Case

EXPERTS = dict(moe_intermediate_size=8, num_experts_per_tok=2, mlp_only_layers=[])


def shared_keys(config):
    return {"expert_shared_feed_forward_length": config.shared_expert_intermediate_size}


CASES = [
    Case("qwen2", "qwen2", "Qwen2", dict(rope_theta=1000000.0)),
    Case("qwen3", "qwen3", "Qwen3", dict(head_dim=16, tie_word_embeddings=True), hidden=True),
    Case("qwen2moe", "qwen2moe", "Qwen2Moe",
         dict(EXPERTS, num_experts=5, shared_expert_intermediate_size=24, norm_topk_prob=False), keys=shared_keys),
    Case("qwen3moe", "qwen3moe", "Qwen3Moe", dict(EXPERTS, num_experts=8, head_dim=16, norm_topk_prob=True)),
]
