#include "model/hf_quantized.h"

#include "compute/blocks.h"
#include "compute/dtype.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 256 };

/* ---- the configuration */

static bool text_is(const json_t *json, const char *text) {
    const char *have = json_string_value(json);
    return have != NULL && strcmp(have, text) == 0;
}

static mr_status read_gptq(mr_hf_quantization *q, const json_t *c, mr_error *err) {
    const json_t *format = json_object_get(c, "checkpoint_format");
    json_int_t bits = json_integer_value(json_object_get(c, "bits"));
    json_int_t group = json_integer_value(json_object_get(c, "group_size"));
    bool v2 = text_is(format, "gptq_v2");
    if (json_is_string(format) && !v2 && !text_is(format, "gptq"))
        return mr_fail(err, MR_ERR_UNSUPPORTED,
                       "config.json has GPTQ weights in the format \"%.64s\"; gptq and gptq_v2 are supported",
                       json_string_value(format));
    if (bits != 4 && bits != 8)
        return mr_fail(err, MR_ERR_UNSUPPORTED, "config.json has GPTQ weights of %d bits; 4 and 8 are supported",
                       (int)bits);
    q->method = MR_HF_GPTQ;
    q->bits = (uint32_t)bits;
    q->group = group > 0 ? (uint64_t)group : 0;
    q->zero_offset = v2 ? 0 : 1;
    return MR_OK;
}

static mr_status read_awq(mr_hf_quantization *q, const json_t *c, mr_error *err) {
    const json_t *version = json_object_get(c, "version");
    json_int_t bits = json_integer_value(json_object_get(c, json_object_get(c, "bits") != NULL ? "bits" : "w_bit"));
    const char *group_key = json_object_get(c, "group_size") != NULL ? "group_size" : "q_group_size";
    json_int_t group = json_integer_value(json_object_get(c, group_key));
    if (json_is_string(version) && !text_is(version, "gemm") && !text_is(version, "GEMM"))
        return mr_fail(err, MR_ERR_UNSUPPORTED,
                       "config.json has AWQ weights of the version \"%.64s\"; gemm is supported",
                       json_string_value(version));
    if (bits != 4)
        return mr_fail(err, MR_ERR_UNSUPPORTED, "config.json has AWQ weights of %d bits; 4 are supported", (int)bits);
    q->method = MR_HF_AWQ;
    q->bits = 4;
    q->group = group > 0 ? (uint64_t)group : 0;
    return MR_OK;
}

static mr_status read_fp8(mr_hf_quantization *q, const json_t *c, mr_error *err) {
    const json_t *fmt = json_object_get(c, "fmt"), *block = json_object_get(c, "weight_block_size");
    if (json_is_string(fmt) && !text_is(fmt, "e4m3") && !text_is(fmt, "float8_e4m3fn"))
        return mr_fail(err, MR_ERR_UNSUPPORTED,
                       "config.json has FP8 weights of the format \"%.64s\"; e4m3 is supported",
                       json_string_value(fmt));
    q->method = MR_HF_FP8;
    if (json_is_array(block)) {
        json_int_t rows = json_integer_value(json_array_get(block, 0)),
                   cols = json_integer_value(json_array_get(block, 1));
        if (json_array_size(block) != 2 || rows < 1 || cols < 1)
            return mr_fail(err, MR_ERR_INVALID, "config.json's weight_block_size is no pair of numbers above 0");
        q->block_rows = (uint64_t)rows;
        q->block_cols = (uint64_t)cols;
    }
    return MR_OK;
}

/* Groups of modules, all of which have to be 8-bit floats. */
static mr_status read_compressed(mr_hf_quantization *q, const json_t *c, mr_error *err) {
    const char *format = json_string_value(json_object_get(c, "format")), *name;
    const json_t *groups = json_object_get(c, "config_groups"), *group;
    bool known = format != NULL && (strcmp(format, "float-quantized") == 0 || strcmp(format, "naive-quantized") == 0);
    if (!known)
        return mr_fail(
            err, MR_ERR_UNSUPPORTED,
            "config.json has compressed-tensors weights of the format \"%.64s\"; float-quantized is supported",
            format != NULL ? format : "");
    json_object_foreach((json_t *)groups, name, group) {
        const json_t *weights = json_object_get(group, "weights"), *block = json_object_get(weights, "block_structure");
        if (!text_is(json_object_get(weights, "type"), "float") ||
            json_integer_value(json_object_get(weights, "num_bits")) != 8)
            return mr_fail(err, MR_ERR_UNSUPPORTED,
                           "config.json's %.64s of compressed-tensors has weights that are no floats of 8 bits", name);
        if (json_array_size(block) != 2) continue;
        q->block_rows = (uint64_t)json_integer_value(json_array_get(block, 0));
        q->block_cols = (uint64_t)json_integer_value(json_array_get(block, 1));
    }
    q->method = MR_HF_FP8;
    return MR_OK;
}

mr_status mr_hf_quantization_read(mr_hf_quantization *q, const json_t *config, mr_error *err) {
    const json_t *c = json_object_get(config, "quantization_config"), *text = json_object_get(config, "text_config");
    *q = (mr_hf_quantization){.method = MR_HF_PLAIN};
    if (!json_is_object(c)) c = json_object_get(text, "quantization_config");
    if (!json_is_object(c)) return MR_OK;
    const json_t *method = json_object_get(c, "quant_method");
    if (text_is(method, "gptq")) return read_gptq(q, c, err);
    if (text_is(method, "awq")) return read_awq(q, c, err);
    if (text_is(method, "fp8")) return read_fp8(q, c, err);
    if (text_is(method, "mxfp4")) return MR_OK; /* shows in the experts' tensors */
    if (text_is(method, "compressed-tensors")) return read_compressed(q, c, err);
    return mr_fail(
        err, MR_ERR_UNSUPPORTED,
        "config.json says the weights are quantized by \"%.64s\", which is not supported; supported are gptq, "
        "awq, fp8, mxfp4 and compressed-tensors (FP8), or weights that are not quantized",
        json_is_string(method) ? json_string_value(method) : "(no quant_method)");
}

/* ---- what tensors share */

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

bool mr_hf_is_quantized(const mr_st_tensor *source) {
    if (ends_with(source->name, ".qweight")) return true;
    bool f8 = source->dtype == MR_ST_F8_E4M3 || source->dtype == MR_ST_F8_E5M2;
    return f8 && source->n_dims == 2;
}

/* The tensor beside `name` with another ending, NULL when there is none. */
static const mr_st_tensor *beside(const mr_safetensors *st, const char *name, const char *ending) {
    char other[NAME_BYTES + 32];
    const char *dot = strrchr(name, '.');
    if (dot == NULL || dot - name >= NAME_BYTES) return NULL;
    snprintf(other, sizeof other, "%.*s%s", (int)(dot - name), name, ending);
    return mr_safetensors_find(st, other);
}

static bool is_float(mr_st_dtype dtype) {
    return dtype == MR_ST_F32 || dtype == MR_ST_F16 || dtype == MR_ST_BF16;
}

/* Number i of a tensor of floats, whatever its alignment. */
static float float_at(const mr_st_tensor *t, uint64_t i) {
    float value;
    uint16_t half;
    if (t->dtype == MR_ST_F32) {
        memcpy(&value, t->data + 4 * i, 4);
        return value;
    }
    memcpy(&half, t->data + 2 * i, 2);
    return t->dtype == MR_ST_F16 ? mr_f16_to_f32(half) : mr_bf16_to_f32(half);
}

static uint32_t word_at(const mr_st_tensor *t, uint64_t i) {
    uint32_t word;
    memcpy(&word, t->data + 4 * i, 4);
    return word;
}

static void describe(mr_gguf_tensor *tensor, mr_dtype type, uint64_t n_out, uint64_t n_in, mr_gguf_read_rows read,
                     const void *ctx) {
    size_t row_bytes = 0;
    mr_dtype_row_bytes(mr_dtype_find((uint32_t)type), n_in, &row_bytes);
    tensor->type = (uint32_t)type;
    tensor->n_dims = 2;
    tensor->shape[0] = n_in;
    tensor->shape[1] = n_out;
    tensor->shape[2] = tensor->shape[3] = 1;
    tensor->data = NULL;
    tensor->n_bytes = (size_t)n_out * row_bytes; /* no overflow: the file has at least 4 bits for each value */
    tensor->read = read;
    tensor->read_ctx = ctx;
}

/* ---- 8-bit floats */

typedef struct f8_source {
    const mr_st_tensor *weight, *scale; /* scale NULL: 1 */
    uint64_t n_in;
    uint64_t block_rows, block_cols, scales_in_row;
} f8_source;

static float f8_scale(const f8_source *s, uint64_t row, uint64_t col) {
    if (s->scale == NULL) return 1.0f;
    return float_at(s->scale, row / s->block_rows * s->scales_in_row + col / s->block_cols);
}

static float f8_value(const f8_source *s, uint8_t bits) {
    return s->weight->dtype == MR_ST_F8_E4M3 ? mr_f8_e4m3_to_f32(bits) : mr_f8_e5m2_to_f32(bits);
}

/* As blocks, whose columns have one scale. */
static bool read_f8_blocks(const void *ctx, uint64_t first, size_t n, uint8_t *out) {
    const f8_source *s = ctx;
    mr_block_f8_e4m3 *block = (mr_block_f8_e4m3 *)out;
    bool finite = true;
    for (uint64_t row = first; row < first + n; row++) {
        const uint8_t *bytes = s->weight->data + row * s->n_in;
        for (uint64_t col = 0; col < s->n_in; col += MR_QK_64, block++) {
            block->d = f8_scale(s, row, col);
            memcpy(block->qs, bytes + col, MR_QK_64);
            for (int i = 0; i < MR_QK_64; i++) finite &= (block->qs[i] & 0x7F) != 0x7F;
            finite &= isfinite(block->d) != 0;
        }
    }
    return finite;
}

static bool read_f8_floats(const void *ctx, uint64_t first, size_t n, uint8_t *out) {
    const f8_source *s = ctx;
    bool finite = true;
    for (uint64_t row = first; row < first + n; row++) {
        const uint8_t *bytes = s->weight->data + row * s->n_in;
        for (uint64_t col = 0; col < s->n_in; col++) {
            float value = f8_value(s, bytes[col]) * f8_scale(s, row, col);
            finite &= isfinite(value) != 0;
            if (s->scale != NULL) {
                memcpy(out, &value, 4);
                out += 4;
            } else {
                uint16_t half = mr_f32_to_f16(value);
                memcpy(out, &half, 2);
                out += 2;
            }
        }
    }
    return finite;
}

static uint64_t n_blocks(uint64_t n, uint64_t block) {
    return (n - 1) / block + 1;
}

/* What the scales are for shows in their shape. */
static mr_status fit_scales(const mr_hf_quantization *q, f8_source *s, mr_error *err) {
    const mr_st_tensor *w = s->weight, *scale = s->scale;
    uint64_t n_out = w->shape[0], n_scales = 1;
    for (uint32_t d = 0; d < scale->n_dims; d++) n_scales *= scale->shape[d]; /* bounded by the file */
    bool fits = is_float(scale->dtype);
    s->block_rows = n_out;
    s->block_cols = s->n_in;
    s->scales_in_row = 1;
    if (n_scales == n_out && n_out > 1 && (scale->n_dims == 1 || (scale->n_dims == 2 && scale->shape[0] == n_out))) {
        s->block_rows = 1;
    } else if (n_scales != 1) {
        s->block_rows = q->block_rows > 0 ? q->block_rows : 128;
        s->block_cols = q->block_cols > 0 ? q->block_cols : 128;
        s->scales_in_row = n_blocks(s->n_in, s->block_cols);
        fits = fits && scale->n_dims == 2 && scale->shape[0] == n_blocks(n_out, s->block_rows) &&
               scale->shape[1] == s->scales_in_row;
    }
    if (fits) return MR_OK;
    return mr_fail(err, MR_ERR_INVALID,
                   "the %" PRIu64 " scales %s of type %s do not fit the %" PRIu64 " x %" PRIu64 " values of %s",
                   n_scales, scale->name, mr_st_dtype_name(scale->dtype), n_out, s->n_in, w->name);
}

static mr_status describe_f8(const mr_hf_quantization *q, const mr_safetensors *st, const mr_st_tensor *source,
                             mr_arena *arena, mr_gguf_tensor *tensor, mr_error *err) {
    f8_source *s = mr_arena_calloc(arena, 1, sizeof *s);
    if (s == NULL) return mr_fail_nomem(err, sizeof *s, source->name);
    s->weight = source;
    s->n_in = source->shape[1];
    if (source->shape[0] == 0 || s->n_in == 0) return mr_fail(err, MR_ERR_INVALID, "tensor %s is empty", source->name);
    s->scale = beside(st, source->name, ".weight_scale_inv");
    if (s->scale == NULL) s->scale = beside(st, source->name, ".weight_scale");
    mr_status status = s->scale != NULL ? fit_scales(q, s, err) : MR_OK;
    if (status != MR_OK) return status;
    bool whole = s->scale == NULL || s->block_cols == s->n_in || s->block_cols % MR_QK_64 == 0;
    if (source->dtype == MR_ST_F8_E4M3 && s->n_in % MR_QK_64 == 0 && whole)
        describe(tensor, MR_F8_E4M3, source->shape[0], s->n_in, read_f8_blocks, s);
    else
        describe(tensor, s->scale != NULL ? MR_F32 : MR_F16, source->shape[0], s->n_in, read_f8_floats, s);
    return MR_OK;
}

/* ---- GPTQ and AWQ */

typedef struct int_source {
    const mr_st_tensor *q, *zeros, *scales;
    const int32_t *g_idx; /* [n_in], NULL: the group of column i is i / group */
    uint64_t n_in, n_out, group, n_groups;
    uint32_t bits, zero_offset;
    bool awq;
    mr_dtype type;
} int_source;

/* Where in a word AWQ has row o: 0 2 4 6 1 3 5 7 is the order of rows from the lowest nibble up. */
static unsigned awq_shift(uint64_t o) {
    static const uint8_t place[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    return 4u * place[o % 8];
}

/* The integer of row o and column i. GPTQ packs columns into words, AWQ rows. */
static int q_at(const int_source *s, uint64_t i, uint64_t o) {
    if (s->awq) return (int)(word_at(s->q, i * (s->n_out / 8) + o / 8) >> awq_shift(o) & 15);
    uint64_t in_word = 32 / s->bits;
    return (int)(word_at(s->q, i / in_word * s->n_out + o) >> i % in_word * s->bits & ((1u << s->bits) - 1));
}

static int zero_at(const int_source *s, uint64_t g, uint64_t o) {
    if (s->awq) return (int)(word_at(s->zeros, g * (s->n_out / 8) + o / 8) >> awq_shift(o) & 15);
    uint64_t in_word = 32 / s->bits;
    uint32_t word = word_at(s->zeros, g * (s->n_out / in_word) + o / in_word);
    return (int)((word >> o % in_word * s->bits & ((1u << s->bits) - 1)) + s->zero_offset);
}

static uint64_t group_of(const int_source *s, uint64_t i) {
    return s->g_idx != NULL ? (uint64_t)s->g_idx[i] : i / s->group;
}

/* 32 columns of a row, d (q - zero): `centred` holds q - zero. */
static void put_block(const int_source *s, uint16_t d, int zero, const int16_t centred[32], uint64_t part,
                      uint8_t *out) {
    if (s->type == MR_Q4_0) {
        mr_block_q4_0 *block = (mr_block_q4_0 *)out;
        block->d = d;
        for (int j = 0; j < 16; j++) block->qs[j] = (uint8_t)((centred[j] + 8) | (centred[j + 16] + 8) << 4);
    } else if (s->type == MR_Q5_0) {
        mr_block_q5_0 *block = (mr_block_q5_0 *)out;
        uint32_t high = 0;
        for (int j = 0; j < 32; j++) high |= (uint32_t)((centred[j] + 16) >> 4 & 1) << j;
        block->d = d;
        block->qh = high;
        for (int j = 0; j < 16; j++)
            block->qs[j] = (uint8_t)(((centred[j] + 16) & 15) | ((centred[j + 16] + 16) & 15) << 4);
    } else if (s->type == MR_Q8_0) {
        mr_block_q8_0 *block = (mr_block_q8_0 *)out;
        block->d = d;
        for (int j = 0; j < 32; j++) block->qs[j] = (int8_t)centred[j];
    } else { /* x = d (q - 128) + d (128 - zero) */
        mr_block_hqq8 *block = (mr_block_hqq8 *)out;
        block->d = d;
        block->m = mr_f32_to_f16(mr_f16_to_f32(d) * (float)(128 - zero));
        for (int j = 0; j < 32; j++) block->qs[32 * part + (uint64_t)j] = (int8_t)(centred[j] + zero - 128);
    }
}

static bool read_int_blocks(const void *ctx, uint64_t first, size_t n, uint8_t *out) {
    const int_source *s = ctx;
    const mr_dtype_info *info = mr_dtype_find((uint32_t)s->type);
    uint64_t parts = info->block_values / 32;
    size_t row_bytes = (size_t)(s->n_in / info->block_values) * info->block_bytes;
    bool finite = true;
    for (uint64_t col = 0; col < s->n_in; col += 32) { /* rows inside: they are neighbours in the file */
        uint64_t g = group_of(s, col), b = col / 32;
        for (uint64_t row = first; row < first + n; row++) {
            float scale = float_at(s->scales, g * s->n_out + row);
            int zero = zero_at(s, g, row);
            int16_t centred[32];
            for (int j = 0; j < 32; j++) centred[j] = (int16_t)(q_at(s, col + (uint64_t)j, row) - zero);
            finite &= fabsf(scale) <= 65504.0f;
            put_block(s, mr_f32_to_f16(scale), zero, centred, b % parts,
                      out + (row - first) * row_bytes + b / parts * info->block_bytes);
        }
    }
    return finite;
}

static bool read_int_halves(const void *ctx, uint64_t first, size_t n, uint8_t *out) {
    const int_source *s = ctx;
    bool finite = true;
    for (uint64_t col = 0; col < s->n_in; col++) {
        uint64_t g = group_of(s, col);
        for (uint64_t row = first; row < first + n; row++) {
            float value = float_at(s->scales, g * s->n_out + row) * (float)(q_at(s, col, row) - zero_at(s, g, row));
            uint16_t half = mr_f32_to_f16(value);
            finite &= fabsf(value) <= 65504.0f;
            memcpy(out + ((row - first) * s->n_in + col) * 2, &half, 2);
        }
    }
    return finite;
}

static bool has_shape(const mr_st_tensor *t, uint64_t rows, uint64_t cols) {
    return t->n_dims == 2 && t->shape[0] == rows && t->shape[1] == cols;
}

/* g_idx, kept where columns of a group are not neighbours. */
static mr_status read_g_idx(int_source *s, const mr_st_tensor *t, mr_arena *arena, mr_error *err) {
    if (t->dtype != MR_ST_I32 || t->n_dims != 1 || t->shape[0] != s->n_in)
        return mr_fail(err, MR_ERR_INVALID, "tensor %s does not hold a group for each of %" PRIu64 " columns", t->name,
                       s->n_in);
    bool in_order = true;
    for (uint64_t i = 0; i < s->n_in; i++) {
        uint32_t g = word_at(t, i);
        if (g >= s->n_groups)
            return mr_fail(err, MR_ERR_INVALID, "tensor %s names group %" PRIu32 " of %" PRIu64, t->name, g,
                           s->n_groups);
        in_order = in_order && g == i / s->group;
    }
    if (in_order) return MR_OK;
    int32_t *copy = mr_arena_calloc(arena, (size_t)s->n_in, sizeof *copy);
    if (copy == NULL) return mr_fail_nomem(err, (size_t)s->n_in * sizeof *copy, t->name);
    memcpy(copy, t->data, (size_t)s->n_in * sizeof *copy);
    s->g_idx = copy;
    return MR_OK;
}

static bool all_zeros_are(const int_source *s, int value) {
    for (uint64_t g = 0; g < s->n_groups; g++)
        for (uint64_t o = 0; o < s->n_out; o++)
            if (zero_at(s, g, o) != value) return false;
    return true;
}

static void choose_int_type(int_source *s) {
    bool neighbours = s->g_idx == NULL && s->group % 32 == 0 && s->n_in % 32 == 0;
    if (!neighbours)
        s->type = MR_F16;
    else if (s->bits == 4)
        s->type = all_zeros_are(s, 8) ? MR_Q4_0 : MR_Q5_0;
    else if (all_zeros_are(s, 128))
        s->type = MR_Q8_0;
    else
        s->type = s->group % 64 == 0 && s->n_in % 64 == 0 ? MR_HQQ8 : MR_F16;
}

static mr_status find_parts(int_source *s, const mr_safetensors *st, mr_error *err) {
    const char *name = s->q->name;
    uint64_t in_word = 32 / s->bits;
    s->zeros = beside(st, name, ".qzeros");
    s->scales = beside(st, name, ".scales");
    if (s->zeros == NULL || s->scales == NULL)
        return mr_fail(err, MR_ERR_INVALID, "tensor %s has no %s beside it", name,
                       s->zeros == NULL ? "qzeros" : "scales");
    bool ok = s->q->dtype == MR_ST_I32 && s->zeros->dtype == MR_ST_I32 && is_float(s->scales->dtype) &&
              s->q->n_dims == 2 && s->scales->n_dims == 2 && s->q->shape[0] > 0 && s->q->shape[1] > 0;
    if (ok) {
        s->n_in = s->q->shape[0] * (s->awq ? 1 : in_word);
        s->n_out = s->q->shape[1] * (s->awq ? in_word : 1);
        if (s->group == 0 || s->group > s->n_in) s->group = s->n_in;
        s->n_groups = n_blocks(s->n_in, s->group);
        ok = s->n_out % in_word == 0 && has_shape(s->scales, s->n_groups, s->n_out) &&
             has_shape(s->zeros, s->n_groups, s->n_out / in_word);
    }
    if (ok) return MR_OK;
    return mr_fail(err, MR_ERR_INVALID,
                   "the types and shapes of %s, its qzeros and its scales do not fit each other and groups of %" PRIu64
                   " columns",
                   name, s->group);
}

static mr_status describe_int(const mr_hf_quantization *q, const mr_safetensors *st, const mr_st_tensor *source,
                              mr_arena *arena, mr_gguf_tensor *tensor, mr_error *err) {
    if (q->method != MR_HF_GPTQ && q->method != MR_HF_AWQ)
        return mr_fail(err, MR_ERR_INVALID,
                       "tensor %s is packed, but config.json's quantization_config is not GPTQ or AWQ", source->name);
    int_source *s = mr_arena_calloc(arena, 1, sizeof *s);
    if (s == NULL) return mr_fail_nomem(err, sizeof *s, source->name);
    *s = (int_source){
        .q = source, .awq = q->method == MR_HF_AWQ, .bits = q->bits, .group = q->group, .zero_offset = q->zero_offset};
    const mr_st_tensor *g_idx = s->awq ? NULL : beside(st, source->name, ".g_idx");
    mr_status status = find_parts(s, st, err);
    if (status == MR_OK && g_idx != NULL && g_idx->shape[0] > 0) status = read_g_idx(s, g_idx, arena, err);
    if (status != MR_OK) return status;
    choose_int_type(s);
    describe(tensor, s->type, s->n_out, s->n_in, s->type == MR_F16 ? read_int_halves : read_int_blocks, s);
    return MR_OK;
}

mr_status mr_hf_quantized_tensor(const mr_hf_quantization *q, const mr_safetensors *st, const mr_st_tensor *source,
                                 mr_arena *arena, mr_gguf_tensor *tensor, mr_error *err) {
    return ends_with(source->name, ".qweight") ? describe_int(q, st, source, arena, tensor, err)
                                               : describe_f8(q, st, source, arena, tensor, err);
}

void mr_hf_quantized_drop(const mr_safetensors *st, const mr_gguf_tensor *tensor) {
    bool f8 = tensor->read == read_f8_blocks || tensor->read == read_f8_floats;
    const mr_st_tensor *source =
        f8 ? ((const f8_source *)tensor->read_ctx)->weight : ((const int_source *)tensor->read_ctx)->q;
    mr_safetensors_drop_pages(st, source->data, source->n_bytes);
}
