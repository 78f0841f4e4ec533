/* Super-block types with NEON dot products. Weights are centred when they are unpacked, for a quarter of a panel and a
 * group at a time, and multiplied with all tokens of the tile. */
#include "compute/matrix_neon.h"

ALWAYS_INLINE const int8_t *quants(const uint8_t *x, size_t sb) {
    return ((const mr_q8_256 *)x)[sb].q;
}

ALWAYS_INLINE void set_zero(int32x4_t *isum, size_t n_tokens) {
    for (size_t t = 0; t < n_tokens; t++) isum[t] = vdupq_n_s32(0);
}

ALWAYS_INLINE void add_rows(float32x4_t d, const int32x4_t *isum, const uint8_t *const *x, size_t n_in, size_t sb,
                            size_t n_tokens, float *out) {
    for (size_t t = 0; t < n_tokens; t++) {
        float32x4_t v = vmulq_f32(d, vcvtq_f32_s32(isum[t]));
        add_tile_row(out + 16 * t, sb, mr_q8_256_metas(x[t], n_in)[sb].d, v);
    }
}

/* dot times the factor of group g of 32. */
ALWAYS_INLINE int32x4_t times_factor(int32x4_t dot, const uint8_t *x, size_t n_in, size_t sb, size_t g) {
    return vmulq_n_s32(dot, mr_q8_256_metas(x, n_in)[sb].factor[g]);
}

/* -- Groups of 32: Q4_K, Q5_K, IQ4_XS. */

/* Sum of minimum * sum of 32. */
ALWAYS_INLINE int32x4_t min_sum32(const int8x16_t mins[2], const int16_t sum32[8]) {
    int32x4_t sum = vdupq_n_s32(0);
    for (size_t g = 0; g < 8; g++) sum = vmlaq_n_s32(sum, byte_of(mins[g / 4], mr_group_byte(g % 4)), sum32[g]);
    return sum;
}

ALWAYS_INLINE void k_quarter(const uint8_t *p, int bits, size_t quarter, size_t n_in, const uint8_t *const *x,
                             size_t sb, size_t n_tokens, float *out) {
    const size_t group_bytes = bits == 4 ? 256 : 320;
    int32x4_t isum[MR_TILE_TOKENS];
    int8x16_t numbers[4];
    load_six_bits(p + 64 + 16 * quarter, numbers);
    set_zero(isum, n_tokens);
    for (size_t g = 0; g < 8; g++) {
        int8x16_t w[8];
        const uint8_t *group = p + 256 + g * group_bytes + 16 * quarter;
        int32x4_t scale = byte_of(numbers[g / 4], mr_group_byte(g % 4));
        if (bits == 4) {
            load_nibbles(group, 4, w);
        } else {
            load_five_bits(group, w);
        }
        for (size_t t = 0; t < n_tokens; t++) {
            int32x4_t dot = times_factor(dot32(w, quants(x[t], sb) + 32 * g), x[t], n_in, sb, g);
            isum[t] = vmlaq_s32(isum[t], dot, scale);
        }
    }
    float32x4_t d = load_halves(p + 8 * quarter), dmin = load_halves(p + 32 + 8 * quarter);
    for (size_t t = 0; t < n_tokens; t++) {
        const mr_q8_256_meta *meta = mr_q8_256_metas(x[t], n_in) + sb;
        float32x4_t v = less_minima(d, isum[t], dmin, min_sum32(numbers + 2, meta->sum32));
        add_tile_row(out + 16 * t + 4 * quarter, sb, meta->d, v);
    }
}

ALWAYS_INLINE void q4_k_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    for (size_t sb = 0; sb < n_in / 256; sb++, panel += MR_Q4_K_BYTES) {
        for (size_t i = 0; i < 4; i++) k_quarter(panel, 4, i, n_in, x, sb, n_tokens, out);
    }
}

ALWAYS_INLINE void q5_k_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    for (size_t sb = 0; sb < n_in / 256; sb++, panel += MR_Q5_K_BYTES) {
        for (size_t i = 0; i < 4; i++) k_quarter(panel, 5, i, n_in, x, sb, n_tokens, out);
    }
}

ALWAYS_INLINE void iq4_xs_quarter(const uint8_t *p, int8x16_t levels, const uint8_t *const *x, size_t n_in, size_t sb,
                                  size_t n_tokens, int32x4_t *isum) {
    set_zero(isum, n_tokens);
    for (size_t g = 0; g < 8; g++) {
        int8x16_t w[8];
        int32x4_t scale = byte_of(as_signed(load_bytes(p + g / 4 * 64)), mr_group_byte(g % 4));
        load_levels(p + 128 + g * 256, 4, levels, w);
        for (size_t t = 0; t < n_tokens; t++) {
            int32x4_t dot = times_factor(dot32(w, quants(x[t], sb) + 32 * g), x[t], n_in, sb, g);
            isum[t] = vmlaq_s32(isum[t], dot, scale);
        }
    }
}

ALWAYS_INLINE void iq4_xs_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                                float *out) {
    int8x16_t levels = vld1q_s8(mr_layout_levels(MR_LAYOUT_IQ4_XS));
    for (size_t sb = 0; sb < n_in / 256; sb++) {
        const uint8_t *p = panel + mr_pair_quants(sb, MR_IQ4_XS_BYTES);
        const uint8_t *d = panel + mr_pair_scales(sb, MR_IQ4_XS_BYTES);
        for (size_t i = 0; i < 4; i++) {
            int32x4_t isum[MR_TILE_TOKENS];
            iq4_xs_quarter(p + 16 * i, levels, x, n_in, sb, n_tokens, isum);
            add_rows(load_halves(d + 8 * i), isum, x, n_in, sb, n_tokens, out + 4 * i);
        }
    }
}

/* -- Groups of 16: Q6_K, Q3_K, Q2_K, codebook types. */

typedef enum k16_kind { K16_Q6, K16_Q3, K16_Q2, K16_CODEBOOK } k16_kind;

ALWAYS_INLINE void load_group(k16_kind kind, const uint8_t *p, size_t g, int8x16_t levels, int8x16_t w[4]) {
    switch (kind) {
    case K16_Q6:
        load_nibbles(p + g * 192 + 64, 2, w);
        for (int i = 0; i < 4; i++) {
            w[i] = or_shifted(w[i], load_bytes(p + g * 192), 4 - 2 * i, 0x30);
            w[i] = vsubq_s8(w[i], vdupq_n_s8(32));
        }
        break;
    case K16_Q3:
        load_two_bits(p + g / 2 * 192 + 64 + g % 2 * 64, w);
        for (int i = 0; i < 4; i++) {
            w[i] = or_shifted(w[i], load_bytes(p + g / 2 * 192), 2 - i - 4 * (int)(g % 2), 4);
            w[i] = vsubq_s8(w[i], vdupq_n_s8(4));
        }
        break;
    case K16_Q2:
        load_two_bits(p + g * 64, w);
        break;
    case K16_CODEBOOK:
        load_levels(p + g * 128, 2, levels, w);
        break;
    }
}

ALWAYS_INLINE void k16_quarter(k16_kind kind, const int8x16_t scales[4], const uint8_t *p, int8x16_t levels,
                               const uint8_t *const *x, size_t n_in, size_t sb, size_t n_tokens, int32x4_t *isum) {
    set_zero(isum, n_tokens);
    for (size_t g = 0; g < 16; g++) {
        int8x16_t w[4];
        int32x4_t scale = byte_of(scales[g / 4], g % 4);
        load_group(kind, p, g, levels, w);
        for (size_t t = 0; t < n_tokens; t++) {
            int32x4_t dot = dot16(vdupq_n_s32(0), w, quants(x[t], sb) + 16 * g);
            isum[t] = vmlaq_s32(isum[t], times_factor(dot, x[t], n_in, sb, g / 2), scale);
        }
    }
}

ALWAYS_INLINE void q6_k_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    for (size_t sb = 0; sb < n_in / 256; sb++) {
        const uint8_t *d = panel + mr_pair_scales(sb, MR_Q6_K_BYTES);
        for (size_t i = 0; i < 4; i++) {
            const uint8_t *p = panel + mr_pair_quants(sb, MR_Q6_K_BYTES) + 16 * i;
            int32x4_t isum[MR_TILE_TOKENS];
            int8x16_t scales[4];
            for (int v = 0; v < 4; v++) scales[v] = as_signed(load_bytes(p + 64 * v));
            k16_quarter(K16_Q6, scales, p + 256, scales[0], x, n_in, sb, n_tokens, isum);
            add_rows(load_halves(d + 8 * i), isum, x, n_in, sb, n_tokens, out + 4 * i);
        }
    }
}

ALWAYS_INLINE void q3_k_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    for (size_t sb = 0; sb < n_in / 256; sb++) {
        const uint8_t *d = panel + mr_pair_scales(sb, MR_Q3_K_BYTES);
        for (size_t i = 0; i < 4; i++) {
            const uint8_t *p = panel + mr_pair_quants(sb, MR_Q3_K_BYTES) + 16 * i;
            int32x4_t isum[MR_TILE_TOKENS];
            int8x16_t scales[4];
            load_six_bits(p, scales);
            for (int v = 0; v < 4; v++) scales[v] = vsubq_s8(scales[v], vdupq_n_s8(32));
            k16_quarter(K16_Q3, scales, p + 192, scales[0], x, n_in, sb, n_tokens, isum);
            add_rows(load_halves(d + 8 * i), isum, x, n_in, sb, n_tokens, out + 4 * i);
        }
    }
}

ALWAYS_INLINE void q2_k_quarter(const uint8_t *p, size_t quarter, size_t n_in, const uint8_t *const *x, size_t sb,
                                size_t n_tokens, float *out) {
    int32x4_t isum[MR_TILE_TOKENS];
    int8x16_t scales[4], mins[4];
    for (int v = 0; v < 4; v++) {
        uint8x16_t both = load_bytes(p + 64 + 64 * v + 16 * quarter);
        scales[v] = as_signed(vandq_u8(both, vdupq_n_u8(15)));
        mins[v] = as_signed(vshrq_n_u8(both, 4));
    }
    k16_quarter(K16_Q2, scales, p + 320 + 16 * quarter, scales[0], x, n_in, sb, n_tokens, isum);
    for (size_t t = 0; t < n_tokens; t++) {
        const int32_t *neg_sum = ((const mr_q8_256 *)x[t])[sb].neg_sum;
        const mr_q8_256_meta *meta = mr_q8_256_metas(x[t], n_in) + sb;
        int32x4_t msum = vdupq_n_s32(0);
        for (size_t g = 0; g < 16; g++)
            msum = vmlsq_n_s32(msum, byte_of(mins[g / 4], g % 4), neg_sum[g] * meta->factor[g / 2]);
        float32x4_t v = less_minima(load_halves(p + 8 * quarter), isum[t], load_halves(p + 32 + 8 * quarter), msum);
        add_tile_row(out + 16 * t + 4 * quarter, sb, meta->d, v);
    }
}

ALWAYS_INLINE void q2_k_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    for (size_t sb = 0; sb < n_in / 256; sb++, panel += MR_Q2_K_BYTES) {
        for (size_t i = 0; i < 4; i++) q2_k_quarter(panel, i, n_in, x, sb, n_tokens, out);
    }
}

ALWAYS_INLINE void codebook_tile(const mr_tile *tile, mr_layout layout) {
    int8x16_t levels = vld1q_s8(mr_layout_levels(layout));
    for (size_t panel = 0; panel < tile->n_panels; panel++) {
        const uint8_t *p = tile->panels + panel * tile->step;
        float *out = tile->out + panel * tile->n_tokens * 16;
        for (size_t sb = 0; sb < tile->n_in / 256; sb++, p += MR_CODEBOOK_BYTES) {
            for (size_t i = 0; i < 4; i++) {
                int32x4_t isum[MR_TILE_TOKENS];
                int8x16_t scales[4];
                for (int v = 0; v < 4; v++) scales[v] = as_signed(load_bytes(p + 64 + 64 * v + 16 * i));
                k16_quarter(K16_CODEBOOK, scales, p + 320 + 16 * i, levels, tile->x, tile->n_in, sb, tile->n_tokens,
                            isum);
                add_rows(vld1q_f32((const float *)p + 4 * i), isum, tile->x, tile->n_in, sb, tile->n_tokens,
                         out + 4 * i);
            }
        }
    }
}

ALWAYS_INLINE void ternary_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                                 float *out) {
    for (size_t sb = 0; sb < n_in / 256; sb++) {
        const uint8_t *d = panel + mr_pair_scales(sb, MR_TERNARY_BYTES);
        for (size_t i = 0; i < 4; i++) {
            const uint8_t *p = panel + mr_pair_quants(sb, MR_TERNARY_BYTES) + 16 * i;
            int32x4_t isum[MR_TILE_TOKENS];
            set_zero(isum, n_tokens);
            for (size_t g = 0; g < 16; g++) {
                int8x16_t w[4];
                load_two_bits(p + 64 * g, w);
                for (int v = 0; v < 4; v++) w[v] = vsubq_s8(w[v], vdupq_n_s8(1));
                for (size_t t = 0; t < n_tokens; t++) {
                    int32x4_t dot = dot16(vdupq_n_s32(0), w, quants(x[t], sb) + 16 * g);
                    isum[t] = vaddq_s32(isum[t], times_factor(dot, x[t], n_in, sb, g / 2));
                }
            }
            add_rows(load_halves(d + 8 * i), isum, x, n_in, sb, n_tokens, out + 4 * i);
        }
    }
}

DEFINE_TILE(mr_tile_q4_k_neon, q4_k_panel)
DEFINE_TILE(mr_tile_q5_k_neon, q5_k_panel)
DEFINE_TILE(mr_tile_iq4_xs_neon, iq4_xs_panel)
DEFINE_TILE(mr_tile_q6_k_neon, q6_k_panel)
DEFINE_TILE(mr_tile_q3_k_neon, q3_k_panel)
DEFINE_TILE(mr_tile_q2_k_neon, q2_k_panel)
DEFINE_TILE(mr_tile_ternary_neon, ternary_panel)

void mr_tile_iq1_neon(const mr_tile *tile) {
    codebook_tile(tile, MR_LAYOUT_IQ1);
}

void mr_tile_iq2_neon(const mr_tile *tile) {
    codebook_tile(tile, MR_LAYOUT_IQ2);
}

void mr_tile_iq3_xxs_neon(const mr_tile *tile) {
    codebook_tile(tile, MR_LAYOUT_IQ3_XXS);
}

void mr_tile_iq3_s_neon(const mr_tile *tile) {
    codebook_tile(tile, MR_LAYOUT_IQ3_S);
}
