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

/* Adds factor * v to half a row of the tile; block 0 starts it. */
ALWAYS_INLINE void add_tile_row(float *row, size_t block, __m256 factor, __m256 v) {
    __m256 before = block == 0 ? _mm256_setzero_ps() : _mm256_load_ps(row);
    _mm256_store_ps(row, _mm256_fmadd_ps(factor, v, before));
}

/* A tile function from one for half a panel. */
#define DEFINE_TILE(name, half_function)                                                                               \
    void name(const mr_tile *tile) {                                                                                   \
        for (size_t p = 0; p < tile->n_panels; p++) {                                                                  \
            const uint8_t *panel = tile->panels + p * tile->panel_bytes;                                               \
            float *out = tile->out + p * tile->n_tokens * 16;                                                          \
            for (size_t half = 0; half < 2; half++) {                                                                  \
                if (tile->n_tokens == 1) {                                                                             \
                    half_function(panel, half, tile->n_in, tile->x, 1, out + 8 * half);                                \
                } else {                                                                                               \
                    half_function(panel, half, tile->n_in, tile->x, tile->n_tokens, out + 8 * half);                   \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

void mr_tile_q4_k_avx2(const mr_tile *tile);
void mr_tile_q5_k_avx2(const mr_tile *tile);
void mr_tile_q6_k_avx2(const mr_tile *tile);
void mr_tile_q8_0_avx2(const mr_tile *tile);
void mr_tile_q4_0_avx2(const mr_tile *tile);
void mr_tile_f32_avx2(const mr_tile *tile);
void mr_tile_f16_avx2(const mr_tile *tile);
void mr_tile_bf16_avx2(const mr_tile *tile);

#endif
