#include "model/arch.h"

#include "base/buf.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const mr_arch ARCHS[] = {
    {.name = "llama", .rope_neox = false, .glu = MR_GLU_SILU},
    {.name = "mistral", .rope_neox = false, .glu = MR_GLU_SILU},
    {.name = "mistral3", .rope_neox = false, .glu = MR_GLU_SILU},
};

enum { N_ARCHS = sizeof ARCHS / sizeof ARCHS[0] };

/* Bounds that no real model reaches; they keep products of sizes far from overflow. */
enum { MAX_LAYERS = 1024, MAX_WIDTH = 1 << 20, MAX_HEADS = 4096, MAX_HEAD_DIM = 4096, MAX_CONTEXT = 1 << 28 };

const mr_arch *mr_arch_find(const char *name, size_t len, mr_error *err) {
    for (size_t i = 0; i < N_ARCHS; i++) {
        if (strlen(ARCHS[i].name) == len && memcmp(ARCHS[i].name, name, len) == 0) return &ARCHS[i];
    }
    mr_buf known = {0};
    for (size_t i = 0; i < N_ARCHS; i++) mr_buf_printf(&known, "%s%s", i == 0 ? "" : ", ", ARCHS[i].name);
    mr_fail(err, MR_ERR_UNSUPPORTED, "the model's architecture \"%.*s\" is not supported; supported are: %s",
            (int)(len < 64 ? len : 64), name, mr_buf_cstr(&known));
    mr_buf_free(&known);
    return NULL;
}

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

/* A required integer between 1 and max. */
static uint32_t need_u32(key_reader *r, const char *name, uint32_t max) {
    char key[128];
    uint32_t value = 0;
    if (r->status != MR_OK) return 0;
    if (!mr_gguf_u32(r->gguf, full_key(r, name, key), &value)) {
        r->status = mr_fail(r->err, MR_ERR_INVALID, "the model file has no metadata %s, or it is no integer", key);
    } else if (value == 0 || value > max) {
        r->status = mr_fail(r->err, MR_ERR_INVALID, "the model file's %s is %u; 1 to %u are possible", key, value, max);
    }
    return value;
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

static void read_rope_scaling(key_reader *r, mr_hparams *h) {
    char key[128];
    mr_gguf_str type = {"none", 4};
    mr_gguf_string(r->gguf, full_key(r, "rope.scaling.type", key), &type);
    h->rope_scaling = MR_ROPE_SCALING_NONE;
    h->rope_factor = get_f32(r, "rope.scaling.factor", get_f32(r, "rope.scale_linear", 1.0f));
    if (h->rope_factor <= 0.0f) h->rope_factor = 1.0f;
    if (type.len == 6 && memcmp(type.data, "linear", 6) == 0) h->rope_scaling = MR_ROPE_SCALING_LINEAR;
    else if (type.len == 4 && memcmp(type.data, "yarn", 4) == 0) h->rope_scaling = MR_ROPE_SCALING_YARN;
    else if (mr_gguf_find(r->gguf, full_key(r, "rope.scale_linear", key)) != NULL) h->rope_scaling = MR_ROPE_SCALING_LINEAR;
    else if (!(type.len == 4 && memcmp(type.data, "none", 4) == 0) && r->status == MR_OK) {
        r->status = mr_fail(r->err, MR_ERR_UNSUPPORTED,
                            "the model's rope scaling \"%.*s\" is not supported; supported are none, linear and yarn",
                            (int)(type.len < 64 ? type.len : 64), type.data);
    }
    h->rope_n_ctx_orig = get_u32(r, "rope.scaling.original_context_length", h->n_ctx_train, MAX_CONTEXT);
    h->yarn_ext_factor = get_f32(r, "rope.scaling.yarn_ext_factor", 1.0f);
    h->yarn_attn_factor = get_f32(r, "rope.scaling.attn_factor", get_f32(r, "rope.scaling.yarn_attn_factor", 1.0f));
    h->yarn_beta_fast = get_f32(r, "rope.scaling.yarn_beta_fast", 32.0f);
    h->yarn_beta_slow = get_f32(r, "rope.scaling.yarn_beta_slow", 1.0f);
}

static mr_status check_heads(const mr_hparams *h, mr_error *err) {
    if (h->n_head % h->n_head_kv != 0) {
        return mr_fail(err, MR_ERR_INVALID, "the model has %u heads, no multiple of its %u key-value heads", h->n_head,
                       h->n_head_kv);
    }
    if (h->n_rot % 2 != 0 || h->n_rot > h->head_dim_k) {
        return mr_fail(err, MR_ERR_INVALID, "the model rotates %u values of heads of %u; it must be an even number within the head",
                       h->n_rot, h->head_dim_k);
    }
    return MR_OK;
}

mr_status mr_hparams_read(mr_hparams *h, const mr_gguf *gguf, mr_error *err) {
    mr_gguf_str name;
    *h = (mr_hparams){0};
    if (!mr_gguf_string(gguf, "general.architecture", &name)) {
        return mr_fail(err, MR_ERR_INVALID, "the model file has no metadata general.architecture");
    }
    h->arch = mr_arch_find(name.data, name.len, err);
    if (h->arch == NULL) return MR_ERR_UNSUPPORTED;
    key_reader r = {.gguf = gguf, .arch = h->arch->name, .err = err};
    h->n_ctx_train = need_u32(&r, "context_length", MAX_CONTEXT);
    h->n_embd = need_u32(&r, "embedding_length", MAX_WIDTH);
    h->n_layer = need_u32(&r, "block_count", MAX_LAYERS);
    h->n_ff = need_u32(&r, "feed_forward_length", MAX_WIDTH);
    h->n_head = need_u32(&r, "attention.head_count", MAX_HEADS);
    h->n_head_kv = get_u32(&r, "attention.head_count_kv", h->n_head, MAX_HEADS);
    uint32_t even_share = h->n_head != 0 ? h->n_embd / h->n_head : 0;
    h->head_dim_k = get_u32(&r, "attention.key_length", even_share, MAX_HEAD_DIM);
    h->head_dim_v = get_u32(&r, "attention.value_length", h->head_dim_k, MAX_HEAD_DIM);
    h->n_rot = get_u32(&r, "rope.dimension_count", h->head_dim_k, MAX_HEAD_DIM);
    h->norm_eps = get_f32(&r, "attention.layer_norm_rms_epsilon", 1e-5f);
    h->rope_freq_base = get_f32(&r, "rope.freq_base", 10000.0f);
    read_rope_scaling(&r, h);
    if (r.status != MR_OK) return r.status;
    if (h->head_dim_k == 0 || h->rope_freq_base <= 0.0f) {
        return mr_fail(err, MR_ERR_INVALID, "the model's head size or rope.freq_base is not positive");
    }
    return check_heads(h, err);
}

/* The pair whose wavelength makes n_rotations turns over the original context. */
static double yarn_pair_of(const mr_hparams *h, double n_rotations) {
    const double two_pi = 6.283185307179586;
    return h->n_rot * log(h->rope_n_ctx_orig / (n_rotations * two_pi)) / (2.0 * log(h->rope_freq_base));
}

float mr_rope_frequencies(const mr_hparams *h, const float *freq_factors, float *inv_freq) {
    size_t n_pairs = h->n_rot / 2;
    double low = 0.0, high = 0.0;
    float factor = 1.0f;
    if (h->rope_scaling == MR_ROPE_SCALING_YARN) {
        low = fmax(floor(yarn_pair_of(h, h->yarn_beta_fast)), 0.0);
        high = fmin(ceil(yarn_pair_of(h, h->yarn_beta_slow)), h->n_rot - 1.0);
        if (low == high) high += 0.001;
        factor = h->yarn_attn_factor * (h->rope_factor > 1.0f ? (float)(0.1 * log(h->rope_factor) + 1.0) : 1.0f);
    }
    for (size_t i = 0; i < n_pairs; i++) {
        /* Rounded to float step by step, as the reference implementation computes it. */
        float freq = 1.0f / (float)pow(h->rope_freq_base, (double)((float)(2 * i) / (float)h->n_rot));
        if (freq_factors != NULL) freq /= freq_factors[i];
        if (h->rope_scaling == MR_ROPE_SCALING_LINEAR) freq /= h->rope_factor;
        if (h->rope_scaling == MR_ROPE_SCALING_YARN) {
            double ramp = fmin(fmax(((double)i - low) / (high - low), 0.0), 1.0);
            double keep = (1.0 - ramp) * h->yarn_ext_factor; /* share of the unscaled frequency */
            freq = (float)((double)(freq / h->rope_factor) * (1.0 - keep) + (double)freq * keep);
        }
        inv_freq[i] = freq;
    }
    return factor;
}

void mr_rope_angles(const float *inv_freq, size_t n_pairs, float factor, uint32_t pos, float *cosines, float *sines) {
    for (size_t i = 0; i < n_pairs; i++) {
        float angle = (float)pos * inv_freq[i];
        cosines[i] = (float)cos((double)angle) * factor;
        sines[i] = (float)sin((double)angle) * factor;
    }
}
