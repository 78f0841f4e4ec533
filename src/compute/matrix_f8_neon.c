/* Weights of 8-bit floats, with NEON. */
#include "compute/matrix_neon.h"

/* 8 bytes as floats, 2^-8 times the number: the digits of a byte are moved to where a half float has them. */
ALWAYS_INLINE void load_weights(const uint8_t *p, float32x4_t w[2]) {
    uint16x8_t v = vmovl_u8(vld1_u8(p));
    uint16x8_t sign = vshlq_n_u16(vandq_u16(v, vdupq_n_u16(0x80)), 8);
    uint16x8_t half = vorrq_u16(sign, vshlq_n_u16(vandq_u16(v, vdupq_n_u16(0x7F)), 7));
    w[0] = vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(half)));
    w[1] = vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(half)));
}

/* Half a block of 64 k of a panel (8 rows) with a token. */
ALWAYS_INLINE void add_half(const uint8_t *p, size_t b, size_t half, const uint8_t *x, float *out) {
    const float *v = (const float *)x + 64 * b;
    float32x4_t part[2][2];
    for (size_t i = 0; i < 2; i++) part[i][0] = part[i][1] = vdupq_n_f32(0.0f);
    for (size_t k = 0; k < 64; k++) {
        float32x4_t w[2];
        load_weights(p + 64 + 16 * k + 8 * half, w);
        part[k % 2][0] = vfmaq_n_f32(part[k % 2][0], w[0], v[k]);
        part[k % 2][1] = vfmaq_n_f32(part[k % 2][1], w[1], v[k]);
    }
    for (size_t i = 0; i < 2; i++) {
        float *row = out + 8 * half + 4 * i;
        float32x4_t d = vld1q_f32((const float *)p + 8 * half + 4 * i);
        float32x4_t before = b == 0 ? vdupq_n_f32(0.0f) : vld1q_f32(row);
        vst1q_f32(row, vfmaq_f32(before, d, vaddq_f32(part[0][i], part[1][i])));
    }
}

void mr_tile_f8_neon(const mr_tile *tile) {
    for (size_t p = 0; p < tile->n_panels; p++) {
        const uint8_t *panel = tile->panels + p * tile->step;
        float *out = tile->out + p * tile->n_tokens * 16;
        for (size_t b = 0; b < tile->n_in / 64; b++, panel += MR_F8_BYTES) {
            for (size_t t = 0; t < tile->n_tokens; t++) {
                add_half(panel, b, 0, tile->x[t], out + 16 * t);
                add_half(panel, b, 1, tile->x[t], out + 16 * t);
            }
        }
    }
}
