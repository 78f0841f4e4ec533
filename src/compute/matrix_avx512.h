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

/* The same pointer in a register of its own. GCC would otherwise keep a dozen sums of offsets, most of them in memory.
 */
ALWAYS_INLINE const void *pinned(const void *p) {
    __asm__("" : "+r"(p));
    return p;
}

/* sum + products of the unsigned bytes w with the four signed bytes at q. In assembly since GCC does not put the
 * broadcast into the instruction. */
ALWAYS_INLINE __m512i dot_four(__m512i sum, __m512i w, const void *q) {
    struct four_bytes {
        int8_t v[4];
    };
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*(const struct four_bytes *)q));
    return sum;
}

/* With several tokens as two chains, which are shorter than the processor's view ahead; a single token waits for its
 * weights. */
ALWAYS_INLINE __m512i dot32(const __m512i w[8], const int8_t *q, __m512i sum, bool single) {
    __m512i more = _mm512_setzero_si512();
    if (single) {
        for (int i = 0; i < 8; i++) sum = dot_four(sum, w[i], q + 4 * i);
        return sum;
    }
    for (int i = 0; i < 4; i++) sum = dot_four(sum, w[i], q + 4 * i);
    for (int i = 4; i < 8; i++) more = dot_four(more, w[i], q + 4 * i);
    return _mm512_add_epi32(sum, more);
}

ALWAYS_INLINE __m512 load_halves(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)p));
}

enum { FETCH_AHEAD = 4096, FETCH_MIN_TOKENS = 2 };

/* Asks for the weights that lie FETCH_AHEAD bytes behind those of a step, some lines with each token. A step on several
 * tokens is so long that neither out-of-order execution nor the hardware's prefetchers reach the weights of the next
 * one; for one or two tokens they do better alone. Spread over the tokens, since a burst stalls the loads beside it. */
typedef struct fetch {
    const char *next;
    size_t n_lines, n_due;
} fetch;

ALWAYS_INLINE fetch fetch_start(const uint8_t *p, size_t n_bytes) {
    return (fetch){(const char *)p + FETCH_AHEAD, n_bytes / 64, 0};
}

ALWAYS_INLINE void fetch_share(fetch *f, size_t n_tokens) {
    if (n_tokens < FETCH_MIN_TOKENS) return;
    for (f->n_due += f->n_lines; f->n_due >= n_tokens; f->n_due -= n_tokens, f->next += 64) {
        _mm_prefetch(f->next, _MM_HINT_T0);
    }
}

/* A single token: asks for the activations of the next step. Between one panel and the next the stream of weights
 * pushes them out of the first-level cache. */
ALWAYS_INLINE void fetch_acts(const void *next, size_t n_bytes, size_t n_tokens) {
    if (n_tokens > 1) return;
    for (size_t i = 0; i < n_bytes; i += 64) _mm_prefetch((const char *)next + i, _MM_HINT_T0);
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

/* w | (bits & mask) */
ALWAYS_INLINE __m512i or_masked(__m512i w, __m512i bits, __m512i mask) {
    return _mm512_ternarylogic_epi32(w, bits, mask, 0xF8);
}

/* A vector of fifth bits and 4 nibble vectors as 8 vectors of bytes. */
ALWAYS_INLINE void load_five_bits(const uint8_t *p, __m512i w[8]) {
    const __m512i mask = _mm512_set1_epi8(16);
    __m512i fifth = _mm512_load_si512(p);
    load_nibbles(p + 64, 4, w);
    w[0] = or_masked(w[0], _mm512_slli_epi16(fifth, 4), mask);
    w[1] = or_masked(w[1], _mm512_slli_epi16(fifth, 3), mask);
    w[2] = or_masked(w[2], _mm512_slli_epi16(fifth, 2), mask);
    w[3] = or_masked(w[3], _mm512_slli_epi16(fifth, 1), mask);
    w[4] = or_masked(w[4], fifth, mask);
    w[5] = or_masked(w[5], _mm512_srli_epi16(fifth, 1), mask);
    w[6] = or_masked(w[6], _mm512_srli_epi16(fifth, 2), mask);
    w[7] = or_masked(w[7], _mm512_srli_epi16(fifth, 3), mask);
}

/* Three vectors of 6-bit numbers as four of bytes. */
ALWAYS_INLINE void load_six_bits(const uint8_t *p, __m512i v[4]) {
    const __m512i low6 = _mm512_set1_epi8(63);
    __m512i a = _mm512_load_si512(p), b = _mm512_load_si512(p + 64), c = _mm512_load_si512(p + 128);
    __m512i top = _mm512_and_si512(_mm512_srli_epi16(a, 6), _mm512_set1_epi8(0x03));
    top = or_masked(top, _mm512_srli_epi16(b, 4), _mm512_set1_epi8(0x0C));
    v[0] = _mm512_and_si512(a, low6);
    v[1] = _mm512_and_si512(b, low6);
    v[2] = _mm512_and_si512(c, low6);
    v[3] = or_masked(top, _mm512_srli_epi16(c, 2), _mm512_set1_epi8(0x30));
}

/* The levels of a layout plus an offset that makes them unsigned, for load_levels. */
ALWAYS_INLINE __m512i level_table(mr_layout layout, int offset) {
    __m128i levels = _mm_loadu_si128((const __m128i *)mr_layout_levels(layout));
    return _mm512_broadcast_i32x4(_mm_add_epi8(levels, _mm_set1_epi8((char)offset)));
}

/* n nibble vectors of indices as 2n vectors of levels. */
ALWAYS_INLINE void load_levels(const uint8_t *p, int n, __m512i levels, __m512i *w) {
    load_nibbles(p, n, w);
    for (int i = 0; i < 2 * n; i++) w[i] = _mm512_shuffle_epi8(levels, w[i]);
}

/* isum + scale * sum for two groups, whose scales are the 16-bit halves of `scales`. Narrow: both sums fit 16 bits. */
ALWAYS_INLINE __m512i add_scaled(__m512i isum, __m512i a, __m512i b, __m512i scales, bool narrow) {
    if (narrow) {
        __m512i both = _mm512_mask_blend_epi16(0xAAAAAAAAu, a, _mm512_slli_epi32(b, 16));
        return _mm512_dpwssd_epi32(isum, both, scales);
    }
    __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(scales, 16), 16), high = _mm512_srai_epi32(scales, 16);
    isum = _mm512_add_epi32(isum, _mm512_mullo_epi32(a, low));
    return _mm512_add_epi32(isum, _mm512_mullo_epi32(b, high));
}

/* 16-bit scales times two factors of activations, for the low and for the high halves. */
ALWAYS_INLINE __m512i times_factors(__m512i scales, const void *factors) {
    return _mm512_mullo_epi16(scales, four(factors));
}

/* From the values of super-block sb in a row of activations to its factors. */
ALWAYS_INLINE size_t to_factors(size_t n_in, size_t sb) {
    return n_in / 256 * sizeof(mr_q8_256) + sb * sizeof(mr_q8_256_meta) + offsetof(mr_q8_256_meta, factor) -
           sb * sizeof(mr_q8_256);
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
            const uint8_t *panel = tile->panels + p * tile->step;                                                      \
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
void mr_tile_q4_1_avx512(const mr_tile *tile);
void mr_tile_q5_0_avx512(const mr_tile *tile);
void mr_tile_q5_1_avx512(const mr_tile *tile);
void mr_tile_iq4_nl_avx512(const mr_tile *tile);
void mr_tile_mxfp4_avx512(const mr_tile *tile);
void mr_tile_q2_k_avx512(const mr_tile *tile);
void mr_tile_q3_k_avx512(const mr_tile *tile);
void mr_tile_iq4_xs_avx512(const mr_tile *tile);
void mr_tile_iq1_avx512(const mr_tile *tile);
void mr_tile_iq2_avx512(const mr_tile *tile);
void mr_tile_iq3_xxs_avx512(const mr_tile *tile);
void mr_tile_iq3_s_avx512(const mr_tile *tile);
void mr_tile_ternary_avx512(const mr_tile *tile);
void mr_tile_f32_avx512(const mr_tile *tile);
void mr_tile_f16_avx512(const mr_tile *tile);
void mr_tile_f8_avx512(const mr_tile *tile);
void mr_tile_q8_m_avx512(const mr_tile *tile);
void mr_tile_bf16_avx512(const mr_tile *tile);

#endif
