/* A loaded model: configuration, packed weights, and the forward pass. */
#ifndef MR_MODEL_MODEL_H
#define MR_MODEL_MODEL_H

#include "base/cancel.h"
#include "base/error.h"
#include "compute/candidates.h"
#include "compute/kv.h"
#include "compute/team.h"
#include "model/gguf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_model mr_model;

/* Called now and then while loading, from the loading thread; fraction 0 .. 1. Returning false cancels the load. */
typedef bool (*mr_progress_fn)(void *ctx, float fraction);

typedef struct mr_model_options {
    int n_threads;  /* 0 = physical cores */
    uint32_t n_ctx; /* positions that sequences may reach, 0 = the model's own context; LongRoPE depends on it */
    const struct mr_quant_mix
        *quantize; /* how float matrices are quantized while they load (quant_mix.h); NULL = as stored */
    /* Where layers are computed: "cpu", "cuda" or "cuda:N" (an error where that is not possible), or "auto": on the
     * first GPU where there is one that can, else on the CPU. NULL is "cpu". Layers that do not fit beside kv_tokens
     * positions of keys and values of kv_type stay on the CPU. */
    const char *device;
    uint64_t kv_tokens; /* 0 = n_ctx */
    mr_kv_type kv_type;
    struct mr_backend *backend; /* for tests: computes the layers from first_device_layer on; stays the caller's */
    uint32_t first_device_layer;
    mr_progress_fn progress; /* may be NULL */
    void *progress_ctx;
    mr_cancel *cancel; /* may be NULL */
} mr_model_options;

/* What the floors above need to know. */
typedef struct mr_model_info {
    char arch[32];       /* "llama" */
    char name[128];      /* general.name, or "" */
    char type_label[64]; /* e.g. "1.1B Q4_K" */
    uint32_t n_vocab, n_embd, n_layer, n_head, n_head_kv;
    uint32_t n_ctx_train;
    uint64_t n_params;
    size_t weight_bytes; /* memory held by weights */
    char device[128];    /* what computes the layers from first_device_layer on; "" = the CPU does all */
    uint32_t first_device_layer;
    bool encoder; /* reads a text whole, of at most n_ctx_train tokens, and makes hidden rows but no logits */
} mr_model_info;

/* Checks a device's name: "auto", "cpu", "cuda" or "cuda:N". *number is N, 0 where there is none. */
mr_status mr_device_name_check(const char *name, int *number, mr_error *err);

/* Loads the model of an open GGUF. The model keeps a reference to nothing of *gguf but its mapping, which must stay
 * open for the life of the model (embedding rows are read from it). */
mr_status mr_model_load(mr_model **model, const mr_gguf *gguf, const mr_model_options *options, mr_error *err);
void mr_model_free(mr_model *model);

const mr_model_info *mr_model_get_info(const mr_model *model);
mr_kv_layout mr_model_kv_layout(const mr_model *model, mr_kv_type type);

/* Bytes of the recurrent state that a sequence has beside its keys and values, on the CPU and on the model's device
 * together: 0 for models whose layers are all attention. */
size_t mr_model_state_bytes(const mr_model *model);

/* Whether the model's first il layers (at least one) may stay on the CPU while the others are on a device. */
bool mr_model_may_split_at(const mr_model *model, uint32_t il);

/* The memory of n_blocks blocks of keys and values, on the CPU and on the model's device; errors: MR_ERR_NOMEM. */
mr_status mr_model_kv_init(mr_model *model, mr_kv_pool *pool, mr_kv_type type, size_t n_blocks, mr_error *err);
void mr_model_kv_free(mr_model *model, mr_kv_pool *pool);

/* Copies all that block `from` holds into block `to`. Not during a pass. */
void mr_model_kv_copy(mr_model *model, const mr_kv_pool *pool, int32_t to, int32_t from);

/* What sequences take of one memory, the CPU's or that of the model's device: bytes of a block of keys and values, and
 * of a recurrent state. 0 where no layer that is computed there has any. */
typedef struct mr_model_needs {
    size_t block_bytes, state_bytes;
} mr_model_needs;
mr_model_needs mr_model_needs_of(const mr_model *model, mr_kv_type type, bool on_device);

/* Bytes free on the model's device; 0 when it has none. */
size_t mr_model_device_free(const mr_model *model);

/* Memory for n_states recurrent states, each in two parts: that of the layers which the CPU computes, and that of a
 * device's; a part that has no bytes has no memory. */
typedef struct mr_state_pool {
    size_t n_states, state_bytes, device_state_bytes;
    uint8_t *data, *device_data;
} mr_state_pool;

/* One of them. Both parts are aligned to 64. */
typedef struct mr_state {
    float *data, *device_data;
} mr_state;

/* Zeros at first on the CPU; errors: MR_ERR_NOMEM. Nothing is allocated for models without states. */
mr_status mr_model_states_init(mr_model *model, mr_state_pool *pool, size_t n_states, mr_error *err);
void mr_model_states_free(mr_model *model, mr_state_pool *pool);
mr_state mr_state_at(const mr_state_pool *pool, size_t i);

/* Consecutive tokens of one sequence in a batch. */
typedef struct mr_batch_run {
    const int32_t *tokens; /* [n_tokens] */
    uint32_t n_tokens;
    uint32_t pos0;         /* position of the first; earlier positions are in the KV blocks already */
    const int32_t *blocks; /* block table, covers positions 0 .. pos0+n_tokens-1 */
    uint32_t n_logits;     /* logits are wanted for the last n_logits tokens of the run (0 .. n_tokens) */
    float *logits;         /* [n_logits, n_vocab], filled; NULL when n_logits is 0 */
    int32_t *best; /* [n_logits], filled: the ids of the largest logits (the smallest among equals), or NULL; models on
                      a device only. With it, logits may be NULL */
    mr_candidates *candidates; /* [n_logits], filled: likewise */
    uint32_t n_hidden; /* likewise: what the vocabulary projection gets, the residual stream behind the last norm */
    float *hidden;     /* [n_hidden, n_embd], filled; NULL when n_hidden is 0 */

    /* Models with a recurrent state only: */
    mr_state state;     /* behind the positions before pos0; not read when pos0 is 0 */
    mr_state state_out; /* filled: behind the run. May be `state`, which is then undefined after an error */
    uint32_t n_mid;     /* when not 0, the state behind the run's first n_mid tokens is wanted, too ... */
    mr_state state_mid; /* ... and goes here; apart from the others */
} mr_batch_run;

/* Most tokens (over all runs) in one forward pass; an encoder reads a longer text where it is the only run. */
enum { MR_BATCH_MAX = 512 };

/* One forward pass over the runs on the model's own thread team; writes K and V of every token to the pool. Not
 * re-entrant: one caller at a time. When `abort_flag` (may be NULL) becomes set inside, the pass stops within a
 * fraction of a layer and returns MR_ERR_CANCELLED; KV of the batch's positions and the states that were to be filled
 * are then undefined, everything else is untouched, and the same pass can be made again. Errors besides: MR_ERR_INVALID
 * (a token id out of range, too many tokens), MR_ERR_NOMEM. */
mr_status mr_model_forward(mr_model *model, const mr_kv_pool *pool, const mr_batch_run *runs, size_t n_runs,
                           const mr_cancel *abort_flag, mr_error *err);

/* Rows of logits of the last pass of a model on a device, until the next one: row rows[i], counted over the runs in
 * their order, goes to to[i] [n_vocab]. For what candidates turned out not to tell. */
mr_status mr_model_fetch_logits(mr_model *model, const uint32_t *rows, float *const *to, size_t n, mr_error *err);

/* The team, for work between passes (sampling). */
mr_team *mr_model_team(mr_model *model);

#endif
