/* Weights of 8-bit floats, with AVX-512. */
#include "compute/matrix_avx512.h"

enum { TOKENS_AT_ONCE = 4 };

/* 16 bytes as floats, 2^-8 times the number: the digits of a byte are moved to where a half float has them. */
ALWAYS_INLINE __m512 load_weights(const uint8_t *p) {
    __m256i v = _mm256_cvtepu8_epi16(_mm_load_si128((const __m128i *)p));
    __m256i sign = _mm256_slli_epi16(_mm256_and_si256(v, _mm256_set1_epi16(0x80)), 8);
    return _mm512_cvtph_ps(_mm256_or_si256(sign, _mm256_slli_epi16(_mm256_and_si256(v, _mm256_set1_epi16(0x7F)), 7)));
}

/* A block of 64 k of a panel with n tokens. */
ALWAYS_INLINE void add_block(const uint8_t *p, size_t b, const uint8_t *const *x, size_t n, float *out) {
    __m512 part[TOKENS_AT_ONCE][2];
    for (size_t t = 0; t < n; t++) part[t][0] = part[t][1] = _mm512_setzero_ps();
    for (size_t k = 0; k < 64; k += 2) {
        for (size_t odd = 0; odd < 2; odd++) {
            __m512 w = load_weights(p + 64 + 16 * (k + odd));
            for (size_t t = 0; t < n; t++) {
                __m512 v = _mm512_castsi512_ps(four(x[t] + 4 * (64 * b + k + odd)));
                part[t][odd] = _mm512_fmadd_ps(w, v, part[t][odd]);
            }
        }
    }
    for (size_t t = 0; t < n; t++)
        add_tile_row(out + 16 * t, b, _mm512_load_ps(p), _mm512_add_ps(part[t][0], part[t][1]));
}

void mr_tile_f8_avx512(const mr_tile *tile) {
    for (size_t p = 0; p < tile->n_panels; p++) {
        const uint8_t *panel = tile->panels + p * tile->step;
        float *out = tile->out + p * tile->n_tokens * 16;
        for (size_t b = 0; b < tile->n_in / 64; b++, panel += MR_F8_BYTES) {
            size_t t = 0;
            for (; t + 4 <= tile->n_tokens; t += 4) add_block(panel, b, tile->x + t, 4, out + 16 * t);
            for (; t < tile->n_tokens; t++) add_block(panel, b, tile->x + t, 1, out + 16 * t);
        }
    }
}
