"""Models with one architecture each."""

from golden import Case, head_dim_of, llama3_factors, rope_of
from family_llama import LLAMA3
from family_olmo import window_keys

POST_NAMES = {"post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm"}


def rotary_keys(config):
    return {"vocab_size": config.vocab_size, "rope.dimension_count": head_dim_of(config)}


def llama3_extra(config):
    return {"rope_freqs.weight": llama3_factors(config)} if rope_of(config).get("rope_type") == "llama3" else {}


def hunyuan_keys(config):
    """The scaling for long contexts is in the base."""
    rope, dim = rope_of(config), head_dim_of(config)
    if rope["rope_type"] != "dynamic":
        return {}
    return {"rope.freq_base": rope["rope_theta"] * rope["alpha"] ** (dim / (dim - 2)), "rope.scaling.type": "none",
            "rope.scaling.factor": 1.0}


def ministral3_keys(config):
    rope = rope_of(config)
    return {**rotary_keys(config), "rope.scaling.yarn_log_multiplier": rope["mscale_all_dim"],
            "attention.temperature_scale": rope["llama_4_scaling_beta"]}


MINISTRAL3_ROPE = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32,
                   "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
                   "llama_4_scaling_beta": 0.1}
HUNYUAN_NAMES = {"self_attn.query_layernorm": "attn_q_norm", "self_attn.key_layernorm": "attn_k_norm"}
HUNYUAN_ROPE = {"rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 1000.0, "factor": 1.0}

def apertus_tensor(name, value, config):
    """The activation's parameters are metadata."""
    if ".act." not in name:
        return value
    key = "xielu." + name.split(".act.")[1].split(".")[0]
    apertus_values.setdefault(key, []).append(float(value.reshape(-1)[0]))
    return []


apertus_values = {}
XIELU = {f"mlp.act_fn.{name}": f"act.{name}" for name in ("alpha_p", "alpha_n", "beta", "eps")}


CASES = [
    Case("smollm3", "smollm3", "SmolLM3", dict(num_hidden_layers=4, hidden_size=24, intermediate_size=32,
                                               tie_word_embeddings=True), keys=rotary_keys, permute=True),
    Case("starcoder2", "starcoder2", "Starcoder2", dict(tie_word_embeddings=True), hidden=True,
         names={"mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}),
    Case("exaone", "exaone", "Llama", dict(rope_parameters=LLAMA3), keys=rotary_keys, extra=llama3_extra,
         reference="LlamaForCausalLM (the same equations)"),
    Case("exaone4", "exaone4", "Exaone4", dict(num_hidden_layers=4, intermediate_size=16, head_dim=8,
                                               sliding_window=12, rope_parameters=LLAMA3), 60,
         names=POST_NAMES, keys=window_keys, extra=llama3_extra),
    Case("exaone4-full", "exaone4", "Exaone4", dict(sliding_window=None, sliding_window_pattern=None, head_dim=8,
                                                    layer_types=["full_attention"] * 2),
         names=POST_NAMES),
    Case("internlm2", "internlm2", "Llama", dict(rope_theta=1000000.0), keys=rotary_keys, permute=True,
         reference="LlamaForCausalLM (the same equations)"),
    Case("apertus", "apertus", "Apertus", dict(rope_parameters=LLAMA3, dtype="float32"), keys=rotary_keys,
         extra=llama3_extra, tensor=apertus_tensor, metadata=lambda: apertus_values,
         names={"attention_layernorm": "attn_norm", "feedforward_layernorm": "ffn_norm", **XIELU}),
    Case("seed_oss", "seed_oss", "SeedOss", dict(head_dim=16, attention_bias=True, attention_out_bias=False),
         names={"post_attention_layernorm": "post_attention_norm"}),
    Case("hunyuan", "hunyuan-dense", "HunYuanDenseV1", dict(head_dim=8, tie_word_embeddings=True),
         names=HUNYUAN_NAMES, keys=hunyuan_keys),
    Case("hunyuan-dynamic", "hunyuan-dense", "HunYuanDenseV1", dict(head_dim=8, rope_parameters=HUNYUAN_ROPE),
         names=HUNYUAN_NAMES, keys=hunyuan_keys),
    Case("ernie4_5", "ernie4_5", "Ernie4_5", dict(head_dim=16, tie_word_embeddings=True)),
    Case("mistral-window", "llama", "Mistral", dict(sliding_window=20), 60, permute=True,
         keys=lambda c: {**rotary_keys(c), "attention.sliding_window": c.sliding_window}),
    Case("ministral", "llama", "Ministral",
         dict(num_hidden_layers=3, sliding_window=12, head_dim=8,
              layer_types=["sliding_attention", "full_attention", "sliding_attention"]), 60, permute=True,
         keys=lambda c: {**rotary_keys(c), **window_keys(c)}),
    Case("ministral3", "mistral3", "Ministral3", dict(head_dim=8, rope_parameters=MINISTRAL3_ROPE), 100,
         keys=ministral3_keys, permute=True),
]
