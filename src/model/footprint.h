/* How much memory a model takes, worked out from its metadata and tensor list alone, before anything is loaded. */
#ifndef MR_MODEL_FOOTPRINT_H
#define MR_MODEL_FOOTPRINT_H

#include "compute/kv.h"
#include "model/arch.h"
#include "model/gguf.h"
#include "model/quant_mix.h"

/* Bytes of memory for the weights. With a mix, the float matrices are counted as it quantizes them at load; with
 * `all_matrices` the others too, which tells the size of a file of that mix. Embedding rows that are read from the file
 * when they are needed are not counted. */
size_t mr_footprint_weights(const mr_gguf *gguf, const mr_hparams *hparams, const mr_quant_mix *mix, bool all_matrices);

/* The same by layers, [n_layer], and of what is in none: *embeddings: the tables of embeddings, as they are in the
 * file, and what is made of a token's embedding before the first layer; *others: the rest, with the table of embeddings
 * again where the output is made from it. */
void mr_footprint_by_layer(const mr_gguf *gguf, const mr_hparams *hparams, const mr_quant_mix *mix, size_t *layers,
                           size_t *others, size_t *embeddings);

/* Bytes of keys and values that n_tokens positions of one sequence take, in whole blocks. */
size_t mr_footprint_kv(const mr_hparams *hparams, mr_kv_type type, uint64_t n_tokens);

/* Bytes of one recurrent state of a sequence, 0 for models whose layers are all attention. */
size_t mr_footprint_state(const mr_hparams *hparams);

/* The mix of most bits whose weights take at most n_bytes, NULL when none does; *weight_bytes is what they take. */
const mr_quant_mix *mr_footprint_best_mix(const mr_gguf *gguf, const mr_hparams *hparams, size_t n_bytes,
                                          size_t *weight_bytes);

/* MR_ERR_NOMEM when the weights, quantized by `mix` (may be NULL) at load, take more than the memory that is available;
 * the sentence gives both figures and, where there is one, a mix that would fit. With fewer than all layers these alone
 * count, the first n_layers: the others, and the head, are elsewhere. */
mr_status mr_footprint_check(const mr_gguf *gguf, const mr_hparams *hparams, const mr_quant_mix *mix, uint32_t n_layers,
                             mr_error *err);

#endif
