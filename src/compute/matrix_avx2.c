#include "compute/matrix_avx2.h"

#include "compute/acts_rows.h"
#include "compute/matrix_epilogue.h"

const mr_kernels mr_kernels_avx2 = {
    .tile = {[MR_LAYOUT_F32] = mr_tile_f32_avx2,
             [MR_LAYOUT_F16] = mr_tile_f16_avx2,
             [MR_LAYOUT_BF16] = mr_tile_bf16_avx2,
             [MR_LAYOUT_Q8_0] = mr_tile_q8_0_avx2,
             [MR_LAYOUT_Q4_0] = mr_tile_q4_0_avx2,
             [MR_LAYOUT_Q4_K] = mr_tile_q4_k_avx2,
             [MR_LAYOUT_Q5_K] = mr_tile_q5_k_avx2,
             [MR_LAYOUT_Q6_K] = mr_tile_q6_k_avx2,
             [MR_LAYOUT_Q4_1] = mr_tile_q4_1_avx2,
             [MR_LAYOUT_Q5_0] = mr_tile_q5_0_avx2,
             [MR_LAYOUT_Q5_1] = mr_tile_q5_1_avx2,
             [MR_LAYOUT_IQ4_NL] = mr_tile_iq4_nl_avx2,
             [MR_LAYOUT_MXFP4] = mr_tile_mxfp4_avx2,
             [MR_LAYOUT_Q2_K] = mr_tile_q2_k_avx2,
             [MR_LAYOUT_Q3_K] = mr_tile_q3_k_avx2,
             [MR_LAYOUT_IQ4_XS] = mr_tile_iq4_xs_avx2,
             [MR_LAYOUT_IQ1] = mr_tile_iq1_avx2,
             [MR_LAYOUT_IQ2] = mr_tile_iq2_avx2,
             [MR_LAYOUT_IQ3_XXS] = mr_tile_iq3_xxs_avx2,
             [MR_LAYOUT_IQ3_S] = mr_tile_iq3_s_avx2,
             [MR_LAYOUT_TERNARY] = mr_tile_ternary_avx2,
             [MR_LAYOUT_Q8_M] = mr_tile_q8_m_avx2,
             [MR_LAYOUT_F8] = mr_tile_f8_avx2},
    .store = store_tile,
    .store_glu = store_glu_tile,
    .acts_row = MR_ACTS_ROWS,
};
