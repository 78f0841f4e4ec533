#include "compute/matrix_avx512.h"

#include "compute/acts_rows.h"
#include "compute/matrix_epilogue.h"

const mr_kernels mr_kernels_avx512 = {
    .tile = {[MR_LAYOUT_F32] = mr_tile_f32_avx512,
             [MR_LAYOUT_F16] = mr_tile_f16_avx512,
             [MR_LAYOUT_BF16] = mr_tile_bf16_avx512,
             [MR_LAYOUT_Q8_0] = mr_tile_q8_0_avx512,
             [MR_LAYOUT_Q4_0] = mr_tile_q4_0_avx512,
             [MR_LAYOUT_Q4_K] = mr_tile_q4_k_avx512,
             [MR_LAYOUT_Q5_K] = mr_tile_q5_k_avx512,
             [MR_LAYOUT_Q6_K] = mr_tile_q6_k_avx512},
    .store = store_tile,
    .store_glu = store_glu_tile,
    .acts_row = MR_ACTS_ROWS,
};
