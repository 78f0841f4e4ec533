/* The K formats: super-blocks of 256 whose groups have quantized scales. Q2_K, Q3_K, Q4_K, Q5_K, Q6_K. */
#include "compute/blocks.h"
#include "compute/dtype.h"
#include "compute/quant.h"
#include "compute/quant_fit.h"

#include <string.h>

/* Value i (0..255) of a plane of 2-bit runs, and of 4-bit runs. */
static inline int run2(const uint8_t *qs, int i) {
    return qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}
static inline int run4(const uint8_t *qs, int i) {
    return qs[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
}

void mr_dequantize_q2_k(const void *src, float *dst, size_t n) {
    const mr_block_q2_k *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++, dst += MR_QK_K) {
        float d = mr_f16_to_f32(block->d), dmin = mr_f16_to_f32(block->dmin);
        for (int g = 0; g < 16; g++) {
            float scale = d * (float)(block->scales[g] & 15), min = dmin * (float)(block->scales[g] >> 4);
            for (int i = 16 * g; i < 16 * g + 16; i++) dst[i] = scale * (float)run2(block->qs, i) - min;
        }
    }
}

void mr_dequantize_q3_k(const void *src, float *dst, size_t n) {
    const mr_block_q3_k *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++, dst += MR_QK_K) {
        float d = mr_f16_to_f32(block->d);
        for (int g = 0; g < 16; g++) {
            float scale = d * (float)mr_q3_k_scale(block->scales, g);
            for (int i = 16 * g; i < 16 * g + 16; i++) {
                int high = block->hmask[i % 32] >> (i / 32) & 1;
                dst[i] = scale * (float)((run2(block->qs, i) | high << 2) - 4);
            }
        }
    }
}

void mr_dequantize_q4_k(const void *src, float *dst, size_t n) {
    const mr_block_q4_k *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++, dst += MR_QK_K) {
        float d = mr_f16_to_f32(block->d), dmin = mr_f16_to_f32(block->dmin);
        for (int g = 0; g < 8; g++) {
            uint8_t sc, mn;
            mr_k_scale_min(block->scales, g, &sc, &mn);
            float scale = d * (float)sc, min = dmin * (float)mn;
            for (int i = 32 * g; i < 32 * g + 32; i++) dst[i] = scale * (float)run4(block->qs, i) - min;
        }
    }
}

void mr_dequantize_q5_k(const void *src, float *dst, size_t n) {
    const mr_block_q5_k *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++, dst += MR_QK_K) {
        float d = mr_f16_to_f32(block->d), dmin = mr_f16_to_f32(block->dmin);
        for (int g = 0; g < 8; g++) {
            uint8_t sc, mn;
            mr_k_scale_min(block->scales, g, &sc, &mn);
            float scale = d * (float)sc, min = dmin * (float)mn;
            for (int i = 32 * g; i < 32 * g + 32; i++) {
                int high = block->qh[i % 32] >> g & 1;
                dst[i] = scale * (float)(run4(block->qs, i) | high << 4) - min;
            }
        }
    }
}

/* Byte and shift of the low nibble of value i of a Q6_K block. */
static inline int q6_low_byte(int i) {
    return i / 128 * 64 + i % 64;
}
static inline int q6_low_shift(int i) {
    return i % 128 / 64 * 4;
}

void mr_dequantize_q6_k(const void *src, float *dst, size_t n) {
    const mr_block_q6_k *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++, dst += MR_QK_K) {
        float d = mr_f16_to_f32(block->d);
        for (int g = 0; g < 16; g++) {
            float scale = d * (float)block->scales[g];
            for (int i = 16 * g; i < 16 * g + 16; i++) {
                int low = block->ql[q6_low_byte(i)] >> q6_low_shift(i) & 15;
                dst[i] = scale * (float)((low | run2(block->qh, i) << 4) - 32);
            }
        }
    }
}

static void put_run2(uint8_t *qs, int i, int bits) {
    qs[i / 128 * 32 + i % 32] |= (uint8_t)((bits & 3) << (i % 128 / 32 * 2));
}
static void put_run4(uint8_t *qs, int i, int bits) {
    qs[i / 64 * 32 + i % 32] |= (uint8_t)((bits & 15) << (i % 64 / 32 * 4));
}

static void pack_scale_min(const uint8_t *scales, const uint8_t *mins, uint8_t out[12]) {
    for (int g = 0; g < 4; g++) {
        out[g] = (uint8_t)(scales[g] | scales[g + 4] >> 4 << 6);
        out[g + 4] = (uint8_t)(mins[g] | mins[g + 4] >> 4 << 6);
        out[g + 8] = (uint8_t)((scales[g + 4] & 15) | (mins[g + 4] & 15) << 4);
    }
}

void mr_quantize_q2_k(const float *src, void *dst, size_t n, const float *importance) {
    mr_block_q2_k *block = dst;
    for (size_t i = 0; i + MR_QK_K <= n; i += MR_QK_K, block++) {
        mr_fit_affine_block fit;
        mr_fit_affine_256(src + i, importance ? importance + i : NULL, 16, 3, 15, &fit);
        memset(block, 0, sizeof(*block));
        block->d = fit.d;
        block->dmin = fit.dmin;
        for (int g = 0; g < 16; g++) block->scales[g] = (uint8_t)(fit.scales[g] | fit.mins[g] << 4);
        for (int j = 0; j < MR_QK_K; j++) put_run2(block->qs, j, fit.q[j]);
    }
}

void mr_quantize_q3_k(const float *src, void *dst, size_t n, const float *importance) {
    mr_block_q3_k *block = dst;
    for (size_t i = 0; i + MR_QK_K <= n; i += MR_QK_K, block++) {
        mr_fit_symmetric_block fit;
        mr_fit_symmetric_256(src + i, importance ? importance + i : NULL, 4, 32, &fit);
        memset(block, 0, sizeof(*block));
        block->d = fit.d;
        for (int g = 0; g < 16; g++) {
            int scale = fit.scales[g] + 32;
            block->scales[g % 8] |= (uint8_t)((scale & 15) << (g / 8 * 4));
            block->scales[8 + g % 4] |= (uint8_t)(scale >> 4 << (g / 4 * 2));
        }
        for (int j = 0; j < MR_QK_K; j++) {
            int q = fit.q[j] + 4;
            put_run2(block->qs, j, q);
            block->hmask[j % 32] |= (uint8_t)(q >> 2 << (j / 32));
        }
    }
}

void mr_quantize_q4_k(const float *src, void *dst, size_t n, const float *importance) {
    mr_block_q4_k *block = dst;
    for (size_t i = 0; i + MR_QK_K <= n; i += MR_QK_K, block++) {
        mr_fit_affine_block fit;
        mr_fit_affine_256(src + i, importance ? importance + i : NULL, 32, 15, 63, &fit);
        memset(block, 0, sizeof(*block));
        block->d = fit.d;
        block->dmin = fit.dmin;
        pack_scale_min(fit.scales, fit.mins, block->scales);
        for (int j = 0; j < MR_QK_K; j++) put_run4(block->qs, j, fit.q[j]);
    }
}

void mr_quantize_q5_k(const float *src, void *dst, size_t n, const float *importance) {
    mr_block_q5_k *block = dst;
    for (size_t i = 0; i + MR_QK_K <= n; i += MR_QK_K, block++) {
        mr_fit_affine_block fit;
        mr_fit_affine_256(src + i, importance ? importance + i : NULL, 32, 31, 63, &fit);
        memset(block, 0, sizeof(*block));
        block->d = fit.d;
        block->dmin = fit.dmin;
        pack_scale_min(fit.scales, fit.mins, block->scales);
        for (int j = 0; j < MR_QK_K; j++) {
            put_run4(block->qs, j, fit.q[j]);
            block->qh[j % 32] |= (uint8_t)((fit.q[j] >> 4 & 1) << (j / 32));
        }
    }
}

void mr_quantize_q6_k(const float *src, void *dst, size_t n, const float *importance) {
    mr_block_q6_k *block = dst;
    for (size_t i = 0; i + MR_QK_K <= n; i += MR_QK_K, block++) {
        mr_fit_symmetric_block fit;
        mr_fit_symmetric_256(src + i, importance ? importance + i : NULL, 32, 128, &fit);
        memset(block, 0, sizeof(*block));
        block->d = fit.d;
        memcpy(block->scales, fit.scales, sizeof(block->scales));
        for (int j = 0; j < MR_QK_K; j++) {
            int q = fit.q[j] + 32;
            block->ql[q6_low_byte(j)] |= (uint8_t)((q & 15) << q6_low_shift(j));
            put_run2(block->qh, j, q >> 4);
        }
    }
}
