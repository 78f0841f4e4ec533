/* Types with blocks of 32 with AVX-512 VNNI: two blocks in 16 registers, multiplied with all tokens of the tile. */
#include "compute/matrix_avx512.h"

typedef enum q32_kind { Q32_BYTES, Q32_NIBBLES } q32_kind;

ALWAYS_INLINE void load_block(q32_kind kind, const uint8_t *block, __m512i w[8]) {
    if (kind == Q32_NIBBLES) {
        load_nibbles(block, 4, w);
        return;
    }
    for (int i = 0; i < 8; i++) w[i] = _mm512_load_si512(block + 64 * i);
}

/* sum + d dx (sum of (w - zero) q) with zero = 2^zero_bits. */
ALWAYS_INLINE __m512 add_block(__m512 sum, const __m512i w[8], __m512 d, int zero_bits, const int8_t *q,
                               const mr_q8_32_meta *meta) {
    __m512i dot = _mm512_slli_epi32(four(&meta->neg_sum), (unsigned)zero_bits);
    for (int i = 0; i < 8; i++) dot = dot_four(dot, w[i], q + 4 * i);
    return _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(meta->d)), _mm512_cvtepi32_ps(dot), sum);
}

ALWAYS_INLINE void q32_panel(const uint8_t *panel, q32_kind kind, int zero_bits, size_t n_in, const uint8_t *const *x,
                             size_t n_tokens, float *out) {
    const size_t block_bytes = kind == Q32_BYTES ? MR_Q8_0_BYTES : MR_Q4_0_BYTES, n_blocks = n_in / 32;
    size_t b = 0;
    for (; b + 2 <= n_blocks; b += 2, panel += 64 + 2 * block_bytes) {
        __m512i w[16];
        __m512 d0 = load_halves(panel), d1 = load_halves(panel + 32);
        load_block(kind, panel + 64, w);
        load_block(kind, panel + 64 + block_bytes, w + 8);
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *q = (const int8_t *)x[t] + 32 * b;
            const mr_q8_32_meta *meta = mr_q8_32_metas(x[t], n_in) + b;
            __m512 sum = b == 0 ? _mm512_setzero_ps() : _mm512_load_ps(out + 16 * t);
            sum = add_block(sum, w, d0, zero_bits, q, meta);
            _mm512_store_ps(out + 16 * t, add_block(sum, w + 8, d1, zero_bits, q + 32, meta + 1));
        }
    }
    if (b < n_blocks) {
        __m512i w[8];
        load_block(kind, panel + 64, w);
        for (size_t t = 0; t < n_tokens; t++) {
            __m512 sum = b == 0 ? _mm512_setzero_ps() : _mm512_load_ps(out + 16 * t);
            sum = add_block(sum, w, load_halves(panel), zero_bits, (const int8_t *)x[t] + 32 * b,
                            mr_q8_32_metas(x[t], n_in) + b);
            _mm512_store_ps(out + 16 * t, sum);
        }
    }
}

ALWAYS_INLINE void q8_0_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    q32_panel(panel, Q32_BYTES, 7, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q4_0_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    q32_panel(panel, Q32_NIBBLES, 3, n_in, x, n_tokens, out);
}

DEFINE_TILE(mr_tile_q8_0_avx512, q8_0_panel)
DEFINE_TILE(mr_tile_q4_0_avx512, q4_0_panel)
