/* Architectures as data: which forward pass a model's files ask for. */
#ifndef MR_MODEL_ARCH_H
#define MR_MODEL_ARCH_H

#include "base/error.h"
#include "compute/matrix.h"
#include "model/gguf.h"

#include <stdbool.h>
#include <stdint.h>

/* What the name of an architecture fixes. */
typedef struct mr_arch {
    const char *name; /* general.architecture */
    bool rope_neox;   /* pairs (i, i + n/2) instead of (2i, 2i + 1) */
    mr_glu glu;
} mr_arch;

/* NULL and an error that lists the known ones when there is none of this name. */
const mr_arch *mr_arch_find(const char *name, size_t len, mr_error *err);

typedef enum mr_rope_scaling { MR_ROPE_SCALING_NONE, MR_ROPE_SCALING_LINEAR, MR_ROPE_SCALING_YARN } mr_rope_scaling;

/* What a model's metadata fixes. */
typedef struct mr_hparams {
    const mr_arch *arch;
    uint32_t n_ctx_train, n_embd, n_layer, n_head, n_head_kv, head_dim_k, head_dim_v, n_ff, n_vocab;
    float norm_eps;

    uint32_t n_rot; /* values of a head that are rotated */
    float rope_freq_base;
    mr_rope_scaling rope_scaling;
    float rope_factor;        /* context extension factor, 1 = none */
    uint32_t rope_n_ctx_orig; /* YaRN: context before the extension */
    float yarn_beta_fast, yarn_beta_slow, yarn_ext_factor, yarn_attn_factor;
} mr_hparams;

/* Reads and bounds the metadata; errors name the key. */
mr_status mr_hparams_read(mr_hparams *hparams, const mr_gguf *gguf, mr_error *err);

/* Angular frequencies of the n_rot/2 pairs, inv_freq[n_rot/2], with linear and YaRN scaling (Peng et al., arXiv:2309.00071) applied; freq_factors
 * ([n_rot/2] or NULL) divide them (Llama 3.1's scaling as GGUF files store it). Returns the factor for cosines and sines. */
float mr_rope_frequencies(const mr_hparams *hparams, const float *freq_factors, float *inv_freq);

/* cosines and sines, [n_pairs] each, of position pos. */
void mr_rope_angles(const float *inv_freq, size_t n_pairs, float factor, uint32_t pos, float *cosines, float *sines);

#endif
