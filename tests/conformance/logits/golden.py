"""Golden models: tiny random models whose logits `transformers` computed, in GGUF files as llama.cpp's converter lays
them out.

A family file lists cases; a case names the transformers class, a small configuration, and how the model's tensors and
settings are called in GGUF where that differs from the common names below.
"""

import os
import sys
import zlib

import numpy as np
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "..", "tools"))
import mr_gguf  # noqa: E402

N_VOCAB = 48
BASE = dict(
    vocab_size=N_VOCAB, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, pad_token_id=None, bos_token_id=None, eos_token_id=None,
)

# Names within a layer, weight and bias alike. None: the tensor has no place in the file.
LAYER_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.qkv_proj": "attn_qkv", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate_up_proj": "ffn_up",
    "mlp.gate": "ffn_gate_inp", "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp", "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp", "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp", "mlp.shared_experts.down_proj": "ffn_down_shexp",
    "mlp.experts.down_proj": "ffn_down_exps", "mlp.experts.gate_up_proj": "ffn_gate_exps+ffn_up_exps",
}
# A norm before and one behind each block, as Gemma 2 began it.
SANDWICH_NAMES = {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
MODEL_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "model.norm.bias": "output_norm.bias", "lm_head.weight": "output.weight", "lm_head.bias": "output.bias",
}


class Case:
    """One golden model.

    name      of the file
    arch      general.architecture
    model     prefix of the transformers classes (NAMEConfig and NAMEForCausalLM), or (config class, model class)
    config    what differs from BASE
    names     replaces entries of LAYER_NAMES and MODEL_NAMES
    keys      function(config) -> metadata under the architecture's prefix beyond the common ones; None removes one
    tensor    function(GGUF name, value, config) -> value, or a list of (name, value)
    extra     function(config) -> {name: value} of tensors that the model does not hold itself
    permute   rows of q and k go from halves to adjacent pairs, which the architecture's rotation asks for
    adjust    function(key of the state dict, random value) -> the value that the model gets
    n_ctx     context that the model is to be loaded for, 0: its own
    tolerance largest difference of logits that is in order, where weights are quantized
    metadata  function() -> further metadata with full keys, called when all tensors are known
    hidden    the file also holds mr.test.hidden, the rows behind the last norm [n_tokens, hidden_size]
    reference words for the table where it is not simply the class
    """

    def __init__(self, name, arch, model, config=None, n_tokens=40, names=None, keys=None, tensor=None, extra=None,
                 permute=False, adjust=None, n_ctx=0, tolerance=None, metadata=None,
                 reference=None, hidden=False):
        self.name, self.arch, self.n_tokens, self.n_ctx = name, arch, n_tokens, n_ctx
        if isinstance(model, str):
            model = (getattr(transformers, model + "Config"), getattr(transformers, model + "ForCausalLM"))
        self.config_class, self.model_class = model
        self.config = {**BASE, **(config or {})}
        self.names = {**LAYER_NAMES, **MODEL_NAMES, **(names or {})}
        self.keys, self.tensor, self.extra, self.permute = keys, tensor, extra, permute
        self.adjust, self.tolerance, self.metadata, self.hidden = adjust, tolerance, metadata, hidden
        self.reference = reference or self.model_class.__name__


def permute_rows(w, n_head):
    """Rows of each head from halves (x1 .. x2 ..) to adjacent pairs (x1 x2 ..)."""
    shape = w.shape
    return np.ascontiguousarray(
        w.reshape(n_head, 2, shape[0] // n_head // 2, *shape[1:]).swapaxes(1, 2)).reshape(shape)


def rope_of(config, layers="full_attention"):
    """The rope parameters, whether or not they are told apart by kinds of layers."""
    rope = getattr(config, "rope_parameters", None) or {}
    return rope.get(layers, rope)


def head_dim_of(config):
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def first(config, *names):
    """The first of these settings that the configuration has."""
    for name in names:
        value = getattr(config, name, None)
        if value is not None:
            return value
    return None


def common_keys(config):
    """Metadata that every architecture has alike. None: not there."""
    rope = rope_of(config)
    kind, scaling = rope.get("rope_type", "default"), {}
    if kind in ("linear", "yarn"):
        scaling = {"type": kind, "factor": float(rope["factor"])}
    if kind == "yarn":
        scaling["original_context_length"] = rope["original_max_position_embeddings"]
        scaling["yarn_ext_factor"] = rope.get("extrapolation_factor")
        scaling["yarn_attn_factor"] = first_of(rope, "attention_factor", "attn_factor")
        scaling["yarn_beta_fast"] = as_float(rope.get("beta_fast"))
        scaling["yarn_beta_slow"] = as_float(rope.get("beta_slow"))
    keys = {
        "context_length": config.max_position_embeddings, "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers, "feed_forward_length": getattr(config, "intermediate_size", None),
        "attention.head_count": getattr(config, "num_attention_heads", None),
        "attention.head_count_kv": getattr(config, "num_key_value_heads", None),
        "attention.key_length": getattr(config, "head_dim", None),
        "attention.value_length": getattr(config, "head_dim", None),
        "attention.layer_norm_rms_epsilon": getattr(config, "rms_norm_eps", None),
        "attention.layer_norm_epsilon": first(config, "layer_norm_eps", "norm_epsilon"),
        "rope.freq_base": as_float(rope.get("rope_theta")),
        "expert_count": first(config, "num_local_experts", "num_experts", "n_routed_experts"),
        "expert_used_count": getattr(config, "num_experts_per_tok", None),
        "expert_feed_forward_length": getattr(config, "moe_intermediate_size", None),
        "expert_group_count": getattr(config, "n_group", None),
        "expert_group_used_count": getattr(config, "topk_group", None),
    }
    keys.update({f"rope.scaling.{key}": value for key, value in scaling.items()})
    return keys


def first_of(values, *names):
    return next((values[name] for name in names if values.get(name) is not None), None)


def as_float(value):
    return None if value is None else float(value)


def llama3_factors(config):
    """Divisors of the rope frequencies, as GGUF stores Llama 3.1's scaling in rope_freqs.weight."""
    s, dim = rope_of(config), head_dim_of(config)
    freq = 1.0 / (s["rope_theta"] ** (np.arange(0, dim, 2, dtype=np.float32) / dim))
    low = s["original_max_position_embeddings"] / s["low_freq_factor"]
    high = s["original_max_position_embeddings"] / s["high_freq_factor"]
    wavelength = 2 * np.pi / freq
    smooth = (s["original_max_position_embeddings"] / wavelength - s["low_freq_factor"]) / (
        s["high_freq_factor"] - s["low_freq_factor"])
    between = 1.0 / ((1.0 - smooth) / s["factor"] + smooth)
    return np.where(wavelength < high, 1.0, np.where(wavelength > low, s["factor"], between)).astype(np.float32)


def randomize(model, adjust=None):
    """Weights wider than usual, so that attention, choices of experts and logits are far from uniform. Vectors are
    spread around what the class makes them (norms around 0 or 1)."""
    stored = set(model.state_dict())
    values = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    with torch.no_grad():
        for key, value in sorted(values.items()):
            if key not in stored or not value.is_floating_point():
                continue
            noise = torch.randn_like(value)
            if value.dim() < 2 or key.endswith("_bias"):
                around = torch.nan_to_num(value) if value.abs().max() <= 10.0 else torch.zeros_like(value)
                value.copy_(around + 0.2 * noise)
            elif "embed" in key:
                value.copy_(noise)
            else:
                value.copy_(noise * 1.6 / value.shape[-1] ** 0.5)
            if adjust is not None:
                value.copy_(adjust(key, value))


def gguf_name(case, key):
    """GGUF name of a tensor of the state dict, without suffix for experts' tensors that are split; None: left out."""
    if key in case.names:
        return case.names[key]
    parts = key.split(".")
    if parts[0] not in ("model", "backbone") or parts[1] != "layers":
        raise KeyError(f"{case.name}: no name for {key}")
    rest, suffix = ".".join(parts[3:]), ""
    if rest not in case.names and parts[-1] in ("weight", "bias"):
        rest, suffix = ".".join(parts[3:-1]), "." + parts[-1]
    if rest not in case.names:
        raise KeyError(f"{case.name}: no name for {key}")
    name = case.names[rest]
    if name is None:
        return None
    suffix = "" if name.endswith((".weight", ".bias", ".scale", "ssm_a", "ssm_d")) else suffix or ".weight"
    return "+".join(f"blk.{parts[2]}.{part}{suffix}" for part in name.split("+"))


def gguf_tensors(case, config, state):
    """(name, value) of every tensor of the file."""
    tied = getattr(config, "tie_word_embeddings", False)
    for key, value in state.items():
        name = gguf_name(case, key)
        if name is None or (tied and name == "output.weight"):
            continue
        values = [(name, value)]
        if "+" in name:  # fused along the last but one dimension
            names = name.split("+")
            values = list(zip(names, np.split(value, len(names), axis=-2)))
        if case.permute and ".attn_q." in name:
            values = [(name, permute_rows(value, config.num_attention_heads))]
        if case.permute and ".attn_k." in name:
            values = [(name, permute_rows(value, config.num_key_value_heads))]
        for name, value in values:
            out = case.tensor(name, value, config) if case.tensor else value
            yield from out if isinstance(out, list) else [(name, out)]
    yield from (case.extra(config) if case.extra else {}).items()


def write_gguf(case, config, model, tokens, logits, hidden):
    w = mr_gguf.GGUFWriter(case.arch)
    w.add("general.name", case.name)
    for key, value in {**common_keys(config), **(case.keys(config) if case.keys else {})}.items():
        if value is not None:
            w.add(f"{case.arch}.{key}", value)
    w.add("mr.test.reference", case.reference)
    w.add("mr.test.tokens", np.array(tokens, dtype=np.int32))
    w.add("mr.test.logits", logits.reshape(-1).astype(np.float32))
    if case.hidden:
        w.add("mr.test.hidden", hidden.reshape(-1).astype(np.float32))
    if case.tolerance:
        w.add("mr.test.tolerance", case.tolerance)
    if case.n_ctx:
        w.add("mr.test.n_ctx", case.n_ctx)
    state = {key: value.detach().numpy().astype(np.float32) for key, value in model.state_dict().items()}
    tensors = list(gguf_tensors(case, config, state))
    for key, value in (case.metadata() if case.metadata else {}).items():
        w.add(key, value)
    for name, value in tensors:
        if isinstance(value, tuple):  # (shape, type, bytes) of a tensor that is encoded already
            w.add_raw_tensor(name, *value)
        else:
            w.add_tensor(name, value, "F32")
    w.write(os.path.join(HERE, case.name + ".gguf"))


def make(case, model=None):
    """Makes the model of a case, computes its logits and writes its file."""
    torch.manual_seed(zlib.crc32(case.name.encode()))
    config = case.config_class(**case.config)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    config.allow_global_per_layer_attribute_access = True
    model = case.model_class(config).eval()
    randomize(model, case.adjust)
    tokens = np.random.default_rng(len(case.name)).integers(0, N_VOCAB, case.n_tokens).tolist()
    with torch.no_grad():
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0].numpy()
        hidden = None
        if case.hidden:
            hidden = model.model(torch.tensor([tokens]), use_cache=False).last_hidden_state[0].numpy()
    write_gguf(case, config, model, tokens, logits, hidden)
    n_bytes = os.path.getsize(os.path.join(HERE, case.name + ".gguf"))
    print(f"{case.name}: {case.n_tokens} tokens, logits {logits.min():.2f} .. {logits.max():.2f}, {n_bytes // 1024} KiB")
