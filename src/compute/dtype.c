#include "compute/dtype.h"

#include "compute/blocks.h"
#include "compute/quant.h"

#include <math.h>
#include <string.h>

float mr_f16_to_f32(uint16_t half) {
    union {
        uint32_t u;
        float f;
    } v;
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t magnitude = half & 0x7FFFu;
    if (magnitude >= 0x7C00u) { /* infinity and NaN keep their mantissa */
        v.u = sign | 0x7F800000u | (magnitude & 0x3FFu) << 13;
        return v.f;
    }
    if (magnitude >= 0x400u) {
        v.u = sign | ((magnitude << 13) + (112u << 23));
        return v.f;
    }
    v.f = (float)magnitude * 0x1p-24f; /* subnormal: an exact product */
    v.u |= sign;
    return v.f;
}

uint16_t mr_f32_to_f16(float value) {
    union {
        float f;
        uint32_t u;
    } v = {.f = value};
    uint16_t sign = (uint16_t)(v.u >> 16 & 0x8000u);
    uint32_t magnitude = v.u & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return (uint16_t)(sign | 0x7E00u | (magnitude >> 13 & 0x3FFu));
    if (magnitude >= 0x477FF000u) return sign | 0x7C00u; /* 65520 and above round to infinity */
    if (magnitude >= 0x38800000u) {                      /* 2^-14: the smallest normal half */
        uint32_t odd = magnitude >> 13 & 1u;
        return (uint16_t)(sign | ((magnitude - (112u << 23) + 0xFFFu + odd) >> 13));
    }
    /* Adding 0.5 leaves the subnormal's integer multiple of 2^-24, rounded to even by the addition, in the low bits. */
    v.u = magnitude;
    v.f += 0.5f;
    return (uint16_t)(sign | (v.u - 0x3F000000u));
}

float mr_f8_e4m3_to_f32(uint8_t bits) {
    uint32_t magnitude = bits & 0x7Fu;
    if (magnitude == 0x7F) return NAN;
    /* The same digits as a half float whose exponent is 8 too small. */
    return mr_f16_to_f32((uint16_t)((bits & 0x80u) << 8 | magnitude << 7)) * 0x1p8f;
}

float mr_f8_e5m2_to_f32(uint8_t bits) {
    return mr_f16_to_f32((uint16_t)(bits << 8)); /* the upper half of one */
}

uint8_t mr_f32_to_f8_e4m3(float value) {
    union {
        float f;
        uint32_t u;
    } v = {.f = value};
    uint8_t sign = (uint8_t)(v.u >> 24 & 0x80u);
    v.u &= 0x7FFFFFFFu;
    if (v.u > 0x7F800000u) return sign | 0x7F;
    if (v.f >= 448.0f) return sign | 0x7E;
    if (v.f < 0x1p-6f) { /* subnormal: a multiple of 2^-9, rounded by the addition */
        v.f += 0x1p14f;
        return sign | (uint8_t)(v.u - 0x46800000u);
    }
    uint32_t odd = v.u >> 20 & 1u;
    return sign | (uint8_t)(((v.u + 0x7FFFFu + odd) >> 20) - (120u << 3));
}

static void f32_copy(const void *src, float *dst, size_t n) {
    memcpy(dst, src, n * sizeof(float));
}

static void f32_store(const float *src, void *dst, size_t n, const float *importance) {
    (void)importance;
    memcpy(dst, src, n * sizeof(float));
}

static void f16_load(const void *src, float *dst, size_t n) {
    const uint8_t *bytes = src;
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * i, 2);
        dst[i] = mr_f16_to_f32(half);
    }
}

static void f16_store(const float *src, void *dst, size_t n, const float *importance) {
    (void)importance;
    uint8_t *bytes = dst;
    for (size_t i = 0; i < n; i++) {
        uint16_t half = mr_f32_to_f16(src[i]);
        memcpy(bytes + 2 * i, &half, 2);
    }
}

static void bf16_load(const void *src, float *dst, size_t n) {
    const uint8_t *bytes = src;
    for (size_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, bytes + 2 * i, 2);
        dst[i] = mr_bf16_to_f32(bits);
    }
}

static void bf16_store(const float *src, void *dst, size_t n, const float *importance) {
    (void)importance;
    uint8_t *bytes = dst;
    for (size_t i = 0; i < n; i++) {
        uint16_t bits = mr_f32_to_bf16(src[i]);
        memcpy(bytes + 2 * i, &bits, 2);
    }
}

/* Integer tensors carry indices and flags, not weights; I32, I64 and F64 would not decode exactly. */
static const mr_dtype_info table[] = {
    {MR_F32, "F32", 1, 4, f32_copy, f32_store},
    {MR_F16, "F16", 1, 2, f16_load, f16_store},
    {MR_Q4_0, "Q4_0", 32, 18, mr_dequantize_q4_0, mr_quantize_q4_0},
    {MR_Q4_1, "Q4_1", 32, 20, mr_dequantize_q4_1, mr_quantize_q4_1},
    {MR_Q5_0, "Q5_0", 32, 22, mr_dequantize_q5_0, mr_quantize_q5_0},
    {MR_Q5_1, "Q5_1", 32, 24, mr_dequantize_q5_1, mr_quantize_q5_1},
    {MR_Q8_0, "Q8_0", 32, 34, mr_dequantize_q8_0, mr_quantize_q8_0},
    {MR_Q8_1, "Q8_1", 32, 36, mr_dequantize_q8_1, mr_quantize_q8_1},
    {MR_Q2_K, "Q2_K", 256, 84, mr_dequantize_q2_k, mr_quantize_q2_k},
    {MR_Q3_K, "Q3_K", 256, 110, mr_dequantize_q3_k, mr_quantize_q3_k},
    {MR_Q4_K, "Q4_K", 256, 144, mr_dequantize_q4_k, mr_quantize_q4_k},
    {MR_Q5_K, "Q5_K", 256, 176, mr_dequantize_q5_k, mr_quantize_q5_k},
    {MR_Q6_K, "Q6_K", 256, 210, mr_dequantize_q6_k, mr_quantize_q6_k},
    {MR_Q8_K, "Q8_K", 256, 292, mr_dequantize_q8_k, mr_quantize_q8_k},
    {MR_IQ2_XXS, "IQ2_XXS", 256, 66, mr_dequantize_iq2_xxs, NULL},
    {MR_IQ2_XS, "IQ2_XS", 256, 74, mr_dequantize_iq2_xs, NULL},
    {MR_IQ3_XXS, "IQ3_XXS", 256, 98, mr_dequantize_iq3_xxs, NULL},
    {MR_IQ1_S, "IQ1_S", 256, 50, mr_dequantize_iq1_s, NULL},
    {MR_IQ4_NL, "IQ4_NL", 32, 18, mr_dequantize_iq4_nl, mr_quantize_iq4_nl},
    {MR_IQ3_S, "IQ3_S", 256, 110, mr_dequantize_iq3_s, NULL},
    {MR_IQ2_S, "IQ2_S", 256, 82, mr_dequantize_iq2_s, NULL},
    {MR_IQ4_XS, "IQ4_XS", 256, 136, mr_dequantize_iq4_xs, mr_quantize_iq4_xs},
    {MR_I8, "I8", 1, 1, NULL, NULL},
    {MR_I16, "I16", 1, 2, NULL, NULL},
    {MR_I32, "I32", 1, 4, NULL, NULL},
    {MR_I64, "I64", 1, 8, NULL, NULL},
    {MR_F64, "F64", 1, 8, NULL, NULL},
    {MR_IQ1_M, "IQ1_M", 256, 56, mr_dequantize_iq1_m, NULL},
    {MR_BF16, "BF16", 1, 2, bf16_load, bf16_store},
    {MR_TQ1_0, "TQ1_0", 256, 54, mr_dequantize_tq1_0, mr_quantize_tq1_0},
    {MR_TQ2_0, "TQ2_0", 256, 66, mr_dequantize_tq2_0, mr_quantize_tq2_0},
    {MR_MXFP4, "MXFP4", 32, 17, mr_dequantize_mxfp4, mr_quantize_mxfp4},
    {MR_HQQ4, "HQQ4", 64, 36, mr_dequantize_hqq4, mr_quantize_hqq4},
    {MR_HQQ8, "HQQ8", 64, 68, mr_dequantize_hqq8, mr_quantize_hqq8},
    {MR_F8_E4M3, "F8E4M3", 64, 68, mr_dequantize_f8_e4m3, mr_quantize_f8_e4m3},
};

enum { N_TYPES = sizeof(table) / sizeof(table[0]) };

const mr_dtype_info *mr_dtype_find(uint32_t id) {
    for (size_t i = 0; i < N_TYPES; i++)
        if ((uint32_t)table[i].type == id) return &table[i];
    return NULL;
}

static char folded(char c) {
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

static bool same_name(const char *a, const char *b) {
    for (;;) {
        while (*a == '_') a++;
        while (*b == '_') b++;
        if (folded(*a) != folded(*b)) return false;
        if (*a == '\0') return true;
        a++;
        b++;
    }
}

const mr_dtype_info *mr_dtype_by_name(const char *name) {
    for (size_t i = 0; i < N_TYPES; i++)
        if (same_name(table[i].name, name)) return &table[i];
    return NULL;
}

bool mr_dtype_row_bytes(const mr_dtype_info *info, uint64_t n, size_t *n_bytes) {
    if (n % info->block_values != 0) return false;
    uint64_t n_blocks = n / info->block_values;
    if (n_blocks > SIZE_MAX / info->block_bytes) return false;
    *n_bytes = (size_t)n_blocks * info->block_bytes;
    return true;
}
