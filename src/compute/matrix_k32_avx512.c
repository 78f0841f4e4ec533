/* Super-block types with groups of 32 values, with AVX-512 VNNI: Q4_K, Q5_K, IQ4_XS.
 *
 * A step takes the weights of two groups into 16 registers and multiplies all tokens of the tile with them, so that
 * unpacking is paid once. The multiplier ports are the limit; two group sums are therefore put into the halves of a
 * dword and scaled by one vpdpwssd where they fit 16 bits, which the peaks in the activations tell ("narrow"). The
 * integers are the same either way. */
#include "compute/matrix_avx512.h"

typedef struct k_head {
    __m512 d, dmin;
    __m512i scale[4], min[4]; /* pairs (0 1) (2 3) (4 5) (6 7) */
} k_head;

ALWAYS_INLINE void split_pairs(__m512i bytes, __m512i pairs[2]) {
    pairs[0] = _mm512_and_si512(bytes, _mm512_set1_epi16(0xFF));
    pairs[1] = _mm512_srli_epi16(bytes, 8);
}

ALWAYS_INLINE k_head load_k_head(const uint8_t *p) {
    __m512i v[4];
    k_head head = {.d = load_halves(p), .dmin = load_halves(p + 32)};
    load_six_bits(p + 64, v);
    split_pairs(v[0], head.scale);
    split_pairs(v[1], head.scale + 2);
    split_pairs(v[2], head.min);
    split_pairs(v[3], head.min + 2);
    return head;
}

ALWAYS_INLINE void load_group(const uint8_t *group, int bits, __m512i w[8]) {
    if (bits == 4) {
        load_nibbles(group, 4, w);
    } else {
        load_five_bits(group, w);
    }
}

ALWAYS_INLINE void k_groups(const uint8_t *groups, int bits, const k_head *head, const uint8_t *const *x, size_t n_in,
                            size_t sb, size_t n_tokens, bool narrow, __m512i *isum) {
    const size_t group_bytes = bits == 4 ? 256 : 320, factors = to_factors(n_in, sb);
    const __m512i zero = _mm512_setzero_si512();
    for (size_t pair = 0; pair < 4; pair++, groups += 2 * group_bytes) {
        __m512i w[16];
        fetch ahead = fetch_start(groups, 2 * group_bytes + 64);
        load_group(groups, bits, w);
        load_group(groups + group_bytes, bits, w + 8);
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *q = pinned(x[t] + sb * sizeof(mr_q8_256) + 64 * pair);
            __m512i before = pair == 0 ? zero : isum[t];
            __m512i scales = times_factors(head->scale[pair], q + (factors - 60 * pair));
            fetch_share(&ahead, n_tokens);
            isum[t] = add_scaled(before, dot32(w, q, zero, n_tokens == 1), dot32(w + 8, q + 32, zero, n_tokens == 1),
                                 scales, narrow);
        }
    }
}

ALWAYS_INLINE void k_finish(const k_head *head, const __m512i *isum, const uint8_t *const *x, size_t n_in, size_t sb,
                            size_t n_tokens, float *out) {
    for (size_t t = 0; t < n_tokens; t++) {
        const mr_q8_256_meta *meta = mr_q8_256_metas(x[t], n_in) + sb;
        __m512i msum = _mm512_setzero_si512();
        for (int i = 0; i < 4; i++) msum = _mm512_dpwssd_epi32(msum, head->min[i], four(meta->sum32 + 2 * i));
        __m512 v =
            _mm512_fmsub_ps(head->d, _mm512_cvtepi32_ps(isum[t]), _mm512_mul_ps(head->dmin, _mm512_cvtepi32_ps(msum)));
        add_tile_row(out + 16 * t, sb, _mm512_set1_ps(meta->d), v);
    }
}

ALWAYS_INLINE int peak32(const uint8_t *const *x, size_t n_in, size_t sb, size_t n_tokens) {
    int peak = 0;
    for (size_t t = 0; t < n_tokens; t++) {
        int p = mr_q8_256_metas(x[t], n_in)[sb].peak32;
        peak = p > peak ? p : peak;
    }
    return peak;
}

ALWAYS_INLINE void k_panel(const uint8_t *panel, int bits, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                           float *out) {
    const size_t step = bits == 4 ? MR_Q4_K_BYTES : MR_Q5_K_BYTES;
    const int narrow_peak = 32767 / (bits == 4 ? 15 : 31);
    for (size_t sb = 0; sb < n_in / 256; sb++, panel += step) {
        __m512i isum[MR_TILE_TOKENS];
        k_head head = load_k_head(panel);
        fetch_acts(x[0] + (sb + 1) * sizeof(mr_q8_256), sizeof(mr_q8_256), n_tokens);
        if (peak32(x, n_in, sb, n_tokens) <= narrow_peak) {
            k_groups(panel + 256, bits, &head, x, n_in, sb, n_tokens, true, isum);
        } else {
            k_groups(panel + 256, bits, &head, x, n_in, sb, n_tokens, false, isum);
        }
        k_finish(&head, isum, x, n_in, sb, n_tokens, out);
    }
}

ALWAYS_INLINE void q4_k_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    k_panel(panel, 4, n_in, x, n_tokens, out);
}

ALWAYS_INLINE void q5_k_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens, float *out) {
    k_panel(panel, 5, n_in, x, n_tokens, out);
}

/* -- IQ4_XS: levels + 128, two groups at a time. */

ALWAYS_INLINE void iq4_xs_groups(const uint8_t *p, __m512i levels, const uint8_t *const *x, size_t n_in, size_t sb,
                                 size_t n_tokens, __m512i *isum) {
    for (size_t pair = 0; pair < 4; pair++) {
        __m512i w[16], scales = _mm512_load_si512(p + pair / 2 * 64);
        __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(scales, 8), 8), odd = _mm512_srai_epi16(scales, 8);
        fetch ahead = fetch_start(p + 128 + 512 * pair, 576);
        load_levels(p + 128 + 512 * pair, 4, levels, w);
        load_levels(p + 384 + 512 * pair, 4, levels, w + 8);
        for (size_t t = 0; t < n_tokens; t++) {
            const mr_q8_256 *block = (const mr_q8_256 *)x[t] + sb;
            const int32_t *neg_sum = block->neg_sum + 4 * pair;
            const int16_t *factors = mr_q8_256_metas(x[t], n_in)[sb].factor + 2 * pair;
            __m512i before = pair == 0 ? _mm512_setzero_si512() : isum[t];
            fetch_share(&ahead, n_tokens);
            __m512i a = _mm512_add_epi32(four(neg_sum), four(neg_sum + 1));
            __m512i b = _mm512_add_epi32(four(neg_sum + 2), four(neg_sum + 3));
            a = dot32(w, block->q + 64 * pair, _mm512_slli_epi32(a, 7), n_tokens == 1);
            b = dot32(w + 8, block->q + 64 * pair + 32, _mm512_slli_epi32(b, 7), n_tokens == 1);
            isum[t] = add_scaled(before, a, b, times_factors(pair % 2 ? odd : even, factors), false);
        }
    }
}

ALWAYS_INLINE void iq4_xs_panel(const uint8_t *panel, size_t n_in, const uint8_t *const *x, size_t n_tokens,
                                float *out) {
    __m512i levels = level_table(MR_LAYOUT_IQ4_XS, 128);
    for (size_t sb = 0; sb < n_in / 256; sb++) {
        __m512i isum[MR_TILE_TOKENS];
        __m512 d = load_halves(panel + mr_pair_scales(sb, MR_IQ4_XS_BYTES));
        fetch_acts(x[0] + (sb + 1) * sizeof(mr_q8_256), sizeof(mr_q8_256), n_tokens);
        iq4_xs_groups(panel + mr_pair_quants(sb, MR_IQ4_XS_BYTES), levels, x, n_in, sb, n_tokens, isum);
        for (size_t t = 0; t < n_tokens; t++) {
            __m512 v = _mm512_mul_ps(d, _mm512_cvtepi32_ps(isum[t]));
            add_tile_row(out + 16 * t, sb, _mm512_set1_ps(mr_q8_256_metas(x[t], n_in)[sb].d), v);
        }
    }
}

DEFINE_TILE(mr_tile_q4_k_avx512, q4_k_panel)
DEFINE_TILE(mr_tile_q5_k_avx512, q5_k_panel)
DEFINE_TILE(mr_tile_iq4_xs_avx512, iq4_xs_panel)
