#include "model/hf_model.h"

#include "base/arena.h"
#include "base/file.h"
#include "compute/dtype.h"
#include "model/hf_encoder.h"
#include "model/hf_experts.h"
#include "model/hf_pooling.h"
#include "model/hf_quantized.h"
#include "model/safetensors.h"
#include "model/tensor_rows.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 16 << 20, NAME_BYTES = MR_HF_NAME_BYTES };

/* What the assembled GGUF keeps alive. */
typedef struct hf_owner {
    mr_safetensors *st;
    mr_arena copies; /* tensors that GGUF stores otherwise */
} hf_owner;

static void free_owner(void *ctx) {
    hf_owner *owner = ctx;
    mr_safetensors_close(owner->st);
    mr_arena_free(&owner->copies);
    free(owner);
}

static void drop_pages(void *ctx, const mr_gguf_tensor *tensor) {
    const hf_owner *owner = ctx;
    if (tensor->data != NULL) mr_safetensors_drop_pages(owner->st, tensor->data, tensor->n_bytes);
    if (tensor->read != NULL && !mr_hf_experts_drop(owner->st, tensor)) mr_hf_quantized_drop(owner->st, tensor);
}

/* One conversion. */
typedef struct converter {
    const mr_hf_family *family;
    const json_t *config;
    mr_hf_quantization quantization;
    hf_owner *owner;
    mr_gguf_tensor *tensors;
    size_t n_tensors, cap_tensors;
    mr_error *err;
} converter;

static bool is_tied(const json_t *config) {
    const json_t *tied = json_object_get(config, "tie_word_embeddings"), *text = json_object_get(config, "text_config");
    if (tied == NULL && json_is_object(text)) tied = json_object_get(text, "tie_word_embeddings");
    return json_is_true(tied);
}

/* A shared expert without others is a plain FFN. */
static void drop_shared(const json_t *config, char *name) {
    const json_t *n_experts = json_object_get(config, "num_local_experts");
    char *mark = strstr(name, "_shexp");
    if (mark == NULL || !json_is_integer(n_experts) || json_integer_value(n_experts) != 0) return;
    memmove(mark, mark + strlen("_shexp"), strlen(mark + strlen("_shexp")) + 1);
}

static mr_gguf_tensor *add_tensor(converter *c, const char *name) {
    if (c->n_tensors == c->cap_tensors) {
        size_t cap = c->cap_tensors == 0 ? 256 : 2 * c->cap_tensors;
        mr_gguf_tensor *tensors = realloc(c->tensors, cap * sizeof *tensors);
        if (tensors == NULL) return NULL;
        c->tensors = tensors;
        c->cap_tensors = cap;
    }
    mr_gguf_tensor *t = &c->tensors[c->n_tensors];
    *t = (mr_gguf_tensor){.name = mr_arena_strndup(&c->owner->copies, name, strlen(name)), .shape = {1, 1, 1, 1}};
    return t->name == NULL ? NULL : t;
}

/* A copy as floats plus `plus`, or an aligned copy of the bytes as they are. */
static mr_status copy_tensor(converter *c, mr_gguf_tensor *t, bool as_floats, float plus) {
    const mr_dtype_info *type = mr_dtype_find(t->type);
    size_t n = 1;
    for (uint32_t d = 0; d < t->n_dims; d++) n *= (size_t)t->shape[d];
    size_t n_bytes = as_floats ? n * sizeof(float) : t->n_bytes;
    uint8_t *copy = mr_arena_alloc(&c->owner->copies, n_bytes + 1), *bytes = NULL;
    if (copy == NULL) return mr_fail_nomem(c->err, n_bytes, t->name);
    if (!as_floats) {
        memcpy(copy, t->data, t->n_bytes);
    } else {
        bytes = malloc(t->n_bytes + 1); /* aligned for the decoder */
        if (bytes == NULL) return mr_fail_nomem(c->err, t->n_bytes, t->name);
        memcpy(bytes, t->data, t->n_bytes);
        float *values = (float *)(void *)copy;
        type->dequantize(bytes, values, n);
        for (size_t i = 0; i < n; i++) values[i] += plus;
        free(bytes);
        t->type = MR_F32;
        t->n_bytes = n_bytes;
    }
    t->data = copy;
    return MR_OK;
}

/* The name that the matrix would have if it were not packed, "….weight" for "….qweight". */
static void plain_name(const char *name, char out[static NAME_BYTES]) {
    size_t n = strlen(name);
    bool packed = n > 8 && n < NAME_BYTES && strcmp(name + n - 8, ".qweight") == 0;
    snprintf(out, NAME_BYTES, "%.*s%s", packed ? (int)(n - 8) : NAME_BYTES - 1, name, packed ? ".weight" : "");
}

/* A matrix that is quantized in the folder. What is read row by row while the model runs is made at once. */
static mr_status convert_quantized(converter *c, const mr_st_tensor *source, const char *name) {
    mr_gguf_tensor *t = add_tensor(c, name);
    if (t == NULL) return mr_fail_nomem(c->err, sizeof *t, "the tensor list");
    mr_status status = mr_hf_quantized_tensor(&c->quantization, c->owner->st, source, &c->owner->copies, t, c->err);
    if (status != MR_OK) return status;
    c->n_tensors++;
    if (strcmp(name, "token_embd.weight") != 0 && strcmp(name, "per_layer_token_embd.weight") != 0) return MR_OK;
    mr_tensor_rows rows;
    status = mr_tensor_rows_get(t, 0, (size_t)t->shape[1], t->n_bytes / (size_t)t->shape[1], NULL, &rows, c->err);
    if (status != MR_OK) return status;
    uint8_t *copy = mr_arena_alloc(&c->owner->copies, t->n_bytes);
    if (copy != NULL) memcpy(copy, rows.rows, t->n_bytes);
    mr_tensor_rows_free(&rows);
    t->data = copy;
    t->read = NULL;
    return copy != NULL ? MR_OK : mr_fail_nomem(c->err, t->n_bytes, name);
}

/* Logarithms of rates of decay become what they stand for, below zero. */
static mr_status convert_rates(converter *c, mr_gguf_tensor *t) {
    mr_status status = copy_tensor(c, t, true, 0.0f);
    float *values = (float *)(void *)(uintptr_t)t->data; /* the copy */
    for (size_t i = 0; status == MR_OK && i < t->n_bytes / sizeof *values; i++) values[i] = -expf(values[i]);
    return status;
}

/* Rows of a group of heads (its query, key, values and gates) are sorted into one tensor of all queries, keys and
 * values, and one of all gates. t is the last tensor of the list. */
static mr_status split_qkvz(converter *c, mr_gguf_tensor *t) {
    const json_t *config = c->config, *text = json_object_get(config, "text_config");
    if (json_is_object(text)) config = text;
    json_int_t n_key = json_integer_value(json_object_get(config, "linear_num_key_heads"));
    json_int_t n_value = json_integer_value(json_object_get(config, "linear_num_value_heads"));
    json_int_t dk = json_integer_value(json_object_get(config, "linear_key_head_dim"));
    json_int_t dv = json_integer_value(json_object_get(config, "linear_value_head_dim"));
    bool sane = n_key > 0 && n_key <= 4096 && n_value > 0 && n_value <= 4096 && dk > 0 && dk <= 4096 && dv > 0 &&
                dv <= 4096 && n_value % n_key == 0;
    size_t n_q = (size_t)dk, n_v = sane ? (size_t)(n_value / n_key * dv) : 0, n_group = 2 * n_q + 2 * n_v;
    if (!sane || t->n_dims != 2 || t->shape[1] != n_group * (size_t)n_key)
        return mr_fail(c->err, MR_ERR_INVALID, "tensor %s has not the rows that config.json's linear heads ask for",
                       t->name);
    size_t row = t->n_bytes / (size_t)t->shape[1], G = (size_t)n_key, n_qkv = G * (2 * n_q + n_v);
    uint8_t *copy = mr_arena_alloc(&c->owner->copies, t->n_bytes);
    if (copy == NULL) return mr_fail_nomem(c->err, t->n_bytes, t->name);
    for (size_t g = 0; g < G; g++) {
        const uint8_t *from = t->data + g * n_group * row;
        memcpy(copy + g * n_q * row, from, n_q * row);
        memcpy(copy + (G + g) * n_q * row, from + n_q * row, n_q * row);
        memcpy(copy + (2 * G * n_q + g * n_v) * row, from + 2 * n_q * row, n_v * row);
        memcpy(copy + (n_qkv + g * n_v) * row, from + (2 * n_q + n_v) * row, n_v * row);
    }
    unsigned layer = (unsigned)strtoul(t->name + strlen("blk."), NULL, 10);
    mr_gguf_tensor both[2] = {*t, *t};
    c->n_tensors--; /* these two take its place */
    for (size_t i = 0; i < 2; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "blk.%u.%s.weight", layer, i == 0 ? "attn_qkv" : "attn_gate");
        mr_gguf_tensor *out = add_tensor(c, name);
        if (out == NULL) return mr_fail_nomem(c->err, sizeof *out, "the tensor list");
        both[i].name = out->name;
        both[i].data = copy + (i == 0 ? 0 : n_qkv * row);
        both[i].shape[1] = i == 0 ? n_qkv : G * n_v;
        both[i].n_bytes = both[i].shape[1] * row;
        *out = both[i];
        c->n_tensors++;
    }
    return MR_OK;
}

/* Rows of InternLM2's groups of heads (queries, then the group's key and value) are sorted into all queries, keys and
 * values. */
static mr_status sort_wqkv(converter *c, mr_gguf_tensor *t) {
    const json_t *config = mr_hf_text_part(c->config);
    json_int_t n_head = json_integer_value(json_object_get(config, "num_attention_heads"));
    json_int_t n_kv = json_integer_value(json_object_get(config, "num_key_value_heads"));
    bool sane = n_kv > 0 && n_head <= 4096 && n_head >= n_kv && n_head % n_kv == 0;
    uint64_t n_heads = sane ? (uint64_t)(n_head + 2 * n_kv) : 1, n_rows = t->shape[t->n_dims - 1];
    if (!sane || n_rows % n_heads != 0)
        return mr_fail(c->err, MR_ERR_INVALID, "tensor %s has not the rows that config.json's heads ask for", t->name);
    uint8_t *copy = mr_arena_alloc(&c->owner->copies, t->n_bytes);
    if (copy == NULL) return mr_fail_nomem(c->err, t->n_bytes, t->name);
    size_t head = (size_t)(t->n_bytes / n_heads), n_group = (size_t)(n_head / n_kv), groups = (size_t)n_kv;
    for (size_t g = 0; g < groups; g++) {
        const uint8_t *from = t->data + g * (n_group + 2) * head;
        memcpy(copy + g * n_group * head, from, n_group * head);
        memcpy(copy + ((size_t)n_head + g) * head, from + n_group * head, head);
        memcpy(copy + ((size_t)n_head + groups + g) * head, from + (n_group + 1) * head, head);
    }
    const char *ending = strrchr(t->name, '.'), *const parts[] = {"attn_q", "attn_k", "attn_v"};
    unsigned layer = (unsigned)strtoul(t->name + strlen("blk."), NULL, 10);
    mr_gguf_tensor whole = *t;
    c->n_tensors--; /* these three take its place */
    for (size_t i = 0; i < 3; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "blk.%u.%s%s", layer, parts[i], ending);
        mr_gguf_tensor *out = add_tensor(c, name);
        if (out == NULL) return mr_fail_nomem(c->err, sizeof *out, "the tensor list");
        size_t n = i == 0 ? (size_t)n_head : groups;
        const char *part_name = out->name;
        *out = whole;
        out->name = part_name;
        out->data = copy + (i == 0 ? 0 : (size_t)n_head + (i - 1) * groups) * head;
        out->shape[whole.n_dims - 1] = n * (n_rows / n_heads);
        out->n_bytes = n * head;
        c->n_tensors++;
    }
    return MR_OK;
}

/* Experts of gpt-oss, and the biases of their gates and ups. */
static mr_status convert_experts(converter *c, const mr_st_tensor *source, const char *name) {
    bool both = strstr(name, ".ffn_gate_up_exps.") != NULL, bias = strstr(name, ".bias") != NULL;
    unsigned layer = (unsigned)strtoul(name + strlen("blk."), NULL, 10);
    for (uint32_t i = 0; i < (bias ? 2 : 1); i++) {
        char part[NAME_BYTES];
        snprintf(part, sizeof part, "blk.%u.ffn_%s_exps.bias", layer, i == 0 ? "gate" : "up");
        mr_gguf_tensor *t = add_tensor(c, bias ? part : name);
        if (t == NULL) return mr_fail_nomem(c->err, sizeof *t, "the tensor list");
        mr_status status = bias ? mr_hf_experts_bias(source, i, &c->owner->copies, t, c->err)
                                : mr_hf_experts_tensor(c->owner->st, source, both, &c->owner->copies, t, c->err);
        if (status != MR_OK) return status;
        c->n_tensors++;
    }
    return MR_OK;
}

static mr_status convert_tensor(converter *c, const mr_st_tensor *source) {
    char name[NAME_BYTES], plain[NAME_BYTES];
    plain_name(source->name, plain);
    if (!mr_hf_map_name(c->family, plain, name)) return MR_OK;
    if (strcmp(name, "output.weight") == 0 && is_tied(c->config)) return MR_OK;
    drop_shared(c->config, name);
    bool experts = strstr(name, "_exps.weight") != NULL || strstr(name, ".ffn_gate_up_exps.bias") != NULL;
    if (c->family->experts_alternate && experts) return convert_experts(c, source, name);
    if (mr_hf_is_quantized(source)) return convert_quantized(c, source, name);
    static const struct {
        mr_st_dtype st;
        mr_dtype type;
    } types[] = {{MR_ST_F32, MR_F32}, {MR_ST_F16, MR_F16}, {MR_ST_BF16, MR_BF16}};
    const mr_dtype_info *type = NULL;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i].st == source->dtype) type = mr_dtype_find(types[i].type);
    }
    if (type == NULL || source->n_dims > MR_GGUF_MAX_DIMS) {
        return mr_fail(c->err, MR_ERR_UNSUPPORTED,
                       "tensor %s has type %s and %u dimensions; F32, F16, BF16 and FP8 weights are supported",
                       source->name, mr_st_dtype_name(source->dtype), source->n_dims);
    }
    mr_gguf_tensor *t = add_tensor(c, name);
    if (t == NULL) return mr_fail_nomem(c->err, sizeof *t, "the tensor list");
    t->n_dims = source->n_dims > 0 ? source->n_dims : 1; /* a number stands alone */
    t->type = (uint32_t)type->type;
    t->data = source->data;
    t->n_bytes = source->n_bytes;
    for (uint32_t d = 0; d < source->n_dims; d++) {
        t->shape[d] = source->shape[source->n_dims - 1 - d];
        if (t->shape[d] == 0) return mr_fail(c->err, MR_ERR_INVALID, "tensor %s is empty", source->name);
    }
    c->n_tensors++;
    if (c->family->positions_behind_padding && strcmp(name, "position_embd.weight") == 0) {
        mr_status status = mr_hf_encoder_cut_positions(mr_hf_text_part(c->config), t, c->err);
        if (status != MR_OK) return status;
    }
    size_t name_len = strlen(name);
    if (name_len > 5 && strcmp(name + name_len - 5, "ssm_a") == 0) return convert_rates(c, t);
    if (strstr(name, ".wqkv.") != NULL) return sort_wqkv(c, t);
    if (strstr(name, ".qkvz.weight") != NULL) return split_qkvz(c, t);
    bool is_norm = name_len > 12 && strcmp(name + name_len - 12, "_norm.weight") == 0;
    bool is_inner = strstr(name, ".ssm_norm.") != NULL; /* that of a recurrent layer is stored as it is */
    if (is_norm && !is_inner && c->family->norm_plus_one) return copy_tensor(c, t, true, 1.0f);
    if ((uintptr_t)t->data % type->block_bytes != 0) return copy_tensor(c, t, false, 0.0f);
    return MR_OK;
}

/* A tensor of n floats, 0 yet, behind the others; NULL when there is no memory. */
static float *add_vector(converter *c, const char *name, size_t n) {
    mr_gguf_tensor *t = add_tensor(c, name);
    float *values = mr_arena_calloc(&c->owner->copies, n, sizeof *values);
    if (t == NULL || values == NULL) return NULL;
    t->n_dims = 1;
    t->shape[0] = n;
    t->type = MR_F32;
    t->data = (const uint8_t *)values;
    t->n_bytes = n * sizeof *values;
    c->n_tensors++;
    return values;
}

/* The divisors of Llama 3.1's rope scaling as a tensor, as GGUF files have them. */
static mr_status add_llama3_factors(converter *c, const json_t *rope) {
    const json_t *config = mr_hf_text_part(c->config);
    double factor = json_number_value(json_object_get(rope, "factor"));
    double low = json_number_value(json_object_get(rope, "low_freq_factor"));
    double high = json_number_value(json_object_get(rope, "high_freq_factor"));
    double original = json_number_value(json_object_get(rope, "original_max_position_embeddings"));
    double base = json_number_value(json_object_get(rope, "rope_theta"));
    if (base <= 0.0) base = json_number_value(json_object_get(config, "rope_theta"));
    double head_dim = json_number_value(json_object_get(config, "head_dim"));
    double n_head = json_number_value(json_object_get(config, "num_attention_heads"));
    if (head_dim < 2.0 && n_head >= 1.0) head_dim = json_number_value(json_object_get(config, "hidden_size")) / n_head;
    if (!(factor > 0.0 && low > 0.0 && high > low && original > 0.0 && base > 1.0 && head_dim >= 2.0 &&
          head_dim <= 65536.0)) {
        return mr_fail(c->err, MR_ERR_INVALID, "config.json's llama3 rope scaling is incomplete");
    }
    size_t n = (size_t)head_dim / 2;
    float *values = add_vector(c, "rope_freqs.weight", n);
    if (values == NULL) return mr_fail_nomem(c->err, n * sizeof *values, "rope factors");
    for (size_t i = 0; i < n; i++) {
        double wavelength = 2.0 * 3.14159265358979323846 * pow(base, (double)(2 * i) / head_dim);
        double smooth = (original / wavelength - low) / (high - low);
        if (wavelength < original / high)
            values[i] = 1.0f;
        else if (wavelength > original / low)
            values[i] = (float)factor;
        else
            values[i] = (float)(1.0 / ((1.0 - smooth) / factor + smooth));
    }
    return MR_OK;
}

/* The divisors of Gemma 4's rotation, which leaves the later pairs of a head alone: a huge divisor does that. */
static mr_status add_proportional_factors(converter *c, const json_t *rope) {
    const json_t *config = mr_hf_text_part(c->config), *part = json_object_get(rope, "partial_rotary_factor");
    const json_t *factor = json_object_get(rope, "factor");
    double head_dim = json_number_value(json_object_get(config, "head_dim"));
    double share = part != NULL ? json_number_value(part) : 1.0, all = factor != NULL ? json_number_value(factor) : 1.0;
    if (!(head_dim >= 2.0 && head_dim <= 65536.0 && share > 0.0 && share <= 1.0 && all > 0.0 && all < 1e9))
        return mr_fail(c->err, MR_ERR_INVALID, "config.json's proportional rope scaling has impossible numbers");
    size_t n = (size_t)head_dim / 2, n_rotated = (size_t)(share * head_dim / 2.0);
    float *values = add_vector(c, "rope_freqs.weight", n);
    if (values == NULL) return mr_fail_nomem(c->err, n * sizeof *values, "rope factors");
    for (size_t i = 0; i < n; i++) values[i] = i < n_rotated ? (float)all : 1e30f;
    return MR_OK;
}

/* The divisors of LongRoPE, a list of config.json, as a tensor. */
static mr_status add_longrope_factors(converter *c, const json_t *rope, const char *key, const char *name) {
    const json_t *list = json_object_get(rope, key);
    size_t n = json_array_size(list);
    if (n == 0) return MR_OK;
    float *values = n <= 65536 ? add_vector(c, name, n) : NULL;
    if (values == NULL) return mr_fail_nomem(c->err, n * sizeof *values, "rope factors");
    for (size_t i = 0; i < n; i++) values[i] = (float)json_number_value(json_array_get(list, i));
    return MR_OK;
}

static mr_status convert_all(converter *c) {
    mr_status status = MR_OK;
    for (size_t i = 0; i < mr_safetensors_n(c->owner->st) && status == MR_OK; i++) {
        status = convert_tensor(c, mr_safetensors_at(c->owner->st, i));
    }
    const json_t *rope = mr_hf_rope(mr_hf_text_part(c->config));
    const char *type = json_string_value(json_object_get(rope, "rope_type"));
    if (status == MR_OK && type != NULL && strcmp(type, "llama3") == 0) status = add_llama3_factors(c, rope);
    if (status == MR_OK && type != NULL && strcmp(type, "proportional") == 0)
        status = add_proportional_factors(c, rope);
    if (status == MR_OK) status = add_longrope_factors(c, rope, "short_factor", "rope_factors_short.weight");
    if (status == MR_OK) status = add_longrope_factors(c, rope, "long_factor", "rope_factors_long.weight");
    return status;
}

mr_status mr_hf_read_json(const char *folder, const char *name, json_t **json, mr_error *err) {
    char *path = mr_path_join(folder, name);
    if (path == NULL) return mr_fail_nomem(err, 0, "a path");
    mr_buf text = {0};
    json_error_t json_err;
    mr_status status = mr_file_read(&text, path, MAX_CONFIG_BYTES, err);
    if (status == MR_OK) {
        *json = json_loadb(mr_buf_cstr(&text), text.len, 0, &json_err);
        if (*json == NULL)
            status = mr_fail(err, MR_ERR_INVALID, "%s line %d is no JSON: %s", path, json_err.line, json_err.text);
    }
    mr_buf_free(&text);
    free(path);
    return status;
}

static json_t *language_part(json_t *config) {
    json_t *text = json_object_get(config, "text_config");
    return json_is_object(text) ? text : config;
}

/* A multimodal model is of the family of its language part. What config.json leaves out is added to it. */
static mr_status find_family(converter *c, const char *folder, json_t *config) {
    json_t *text = json_object_get(config, "text_config");
    const char *model_type = json_string_value(json_object_get(text, "model_type"));
    if (model_type == NULL) model_type = json_string_value(json_object_get(config, "model_type"));
    if (model_type == NULL) return mr_fail(c->err, MR_ERR_INVALID, "%s/config.json has no model_type", folder);
    c->family = mr_hf_family_find(model_type, c->err);
    if (c->family == NULL) return MR_ERR_UNSUPPORTED;
    text = language_part(config);
    if (c->family->defaults != NULL) {
        json_t *defaults = json_loads(c->family->defaults, 0, NULL);
        int failed = defaults == NULL || json_object_update_missing(text, defaults) != 0;
        json_decref(defaults);
        if (failed) return mr_fail_nomem(c->err, strlen(c->family->defaults), "config.json");
    }
    return c->family->spell_out != NULL ? c->family->spell_out(text, c->err) : MR_OK;
}

mr_status mr_hf_open(mr_gguf **gguf, const char *folder, mr_error *err) {
    json_t *config = NULL;
    mr_buf header = {0};
    converter c = {.err = err};
    *gguf = NULL;
    mr_status status = mr_hf_read_json(folder, "config.json", &config, err);
    if (status == MR_OK && !json_is_object(config))
        status = mr_fail(err, MR_ERR_INVALID, "%s/config.json is no JSON object", folder);
    c.config = config;
    if (status == MR_OK) status = find_family(&c, folder, config);
    if (status == MR_OK && c.family->encoder) status = mr_hf_encoder_settings(c.family, language_part(config), err);
    if (status == MR_OK) status = mr_hf_pooling_read(folder, language_part(config), err);
    if (status == MR_OK) status = mr_hf_quantization_read(&c.quantization, config, err);
    if (status == MR_OK) status = mr_hf_write_header(&header, c.family, config, err);
    if (status == MR_OK && (c.owner = calloc(1, sizeof *c.owner)) == NULL)
        status = mr_fail_nomem(err, sizeof *c.owner, "a model");
    if (status == MR_OK) status = mr_safetensors_open_folder(&c.owner->st, folder, err);
    if (status == MR_OK) status = convert_all(&c);
    if (status == MR_OK) {
        mr_gguf_assembly parts = {.header = &header,
                                  .tensors = c.tensors,
                                  .n_tensors = c.n_tensors,
                                  .owner = c.owner,
                                  .free_owner = free_owner,
                                  .drop_pages = drop_pages};
        status = mr_gguf_assemble(gguf, &parts, err);
    }
    if (status != MR_OK && c.owner != NULL) free_owner(c.owner);
    free(c.tensors);
    mr_buf_free(&header);
    json_decref(config);
    return status;
}
