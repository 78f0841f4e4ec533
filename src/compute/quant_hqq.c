/* Half-quadratic quantization (Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023,
 * https://mobiusml.github.io/hqq_blog), and 8-bit floats: the formats in blocks of 64.
 *
 * Of a group x[64] with the scale s of its range the zero-point z is sought that minimises sum |x - s (q - z)|^p, p <
 * 1, q = round(x / s + z). An auxiliary e takes the place of the error; for a growing weight beta each step is closed:
 *
 *   e = shrink(x - s (q - z)),  shrink(v) = sign(v) max(|v| - |v|^(p-1) / beta, 0)
 *   z = mean(q - (x - e) / s)
 *
 * A step that makes the error no smaller is the last. */
#include "compute/blocks.h"
#include "compute/dtype.h"
#include "compute/quant.h"
#include "compute/quant_fit.h"

#include <math.h>
#include <string.h>

enum { N = MR_QK_64, MAX_STEPS = 20 };
static const float NORM = 0.7f, FIRST_BETA = 10.0f, BETA_GROWTH = 1.01f;

/* The nearest integer of a number below 2^22, ties to even. */
static inline float nearest(float x) {
    const float magic = 12582912.0f;
    return (x + magic) - magic;
}

static inline float clamped(float x, float lo, float hi) {
    return x < lo ? lo : x > hi ? hi : x;
}

/* e of the step; errors below the threshold, where the power eats all of them, need no power. */
static float shrunk(float v, float beta, float threshold) {
    float magnitude = fabsf(v);
    if (magnitude <= threshold) return 0.0f;
    float left = magnitude - powf(magnitude, NORM - 1.0f) / beta;
    return left <= 0.0f ? 0.0f : copysignf(left, v);
}

/* Sum of N numbers in eight chains. */
static float sum_of(const float *x) {
    float part[8] = {0};
    for (int i = 0; i < N; i += 8)
        for (int k = 0; k < 8; k++) part[k] += x[i + k];
    return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
}

static float largest_of(const float *x) {
    float part[8] = {0};
    for (int i = 0; i < N; i += 8)
        for (int k = 0; k < 8; k++) part[k] = x[i + k] > part[k] ? x[i + k] : part[k];
    for (int k = 1; k < 8; k++) part[0] = part[k] > part[0] ? part[k] : part[0];
    return part[0];
}

/* One step from zero-point z: returns the mean error and the next zero-point. `scaled` is x / s. */
static float step(const float *x, const float *scaled, float s, float q_max, float beta, float z, float *next) {
    float e[N], magnitude[N], zero[N];
    for (int i = 0; i < N; i++) {
        float q = clamped(nearest(scaled[i] + z), 0.0f, q_max);
        e[i] = x[i] - (q - z) * s;
        magnitude[i] = fabsf(e[i]);
        zero[i] = q - scaled[i];
    }
    float threshold = powf(1.0f / beta, 1.0f / (2.0f - NORM));
    if (largest_of(magnitude) > threshold)
        for (int i = 0; i < N; i++) zero[i] += shrunk(e[i], beta, threshold) / s;
    *next = sum_of(zero) / N;
    return sum_of(magnitude) / N;
}

/* The scale and the zero-point of a group; false when all values are equal. */
static bool solve(const float *x, float q_max, float *scale, float *zero) {
    float lo = x[0], hi = x[0];
    for (int i = 1; i < N; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    *scale = mr_f16_to_f32(mr_fit_half((hi - lo) / q_max));
    if (!(*scale > 0.0f)) {
        *zero = lo; /* the minimum itself */
        return false;
    }
    float inverse = 1.0f / *scale, z = -lo * inverse, beta = FIRST_BETA, best = INFINITY;
    if (fabsf(z) > 1e6f) { /* a narrow range far from zero: nothing to search in the digits that are left */
        *zero = z;
        return true;
    }
    float scaled[N];
    for (int i = 0; i < N; i++) scaled[i] = x[i] * inverse;
    for (int i = 0; i < MAX_STEPS; i++, beta *= BETA_GROWTH) {
        float next, error = step(x, scaled, *scale, q_max, beta, z, &next);
        if (!(error < best)) break;
        best = error;
        *zero = z;
        z = next;
    }
    return true;
}

/* Rounds to what is stored: x ~ d * (q - offset) + m, q in 0 .. q_max. */
static void encode(const float *x, int q_max, int offset, uint16_t *d, uint16_t *m, int8_t q[N]) {
    float scale, zero = 0.0f;
    bool spread = solve(x, (float)q_max, &scale, &zero);
    *d = spread ? mr_fit_half(scale) : 0;
    *m = mr_fit_half(spread ? ((float)offset - zero) * scale : zero);
    for (int i = 0; i < N; i += 32)
        mr_fit_round(x + i, 32, mr_f16_to_f32(*d), mr_f16_to_f32(*m), -offset, q_max - offset, q + i);
}

void mr_quantize_hqq4(const float *src, void *dst, size_t n, const float *importance) {
    (void)importance;
    mr_block_hqq4 *block = dst;
    for (; n >= N; n -= N, block++, src += N) {
        int8_t q[N];
        uint16_t d, m;
        encode(src, 15, 0, &d, &m, q);
        block->d = d;
        block->m = m;
        for (int j = 0; j < 16; j++) {
            block->qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
            block->qs[j + 16] = (uint8_t)(q[j + 32] | q[j + 48] << 4);
        }
    }
}

void mr_dequantize_hqq4(const void *src, float *dst, size_t n) {
    const mr_block_hqq4 *block = src;
    for (; n >= N; n -= N, block++, dst += N) {
        float d = mr_f16_to_f32(block->d), m = mr_f16_to_f32(block->m);
        for (int j = 0; j < 32; j++) {
            int at = j < 16 ? j : j + 16;
            dst[at] = d * (float)(block->qs[j] & 15) + m;
            dst[at + 16] = d * (float)(block->qs[j] >> 4) + m;
        }
    }
}

void mr_quantize_hqq8(const float *src, void *dst, size_t n, const float *importance) {
    (void)importance;
    mr_block_hqq8 *block = dst;
    for (; n >= N; n -= N, block++, src += N) {
        int8_t q[N];
        uint16_t d, m;
        encode(src, 255, 128, &d, &m, q);
        block->d = d;
        block->m = m;
        memcpy(block->qs, q, sizeof q);
    }
}

void mr_dequantize_hqq8(const void *src, float *dst, size_t n) {
    const mr_block_hqq8 *block = src;
    for (; n >= N; n -= N, block++, dst += N) {
        float d = mr_f16_to_f32(block->d), m = mr_f16_to_f32(block->m);
        for (int j = 0; j < N; j++) dst[j] = d * (float)block->qs[j] + m;
    }
}

/* The largest magnitude becomes 448, the largest number. */
void mr_quantize_f8_e4m3(const float *src, void *dst, size_t n, const float *importance) {
    (void)importance;
    mr_block_f8_e4m3 *block = dst;
    for (; n >= N; n -= N, block++, src += N) {
        float most = 0.0f;
        for (int j = 0; j < N; j++) most = fabsf(src[j]) > most ? fabsf(src[j]) : most;
        float d = most / 448.0f, inverse = d > 0.0f ? 1.0f / d : 0.0f;
        if (!isfinite(inverse)) d = inverse = 0.0f;
        block->d = d;
        for (int j = 0; j < N; j++) block->qs[j] = mr_f32_to_f8_e4m3(src[j] * inverse);
    }
}

void mr_dequantize_f8_e4m3(const void *src, float *dst, size_t n) {
    const mr_block_f8_e4m3 *block = src;
    for (; n >= N; n -= N, block++, dst += N) {
        float d = block->d;
        for (int j = 0; j < N; j++) dst[j] = d * mr_f8_e4m3_to_f32(block->qs[j]);
    }
}
