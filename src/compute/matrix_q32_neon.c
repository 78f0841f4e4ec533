/* Types with blocks of 32 with NEON dot products. */
#include "compute/matrix_neon.h"

typedef enum q32_kind { Q32_BYTES, Q32_NIBBLES, Q32_FIVE_BITS, Q32_IQ4, Q32_MXFP4 } q32_kind;

ALWAYS_INLINE size_t quant_bytes(q32_kind kind) {
    return kind == Q32_BYTES ? 512 : kind == Q32_FIVE_BITS ? 320 : 256;
}

/* A quarter of a block; nibbles and five bits less `zero`. */
ALWAYS_INLINE void load_block(q32_kind kind, int8_t zero, const uint8_t *p, int8x16_t levels, int8x16_t w[8]) {
    switch (kind) {
    case Q32_BYTES:
        for (int i = 0; i < 8; i++) w[i] = as_signed(veorq_u8(load_bytes(p + 64 * i), vdupq_n_u8(0x80)));
        return;
    case Q32_NIBBLES:
        load_nibbles(p, 4, w);
        break;
    case Q32_FIVE_BITS:
        load_five_bits(p, w);
        break;
    case Q32_IQ4:
    case Q32_MXFP4:
        load_levels(p, 4, levels, w);
        return;
    }
    for (int i = 0; i < 8; i++) w[i] = vsubq_s8(w[i], vdupq_n_s8(zero));
}

ALWAYS_INLINE float32x4_t load_scales(q32_kind kind, const uint8_t *p) {
    if (kind != Q32_MXFP4) return load_halves(p);
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

ALWAYS_INLINE void q32_panel(q32_kind kind, int8_t zero, int8x16_t levels, const uint8_t *panel, size_t n_in,
                             const uint8_t *const *x, size_t n_tokens, float *out) {
    const size_t block_bytes = quant_bytes(kind);
    for (size_t b = 0; b < n_in / 32; b++) {
        for (size_t i = 0; i < 4; i++) {
            int8x16_t w[8];
            float32x4_t d = load_scales(kind, panel + mr_pair_scales(b, block_bytes) + 8 * i);
            load_block(kind, zero, panel + mr_pair_quants(b, block_bytes) + 16 * i, levels, w);
            for (size_t t = 0; t < n_tokens; t++) {
                float dx = mr_q8_32_metas(x[t], n_in)[b].d;
                float *row = out + 16 * t + 4 * i;
                int32x4_t dot = dot32(w, (const int8_t *)x[t] + 32 * b);
                float32x4_t before = b == 0 ? vdupq_n_f32(0.0f) : vld1q_f32(row);
                vst1q_f32(row, vfmaq_f32(before, vmulq_n_f32(d, dx), vcvtq_f32_s32(dot)));
            }
        }
    }
}

/* With minima: s = fma(dx, fma(d, dot, m * sum), s). */
ALWAYS_INLINE void q32_min_panel(q32_kind kind, const uint8_t *panel, size_t n_in, const uint8_t *const *x,
                                 size_t n_tokens, float *out) {
    for (size_t b = 0; b < n_in / 32; b++, panel += 64 + quant_bytes(kind)) {
        for (size_t i = 0; i < 4; i++) {
            int8x16_t w[8];
            float32x4_t d = load_halves(panel + 8 * i), m = load_halves(panel + 32 + 8 * i);
            load_block(kind, 0, panel + 64 + 16 * i, vdupq_n_s8(0), w);
            for (size_t t = 0; t < n_tokens; t++) {
                const mr_q8_32_meta *meta = mr_q8_32_metas(x[t], n_in) + b;
                int32x4_t dot = dot32(w, (const int8_t *)x[t] + 32 * b);
                float32x4_t v = vfmaq_f32(vmulq_n_f32(m, (float)-meta->neg_sum), d, vcvtq_f32_s32(dot));
                add_tile_row(out + 16 * t + 4 * i, b, meta->d, v);
            }
        }
    }
}

ALWAYS_INLINE void q8_0_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    q32_panel(Q32_BYTES, 0, vdupq_n_s8(0), panel, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q4_0_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    q32_panel(Q32_NIBBLES, 8, vdupq_n_s8(0), panel, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q5_0_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    q32_panel(Q32_FIVE_BITS, 16, vdupq_n_s8(0), panel, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void iq4_nl_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                                float *out) {
    q32_panel(Q32_IQ4, 0, vld1q_s8(mr_layout_levels(MR_LAYOUT_IQ4_NL)), panel, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void mxfp4_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                               float *out) {
    q32_panel(Q32_MXFP4, 0, vld1q_s8(mr_layout_levels(MR_LAYOUT_MXFP4)), panel, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q4_1_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    q32_min_panel(Q32_NIBBLES, panel, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q5_1_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    q32_min_panel(Q32_FIVE_BITS, panel, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q8_m_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    q32_min_panel(Q32_BYTES, panel, n_in, x, n_tokens, out);
}

DEFINE_TILE(mr_tile_q8_0_neon, q8_0_panel)
DEFINE_TILE(mr_tile_q4_0_neon, q4_0_panel)
DEFINE_TILE(mr_tile_q5_0_neon, q5_0_panel)
DEFINE_TILE(mr_tile_iq4_nl_neon, iq4_nl_panel)
DEFINE_TILE(mr_tile_mxfp4_neon, mxfp4_panel)
DEFINE_TILE(mr_tile_q4_1_neon, q4_1_panel)
DEFINE_TILE(mr_tile_q5_1_neon, q5_1_panel)
DEFINE_TILE(mr_tile_q8_m_neon, q8_m_panel)
