#include "compute/matrix_avx512.h"

#include "compute/acts_rows.h"
#include "compute/matrix_epilogue.h"

/* -- Activations for super-blocks: as in acts_rows.h, with the sums by vpdpbusd. */

ALWAYS_INLINE void quantize(const float x[256], float factor, int8_t q[256]) {
    const __m512 magic = _mm512_set1_ps(12582912.0f);
    for (int i = 0; i < 256; i += 16) {
        __m512 v = _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(factor)), magic);
        __m128i low = _mm512_cvtepi32_epi8(_mm512_castps_si512(v));
        _mm_storeu_si128((__m128i *)(q + i), factor == 0.0f ? _mm_setzero_si128() : low);
    }
}

ALWAYS_INLINE float block_factor(const float x[256], float *d) {
    __m512i most = _mm512_setzero_si512();
    for (int i = 0; i < 256; i += 16) {
        __m512i bits = _mm512_and_si512(_mm512_loadu_si512(x + i), _mm512_set1_epi32(0x7FFFFFFF));
        most = _mm512_max_epi32(most, bits);
    }
    int32_t largest = _mm512_reduce_max_epi32(most);
    float amax;
    memcpy(&amax, &largest, 4);
    return q8_factor(&amax, 1, d);
}

/* Each v[j] holds 16 sums of 4 numbers, in the order of the numbers; returns the 16 sums of 16 over all four. */
ALWAYS_INLINE __m512i sums_of_16(const __m512i v[4]) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    __m512i sums = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    return _mm512_permutexvar_epi32(order, sums);
}

/* In even lanes: the sum of a lane and its neighbour. */
ALWAYS_INLINE __m512i add_neighbours(__m512i v) {
    return _mm512_add_epi32(v, _mm512_srli_epi64(v, 32));
}

ALWAYS_INLINE void block_sums(mr_q8_256 *block, mr_q8_256_meta *meta) {
    const __m512i ones = _mm512_set1_epi8(1), zero = _mm512_setzero_si512();
    __m512i part[4], abs_part[4];
    for (int i = 0; i < 4; i++) {
        __m512i v = _mm512_loadu_si512(block->q + 64 * i);
        part[i] = _mm512_dpbusd_epi32(zero, ones, v);
        abs_part[i] = _mm512_dpbusd_epi32(zero, _mm512_abs_epi8(v), ones);
    }
    __m512i sums = sums_of_16(part), abs_sums = sums_of_16(abs_part);
    __m512i sums32 = add_neighbours(sums);
    __m512i one_sign = _mm512_add_epi32(add_neighbours(abs_sums), _mm512_abs_epi32(sums32));
    _mm512_storeu_si512(block->neg_sum, _mm512_sub_epi32(zero, sums));
    meta->peak16 = (uint16_t)_mm512_reduce_max_epi32(abs_sums);
    meta->peak32 = (uint16_t)(_mm512_mask_reduce_max_epi32(0x5555, one_sign) / 2);
    _mm_storeu_si128((__m128i *)meta->sum32, _mm512_cvtepi64_epi16(sums32));
    meta->unused[0] = meta->unused[1] = 0;
}

static void fast_row_q8_256(const float *x, size_t n_in, uint8_t *row) {
    mr_q8_256 *block = (mr_q8_256 *)row;
    mr_q8_256_meta *meta = (mr_q8_256_meta *)(row + n_in / 256 * sizeof(mr_q8_256));
    for (size_t b = 0; b < n_in / 256; b++, x += 256, block++, meta++) {
        quantize(x, block_factor(x, &meta->d), block->q);
        block_sums(block, meta);
    }
}

const mr_kernels mr_kernels_avx512 = {
    .tile = {[MR_LAYOUT_F32] = mr_tile_f32_avx512,
             [MR_LAYOUT_F16] = mr_tile_f16_avx512,
             [MR_LAYOUT_BF16] = mr_tile_bf16_avx512,
             [MR_LAYOUT_Q8_0] = mr_tile_q8_0_avx512,
             [MR_LAYOUT_Q4_0] = mr_tile_q4_0_avx512,
             [MR_LAYOUT_Q4_K] = mr_tile_q4_k_avx512,
             [MR_LAYOUT_Q5_K] = mr_tile_q5_k_avx512,
             [MR_LAYOUT_Q6_K] = mr_tile_q6_k_avx512,
             [MR_LAYOUT_Q4_1] = mr_tile_q4_1_avx512,
             [MR_LAYOUT_Q5_0] = mr_tile_q5_0_avx512,
             [MR_LAYOUT_Q5_1] = mr_tile_q5_1_avx512,
             [MR_LAYOUT_IQ4_NL] = mr_tile_iq4_nl_avx512,
             [MR_LAYOUT_MXFP4] = mr_tile_mxfp4_avx512,
             [MR_LAYOUT_Q2_K] = mr_tile_q2_k_avx512,
             [MR_LAYOUT_Q3_K] = mr_tile_q3_k_avx512,
             [MR_LAYOUT_IQ4_XS] = mr_tile_iq4_xs_avx512,
             [MR_LAYOUT_IQ1] = mr_tile_iq1_avx512,
             [MR_LAYOUT_IQ2] = mr_tile_iq2_avx512,
             [MR_LAYOUT_IQ3_XXS] = mr_tile_iq3_xxs_avx512,
             [MR_LAYOUT_IQ3_S] = mr_tile_iq3_s_avx512,
             [MR_LAYOUT_TERNARY] = mr_tile_ternary_avx512,
             [MR_LAYOUT_Q8_M] = mr_tile_q8_m_avx512,
             [MR_LAYOUT_F8] = mr_tile_f8_avx512},
    .store = store_tile,
    .store_glu = store_glu_tile,
    .acts_row = {row_f32, row_bf16, row_q8_32, fast_row_q8_256},
};
