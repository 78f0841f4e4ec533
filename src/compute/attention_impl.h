/* Attention over paged KV, written once over vec16.h and compiled for each instruction set. The including file defines
 * MR_ATTENTION_KERNELS, the name of the table. */
#include "compute/attention_kernels.h"
#include "compute/vec16.h"

#include <stdbool.h>
#include <stddef.h>

enum { LANES = 16, BLOCK_VECS = MR_KV_BLOCK / LANES, Q8_GROUP = 32 };

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Rows worked on in registers: two accumulators for each row, within the registers that the instruction set has. */
#if defined(__AVX512F__)
enum { TILE = 8 };
#elif defined(__AVX2__)
enum { TILE = 2 };
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

/* Sixteen stored values, number i and on; q8_0 without their scales. */
ALWAYS_INLINE vf16 load_stored(mr_kv_type type, const uint8_t *data, size_t i) {
    if (type == MR_KV_F32) return vf_load((const float *)(const void *)data + i);
    if (type == MR_KV_F16) return vf_load_f16((const uint16_t *)(const void *)data + i);
    return vf_load_i8((const int8_t *)data + i);
}

static const uint16_t *q8_scales(const uint8_t *values, uint32_t dim) {
    return (const uint16_t *)(const void *)(values + (size_t)dim * MR_KV_BLOCK);
}

static void read_q8_keys(const uint8_t *piece, uint32_t dk, float *dst) {
    const uint16_t *scales = q8_scales(piece, dk);
    for (uint32_t d = 0; d < dk; d++) {
        for (uint32_t j = 0; j < MR_KV_BLOCK; j += LANES) {
            size_t i = (size_t)d * MR_KV_BLOCK + j;
            vf16 scale = vf_load_f16(scales + d / Q8_GROUP * MR_KV_BLOCK + j);
            vf_store(dst + i, vf_mul(load_stored(MR_KV_Q8_0, piece, i), scale));
        }
    }
}

static void read_q8_values(const uint8_t *piece, uint32_t dv, float *dst, uint32_t stride) {
    const int8_t *q = (const int8_t *)piece;
    const uint16_t *scales = q8_scales(piece, dv);
    for (uint32_t g = 0; g < dv; g += Q8_GROUP) {
        uint32_t end = dv - g < Q8_GROUP ? dv : g + Q8_GROUP;
        float scale[MR_KV_BLOCK];
        read_f16(scales + g / Q8_GROUP * MR_KV_BLOCK, scale, MR_KV_BLOCK);
        for (size_t j = 0; j < MR_KV_BLOCK; j++) {
            uint32_t d = g;
            for (; d + LANES <= end; d += LANES)
                vf_store(dst + j * stride + d, vf_mul(vf_load_i8(q + j * dv + d), vf_set1(scale[j])));
            for (; d < end; d++) dst[j * stride + d] = (float)q[j * dv + d] * scale[j];
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

/* What a tile reads of a block: as it is stored, or as floats in the scratch. */
typedef struct block_view {
    const uint8_t *keys, *values; /* of a type that the functions get as a constant */
    uint32_t dk, dv;              /* dv: values of a row, padding included */
    const char *ahead;            /* memory to ask for meanwhile, ahead_step bytes in each round of a loop */
    size_t ahead_step;
} block_view;

/* Constant types and row counts (n) let the compiler keep a tile in registers. */
ALWAYS_INLINE void tile_scores(mr_kv_type type, const block_view *b, const float *q, float *scores, const int n) {
    vf16 acc[TILE_MAX][BLOCK_VECS], scale[BLOCK_VECS] = {vf_set1(0.0f), vf_set1(0.0f)};
    for (int r = 0; r < n; r++) {
        for (int i = 0; i < BLOCK_VECS; i++) acc[r][i] = vf_set1(0.0f);
    }
    for (uint32_t d = 0; d < b->dk; d++) {
        vf16 k0 = load_stored(type, b->keys, (size_t)d * MR_KV_BLOCK);
        vf16 k1 = load_stored(type, b->keys, (size_t)d * MR_KV_BLOCK + LANES);
        __builtin_prefetch(b->ahead + d * b->ahead_step);
        if (type == MR_KV_Q8_0) {
            if (d % Q8_GROUP == 0) {
                const uint16_t *scales = q8_scales(b->keys, b->dk) + d / Q8_GROUP * MR_KV_BLOCK;
                scale[0] = vf_load_f16(scales), scale[1] = vf_load_f16(scales + LANES);
            }
            k0 = vf_mul(k0, scale[0]), k1 = vf_mul(k1, scale[1]);
        }
        for (int r = 0; r < n; r++) {
            vf16 x = vf_set1(q[(size_t)r * b->dk + d]);
            acc[r][0] = vf_fma(x, k0, acc[r][0]);
            acc[r][1] = vf_fma(x, k1, acc[r][1]);
        }
    }
    for (int r = 0; r < n; r++) {
        for (int i = 0; i < BLOCK_VECS; i++) vf_store(scores + r * MR_KV_BLOCK + i * LANES, acc[r][i]);
    }
}

/* out[r] += sum_j p[r][j] v[j], j from lo to hi-1, two vectors of dimensions at a time; a single last one only in
 * floats. */
ALWAYS_INLINE void tile_values(mr_kv_type type, const block_view *b, const float *p, float *out, uint32_t lo,
                               uint32_t hi, const int n) {
    uint32_t d = 0, dv = b->dv;
    for (; d + 2 * LANES <= dv; d += 2 * LANES) {
        vf16 acc[TILE_MAX][2];
        float scale[MR_KV_BLOCK];
        const char *ahead = b->ahead + (b->dk + d) * b->ahead_step;
        if (type == MR_KV_Q8_0) read_f16(q8_scales(b->values, dv) + d / Q8_GROUP * MR_KV_BLOCK, scale, MR_KV_BLOCK);
        for (int r = 0; r < n; r++) {
            acc[r][0] = vf_load(out + (size_t)r * dv + d);
            acc[r][1] = vf_load(out + (size_t)r * dv + d + LANES);
        }
        for (uint32_t j = lo; j < hi; j++) {
            vf16 v0 = load_stored(type, b->values, (size_t)j * dv + d);
            vf16 v1 = load_stored(type, b->values, (size_t)j * dv + d + LANES);
            __builtin_prefetch(ahead + j * b->ahead_step);
            if (type == MR_KV_Q8_0) v0 = vf_mul(v0, vf_set1(scale[j])), v1 = vf_mul(v1, vf_set1(scale[j]));
            for (int r = 0; r < n; r++) {
                vf16 x = vf_set1(p[r * MR_KV_BLOCK + j]);
                acc[r][0] = vf_fma(x, v0, acc[r][0]);
                acc[r][1] = vf_fma(x, v1, acc[r][1]);
            }
        }
        for (int r = 0; r < n; r++) {
            vf_store(out + (size_t)r * dv + d, acc[r][0]);
            vf_store(out + (size_t)r * dv + d + LANES, acc[r][1]);
        }
    }
    if (type != MR_KV_F32 || d == dv) return;
    for (int r = 0; r < n; r++) {
        vf16 acc = vf_load(out + (size_t)r * dv + d);
        for (uint32_t j = lo; j < hi; j++) {
            acc = vf_fma(vf_set1(p[r * MR_KV_BLOCK + j]), load_stored(type, b->values, (size_t)j * dv + d), acc);
        }
        vf_store(out + (size_t)r * dv + d, acc);
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

/* Positions [lo, hi) of a block that a row sees; none when lo >= hi. */
typedef struct span {
    uint32_t lo, hi;
} span;

/* All positions that the query at position pos sees. */
static span seen_from(const mr_attention_args *args, uint32_t pos) {
    uint32_t window = args->window, n = args->n_text, half = window > 0 ? window / 2 : n;
    if (n == 0) return (span){window > 0 && pos + 1 > window ? pos + 1 - window : 0, pos + 1};
    return (span){pos > half ? pos - half : 0, half < n - 1 - pos ? pos + half + 1 : n};
}

static span row_span(const mr_attention_args *args, uint32_t block_begin, uint32_t token) {
    span seen = seen_from(args, args->pos0 + token), s = {0, 0};
    if (seen.lo > block_begin) s.lo = seen.lo - block_begin;
    if (seen.hi > block_begin) s.hi = seen.hi - block_begin < MR_KV_BLOCK ? seen.hi - block_begin : MR_KV_BLOCK;
    return s;
}

/* n rows, whose scratch begins at row `first`, against a block. Rows that see nothing of it get weights of 0. */
ALWAYS_INLINE void tile_rows(mr_kv_type type, const mr_attention_args *args, const scratch *s, const block_view *b,
                             size_t first, const span *spans, span all, const int n) {
    float *scores = s->scores + first * MR_KV_BLOCK;
    tile_scores(type, b, s->q + first * b->dk, scores, n);
    for (int r = 0; r < n; r++) {
        if (spans[r].lo < spans[r].hi)
            softmax_row(args, s, first + (size_t)r, spans[r].lo, spans[r].hi);
        else
            memset(scores + r * MR_KV_BLOCK, 0, MR_KV_BLOCK * sizeof *scores);
    }
    tile_values(type, b, scores, s->out + first * b->dv, all.lo, all.hi, n);
}

/* Rows first .. first+n-1 (n <= TILE) against block number `block`. */
ALWAYS_INLINE void tile_block(mr_kv_type type, const mr_attention_args *args, const scratch *s, const block_view *b,
                              uint32_t block, uint32_t token0, size_t first, int n) {
    span spans[TILE], all = {MR_KV_BLOCK, 0};
    for (int r = 0; r < n; r++) {
        uint32_t token = token0 + (uint32_t)(first + (size_t)r) / args->n_group;
        spans[r] = row_span(args, block * MR_KV_BLOCK, token);
        if (spans[r].lo >= spans[r].hi) continue;
        all.lo = spans[r].lo < all.lo ? spans[r].lo : all.lo;
        all.hi = spans[r].hi > all.hi ? spans[r].hi : all.hi;
    }
    if (all.lo >= all.hi) return;
    switch (n) {
    case 1:
        tile_rows(type, args, s, b, first, spans, all, 1);
        break;
    case 2:
        tile_rows(type, args, s, b, first, spans, all, 2);
        break;
#if !defined(__AVX2__) || defined(__AVX512F__)
    case 3:
        tile_rows(type, args, s, b, first, spans, all, 3);
        break;
    case 4:
        tile_rows(type, args, s, b, first, spans, all, 4);
        break;
#endif
#if defined(__AVX512F__)
    case 5:
        tile_rows(type, args, s, b, first, spans, all, 5);
        break;
    case 6:
        tile_rows(type, args, s, b, first, spans, all, 6);
        break;
    case 7:
        tile_rows(type, args, s, b, first, spans, all, 7);
        break;
    default:
        tile_rows(type, args, s, b, first, spans, all, 8);
        break;
#endif
    }
}

/* All rows against a block. */
ALWAYS_INLINE void rows_block(mr_kv_type type, const mr_attention_args *args, const scratch *s, block_view *b,
                              const uint8_t *next, uint32_t block, uint32_t token0, size_t n_rows) {
    size_t n_tiles = (n_rows + TILE - 1) / TILE, step = args->pool->layout.head_bytes / ((b->dk + b->dv) * n_tiles);
    b->ahead_step = step;
    for (size_t i = 0; i < n_tiles; i++) {
        size_t row = i * TILE;
        b->ahead = (const char *)next + i * (b->dk + b->dv) * step;
        tile_block(type, args, s, b, block, token0, row, (int)(n_rows - row < TILE ? n_rows - row : TILE));
    }
}

static void f32_block(const mr_attention_args *args, const scratch *s, block_view *b, const uint8_t *next,
                      uint32_t block, uint32_t token0, size_t n_rows) {
    rows_block(MR_KV_F32, args, s, b, next, block, token0, n_rows);
}

/* All rows against the block at `piece`, while what lies at `next` is asked for. */
static void any_block(const mr_attention_args *args, const scratch *s, const uint8_t *piece, const uint8_t *next,
                      uint32_t block, uint32_t token0, size_t n_rows) {
    const mr_kv_layout *layout = &args->pool->layout;
    block_view b = {
        .keys = piece, .values = piece + layout->value_offset, .dk = layout->head_dim_k, .dv = layout->head_dim_v};
    /* Few rows use each value once or so: they read it as it is stored. */
    bool direct = layout->head_dim_v % (2 * LANES) == 0 && (n_rows <= TILE_MAX || layout->type == MR_KV_F32);
    if (!direct) {
        read_block(layout, piece, s);
        b.keys = (const uint8_t *)s->k, b.values = (const uint8_t *)s->v, b.dv = s->dv16;
        f32_block(args, s, &b, next, block, token0, n_rows);
    } else if (layout->type == MR_KV_F16) {
        rows_block(MR_KV_F16, args, s, &b, next, block, token0, n_rows);
    } else if (layout->type == MR_KV_Q8_0) {
        rows_block(MR_KV_Q8_0, args, s, &b, next, block, token0, n_rows);
    } else {
        f32_block(args, s, &b, next, block, token0, n_rows);
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
        uint32_t first_pos = args->pos0 + token0, b = seen_from(args, first_pos).lo / MR_KV_BLOCK;
        uint32_t last = (seen_from(args, first_pos + n_tokens - 1).hi - 1) / MR_KV_BLOCK;
        for (; b <= last; b++) {
            uint32_t after = b < last ? b + 1 : b;
            any_block(args, &s, mr_kv_piece(args->pool, args->blocks[b], args->layer, args->head_kv),
                      mr_kv_piece(args->pool, args->blocks[after], args->layer, args->head_kv), b, token0, n_rows);
        }
        finish_rows(args, &s, token0, n_tokens);
    }
}

const mr_attention_kernels MR_ATTENTION_KERNELS = {.store = kv_store, .attention = attention};
