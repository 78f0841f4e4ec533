/* Which type each tensor of a model gets in the mixes that the community's GGUF files come in ("Q4_K_M", "Q6_K", …).
 *
 * A mix has a base type; the tensors that suffer most from few bits (the output, attention values, the down projections
 * of some layers) get more. The rules are those of llama.cpp's quantizer (src/llama-quant.cpp), so that a file of a
 * given name has the size and quality people expect. */
#ifndef MR_MODEL_QUANT_MIX_H
#define MR_MODEL_QUANT_MIX_H

#include "compute/dtype.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct mr_quant_mix mr_quant_mix;

/* By name, ignoring case and underscores. "Q4_K", "Q5_K" and "Q3_K" mean the _M mixes, as elsewhere. NULL when unknown.
 */
const mr_quant_mix *mr_quant_mix_find(const char *name);

/* The i-th mix of those that files come in, NULL beyond the last. */
const mr_quant_mix *mr_quant_mix_at(size_t i);

const char *mr_quant_mix_name(const mr_quant_mix *mix);
mr_dtype mr_quant_mix_base(const mr_quant_mix *mix);

/* Whether GGUF files come in this mix; else it is for quantizing while loading only (Q8_1, Q8_K, HQQ4, HQQ8, F8E4M3).
 */
bool mr_quant_mix_in_files(const mr_quant_mix *mix);

/* The number that `general.file_type` has in such a file. */
uint32_t mr_quant_mix_file_type(const mr_quant_mix *mix);

/* What a choice depends on. `name` is the tensor's in GGUF files; n_in its columns; n_gqa = n_head / n_head_kv. */
typedef struct mr_quant_tensor {
    const char *name;
    uint32_t n_dims;
    uint64_t n_in;
    uint32_t n_layer, n_gqa, n_expert;
    bool tied; /* the model has no output.weight: token_embd serves as it */
} mr_quant_tensor;

/* Whether the tensor is one to quantize at all; norms, biases, routers and small convolutions are not. */
bool mr_quant_allowed(const char *name, uint32_t n_dims);

/* The type for a tensor that is allowed: what the mix says, or, when the columns are no whole blocks of that type, its
 * replacement in blocks of 32, or F16. */
mr_dtype mr_quant_mix_type(const mr_quant_mix *mix, const mr_quant_tensor *tensor);

/* `type`, or what replaces it for rows of n_in values. */
mr_dtype mr_quant_fitting(mr_dtype type, uint64_t n_in);

#endif
