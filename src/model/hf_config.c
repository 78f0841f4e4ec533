#include "model/arch.h"
#include "model/hf_model.h"

#include <math.h>
#include <string.h>

/* Collects metadata under the prefix of the architecture. */
typedef struct header_writer {
    mr_buf *out;
    const char *arch;
    uint64_t n_values;
} header_writer;

static void put_le(mr_buf *out, uint64_t value, size_t n) {
    for (size_t i = 0; i < n; i++) mr_buf_putc(out, (char)(value >> (8 * i)));
}

static void put_text(mr_buf *out, const char *text) {
    put_le(out, strlen(text), 8);
    mr_buf_puts(out, text);
}

/* A key is put under the architecture's prefix unless it has a dot in front. */
static void put_key(header_writer *w, const char *key, mr_gguf_type type) {
    if (key[0] == '.') {
        put_text(w->out, key + 1);
    } else {
        put_le(w->out, strlen(w->arch) + 1 + strlen(key), 8);
        mr_buf_printf(w->out, "%s.%s", w->arch, key);
    }
    put_le(w->out, (uint64_t)type, 4);
    w->n_values++;
}

static void put_u32(header_writer *w, const char *key, uint64_t value) {
    put_key(w, key, MR_GGUF_UINT32);
    put_le(w->out, value > UINT32_MAX ? UINT32_MAX : value, 4);
}

/* A number from outside as a whole one; what is negative or too large for 32 bits is the largest, which no size may be.
 */
static uint64_t whole(double value) {
    return value >= 0.0 && value < (double)UINT32_MAX ? (uint64_t)value : UINT32_MAX;
}

static uint32_t f32_bits(double value) {
    union {
        float f;
        uint32_t u;
    } bits = {.f = (float)value};
    return bits.u;
}

static void put_f32(header_writer *w, const char *key, double value) {
    put_key(w, key, MR_GGUF_FLOAT32);
    put_le(w->out, f32_bits(value), 4);
}

static void put_bool(header_writer *w, const char *key, bool value) {
    put_key(w, key, MR_GGUF_BOOL);
    put_le(w->out, value, 1);
}

static void put_string(header_writer *w, const char *key, const char *text) {
    put_key(w, key, MR_GGUF_STRING);
    put_text(w->out, text);
}

/* A number of config.json under the first of the names that is there. A list with the same number for each layer is
 * that number. */
static bool get_number(const json_t *config, const char *const *names, double *value) {
    for (; *names != NULL; names++) {
        const json_t *item = json_object_get(config, *names);
        for (size_t i = 1; i < json_array_size(item); i++) {
            if (!json_equal(json_array_get(item, i), json_array_get(item, 0))) return false;
        }
        if (json_is_array(item)) item = json_array_get(item, 0);
        if (!json_is_number(item)) continue;
        *value = json_number_value(item);
        return true;
    }
    return false;
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Numbers that are copied as they are. */
static void copy_numbers(header_writer *w, const json_t *config, const mr_arch *arch) {
    static const struct {
        const char *key;
        const char *names[5];
        bool real;
    } numbers[] = {
        {"context_length", {"max_position_embeddings", "n_positions"}, false},
        {"embedding_length", {"hidden_size"}, false},
        {"attention.head_count", {"num_attention_heads"}, false},
        {"attention.key_length", {"head_dim"}, false},
        {"attention.value_length", {"head_dim"}, false},
        {"attention.layer_norm_rms_epsilon", {"rms_norm_eps", "norm_eps"}, true},
        {"attention.layer_norm_epsilon", {"layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"}, true},
        {"attn_logit_softcapping", {"attn_logit_softcapping"}, true},
        {"final_logit_softcapping", {"final_logit_softcapping"}, true},
        {"embedding_scale", {"embedding_multiplier"}, true},
        {"residual_scale", {"residual_multiplier"}, true},
        {"attention.scale", {"attention_multiplier"}, true},
        {"logit_scale", {"logits_scaling", "logit_scale"}, true},
        {"expert_count", {"num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"}, false},
        {"expert_used_count", {"num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts"}, false},
        {"expert_feed_forward_length", {"moe_intermediate_size"}, false},
        {"expert_weights_scale", {"routed_scaling_factor"}, true},
        {"leading_dense_block_count", {"num_dense_layers", "first_k_dense_replace", "moe_layer_start_index"}, false},
        {"interleave_moe_layer_step", {"decoder_sparse_step", "moe_layer_interval"}, false},
        {"attention.q_lora_rank", {"q_lora_rank"}, false},
        {"attention.kv_lora_rank", {"kv_lora_rank"}, false},
        {"attention.value_length", {"v_head_dim"}, false},
        {"full_attention_interval", {"full_attention_interval"}, false},
        {"attention.key_length_swa", {"local_head_dim"}, false},
        {"attention.value_length_swa", {"local_head_dim"}, false},
        {"rope.dimension_count_swa", {"local_head_dim"}, false},
        {"attention.shared_kv_layers", {"num_kv_shared_layers"}, false},
        {"embedding_length_per_layer_input", {"hidden_size_per_layer_input"}, false},
        {"altup.num_inputs", {"altup_num_inputs"}, false},
        {"altup.active_idx", {"altup_active_idx"}, false},
        {"shortconv.l_cache", {"conv_L_cache"}, false},
        {"ssm.conv_kernel", {"mamba_d_conv", "linear_conv_kernel_dim", "conv_kernel"}, false},
        {"ssm.state_size", {"mamba_d_state", "linear_key_head_dim", "ssm_state_size"}, false},
        {"ssm.group_count", {"mamba_n_groups", "linear_num_key_heads", "n_groups"}, false},
        {"ssm.time_step_rank", {"mamba_n_heads", "linear_num_value_heads", "mamba_num_heads"}, false},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        double value;
        if (!get_number(config, numbers[i].names, &value)) continue;
        if (arch->mla && strcmp(numbers[i].names[0], "head_dim") == 0) continue; /* that of the rotated part */
        /* Nemotron-H's configurations have these numbers whether or not a layer has experts. */
        if (arch->one_block_layers && strncmp(numbers[i].key, "expert_", 7) == 0) continue;
        if (numbers[i].real)
            put_f32(w, numbers[i].key, value);
        else if (value >= 0)
            put_u32(w, numbers[i].key, whole(value));
    }
}

/* What a layer of a hybrid is, in the letters of Nemotron-H's patterns. */
enum { KIND_ATTENTION = '*', KIND_FFN = '-', KIND_EXPERTS = 'E', KIND_OTHER = 'M' };

/* The kind of layer i by config.json: a list of names, a pattern of letters, or a list of the layers with attention;
 * attention where it does not say. */
static int layer_kind(const json_t *config, size_t i) {
    const json_t *list = json_object_get(config, "layer_types"), *indices = json_object_get(config, "full_attn_idxs");
    if (!json_is_array(list)) list = json_object_get(config, "layers_block_type");
    const char *name = json_string_value(json_array_get(list, i));
    if (name != NULL) {
        if (strstr(name, "full_attention") != NULL || strcmp(name, "attention") == 0) return KIND_ATTENTION;
        return strcmp(name, "mlp") == 0 ? KIND_FFN : strcmp(name, "moe") == 0 ? KIND_EXPERTS : KIND_OTHER;
    }
    const char *pattern = json_string_value(json_object_get(config, "hybrid_override_pattern"));
    if (pattern != NULL && i < strlen(pattern)) return pattern[i];
    if (!json_is_array(indices)) return KIND_ATTENTION;
    for (size_t k = 0; k < json_array_size(indices); k++) {
        if (json_integer_value(json_array_get(indices, k)) == (json_int_t)i) return KIND_ATTENTION;
    }
    return KIND_OTHER;
}

static size_t count_layers(const json_t *config) {
    double value;
    if (get_number(config, NAMES("num_hidden_layers", "num_layers"), &value))
        return value >= 1 && value <= 1e6 ? (size_t)value : 0;
    const char *pattern = json_string_value(json_object_get(config, "hybrid_override_pattern"));
    if (pattern != NULL) return strlen(pattern);
    return json_array_size(json_object_get(config, "layers_block_type"));
}

/* A list of config.json with a number for each layer, where there is one; no number is minus infinity among floats. */
static void put_list(header_writer *w, const char *key, const json_t *config, const char *name, mr_gguf_type type) {
    const json_t *list = json_object_get(config, name);
    if (json_array_size(list) == 0) return;
    put_key(w, key, MR_GGUF_ARRAY);
    put_le(w->out, (uint64_t)type, 4);
    put_le(w->out, json_array_size(list), 8);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        double value = json_is_number(item) ? json_number_value(item) : -INFINITY;
        put_le(w->out, type == MR_GGUF_FLOAT32 ? f32_bits(value) : whole(value), 4);
    }
}

/* value for the layers of a kind, 0 for the others. */
static void put_by_kind(header_writer *w, const char *key, const json_t *config, size_t n, int kind, double value) {
    put_key(w, key, MR_GGUF_ARRAY);
    put_le(w->out, MR_GGUF_UINT32, 4);
    put_le(w->out, n, 8);
    for (size_t i = 0; i < n; i++)
        put_le(w->out, layer_kind(config, i) == kind && value >= 0 && value <= 1e9 ? (uint64_t)value : 0, 4);
}

/* The width of an FFN. LFM2's configurations tell it before two thirds of it are rounded up; Granite's models without
 * experts have the shared expert alone. */
static double ffn_width(const json_t *config) {
    double width = -1.0, shared, factor = 1.0, multiple = 256.0, experts = 1.0;
    get_number(config, NAMES("intermediate_size", "block_ff_dim"), &width);
    if (get_number(config, NAMES("num_local_experts"), &experts) && experts == 0.0 &&
        get_number(config, NAMES("shared_intermediate_size"), &shared))
        return shared;
    if (!json_is_true(json_object_get(config, "block_auto_adjust_ff_dim")) || !(width >= 0.0 && width <= 1e9))
        return width;
    get_number(config, NAMES("block_ffn_dim_multiplier"), &factor);
    get_number(config, NAMES("block_multiple_of"), &multiple);
    if (!(factor > 0.0 && factor <= 16.0 && multiple >= 1.0 && multiple <= 1e6)) return width;
    uint64_t adjusted = (uint64_t)(factor * (double)((uint64_t)width * 2 / 3)), unit = (uint64_t)multiple;
    return (double)((adjusted + unit - 1) / unit * unit);
}

/* Numbers of layers, and those that differ by layer in hybrids. */
static mr_status put_layers(header_writer *w, const json_t *config, const mr_arch *arch, mr_error *err) {
    size_t n = count_layers(config);
    double n_head_kv, width = ffn_width(config);
    bool hybrid = arch->mixer != MR_MIXER_ATTENTION && n <= MR_MAX_LAYERS;
    bool listed = json_object_get(config, "full_attention_interval") == NULL ||
                  json_is_array(json_object_get(config, "layer_types"));
    put_u32(w, "block_count", n);
    if (!get_number(config, NAMES("num_key_value_heads"), &n_head_kv)) n_head_kv = -1.0;
    if (hybrid && listed)
        put_by_kind(w, "attention.head_count_kv", config, n, KIND_ATTENTION, n_head_kv);
    else if (n_head_kv >= 0.0)
        put_u32(w, "attention.head_count_kv", whole(n_head_kv));
    else
        put_list(w, "attention.head_count_kv", config, "num_key_value_heads", MR_GGUF_UINT32);
    if (hybrid && arch->one_block_layers)
        put_by_kind(w, "feed_forward_length", config, n, KIND_FFN, width);
    else if (width >= 0.0)
        put_u32(w, "feed_forward_length", whole(width));
    else
        put_list(w, "feed_forward_length", config, "intermediate_size", MR_GGUF_UINT32);
    put_list(w, "activation_sparsity_scale", config, "activation_sparsity_scale", MR_GGUF_FLOAT32);
    for (size_t i = 0; hybrid && i < n; i++) {
        if (layer_kind(config, i) == KIND_EXPERTS)
            return mr_fail(
                err, MR_ERR_UNSUPPORTED,
                "config.json says that layer %zu of this %s model holds experts alone, which is not supported", i,
                w->arch);
    }
    return MR_OK;
}

/* Of layers with a recurrent state. */
static void put_mixers(header_writer *w, const json_t *config) {
    double n_head, dim, expand, n_embd;
    if (!get_number(config, NAMES("mamba_n_heads", "linear_num_value_heads", "mamba_num_heads"), &n_head)) return;
    bool known = get_number(config, NAMES("mamba_d_head", "linear_value_head_dim", "mamba_head_dim"), &dim);
    if (!known && get_number(config, NAMES("mamba_expand"), &expand) &&
        get_number(config, NAMES("hidden_size"), &n_embd))
        known = n_head >= 1.0, dim = expand * n_embd / n_head;
    if (known && n_head * dim >= 0.0 && n_head * dim <= 1e9) put_u32(w, "ssm.inner_size", whole(n_head * dim));
    put_bool(w, "ssm.value_heads_tiled", false);
    const char *position = json_string_value(json_object_get(config, "position_embedding_type"));
    put_bool(w, "rope.scaling.finetuned", position != NULL && strcmp(position, "rope") == 0);
}

/* YaRN's factor for cosines and sines where it is not the usual one, and DeepSeek's for the attention. */
static void put_yarn(header_writer *w, const json_t *rope, const mr_arch *arch) {
    double factor, attention, scale = 0.0, scale_all = 0.0;
    if (!get_number(rope, NAMES("factor"), &factor) || !(factor > 1.0)) return;
    get_number(rope, NAMES("mscale"), &scale);
    get_number(rope, NAMES("mscale_all_dim"), &scale_all);
    if (get_number(rope, NAMES("attention_factor"), &attention))
        put_f32(w, "rope.scaling.yarn_attn_factor", attention);
    else if (scale != 0.0 && scale_all != 0.0)
        put_f32(w, "rope.scaling.yarn_attn_factor",
                (0.1 * scale * log(factor) + 1.0) / (0.1 * scale_all * log(factor) + 1.0));
    if (arch->yarn_scales_attention && scale_all != 0.0)
        put_f32(w, "rope.scaling.yarn_log_multiplier", 0.1 * scale_all);
}

/* LongRoPE multiplies cosines and sines by a factor that config.json tells, or that follows from how much longer the
 * context has become. Its divisors are tensors. */
static void put_longrope(header_writer *w, const json_t *rope, const json_t *config, double original) {
    double factor, longest;
    if (!get_number(rope, NAMES("attention_factor", "long_mscale"), &factor)) {
        if (!get_number(config, NAMES("max_position_embeddings"), &longest) || !(original > 1.0)) return;
        factor = longest > original ? sqrt(1.0 + log(longest / original) / log(original)) : 1.0;
    }
    put_string(w, "rope.scaling.type", "longrope");
    put_f32(w, "rope.scaling.attn_factor", factor);
}

const json_t *mr_hf_text_part(const json_t *config) {
    const json_t *text = json_object_get(config, "text_config");
    return json_is_object(text) ? text : config;
}

static const json_t *rope_sets(const json_t *config) {
    const json_t *rope = json_object_get(config, "rope_parameters");
    return json_is_object(rope) ? rope : json_object_get(config, "rope_scaling");
}

const json_t *mr_hf_rope(const json_t *config) {
    const json_t *rope = rope_sets(config), *full = json_object_get(rope, "full_attention");
    return json_is_object(full) ? full : rope;
}

/* Scaling of the rotation; `rope_parameters` is the newer name of `rope_scaling` and holds the base too. */
static mr_status put_rope(header_writer *w, const json_t *config, const mr_arch *arch, mr_error *err) {
    const json_t *local = json_object_get(rope_sets(config), "sliding_attention"), *rope = mr_hf_rope(config);
    const char *type = json_string_value(json_object_get(rope, "rope_type"));
    if (type == NULL) type = json_string_value(json_object_get(rope, "type"));
    bool proportional = type != NULL && strcmp(type, "proportional") == 0; /* divisors tell what does not rotate */
    double value, original = 0.0, alpha = 0.0;
    double head_dim, n_head, n_embd, partial;
    if (!get_number(config, NAMES("head_dim"), &head_dim)) {
        bool known = get_number(config, NAMES("num_attention_heads"), &n_head) &&
                     get_number(config, NAMES("hidden_size"), &n_embd);
        head_dim = known && n_head >= 1 ? n_embd / n_head : 0.0;
    }
    bool stretched = type != NULL && strcmp(type, "dynamic") == 0 && get_number(rope, NAMES("alpha"), &alpha);
    stretched = stretched && alpha > 0.0 && head_dim > 2.0; /* Hunyuan's scaling is in the base */
    if (get_number(rope, NAMES("rope_theta"), &value) || get_number(config, NAMES("rope_theta"), &value))
        put_f32(w, "rope.freq_base", stretched ? value * pow(alpha, head_dim / (head_dim - 2.0)) : value);
    if (get_number(local, NAMES("rope_theta"), &value) || get_number(config, NAMES("rope_local_base_freq"), &value))
        put_f32(w, "rope.freq_base_swa", value);
    if (arch->mla && get_number(config, NAMES("qk_rope_head_dim"), &value) && value >= 0.0) {
        put_u32(w, "rope.dimension_count", whole(value));
    } else if (!proportional &&
               (get_number(rope, NAMES("partial_rotary_factor"), &partial) ||
                get_number(config, NAMES("partial_rotary_factor"), &partial)) &&
               partial > 0.0 && partial <= 1.0) {
        put_u32(w, "rope.dimension_count", whole(head_dim * partial));
    }
    if (get_number(rope, NAMES("llama_4_scaling_beta"), &value)) put_f32(w, "attention.temperature_scale", value);
    if (type == NULL || strcmp(type, "default") == 0 || stretched) return MR_OK;
    if (proportional || strcmp(type, "mrope") == 0) return MR_OK; /* sections of pictures, which text does not have */
    if (strcmp(type, "dynamic") == 0) return MR_OK;               /* changes nothing within max_position_embeddings */
    if (get_number(rope, NAMES("original_max_position_embeddings"), &original) ||
        get_number(config, NAMES("original_max_position_embeddings"), &original)) {
        put_u32(w, "rope.scaling.original_context_length", whole(original));
    }
    if (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0) put_longrope(w, rope, config, original);
    if (strcmp(type, "llama3") == 0 || strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0)
        return MR_OK; /* as tensors */
    if (strcmp(type, "linear") != 0 && strcmp(type, "yarn") != 0) {
        return mr_fail(err, MR_ERR_UNSUPPORTED, "config.json asks for rope scaling \"%.64s\", which is not supported",
                       type);
    }
    put_string(w, "rope.scaling.type", type);
    if (get_number(rope, NAMES("factor"), &value)) put_f32(w, "rope.scaling.factor", value);
    if (strcmp(type, "yarn") == 0) put_yarn(w, rope, arch);
    if (get_number(rope, NAMES("beta_fast"), &value)) put_f32(w, "rope.scaling.yarn_beta_fast", value);
    if (get_number(rope, NAMES("beta_slow"), &value)) put_f32(w, "rope.scaling.yarn_beta_slow", value);
    return MR_OK;
}

/* The window, and which layers have it: a list of kinds, a period, or all from one on. */
static void put_window(header_writer *w, const json_t *config) {
    double window, period, first = -1.0;
    const json_t *kinds = json_object_get(config, "layer_types");
    if (!get_number(config, NAMES("sliding_window"), &window) || window <= 0) return;
    if (json_is_false(json_object_get(config, "use_sliding_window"))) return;
    put_u32(w, "attention.sliding_window", whole(window));
    bool listed = json_is_array(kinds);
    size_t n = count_layers(config);
    if (!listed && get_number(config, NAMES("sliding_window_pattern"), &period) && period >= 1.0 && period <= 1e6)
        put_u32(w, "attention.sliding_window_pattern", whole(period));
    bool later = !listed && json_is_true(json_object_get(config, "use_sliding_window")) &&
                 get_number(config, NAMES("max_window_layers"), &first);
    if ((!listed && !later) || n > MR_MAX_LAYERS) return;
    put_key(w, "attention.sliding_window_pattern", MR_GGUF_ARRAY);
    put_le(w->out, MR_GGUF_BOOL, 4);
    put_le(w->out, n, 8);
    for (size_t i = 0; i < n; i++) {
        const char *kind = json_string_value(json_array_get(kinds, i));
        put_le(w->out, later ? (double)i >= first : kind != NULL && strcmp(kind, "sliding_attention") == 0, 1);
    }
}

/* DeepSeek's heads, of a rotated and another part. */
static void put_mla(header_writer *w, const json_t *config) {
    double nope, rot;
    if (!get_number(config, NAMES("qk_nope_head_dim"), &nope) || !get_number(config, NAMES("qk_rope_head_dim"), &rot))
        return;
    if (nope >= 0.0 && rot >= 0.0) put_u32(w, "attention.key_length", whole(nope + rot));
}

/* Experts are chosen from the best groups, unless V2 says that it does without. */
static void put_expert_groups(header_writer *w, const json_t *config) {
    double n_group, n_used;
    const char *method = json_string_value(json_object_get(config, "topk_method"));
    if (method != NULL && strcmp(method, "greedy") == 0) return;
    if (!get_number(config, NAMES("n_group"), &n_group) || !get_number(config, NAMES("topk_group"), &n_used)) return;
    if (!(n_group >= 1.0 && n_used >= 1.0)) return;
    put_u32(w, "expert_group_count", whole(n_group));
    put_u32(w, "expert_group_used_count", whole(n_used));
}

static void put_special(header_writer *w, const json_t *config, const mr_arch *arch) {
    double value;
    put_window(w, config);
    if (arch->v_norm)
        put_bool(w, "attention.keys_are_values", json_is_true(json_object_get(config, "attention_k_eq_v")));
    if (!arch->attn_scale_one && get_number(config, NAMES("query_pre_attn_scalar"), &value) && value > 0) {
        double root = 1.0;
        for (int i = 0; i < 60; i++) root = 0.5 * (root + value / root);
        put_f32(w, "attention.scale", 1.0 / root);
    }
    const json_t *norm = json_object_get(config, "norm_topk_prob");
    if (json_is_boolean(norm)) put_bool(w, "expert_weights_norm", json_is_true(norm));
}

/* How texts become vectors. */
static void put_vectors(header_writer *w, const json_t *config, const mr_arch *arch) {
    const json_t *norm = json_object_get(config, "sentence_norm");
    double n_types = 1.0, pooling = 1.0; /* the mean */
    if (get_number(config, NAMES("sentence_pooling"), &pooling) || arch->encoder)
        put_u32(w, "pooling_type", whole(pooling));
    if (json_is_boolean(norm)) put_bool(w, "normalize_embeddings", json_is_true(norm));
    if (!arch->encoder) return;
    put_bool(w, "attention.causal", false);
    get_number(config, NAMES("type_vocab_size"), &n_types);
    put_u32(w, ".tokenizer.ggml.token_type_count", whole(n_types));
}

/* Layers without rotation are every so many; a list that says otherwise cannot be followed. Nor can compressed keys be
 * rotated in other pairs than neighbours. */
static mr_status check_rotated(const json_t *config, const mr_arch *arch, mr_error *err) {
    if (arch->mla && json_is_false(json_object_get(config, "rope_interleave")))
        return mr_fail(err, MR_ERR_UNSUPPORTED, "config.json has rope_interleave false, which is not supported");
    const json_t *list = json_object_get(config, "no_rope_layers"); /* 1: rotates */
    for (size_t i = 0; arch->no_rope_period != 0 && i < json_array_size(list); i++) {
        bool rotates = json_integer_value(json_array_get(list, i)) != 0;
        if (rotates != ((i + 1) % arch->no_rope_period != 0))
            return mr_fail(err, MR_ERR_UNSUPPORTED,
                           "config.json's no_rope_layers is not every %uth layer, which is not supported",
                           (unsigned)arch->no_rope_period);
    }
    return MR_OK;
}

mr_status mr_hf_count_dense(json_t *config, mr_error *err) {
    const json_t *kinds = json_object_get(config, "mlp_layer_types");
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(kinds); i++) {
        const char *kind = json_string_value(json_array_get(kinds, i));
        if (kind == NULL || strcmp(kind, "dense") != 0) continue;
        if (i != n++)
            return mr_fail(err, MR_ERR_UNSUPPORTED,
                           "config.json's mlp_layer_types has \"dense\" behind layers with experts, which is not "
                           "supported");
    }
    if (!json_is_array(kinds)) return MR_OK;
    return json_object_set_new(config, "first_k_dense_replace", json_integer((json_int_t)n)) == 0
               ? MR_OK
               : mr_fail_nomem(err, 0, "config.json");
}

mr_status mr_hf_write_header(mr_buf *header, const mr_hf_family *family, const json_t *config, mr_error *err) {
    config = mr_hf_text_part(config);
    mr_buf values = {0};
    header_writer w = {.out = &values, .arch = family->arch};
    const mr_arch *arch = mr_arch_find(family->arch, strlen(family->arch), err);
    if (arch == NULL) return MR_ERR_UNSUPPORTED;
    put_string(&w, ".general.architecture", family->arch);
    copy_numbers(&w, config, arch);
    mr_status status = check_rotated(config, arch, err);
    if (status == MR_OK) status = put_rope(&w, config, arch, err);
    put_special(&w, config, arch);
    if (!arch->one_block_layers) put_expert_groups(&w, config);
    if (arch->mla) put_mla(&w, config);
    if (family->gating != 0) put_u32(&w, "expert_gating_func", (uint64_t)family->gating);
    if (status == MR_OK) status = put_layers(&w, config, arch, err);
    put_mixers(&w, config);
    if (family->rope_halves) put_bool(&w, "rope.halves", true);
    put_vectors(&w, config, arch);
    mr_buf_puts(header, "GGUF");
    put_le(header, 3, 4);
    put_le(header, 0, 8);
    put_le(header, w.n_values, 8);
    mr_buf_append(header, mr_buf_cstr(&values), values.len);
    if (status == MR_OK && (values.failed || header->failed))
        status = mr_fail_nomem(err, values.len, "the model's metadata");
    mr_buf_free(&values);
    return status;
}
