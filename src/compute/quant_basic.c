/* Formats in blocks of 32 with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1; and Q8_K, the same with 256. */
#include "compute/blocks.h"
#include "compute/dtype.h"
#include "compute/quant.h"
#include "compute/quant_fit.h"

#include <math.h>
#include <string.h>

void mr_dequantize_q4_0(const void *src, float *dst, size_t n) {
    const mr_block_q4_0 *block = src;
    for (; n >= MR_QK; n -= MR_QK, block++, dst += MR_QK) {
        float d = mr_f16_to_f32(block->d);
        for (int j = 0; j < 16; j++) {
            dst[j] = d * (float)((block->qs[j] & 15) - 8);
            dst[j + 16] = d * (float)((block->qs[j] >> 4) - 8);
        }
    }
}

void mr_dequantize_q4_1(const void *src, float *dst, size_t n) {
    const mr_block_q4_1 *block = src;
    for (; n >= MR_QK; n -= MR_QK, block++, dst += MR_QK) {
        float d = mr_f16_to_f32(block->d), m = mr_f16_to_f32(block->m);
        for (int j = 0; j < 16; j++) {
            dst[j] = d * (float)(block->qs[j] & 15) + m;
            dst[j + 16] = d * (float)(block->qs[j] >> 4) + m;
        }
    }
}

/* Value j (0..15) and j + 16 of a block with a fifth bit in qh. */
static inline int low5(const uint8_t *qs, uint32_t qh, int j) {
    return (qs[j] & 15) | (int)((qh >> j & 1u) << 4);
}
static inline int high5(const uint8_t *qs, uint32_t qh, int j) {
    return (qs[j] >> 4) | (int)((qh >> (j + 16) & 1u) << 4);
}

void mr_dequantize_q5_0(const void *src, float *dst, size_t n) {
    const mr_block_q5_0 *block = src;
    for (; n >= MR_QK; n -= MR_QK, block++, dst += MR_QK) {
        float d = mr_f16_to_f32(block->d);
        for (int j = 0; j < 16; j++) {
            dst[j] = d * (float)(low5(block->qs, block->qh, j) - 16);
            dst[j + 16] = d * (float)(high5(block->qs, block->qh, j) - 16);
        }
    }
}

void mr_dequantize_q5_1(const void *src, float *dst, size_t n) {
    const mr_block_q5_1 *block = src;
    for (; n >= MR_QK; n -= MR_QK, block++, dst += MR_QK) {
        float d = mr_f16_to_f32(block->d), m = mr_f16_to_f32(block->m);
        for (int j = 0; j < 16; j++) {
            dst[j] = d * (float)low5(block->qs, block->qh, j) + m;
            dst[j + 16] = d * (float)high5(block->qs, block->qh, j) + m;
        }
    }
}

void mr_dequantize_q8_0(const void *src, float *dst, size_t n) {
    const mr_block_q8_0 *block = src;
    for (; n >= MR_QK; n -= MR_QK, block++, dst += MR_QK) {
        float d = mr_f16_to_f32(block->d);
        for (int j = 0; j < MR_QK; j++) dst[j] = d * (float)block->qs[j];
    }
}

void mr_dequantize_q8_1(const void *src, float *dst, size_t n) {
    const mr_block_q8_1 *block = src;
    for (; n >= MR_QK; n -= MR_QK, block++, dst += MR_QK) {
        float d = mr_f16_to_f32(block->d);
        for (int j = 0; j < MR_QK; j++) dst[j] = d * (float)block->qs[j];
    }
}

void mr_dequantize_q8_k(const void *src, float *dst, size_t n) {
    const mr_block_q8_k *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++, dst += MR_QK_K) {
        float d = block->d;
        for (int j = 0; j < MR_QK_K; j++) dst[j] = d * (float)block->qs[j];
    }
}

static void pack_nibbles(const int8_t *q, int offset, uint8_t *qs) {
    for (int j = 0; j < 16; j++) qs[j] = (uint8_t)(((q[j] + offset) & 15) | ((q[j + 16] + offset) & 15) << 4);
}

static uint32_t fifth_bits(const int8_t *q, int offset) {
    uint32_t bits = 0;
    for (int j = 0; j < 32; j++) bits |= (uint32_t)((q[j] + offset) >> 4 & 1) << j;
    return bits;
}

void mr_quantize_q4_0(const float *src, void *dst, size_t n, const float *importance) {
    mr_block_q4_0 *block = dst;
    for (size_t i = 0; i + MR_QK <= n; i += MR_QK, block++) {
        int8_t q[32];
        block->d = mr_fit_half(mr_fit_symmetric(src + i, importance ? importance + i : NULL, 32, 8));
        mr_fit_round(src + i, 32, mr_f16_to_f32(block->d), 0.0f, -8, 7, q);
        pack_nibbles(q, 8, block->qs);
    }
}

void mr_quantize_q5_0(const float *src, void *dst, size_t n, const float *importance) {
    mr_block_q5_0 *block = dst;
    for (size_t i = 0; i + MR_QK <= n; i += MR_QK, block++) {
        int8_t q[32];
        block->d = mr_fit_half(mr_fit_symmetric(src + i, importance ? importance + i : NULL, 32, 16));
        mr_fit_round(src + i, 32, mr_f16_to_f32(block->d), 0.0f, -16, 15, q);
        pack_nibbles(q, 16, block->qs);
        block->qh = fifth_bits(q, 16);
    }
}

void mr_quantize_q4_1(const float *src, void *dst, size_t n, const float *importance) {
    mr_block_q4_1 *block = dst;
    for (size_t i = 0; i + MR_QK <= n; i += MR_QK, block++) {
        int8_t q[32];
        float min;
        block->d = mr_fit_half(mr_fit_affine(src + i, importance ? importance + i : NULL, 32, 15, 0, &min));
        block->m = mr_fit_half(min);
        mr_fit_round(src + i, 32, mr_f16_to_f32(block->d), mr_f16_to_f32(block->m), 0, 15, q);
        pack_nibbles(q, 0, block->qs);
    }
}

void mr_quantize_q5_1(const float *src, void *dst, size_t n, const float *importance) {
    mr_block_q5_1 *block = dst;
    for (size_t i = 0; i + MR_QK <= n; i += MR_QK, block++) {
        int8_t q[32];
        float min;
        block->d = mr_fit_half(mr_fit_affine(src + i, importance ? importance + i : NULL, 32, 31, 0, &min));
        block->m = mr_fit_half(min);
        mr_fit_round(src + i, 32, mr_f16_to_f32(block->d), mr_f16_to_f32(block->m), 0, 31, q);
        pack_nibbles(q, 0, block->qs);
        block->qh = fifth_bits(q, 0);
    }
}

static float largest_magnitude(const float *x, int n) {
    float largest = 0.0f;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > largest) largest = fabsf(x[i]);
    return largest;
}

/* Eight bits leave nothing worth searching for: the largest magnitude becomes 127. */
static uint16_t quantize_32_to_8_bits(const float *x, int8_t *q) {
    uint16_t d = mr_fit_half(largest_magnitude(x, 32) / 127.0f);
    mr_fit_round(x, 32, mr_f16_to_f32(d), 0.0f, -127, 127, q);
    return d;
}

void mr_quantize_q8_0(const float *src, void *dst, size_t n, const float *importance) {
    (void)importance;
    mr_block_q8_0 *block = dst;
    for (size_t i = 0; i + MR_QK <= n; i += MR_QK, block++) {
        int8_t q[32];
        block->d = quantize_32_to_8_bits(src + i, q);
        memcpy(block->qs, q, sizeof(q));
    }
}

void mr_quantize_q8_1(const float *src, void *dst, size_t n, const float *importance) {
    (void)importance;
    mr_block_q8_1 *block = dst;
    for (size_t i = 0; i + MR_QK <= n; i += MR_QK, block++) {
        int8_t q[32];
        int sum = 0;
        block->d = quantize_32_to_8_bits(src + i, q);
        for (int j = 0; j < 32; j++) sum += q[j];
        block->s = mr_fit_half(mr_f16_to_f32(block->d) * (float)sum);
        memcpy(block->qs, q, sizeof(q));
    }
}

void mr_quantize_q8_k(const float *src, void *dst, size_t n, const float *importance) {
    (void)importance;
    mr_block_q8_k *block = dst;
    for (size_t i = 0; i + MR_QK_K <= n; i += MR_QK_K, block++) {
        int8_t q[MR_QK_K];
        float d = mr_f16_to_f32(mr_fit_half(largest_magnitude(src + i, MR_QK_K) / 127.0f)); /* as kernels have it */
        mr_fit_round(src + i, MR_QK_K, d, 0.0f, -127, 127, q);
        block->d = d;
        memcpy(block->qs, q, sizeof(q));
        for (int g = 0; g < 16; g++) {
            int sum = 0;
            for (int j = 0; j < 16; j++) sum += q[16 * g + j];
            block->bsums[g] = (int16_t)sum;
        }
    }
}
