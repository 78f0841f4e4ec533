/* Super-block types with groups of 32 values, with AVX2: vpmaddubsw makes sums of two products, which are added up in
 * 16 bits as far as they fit and then scaled by vpmaddwd. */
#include "compute/matrix_avx2.h"

typedef struct k_head {
    __m256 d, dmin;
    __m256i scale[8]; /* of a group, in both halves of a row's dword */
    __m256i min[4];   /* pairs (0 1) (2 3) (4 5) (6 7) */
} k_head;

ALWAYS_INLINE void split_pairs(__m256i bytes, __m256i pairs[2]) {
    pairs[0] = _mm256_and_si256(bytes, _mm256_set1_epi16(0xFF));
    pairs[1] = _mm256_srli_epi16(bytes, 8);
}

ALWAYS_INLINE void load_k_head(const uint8_t *p, size_t half, k_head *head) {
    __m256i v[4];
    load_six_bits(p + 64 + 32 * half, v);
    head->d = load_halves(p + 16 * half);
    head->dmin = load_halves(p + 32 + 16 * half);
    for (size_t g = 0; g < 8; g++) head->scale[g] = both_scales(v[g / 4], mr_group_byte(g % 4));
    split_pairs(v[2], head->min);
    split_pairs(v[3], head->min + 2);
}

/* Sums of products in 16 bits: 8 vectors of numbers below 16, or 4 below 32. */
ALWAYS_INLINE __m256i dot_words(const __m256i *w, int n, const int8_t *q) {
    __m256i sum = _mm256_maddubs_epi16(w[0], four(q));
    for (int i = 1; i < n; i++) sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w[i], four(q + 4 * i)));
    return sum;
}

ALWAYS_INLINE __m256i scaled_dot32(const __m256i w[8], int bits, const int8_t *q, __m256i scale) {
    if (bits == 4) return _mm256_madd_epi16(dot_words(w, 8, q), scale);
    return _mm256_add_epi32(_mm256_madd_epi16(dot_words(w, 4, q), scale),
                            _mm256_madd_epi16(dot_words(w + 4, 4, q + 16), scale));
}

ALWAYS_INLINE void k_half(const uint8_t *panel, int bits, size_t sb, size_t half, size_t n_in, const uint8_t *const *x,
                          size_t n_tokens, float *out) {
    const size_t step = bits == 4 ? MR_Q4_K_BYTES : MR_Q5_K_BYTES, group_bytes = bits == 4 ? 256 : 320;
    panel += sb * step;
    __m256i isum[MR_TILE_TOKENS];
    k_head head;
    load_k_head(panel, half, &head);
    for (size_t g = 0; g < 8; g++) {
        __m256i w[8];
        const uint8_t *group = panel + 256 + g * group_bytes + 32 * half;
        if (bits == 4) {
            load_nibbles(group, 4, w);
        } else {
            load_five_bits(group, w);
        }
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *q = (const int8_t *)x[t] + sb * sizeof(mr_q8_256) + 32 * g;
            __m256i before = g == 0 ? _mm256_setzero_si256() : isum[t];
            __m256i scale = times_factor(head.scale[g], mr_q8_256_metas(x[t], n_in)[sb].factor[g]);
            isum[t] = _mm256_add_epi32(before, scaled_dot32(w, bits, q, scale));
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        const mr_q8_256_meta *meta = mr_q8_256_metas(x[t], n_in) + sb;
        __m256i msum = _mm256_madd_epi16(head.min[0], four(meta->sum32));
        for (int i = 1; i < 4; i++) {
            msum = _mm256_add_epi32(msum, _mm256_madd_epi16(head.min[i], four(meta->sum32 + 2 * i)));
        }
        __m256 v =
            _mm256_fmsub_ps(head.d, _mm256_cvtepi32_ps(isum[t]), _mm256_mul_ps(head.dmin, _mm256_cvtepi32_ps(msum)));
        add_tile_row(out + 16 * t, sb, _mm256_set1_ps(meta->d), v);
    }
}

ALWAYS_INLINE void q4_k_half(const uint8_t *panel, size_t sb, size_t half, size_t n_in, const uint8_t *const *x,
                             size_t n_tokens, float *out) {
    k_half(panel, 4, sb, half, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q5_k_half(const uint8_t *panel, size_t sb, size_t half, size_t n_in, const uint8_t *const *x,
                             size_t n_tokens, float *out) {
    k_half(panel, 5, sb, half, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void iq4_xs_half(const uint8_t *panel, size_t sb, size_t half, size_t n_in, const uint8_t *const *x,
                               size_t n_tokens, float *out) {
    __m256i levels = level_table(MR_LAYOUT_IQ4_XS);
    const uint8_t *p = panel + mr_pair_quants(sb, MR_IQ4_XS_BYTES) + 32 * half;
    __m256i isum[MR_TILE_TOKENS];
    __m256 d = load_halves(panel + mr_pair_scales(sb, MR_IQ4_XS_BYTES) + 16 * half);
    for (size_t g = 0; g < 8; g++) {
        __m256i w[8], scale = both_scales(load256(p + g / 4 * 64), mr_group_byte(g % 4));
        load_levels(p + 128 + g * 256, 4, levels, w);
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *q = (const int8_t *)x[t] + sb * sizeof(mr_q8_256) + 32 * g;
            __m256i sum = g == 0 ? _mm256_setzero_si256() : isum[t];
            __m256i scales = times_factor(scale, mr_q8_256_metas(x[t], n_in)[sb].factor[g]);
            for (int i = 0; i < 8; i++) {
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(signed_products(w[i], q + 4 * i), scales));
            }
            isum[t] = sum;
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        __m256 v = _mm256_mul_ps(d, _mm256_cvtepi32_ps(isum[t]));
        add_tile_row(out + 16 * t, sb, _mm256_set1_ps(mr_q8_256_metas(x[t], n_in)[sb].d), v);
    }
}

DEFINE_TILE(mr_tile_q4_k_avx2, q4_k_half, 256)
DEFINE_TILE(mr_tile_q5_k_avx2, q5_k_half, 256)
DEFINE_TILE(mr_tile_iq4_xs_avx2, iq4_xs_half, 256)
