"""Models with experts: gpt-oss, GLM-4.5, ERNIE 4.5, Hunyuan and Phi-3.5."""

import math

import numpy as np
import torch

from golden import Case, head_dim_of, rope_of
from family_phi import phi3_extra, phi3_keys

CORRECTION = {"mlp.gate.e_score_correction_bias": "exp_probs_b.bias"}

# ---- gpt-oss

OSS_NAMES = {"post_attention_layernorm": "post_attention_norm", "self_attn.sinks": "attn_sinks",
             "mlp.router": "ffn_gate_inp", "mlp.experts.gate_up_proj": "gate_up.weight",
             "mlp.experts.gate_up_proj_bias": "gate_up.bias", "mlp.experts.down_proj_bias": "ffn_down_exps.bias"}
OSS_ROPE = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
            "original_max_position_embeddings": 32, "rope_theta": 10000.0}


def oss_keys(config):
    return {"attention.sliding_window": config.sliding_window, "expert_feed_forward_length": config.intermediate_size}


def oss_tensor(name, value, config):
    """Gates and ups lie alternately, and experts are stored with the inputs as rows."""
    if "_exps.weight" in name or "gate_up.weight" in name:
        value = value.swapaxes(-1, -2)
    if "gate_up." not in name:
        return [(name, value)]
    gate, up = (value[:, ::2], value[:, 1::2])
    return [(name.replace("gate_up.", "ffn_gate_exps."), gate), (name.replace("gate_up.", "ffn_up_exps."), up)]


E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)


def mxfp4_parts(blocks):
    """(exponents, codes) of blocks [n, 32] in the OCP Microscaling format MXFP4."""
    largest = np.abs(blocks).max(1, keepdims=True)
    exponent = np.floor(np.log2(np.maximum(largest, 1e-30))) - 2
    scaled = blocks / 2.0 ** exponent
    code = np.abs(np.abs(scaled)[..., None] - E2M1).argmin(-1)
    return exponent, code + 8 * (scaled < 0)


def mxfp4_round(key, value):
    """Experts' weights that MXFP4 holds without loss; blocks run along the inputs. They are small, so that the rounding
    of activations to 8 bits does not change the choice of experts."""
    if "experts" not in key or key.endswith("bias"):
        return value
    rows = 0.3 * value.detach().numpy().swapaxes(-1, -2)
    exponent, code = mxfp4_parts(np.ascontiguousarray(rows).reshape(-1, 32))
    values = np.where(code >= 8, -1.0, 1.0) * E2M1[code % 8] * 2.0 ** exponent
    return torch.tensor(values.reshape(rows.shape).swapaxes(-1, -2).astype(np.float32))


def mxfp4_tensor(name, value, config):
    out = []
    for name, value in oss_tensor(name, value, config):
        if "_exps.weight" in name:
            exponent, code = mxfp4_parts(np.ascontiguousarray(value).reshape(-1, 32))
            packed = (code[:, :16] | (code[:, 16:] << 4)).astype(np.uint8)
            data = np.hstack([(exponent + 127).astype(np.uint8), packed])
            value = (value.shape, "MXFP4", data.tobytes())
        out.append((name, value))
    return out


def oss(name, n_tokens=80, **more):
    config = dict(head_dim=16, vocab_size=48, num_local_experts=4, num_experts_per_tok=2, intermediate_size=more.pop("ff", 16),
                  num_hidden_layers=2, hidden_size=32, sliding_window=16, num_attention_heads=2, num_key_value_heads=1,
                  rope_parameters=OSS_ROPE)
    more = {"tensor": oss_tensor, **more}
    return Case(name, "gpt-oss", "GptOss", config, n_tokens, names=OSS_NAMES, keys=oss_keys, **more)


# ---- others


def glm_keys(config):
    return {"rope.dimension_count": int(head_dim_of(config) * rope_of(config)["partial_rotary_factor"]),
            "expert_shared_count": config.n_shared_experts, "leading_dense_block_count": config.first_k_dense_replace,
            "expert_gating_func": 2, "expert_weights_scale": config.routed_scaling_factor,
            "expert_weights_norm": config.norm_topk_prob, "nextn_predict_layers": 0}


def glm(name, n_tokens=40, **config):
    config = dict(dict(n_routed_experts=6, num_experts_per_tok=2, moe_intermediate_size=12, head_dim=8,
                       routed_scaling_factor=1.5, num_hidden_layers=3, hidden_size=24, intermediate_size=32,
                       first_k_dense_replace=1, attention_bias=True, num_nextn_predict_layers=0), **config)
    return Case(name, "glm4moe", "Glm4Moe", config, n_tokens,
                names={**CORRECTION, "post_attention_layernorm": "post_attention_norm"}, keys=glm_keys)


def ernie_keys(config):
    return {"expert_count": config.moe_num_experts, "expert_used_count": config.moe_k,
            "interleave_moe_layer_step": config.moe_layer_interval,
            "leading_dense_block_count": config.moe_layer_start_index,
            "expert_shared_count": config.moe_num_shared_experts}


def flat(name, value, config):
    return value.reshape(-1) if "exp_probs_b" in name else value


HUNYUAN_NAMES = {"self_attn.query_layernorm": "attn_q_norm", "self_attn.key_layernorm": "attn_k_norm",
                 "mlp.gate.wg": "ffn_gate_inp", "mlp.shared_mlp.gate_proj": "ffn_gate_shexp",
                 "mlp.shared_mlp.up_proj": "ffn_up_shexp", "mlp.shared_mlp.down_proj": "ffn_down_shexp"}


def hunyuan_keys(config):
    return {"expert_used_count": config.moe_topk, "expert_feed_forward_length": config.intermediate_size,
            "expert_shared_feed_forward_length": config.intermediate_size, "expert_shared_count": 1}


PHIMOE_ROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 64,
               "short_factor": [1.0, 1.02, 1.05, 1.3], "long_factor": [1.1, 2.0, 8.0, 30.0]}
PHIMOE_ROPE["short_mscale"] = PHIMOE_ROPE["long_mscale"] = math.sqrt(1 + math.log(8) / math.log(64))


def phimoe_keys(config):
    config.original_max_position_embeddings = 64
    return phi3_keys(config)


CASES = [
    oss("gpt-oss"),
    # The products with MXFP4 weights round their inputs to 8 bits.
    oss("gpt-oss-mxfp4", 40, ff=32, tensor=mxfp4_tensor, adjust=mxfp4_round, tolerance=0.02,
        reference="GptOssForCausalLM (experts in MXFP4)"),
    glm("glm4moe"),
    glm("glm4moe-qk-norm", use_qk_norm=True),
    Case("ernie4_5-moe", "ernie4_5-moe", "Ernie4_5_Moe",
         dict(moe_num_experts=6, moe_k=2, moe_intermediate_size=8, moe_num_shared_experts=1, moe_layer_start_index=1,
              num_hidden_layers=3, hidden_size=24, moe_layer_end_index=2, tie_word_embeddings=True),
         names={"mlp.gate.moe_statics.e_score_correction_bias": "exp_probs_b.bias"}, keys=ernie_keys, tensor=flat),
    Case("hunyuan-moe", "hunyuan-moe", "HunYuanMoEV1",
         dict(num_experts=4, moe_topk=2, head_dim=8, intermediate_size=16), names=HUNYUAN_NAMES, keys=hunyuan_keys),
    Case("phimoe", "phimoe", "Phimoe",
         dict(num_local_experts=4, num_experts_per_tok=2, intermediate_size=16, attention_bias=True, lm_head_bias=True,
              rope_parameters=PHIMOE_ROPE, max_position_embeddings=512),
         names={"mlp.router": "ffn_gate_inp"}, keys=phimoe_keys, extra=phi3_extra, n_ctx=64),
]
