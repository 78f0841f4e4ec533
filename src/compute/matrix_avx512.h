/* What the AVX-512 kernels share. */
#ifndef MR_COMPUTE_MATRIX_AVX512_H
#define MR_COMPUTE_MATRIX_AVX512_H

#include "compute/matrix_impl.h"

#include <immintrin.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Four bytes (or two halves, or one int32) in all lanes. */
ALWAYS_INLINE __m512i four(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

/* sum + products of the unsigned bytes w with the four signed bytes at q. In assembly since GCC does not put the broadcast into
 * the instruction. */
ALWAYS_INLINE __m512i dot_four(__m512i sum, __m512i w, const void *q) {
    struct four_bytes { int8_t v[4]; };
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*(const struct four_bytes *)q));
    return sum;
}

ALWAYS_INLINE __m512 load_halves(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)p));
}

/* n nibble vectors as 2n vectors of bytes. */
ALWAYS_INLINE void load_nibbles(const uint8_t *p, int n, __m512i *w) {
    const __m512i low4 = _mm512_set1_epi8(15);
    for (int i = 0; i < n; i++) {
        __m512i v = _mm512_load_si512(p + 64 * i);
        w[2 * i] = _mm512_and_si512(v, low4);
        w[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low4);
    }
}

/* Adds factor * v to a row of the tile; block 0 starts it. */
ALWAYS_INLINE void add_tile_row(float *row, size_t block, __m512 factor, __m512 v) {
    __m512 before = block == 0 ? _mm512_setzero_ps() : _mm512_load_ps(row);
    _mm512_store_ps(row, _mm512_fmadd_ps(factor, v, before));
}

/* A tile function from one for a panel: a copy for a single token, where all loops over tokens fall away. */
#define DEFINE_TILE(name, panel_function)                                                                              \
    void name(const mr_tile *tile) {                                                                                   \
        for (size_t p = 0; p < tile->n_panels; p++) {                                                                  \
            const uint8_t *panel = tile->panels + p * tile->panel_bytes;                                               \
            float *out = tile->out + p * tile->n_tokens * 16;                                                          \
            if (tile->n_tokens == 1) {                                                                                 \
                panel_function(panel, tile->n_in, tile->x, 1, out);                                                    \
            } else {                                                                                                   \
                panel_function(panel, tile->n_in, tile->x, tile->n_tokens, out);                                       \
            }                                                                                                          \
        }                                                                                                              \
    }

void mr_tile_q4_k_avx512(const mr_tile *tile);
void mr_tile_q5_k_avx512(const mr_tile *tile);
void mr_tile_q6_k_avx512(const mr_tile *tile);
void mr_tile_q8_0_avx512(const mr_tile *tile);
void mr_tile_q4_0_avx512(const mr_tile *tile);
void mr_tile_f32_avx512(const mr_tile *tile);
void mr_tile_f16_avx512(const mr_tile *tile);
void mr_tile_bf16_avx512(const mr_tile *tile);

#endif
