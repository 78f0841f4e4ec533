/* Weights stored as floats, with NEON. Each sum is one chain over k; the quarters of a panel and two tokens run side by
 * side to hide the latency. */
#include "compute/matrix_neon.h"

typedef enum float_kind { KIND_F32, KIND_F16, KIND_BF16 } float_kind;

/* 4 rows for one step in k (bf16: two values, the first in w[0]). */
ALWAYS_INLINE void load_step(float_kind kind, const uint8_t *panel, size_t i, size_t quarter, float32x4_t w[2]) {
    if (kind == KIND_F16) {
        w[0] = load_halves(panel + 32 * i + 8 * quarter);
    } else if (kind == KIND_F32) {
        w[0] = vld1q_f32((const float *)(panel + 64 * i + 16 * quarter));
    } else {
        uint32x4_t bits = vld1q_u32((const uint32_t *)(panel + 64 * i + 16 * quarter));
        w[0] = vreinterpretq_f32_u32(vshlq_n_u32(bits, 16));
        w[1] = vreinterpretq_f32_u32(vandq_u32(bits, vdupq_n_u32(0xFFFF0000u)));
    }
}

ALWAYS_INLINE void load_token(float_kind kind, const uint8_t *x, size_t i, float v[2]) {
    if (kind != KIND_BF16) {
        memcpy(v, x + 4 * i, 4);
        return;
    }
    uint32_t pair;
    memcpy(&pair, x + 4 * i, 4);
    uint32_t first = pair << 16, second = pair & 0xFFFF0000u;
    memcpy(&v[0], &first, 4);
    memcpy(&v[1], &second, 4);
}

ALWAYS_INLINE float32x4_t add_step(float_kind kind, float32x4_t sum, const float32x4_t w[2], const float v[2]) {
    if (kind == KIND_BF16) sum = vfmaq_n_f32(sum, w[1], v[1]);
    return vfmaq_n_f32(sum, w[0], v[0]);
}

/* A panel with n (1 or 2) tokens. */
ALWAYS_INLINE void add_tokens(float_kind kind, const uint8_t *panel, size_t n_steps, const uint8_t *const *x, size_t n,
                              float *out) {
    float32x4_t sum[2][4];
    for (size_t t = 0; t < n; t++) {
        for (size_t quarter = 0; quarter < 4; quarter++) sum[t][quarter] = vdupq_n_f32(0.0f);
    }
    for (size_t i = 0; i < n_steps; i++) {
        float v[2][2];
        for (size_t t = 0; t < n; t++) load_token(kind, x[t], i, v[t]);
        for (size_t quarter = 0; quarter < 4; quarter++) {
            float32x4_t w[2];
            load_step(kind, panel, i, quarter, w);
            for (size_t t = 0; t < n; t++) sum[t][quarter] = add_step(kind, sum[t][quarter], w, v[t]);
        }
    }
    for (size_t t = 0; t < n; t++) {
        for (size_t quarter = 0; quarter < 4; quarter++) vst1q_f32(out + 16 * t + 4 * quarter, sum[t][quarter]);
    }
}

ALWAYS_INLINE void float_tile(float_kind kind, const mr_tile *tile) {
    size_t n_steps = kind == KIND_BF16 ? (tile->n_in + 1) / 2 : tile->n_in;
    for (size_t p = 0; p < tile->n_panels; p++) {
        const uint8_t *panel = tile->panels + p * tile->step;
        float *out = tile->out + p * tile->n_tokens * 16;
        size_t t = 0;
        for (; t + 2 <= tile->n_tokens; t += 2) add_tokens(kind, panel, n_steps, tile->x + t, 2, out + 16 * t);
        if (t < tile->n_tokens) add_tokens(kind, panel, n_steps, tile->x + t, 1, out + 16 * t);
    }
}

void mr_tile_f32_neon(const mr_tile *tile) {
    float_tile(KIND_F32, tile);
}

void mr_tile_f16_neon(const mr_tile *tile) {
    float_tile(KIND_F16, tile);
}

/* With subnormal numbers as zero, as the definition has them. */
void mr_tile_bf16_neon(const mr_tile *tile) {
    enum { FLUSH_TO_ZERO = 1 << 24 };
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | FLUSH_TO_ZERO) : "memory");
    float_tile(KIND_BF16, tile);
    __asm__ volatile("msr fpcr, %0" : : "r"(before) : "memory");
}
