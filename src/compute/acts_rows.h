/* Rows of activations in each form, written so that a compiler makes vectors of it. Include from one file per
 * instruction set; the results are the same bits on all.
 *
 * Quantization of a block: amax = largest |x|; d = amax / 127; q = x * (127 / amax) rounded to nearest, ties to even. A
 * block whose amax is below 1e-30 is zero; one with an infinity or NaN gets d = NaN and q = 0, so that the result shows
 * it.
 *
 * Of a block of 256, d is an eighth of that, and each 32 values have the smallest factor f of 1 .. 8 with their own
 * largest |x| at most amax * f / 8; q = x * (1016 / amax / f). So small groups beside a large one keep their digits,
 * and the sum over a super-block stays one of integers. */
#ifndef MR_COMPUTE_ACTS_ROWS_H
#define MR_COMPUTE_ACTS_ROWS_H

#include "compute/matrix_impl.h"

#include <math.h>

static inline void row_f32(const float *x, size_t n_in, uint8_t *row) {
    memcpy(row, x, n_in * sizeof(float));
}

/* Subnormal results become zero, as bf16 dot product instructions read them. */
static inline void row_bf16(const float *x, size_t n_in, uint8_t *row) {
    uint16_t *out = (uint16_t *)row;
    for (size_t i = 0; i < n_in; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], 4);
        uint32_t magnitude = bits & 0x7FFFFFFFu;
        uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
        rounded = magnitude > 0x7F800000u ? (bits >> 16) | 0x40u : rounded;
        out[i] = (uint16_t)((rounded & 0x7F80u) == 0 ? rounded & 0x8000u : rounded);
    }
    if (n_in % 2 != 0) out[n_in] = 0;
}

/* The largest |x|. As integers, magnitudes order like floats, with infinity and NaN on top. */
static inline int32_t largest_bits(const float *x, int n) {
    int32_t most = 0;
    for (int i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, &x[i], 4);
        bits &= 0x7FFFFFFF;
        most = bits > most ? bits : most;
    }
    return most;
}

static inline float float_of(int32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* The factor from x to q of at most `levels` for a block whose largest |x| is given; sets *d. */
static inline float q8_factor(int32_t most, float levels, float *d) {
    float amax = float_of(most);
    if (most >= 0x7F800000) {
        *d = NAN;
        return 0.0f;
    }
    if (amax < 1e-30f) {
        *d = 0.0f;
        return 0.0f;
    }
    *d = amax / levels;
    return levels / amax;
}

static inline void q8_values(const float *x, int n, float factor, int8_t *q) {
    if (factor == 0.0f) {
        memset(q, 0, (size_t)n);
        return;
    }
    for (int i = 0; i < n; i++) {
        /* Adding 1.5 * 2^23 rounds to an integer in the low bits. */
        union {
            float f;
            uint32_t u;
        } v = {.f = x[i] * factor + 12582912.0f};
        q[i] = (int8_t)(v.u & 0xFFu);
    }
}

static inline void row_q8_32(const float *x, size_t n_in, uint8_t *row) {
    int8_t *q = (int8_t *)row;
    mr_q8_32_meta *meta = (mr_q8_32_meta *)(row + n_in);
    for (size_t b = 0; b < n_in / 32; b++, x += 32, q += 32) {
        q8_values(x, 32, q8_factor(largest_bits(x, 32), 127.0f, &meta[b].d), q);
        int32_t sum = 0;
        for (int i = 0; i < 32; i++) sum += q[i];
        meta[b].neg_sum = -sum;
    }
}

static inline void q8_256_sums(mr_q8_256 *block, mr_q8_256_meta *meta) {
    int sum[16], abs_sum[16];
    for (int g = 0; g < 16; g++) {
        int s = 0, a = 0;
        for (int i = 0; i < 16; i++) {
            int v = block->q[16 * g + i];
            s += v;
            a += v < 0 ? -v : v;
        }
        sum[g] = s;
        abs_sum[g] = a;
        block->neg_sum[g] = -s;
    }
    int peak16 = 0, peak32 = 0;
    for (int g = 0; g < 8; g++) {
        int s = sum[2 * g] + sum[2 * g + 1], a = abs_sum[2 * g] + abs_sum[2 * g + 1];
        int one_sign = (a + (s < 0 ? -s : s)) / 2;
        peak32 = one_sign > peak32 ? one_sign : peak32;
        peak16 = abs_sum[2 * g] > peak16 ? abs_sum[2 * g] : peak16;
        peak16 = abs_sum[2 * g + 1] > peak16 ? abs_sum[2 * g + 1] : peak16;
    }
    meta->peak16 = (uint16_t)peak16;
    meta->peak32 = (uint16_t)peak32;
    for (int i = 0; i < 8; i++) meta->sum32[i] = (int16_t)(meta->factor[i] * (sum[2 * i] + sum[2 * i + 1]));
}

/* The values of a block and the factors of its groups. */
static inline void q8_256_values(const float *x, mr_q8_256 *block, mr_q8_256_meta *meta) {
    int32_t most[8], all = 0;
    for (int g = 0; g < 8; g++) {
        most[g] = largest_bits(x + 32 * g, 32);
        all = most[g] > all ? most[g] : all;
    }
    float amax = float_of(all), whole = q8_factor(all, 1016.0f, &meta->d);
    for (int g = 0; g < 8; g++) {
        int factor = 1;
        for (int i = 1; i < 8; i++) factor += float_of(most[g]) > amax * (0.125f * (float)i);
        meta->factor[g] = (int16_t)(whole == 0.0f ? 1 : factor);
        q8_values(x + 32 * g, 32, whole / (float)meta->factor[g], block->q + 32 * g);
    }
}

static inline void row_q8_256(const float *x, size_t n_in, uint8_t *row) {
    mr_q8_256 *block = (mr_q8_256 *)row;
    mr_q8_256_meta *meta = (mr_q8_256_meta *)(row + n_in / 256 * sizeof(mr_q8_256));
    for (size_t b = 0; b < n_in / 256; b++, x += 256, block++, meta++) {
        q8_256_values(x, block, meta);
        q8_256_sums(block, meta);
    }
}

#define MR_ACTS_ROWS                                                                                                   \
    { row_f32, row_bf16, row_q8_32, row_q8_256 }

#endif
