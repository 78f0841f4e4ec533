"""Gemma 1 to 3 (text)."""

from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from golden import Case, SANDWICH_NAMES, rope_of

BASE = dict(head_dim=16, tie_word_embeddings=True)


def plus_one(name, value, config):
    """Gemma multiplies by 1 + weight; files hold the sum."""
    return value + 1.0 if name.endswith("norm.weight") else value


def damp(key, value):
    """With very many narrow layers, rounding errors grow large unless each layer changes little."""
    return (1.0 + value) * 0.1 - 1.0 if "post_" in key and value.dim() == 1 else value


def gemma(name, **config):
    return Case(name, "gemma", "Gemma", {**BASE, "num_key_value_heads": 1, **config}, tensor=plus_one,
                keys=lambda c: {"rope.freq_base": None})


def gemma2(name, n_tokens=40, adjust=None, **config):
    config = {**BASE, "num_hidden_layers": 3, "hidden_size": 24, "intermediate_size": 32, "sliding_window": 12,
              "query_pre_attn_scalar": 16, **config}
    return Case(name, "gemma2", "Gemma2", config, n_tokens, SANDWICH_NAMES, tensor=plus_one, adjust=adjust, keys=lambda c: {
        "rope.freq_base": None, "attn_logit_softcapping": c.attn_logit_softcapping,
        "final_logit_softcapping": c.final_logit_softcapping, "attention.sliding_window": c.sliding_window})


def gemma3_keys(config):
    return {"attention.sliding_window": config.sliding_window,
            "rope.freq_base_swa": rope_of(config, "sliding_attention")["rope_theta"]}


def gemma3_old_keys(config):
    """Files before rope.freq_base_swa."""
    return {"attention.sliding_window": config.sliding_window}


def gemma3(name, n_tokens=40, keys=gemma3_keys, local_base=10000.0, adjust=None, **config):
    rope = {"sliding_attention": {"rope_type": "default", "rope_theta": local_base},
            "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0}}
    config = {**BASE, "num_hidden_layers": 7, "hidden_size": 16, "intermediate_size": 16, "sliding_window": 12,
              "query_pre_attn_scalar": config.get("head_dim", 16), "rope_parameters": rope, **config}
    return Case(name, "gemma3", (Gemma3TextConfig, Gemma3ForCausalLM), config, n_tokens, SANDWICH_NAMES,
                tensor=plus_one, keys=keys, adjust=adjust)


TINY = dict(hidden_size=8, intermediate_size=8, num_attention_heads=2, num_key_value_heads=1, head_dim=8)

CASES = [
    gemma("gemma"),
    gemma2("gemma2", 60),
    # The 27B models are known by their number of layers; they scale attention by another size than a head's.
    gemma2("gemma2-27b", adjust=damp, **{**TINY, "num_hidden_layers": 46, "query_pre_attn_scalar": 4}),
    gemma3("gemma3", 60, local_base=20000.0),
    gemma3("gemma3-old", 60, gemma3_old_keys),
    gemma3("gemma3-27b", adjust=damp, **{**TINY, "num_hidden_layers": 62, "query_pre_attn_scalar": 4}),
]
