/* Weights of Hugging Face folders that are quantized already, in types that we have kernels for.
 *
 *   FP8    X.weight of 8-bit floats with X.weight_scale_inv (DeepSeek, Qwen) or X.weight_scale (compressed-tensors):
 * for the tensor, each row, or blocks. Kept as they are (F8E4M3) where blocks hold whole 64 columns; F32 otherwise, and
 * F16 without scales, which loses nothing either. GPTQ   (Frantar et al., arXiv:2210.17323) X.qweight, X.qzeros,
 * X.scales, X.g_idx: w = s (q - z) in groups of columns. 4 bits are Q4_0 where all zeros are 8 and Q5_0 otherwise, 8
 * bits Q8_0 where all are 128: exact. 8 bits with other zeros are HQQ8, whose minimum is rounded by 0.06 s at most;
 * groups whose columns are not neighbours (act-order) are F16, the rounding of the format's own kernels. AWQ    (Lin et
 * al., arXiv:2306.00978) the same tensors with rows packed side by side ("GEMM"): Q4_0 or Q5_0.
 *
 * Scales are halves in all of these types; other ones (BF16, F32) are rounded to half precision. */
#ifndef MR_MODEL_HF_QUANTIZED_H
#define MR_MODEL_HF_QUANTIZED_H

#include "base/arena.h"
#include "base/error.h"
#include "model/gguf.h"
#include "model/safetensors.h"

#include <jansson.h>
#include <stdbool.h>

typedef enum mr_hf_method { MR_HF_PLAIN, MR_HF_FP8, MR_HF_GPTQ, MR_HF_AWQ } mr_hf_method;

/* What config.json's quantization_config says. */
typedef struct mr_hf_quantization {
    mr_hf_method method;
    uint32_t bits;                   /* GPTQ, AWQ */
    uint64_t group;                  /* columns of a group; 0 = all */
    uint32_t zero_offset;            /* zeros are stored less this (GPTQ before version 2: 1) */
    uint64_t block_rows, block_cols; /* FP8 in blocks; 0 = as the shape of the scales says */
} mr_hf_quantization;

/* Reads the configuration; one without quantization_config is MR_HF_PLAIN. MR_ERR_UNSUPPORTED names what is not
 * known. */
mr_status mr_hf_quantization_read(mr_hf_quantization *quantization, const json_t *config, mr_error *err);

/* Whether the tensor is a matrix of 8-bit floats, or the qweight of a quantized one. */
bool mr_hf_is_quantized(const mr_st_tensor *source);

/* Describes `source` (for which mr_hf_is_quantized holds) as a tensor whose rows are made on demand: everything but its
 * name. What it needs is kept in the arena and in `st`. Errors: MR_ERR_INVALID for scales and zeros that are missing or
 * do not fit, MR_ERR_UNSUPPORTED. */
mr_status mr_hf_quantized_tensor(const mr_hf_quantization *quantization, const mr_safetensors *st,
                                 const mr_st_tensor *source, mr_arena *arena, mr_gguf_tensor *tensor, mr_error *err);

/* Gives the pages of what such a tensor is made from back to the kernel. */
void mr_hf_quantized_drop(const mr_safetensors *st, const mr_gguf_tensor *tensor);

#endif
