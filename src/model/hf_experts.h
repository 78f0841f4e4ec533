/* Experts of gpt-oss folders as GGUF has them. The folders hold them as floats with the inputs as rows, [n_expert,
 * n_in, n_out], or in MXFP4 (OCP Microscaling formats 1.0): X_blocks [n_expert, n_out, n_in / 32, 16], whose bytes hold
 * two neighbours each, and X_scales [n_expert, n_out, n_in / 32]. Of gates and ups the outputs alternate. */
#ifndef MR_MODEL_HF_EXPERTS_H
#define MR_MODEL_HF_EXPERTS_H

#include "base/arena.h"
#include "base/error.h"
#include "model/gguf.h"
#include "model/safetensors.h"

#include <stdbool.h>

/* Describes `source` as a stack of matrices [n_expert, n_out, n_in] whose rows are made on demand, everything but its
 * name; with `alternate` the even outputs of each expert come first. What it needs is kept in the arena and in `st`.
 * Errors: MR_ERR_INVALID for scales that are missing or do not fit, MR_ERR_UNSUPPORTED for other types and shapes. */
mr_status mr_hf_experts_tensor(const mr_safetensors *st, const mr_st_tensor *source, bool alternate, mr_arena *arena,
                               mr_gguf_tensor *tensor, mr_error *err);

/* Copies the biases [n_expert, n_out] of the outputs `first`, first + 2 … into a tensor [n_expert, n_out / 2],
 * everything but its name. */
mr_status mr_hf_experts_bias(const mr_st_tensor *source, uint32_t first, mr_arena *arena, mr_gguf_tensor *tensor,
                             mr_error *err);

/* Gives the pages of what such a tensor is made from back to the kernel; false when the tensor is none. */
bool mr_hf_experts_drop(const mr_safetensors *st, const mr_gguf_tensor *tensor);

#endif
