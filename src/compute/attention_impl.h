/* Attention over paged KV, written once over vec16.h and compiled for each instruction set. The including file defines
 * MR_ATTENTION_KERNELS, the name of the table. */
#include "compute/attention_kernels.h"
#include "compute/vec16.h"

#include <stddef.h>

enum { LANES = 16, BLOCK_VECS = MR_KV_BLOCK / LANES, Q8_GROUP = 32 };

/* Rows worked on in registers: two accumulators for each row, within the registers that the instruction set has. */
#if defined(__AVX512F__)
enum { TILE = 8 };
#else
enum { TILE = 4 };
#endif
enum { TILE_MAX = 8 };

/* ---- storing ------------------------------------------------------------------------------------------------------
 */

static float group_scale(const float *x, uint32_t n) {
    float amax = 0.0f;
    for (uint32_t i = 0; i < n; i++) amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    return mr_f16_to_f32(mr_f32_to_f16(amax / 127.0f));
}

/* Values are [dim][block] when `transposed` (keys), [block][dim] otherwise; scales follow, [group][block]. */
static void store_q8(uint8_t *piece, uint32_t dim, uint32_t at, const float *x, bool transposed) {
    int8_t *q = (int8_t *)piece;
    uint16_t *scales = (uint16_t *)(void *)(piece + (size_t)dim * MR_KV_BLOCK);
    for (uint32_t g = 0; g < dim; g += Q8_GROUP) {
        uint32_t n = dim - g < Q8_GROUP ? dim - g : Q8_GROUP;
        float scale = group_scale(x + g, n);
        float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
        scales[g / Q8_GROUP * MR_KV_BLOCK + at] = mr_f32_to_f16(scale);
        for (uint32_t d = g; d < g + n; d++) {
            float v = rintf(x[d] * inverse);
            v = v > 127.0f ? 127.0f : v < -127.0f ? -127.0f : v;
            q[transposed ? d * MR_KV_BLOCK + at : at * dim + d] = (int8_t)v;
        }
    }
}

static void kv_store(const mr_kv_layout *layout, uint8_t *piece, uint32_t at, const float *key, const float *value) {
    uint32_t dk = layout->head_dim_k, dv = layout->head_dim_v;
    uint8_t *values = piece + layout->value_offset;
    if (layout->type == MR_KV_F32) {
        float *k = (float *)(void *)piece, *v = (float *)(void *)values + (size_t)at * dv;
        for (uint32_t d = 0; d < dk; d++) k[d * MR_KV_BLOCK + at] = key[d];
        memcpy(v, value, dv * sizeof *v);
    } else if (layout->type == MR_KV_F16) {
        uint16_t *k = (uint16_t *)(void *)piece, *v = (uint16_t *)(void *)values + (size_t)at * dv;
        uint16_t half[LANES];
        uint32_t d = 0;
        for (; d + LANES <= dk; d += LANES) {
            vf_store_f16(half, vf_load(key + d));
            for (uint32_t i = 0; i < LANES; i++) k[(d + i) * MR_KV_BLOCK + at] = half[i];
        }
        for (; d < dk; d++) k[d * MR_KV_BLOCK + at] = mr_f32_to_f16(key[d]);
        for (d = 0; d + LANES <= dv; d += LANES) vf_store_f16(v + d, vf_load(value + d));
        for (; d < dv; d++) v[d] = mr_f32_to_f16(value[d]);
    } else {
        store_q8(piece, dk, at, key, true);
        store_q8(values, dv, at, value, false);
    }
}

/* ---- reading a block as floats --------------------------------------------------------------------------------------
 */

/* The scratch of one call, laid out as mr_attention_scratch() sizes it. */
typedef struct scratch {
    float *k;      /* [dk][MR_KV_BLOCK] */
    float *v;      /* [MR_KV_BLOCK][dv16] */
    float *q;      /* [rows][dk] */
    float *out;    /* [rows][dv16] */
    float *scores; /* [rows][MR_KV_BLOCK] */
    float *sums;   /* [rows][LANES] */
    float *maxima; /* [rows] */
    uint32_t dv16; /* dv rounded up to the lanes */
} scratch;

static scratch lay_out(const mr_attention_args *args, size_t rows) {
    uint32_t dk = args->pool->layout.head_dim_k, dv16 = (args->pool->layout.head_dim_v + LANES - 1) / LANES * LANES;
    scratch s = {.k = (float *)(((uintptr_t)args->scratch + 63) / 64 * 64), .dv16 = dv16};
    s.v = s.k + (size_t)((dk + LANES - 1) / LANES * LANES) * MR_KV_BLOCK;
    s.out = s.v + (size_t)dv16 * MR_KV_BLOCK;
    s.scores = s.out + rows * dv16;
    s.sums = s.scores + rows * MR_KV_BLOCK;
    s.maxima = s.sums + rows * LANES;
    s.q = s.maxima + rows;
    return s;
}

static void read_f16(const uint16_t *src, float *dst, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vf_store(dst + i, vf_load_f16(src + i));
    for (; i < n; i++) dst[i] = mr_f16_to_f32(src[i]);
}

static void read_q8_keys(const uint8_t *piece, uint32_t dk, float *dst) {
    const int8_t *q = (const int8_t *)piece;
    const uint16_t *scales = (const uint16_t *)(const void *)(piece + (size_t)dk * MR_KV_BLOCK);
    float scale[MR_KV_BLOCK];
    for (uint32_t d = 0; d < dk; d++) {
        if (d % Q8_GROUP == 0) read_f16(scales + d / Q8_GROUP * MR_KV_BLOCK, scale, MR_KV_BLOCK);
        for (uint32_t j = 0; j < MR_KV_BLOCK; j++) dst[d * MR_KV_BLOCK + j] = (float)q[d * MR_KV_BLOCK + j] * scale[j];
    }
}

static void read_q8_values(const uint8_t *piece, uint32_t dv, float *dst, uint32_t stride) {
    const int8_t *q = (const int8_t *)piece;
    const uint16_t *scales = (const uint16_t *)(const void *)(piece + (size_t)dv * MR_KV_BLOCK);
    for (uint32_t j = 0; j < MR_KV_BLOCK; j++) {
        for (uint32_t g = 0; g < dv; g += Q8_GROUP) {
            float scale = mr_f16_to_f32(scales[g / Q8_GROUP * MR_KV_BLOCK + j]);
            for (uint32_t d = g; d < dv && d < g + Q8_GROUP; d++) {
                dst[(size_t)j * stride + d] = (float)q[(size_t)j * dv + d] * scale;
            }
        }
    }
}

/* Reads a piece into s->k and s->v. Positions that were never written hold any bits: they are never used (see n_valid).
 */
static void read_block(const mr_kv_layout *layout, const uint8_t *piece, const scratch *s) {
    uint32_t dk = layout->head_dim_k, dv = layout->head_dim_v;
    const uint8_t *values = piece + layout->value_offset;
    if (layout->type == MR_KV_F32) {
        memcpy(s->k, piece, (size_t)dk * MR_KV_BLOCK * sizeof(float));
        for (uint32_t j = 0; j < MR_KV_BLOCK; j++) {
            memcpy(s->v + (size_t)j * s->dv16, values + (size_t)j * dv * sizeof(float), dv * sizeof(float));
        }
    } else if (layout->type == MR_KV_F16) {
        read_f16((const uint16_t *)(const void *)piece, s->k, (size_t)dk * MR_KV_BLOCK);
        const uint16_t *v = (const uint16_t *)(const void *)values;
        if (dv == s->dv16)
            read_f16(v, s->v, (size_t)dv * MR_KV_BLOCK);
        else
            for (uint32_t j = 0; j < MR_KV_BLOCK; j++) read_f16(v + (size_t)j * dv, s->v + (size_t)j * s->dv16, dv);
    } else {
        read_q8_keys(piece, dk, s->k);
        read_q8_values(values, dv, s->v, s->dv16);
    }
}

/* ---- one tile of rows against one block ---------------------------------------------------------------------------
 */

static inline __attribute__((always_inline)) void tile_scores(const float *k, uint32_t dk, const float *q,
                                                              float *scores, const int n) {
    vf16 acc[TILE_MAX][BLOCK_VECS];
    for (int r = 0; r < n; r++) {
        for (int i = 0; i < BLOCK_VECS; i++) acc[r][i] = vf_set1(0.0f);
    }
    for (uint32_t d = 0; d < dk; d++) {
        vf16 k0 = vf_load(k + (size_t)d * MR_KV_BLOCK), k1 = vf_load(k + (size_t)d * MR_KV_BLOCK + LANES);
        for (int r = 0; r < n; r++) {
            vf16 x = vf_set1(q[(size_t)r * dk + d]);
            acc[r][0] = vf_fma(x, k0, acc[r][0]);
            acc[r][1] = vf_fma(x, k1, acc[r][1]);
        }
    }
    for (int r = 0; r < n; r++) {
        for (int i = 0; i < BLOCK_VECS; i++) vf_store(scores + r * MR_KV_BLOCK + i * LANES, acc[r][i]);
    }
}

/* out[r] += sum_j p[r][j] v[j], j from lo to hi-1, two vectors of dimensions at a time. */
static inline __attribute__((always_inline)) void tile_values(const float *v, uint32_t dv16, const float *p, float *out,
                                                              uint32_t lo, uint32_t hi, const int n) {
    uint32_t d = 0;
    for (; d + 2 * LANES <= dv16; d += 2 * LANES) {
        vf16 acc[TILE_MAX][2];
        for (int r = 0; r < n; r++) {
            acc[r][0] = vf_load(out + (size_t)r * dv16 + d);
            acc[r][1] = vf_load(out + (size_t)r * dv16 + d + LANES);
        }
        for (uint32_t j = lo; j < hi; j++) {
            vf16 v0 = vf_load(v + (size_t)j * dv16 + d), v1 = vf_load(v + (size_t)j * dv16 + d + LANES);
            for (int r = 0; r < n; r++) {
                vf16 x = vf_set1(p[r * MR_KV_BLOCK + j]);
                acc[r][0] = vf_fma(x, v0, acc[r][0]);
                acc[r][1] = vf_fma(x, v1, acc[r][1]);
            }
        }
        for (int r = 0; r < n; r++) {
            vf_store(out + (size_t)r * dv16 + d, acc[r][0]);
            vf_store(out + (size_t)r * dv16 + d + LANES, acc[r][1]);
        }
    }
    for (; d < dv16; d += LANES) {
        for (int r = 0; r < n; r++) {
            vf16 acc = vf_load(out + (size_t)r * dv16 + d);
            for (uint32_t j = lo; j < hi; j++) {
                acc = vf_fma(vf_set1(p[r * MR_KV_BLOCK + j]), vf_load(v + (size_t)j * dv16 + d), acc);
            }
            vf_store(out + (size_t)r * dv16 + d, acc);
        }
    }
}

/* Turns one row's scores into weights, positions outside of [lo, hi) into 0, and updates its running maximum and sums.
 */
static void softmax_row(const mr_attention_args *args, const scratch *s, size_t row, uint32_t lo, uint32_t hi) {
    float *score = s->scores + row * MR_KV_BLOCK;
    if (args->softcap > 0.0f) {
        /* cap * tanh(x / cap), tanh through exp: 1 - 2 / (e^{2x} + 1) */
        for (int i = 0; i < BLOCK_VECS; i++) {
            vf16 e = vf_exp(vf_mul(vf_load(score + i * LANES), vf_set1(2.0f / args->softcap)));
            vf16 t = vf_sub(vf_set1(1.0f), vf_div(vf_set1(2.0f), vf_add(e, vf_set1(1.0f))));
            vf_store(score + i * LANES, vf_mul(t, vf_set1(args->softcap)));
        }
    }
    for (uint32_t j = 0; j < lo; j++) score[j] = -INFINITY;
    for (uint32_t j = hi; j < MR_KV_BLOCK; j++) score[j] = -INFINITY;
    vf16 s0 = vf_load(score), s1 = vf_load(score + LANES);
    float max = vf_max_lane(vf_max(s0, s1));
    float old = s->maxima[row];
    vf16 sums = vf_load(s->sums + row * LANES);
    if (max > old) {
        float rescale[LANES];
        vf_store(rescale, vf_exp(vf_set1(old - max)));
        vf16 factor = vf_set1(old == -INFINITY ? 0.0f : rescale[0]);
        float *out = s->out + row * s->dv16;
        for (uint32_t d = 0; d < s->dv16; d += LANES) vf_store(out + d, vf_mul(vf_load(out + d), factor));
        sums = vf_mul(sums, factor);
        s->maxima[row] = old = max;
    }
    vf16 p0 = vf_exp(vf_sub(s0, vf_set1(old))), p1 = vf_exp(vf_sub(s1, vf_set1(old)));
    vf_store(score, p0);
    vf_store(score + LANES, p1);
    vf_store(s->sums + row * LANES, vf_add(sums, vf_add(p0, p1)));
}

/* Rows first .. first+n-1 (n <= TILE) against block number b; rows whose positions do not meet the block have been left
 * out by the caller where possible, and get weight 0 here otherwise. */
static void tile_block(const mr_attention_args *args, const scratch *s, uint32_t b, uint32_t token0, size_t first,
                       int n) {
    const mr_kv_layout *layout = &args->pool->layout;
    uint32_t block_begin = b * MR_KV_BLOCK;
    uint32_t tile_lo = MR_KV_BLOCK, tile_hi = 0, row_lo[TILE], row_hi[TILE];
    for (int r = 0; r < n; r++) {
        uint32_t pos = args->pos0 + token0 + (uint32_t)(first + (size_t)r) / args->n_group;
        uint32_t begin = args->window > 0 && pos + 1 > args->window ? pos + 1 - args->window : 0;
        row_lo[r] = begin > block_begin ? begin - block_begin : 0;
        row_hi[r] = pos < block_begin ? 0 : pos - block_begin + 1 < MR_KV_BLOCK ? pos - block_begin + 1 : MR_KV_BLOCK;
        if (row_lo[r] >= row_hi[r]) continue;
        tile_lo = row_lo[r] < tile_lo ? row_lo[r] : tile_lo;
        tile_hi = row_hi[r] > tile_hi ? row_hi[r] : tile_hi;
    }
    if (tile_lo >= tile_hi) return;
    const float *q = s->q + first * layout->head_dim_k;
    float *scores = s->scores + first * MR_KV_BLOCK, *out = s->out + first * s->dv16;
    /* Constant row counts let the compiler keep the tile in registers. */
    switch (n) {
    case 8:
        tile_scores(s->k, layout->head_dim_k, q, scores, 8);
        break;
    case 4:
        tile_scores(s->k, layout->head_dim_k, q, scores, 4);
        break;
    case 2:
        tile_scores(s->k, layout->head_dim_k, q, scores, 2);
        break;
    case 1:
        tile_scores(s->k, layout->head_dim_k, q, scores, 1);
        break;
    default:
        tile_scores(s->k, layout->head_dim_k, q, scores, n);
        break;
    }
    for (int r = 0; r < n; r++) {
        if (row_lo[r] < row_hi[r])
            softmax_row(args, s, first + (size_t)r, row_lo[r], row_hi[r]);
        else
            memset(scores + r * MR_KV_BLOCK, 0, MR_KV_BLOCK * sizeof *scores);
    }
    switch (n) {
    case 8:
        tile_values(s->v, s->dv16, scores, out, tile_lo, tile_hi, 8);
        break;
    case 4:
        tile_values(s->v, s->dv16, scores, out, tile_lo, tile_hi, 4);
        break;
    case 2:
        tile_values(s->v, s->dv16, scores, out, tile_lo, tile_hi, 2);
        break;
    case 1:
        tile_values(s->v, s->dv16, scores, out, tile_lo, tile_hi, 1);
        break;
    default:
        tile_values(s->v, s->dv16, scores, out, tile_lo, tile_hi, n);
        break;
    }
}

/* Copies the scaled queries of n_tokens tokens and clears the running state. */
static void begin_rows(const mr_attention_args *args, const scratch *s, uint32_t token0, uint32_t n_tokens) {
    uint32_t dk = args->pool->layout.head_dim_k;
    for (uint32_t t = 0; t < n_tokens; t++) {
        for (uint32_t g = 0; g < args->n_group; g++) {
            size_t row = (size_t)t * args->n_group + g;
            const float *q = args->q + (token0 + t) * args->q_stride + (size_t)g * dk;
            for (uint32_t d = 0; d < dk; d++) s->q[row * dk + d] = q[d] * args->scale;
            s->maxima[row] = args->sinks != NULL ? args->sinks[g] : -INFINITY;
            memset(s->sums + row * LANES, 0, LANES * sizeof(float));
            if (args->sinks != NULL) s->sums[row * LANES] = 1.0f; /* e^(sink - maximum) */
            memset(s->out + row * s->dv16, 0, s->dv16 * sizeof(float));
        }
    }
}

static void finish_rows(const mr_attention_args *args, const scratch *s, uint32_t token0, uint32_t n_tokens) {
    uint32_t dv = args->pool->layout.head_dim_v;
    for (uint32_t t = 0; t < n_tokens; t++) {
        for (uint32_t g = 0; g < args->n_group; g++) {
            size_t row = (size_t)t * args->n_group + g;
            float inverse = 1.0f / vf_sum(vf_load(s->sums + row * LANES));
            float *out = args->out + (token0 + t) * args->out_stride + (size_t)g * dv;
            for (uint32_t d = 0; d < dv; d++) out[d] = s->out[row * s->dv16 + d] * inverse;
        }
    }
}

static void attention(const mr_attention_args *args) {
    size_t max_rows = mr_attention_rows(args->n_group);
    scratch s = lay_out(args, max_rows);
    uint32_t tokens_at_once = (uint32_t)(max_rows / args->n_group);
    /* The padding of short value vectors is multiplied, so it must not hold NaN. */
    if (s.dv16 != args->pool->layout.head_dim_v) memset(s.v, 0, (size_t)s.dv16 * MR_KV_BLOCK * sizeof(float));
    for (uint32_t token0 = 0; token0 < args->n_tokens; token0 += tokens_at_once) {
        uint32_t n_tokens = args->n_tokens - token0 < tokens_at_once ? args->n_tokens - token0 : tokens_at_once;
        size_t n_rows = (size_t)n_tokens * args->n_group;
        begin_rows(args, &s, token0, n_tokens);
        uint32_t first_pos = args->pos0 + token0, last_pos = first_pos + n_tokens - 1;
        uint32_t b =
            args->window > 0 && first_pos + 1 > args->window ? (first_pos + 1 - args->window) / MR_KV_BLOCK : 0;
        for (; b <= last_pos / MR_KV_BLOCK; b++) {
            const uint8_t *piece = mr_kv_piece(args->pool, args->blocks[b], args->layer, args->head_kv);
            read_block(&args->pool->layout, piece, &s);
            for (size_t row = 0; row < n_rows; row += TILE) {
                tile_block(args, &s, b, token0, row, (int)(n_rows - row < TILE ? n_rows - row : TILE));
            }
        }
        finish_rows(args, &s, token0, n_tokens);
    }
}

const mr_attention_kernels MR_ATTENTION_KERNELS = {.store = kv_store, .attention = attention};
