#include "model/hf_experts.h"

#include "compute/blocks.h"
#include "compute/dtype.h"

#include <stdio.h>
#include <string.h>

typedef struct expert_source {
    const mr_st_tensor *values, *scales; /* scales NULL: floats */
    uint64_t n_in, n_out;                /* of an expert */
    size_t value_bytes;                  /* of a float */
    bool alternate;
} expert_source;

/* The expert's output that is row `row` of its matrix. */
static uint64_t output_of(const expert_source *s, uint64_t row) {
    uint64_t half = s->n_out / 2;
    if (!s->alternate) return row;
    return row < half ? 2 * row : 2 * (row - half) + 1;
}

/* Inputs are walked in the outer loop, so that neighbouring outputs share cache lines. */
static bool read_floats(const void *ctx, uint64_t first, size_t n, uint8_t *out) {
    const expert_source *s = ctx;
    size_t size = s->value_bytes;
    for (uint64_t col = 0; col < s->n_in; col++) {
        for (uint64_t i = 0; i < n; i++) {
            uint64_t expert = (first + i) / s->n_out, output = output_of(s, (first + i) % s->n_out);
            memcpy(out + (i * s->n_in + col) * size,
                   s->values->data + ((expert * s->n_in + col) * s->n_out + output) * size, size);
        }
    }
    return true;
}

/* A block's bytes hold values j and j + 16 instead of neighbours. */
static bool read_mxfp4(const void *ctx, uint64_t first, size_t n, uint8_t *out) {
    const expert_source *s = ctx;
    mr_block_mxfp4 *block = (mr_block_mxfp4 *)out;
    uint64_t n_blocks = s->n_in / 32;
    bool finite = true;
    for (uint64_t row = first; row < first + n; row++) {
        uint64_t from = (row / s->n_out * s->n_out + output_of(s, row % s->n_out)) * n_blocks;
        for (uint64_t i = 0; i < n_blocks; i++, block++) {
            const uint8_t *pairs = s->values->data + (from + i) * 16;
            block->e = s->scales->data[from + i];
            finite &= block->e != 0xFF;
            for (int j = 0; j < 16; j++) {
                uint8_t low = pairs[j / 2], high = pairs[8 + j / 2];
                int shift = j % 2 * 4;
                block->qs[j] = (uint8_t)((low >> shift & 15) | (high >> shift & 15) << 4);
            }
        }
    }
    return finite;
}

static mr_status fail_shape(const mr_st_tensor *source, mr_error *err) {
    return mr_fail(err, MR_ERR_UNSUPPORTED,
                   "tensor %s has type %s and %u dimensions; experts are supported in F32, F16 and BF16 with 3 "
                   "dimensions and in MXFP4 blocks",
                   source->name, mr_st_dtype_name(source->dtype), source->n_dims);
}

/* X_scales of X_blocks. */
static mr_status find_scales(const mr_safetensors *st, expert_source *s, mr_error *err) {
    char name[256];
    const mr_st_tensor *blocks = s->values;
    size_t n = strlen(blocks->name), n_end = strlen("_blocks");
    if (n < n_end || n >= sizeof name || strcmp(blocks->name + n - n_end, "_blocks") != 0)
        return fail_shape(blocks, err);
    snprintf(name, sizeof name, "%.*s_scales", (int)(n - n_end), blocks->name);
    s->scales = mr_safetensors_find(st, name);
    if (s->scales == NULL || s->scales->dtype != MR_ST_U8 || s->scales->n_dims != 3 ||
        memcmp(s->scales->shape, blocks->shape, 3 * sizeof blocks->shape[0]) != 0)
        return mr_fail(err, MR_ERR_INVALID, "tensor %s has no scales %s that fit it", blocks->name, name);
    return MR_OK;
}

mr_status mr_hf_experts_tensor(const mr_safetensors *st, const mr_st_tensor *source, bool alternate, mr_arena *arena,
                               mr_gguf_tensor *tensor, mr_error *err) {
    static const struct {
        mr_st_dtype st;
        mr_dtype type;
        size_t n_bytes;
    } types[] = {{MR_ST_F32, MR_F32, 4}, {MR_ST_F16, MR_F16, 2}, {MR_ST_BF16, MR_BF16, 2}, {MR_ST_U8, MR_MXFP4, 0}};
    expert_source *s = mr_arena_calloc(arena, 1, sizeof *s);
    if (s == NULL) return mr_fail_nomem(err, sizeof *s, source->name);
    bool packed = source->dtype == MR_ST_U8;
    size_t known = 0, n_types = sizeof types / sizeof types[0];
    while (known < n_types && types[known].st != source->dtype) known++;
    if (known == n_types || source->n_dims != (packed ? 4u : 3u)) return fail_shape(source, err);
    for (uint32_t d = 0; d < source->n_dims; d++) {
        if (source->shape[d] == 0) return mr_fail(err, MR_ERR_INVALID, "tensor %s is empty", source->name);
    }
    *s = (expert_source){.values = source, .alternate = alternate, .value_bytes = types[known].n_bytes};
    s->n_out = source->shape[packed ? 1 : 2];
    s->n_in = packed ? 32 * source->shape[2] : source->shape[1]; /* bounded by the file's size */
    if ((packed && source->shape[3] != 16) || (alternate && s->n_out % 2 != 0)) return fail_shape(source, err);
    mr_status status = packed ? find_scales(st, s, err) : MR_OK;
    size_t row_bytes = 0;
    mr_dtype_row_bytes(mr_dtype_find((uint32_t)types[known].type), s->n_in, &row_bytes);
    tensor->type = (uint32_t)types[known].type;
    tensor->n_dims = 3;
    tensor->shape[0] = s->n_in;
    tensor->shape[1] = s->n_out;
    tensor->shape[2] = source->shape[0];
    tensor->n_bytes = (size_t)(s->n_out * source->shape[0]) * row_bytes;
    tensor->read = packed ? read_mxfp4 : read_floats;
    tensor->read_ctx = s;
    return status;
}

mr_status mr_hf_experts_bias(const mr_st_tensor *source, uint32_t first, mr_arena *arena, mr_gguf_tensor *tensor,
                             mr_error *err) {
    bool whole = source->dtype == MR_ST_F32;
    size_t size = whole ? 4 : 2;
    if ((!whole && source->dtype != MR_ST_F16 && source->dtype != MR_ST_BF16) || source->n_dims != 2 ||
        source->shape[1] == 0 || source->shape[1] % 2 != 0)
        return mr_fail(err, MR_ERR_UNSUPPORTED, "tensor %s of type %s is no pair of biases for each expert's output",
                       source->name, mr_st_dtype_name(source->dtype));
    uint64_t n = source->shape[0] * source->shape[1] / 2;
    uint8_t *copy = mr_arena_alloc(arena, (size_t)n * size + 1);
    if (copy == NULL) return mr_fail_nomem(err, (size_t)n * size, source->name);
    for (uint64_t i = 0; i < n; i++) memcpy(copy + i * size, source->data + (2 * i + first) * size, size);
    tensor->type = (uint32_t)(whole ? MR_F32 : source->dtype == MR_ST_F16 ? MR_F16 : MR_BF16);
    tensor->n_dims = 2;
    tensor->shape[0] = source->shape[1] / 2;
    tensor->shape[1] = source->shape[0];
    tensor->data = copy;
    tensor->n_bytes = (size_t)n * size;
    return MR_OK;
}

bool mr_hf_experts_drop(const mr_safetensors *st, const mr_gguf_tensor *tensor) {
    if (tensor->read != read_floats && tensor->read != read_mxfp4) return false;
    const expert_source *s = tensor->read_ctx;
    mr_safetensors_drop_pages(st, s->values->data, s->values->n_bytes);
    return true;
}
