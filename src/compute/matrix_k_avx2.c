/* Super-block types with AVX2: vpmaddubsw makes sums of two products, which are added up in 16 bits as far as they fit and then
 * scaled by vpmaddwd. */
#include "compute/matrix_avx2.h"

/* -- Q4_K and Q5_K. */

typedef struct k_head {
    __m256 d, dmin;
    __m256i scale[8]; /* of a group, in both halves of a row's dword */
    __m256i min[4];   /* pairs (0 2) (1 3) (4 6) (5 7) */
} k_head;

ALWAYS_INLINE void split_pairs(__m256i bytes, __m256i pairs[2]) {
    pairs[0] = _mm256_and_si256(bytes, _mm256_set1_epi16(0xFF));
    pairs[1] = _mm256_srli_epi16(bytes, 8);
}

/* Byte i of each dword, in both of its halves. */
ALWAYS_INLINE __m256i both_halves(__m256i bytes, int i) {
    const char zero = (char)0x80;
    const char c = (char)i;
    const __m256i index = _mm256_setr_epi8(
        c, zero, c, zero, (char)(c + 4), zero, (char)(c + 4), zero, (char)(c + 8), zero, (char)(c + 8), zero,
        (char)(c + 12), zero, (char)(c + 12), zero, c, zero, c, zero, (char)(c + 4), zero, (char)(c + 4), zero,
        (char)(c + 8), zero, (char)(c + 8), zero, (char)(c + 12), zero, (char)(c + 12), zero);
    return _mm256_shuffle_epi8(bytes, index);
}

ALWAYS_INLINE void load_k_head(const uint8_t *p, size_t half, k_head *head) {
    const __m256i low6 = _mm256_set1_epi8(63);
    __m256i a = load256(p + 64 + 32 * half), b = load256(p + 128 + 32 * half), c = load256(p + 192 + 32 * half);
    __m256i top = _mm256_and_si256(_mm256_srli_epi16(a, 6), _mm256_set1_epi8(0x03));
    top = _mm256_or_si256(top, _mm256_and_si256(_mm256_srli_epi16(b, 4), _mm256_set1_epi8(0x0C)));
    top = _mm256_or_si256(top, _mm256_and_si256(_mm256_srli_epi16(c, 2), _mm256_set1_epi8(0x30)));
    head->d = load_halves(p + 16 * half);
    head->dmin = load_halves(p + 32 + 16 * half);
    a = _mm256_and_si256(a, low6);
    b = _mm256_and_si256(b, low6);
    head->scale[0] = both_halves(a, 0);
    head->scale[1] = both_halves(a, 1);
    head->scale[2] = both_halves(a, 2);
    head->scale[3] = both_halves(a, 3);
    head->scale[4] = both_halves(b, 0);
    head->scale[5] = both_halves(b, 1);
    head->scale[6] = both_halves(b, 2);
    head->scale[7] = both_halves(b, 3);
    split_pairs(_mm256_and_si256(c, low6), head->min);
    split_pairs(top, head->min + 2);
}

/* The 8 vectors of a group of 32. */
ALWAYS_INLINE void load_group(const uint8_t *group, size_t half, int bits, __m256i w[8]) {
    if (bits == 4) {
        load_nibbles(group + 32 * half, 4, w);
        return;
    }
    const __m256i mask = _mm256_set1_epi8(16);
    __m256i fifth = load256(group + 32 * half);
    load_nibbles(group + 64 + 32 * half, 4, w);
#define FIFTH(i, shifted) w[i] = _mm256_or_si256(w[i], _mm256_and_si256(shifted, mask))
    FIFTH(0, _mm256_slli_epi16(fifth, 4));
    FIFTH(1, _mm256_slli_epi16(fifth, 3));
    FIFTH(2, _mm256_slli_epi16(fifth, 2));
    FIFTH(3, _mm256_slli_epi16(fifth, 1));
    FIFTH(4, fifth);
    FIFTH(5, _mm256_srli_epi16(fifth, 1));
    FIFTH(6, _mm256_srli_epi16(fifth, 2));
    FIFTH(7, _mm256_srli_epi16(fifth, 3));
#undef FIFTH
}

/* Sums of products in 16 bits: 4 vectors of numbers below 32, or 2 below 64. */
ALWAYS_INLINE __m256i dot_words(const __m256i *w, int n, const int8_t *q) {
    __m256i sum = _mm256_maddubs_epi16(w[0], four(q));
    for (int i = 1; i < n; i++) sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w[i], four(q + 4 * i)));
    return sum;
}

ALWAYS_INLINE __m256i scaled_dot32(const __m256i w[8], int bits, const int8_t *q, __m256i scale) {
    if (bits == 4) return _mm256_madd_epi16(dot_words(w, 8, q), scale); /* at most 8 * 2 * 15 * 127 */
    return _mm256_add_epi32(_mm256_madd_epi16(dot_words(w, 4, q), scale),
                            _mm256_madd_epi16(dot_words(w + 4, 4, q + 16), scale));
}

ALWAYS_INLINE void k_half(const uint8_t *panel, int bits, size_t half, size_t n_in, const uint8_t *const *x,
                          size_t n_tokens, float *out) {
    const size_t step = bits == 4 ? MR_Q4_K_BYTES : MR_Q5_K_BYTES, group_bytes = bits == 4 ? 256 : 320;
    for (size_t sb = 0; sb < n_in / 256; sb++, panel += step) {
        __m256i isum[MR_TILE_TOKENS];
        k_head head;
        load_k_head(panel, half, &head);
        for (size_t g = 0; g < 8; g++) {
            __m256i w[8];
            load_group(panel + 256 + g * group_bytes, half, bits, w);
            for (size_t t = 0; t < n_tokens; t++) {
                const int8_t *q = (const int8_t *)x[t] + sb * sizeof(mr_q8_256) + 32 * g;
                __m256i before = g == 0 ? _mm256_setzero_si256() : isum[t];
                isum[t] = _mm256_add_epi32(before, scaled_dot32(w, bits, q, head.scale[g]));
            }
        }
        for (size_t t = 0; t < n_tokens; t++) {
            const mr_q8_256_meta *meta = mr_q8_256_metas(x[t], n_in) + sb;
            __m256i msum = _mm256_madd_epi16(head.min[0], four(meta->sum32));
            for (int i = 1; i < 4; i++) {
                msum = _mm256_add_epi32(msum, _mm256_madd_epi16(head.min[i], four(meta->sum32 + 2 * i)));
            }
            __m256 v = _mm256_fmsub_ps(head.d, _mm256_cvtepi32_ps(isum[t]),
                                       _mm256_mul_ps(head.dmin, _mm256_cvtepi32_ps(msum)));
            add_tile_row(out + 16 * t, sb, _mm256_set1_ps(meta->d), v);
        }
    }
}

ALWAYS_INLINE void q4_k_half(const uint8_t *panel, size_t half, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                             float *out) {
    k_half(panel, 4, half, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q5_k_half(const uint8_t *panel, size_t half, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                             float *out) {
    k_half(panel, 5, half, n_in, x, n_tokens, out);
}

/* -- Q6_K. */

ALWAYS_INLINE void load_group6(const uint8_t *group, size_t half, __m256i w[4]) {
    const __m256i mask = _mm256_set1_epi8(0x30);
    __m256i top = load256(group + 32 * half);
    load_nibbles(group + 64 + 32 * half, 2, w);
    w[0] = _mm256_or_si256(w[0], _mm256_and_si256(_mm256_slli_epi16(top, 4), mask));
    w[1] = _mm256_or_si256(w[1], _mm256_and_si256(_mm256_slli_epi16(top, 2), mask));
    w[2] = _mm256_or_si256(w[2], _mm256_and_si256(top, mask));
    w[3] = _mm256_or_si256(w[3], _mm256_and_si256(_mm256_srli_epi16(top, 2), mask));
}

/* Byte i of each dword, sign-extended into both halves, and into the low one alone. */
ALWAYS_INLINE void load_scale6(__m256i bytes, int i, __m256i *both, __m256i *low) {
    __m256i wide = _mm256_srai_epi32(_mm256_sll_epi32(bytes, _mm_cvtsi32_si128(24 - 8 * i)), 24);
    *low = _mm256_and_si256(wide, _mm256_set1_epi32(0xFFFF));
    *both = _mm256_or_si256(*low, _mm256_slli_epi32(wide, 16));
}

/* scale * sum of (w - 32) q */
ALWAYS_INLINE __m256i scaled_dot16(const __m256i w[4], const int8_t *q, const int32_t *neg_sum, __m256i both,
                                   __m256i low) {
    __m256i dot = _mm256_add_epi32(_mm256_madd_epi16(dot_words(w, 2, q), both),
                                   _mm256_madd_epi16(dot_words(w + 2, 2, q + 8), both));
    return _mm256_add_epi32(dot, _mm256_slli_epi32(_mm256_madd_epi16(four(neg_sum), low), 5));
}

ALWAYS_INLINE void q6_k_half(const uint8_t *panel, size_t half, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                             float *out) {
    for (size_t sb = 0; sb < n_in / 256; sb++) {
        const uint8_t *p = panel + mr_pair_quants(sb, MR_Q6_K_BYTES);
        __m256i isum[MR_TILE_TOKENS];
        __m256 d = load_halves(panel + mr_pair_scales(sb, MR_Q6_K_BYTES) + 16 * half);
        for (size_t g = 0; g < 16; g++) {
            __m256i w[4], both, low;
            load_group6(p + 256 + 192 * g, half, w);
            load_scale6(load256(p + g / 4 * 64 + 32 * half), (int)(g % 4), &both, &low);
            for (size_t t = 0; t < n_tokens; t++) {
                const mr_q8_256 *block = (const mr_q8_256 *)x[t] + sb;
                __m256i before = g == 0 ? _mm256_setzero_si256() : isum[t];
                isum[t] = _mm256_add_epi32(before, scaled_dot16(w, block->q + 16 * g, &block->neg_sum[g], both, low));
            }
        }
        for (size_t t = 0; t < n_tokens; t++) {
            const mr_q8_256_meta *meta = mr_q8_256_metas(x[t], n_in) + sb;
            __m256 v = _mm256_mul_ps(d, _mm256_cvtepi32_ps(isum[t]));
            add_tile_row(out + 16 * t, sb, _mm256_set1_ps(meta->d), v);
        }
    }
}

DEFINE_TILE(mr_tile_q4_k_avx2, q4_k_half)
DEFINE_TILE(mr_tile_q5_k_avx2, q5_k_half)
DEFINE_TILE(mr_tile_q6_k_avx2, q6_k_half)
