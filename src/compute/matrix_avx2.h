/* What the AVX2 kernels share. They take a panel as two halves of 8 rows: 32 bytes of each vector. */
#ifndef MR_COMPUTE_MATRIX_AVX2_H
#define MR_COMPUTE_MATRIX_AVX2_H

#include "compute/matrix_impl.h"

#include <immintrin.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE __m256i load256(const void *p) {
    return _mm256_load_si256((const __m256i *)p);
}

/* Four bytes (or two halves, or one int32) in all lanes. */
ALWAYS_INLINE __m256i four(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}

ALWAYS_INLINE __m256 load_halves(const uint8_t *p) {
    return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)p));
}

/* The half of n nibble vectors that begins at p as 2n vectors of bytes. */
ALWAYS_INLINE void load_nibbles(const uint8_t *p, int n, __m256i *w) {
    const __m256i low4 = _mm256_set1_epi8(15);
    for (int i = 0; i < n; i++) {
        __m256i v = load256(p + 64 * i);
        w[2 * i] = _mm256_and_si256(v, low4);
        w[2 * i + 1] = _mm256_and_si256(_mm256_srli_epi16(v, 4), low4);
    }
}

ALWAYS_INLINE __m256i or_masked(__m256i w, __m256i bits, __m256i mask) {
    return _mm256_or_si256(w, _mm256_and_si256(bits, mask));
}

/* The half that begins at p of a vector of fifth bits and 4 nibble vectors as 8 vectors of bytes. */
ALWAYS_INLINE void load_five_bits(const uint8_t *p, __m256i w[8]) {
    const __m256i mask = _mm256_set1_epi8(16);
    __m256i fifth = load256(p);
    load_nibbles(p + 64, 4, w);
    w[0] = or_masked(w[0], _mm256_slli_epi16(fifth, 4), mask);
    w[1] = or_masked(w[1], _mm256_slli_epi16(fifth, 3), mask);
    w[2] = or_masked(w[2], _mm256_slli_epi16(fifth, 2), mask);
    w[3] = or_masked(w[3], _mm256_slli_epi16(fifth, 1), mask);
    w[4] = or_masked(w[4], fifth, mask);
    w[5] = or_masked(w[5], _mm256_srli_epi16(fifth, 1), mask);
    w[6] = or_masked(w[6], _mm256_srli_epi16(fifth, 2), mask);
    w[7] = or_masked(w[7], _mm256_srli_epi16(fifth, 3), mask);
}

/* The half that begins at p of three vectors of 6-bit numbers as four of bytes. */
ALWAYS_INLINE void load_six_bits(const uint8_t *p, __m256i v[4]) {
    const __m256i low6 = _mm256_set1_epi8(63);
    __m256i a = load256(p), b = load256(p + 64), c = load256(p + 128);
    __m256i top = _mm256_and_si256(_mm256_srli_epi16(a, 6), _mm256_set1_epi8(0x03));
    top = or_masked(top, _mm256_srli_epi16(b, 4), _mm256_set1_epi8(0x0C));
    v[0] = _mm256_and_si256(a, low6);
    v[1] = _mm256_and_si256(b, low6);
    v[2] = _mm256_and_si256(c, low6);
    v[3] = or_masked(top, _mm256_srli_epi16(c, 2), _mm256_set1_epi8(0x30));
}

ALWAYS_INLINE __m256i level_table(mr_layout layout) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)mr_layout_levels(layout)));
}

/* n nibble vectors of indices as 2n vectors of signed levels. */
ALWAYS_INLINE void load_levels(const uint8_t *p, int n, __m256i levels, __m256i *w) {
    load_nibbles(p, n, w);
    for (int i = 0; i < 2 * n; i++) w[i] = _mm256_shuffle_epi8(levels, w[i]);
}

/* Products of signed bytes, two added in 16 bits: |w| times q with the sign of w. */
ALWAYS_INLINE __m256i signed_products(__m256i w, const int8_t *q) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(four(q), w));
}

/* Byte i of each dword, sign-extended, in its low and in both of its 16-bit halves. */
ALWAYS_INLINE __m256i low_scale(__m256i bytes, size_t i) {
    __m256i wide = _mm256_srai_epi32(_mm256_sll_epi32(bytes, _mm_cvtsi32_si128(24 - 8 * (int)i)), 24);
    return _mm256_and_si256(wide, _mm256_set1_epi32(0xFFFF));
}

ALWAYS_INLINE __m256i both_scales(__m256i bytes, size_t i) {
    __m256i low = low_scale(bytes, i);
    return _mm256_or_si256(low, _mm256_slli_epi32(low, 16));
}

/* 16-bit scales times a factor of activations. */
ALWAYS_INLINE __m256i times_factor(__m256i scales, int16_t factor) {
    return _mm256_mullo_epi16(scales, _mm256_set1_epi16(factor));
}

/* Adds factor * v to half a row of the tile; block 0 starts it. */
ALWAYS_INLINE void add_tile_row(float *row, size_t block, __m256 factor, __m256 v) {
    __m256 before = block == 0 ? _mm256_setzero_ps() : _mm256_load_ps(row);
    _mm256_store_ps(row, _mm256_fmadd_ps(factor, v, before));
}

/* A tile function from one for half a block of n_k values of a panel. */
#define DEFINE_TILE(name, half_function, n_k)                                                                          \
    void name(const mr_tile *tile) {                                                                                   \
        for (size_t p = 0; p < tile->n_panels; p++) {                                                                  \
            const uint8_t *panel = tile->panels + p * tile->step;                                                      \
            float *out = tile->out + p * tile->n_tokens * 16;                                                          \
            for (size_t b = 0; b < tile->n_in / (n_k); b++) {                                                          \
                for (size_t half = 0; half < 2; half++) {                                                              \
                    if (tile->n_tokens == 1) {                                                                         \
                        half_function(panel, b, half, tile->n_in, tile->x, 1, out + 8 * half);                         \
                    } else {                                                                                           \
                        half_function(panel, b, half, tile->n_in, tile->x, tile->n_tokens, out + 8 * half);            \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

void mr_tile_q4_k_avx2(const mr_tile *tile);
void mr_tile_q5_k_avx2(const mr_tile *tile);
void mr_tile_q6_k_avx2(const mr_tile *tile);
void mr_tile_q8_0_avx2(const mr_tile *tile);
void mr_tile_q4_0_avx2(const mr_tile *tile);
void mr_tile_q4_1_avx2(const mr_tile *tile);
void mr_tile_q5_0_avx2(const mr_tile *tile);
void mr_tile_q5_1_avx2(const mr_tile *tile);
void mr_tile_iq4_nl_avx2(const mr_tile *tile);
void mr_tile_mxfp4_avx2(const mr_tile *tile);
void mr_tile_q2_k_avx2(const mr_tile *tile);
void mr_tile_q3_k_avx2(const mr_tile *tile);
void mr_tile_iq4_xs_avx2(const mr_tile *tile);
void mr_tile_iq1_avx2(const mr_tile *tile);
void mr_tile_iq2_avx2(const mr_tile *tile);
void mr_tile_iq3_xxs_avx2(const mr_tile *tile);
void mr_tile_iq3_s_avx2(const mr_tile *tile);
void mr_tile_ternary_avx2(const mr_tile *tile);
void mr_tile_f32_avx2(const mr_tile *tile);
void mr_tile_f16_avx2(const mr_tile *tile);
void mr_tile_f8_avx2(const mr_tile *tile);
void mr_tile_q8_m_avx2(const mr_tile *tile);
void mr_tile_bf16_avx2(const mr_tile *tile);

#endif
