/* Types with blocks of 32 with AVX2. */
#include "compute/matrix_avx2.h"

typedef enum q32_kind { Q32_BYTES, Q32_NIBBLES, Q32_FIVE_BITS, Q32_IQ4, Q32_MXFP4 } q32_kind;

ALWAYS_INLINE size_t quant_bytes(q32_kind kind) {
    return kind == Q32_BYTES ? 512 : kind == Q32_FIVE_BITS ? 320 : 256;
}

/* Signed bytes, but nibbles and five bits as they are. */
ALWAYS_INLINE void load_block(q32_kind kind, const uint8_t *block, __m256i levels, __m256i w[8]) {
    switch (kind) {
    case Q32_BYTES:
        for (int i = 0; i < 8; i++) w[i] = _mm256_xor_si256(load256(block + 64 * i), _mm256_set1_epi8((char)0x80));
        break;
    case Q32_NIBBLES:
        load_nibbles(block, 4, w);
        break;
    case Q32_FIVE_BITS:
        load_five_bits(block, w);
        break;
    case Q32_IQ4:
    case Q32_MXFP4:
        load_levels(block, 4, levels, w);
        break;
    }
}

ALWAYS_INLINE __m256 load_scales(q32_kind kind, const uint8_t *p) {
    if (kind != Q32_MXFP4) return load_halves(p);
    __m256i bits = _mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

/* Sum of the loaded numbers times q. 16 bits hold 8 vectors of nibbles, 4 of five bits, one of bytes. */
ALWAYS_INLINE __m256i dot32(q32_kind kind, const __m256i w[8], const int8_t *q) {
    const __m256i ones = _mm256_set1_epi16(1);
    const int at_once = kind == Q32_NIBBLES ? 8 : kind == Q32_FIVE_BITS ? 4 : 1;
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < 8; i += at_once) {
        __m256i words = at_once > 1 ? _mm256_maddubs_epi16(w[i], four(q + 4 * i)) : signed_products(w[i], q + 4 * i);
        for (int k = i + 1; k < i + at_once; k++) {
            words = _mm256_add_epi16(words, _mm256_maddubs_epi16(w[k], four(q + 4 * k)));
        }
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(words, ones));
    }
    return sum;
}

ALWAYS_INLINE void q32_half(q32_kind kind, __m256i levels, const uint8_t *panel, size_t b, size_t half, size_t n_in,
                            const uint8_t *const *x, size_t n_tokens, float *out) {
    const size_t block_bytes = quant_bytes(kind);
    __m256i w[8];
    __m256 d = load_scales(kind, panel + mr_pair_scales(b, block_bytes) + 16 * half);
    load_block(kind, panel + mr_pair_quants(b, block_bytes) + 32 * half, levels, w);
    for (size_t t = 0; t < n_tokens; t++) {
        const mr_q8_32_meta *meta = mr_q8_32_metas(x[t], n_in) + b;
        __m256i dot = dot32(kind, w, (const int8_t *)x[t] + 32 * b);
        if (kind == Q32_NIBBLES) dot = _mm256_add_epi32(dot, _mm256_slli_epi32(four(&meta->neg_sum), 3));
        if (kind == Q32_FIVE_BITS) dot = _mm256_add_epi32(dot, _mm256_slli_epi32(four(&meta->neg_sum), 4));
        add_tile_row(out + 16 * t, b, _mm256_mul_ps(d, _mm256_set1_ps(meta->d)), _mm256_cvtepi32_ps(dot));
    }
}

/* With minima: s = fma(dx, fma(d, dot, m * sum), s). */
ALWAYS_INLINE void q32_min_half(q32_kind kind, const uint8_t *panel, size_t b, size_t half, size_t n_in,
                                const uint8_t *const *x, size_t n_tokens, float *out) {
    panel += b * (64 + quant_bytes(kind));
    __m256i w[8];
    __m256 d = load_halves(panel + 16 * half), m = load_halves(panel + 32 + 16 * half);
    load_block(kind, panel + 64 + 32 * half, _mm256_setzero_si256(), w);
    for (size_t t = 0; t < n_tokens; t++) {
        const mr_q8_32_meta *meta = mr_q8_32_metas(x[t], n_in) + b;
        __m256i dot = dot32(kind, w, (const int8_t *)x[t] + 32 * b);
        __m256 offset = _mm256_mul_ps(m, _mm256_set1_ps((float)-meta->neg_sum));
        add_tile_row(out + 16 * t, b, _mm256_set1_ps(meta->d), _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(dot), offset));
    }
}

ALWAYS_INLINE void q8_0_half(const uint8_t *panel, size_t b, size_t half, size_t n_in, const uint8_t *const *x,
                             size_t n_tokens, float *out) {
    q32_half(Q32_BYTES, _mm256_setzero_si256(), panel, b, half, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q4_0_half(const uint8_t *panel, size_t b, size_t half, size_t n_in, const uint8_t *const *x,
                             size_t n_tokens, float *out) {
    q32_half(Q32_NIBBLES, _mm256_setzero_si256(), panel, b, half, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q5_0_half(const uint8_t *panel, size_t b, size_t half, size_t n_in, const uint8_t *const *x,
                             size_t n_tokens, float *out) {
    q32_half(Q32_FIVE_BITS, _mm256_setzero_si256(), panel, b, half, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void iq4_nl_half(const uint8_t *panel, size_t b, size_t half, size_t n_in, const uint8_t *const *x,
                               size_t n_tokens, float *out) {
    q32_half(Q32_IQ4, level_table(MR_LAYOUT_IQ4_NL), panel, b, half, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void mxfp4_half(const uint8_t *panel, size_t b, size_t half, size_t n_in, const uint8_t *const *x,
                              size_t n_tokens, float *out) {
    q32_half(Q32_MXFP4, level_table(MR_LAYOUT_MXFP4), panel, b, half, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q4_1_half(const uint8_t *panel, size_t b, size_t half, size_t n_in, const uint8_t *const *x,
                             size_t n_tokens, float *out) {
    q32_min_half(Q32_NIBBLES, panel, b, half, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q5_1_half(const uint8_t *panel, size_t b, size_t half, size_t n_in, const uint8_t *const *x,
                             size_t n_tokens, float *out) {
    q32_min_half(Q32_FIVE_BITS, panel, b, half, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q8_m_half(const uint8_t *panel, size_t b, size_t half, size_t n_in, const uint8_t *const *x,
                             size_t n_tokens, float *out) {
    q32_min_half(Q32_BYTES, panel, b, half, n_in, x, n_tokens, out);
}

DEFINE_TILE(mr_tile_q8_0_avx2, q8_0_half, 32)
DEFINE_TILE(mr_tile_q4_0_avx2, q4_0_half, 32)
DEFINE_TILE(mr_tile_q5_0_avx2, q5_0_half, 32)
DEFINE_TILE(mr_tile_iq4_nl_avx2, iq4_nl_half, 32)
DEFINE_TILE(mr_tile_mxfp4_avx2, mxfp4_half, 32)
DEFINE_TILE(mr_tile_q4_1_avx2, q4_1_half, 32)
DEFINE_TILE(mr_tile_q5_1_avx2, q5_1_half, 32)
DEFINE_TILE(mr_tile_q8_m_avx2, q8_m_half, 32)
