/* Element types of stored tensors, their blocks, and exact conversion to and from float.
 *
 * The ids are those of GGUF files. A row is a whole number of blocks. Layouts: the GGUF/ggml block formats as published in
 * the ggml repository (ggml-common.h, ggml-quants.c). */
#ifndef MR_COMPUTE_DTYPE_H
#define MR_COMPUTE_DTYPE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum mr_dtype {
    MR_F32 = 0, MR_F16 = 1, MR_Q4_0 = 2, MR_Q4_1 = 3, MR_Q5_0 = 6, MR_Q5_1 = 7, MR_Q8_0 = 8, MR_Q8_1 = 9,
    MR_Q2_K = 10, MR_Q3_K = 11, MR_Q4_K = 12, MR_Q5_K = 13, MR_Q6_K = 14, MR_Q8_K = 15,
    MR_IQ2_XXS = 16, MR_IQ2_XS = 17, MR_IQ3_XXS = 18, MR_IQ1_S = 19, MR_IQ4_NL = 20, MR_IQ3_S = 21, MR_IQ2_S = 22,
    MR_IQ4_XS = 23, MR_I8 = 24, MR_I16 = 25, MR_I32 = 26, MR_I64 = 27, MR_F64 = 28, MR_IQ1_M = 29, MR_BF16 = 30,
    MR_TQ1_0 = 34, MR_TQ2_0 = 35, MR_MXFP4 = 39,
    /* In memory only (quantized while loading, safetensors); not in GGUF files. */
    MR_HQQ4 = 60, MR_HQQ8 = 61, MR_F8_E4M3 = 62,
} mr_dtype;

typedef struct mr_dtype_info {
    mr_dtype type;
    const char *name;       /* "Q4_K" */
    uint32_t block_values;  /* values in a block, 1 for plain types */
    uint32_t block_bytes;
    /* Exact decoding of n values (a multiple of block_values); NULL when not built in. */
    void (*dequantize)(const void *src, float *dst, size_t n);
    /* Best encoding of n values; `importance` (NULL or [n]) weighs the squared error of each value. NULL when the type
     * can't be written. */
    void (*quantize)(const float *src, void *dst, size_t n, const float *importance);
} mr_dtype_info;

/* NULL for an id that is unknown. */
const mr_dtype_info *mr_dtype_find(uint32_t id);

/* Whether GGUF files can have the type. */
static inline bool mr_dtype_in_files(uint32_t id) {
    return id < (uint32_t)MR_HQQ4;
}

/* By name, ignoring case and underscores ("q4_k", "Q4K"); NULL when unknown. */
const mr_dtype_info *mr_dtype_by_name(const char *name);

/* Bytes of a row of n values; false when n is no whole number of blocks or the size overflows. */
bool mr_dtype_row_bytes(const mr_dtype_info *info, uint64_t n, size_t *n_bytes);

/* 8-bit floats (OCP FP8): E4M3 without infinities, whose largest number is 448, and E5M2. NaN stays NaN. */
float mr_f8_e4m3_to_f32(uint8_t bits);
float mr_f8_e5m2_to_f32(uint8_t bits);
uint8_t mr_f32_to_f8_e4m3(float value); /* nearest, ties to even; beyond 448: 448 */

/* Scalar conversions, exact to IEEE 754 round-to-nearest-even. */
float mr_f16_to_f32(uint16_t half);
uint16_t mr_f32_to_f16(float value);
static inline float mr_bf16_to_f32(uint16_t bits) {
    union { uint32_t u; float f; } v = {.u = (uint32_t)bits << 16};
    return v.f;
}
static inline uint16_t mr_f32_to_bf16(float value) {
    union { float f; uint32_t u; } v = {.f = value};
    if ((v.u & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)((v.u >> 16) | 0x40u); /* NaN stays NaN */
    return (uint16_t)((v.u + 0x7FFFu + ((v.u >> 16) & 1u)) >> 16);
}

#endif
