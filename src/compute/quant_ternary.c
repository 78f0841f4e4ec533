/* Ternary formats: TQ1_0 and TQ2_0. */
#include "compute/blocks.h"
#include "compute/dtype.h"
#include "compute/quant.h"
#include "compute/quant_fit.h"

#include <math.h>
#include <string.h>

/* Powers of three that bring digit k of a TQ1_0 byte to its top. */
static const uint8_t powers[5] = {1, 3, 9, 27, 81};

static inline int digit(uint8_t byte, int k) {
    return ((uint8_t)(byte * powers[k]) * 3) >> 8;
}

/* n_bytes bytes of n_digits digits; digit k of byte i is value n_bytes * k + i. Returns the end of what was written. */
static float *put_digits(const uint8_t *bytes, int n_bytes, int n_digits, float d, float *dst) {
    for (int k = 0; k < n_digits; k++)
        for (int i = 0; i < n_bytes; i++) *dst++ = d * (float)(digit(bytes[i], k) - 1);
    return dst;
}

void mr_dequantize_tq1_0(const void *src, float *dst, size_t n) {
    const mr_block_tq1_0 *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++) {
        float d = mr_f16_to_f32(block->d);
        dst = put_digits(block->qs, 32, 5, d, dst);
        dst = put_digits(block->qs + 32, 16, 5, d, dst);
        dst = put_digits(block->qh, 4, 4, d, dst);
    }
}

void mr_dequantize_tq2_0(const void *src, float *dst, size_t n) {
    const mr_block_tq2_0 *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++) {
        float d = mr_f16_to_f32(block->d);
        for (int half = 0; half < 2; half++)
            for (int run = 0; run < 4; run++)
                for (int i = 0; i < 32; i++) *dst++ = d * (float)((block->qs[32 * half + i] >> (2 * run) & 3) - 1);
    }
}

/* The scale for 256 values: a value above half of it counts as one, and the best scale is the mean of these. Starts at
 * the largest magnitude, at which a ternary input stays exactly what it is, and goes down to where the error ends to
 * fall. */
static float fit_ternary(const float *x, const float *w) {
    float largest = 0.0f, best = 0.0f, best_gain = -1.0f;
    for (int i = 0; i < MR_QK_K; i++)
        if (fabsf(x[i]) > largest) largest = fabsf(x[i]);
    for (int start = 16; start > 2; start--) {
        float scale = largest * (float)start / 16.0f;
        for (int round = 0; round < 3; round++) {
            float sum = 0.0f, weight = 0.0f;
            for (int i = 0; i < MR_QK_K; i++) {
                float wi = w ? w[i] : 1.0f, magnitude = fabsf(x[i]);
                sum += magnitude > 0.5f * scale ? wi * magnitude : 0.0f;
                weight += magnitude > 0.5f * scale ? wi : 0.0f;
            }
            if (!(weight > 0.0f)) break;
            scale = sum / weight;
            if (sum * scale > best_gain) {
                best_gain = sum * scale;
                best = scale;
            }
        }
    }
    return best_gain > 0.0f ? best : largest;
}

/* Digits 0..2 of 256 values and the scale. */
static uint16_t encode_ternary(const float *x, const float *w, int8_t *digits) {
    uint16_t d = mr_fit_half(fit_ternary(x, w));
    mr_fit_round(x, MR_QK_K, mr_f16_to_f32(d), 0.0f, -1, 1, digits);
    for (int i = 0; i < MR_QK_K; i++) digits[i] = (int8_t)(digits[i] + 1);
    return d;
}

static const int8_t *pack_digits(const int8_t *digits, int n_bytes, int n_digits, uint8_t *bytes) {
    for (int i = 0; i < n_bytes; i++) {
        int number = 0;
        for (int k = 0; k < 5; k++) number = number * 3 + (k < n_digits ? digits[n_bytes * k + i] : 0);
        bytes[i] = (uint8_t)((number * 256 + 242) / 243);
    }
    return digits + n_bytes * n_digits;
}

void mr_quantize_tq1_0(const float *src, void *dst, size_t n, const float *importance) {
    mr_block_tq1_0 *block = dst;
    for (size_t i = 0; i + MR_QK_K <= n; i += MR_QK_K, block++) {
        int8_t digits[MR_QK_K];
        block->d = encode_ternary(src + i, importance ? importance + i : NULL, digits);
        const int8_t *rest = pack_digits(digits, 32, 5, block->qs);
        rest = pack_digits(rest, 16, 5, block->qs + 32);
        pack_digits(rest, 4, 4, block->qh);
    }
}

void mr_quantize_tq2_0(const float *src, void *dst, size_t n, const float *importance) {
    mr_block_tq2_0 *block = dst;
    for (size_t i = 0; i + MR_QK_K <= n; i += MR_QK_K, block++) {
        int8_t digits[MR_QK_K];
        block->d = encode_ternary(src + i, importance ? importance + i : NULL, digits);
        memset(block->qs, 0, sizeof(block->qs));
        for (int j = 0; j < MR_QK_K; j++)
            block->qs[j / 128 * 32 + j % 32] |= (uint8_t)(digits[j] << (j % 128 / 32 * 2));
    }
}
