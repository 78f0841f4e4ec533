"""Granite 3 and 4, without state-space layers."""

from golden import Case, head_dim_of

SCALES = dict(embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.4, attention_multiplier=0.25)
NAMES = {"block_sparse_moe.router": "ffn_gate_inp", "block_sparse_moe.experts.gate_up_proj": "ffn_gate_exps+ffn_up_exps",
         "block_sparse_moe.experts.down_proj": "ffn_down_exps", "shared_mlp.input_linear": "ffn_gate_shexp+ffn_up_shexp",
         "shared_mlp.output_linear": "ffn_down_shexp"}


def keys(config):
    return {"attention.scale": config.attention_multiplier, "embedding_scale": config.embedding_multiplier,
            "residual_scale": config.residual_multiplier, "logit_scale": config.logits_scaling,
            "vocab_size": config.vocab_size, "rope.dimension_count": head_dim_of(config),
            "expert_shared_feed_forward_length": getattr(config, "shared_intermediate_size", None)}


def granite(name, arch, model, **config):
    return Case(name, arch, model, {**SCALES, **config}, names=NAMES, keys=keys, permute=True)


EXPERTS = dict(num_local_experts=5, num_experts_per_tok=2, intermediate_size=12)

CASES = [
    granite("granite", "granite", "Granite", tie_word_embeddings=True),
    granite("granitemoe", "granitemoe", "GraniteMoe", **EXPERTS),
    granite("granitemoe-shared", "granitemoe", "GraniteMoeShared", shared_intermediate_size=16, **EXPERTS),
]
