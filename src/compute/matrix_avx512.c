#include "compute/matrix_avx512.h"

#include "compute/acts_rows.h"
#include "compute/matrix_epilogue.h"

/* -- Activations for super-blocks: as in acts_rows.h, with the sums by vpdpbusd. */

/* In each lane of 128 bits, the largest of a lane of v[0], v[1], v[2], v[3]. */
ALWAYS_INLINE __m512i lanes_most(const __m512i v[4]) {
    __m512i a = _mm512_max_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    __m512i b = _mm512_max_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    return _mm512_max_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

/* The largest |x| of each 32, as bits. */
ALWAYS_INLINE __m256i groups_most(const float x[256]) {
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    __m512i v[8];
    for (int g = 0; g < 8; g++) {
        __m512i first = _mm512_and_si512(_mm512_loadu_si512(x + 32 * g), magnitude);
        v[g] = _mm512_max_epi32(first, _mm512_and_si512(_mm512_loadu_si512(x + 32 * g + 16), magnitude));
    }
    __m512i low = lanes_most(v), high = lanes_most(v + 4);
    __m512i a = _mm512_shuffle_i32x4(low, high, 0x44), b = _mm512_shuffle_i32x4(low, high, 0xEE);
    a = _mm512_max_epi32(a, b); /* two lanes of low, two of high */
    a = _mm512_max_epi32(a, _mm512_shuffle_i32x4(a, a, 0xB1));
    return _mm256_inserti128_si256(_mm512_castsi512_si256(a), _mm512_extracti32x4_epi32(a, 2), 1);
}

/* As q8_256_values. */
ALWAYS_INLINE void quantize(const float *x, mr_q8_256 *block, mr_q8_256_meta *meta) {
    const __m512 magic = _mm512_set1_ps(12582912.0f);
    __m256i most = groups_most(x), factor = _mm256_set1_epi32(1);
    int32_t all = _mm512_mask_reduce_max_epi32(0xFF, _mm512_castsi256_si512(most));
    float amax = float_of(all), whole = q8_factor(all, 1016.0f, &meta->d), factors[8];
    for (int i = 1; i < 8; i++) {
        __m256 bound = _mm256_set1_ps(amax * (0.125f * (float)i));
        __mmask8 above = _mm256_cmp_ps_mask(_mm256_castsi256_ps(most), bound, _CMP_GT_OQ);
        factor = _mm256_mask_add_epi32(factor, above, factor, _mm256_set1_epi32(1));
    }
    if (whole == 0.0f) factor = _mm256_set1_epi32(1);
    _mm_storeu_si128((__m128i *)meta->factor, _mm256_cvtepi32_epi16(factor));
    _mm256_storeu_ps(factors, _mm256_div_ps(_mm256_set1_ps(whole), _mm256_cvtepi32_ps(factor)));
    for (int i = 0; i < 256; i += 16) {
        __m512 v = _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(factors[i / 32])), magic);
        __m128i low = _mm512_cvtepi32_epi8(_mm512_castps_si512(v));
        _mm_storeu_si128((__m128i *)(block->q + i), whole == 0.0f ? _mm_setzero_si128() : low);
    }
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
    __m128i factors = _mm_loadu_si128((const __m128i *)meta->factor);
    _mm_storeu_si128((__m128i *)meta->sum32, _mm_mullo_epi16(_mm512_cvtepi64_epi16(sums32), factors));
}

static void fast_row_q8_256(const float *x, size_t n_in, uint8_t *row) {
    mr_q8_256 *block = (mr_q8_256 *)row;
    mr_q8_256_meta *meta = (mr_q8_256_meta *)(row + n_in / 256 * sizeof(mr_q8_256));
    for (size_t b = 0; b < n_in / 256; b++, x += 256, block++, meta++) {
        quantize(x, block, meta);
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
