/* Weights of 8-bit floats, with AVX2. */
#include "compute/matrix_avx2.h"

enum { TOKENS_AT_ONCE = 2 };

/* 16 bytes as floats, 2^-8 times the number: the digits of a byte are moved to where a half float has them. */
ALWAYS_INLINE void load_weights(const uint8_t *p, __m256 w[2]) {
    __m256i v = _mm256_cvtepu8_epi16(_mm_load_si128((const __m128i *)p));
    __m256i sign = _mm256_slli_epi16(_mm256_and_si256(v, _mm256_set1_epi16(0x80)), 8);
    __m256i half = _mm256_or_si256(sign, _mm256_slli_epi16(_mm256_and_si256(v, _mm256_set1_epi16(0x7F)), 7));
    w[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(half));
    w[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1));
}

/* A block of 64 k of a panel with n tokens. */
ALWAYS_INLINE void add_block(const uint8_t *p, size_t b, const uint8_t *const *x, size_t n, float *out) {
    __m256 part[TOKENS_AT_ONCE][2][2];
    for (size_t t = 0; t < n; t++) part[t][0][0] = part[t][0][1] = part[t][1][0] = part[t][1][1] = _mm256_setzero_ps();
    for (size_t k = 0; k < 64; k += 2) {
        for (size_t odd = 0; odd < 2; odd++) {
            __m256 w[2];
            load_weights(p + 64 + 16 * (k + odd), w);
            for (size_t t = 0; t < n; t++) {
                __m256 v = _mm256_castsi256_ps(four(x[t] + 4 * (64 * b + k + odd)));
                part[t][odd][0] = _mm256_fmadd_ps(w[0], v, part[t][odd][0]);
                part[t][odd][1] = _mm256_fmadd_ps(w[1], v, part[t][odd][1]);
            }
        }
    }
    for (size_t t = 0; t < n; t++) {
        for (size_t half = 0; half < 2; half++) {
            __m256 d = _mm256_load_ps((const float *)(p + 32 * half));
            add_tile_row(out + 16 * t + 8 * half, b, d, _mm256_add_ps(part[t][0][half], part[t][1][half]));
        }
    }
}

void mr_tile_f8_avx2(const mr_tile *tile) {
    for (size_t p = 0; p < tile->n_panels; p++) {
        const uint8_t *panel = tile->panels + p * tile->step;
        float *out = tile->out + p * tile->n_tokens * 16;
        for (size_t b = 0; b < tile->n_in / 64; b++, panel += MR_F8_BYTES) {
            size_t t = 0;
            for (; t + 2 <= tile->n_tokens; t += 2) add_block(panel, b, tile->x + t, 2, out + 16 * t);
            if (t < tile->n_tokens) add_block(panel, b, tile->x + t, 1, out + 16 * t);
        }
    }
}
