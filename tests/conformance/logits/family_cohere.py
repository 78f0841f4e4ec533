"""Command-R, R+ and R7B."""

from golden import Case, head_dim_of

BASE = dict(tie_word_embeddings=True, logit_scale=0.0625)


def keys(config):
    return {"logit_scale": config.logit_scale, "rope.scaling.type": "none"}


def keys2(config):
    return {**keys(config), "attention.sliding_window": config.sliding_window, "vocab_size": config.vocab_size,
            "rope.dimension_count": head_dim_of(config)}


CASES = [
    Case("command-r", "command-r", "Cohere", BASE, keys=keys),
    Case("command-r-plus", "command-r", "Cohere", dict(BASE, use_qk_norm=True), keys=keys),
    Case("cohere2", "cohere2", "Cohere2", dict(BASE, num_hidden_layers=4, sliding_window=12, head_dim=8,
                                               hidden_size=32, intermediate_size=24), 60, keys=keys2),
]
