/* Decoders of the codebook formats: IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S. */
#include "compute/blocks.h"
#include "compute/dtype.h"
#include "compute/iq_tables.h"
#include "compute/quant.h"

static inline float signed_by(float value, uint8_t signs, int j) {
    return signs >> j & 1 ? -value : value;
}

static void put_iq2(float *dst, float scale, uint16_t entry, uint8_t signs) {
    for (int j = 0; j < 8; j++) dst[j] = signed_by(scale * (float)mr_iq2_level(entry, j), signs, j);
}

void mr_dequantize_iq2_xxs(const void *src, float *dst, size_t n) {
    const mr_block_iq2_xxs *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++) {
        float d = mr_f16_to_f32(block->d);
        for (int g = 0; g < 8; g++) {
            uint32_t indices = block->qs[g][0], rest = block->qs[g][1];
            float scale = d * (0.5f + (float)(rest >> 28)) * 0.25f;
            for (int k = 0; k < 4; k++, dst += 8)
                put_iq2(dst, scale, mr_iq2_xxs_grid[indices >> (8 * k) & 255], mr_iq_signs(rest >> (7 * k) & 127));
        }
    }
}

void mr_dequantize_iq2_xs(const void *src, float *dst, size_t n) {
    const mr_block_iq2_xs *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++) {
        float d = mr_f16_to_f32(block->d);
        for (int k = 0; k < 32; k++, dst += 8) {
            int sc = block->scales[k / 4] >> (k / 2 % 2 * 4) & 15;
            float scale = d * (0.5f + (float)sc) * 0.25f;
            put_iq2(dst, scale, mr_iq2_xs_grid[block->qs[k] & 511], mr_iq_signs(block->qs[k] >> 9));
        }
    }
}

void mr_dequantize_iq2_s(const void *src, float *dst, size_t n) {
    const mr_block_iq2_s *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++) {
        float d = mr_f16_to_f32(block->d);
        for (int k = 0; k < 32; k++, dst += 8) {
            int sc = block->scales[k / 4] >> (k / 2 % 2 * 4) & 15;
            float scale = d * (0.5f + (float)sc) * 0.25f;
            int index = block->qs[k] | (block->qh[k / 4] >> (k % 4 * 2) & 3) << 8;
            put_iq2(dst, scale, mr_iq2_s_grid[index], block->signs[k]);
        }
    }
}

void mr_dequantize_iq3_xxs(const void *src, float *dst, size_t n) {
    const mr_block_iq3_xxs *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++, dst += MR_QK_K) {
        float d = mr_f16_to_f32(block->d);
        for (int i = 0; i < MR_QK_K; i += 4) {
            uint32_t rest = block->scales_signs[i / 32];
            float scale = d * (0.5f + (float)(rest >> 28)) * 0.5f;
            uint8_t signs = mr_iq_signs(rest >> (i % 32 / 8 * 7) & 127);
            uint16_t entry = mr_iq3_xxs_grid[block->qs[i / 4]];
            for (int j = 0; j < 4; j++)
                dst[i + j] = signed_by(scale * (float)mr_iq3_xxs_level(entry, j), signs, i % 8 + j);
        }
    }
}

void mr_dequantize_iq3_s(const void *src, float *dst, size_t n) {
    const mr_block_iq3_s *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++, dst += MR_QK_K) {
        float d = mr_f16_to_f32(block->d);
        for (int i = 0; i < MR_QK_K; i += 4) {
            int sc = block->scales[i / 64] >> (i % 64 / 32 * 4) & 15;
            float scale = d * (float)(1 + 2 * sc);
            int index = block->qs[i / 4] | (block->qh[i / 32] >> (i % 32 / 4) & 1) << 8;
            for (int j = 0; j < 4; j++)
                dst[i + j] =
                    signed_by(scale * (float)mr_iq3_s_level(mr_iq3_s_grid[index], j), block->signs[i / 8], i % 8 + j);
        }
    }
}

static void put_iq1(float *dst, float scale, uint16_t entry, float delta) {
    for (int j = 0; j < 8; j++) dst[j] = scale * ((float)mr_iq1_level(entry, j) + delta);
}

void mr_dequantize_iq1_s(const void *src, float *dst, size_t n) {
    const mr_block_iq1_s *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++) {
        float d = mr_f16_to_f32(block->d);
        for (int k = 0; k < 32; k++, dst += 8) {
            int high = block->qh[k / 4];
            float scale = d * (float)(2 * (high >> 12 & 7) + 1);
            int index = block->qs[k] | (high >> (k % 4 * 3) & 7) << 8;
            put_iq1(dst, scale, mr_iq1_grid[index], high & 0x8000 ? -0.125f : 0.125f);
        }
    }
}

void mr_dequantize_iq1_m(const void *src, float *dst, size_t n) {
    const mr_block_iq1_m *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++) {
        const uint16_t s[4] = {block->scales[0], block->scales[1], block->scales[2], block->scales[3]};
        float d = mr_f16_to_f32((uint16_t)(s[0] >> 12 | s[1] >> 12 << 4 | s[2] >> 12 << 8 | s[3] >> 12 << 12));
        for (int k = 0; k < 32; k++, dst += 8) {
            float scale = d * (float)(2 * (s[k / 8] >> (k / 2 % 4 * 3) & 7) + 1);
            int high = block->qh[k / 2] >> (k % 2 * 4);
            int index = block->qs[k] | (high & 7) << 8;
            put_iq1(dst, scale, mr_iq1_grid[index], high & 8 ? -0.125f : 0.125f);
        }
    }
}
