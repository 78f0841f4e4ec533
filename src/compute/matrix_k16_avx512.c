/* Super-block types with groups of 16 values, with AVX-512 VNNI: Q6_K, Q3_K, Q2_K, the codebook types and the ternary
 * ones. As in matrix_k32_avx512.c, with four groups to a step. */
#include "compute/matrix_avx512.h"

typedef enum k16_kind { K16_Q6, K16_Q3, K16_Q2, K16_CODEBOOK } k16_kind;

enum { CODEBOOK_ZERO_BITS = 6, CODEBOOK_MOST = 62 };

/* The stored integer of weight 0 is 2^zero_bits; none for Q2_K. */
ALWAYS_INLINE int zero_bits(k16_kind kind) {
    return kind == K16_Q6 ? 5 : kind == K16_Q3 ? 2 : CODEBOOK_ZERO_BITS;
}

/* The largest sum of |q| of 16 whose products surely fit 16 bits. */
ALWAYS_INLINE int narrow_peak(k16_kind kind) {
    return kind == K16_Q6 ? 32767 / 32 : kind == K16_CODEBOOK ? 32767 / CODEBOOK_MOST : 32767;
}

ALWAYS_INLINE void load_q6(const uint8_t *group, __m512i w[4]) {
    const __m512i mask = _mm512_set1_epi8(0x30);
    __m512i top = _mm512_load_si512(group);
    load_nibbles(group + 64, 2, w);
    w[0] = or_masked(w[0], _mm512_slli_epi16(top, 4), mask);
    w[1] = or_masked(w[1], _mm512_slli_epi16(top, 2), mask);
    w[2] = or_masked(w[2], top, mask);
    w[3] = or_masked(w[3], _mm512_srli_epi16(top, 2), mask);
}

ALWAYS_INLINE void load_two_bits(const uint8_t *p, __m512i w[4]) {
    const __m512i mask = _mm512_set1_epi8(3);
    __m512i v = _mm512_load_si512(p);
    w[0] = _mm512_and_si512(v, mask);
    w[1] = _mm512_and_si512(_mm512_srli_epi16(v, 2), mask);
    w[2] = _mm512_and_si512(_mm512_srli_epi16(v, 4), mask);
    w[3] = _mm512_and_si512(_mm512_srli_epi16(v, 6), mask);
}

/* The third bits of two groups over their two-bit values. */
ALWAYS_INLINE void put_bit_over(__m512i w[8], __m512i third) {
    const __m512i mask = _mm512_set1_epi8(4);
    w[0] = or_masked(w[0], _mm512_slli_epi16(third, 2), mask);
    w[1] = or_masked(w[1], _mm512_slli_epi16(third, 1), mask);
    w[2] = or_masked(w[2], third, mask);
    w[3] = or_masked(w[3], _mm512_srli_epi16(third, 1), mask);
    w[4] = or_masked(w[4], _mm512_srli_epi16(third, 2), mask);
    w[5] = or_masked(w[5], _mm512_srli_epi16(third, 3), mask);
    w[6] = or_masked(w[6], _mm512_srli_epi16(third, 4), mask);
    w[7] = or_masked(w[7], _mm512_srli_epi16(third, 5), mask);
}

/* Bytes of four groups. */
ALWAYS_INLINE size_t quad_bytes(k16_kind kind) {
    return kind == K16_Q6 ? 768 : kind == K16_Q3 ? 384 : kind == K16_Q2 ? 256 : 512;
}

/* Four groups of four vectors each. */
ALWAYS_INLINE void load_quad(k16_kind kind, const uint8_t *quants, size_t quad, __m512i levels, __m512i w[16]) {
    for (size_t g = 0; g < 4; g++) {
        switch (kind) {
        case K16_Q6:
            load_q6(quants + (4 * quad + g) * 192, w + 4 * g);
            break;
        case K16_Q3:
            load_two_bits(quants + (2 * quad + g / 2) * 192 + 64 + g % 2 * 64, w + 4 * g);
            break;
        case K16_Q2:
            load_two_bits(quants + (4 * quad + g) * 64, w + 4 * g);
            break;
        case K16_CODEBOOK:
            load_levels(quants + (4 * quad + g) * 128, 2, levels, w + 4 * g);
            break;
        }
    }
    if (kind == K16_Q3) {
        put_bit_over(w, _mm512_load_si512(quants + 2 * quad * 192));
        put_bit_over(w + 8, _mm512_load_si512(quants + (2 * quad + 1) * 192));
    }
}

ALWAYS_INLINE __m512i dot16(k16_kind kind, const __m512i w[4], const int8_t *q, const int32_t *neg_sum) {
    __m512i sum = kind == K16_Q2 ? _mm512_setzero_si512() : _mm512_slli_epi32(four(neg_sum), (unsigned)zero_bits(kind));
    for (int i = 0; i < 4; i++) sum = dot_four(sum, w[i], q + 4 * i);
    return sum;
}

ALWAYS_INLINE void k16_groups(k16_kind kind, const __m512i scales[4], const uint8_t *quants, __m512i levels,
                              const uint8_t *const *x, size_t n_in, size_t sb, size_t n_tokens, bool narrow,
                              __m512i *isum) {
    const size_t factors = to_factors(n_in, sb);
    for (size_t quad = 0; quad < 4; quad++) {
        __m512i w[16];
        __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(scales[quad], 8), 8);
        __m512i odd = _mm512_srai_epi16(scales[quad], 8);
        fetch ahead = fetch_start(quants + quad * quad_bytes(kind), quad_bytes(kind) + 64);
        load_quad(kind, quants, quad, levels, w);
        for (size_t t = 0; t < n_tokens; t++) {
            const mr_q8_256 *block = (const mr_q8_256 *)x[t] + sb;
            const int8_t *q = pinned(block->q + 64 * quad);
            const int32_t *neg_sum = pinned(block->neg_sum + 4 * quad);
            __m512i sum = quad == 0 ? _mm512_setzero_si512() : isum[t];
            fetch_share(&ahead, n_tokens);
            const int8_t *f = q + (factors - 60 * quad);
            sum = add_scaled(sum, dot16(kind, w, q, neg_sum), dot16(kind, w + 8, q + 32, neg_sum + 2),
                             times_factors(even, f), narrow);
            isum[t] = add_scaled(sum, dot16(kind, w + 4, q + 16, neg_sum + 1), dot16(kind, w + 12, q + 48, neg_sum + 3),
                                 times_factors(odd, f), narrow);
        }
    }
}

ALWAYS_INLINE int peak16(const uint8_t *const *x, size_t n_in, size_t sb, size_t n_tokens) {
    int peak = 0;
    for (size_t t = 0; t < n_tokens; t++) {
        int p = mr_q8_256_metas(x[t], n_in)[sb].peak16;
        peak = p > peak ? p : peak;
    }
    return peak;
}

ALWAYS_INLINE void k16_sums(k16_kind kind, const __m512i scales[4], const uint8_t *quants, __m512i levels,
                            const uint8_t *const *x, size_t n_in, size_t sb, size_t n_tokens, __m512i *isum) {
    bool always = kind == K16_Q2 || kind == K16_Q3;
    fetch_acts(x[0] + (sb + 1) * sizeof(mr_q8_256), sizeof(mr_q8_256), n_tokens);
    if (always || peak16(x, n_in, sb, n_tokens) <= narrow_peak(kind)) {
        k16_groups(kind, scales, quants, levels, x, n_in, sb, n_tokens, true, isum);
    } else {
        k16_groups(kind, scales, quants, levels, x, n_in, sb, n_tokens, false, isum);
    }
}

ALWAYS_INLINE void add_rows(__m512 d, const __m512i *isum, const uint8_t *const *x, size_t n_in, size_t sb,
                            size_t n_tokens, float *out) {
    for (size_t t = 0; t < n_tokens; t++) {
        __m512 v = _mm512_mul_ps(d, _mm512_cvtepi32_ps(isum[t]));
        add_tile_row(out + 16 * t, sb, _mm512_set1_ps(mr_q8_256_metas(x[t], n_in)[sb].d), v);
    }
}

ALWAYS_INLINE void q6_k_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    for (size_t sb = 0; sb < n_in / 256; sb++) {
        const uint8_t *p = panel + mr_pair_quants(sb, MR_Q6_K_BYTES);
        __m512i isum[MR_TILE_TOKENS], scales[4];
        for (int i = 0; i < 4; i++) scales[i] = _mm512_load_si512(p + 64 * i);
        __m512 d = load_halves(panel + mr_pair_scales(sb, MR_Q6_K_BYTES));
        k16_sums(K16_Q6, scales, p + 256, scales[0], x, n_in, sb, n_tokens, isum);
        add_rows(d, isum, x, n_in, sb, n_tokens, out);
    }
}

ALWAYS_INLINE void q3_k_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    for (size_t sb = 0; sb < n_in / 256; sb++) {
        const uint8_t *p = panel + mr_pair_quants(sb, MR_Q3_K_BYTES);
        __m512i isum[MR_TILE_TOKENS], scales[4];
        load_six_bits(p, scales);
        for (int i = 0; i < 4; i++) scales[i] = _mm512_sub_epi8(scales[i], _mm512_set1_epi8(32));
        __m512 d = load_halves(panel + mr_pair_scales(sb, MR_Q3_K_BYTES));
        k16_sums(K16_Q3, scales, p + 192, scales[0], x, n_in, sb, n_tokens, isum);
        add_rows(d, isum, x, n_in, sb, n_tokens, out);
    }
}

/* Sum of minimum * factor * sum of 16 q, negated. */
ALWAYS_INLINE __m512i neg_min_sum(const __m512i mins[4], const int32_t neg_sum[16], const int16_t factors[8]) {
    __m512i sum = _mm512_setzero_si512();
    for (int g = 0; g < 16; g++) {
        __m512i min = _mm512_and_si512(_mm512_srli_epi32(mins[g / 4], 8 * (unsigned)(g % 4)), _mm512_set1_epi32(15));
        sum = _mm512_dpwssd_epi32(sum, min, _mm512_set1_epi32(neg_sum[g] * factors[g / 2]));
    }
    return sum;
}

ALWAYS_INLINE void q2_k_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    const __m512i low4 = _mm512_set1_epi8(15);
    for (size_t sb = 0; sb < n_in / 256; sb++, panel += MR_Q2_K_BYTES) {
        __m512i isum[MR_TILE_TOKENS], scales[4], mins[4];
        __m512 d = load_halves(panel), dmin = load_halves(panel + 32);
        for (int i = 0; i < 4; i++) {
            __m512i both = _mm512_load_si512(panel + 64 + 64 * i);
            scales[i] = _mm512_and_si512(both, low4);
            mins[i] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low4);
        }
        k16_sums(K16_Q2, scales, panel + 320, scales[0], x, n_in, sb, n_tokens, isum);
        for (size_t t = 0; t < n_tokens; t++) {
            const mr_q8_256_meta *meta = mr_q8_256_metas(x[t], n_in) + sb;
            __m512i msum = neg_min_sum(mins, ((const mr_q8_256 *)x[t])[sb].neg_sum, meta->factor);
            msum = _mm512_sub_epi32(_mm512_setzero_si512(), msum);
            __m512 v = _mm512_fmsub_ps(d, _mm512_cvtepi32_ps(isum[t]), _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(msum)));
            add_tile_row(out + 16 * t, sb, _mm512_set1_ps(meta->d), v);
        }
    }
}

ALWAYS_INLINE void codebook_panel(mr_layout layout, const uint8_t *panel, size_t n_in, const uint8_t *const *x,
                                  size_t n_tokens, float *out) {
    __m512i levels = level_table(layout, 1 << CODEBOOK_ZERO_BITS);
    for (size_t sb = 0; sb < n_in / 256; sb++, panel += MR_CODEBOOK_BYTES) {
        __m512i isum[MR_TILE_TOKENS], scales[4];
        for (int i = 0; i < 4; i++) scales[i] = _mm512_load_si512(panel + 64 + 64 * i);
        k16_sums(K16_CODEBOOK, scales, panel + 320, levels, x, n_in, sb, n_tokens, isum);
        add_rows(_mm512_load_ps(panel), isum, x, n_in, sb, n_tokens, out);
    }
}

ALWAYS_INLINE void codebook_tile(const mr_tile *tile, mr_layout layout) {
    for (size_t p = 0; p < tile->n_panels; p++) {
        codebook_panel(layout, tile->panels + p * tile->step, tile->n_in, tile->x, tile->n_tokens,
                       tile->out + p * tile->n_tokens * 16);
    }
}

/* One scale for the whole super-block: a sum is multiplied by the factor of its activations alone. */
ALWAYS_INLINE void ternary_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                                 float *out) {
    for (size_t sb = 0; sb < n_in / 256; sb++) {
        const uint8_t *p = panel + mr_pair_quants(sb, MR_TERNARY_BYTES);
        __m512i isum[MR_TILE_TOKENS];
        for (size_t quad = 0; quad < 4; quad++) {
            __m512i w[16];
            fetch ahead = fetch_start(p + quad * 256, 256);
            for (size_t g = 0; g < 4; g++) load_two_bits(p + (4 * quad + g) * 64, w + 4 * g);
            for (size_t t = 0; t < n_tokens; t++) {
                const mr_q8_256 *block = (const mr_q8_256 *)x[t] + sb;
                const int32_t *neg_sum = block->neg_sum + 4 * quad;
                const int8_t *q = pinned(block->q + 64 * quad);
                fetch_share(&ahead, n_tokens);
                __m512i a = _mm512_add_epi32(four(neg_sum), four(neg_sum + 1));
                __m512i b = _mm512_add_epi32(four(neg_sum + 2), four(neg_sum + 3));
                a = dot32(w, q, a, n_tokens == 1), b = dot32(w + 8, q + 32, b, n_tokens == 1);
                /* Sums are at most 32 * 127. */
                isum[t] = add_scaled(quad == 0 ? _mm512_setzero_si512() : isum[t], a, b,
                                     four(mr_q8_256_metas(x[t], n_in)[sb].factor + 2 * quad), true);
            }
        }
        add_rows(load_halves(panel + mr_pair_scales(sb, MR_TERNARY_BYTES)), isum, x, n_in, sb, n_tokens, out);
    }
}

DEFINE_TILE(mr_tile_q6_k_avx512, q6_k_panel)
DEFINE_TILE(mr_tile_q3_k_avx512, q3_k_panel)
DEFINE_TILE(mr_tile_q2_k_avx512, q2_k_panel)
DEFINE_TILE(mr_tile_ternary_avx512, ternary_panel)

void mr_tile_iq1_avx512(const mr_tile *tile) {
    codebook_tile(tile, MR_LAYOUT_IQ1);
}

void mr_tile_iq2_avx512(const mr_tile *tile) {
    codebook_tile(tile, MR_LAYOUT_IQ2);
}

void mr_tile_iq3_xxs_avx512(const mr_tile *tile) {
    codebook_tile(tile, MR_LAYOUT_IQ3_XXS);
}

void mr_tile_iq3_s_avx512(const mr_tile *tile) {
    codebook_tile(tile, MR_LAYOUT_IQ3_S);
}
