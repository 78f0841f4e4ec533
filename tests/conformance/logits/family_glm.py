"""GLM-4."""

from golden import Case, head_dim_of, rope_of

GLM4_NAMES = {"post_self_attn_layernorm": "post_attention_norm", "post_mlp_layernorm": "post_ffw_norm"}
BASE = dict(head_dim=8, attention_bias=True, rope_parameters={"rope_theta": 10000.0, "partial_rotary_factor": 0.5,
                                                              "rope_type": "default"})


def keys(config):
    return {"rope.dimension_count": int(head_dim_of(config) * rope_of(config)["partial_rotary_factor"])}


CASES = [
    Case("glm4-9b", "chatglm", "Glm", BASE, keys=keys),
    Case("glm4", "glm4", "Glm4", BASE, names=GLM4_NAMES, keys=keys),
]
