/* Super-block types with groups of 16 values, with AVX2, as in matrix_k32_avx2.c. */
#include "compute/matrix_avx2.h"

typedef enum k16_kind { K16_Q6, K16_Q3, K16_Q2, K16_CODEBOOK } k16_kind;

ALWAYS_INLINE void load_two_bits(const uint8_t *p, __m256i w[4]) {
    const __m256i mask = _mm256_set1_epi8(3);
    __m256i v = load256(p);
    w[0] = _mm256_and_si256(v, mask);
    w[1] = _mm256_and_si256(_mm256_srli_epi16(v, 2), mask);
    w[2] = _mm256_and_si256(_mm256_srli_epi16(v, 4), mask);
    w[3] = _mm256_and_si256(_mm256_srli_epi16(v, 6), mask);
}

ALWAYS_INLINE void load_q6(const uint8_t *group, __m256i w[4]) {
    const __m256i mask = _mm256_set1_epi8(0x30);
    __m256i top = load256(group);
    load_nibbles(group + 64, 2, w);
    w[0] = or_masked(w[0], _mm256_slli_epi16(top, 4), mask);
    w[1] = or_masked(w[1], _mm256_slli_epi16(top, 2), mask);
    w[2] = or_masked(w[2], top, mask);
    w[3] = or_masked(w[3], _mm256_srli_epi16(top, 2), mask);
}

/* The even or odd one of two groups that share a vector of third bits. */
ALWAYS_INLINE void load_q3(const uint8_t *groups, size_t odd, __m256i w[4]) {
    const __m256i mask = _mm256_set1_epi8(4);
    __m256i third = _mm256_srl_epi16(load256(groups), _mm_cvtsi32_si128(4 * (int)odd));
    load_two_bits(groups + 64 + 64 * odd, w);
    w[0] = or_masked(w[0], _mm256_slli_epi16(third, 2), mask);
    w[1] = or_masked(w[1], _mm256_slli_epi16(third, 1), mask);
    w[2] = or_masked(w[2], third, mask);
    w[3] = or_masked(w[3], _mm256_srli_epi16(third, 1), mask);
}

ALWAYS_INLINE void load_group(k16_kind kind, const uint8_t *quants, size_t g, __m256i levels, __m256i w[4]) {
    switch (kind) {
    case K16_Q6:
        load_q6(quants + g * 192, w);
        break;
    case K16_Q3:
        load_q3(quants + g / 2 * 192, g % 2, w);
        break;
    case K16_Q2:
        load_two_bits(quants + g * 64, w);
        break;
    case K16_CODEBOOK:
        load_levels(quants + g * 128, 2, levels, w);
        break;
    }
}

/* Sums of products in 16 bits of n vectors; the unsigned ones are below 64 (n = 2) or 8 (n = 4). */
ALWAYS_INLINE __m256i dot_words(const __m256i *w, int n, const int8_t *q) {
    __m256i sum = _mm256_maddubs_epi16(w[0], four(q));
    for (int i = 1; i < n; i++) sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w[i], four(q + 4 * i)));
    return sum;
}

/* scale * sum of w q, less the stored zero's part. Levels are at most 62 in magnitude. */
ALWAYS_INLINE __m256i scaled_dot16(k16_kind kind, const __m256i w[4], const mr_q8_256 *block, size_t g, __m256i both,
                                   __m256i low) {
    const int8_t *q = block->q + 16 * g;
    if (kind == K16_Q2) return _mm256_madd_epi16(dot_words(w, 4, q), both);
    if (kind == K16_CODEBOOK) {
        __m256i first = _mm256_add_epi16(signed_products(w[0], q), signed_products(w[1], q + 4));
        __m256i second = _mm256_add_epi16(signed_products(w[2], q + 8), signed_products(w[3], q + 12));
        return _mm256_add_epi32(_mm256_madd_epi16(first, both), _mm256_madd_epi16(second, both));
    }
    __m256i zero = _mm256_madd_epi16(four(&block->neg_sum[g]), low);
    if (kind == K16_Q3) {
        return _mm256_add_epi32(_mm256_madd_epi16(dot_words(w, 4, q), both), _mm256_slli_epi32(zero, 2));
    }
    __m256i dot = _mm256_add_epi32(_mm256_madd_epi16(dot_words(w, 2, q), both),
                                   _mm256_madd_epi16(dot_words(w + 2, 2, q + 8), both));
    return _mm256_add_epi32(dot, _mm256_slli_epi32(zero, 5));
}

ALWAYS_INLINE void k16_sums(k16_kind kind, const __m256i scales[4], const uint8_t *quants, __m256i levels,
                            const uint8_t *const *x, size_t n_in, size_t sb, size_t n_tokens, __m256i *isum) {
    for (size_t g = 0; g < 16; g++) {
        __m256i w[4], both = both_scales(scales[g / 4], g % 4), low = low_scale(scales[g / 4], g % 4);
        load_group(kind, quants, g, levels, w);
        for (size_t t = 0; t < n_tokens; t++) {
            const mr_q8_256 *block = (const mr_q8_256 *)x[t] + sb;
            __m256i before = g == 0 ? _mm256_setzero_si256() : isum[t];
            int16_t factor = mr_q8_256_metas(x[t], n_in)[sb].factor[g / 2];
            __m256i product = scaled_dot16(kind, w, block, g, times_factor(both, factor), times_factor(low, factor));
            isum[t] = _mm256_add_epi32(before, product);
        }
    }
}

ALWAYS_INLINE void add_rows(__m256 d, const __m256i *isum, const uint8_t *const *x, size_t n_in, size_t sb,
                            size_t n_tokens, float *out) {
    for (size_t t = 0; t < n_tokens; t++) {
        __m256 v = _mm256_mul_ps(d, _mm256_cvtepi32_ps(isum[t]));
        add_tile_row(out + 16 * t, sb, _mm256_set1_ps(mr_q8_256_metas(x[t], n_in)[sb].d), v);
    }
}

ALWAYS_INLINE void q6_k_half(const uint8_t *panel, size_t sb, size_t half, size_t n_in, const uint8_t *const *x,
                             size_t n_tokens, float *out) {
    const uint8_t *p = panel + mr_pair_quants(sb, MR_Q6_K_BYTES) + 32 * half;
    __m256i isum[MR_TILE_TOKENS], scales[4];
    for (int i = 0; i < 4; i++) scales[i] = load256(p + 64 * i);
    k16_sums(K16_Q6, scales, p + 256, scales[0], x, n_in, sb, n_tokens, isum);
    add_rows(load_halves(panel + mr_pair_scales(sb, MR_Q6_K_BYTES) + 16 * half), isum, x, n_in, sb, n_tokens, out);
}

ALWAYS_INLINE void q3_k_half(const uint8_t *panel, size_t sb, size_t half, size_t n_in, const uint8_t *const *x,
                             size_t n_tokens, float *out) {
    const uint8_t *p = panel + mr_pair_quants(sb, MR_Q3_K_BYTES) + 32 * half;
    __m256i isum[MR_TILE_TOKENS], scales[4];
    load_six_bits(p, scales);
    for (int i = 0; i < 4; i++) scales[i] = _mm256_sub_epi8(scales[i], _mm256_set1_epi8(32));
    k16_sums(K16_Q3, scales, p + 192, scales[0], x, n_in, sb, n_tokens, isum);
    add_rows(load_halves(panel + mr_pair_scales(sb, MR_Q3_K_BYTES) + 16 * half), isum, x, n_in, sb, n_tokens, out);
}

/* Sum of minimum * factor * sum of 16 q, negated. */
ALWAYS_INLINE __m256i neg_min_sum(const __m256i mins[4], const int32_t neg_sum[16], const int16_t factors[8]) {
    __m256i sum = _mm256_setzero_si256();
    for (size_t g = 0; g < 16; g++) {
        sum = _mm256_add_epi32(
            sum, _mm256_madd_epi16(low_scale(mins[g / 4], g % 4), _mm256_set1_epi32(neg_sum[g] * factors[g / 2])));
    }
    return sum;
}

ALWAYS_INLINE void q2_k_half(const uint8_t *panel, size_t sb, size_t half, size_t n_in, const uint8_t *const *x,
                             size_t n_tokens, float *out) {
    const __m256i low4 = _mm256_set1_epi8(15);
    panel += sb * MR_Q2_K_BYTES;
    __m256i isum[MR_TILE_TOKENS], scales[4], mins[4];
    __m256 d = load_halves(panel + 16 * half), dmin = load_halves(panel + 32 + 16 * half);
    for (int i = 0; i < 4; i++) {
        __m256i both = load256(panel + 64 + 64 * i + 32 * half);
        scales[i] = _mm256_and_si256(both, low4);
        mins[i] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low4);
    }
    k16_sums(K16_Q2, scales, panel + 320 + 32 * half, scales[0], x, n_in, sb, n_tokens, isum);
    for (size_t t = 0; t < n_tokens; t++) {
        const mr_q8_256_meta *meta = mr_q8_256_metas(x[t], n_in) + sb;
        __m256i msum = neg_min_sum(mins, ((const mr_q8_256 *)x[t])[sb].neg_sum, meta->factor);
        msum = _mm256_sub_epi32(_mm256_setzero_si256(), msum);
        __m256 v = _mm256_fmsub_ps(d, _mm256_cvtepi32_ps(isum[t]), _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(msum)));
        add_tile_row(out + 16 * t, sb, _mm256_set1_ps(meta->d), v);
    }
}

ALWAYS_INLINE void codebook_half(mr_layout layout, const uint8_t *panel, size_t sb, size_t half, size_t n_in,
                                 const uint8_t *const *x, size_t n_tokens, float *out) {
    __m256i levels = level_table(layout);
    panel += sb * MR_CODEBOOK_BYTES;
    __m256i isum[MR_TILE_TOKENS], scales[4];
    for (int i = 0; i < 4; i++) scales[i] = load256(panel + 64 + 64 * i + 32 * half);
    k16_sums(K16_CODEBOOK, scales, panel + 320 + 32 * half, levels, x, n_in, sb, n_tokens, isum);
    add_rows(_mm256_load_ps((const float *)panel + 8 * half), isum, x, n_in, sb, n_tokens, out);
}

ALWAYS_INLINE void codebook_tile(const mr_tile *tile, mr_layout layout) {
    for (size_t p = 0; p < tile->n_panels; p++) {
        const uint8_t *panel = tile->panels + p * tile->step;
        float *out = tile->out + p * tile->n_tokens * 16;
        for (size_t sb = 0; sb < tile->n_in / 256; sb++) {
            for (size_t half = 0; half < 2; half++) {
                codebook_half(layout, panel, sb, half, tile->n_in, tile->x, tile->n_tokens, out + 8 * half);
            }
        }
    }
}

ALWAYS_INLINE void ternary_half(const uint8_t *panel, size_t sb, size_t half, size_t n_in, const uint8_t *const *x,
                                size_t n_tokens, float *out) {
    const uint8_t *p = panel + mr_pair_quants(sb, MR_TERNARY_BYTES) + 32 * half;
    __m256i isum[MR_TILE_TOKENS];
    for (size_t g = 0; g < 8; g++) {
        __m256i w[8];
        load_two_bits(p + 128 * g, w);
        load_two_bits(p + 128 * g + 64, w + 4);
        for (size_t t = 0; t < n_tokens; t++) {
            const mr_q8_256 *block = (const mr_q8_256 *)x[t] + sb;
            int16_t factor = mr_q8_256_metas(x[t], n_in)[sb].factor[g];
            __m256i zero = _mm256_set1_epi32(factor * (block->neg_sum[2 * g] + block->neg_sum[2 * g + 1]));
            __m256i dot = _mm256_madd_epi16(dot_words(w, 8, block->q + 32 * g), _mm256_set1_epi16(factor));
            isum[t] = _mm256_add_epi32(g == 0 ? zero : _mm256_add_epi32(isum[t], zero), dot);
        }
    }
    add_rows(load_halves(panel + mr_pair_scales(sb, MR_TERNARY_BYTES) + 16 * half), isum, x, n_in, sb, n_tokens, out);
}

DEFINE_TILE(mr_tile_q6_k_avx2, q6_k_half, 256)
DEFINE_TILE(mr_tile_q3_k_avx2, q3_k_half, 256)
DEFINE_TILE(mr_tile_q2_k_avx2, q2_k_half, 256)
DEFINE_TILE(mr_tile_ternary_avx2, ternary_half, 256)

void mr_tile_iq1_avx2(const mr_tile *tile) {
    codebook_tile(tile, MR_LAYOUT_IQ1);
}

void mr_tile_iq2_avx2(const mr_tile *tile) {
    codebook_tile(tile, MR_LAYOUT_IQ2);
}

void mr_tile_iq3_xxs_avx2(const mr_tile *tile) {
    codebook_tile(tile, MR_LAYOUT_IQ3_XXS);
}

void mr_tile_iq3_s_avx2(const mr_tile *tile) {
    codebook_tile(tile, MR_LAYOUT_IQ3_S);
}
