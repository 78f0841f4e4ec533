"""Models whose sequences carry a recurrent state: LFM2, Granite 4-H, Nemotron-H, Qwen3-Next and Qwen3.5."""

import numpy as np
import transformers

from golden import Case, head_dim_of, rope_of
from family_granite import SCALES

# ---- LFM2: gated short convolutions

LFM2_NAMES = {"operator_norm": "attn_norm", "ffn_norm": "ffn_norm", "conv.conv": "shortconv.conv",
              "conv.in_proj": "shortconv.in_proj", "conv.out_proj": "shortconv.out_proj",
              "self_attn.out_proj": "attn_output", "self_attn.q_layernorm": "attn_q_norm",
              "self_attn.k_layernorm": "attn_k_norm", "feed_forward.w1": "ffn_gate", "feed_forward.w2": "ffn_down",
              "feed_forward.w3": "ffn_up", "feed_forward.gate": "ffn_gate_inp",
              "feed_forward.expert_bias": "exp_probs_b.bias",
              "feed_forward.experts.gate_up_proj": "ffn_gate_exps+ffn_up_exps",
              "feed_forward.experts.down_proj": "ffn_down_exps", "model.embedding_norm.weight": "token_embd_norm.weight"}


def kv_heads(config):
    """Key-value heads of each layer: none where it has no attention."""
    attends = ("attention", "full_attention")
    return [config.num_key_value_heads if kind in attends else 0 for kind in layer_kinds(config)]


def layer_kinds(config):
    return getattr(config, "layers_block_type", None) or config.layer_types


def lfm2_keys(config):
    keys = {"shortconv.l_cache": config.conv_L_cache, "attention.head_count_kv": kv_heads(config),
            "vocab_size": config.vocab_size, "attention.layer_norm_rms_epsilon": config.norm_eps,
            "attention.layer_norm_epsilon": None}
    if hasattr(config, "num_experts"):
        keys.update({"leading_dense_block_count": config.num_dense_layers, "expert_gating_func": 2})
    return keys


def squeezed(name, value, config):
    return value[:, 0] if "conv" in name and value.ndim == 3 else value


def lfm2(name, arch, model, **config):
    config = dict(dict(layer_types=["conv", "full_attention", "conv"], num_hidden_layers=3, conv_L_cache=3,
                       rope_parameters={"rope_type": "default", "rope_theta": 10000.0}), **config)
    return Case(name, arch, model, config, 70, names=LFM2_NAMES, keys=lfm2_keys, tensor=squeezed)


# ---- Mamba-2


def mamba_names(prefix):
    names = {"in_proj": "ssm_in", "conv1d": "ssm_conv1d", "dt_bias": "ssm_dt.bias", "A_log": "ssm_a", "D": "ssm_d",
             "norm": "ssm_norm", "out_proj": "ssm_out"}
    return {f"{prefix}.{theirs}": ours for theirs, ours in names.items()}


def mamba_tensor(n_group):
    def tensor(name, value, config):
        if name.endswith("ssm_a"):
            return -np.exp(value)[:, None]
        if name.endswith("ssm_d"):
            return value[:, None]
        if "ssm_norm" in name:
            return value.reshape(n_group, -1)
        return squeezed(name, value, config)
    return tensor


def mamba_keys(config, n_head, dim, n_state, n_group, width):
    return {"ssm.conv_kernel": width, "ssm.state_size": n_state, "ssm.group_count": n_group,
            "ssm.inner_size": n_head * dim, "ssm.time_step_rank": n_head}


GRANITE_NAMES = {"block_sparse_moe.router": "ffn_gate_inp",
                 "block_sparse_moe.experts.gate_up_proj": "ffn_gate_exps+ffn_up_exps",
                 "block_sparse_moe.experts.down_proj": "ffn_down_exps", **mamba_names("mamba")}


def granite_keys(config):
    c = config
    return {"attention.scale": c.attention_multiplier, "embedding_scale": c.embedding_multiplier,
            "residual_scale": c.residual_multiplier, "logit_scale": c.logits_scaling,
            "rope.dimension_count": head_dim_of(c), "rope.scaling.finetuned": c.position_embedding_type == "rope",
            "expert_count": c.num_local_experts, "attention.head_count_kv": kv_heads(c),
            "feed_forward_length": c.intermediate_size if c.num_local_experts else c.shared_intermediate_size,
            **mamba_keys(c, c.mamba_n_heads, c.mamba_d_head, c.mamba_d_state, c.mamba_n_groups, c.mamba_d_conv)}


def granite(name, experts, **config):
    shared = "ffn_gate_shexp+ffn_up_shexp" if experts else "ffn_gate+ffn_up"
    names = {**GRANITE_NAMES, "shared_mlp.input_linear": shared,
             "shared_mlp.output_linear": "ffn_down_shexp" if experts else "ffn_down"}
    config = dict(dict(SCALES, layer_types=["mamba", "attention", "mamba"], num_hidden_layers=3, mamba_n_heads=4,
                       mamba_d_head=16, mamba_d_state=8, mamba_n_groups=1, shared_intermediate_size=16,
                       num_local_experts=experts, num_experts_per_tok=2, intermediate_size=12), **config)
    return Case(name, "granitehybrid", "GraniteMoeHybrid", config, 70, names=names, keys=granite_keys,
                tensor=mamba_tensor(1), permute=True)


NEMOTRON_NAMES = {"model.embeddings.weight": "token_embd.weight", "model.norm_f.weight": "output_norm.weight",
                  "norm": "attn_norm", "mixer.q_proj": "attn_q", "mixer.k_proj": "attn_k", "mixer.v_proj": "attn_v",
                  "mixer.o_proj": "attn_output", "mixer.up_proj": "ffn_up", "mixer.down_proj": "ffn_down",
                  **mamba_names("mixer")}


def nemotron_keys(config):
    c = config
    widths = [c.intermediate_size if kind == "mlp" else 0 for kind in layer_kinds(c)]
    return {"attention.head_count_kv": kv_heads(c), "feed_forward_length": widths, "expert_count": None,
            "expert_used_count": None, "expert_feed_forward_length": None, "expert_group_count": None,
            "expert_group_used_count": None, "attention.layer_norm_rms_epsilon": c.layer_norm_epsilon,
            **mamba_keys(c, c.mamba_num_heads, c.mamba_head_dim, c.ssm_state_size, c.n_groups, c.conv_kernel)}


def nemotron(name, **config):
    # Steps are cut at time_step_min by this class, but not by the kernels that the models were trained with, and GGUF
    # files do not hold it.
    config = dict(dict(time_step_min=1e-30, layers_block_type=["mamba", "mlp", "attention", "mlp", "mamba"],
                       num_hidden_layers=5, mamba_num_heads=4, mamba_head_dim=10, n_groups=2, ssm_state_size=8, head_dim=8), **config)
    return Case(name, "nemotron_h", "NemotronH", config, 70, names=NEMOTRON_NAMES, keys=nemotron_keys,
                tensor=mamba_tensor(config["n_groups"]))


# ---- gated delta nets

DELTA_NAMES = {"post_attention_layernorm": "post_attention_norm", "linear_attn.A_log": "ssm_a",
               "linear_attn.dt_bias": "ssm_dt.bias", "linear_attn.conv1d": "ssm_conv1d",
               "linear_attn.in_proj_qkvz": "qkvz", "linear_attn.in_proj_qkv": "attn_qkv",
               "linear_attn.in_proj_z": "attn_gate", "linear_attn.in_proj_ba": "ssm_ba",
               "linear_attn.in_proj_b": "ssm_beta", "linear_attn.in_proj_a": "ssm_alpha",
               "linear_attn.norm": "ssm_norm", "linear_attn.out_proj": "ssm_out"}
DELTA_SIZES = dict(layer_types=["linear_attention", "full_attention", "linear_attention"], num_hidden_layers=3,
                   head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
                   linear_value_head_dim=10)
DELTA_EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, shared_expert_intermediate_size=8)


def delta_keys(config):
    c = config
    return {"ssm.conv_kernel": c.linear_conv_kernel_dim, "ssm.state_size": c.linear_key_head_dim,
            "ssm.group_count": c.linear_num_key_heads, "ssm.time_step_rank": c.linear_num_value_heads,
            "ssm.inner_size": c.linear_num_value_heads * c.linear_value_head_dim, "full_attention_interval": 2,
            "rope.dimension_count": int(head_dim_of(c) * rope_of(c)["partial_rotary_factor"])}


def split_qkvz(value, c):
    """Rows of each key head (its query, key, values and gates) to all queries, keys and values; and gates."""
    n, dk = c.linear_num_key_heads, c.linear_key_head_dim
    dv = c.linear_num_value_heads // n * c.linear_value_head_dim
    q, k, v, z = np.split(value.reshape(n, -1, value.shape[1]), [dk, 2 * dk, 2 * dk + dv], axis=1)
    return [np.vstack([part.reshape(-1, value.shape[1]) for part in (q, k, v)]), z.reshape(-1, value.shape[1])]


def next_tensor(name, value, config):
    if name.endswith("norm.weight") and "ssm_norm" not in name:
        return value + 1
    if name.endswith("ssm_a"):
        return -np.exp(value)
    if "qkvz" in name:
        qkv, z = split_qkvz(value, config)
        return [(name.replace("qkvz", "attn_qkv"), qkv), (name.replace("qkvz", "attn_gate"), z)]
    return squeezed(name, value, config)


def tile_heads(value, c, axis=0):
    """Value heads of each key head, one group after the other, to the first of each group, then the second ones."""
    n_key, n = c.linear_num_key_heads, c.linear_num_value_heads
    moved = np.moveaxis(value, axis, 0)
    shape = moved.shape
    tiled = moved.reshape(n_key, n // n_key, shape[0] // n, *shape[1:]).swapaxes(0, 1).reshape(shape)
    return np.ascontiguousarray(np.moveaxis(tiled, 0, axis))


def tiled_tensor(name, value, config):
    value = next_tensor(name, value, config)
    if any(part in name for part in ("attn_gate", "ssm_beta", "ssm_alpha", "ssm_a", "ssm_dt")):
        return tile_heads(value, config)
    if "ssm_out" in name:
        return tile_heads(value, config, 1)
    if "attn_qkv" in name or "ssm_conv1d" in name:
        n = 2 * config.linear_num_key_heads * config.linear_key_head_dim
        return np.concatenate([value[:n], tile_heads(value[n:], config)])
    return value


def qwen35(name, arch, model, **config):
    classes = (getattr(transformers, model + "TextConfig"), getattr(transformers, model + "ForCausalLM"))
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25,
            "mrope_section": [1, 1, 0], "mrope_interleaved": True}
    return Case(name, arch, classes, {**DELTA_SIZES, "rope_parameters": rope, **config}, 70, names=DELTA_NAMES,
                keys=delta_keys, tensor=tiled_tensor)


CASES = [
    lfm2("lfm2", "lfm2", "Lfm2", block_auto_adjust_ff_dim=False, conv_bias=False),
    lfm2("lfm2moe", "lfm2moe", "Lfm2Moe", num_dense_layers=1, num_experts=4, num_experts_per_tok=2,
         moe_intermediate_size=12),
    granite("granitehybrid", 0),
    granite("granitehybrid-moe", 4),
    granite("granitehybrid-rope", 0, position_embedding_type="rope"),
    nemotron("nemotron_h"),
    Case("qwen3next", "qwen3next", "Qwen3Next", {**DELTA_SIZES, **DELTA_EXPERTS}, 70, names=DELTA_NAMES,
         keys=delta_keys, tensor=next_tensor),
    qwen35("qwen35", "qwen35", "Qwen3_5"),
    qwen35("qwen35moe", "qwen35moe", "Qwen3_5Moe", **DELTA_EXPERTS),
]
