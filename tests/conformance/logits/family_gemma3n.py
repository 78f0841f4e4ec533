"""Gemma 3n (text)."""

import numpy as np
import torch
from transformers import Gemma3nForCausalLM, Gemma3nTextConfig

from golden import Case, SANDWICH_NAMES, rope_of

N_STREAM = 3  # besides the first
ALTUP = {"router_norm": "router_norm", "modality_router": "router", "prediction_coefs": "predict_coef",
         "correction_coefs": "correct_coef", "correct_output_scale": "correct_scale"}
NAMES = {
    **SANDWICH_NAMES, **{f"altup.{theirs}": f"altup_{ours}" for theirs, ours in ALTUP.items()},
    "laurel.linear_left": "laurel_l", "laurel.linear_right": "laurel_r", "laurel.post_laurel_norm": "laurel_post_norm",
    "per_layer_input_gate": "inp_gate", "per_layer_projection": "proj", "post_per_layer_input_norm": "post_norm",
    "model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
    "model.per_layer_model_projection.weight": "per_layer_model_proj.weight",
    "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
    **{f"model.altup_projections.{i}.weight": f"altup_proj.{i}" for i in range(N_STREAM)},
    **{f"model.altup_unembed_projections.{i}.weight": f"altup_unembd_proj.{i}" for i in range(N_STREAM)},
}
ROPE = {"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "default", "rope_theta": 100000.0}}
parts = {}


def stack(name, value, config):
    """The maps between streams are one tensor."""
    if not name.startswith("altup_"):
        return value
    name, number = name.rsplit(".", 1)
    parts.setdefault(name, {})[int(number)] = value
    if len(parts[name]) < N_STREAM:
        return []
    return [(name + ".weight", np.stack([part for _, part in sorted(parts.pop(name).items())]))]


def keys(config):
    normal = torch.distributions.normal.Normal(0, 1)
    return {
        "altup.active_idx": config.altup_active_idx, "altup.num_inputs": config.altup_num_inputs,
        "attention.shared_kv_layers": config.num_kv_shared_layers,
        "embedding_length_per_layer_input": config.hidden_size_per_layer_input,
        "attention.sliding_window": config.sliding_window,
        "attention.sliding_window_pattern": [t == "sliding_attention" for t in config.layer_types],
        "activation_sparsity_scale": [float(normal.icdf(torch.tensor(s, dtype=torch.float32)))
                                      for s in config.activation_sparsity_pattern],
        "rope.freq_base_swa": rope_of(config, "sliding_attention")["rope_theta"],
        "final_logit_softcapping": config.final_logit_softcapping,
    }


CASES = [
    Case("gemma3n", "gemma3n", (Gemma3nTextConfig, Gemma3nForCausalLM),
         dict(head_dim=8, hidden_size=24, intermediate_size=[24] * 6, num_hidden_layers=6, sliding_window=12,
              layer_types=["sliding_attention", "full_attention"] * 3, rope_parameters=ROPE, num_kv_shared_layers=2,
              hidden_size_per_layer_input=4, vocab_size_per_layer_input=48, laurel_rank=4, altup_num_inputs=4,
              activation_sparsity_pattern=[0.8] * 3 + [0.0] * 3, tie_word_embeddings=True), 60,
         names=NAMES, keys=keys, tensor=stack),
]
