/* exp(x) that gives the same bits on every machine: IEEE 754 single-precision additions and multiplications in a fixed
 * order, no fused operations and no libm. */
#ifndef MR_COMPUTE_EXACT_EXP_H
#define MR_COMPUTE_EXACT_EXP_H

#include <stdint.h>
#include <string.h>

/* exp(x) for x <= 0, not NaN; relative error below 3e-7. Below -87 the result is exp(-87), about 1.6e-38. exp(0) is 1.
 *
 * x = n ln 2 + r with |r| <= ln 2 / 2 (ln 2 in two parts, so that n times the first is exact), the Taylor series of
 * exp(r) to the seventh power, and n put into the exponent. */
static inline float mr_exact_exp(float x) {
    uint32_t bits; /* clamped as an integer, which compilers vectorize without asking about NaN */
    memcpy(&bits, &x, sizeof bits);
    bits = bits < 0xC2AE0000u ? bits : 0xC2AE0000u; /* -87 */
    memcpy(&x, &bits, sizeof x);
    float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* adding 1.5 * 2^23 rounds to an integer */
    float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = r * (1.0f / 5040.0f) + (1.0f / 720.0f);
    p = p * r + (1.0f / 120.0f);
    p = p * r + (1.0f / 24.0f);
    p = p * r + (1.0f / 6.0f);
    p = p * r + 0.5f;
    p = (p * r) * r + r + 1.0f;
    int32_t exponent = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &exponent, sizeof scale);
    return p * scale;
}

#endif
