/* Weights of every stored type, for tests of products. */
#ifndef MR_TESTS_RANDOM_ROWS_H
#define MR_TESTS_RANDOM_ROWS_H

#include "compute/blocks.h"
#include "compute/dtype.h"

#include <string.h>

/* The halves of a block that are floats: their byte offsets, -1 ends. */
static inline void float_fields(mr_dtype type, int offsets[3]) {
    offsets[0] = offsets[1] = offsets[2] = -1;
    switch (type) {
    case MR_Q4_0:
    case MR_Q5_0:
    case MR_Q8_0:
    case MR_IQ4_NL:
    case MR_IQ4_XS:
    case MR_IQ2_XXS:
    case MR_IQ2_XS:
    case MR_IQ2_S:
    case MR_IQ3_XXS:
    case MR_IQ3_S:
    case MR_IQ1_S:
        offsets[0] = 0;
        break;
    case MR_Q4_1:
    case MR_Q5_1:
    case MR_Q4_K:
    case MR_Q5_K:
    case MR_Q8_1:
    case MR_HQQ4:
    case MR_HQQ8:
        offsets[0] = 0, offsets[1] = 2;
        break;
    case MR_Q2_K:
        offsets[0] = 80, offsets[1] = 82;
        break;
    case MR_Q3_K:
        offsets[0] = 108;
        break;
    case MR_Q6_K:
        offsets[0] = 208;
        break;
    case MR_TQ1_0:
        offsets[0] = 52;
        break;
    case MR_TQ2_0:
        offsets[0] = 64;
        break;
    default:
        break;
    }
}

/* Fills n_bytes of whole blocks with bits from `bits`: every integer that the format has occurs, extremes included;
 * scales are harmless numbers, and plain floats sums of several, -6 .. 6. */
static inline void fill_random_rows(mr_dtype type, uint8_t *rows, size_t n_bytes, uint32_t (*bits)(void)) {
    const mr_dtype_info *info = mr_dtype_find((uint32_t)type);
    if (type == MR_F32 || type == MR_F16 || type == MR_BF16) {
        for (size_t at = 0; at < n_bytes; at += info->block_bytes) {
            float w = 0.0f;
            for (int i = 0; i < 12; i++) w += (float)(int32_t)bits() * 0x1p-32f;
            uint16_t half = type == MR_F16 ? mr_f32_to_f16(w) : mr_f32_to_bf16(w);
            if (type == MR_F32)
                memcpy(rows + at, &w, 4);
            else
                memcpy(rows + at, &half, 2);
        }
        return;
    }
    for (size_t i = 0; i < n_bytes; i++) rows[i] = (uint8_t)(bits() >> 8);
    int offsets[3];
    float_fields(type, offsets);
    for (size_t at = 0; at < n_bytes; at += info->block_bytes) {
        for (int i = 0; offsets[i] >= 0; i++) {
            uint16_t half = mr_f32_to_f16((float)(int32_t)bits() * 0x1p-31f * (i == 0 ? 0.02f : 0.05f));
            memcpy(rows + at + offsets[i], &half, 2);
        }
        if (type == MR_MXFP4) rows[at] = (uint8_t)(120 + bits() % 12);
        if (type == MR_Q8_K || type == MR_F8_E4M3) {
            float d = mr_f16_to_f32(mr_f32_to_f16((float)(int32_t)bits() * 0x1p-31f * 0.02f));
            memcpy(rows + at, &d, 4);
        }
        for (size_t k = at + 4; type == MR_F8_E4M3 && k < at + info->block_bytes; k++) {
            if ((rows[k] & 0x7F) == 0x7F) rows[k] ^= 1; /* no number */
        }
        if (type == MR_IQ1_M) { /* the top nibbles of four scales are a half: keep it small */
            mr_block_iq1_m *block = (mr_block_iq1_m *)(rows + at);
            uint16_t half = mr_f32_to_f16((float)(int32_t)bits() * 0x1p-31f * 0.02f);
            for (int i = 0; i < 4; i++) {
                block->scales[i] = (uint16_t)((block->scales[i] & 0x0FFF) | (half >> 4 * i & 15) << 12);
            }
        }
    }
}

/* Every type that has a matrix kernel. */
static const mr_dtype MATRIX_TYPES[] = {
    MR_F32,   MR_F16,   MR_BF16,  MR_Q8_0,   MR_Q4_0,   MR_Q4_K,  MR_Q5_K,    MR_Q6_K,   MR_Q4_1,  MR_Q5_0,
    MR_Q5_1,  MR_Q2_K,  MR_Q3_K,  MR_IQ4_NL, MR_IQ4_XS, MR_MXFP4, MR_IQ2_XXS, MR_IQ2_XS, MR_IQ2_S, MR_IQ3_XXS,
    MR_IQ3_S, MR_IQ1_S, MR_IQ1_M, MR_TQ1_0,  MR_TQ2_0,  MR_Q8_1,  MR_Q8_K,    MR_HQQ4,   MR_HQQ8,  MR_F8_E4M3,
};

#endif
