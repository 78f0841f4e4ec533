/* Types with blocks of 32 with AVX-512 VNNI: two blocks in 16 registers, multiplied with all tokens of the tile. */
#include "compute/matrix_avx512.h"

typedef enum q32_kind { Q32_BYTES, Q32_NIBBLES, Q32_FIVE_BITS, Q32_IQ4, Q32_MXFP4 } q32_kind;

enum { MXFP4_ZERO_BITS = 6 };

ALWAYS_INLINE size_t quant_bytes(q32_kind kind) {
    return kind == Q32_BYTES ? 512 : kind == Q32_FIVE_BITS ? 320 : 256;
}

/* The stored integer of weight 0 is 2^zero_bits. */
ALWAYS_INLINE int zero_bits(q32_kind kind) {
    return kind == Q32_NIBBLES ? 3 : kind == Q32_FIVE_BITS ? 4 : kind == Q32_MXFP4 ? MXFP4_ZERO_BITS : 7;
}

ALWAYS_INLINE void load_block(q32_kind kind, const uint8_t *block, __m512i levels, __m512i w[8]) {
    switch (kind) {
    case Q32_BYTES:
        for (int i = 0; i < 8; i++) w[i] = _mm512_load_si512(block + 64 * i);
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

ALWAYS_INLINE __m512 load_scales(q32_kind kind, const uint8_t *p) {
    if (kind != Q32_MXFP4) return load_halves(p);
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

/* sum + d dx (sum of (w - zero) q) */
ALWAYS_INLINE __m512 add_block(q32_kind kind, __m512 sum, const __m512i w[8], __m512 d, const int8_t *q,
                               const mr_q8_32_meta *meta, bool single) {
    __m512i dot = dot32(w, q, _mm512_slli_epi32(four(&meta->neg_sum), (unsigned)zero_bits(kind)), single);
    return _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(meta->d)), _mm512_cvtepi32_ps(dot), sum);
}

ALWAYS_INLINE void q32_panel(q32_kind kind, __m512i levels, const uint8_t *panel, size_t n_in, const uint8_t *const *x,
                             size_t n_tokens, float *out) {
    const size_t block_bytes = quant_bytes(kind), n_blocks = n_in / 32;
    size_t b = 0;
    for (; b + 2 <= n_blocks; b += 2, panel += 64 + 2 * block_bytes) {
        __m512i w[16];
        fetch ahead = fetch_start(panel, 64 + 2 * block_bytes);
        fetch_acts(x[0] + 32 * b + 256, 64, n_tokens);
        __m512 d0 = load_scales(kind, panel), d1 = load_scales(kind, panel + 32);
        load_block(kind, panel + 64, levels, w);
        load_block(kind, panel + 64 + block_bytes, levels, w + 8);
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *q = pinned(x[t] + 32 * b);
            const mr_q8_32_meta *meta = pinned(mr_q8_32_metas(x[t], n_in) + b);
            __m512 sum = b == 0 ? _mm512_setzero_ps() : _mm512_load_ps(out + 16 * t);
            fetch_share(&ahead, n_tokens);
            sum = add_block(kind, sum, w, d0, q, meta, n_tokens == 1);
            _mm512_store_ps(out + 16 * t, add_block(kind, sum, w + 8, d1, q + 32, meta + 1, n_tokens == 1));
        }
    }
    if (b < n_blocks) {
        __m512i w[8];
        load_block(kind, panel + 64, levels, w);
        for (size_t t = 0; t < n_tokens; t++) {
            __m512 sum = b == 0 ? _mm512_setzero_ps() : _mm512_load_ps(out + 16 * t);
            sum = add_block(kind, sum, w, load_scales(kind, panel), (const int8_t *)x[t] + 32 * b,
                            mr_q8_32_metas(x[t], n_in) + b, n_tokens == 1);
            _mm512_store_ps(out + 16 * t, sum);
        }
    }
}

/* With minima: s = fma(dx, fma(d, dot, m * sum), s). */
ALWAYS_INLINE void q32_min_panel(q32_kind kind, const uint8_t *panel, size_t n_in, const uint8_t *const *x,
                                 size_t n_tokens, float *out) {
    for (size_t b = 0; b < n_in / 32; b++, panel += 64 + quant_bytes(kind)) {
        __m512i w[8];
        fetch ahead = fetch_start(panel, 64 + quant_bytes(kind));
        fetch_acts(x[0] + 32 * b + 256, 64, n_tokens);
        __m512 d = load_halves(panel), m = load_halves(panel + 32);
        load_block(kind, panel + 64, _mm512_setzero_si512(), w);
        for (size_t t = 0; t < n_tokens; t++) {
            const mr_q8_32_meta *meta = mr_q8_32_metas(x[t], n_in) + b;
            /* Nibbles and five bits are numbers from 0 on, bytes have 128 added. */
            __m512i start = kind == Q32_BYTES ? _mm512_slli_epi32(four(&meta->neg_sum), 7) : _mm512_setzero_si512();
            __m512i dot = dot32(w, (const int8_t *)x[t] + 32 * b, start, n_tokens == 1);
            fetch_share(&ahead, n_tokens);
            __m512 offset = _mm512_mul_ps(m, _mm512_set1_ps((float)-meta->neg_sum));
            add_tile_row(out + 16 * t, b, _mm512_set1_ps(meta->d), _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(dot), offset));
        }
    }
}

ALWAYS_INLINE void q8_0_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    q32_panel(Q32_BYTES, _mm512_setzero_si512(), panel, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q4_0_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    q32_panel(Q32_NIBBLES, _mm512_setzero_si512(), panel, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q5_0_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    q32_panel(Q32_FIVE_BITS, _mm512_setzero_si512(), panel, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void iq4_nl_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                                float *out) {
    q32_panel(Q32_IQ4, level_table(MR_LAYOUT_IQ4_NL, 128), panel, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void mxfp4_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                               float *out) {
    q32_panel(Q32_MXFP4, level_table(MR_LAYOUT_MXFP4, 1 << MXFP4_ZERO_BITS), panel, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q4_1_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    q32_min_panel(Q32_NIBBLES, panel, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q5_1_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    q32_min_panel(Q32_FIVE_BITS, panel, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q8_m_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    q32_min_panel(Q32_BYTES, panel, n_in, x, n_tokens, out);
}

DEFINE_TILE(mr_tile_q8_0_avx512, q8_0_panel)
DEFINE_TILE(mr_tile_q4_0_avx512, q4_0_panel)
DEFINE_TILE(mr_tile_q5_0_avx512, q5_0_panel)
DEFINE_TILE(mr_tile_iq4_nl_avx512, iq4_nl_panel)
DEFINE_TILE(mr_tile_mxfp4_avx512, mxfp4_panel)
DEFINE_TILE(mr_tile_q4_1_avx512, q4_1_panel)
DEFINE_TILE(mr_tile_q5_1_avx512, q5_1_panel)
DEFINE_TILE(mr_tile_q8_m_avx512, q8_m_panel)
