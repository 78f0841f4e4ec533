/* Configurations of Gemma 3n and Gemma 4, whose layers differ by kind in ways that config.json tells by rules and
 * exceptions. Here they become what other families say outright: `layer_types`, and lists with a number for each layer.
 * Checked against transformers 5.24. */
#ifndef MR_MODEL_HF_GEMMA_H
#define MR_MODEL_HF_GEMMA_H

#include "base/error.h"

#include <jansson.h>

/* Writes into a language part: `layer_types`, and `activation_sparsity_scale` (for each layer, how many standard
 * deviations above their mean gates begin to count; null where all do).
 * Errors: MR_ERR_INVALID and MR_ERR_UNSUPPORTED name the setting. */
mr_status mr_hf_gemma3n_spell_out(json_t *config, mr_error *err);

/* Writes into a language part: `layer_types`, `head_dim` (of layers without a window), `local_head_dim` (of those with
 * one), `num_key_value_heads` and, where layers differ in it, `intermediate_size` as lists; takes the numbers of
 * experts out where the model has none. Errors as above. */
mr_status mr_hf_gemma4_spell_out(json_t *config, mr_error *err);

#endif
