#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Bounds that no real model reaches; they keep products of sizes far from overflow. */
enum {
    MAX_WIDTH = 1 << 20,
    MAX_HEADS = 4096,
    MAX_HEAD_DIM = 4096,
    MAX_CONTEXT = 1 << 28,
    MAX_EXPERTS = 4096,
    MAX_EXPERTS_USED = 64,
    MAX_CONV_WIDTH = 16
};

/* Reads metadata of one model under the prefix of its architecture. */
typedef struct key_reader {
    const mr_gguf *gguf;
    const char *arch;
    mr_error *err;
    mr_status status;
} key_reader;

static const char *full_key(const key_reader *r, const char *name, char key[static 128]) {
    snprintf(key, 128, "%s.%s", r->arch, name);
    return key;
}

/* An integer, or an array of one for each layer that are all the same. */
static bool u32_of_all_layers(const key_reader *r, const char *key, uint32_t *value) {
    const mr_gguf_value *found = mr_gguf_find(r->gguf, key);
    int64_t first, other;
    if (found == NULL || found->type != MR_GGUF_ARRAY) return mr_gguf_u32(r->gguf, key, value);
    if (!mr_gguf_array_i64(found, 0, &first) || first < 0 || first > UINT32_MAX) return false;
    for (size_t i = 1; i < found->n; i++) {
        if (!mr_gguf_array_i64(found, i, &other) || other != first) return false;
    }
    *value = (uint32_t)first;
    return true;
}

/* A required integer between 1 and max. */
static uint32_t need_u32(key_reader *r, const char *name, uint32_t max) {
    char key[128];
    uint32_t value = 0;
    if (r->status != MR_OK) return 0;
    if (!u32_of_all_layers(r, full_key(r, name, key), &value)) {
        r->status =
            mr_fail(r->err, MR_ERR_INVALID,
                    "the model file has no metadata %s, or it is no integer that is the same for all layers", key);
    } else if (value == 0 || value > max) {
        r->status = mr_fail(r->err, MR_ERR_INVALID, "the model file's %s is %u; 1 to %u are possible", key, value, max);
    }
    return value;
}

/* A number of each layer, from one for all or a list; returns the largest. Lists may say 0: the layer has no such part.
 */
static uint32_t need_u32_by_layer(key_reader *r, const char *name, uint32_t max, uint32_t n_layer, bool all_may_lack,
                                  uint32_t *by_layer) {
    char key[128];
    const mr_gguf_value *found = mr_gguf_find(r->gguf, full_key(r, name, key));
    bool listed = found != NULL && found->type == MR_GGUF_ARRAY;
    uint32_t largest = listed ? 0 : need_u32(r, name, max);
    for (uint32_t il = 0; r->status == MR_OK && il < n_layer; il++) {
        int64_t value = largest;
        if (listed && (!mr_gguf_array_i64(found, il, &value) || value < 0 || value > max)) {
            r->status =
                mr_fail(r->err, MR_ERR_INVALID, "the model file's %s has no number up to %u for each of its %u layers",
                        key, max, n_layer);
        }
        by_layer[il] = (uint32_t)value;
        if (by_layer[il] > largest) largest = by_layer[il];
    }
    if (r->status == MR_OK && largest == 0 && !all_may_lack)
        r->status = mr_fail(r->err, MR_ERR_INVALID, "the model file's %s is 0", key);
    return largest;
}

static uint32_t get_u32(key_reader *r, const char *name, uint32_t otherwise, uint32_t max) {
    char key[128];
    if (mr_gguf_find(r->gguf, full_key(r, name, key)) == NULL) return otherwise;
    return need_u32(r, name, max);
}

static float get_f32(key_reader *r, const char *name, float otherwise) {
    char key[128];
    float value = otherwise;
    if (r->status != MR_OK || !mr_gguf_f32(r->gguf, full_key(r, name, key), &value)) return otherwise;
    if (!isfinite(value)) {
        r->status = mr_fail(r->err, MR_ERR_INVALID, "the model file's %s is no finite number", key);
        return otherwise;
    }
    return value;
}

/* The sliding window, and which layers are without: a list, a period, or as the architecture has it. */
static void read_window(key_reader *r, mr_hparams *h) {
    char key[128];
    uint32_t period = h->arch->full_period, window = 0;
    mr_gguf_u32(r->gguf, full_key(r, "attention.sliding_window", key), &window);
    h->window = window > MAX_CONTEXT ? 0 : window;
    const mr_gguf_value *pattern = mr_gguf_find(r->gguf, full_key(r, "attention.sliding_window_pattern", key));
    bool listed = pattern != NULL && pattern->type == MR_GGUF_ARRAY;
    if (pattern != NULL && !listed) mr_gguf_u32(r->gguf, key, &period);
    for (uint32_t il = 0; r->status == MR_OK && il < h->n_layer; il++) {
        int64_t has_window = period == 0 || (h->arch->full_first ? il : il + 1) % period != 0;
        if (listed && !mr_gguf_array_i64(pattern, il, &has_window)) {
            r->status = mr_fail(r->err, MR_ERR_INVALID, "the model file's %s has no entry for each of its %u layers",
                                key, h->n_layer);
        }
        h->layer_is_full[il] = has_window == 0;
    }
}

static bool str_is(mr_gguf_str str, const char *text) {
    return str.len == strlen(text) && memcmp(str.data, text, str.len) == 0;
}

static mr_rope_scaling rope_scaling_of(key_reader *r) {
    static const struct {
        const char *name;
        mr_rope_scaling scaling;
    } KNOWN[] = {{"none", MR_ROPE_SCALING_NONE},
                 {"linear", MR_ROPE_SCALING_LINEAR},
                 {"yarn", MR_ROPE_SCALING_YARN},
                 {"longrope", MR_ROPE_SCALING_LONGROPE},
                 {"su", MR_ROPE_SCALING_LONGROPE}};
    char key[128];
    mr_gguf_str type = {"linear", 6};
    mr_gguf_string(r->gguf, full_key(r, "rope.scaling.type", key), &type);
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++) {
        if (str_is(type, KNOWN[i].name)) return KNOWN[i].scaling;
    }
    if (r->status == MR_OK) {
        r->status = mr_fail(r->err, MR_ERR_UNSUPPORTED,
                            "the model's rope scaling \"%.*s\" is not supported; supported are none, linear, yarn and "
                            "longrope",
                            (int)(type.len < 64 ? type.len : 64), type.data);
    }
    return MR_ROPE_SCALING_NONE;
}

/* YaRN's factor for cosines and sines is 0.1 ln(s) + 1 (arXiv:2309.00071, eq. 22) unless the file has another. Models
 * that scale the attention instead say so with a multiplier of that logarithm (`yarn_log_multiplier`), which takes the
 * factor back. */
static float yarn_factor(key_reader *r, const mr_hparams *h) {
    float natural = h->rope_factor > 1.0f ? (float)(0.1 * log((double)h->rope_factor) + 1.0) : 1.0f;
    float log_multiplier = get_f32(r, "rope.scaling.yarn_log_multiplier", 0.0f);
    return get_f32(r, "rope.scaling.yarn_attn_factor", log_multiplier != 0.0f ? 1.0f : natural);
}

static void read_rope(key_reader *r, mr_hparams *h) {
    char key[128];
    h->n_rot = get_u32(r, "rope.dimension_count", h->head_dim_k, MAX_HEAD_DIM);
    h->n_rot_local = get_u32(r, "rope.dimension_count_swa", 0, MAX_HEAD_DIM);
    h->rope_freq_base = get_f32(r, "rope.freq_base", 10000.0f);
    h->rope_neox = h->arch->rope_neox;
    h->rotates = !h->arch->no_rope && !h->arch->rope_only_if_said;
    if (h->arch->rope_only_if_said) mr_gguf_bool(r->gguf, full_key(r, "rope.scaling.finetuned", key), &h->rotates);
    mr_gguf_bool(r->gguf, full_key(r, "rope.halves", key), &h->rope_neox);
    float local = h->arch->local_rope_freq_base;
    if (local == 0.0f && h->arch->local_rope_unscaled) local = h->rope_freq_base;
    bool has_local = h->arch->local_rope_unscaled || mr_gguf_find(r->gguf, full_key(r, "rope.freq_base_swa", key));
    h->local_rope_freq_base = h->window > 0 && has_local ? get_f32(r, "rope.freq_base_swa", local) : 0.0f;
    h->rope_scaling = rope_scaling_of(r);
    h->rope_factor = get_f32(r, "rope.scaling.factor", get_f32(r, "rope.scale_linear", 1.0f));
    if (h->rope_factor <= 0.0f) h->rope_factor = 1.0f;
    h->rope_n_ctx_orig = get_u32(r, "rope.scaling.original_context_length", h->n_ctx_train, MAX_CONTEXT);
    h->yarn_ext_factor = get_f32(r, "rope.scaling.yarn_ext_factor", 1.0f);
    h->yarn_beta_fast = get_f32(r, "rope.scaling.yarn_beta_fast", 32.0f);
    h->yarn_beta_slow = get_f32(r, "rope.scaling.yarn_beta_slow", 1.0f);
    h->rope_attn_factor = get_f32(r, "rope.scaling.attn_factor", 1.0f);
    if (h->rope_scaling == MR_ROPE_SCALING_YARN) h->rope_attn_factor *= yarn_factor(r, h);
    h->attn_temperature_scale = get_f32(r, "attention.temperature_scale", 0.0f);
}

static void read_scales(key_reader *r, mr_hparams *h) {
    uint32_t head_dim = h->kv_lora_rank > 0 ? h->n_nope + h->n_rot : h->head_dim_k;
    float scale = h->arch->attn_scale_one ? 1.0f : 1.0f / sqrtf((float)(head_dim > 0 ? head_dim : 1));
    if (h->arch->yarn_scales_attention && h->rope_scaling == MR_ROPE_SCALING_YARN) {
        float mscale = 1.0f + get_f32(r, "rope.scaling.yarn_log_multiplier", 0.0f) * logf(h->rope_factor);
        scale *= mscale * mscale;
    }
    h->attn_scale = get_f32(r, "attention.scale", scale);
    /* Gemma's 27B models scale by the embedding's share of a head, which no key says. */
    bool gemma_27b = (strcmp(h->arch->name, "gemma2") == 0 && h->n_layer == 46) ||
                     (strcmp(h->arch->name, "gemma3") == 0 && h->n_layer == 62);
    if (gemma_27b && h->n_head > 0) h->attn_scale = 1.0f / sqrtf((float)(h->n_embd / h->n_head));
    h->attn_softcap = get_f32(r, "attn_logit_softcapping", 0.0f);
    h->logit_softcap = get_f32(r, "final_logit_softcapping", 0.0f);
    h->embd_scale = get_f32(r, "embedding_scale", h->arch->embd_scale_sqrt ? sqrtf((float)h->n_embd) : 1.0f);
    h->residual_scale = get_f32(r, "residual_scale", 1.0f);
    h->logit_scale = get_f32(r, "logit_scale", 1.0f);
    if (h->arch->logit_scale_divides && h->logit_scale != 0.0f) h->logit_scale = 1.0f / h->logit_scale;
}

static mr_status check_experts(const mr_hparams *h, mr_error *err) {
    bool known = h->gating == MR_GATING_SOFTMAX || h->gating == MR_GATING_SIGMOID ||
                 h->gating == MR_GATING_SOFTMAX_CHOSEN || h->gating == MR_GATING_SPARSEMIXER;
    if (!known || h->n_expert_used > h->n_expert) {
        return mr_fail(err, MR_ERR_INVALID,
                       "the model uses %u of %u experts with gating function %u, which is not possible",
                       h->n_expert_used, h->n_expert, (unsigned)h->gating);
    }
    uint32_t in_group = h->n_expert / h->n_expert_group;
    if (in_group * h->n_expert_group != h->n_expert || h->n_group_used > h->n_expert_group ||
        h->n_expert_used > h->n_group_used * in_group) {
        return mr_fail(err, MR_ERR_INVALID,
                       "the model chooses %u experts from %u of %u groups of its %u experts, which is not possible",
                       h->n_expert_used, h->n_group_used, h->n_expert_group, h->n_expert);
    }
    return MR_OK;
}

static void read_experts(key_reader *r, mr_hparams *h) {
    char key[128];
    if (mr_gguf_find(r->gguf, full_key(r, "expert_count", key)) == NULL) return;
    uint64_t n = 0;
    if (mr_gguf_u64(r->gguf, key, &n) && n == 0) return; /* dense models of a family with experts say 0 */
    h->n_expert = need_u32(r, "expert_count", MAX_EXPERTS);
    h->n_expert_used = need_u32(r, "expert_used_count", MAX_EXPERTS_USED);
    h->n_ff_expert = get_u32(r, "expert_feed_forward_length", h->n_ff, MAX_WIDTH);
    h->expert_period = get_u32(r, "interleave_moe_layer_step", 1, MR_MAX_LAYERS);
    h->n_expert_group = get_u32(r, "expert_group_count", 1, MAX_EXPERTS);
    h->n_group_used = get_u32(r, "expert_group_used_count", h->n_expert_group, MAX_EXPERTS);
    mr_gguf_u32(r->gguf, full_key(r, "leading_dense_block_count", key), &h->n_layer_dense);
    uint32_t gating = h->arch->gating != 0 ? h->arch->gating : MR_GATING_SOFTMAX;
    mr_gguf_u32(r->gguf, full_key(r, "expert_gating_func", key), &gating);
    h->gating = (mr_gating)gating;
    h->experts_normed = !h->arch->experts_not_normed;
    mr_gguf_bool(r->gguf, full_key(r, "expert_weights_norm", key), &h->experts_normed);
    h->expert_scale = get_f32(r, "expert_weights_scale", 1.0f);
    if (h->expert_scale == 0.0f) h->expert_scale = 1.0f;
    if (r->status == MR_OK) r->status = check_experts(h, r->err);
}

/* Files before 2025 have the sizes of the heads outside under the common keys. */
static void read_mla(key_reader *r, mr_hparams *h) {
    char key[128];
    if (!h->arch->mla) return;
    h->kv_lora_rank = need_u32(r, "attention.kv_lora_rank", MAX_HEAD_DIM);
    if (mr_gguf_find(r->gguf, full_key(r, "attention.q_lora_rank", key)) != NULL)
        h->q_lora_rank = need_u32(r, "attention.q_lora_rank", MAX_WIDTH);
    uint32_t head_dim = get_u32(r, "attention.key_length_mla", h->head_dim_k, MAX_HEAD_DIM);
    h->mla_dim_v = get_u32(r, "attention.value_length_mla", h->head_dim_v, MAX_HEAD_DIM);
    h->n_rot = need_u32(r, "rope.dimension_count", MAX_HEAD_DIM);
    if (r->status == MR_OK && h->n_rot >= head_dim) {
        r->status = mr_fail(r->err, MR_ERR_INVALID, "the model rotates %u values of heads of %u, which is not possible",
                            h->n_rot, head_dim);
    }
    h->n_nope = head_dim - h->n_rot;
    h->n_head_kv = 1;
    for (uint32_t il = 0; il < h->n_layer; il++) h->n_head_kv_of[il] = 1;
    h->head_dim_k = h->kv_lora_rank + h->n_rot;
    h->head_dim_v = h->rot_from = h->kv_lora_rank;
}

/* What mixes the tokens of each layer: attention where there are key-value heads. */
static void find_mixers(key_reader *r, mr_hparams *h) {
    uint32_t period = h->arch->attention_period;
    if (h->arch->mixer == MR_MIXER_ATTENTION) return;
    if (period != 0) period = get_u32(r, "full_attention_interval", period, MR_MAX_LAYERS);
    for (uint32_t il = 0; il < h->n_layer; il++) {
        if (h->n_head_kv_of[il] == 0) period = 0; /* the metadata says which */
    }
    for (uint32_t il = 0; il < h->n_layer; il++) {
        if (period != 0 && (il + 1) % period != 0) h->n_head_kv_of[il] = 0;
        bool ffn_alone = h->arch->one_block_layers && h->n_ff_of[il] != 0;
        if (h->n_head_kv_of[il] == 0) h->mixer_of[il] = ffn_alone ? MR_MIXER_NONE : h->arch->mixer;
    }
}

/* Sizes of layers with a recurrent state. */
static void read_mixers(key_reader *r, mr_hparams *h) {
    find_mixers(r, h);
    if (h->arch->mixer == MR_MIXER_ATTENTION) return;
    char key[128];
    h->value_heads_tiled = h->arch->value_heads_tiled;
    mr_gguf_bool(r->gguf, full_key(r, "ssm.value_heads_tiled", key), &h->value_heads_tiled);
    bool conv = h->arch->mixer == MR_MIXER_CONV, mamba = h->arch->mixer == MR_MIXER_MAMBA2;
    h->conv_width = need_u32(r, conv ? "shortconv.l_cache" : "ssm.conv_kernel", MAX_CONV_WIDTH);
    if (conv) return;
    uint32_t n_inner = need_u32(r, "ssm.inner_size", MAX_WIDTH);
    h->n_head_mix = need_u32(r, "ssm.time_step_rank", MAX_HEADS);
    h->n_group_mix = need_u32(r, "ssm.group_count", MAX_HEADS);
    h->dim_k_mix = need_u32(r, "ssm.state_size", MAX_HEAD_DIM);
    if (r->status != MR_OK) return;
    h->dim_v_mix = n_inner / h->n_head_mix;
    if (h->dim_v_mix == 0 || h->dim_v_mix > MAX_HEAD_DIM || h->dim_v_mix * h->n_head_mix != n_inner ||
        h->n_head_mix % h->n_group_mix != 0 || (size_t)h->n_group_mix * h->dim_k_mix > MAX_WIDTH) {
        r->status = mr_fail(
            r->err, MR_ERR_INVALID, "the model's %s of %u values cannot be %u heads in %u groups with states of %u",
            mamba ? "state space layers" : "delta nets", n_inner, h->n_head_mix, h->n_group_mix, h->dim_k_mix);
    }
}

static mr_status check_heads(const mr_hparams *h, mr_error *err) {
    for (uint32_t il = 0; il < h->n_layer; il++) {
        uint32_t n_head_kv = h->n_head_kv_of[il];
        if (h->mixer_of[il] != MR_MIXER_ATTENTION) continue;
        if (n_head_kv == 0 || h->n_head % n_head_kv != 0) {
            return mr_fail(err, MR_ERR_INVALID, "the model has %u heads, no multiple of its %u key-value heads",
                           h->n_head, n_head_kv);
        }
        mr_layer_dims dims = mr_layer_dims_of(h, il), source = mr_layer_dims_of(h, mr_layer_kv_source(h, il));
        if (dims.n_head_kv != source.n_head_kv || dims.head_dim_k != source.head_dim_k ||
            dims.head_dim_v != source.head_dim_v)
            return mr_fail(err, MR_ERR_INVALID,
                           "the model's layer %u uses keys and values of layer %u, which have other sizes", il,
                           mr_layer_kv_source(h, il));
        bool local = mr_layer_has_window(h, il) && h->n_rot_local > 0;
        uint32_t n_rot = local ? h->n_rot_local : h->n_rot;
        if (h->arch->gated_attention && dims.head_dim_k != dims.head_dim_v)
            return mr_fail(err, MR_ERR_INVALID,
                           "the model's heads have keys of %u and values of %u; they must be equal", dims.head_dim_k,
                           dims.head_dim_v);
        if (n_rot % 2 != 0 || n_rot > dims.head_dim_k - h->rot_from) {
            return mr_fail(err, MR_ERR_INVALID,
                           "the model rotates %u values of heads of %u; it must be an even number within the head",
                           n_rot, dims.head_dim_k);
        }
    }
    return MR_OK;
}

/* Some files have it under the other kind's name. */
static float get_norm_eps(key_reader *r, mr_norm norm) {
    static const char rms[] = "attention.layer_norm_rms_epsilon", layer[] = "attention.layer_norm_epsilon";
    float other = get_f32(r, norm == MR_NORM_RMS ? layer : rms, 1e-5f);
    return get_f32(r, norm == MR_NORM_RMS ? rms : layer, other);
}

/* Layers at the end that predict further tokens; they are not run. */
static uint32_t n_prediction_layers(const key_reader *r, uint32_t n_layer) {
    char key[128];
    uint32_t n = 0;
    mr_gguf_u32(r->gguf, full_key(r, "nextn_predict_layers", key), &n);
    return n < n_layer ? n : 0;
}

static void read_head_counts(key_reader *r, mr_hparams *h) {
    char key[128];
    if (mr_gguf_find(r->gguf, full_key(r, "attention.head_count_kv", key)) != NULL) {
        h->n_head_kv = need_u32_by_layer(r, "attention.head_count_kv", MAX_HEADS, h->n_layer, false, h->n_head_kv_of);
        return;
    }
    h->n_head_kv = h->n_head;
    for (uint32_t il = 0; il < h->n_layer; il++) h->n_head_kv_of[il] = h->n_head;
}

mr_status mr_hparams_read(mr_hparams *h, const mr_gguf *gguf, mr_error *err) {
    mr_gguf_str name;
    char key[128];
    *h = (mr_hparams){0};
    if (!mr_gguf_string(gguf, "general.architecture", &name)) {
        return mr_fail(err, MR_ERR_INVALID, "the model file has no metadata general.architecture");
    }
    h->arch = mr_arch_find(name.data, name.len, err);
    if (h->arch == NULL) return MR_ERR_UNSUPPORTED;
    key_reader r = {.gguf = gguf, .arch = h->arch->name, .err = err};
    h->n_ctx_train = need_u32(&r, "context_length", MAX_CONTEXT);
    h->n_embd = need_u32(&r, "embedding_length", MAX_WIDTH);
    h->n_layer = need_u32(&r, "block_count", MR_MAX_LAYERS);
    h->n_layer -= n_prediction_layers(&r, h->n_layer);
    h->n_ff =
        need_u32_by_layer(&r, "feed_forward_length", MAX_WIDTH, h->n_layer, h->arch->one_block_layers, h->n_ff_of);
    h->n_head = need_u32(&r, "attention.head_count", MAX_HEADS);
    read_head_counts(&r, h);
    uint32_t even_share = h->n_head != 0 ? h->n_embd / h->n_head : 0;
    h->head_dim_k = get_u32(&r, "attention.key_length", even_share, MAX_HEAD_DIM);
    h->head_dim_v = get_u32(&r, "attention.value_length", h->head_dim_k, MAX_HEAD_DIM);
    h->head_dim_k_local = get_u32(&r, "attention.key_length_swa", 0, MAX_HEAD_DIM);
    h->head_dim_v_local = get_u32(&r, "attention.value_length_swa", 0, MAX_HEAD_DIM);
    h->norm_eps = get_norm_eps(&r, h->arch->norm);
    read_mla(&r, h);
    read_mixers(&r, h);
    mr_gguf_u32(gguf, full_key(&r, "embedding_length_per_layer_input", key), &h->n_embd_per_layer);
    uint32_t n_shared = 0;
    mr_gguf_u32(gguf, full_key(&r, "attention.shared_kv_layers", key), &n_shared);
    if (r.status == MR_OK && (h->n_embd_per_layer > MAX_WIDTH || n_shared >= h->n_layer)) {
        return mr_fail(err, MR_ERR_INVALID, "the model's %u shared_kv_layers or %u values per layer are not possible",
                       n_shared, h->n_embd_per_layer);
    }
    h->n_layer_kv = h->n_layer - n_shared;
    h->keys_are_values = h->arch->v_norm;
    mr_gguf_bool(gguf, full_key(&r, "attention.keys_are_values", key), &h->keys_are_values);
    h->n_stream = h->arch->altup ? need_u32(&r, "altup.num_inputs", MR_MAX_STREAMS) : 1;
    uint32_t active = 0;
    mr_gguf_u32(gguf, full_key(&r, "altup.active_idx", key), &active);
    if (r.status == MR_OK && h->arch->altup && h->n_embd_per_layer == 0)
        return mr_fail(err, MR_ERR_INVALID,
                       "the model's layers have no embeddings of their own, which is not possible");
    if (r.status == MR_OK && active != 0) {
        return mr_fail(err, MR_ERR_UNSUPPORTED, "the model's layers update residual stream %u; only 0 is supported",
                       active);
    }
    read_window(&r, h);
    read_rope(&r, h);
    read_scales(&r, h);
    read_experts(&r, h);
    if (r.status != MR_OK) return r.status;
    if (h->head_dim_k == 0 || h->rope_freq_base <= 0.0f) {
        return mr_fail(err, MR_ERR_INVALID, "the model's head size or rope.freq_base is not positive");
    }
    return check_heads(h, err);
}

mr_layer_dims mr_layer_dims_of(const mr_hparams *h, uint32_t il) {
    bool local = mr_layer_has_window(h, il);
    return (mr_layer_dims){.n_head_kv = h->n_head_kv_of[il],
                           .head_dim_k = local && h->head_dim_k_local > 0 ? h->head_dim_k_local : h->head_dim_k,
                           .head_dim_v = local && h->head_dim_v_local > 0 ? h->head_dim_v_local : h->head_dim_v,
                           .n_ff = h->n_ff_of[il]};
}

bool mr_layer_has_window(const mr_hparams *h, uint32_t il) {
    return h->window != 0 && !h->layer_is_full[il];
}

size_t mr_layer_state_floats(const mr_hparams *h, uint32_t il) {
    bool conv = h->mixer_of[il] == MR_MIXER_CONV;
    if (h->mixer_of[il] == MR_MIXER_ATTENTION || h->mixer_of[il] == MR_MIXER_NONE) return 0;
    size_t n_head = conv ? 0 : h->n_head_mix, n_group = conv ? 0 : h->n_group_mix;
    size_t n_conv = conv ? h->n_embd : n_head * h->dim_v_mix + 2 * n_group * h->dim_k_mix;
    size_t n_past = (h->conv_width - 1) * n_conv, n_heads = n_head * h->dim_k_mix * h->dim_v_mix;
    return (n_past + 15) / 16 * 16 + (n_heads + 15) / 16 * 16;
}

uint32_t mr_layer_kv_source(const mr_hparams *h, uint32_t il) {
    if (il < h->n_layer_kv) return il;
    for (uint32_t source = h->n_layer_kv; source-- > 0;) {
        if (mr_layer_has_window(h, source) == mr_layer_has_window(h, il)) return source;
    }
    return il;
}

bool mr_layer_has_experts(const mr_hparams *h, uint32_t il) {
    return h->n_expert > 0 && il >= h->n_layer_dense && (il + 1) % h->expert_period == 0;
}

bool mr_layer_has_rope(const mr_hparams *h, uint32_t il) {
    if (!h->rotates) return false;
    if (h->arch->no_rope_period != 0 && (il + 1) % h->arch->no_rope_period == 0) return false;
    return !(h->arch->full_layers_no_rope && h->window != 0 && !mr_layer_has_window(h, il));
}
