/* What the NEON kernels share. They take a panel as four quarters of 4 rows: 16 bytes of each vector. */
#ifndef MR_COMPUTE_MATRIX_NEON_H
#define MR_COMPUTE_MATRIX_NEON_H

#include "compute/matrix_impl.h"

#include <arm_neon.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE uint8x16_t load_bytes(const uint8_t *p) {
    return vld1q_u8(p);
}

ALWAYS_INLINE int8x16_t as_signed(uint8x16_t v) {
    return vreinterpretq_s8_u8(v);
}

/* Four halves as floats. */
ALWAYS_INLINE float32x4_t load_halves(const uint8_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

/* The quarter of n nibble vectors that begins at p as 2n vectors of bytes. */
ALWAYS_INLINE void load_nibbles(const uint8_t *p, int n, int8x16_t *w) {
    for (int i = 0; i < n; i++) {
        uint8x16_t v = load_bytes(p + 64 * i);
        w[2 * i] = as_signed(vandq_u8(v, vdupq_n_u8(15)));
        w[2 * i + 1] = as_signed(vshrq_n_u8(v, 4));
    }
}

/* w plus the bits `mask` of v shifted left (or right, when negative). */
ALWAYS_INLINE int8x16_t or_shifted(int8x16_t w, uint8x16_t v, int shift, uint8_t mask) {
    uint8x16_t bits = vandq_u8(vshlq_u8(v, vdupq_n_s8((int8_t)shift)), vdupq_n_u8(mask));
    return vorrq_s8(w, as_signed(bits));
}

/* A vector of fifth bits and 4 nibble vectors as 8 vectors of bytes. */
ALWAYS_INLINE void load_five_bits(const uint8_t *p, int8x16_t w[8]) {
    uint8x16_t fifth = load_bytes(p);
    load_nibbles(p + 64, 4, w);
    for (int i = 0; i < 8; i++) w[i] = or_shifted(w[i], fifth, 4 - i, 16);
}

ALWAYS_INLINE void load_two_bits(const uint8_t *p, int8x16_t w[4]) {
    uint8x16_t v = load_bytes(p);
    for (int i = 0; i < 4; i++) w[i] = as_signed(vandq_u8(vshlq_u8(v, vdupq_n_s8((int8_t)(-2 * i))), vdupq_n_u8(3)));
}

/* Three vectors of 6-bit numbers as four of bytes. */
ALWAYS_INLINE void load_six_bits(const uint8_t *p, int8x16_t v[4]) {
    uint8x16_t a = load_bytes(p), b = load_bytes(p + 64), c = load_bytes(p + 128);
    const uint8x16_t low6 = vdupq_n_u8(63);
    v[0] = as_signed(vandq_u8(a, low6));
    v[1] = as_signed(vandq_u8(b, low6));
    v[2] = as_signed(vandq_u8(c, low6));
    v[3] = or_shifted(or_shifted(as_signed(vshrq_n_u8(a, 6)), b, -4, 0x0C), c, -2, 0x30);
}

/* n nibble vectors of indices as 2n vectors of levels. */
ALWAYS_INLINE void load_levels(const uint8_t *p, int n, int8x16_t levels, int8x16_t *w) {
    load_nibbles(p, n, w);
    for (int i = 0; i < 2 * n; i++) w[i] = vqtbl1q_s8(levels, vreinterpretq_u8_s8(w[i]));
}

/* Byte i of each dword, sign-extended. */
ALWAYS_INLINE int32x4_t byte_of(int8x16_t bytes, size_t i) {
    int32x4_t v = vshlq_s32(vreinterpretq_s32_s8(bytes), vdupq_n_s32(24 - 8 * (int)i));
    return vshrq_n_s32(v, 24);
}

/* Sum over 16 k of w q for 4 rows. */
ALWAYS_INLINE int32x4_t dot16(int32x4_t sum, const int8x16_t w[4], const int8_t *q) {
    int8x16_t v = vld1q_s8(q);
    sum = vdotq_laneq_s32(sum, w[0], v, 0);
    sum = vdotq_laneq_s32(sum, w[1], v, 1);
    sum = vdotq_laneq_s32(sum, w[2], v, 2);
    return vdotq_laneq_s32(sum, w[3], v, 3);
}

ALWAYS_INLINE int32x4_t dot32(const int8x16_t w[8], const int8_t *q) {
    return dot16(dot16(vdupq_n_s32(0), w, q), w + 4, q + 16);
}

/* Adds factor * v to a quarter of a row of the tile; block 0 starts it. */
ALWAYS_INLINE void add_tile_row(float *row, size_t block, float factor, float32x4_t v) {
    float32x4_t before = block == 0 ? vdupq_n_f32(0.0f) : vld1q_f32(row);
    vst1q_f32(row, vfmaq_n_f32(before, v, factor));
}

/* d * isum - dmin * msum, the first product fused. */
ALWAYS_INLINE float32x4_t less_minima(float32x4_t d, int32x4_t isum, float32x4_t dmin, int32x4_t msum) {
    return vfmaq_f32(vnegq_f32(vmulq_f32(dmin, vcvtq_f32_s32(msum))), d, vcvtq_f32_s32(isum));
}

/* A tile function from one for a panel. */
#define DEFINE_TILE(name, panel_function)                                                                              \
    void name(const mr_tile *tile) {                                                                                   \
        for (size_t p = 0; p < tile->n_panels; p++) {                                                                  \
            const uint8_t *panel = tile->panels + p * tile->step;                                                      \
            float *out = tile->out + p * tile->n_tokens * 16;                                                          \
            if (tile->n_tokens == 1) {                                                                                 \
                panel_function(panel, tile->n_in, tile->x, 1, out);                                                    \
            } else {                                                                                                   \
                panel_function(panel, tile->n_in, tile->x, tile->n_tokens, out);                                       \
            }                                                                                                          \
        }                                                                                                              \
    }

void mr_tile_q4_k_neon(const mr_tile *tile);
void mr_tile_q5_k_neon(const mr_tile *tile);
void mr_tile_q6_k_neon(const mr_tile *tile);
void mr_tile_q8_0_neon(const mr_tile *tile);
void mr_tile_q4_0_neon(const mr_tile *tile);
void mr_tile_q4_1_neon(const mr_tile *tile);
void mr_tile_q5_0_neon(const mr_tile *tile);
void mr_tile_q5_1_neon(const mr_tile *tile);
void mr_tile_iq4_nl_neon(const mr_tile *tile);
void mr_tile_mxfp4_neon(const mr_tile *tile);
void mr_tile_q2_k_neon(const mr_tile *tile);
void mr_tile_q3_k_neon(const mr_tile *tile);
void mr_tile_iq4_xs_neon(const mr_tile *tile);
void mr_tile_iq1_neon(const mr_tile *tile);
void mr_tile_iq2_neon(const mr_tile *tile);
void mr_tile_iq3_xxs_neon(const mr_tile *tile);
void mr_tile_iq3_s_neon(const mr_tile *tile);
void mr_tile_ternary_neon(const mr_tile *tile);
void mr_tile_f32_neon(const mr_tile *tile);
void mr_tile_f16_neon(const mr_tile *tile);
void mr_tile_f8_neon(const mr_tile *tile);
void mr_tile_q8_m_neon(const mr_tile *tile);
void mr_tile_bf16_neon(const mr_tile *tile);

#endif
