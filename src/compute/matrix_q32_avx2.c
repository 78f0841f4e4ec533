/* Types with blocks of 32 with AVX2. */
#include "compute/matrix_avx2.h"

/* Sum of w q of bytes stored as w + 128: |w| times q with the sign of w, so that no pair of products leaves 16 bits. */
ALWAYS_INLINE __m256i dot_bytes(const __m256i w[8], const int8_t *q) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < 8; i++) {
        __m256i signed_q = _mm256_sign_epi8(four(q + 4 * i), w[i]);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(w[i]), signed_q), ones));
    }
    return sum;
}

/* Sum of (w - 8) q of nibbles. */
ALWAYS_INLINE __m256i dot_nibbles(const __m256i w[8], const int8_t *q, const mr_q8_32_meta *meta) {
    __m256i sum = _mm256_maddubs_epi16(w[0], four(q));
    for (int i = 1; i < 8; i++) sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w[i], four(q + 4 * i)));
    return _mm256_add_epi32(_mm256_madd_epi16(sum, _mm256_set1_epi16(1)), _mm256_slli_epi32(four(&meta->neg_sum), 3));
}

ALWAYS_INLINE void q32_half(const uint8_t *panel, bool bytes, size_t half, size_t n_in, const uint8_t *const *x,
                            size_t n_tokens, float *out) {
    const size_t block_bytes = bytes ? MR_Q8_0_BYTES : MR_Q4_0_BYTES;
    for (size_t b = 0; b < n_in / 32; b++) {
        const uint8_t *block = panel + mr_pair_quants(b, block_bytes) + 32 * half;
        __m256i w[8];
        __m256 d = load_halves(panel + mr_pair_scales(b, block_bytes) + 16 * half);
        if (bytes) {
            for (int i = 0; i < 8; i++) w[i] = _mm256_xor_si256(load256(block + 64 * i), _mm256_set1_epi8((char)0x80));
        } else {
            load_nibbles(block, 4, w);
        }
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *q = (const int8_t *)x[t] + 32 * b;
            const mr_q8_32_meta *meta = mr_q8_32_metas(x[t], n_in) + b;
            __m256i dot = bytes ? dot_bytes(w, q) : dot_nibbles(w, q, meta);
            add_tile_row(out + 16 * t, b, _mm256_mul_ps(d, _mm256_set1_ps(meta->d)), _mm256_cvtepi32_ps(dot));
        }
    }
}

ALWAYS_INLINE void q8_0_half(const uint8_t *panel, size_t half, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                             float *out) {
    q32_half(panel, true, half, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q4_0_half(const uint8_t *panel, size_t half, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                             float *out) {
    q32_half(panel, false, half, n_in, x, n_tokens, out);
}

DEFINE_TILE(mr_tile_q8_0_avx2, q8_0_half)
DEFINE_TILE(mr_tile_q4_0_avx2, q4_0_half)
