/* Super-block types with AVX-512 VNNI.
 *
 * A step takes the weights of two or four groups into 16 registers and multiplies all tokens of the tile with them, so that
 * unpacking is paid once. The multiplier ports are the limit; two group sums are therefore put into the halves of
 * a dword and scaled by one vpdpwssd where they fit 16 bits, which the peaks in the activations tell ("narrow"). The integers
 * are the same either way. */
#include "compute/matrix_avx512.h"

enum {
    NARROW_PEAK32_Q4 = 32767 / 15,
    NARROW_PEAK32_Q5 = 32767 / 31,
    NARROW_PEAK16_Q6 = 32767 / 32,
};

/* The scales of two groups as 16-bit halves, and two group sums; returns isum with both products added. */
ALWAYS_INLINE __m512i add_scaled(__m512i isum, __m512i a, __m512i b, __m512i scales, bool narrow) {
    if (narrow) {
        __m512i both = _mm512_mask_blend_epi16(0xAAAAAAAAu, a, _mm512_slli_epi32(b, 16));
        return _mm512_dpwssd_epi32(isum, both, scales);
    }
    __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(scales, 16), 16), high = _mm512_srai_epi32(scales, 16);
    isum = _mm512_add_epi32(isum, _mm512_mullo_epi32(a, low));
    return _mm512_add_epi32(isum, _mm512_mullo_epi32(b, high));
}

/* -- Q4_K and Q5_K. */

typedef struct k_head {
    __m512 d, dmin;
    __m512i scale[4], min[4]; /* pairs (0 2) (1 3) (4 6) (5 7) */
} k_head;

ALWAYS_INLINE void split_pairs(__m512i bytes, __m512i pairs[2]) {
    pairs[0] = _mm512_and_si512(bytes, _mm512_set1_epi16(0xFF));
    pairs[1] = _mm512_srli_epi16(bytes, 8);
}

ALWAYS_INLINE k_head load_k_head(const uint8_t *p) {
    const __m512i low6 = _mm512_set1_epi8(63);
    __m512i a = _mm512_load_si512(p + 64), b = _mm512_load_si512(p + 128), c = _mm512_load_si512(p + 192);
    __m512i top = _mm512_and_si512(_mm512_srli_epi16(a, 6), _mm512_set1_epi8(0x03));
    top = _mm512_or_si512(top, _mm512_and_si512(_mm512_srli_epi16(b, 4), _mm512_set1_epi8(0x0C)));
    top = _mm512_or_si512(top, _mm512_and_si512(_mm512_srli_epi16(c, 2), _mm512_set1_epi8(0x30)));
    k_head head = {.d = load_halves(p), .dmin = load_halves(p + 32)};
    split_pairs(_mm512_and_si512(a, low6), head.scale);
    split_pairs(_mm512_and_si512(b, low6), head.scale + 2);
    split_pairs(_mm512_and_si512(c, low6), head.min);
    split_pairs(top, head.min + 2);
    return head;
}

/* The 8 vectors of a group of 32. */
ALWAYS_INLINE void load_group(const uint8_t *group, int bits, __m512i w[8]) {
    const __m512i fifth_mask = _mm512_set1_epi8(16);
    if (bits == 4) {
        load_nibbles(group, 4, w);
        return;
    }
    __m512i fifth = _mm512_load_si512(group);
    load_nibbles(group + 64, 4, w);
#define FIFTH(i, shifted) w[i] = _mm512_ternarylogic_epi32(w[i], shifted, fifth_mask, 0xF8) /* w | (shifted & mask) */
    FIFTH(0, _mm512_slli_epi16(fifth, 4));
    FIFTH(1, _mm512_slli_epi16(fifth, 3));
    FIFTH(2, _mm512_slli_epi16(fifth, 2));
    FIFTH(3, _mm512_slli_epi16(fifth, 1));
    FIFTH(4, fifth);
    FIFTH(5, _mm512_srli_epi16(fifth, 1));
    FIFTH(6, _mm512_srli_epi16(fifth, 2));
    FIFTH(7, _mm512_srli_epi16(fifth, 3));
#undef FIFTH
}

ALWAYS_INLINE __m512i dot32(const __m512i w[8], const int8_t *q) {
    __m512i sum = _mm512_setzero_si512();
    for (int i = 0; i < 8; i++) sum = dot_four(sum, w[i], q + 4 * i);
    return sum;
}

ALWAYS_INLINE void k_groups(const uint8_t *groups, int bits, const k_head *head, const uint8_t *const *x,
                            size_t x_offset, size_t n_tokens, bool narrow, __m512i *isum) {
    const size_t group_bytes = bits == 4 ? 256 : 320;
    for (size_t pair = 0; pair < 4; pair++) {
        size_t g = pair / 2 * 4 + pair % 2;
        __m512i w[16];
        load_group(groups + g * group_bytes, bits, w);
        load_group(groups + (g + 2) * group_bytes, bits, w + 8);
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *q = (const int8_t *)x[t] + x_offset + 32 * g;
            __m512i before = pair == 0 ? _mm512_setzero_si512() : isum[t];
            isum[t] = add_scaled(before, dot32(w, q), dot32(w + 8, q + 64), head->scale[pair], narrow);
        }
    }
}

ALWAYS_INLINE void k_finish(const k_head *head, const __m512i *isum, const uint8_t *const *x, size_t n_in, size_t sb,
                            size_t n_tokens, float *out) {
    for (size_t t = 0; t < n_tokens; t++) {
        const mr_q8_256_meta *meta = mr_q8_256_metas(x[t], n_in) + sb;
        __m512i msum = _mm512_setzero_si512();
        for (int i = 0; i < 4; i++) msum = _mm512_dpwssd_epi32(msum, head->min[i], four(meta->sum32 + 2 * i));
        __m512 v = _mm512_fmsub_ps(head->d, _mm512_cvtepi32_ps(isum[t]),
                                   _mm512_mul_ps(head->dmin, _mm512_cvtepi32_ps(msum)));
        add_tile_row(out + 16 * t, sb, _mm512_set1_ps(meta->d), v);
    }
}

ALWAYS_INLINE int k_peak(const uint8_t *const *x, size_t n_in, size_t sb, size_t n_tokens, bool of_32) {
    int peak = 0;
    for (size_t t = 0; t < n_tokens; t++) {
        const mr_q8_256_meta *meta = mr_q8_256_metas(x[t], n_in) + sb;
        int p = of_32 ? meta->peak32 : meta->peak16;
        peak = p > peak ? p : peak;
    }
    return peak;
}

ALWAYS_INLINE void k_panel(const uint8_t *panel, int bits, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                           float *out) {
    const size_t step = bits == 4 ? MR_Q4_K_BYTES : MR_Q5_K_BYTES;
    const int narrow_peak = bits == 4 ? NARROW_PEAK32_Q4 : NARROW_PEAK32_Q5;
    for (size_t sb = 0; sb < n_in / 256; sb++, panel += step) {
        __m512i isum[MR_TILE_TOKENS];
        k_head head = load_k_head(panel);
        if (k_peak(x, n_in, sb, n_tokens, true) <= narrow_peak) {
            k_groups(panel + 256, bits, &head, x, sb * sizeof(mr_q8_256), n_tokens, true, isum);
        } else {
            k_groups(panel + 256, bits, &head, x, sb * sizeof(mr_q8_256), n_tokens, false, isum);
        }
        k_finish(&head, isum, x, n_in, sb, n_tokens, out);
    }
}

ALWAYS_INLINE void q4_k_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    k_panel(panel, 4, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q5_k_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    k_panel(panel, 5, n_in, x, n_tokens, out);
}

/* -- Q6_K. */

/* The 4 vectors of a group of 16. */
ALWAYS_INLINE void load_group6(const uint8_t *group, __m512i w[4]) {
    const __m512i top_mask = _mm512_set1_epi8(0x30);
    __m512i top = _mm512_load_si512(group);
    load_nibbles(group + 64, 2, w);
    w[0] = _mm512_ternarylogic_epi32(w[0], _mm512_slli_epi16(top, 4), top_mask, 0xF8);
    w[1] = _mm512_ternarylogic_epi32(w[1], _mm512_slli_epi16(top, 2), top_mask, 0xF8);
    w[2] = _mm512_ternarylogic_epi32(w[2], top, top_mask, 0xF8);
    w[3] = _mm512_ternarylogic_epi32(w[3], _mm512_srli_epi16(top, 2), top_mask, 0xF8);
}

/* Sum of (w - 32) q. */
ALWAYS_INLINE __m512i dot16_centred(const __m512i w[4], const int8_t *q, const int32_t *neg_sum) {
    __m512i sum = _mm512_slli_epi32(four(neg_sum), 5);
    for (int i = 0; i < 4; i++) sum = dot_four(sum, w[i], q + 4 * i);
    return sum;
}

ALWAYS_INLINE void q6_k_groups(const uint8_t *p, const uint8_t *const *x, size_t x_offset, size_t n_tokens, bool narrow,
                               __m512i *isum) {
    for (size_t quad = 0; quad < 4; quad++) {
        const uint8_t *groups = p + 256 + quad * 768;
        __m512i w[16], scales = _mm512_load_si512(p + quad * 64);
        __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(scales, 8), 8), odd = _mm512_srai_epi16(scales, 8);
        for (int g = 0; g < 4; g++) load_group6(groups + 192 * g, w + 4 * g);
        for (size_t t = 0; t < n_tokens; t++) {
            const mr_q8_256 *block = (const mr_q8_256 *)(x[t] + x_offset);
            const int8_t *q = block->q + 64 * quad;
            const int32_t *neg_sum = block->neg_sum + 4 * quad;
            __m512i sum = quad == 0 ? _mm512_setzero_si512() : isum[t];
            sum = add_scaled(sum, dot16_centred(w, q, neg_sum), dot16_centred(w + 8, q + 32, neg_sum + 2), even, narrow);
            isum[t] = add_scaled(sum, dot16_centred(w + 4, q + 16, neg_sum + 1),
                                 dot16_centred(w + 12, q + 48, neg_sum + 3), odd, narrow);
        }
    }
}

ALWAYS_INLINE void q6_k_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    for (size_t sb = 0; sb < n_in / 256; sb++) {
        const uint8_t *p = panel + mr_pair_quants(sb, MR_Q6_K_BYTES);
        __m512i isum[MR_TILE_TOKENS];
        __m512 d = load_halves(panel + mr_pair_scales(sb, MR_Q6_K_BYTES));
        if (k_peak(x, n_in, sb, n_tokens, false) <= NARROW_PEAK16_Q6) {
            q6_k_groups(p, x, sb * sizeof(mr_q8_256), n_tokens, true, isum);
        } else {
            q6_k_groups(p, x, sb * sizeof(mr_q8_256), n_tokens, false, isum);
        }
        for (size_t t = 0; t < n_tokens; t++) {
            const mr_q8_256_meta *meta = mr_q8_256_metas(x[t], n_in) + sb;
            __m512 v = _mm512_mul_ps(d, _mm512_cvtepi32_ps(isum[t]));
            add_tile_row(out + 16 * t, sb, _mm512_set1_ps(meta->d), v);
        }
    }
}

DEFINE_TILE(mr_tile_q4_k_avx512, q4_k_panel)
DEFINE_TILE(mr_tile_q5_k_avx512, q5_k_panel)
DEFINE_TILE(mr_tile_q6_k_avx512, q6_k_panel)
