"""Llama and models that are it under another name or with a switch."""

from golden import Case, head_dim_of, llama3_factors, rope_of


def keys(config):
    return {"vocab_size": config.vocab_size, "rope.dimension_count": head_dim_of(config)}


def extra(config):
    return {"rope_freqs.weight": llama3_factors(config)} if rope_of(config).get("rope_type") == "llama3" else {}


def llama(name, n_tokens=40, **config):
    return Case(name, "llama", "Llama", config, n_tokens, keys=keys, extra=extra, permute=True)


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32, "rope_theta": 10000.0}


def experts_apart(name, value, config):
    """Files of 2023 hold each expert as a tensor of its own."""
    if "_exps." not in name:
        return value
    return [(name.replace("_exps.", f".{i}."), expert) for i, expert in enumerate(value)]


CASES = [
    llama("llama-mha", num_key_value_heads=4),
    llama("llama-gqa", 70, num_attention_heads=8),
    llama("llama-mqa-tied", num_key_value_heads=1, tie_word_embeddings=True, hidden_size=40, rope_theta=500000.0),
    llama("llama-head-dim", head_dim=24, num_attention_heads=2, num_key_value_heads=1),
    llama("llama-bias", attention_bias=True, mlp_bias=True),
    llama("llama-linear", 70, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}),
    llama("llama-yarn", 100, rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0,
                                              "original_max_position_embeddings": 32}),
    llama("llama-llama3", 100, rope_parameters=LLAMA3),
    Case("mixtral", "llama", "Mixtral", dict(num_local_experts=4, num_experts_per_tok=2, intermediate_size=16),
         keys=keys, permute=True),
    Case("mixtral-old", "llama", "Mixtral", dict(num_local_experts=4, num_experts_per_tok=2, intermediate_size=12,
                                                 num_hidden_layers=1), keys=keys, permute=True, tensor=experts_apart),
    Case("mistral", "llama", "Mistral", dict(head_dim=16, rope_theta=1000000.0), keys=keys, permute=True),
]
