/* The engine: one scheduler thread for a model, which batches all requests (continuous batching, chunked prefill), over
 * paged KV with prefix reuse.
 *
 * Requests are handed in from any thread and waited for from any thread; the scheduler owns all inference state. */
#ifndef MR_ENGINE_ENGINE_H
#define MR_ENGINE_ENGINE_H

#include "base/cancel.h"
#include "base/error.h"
#include "engine/sampler.h"
#include "model/model.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_engine mr_engine;
typedef struct mr_request mr_request;

typedef struct mr_engine_config {
    uint32_t
        context_size; /* most tokens of one sequence; 0 = the model's training context, less where memory is short */
    uint32_t max_concurrent; /* sequences in one batch; 0 = 8 */
    uint32_t max_queue;      /* requests that may wait; 0 = 1024 */
    uint32_t prefill_chunk;  /* tokens of one prefill chunk; 0 = chosen by the engine */
    mr_kv_type kv_type;      /* of an encoder, F32 in place of F16 */
    size_t kv_bytes; /* memory for KV blocks; 0 = context_size for half of max_concurrent, bounded by free memory */
    uint32_t n_snapshots; /* recurrent states kept with cached blocks; 0 = chosen by the engine */
    uint32_t n_draft;     /* most tokens guessed ahead for a request in a pass (draft.h), which changes the speed and no
                             text; 0 = none. Models with a recurrent state guess nothing */
    bool no_prefix_cache; /* for tests and measurements, and likewise: */
    double draft_cost;    /* what a guess costs, as a part of what a token costs; 0 = as measured (draft.h) */
} mr_engine_config;

/* Starts the scheduler. The model must outlive the engine. The address space for KV is reserved at once, its memory is
 * used as it is written. When memory can't hold context_size, the context is made smaller and a warning logged;
 * MR_ERR_NOMEM when it can't hold one block. */
mr_status mr_engine_new(mr_engine **engine, mr_model *model, const mr_engine_config *config, mr_error *err);

/* Ends running requests with MR_ERR_CANCELLED, stops the thread and frees everything. Requests not yet freed by their
 * owners stay valid (they report the error). NULL is allowed. */
void mr_engine_free(mr_engine *engine);

uint32_t mr_engine_context_size(const mr_engine *engine);

/* A mask over the vocabulary for the next token (constrained decoding). Called on the scheduler's thread before each
 * sampling, once for each token in order, with the tokens generated so far. Fills bits[(n_vocab+63)/64] and returns
 * true, or false for "no restriction now". Must not call the engine. */
typedef bool (*mr_mask_fn)(void *ctx, const int32_t *generated, size_t n_generated, uint64_t *bits);

/* What becomes of the hidden rows of a text (mr_batch_run.hidden): one vector. The values are those of
 * {arch}.pooling_type in GGUF files. */
typedef enum mr_pooling {
    MR_POOLING_NONE = 0, /* no vector: the request generates */
    MR_POOLING_MEAN = 1, /* the mean of all rows */
    MR_POOLING_CLS = 2,  /* the first row */
    MR_POOLING_LAST = 3, /* the last row */
} mr_pooling;

typedef struct mr_request_params {
    const int32_t *prompt; /* [n_prompt], copied; at least one token */
    size_t n_prompt;
    uint32_t max_tokens; /* 0 = what the context leaves */
    mr_sampling sampling;
    const int32_t *eog; /* [n_eog], copied: ids that end the generation (they are not reported as tokens) */
    size_t n_eog;
    mr_mask_fn mask; /* may be NULL */
    void *mask_ctx;  /* must stay valid until the request is freed */
    /* Not NONE: the prompt is read and pooled, nothing is generated, and the request ends with LENGTH; the fields from
     * max_tokens on are not used. */
    mr_pooling pooling;
} mr_request_params;

typedef enum mr_finish {
    MR_FINISH_NONE = 0, /* still running */
    MR_FINISH_EOG,      /* the model ended its turn */
    MR_FINISH_LENGTH,   /* max_tokens is reached or the context is full */
    MR_FINISH_ERROR,    /* see the error */
} mr_finish;

typedef struct mr_request_stats {
    uint32_t n_prompt;
    uint32_t n_prompt_cached; /* prompt tokens whose KV was reused */
    uint32_t n_generated;
    uint32_t n_drafted, n_accepted; /* guesses, and those of them that were generated */
    double queue_sec;               /* from submission to the first work on it */
    double prompt_sec;              /* from there to the first token */
    double generation_sec;          /* from there to the end, or until now */
} mr_request_stats;

/* Queues a request. Refused at once with MR_ERR_LIMIT and the numbers when the prompt leaves no room in the context or
 * the queue is full; MR_ERR_INVALID for bad parameters; MR_ERR_UNSUPPORTED when the model is an encoder and there is no
 * pooling; MR_ERR_CANCELLED when the engine is being freed. */
mr_status mr_engine_submit(mr_engine *engine, const mr_request_params *params, mr_request **request, mr_error *err);

/* Waits for the next token. MR_OK with *token, *finish = MR_FINISH_NONE: one more token. MR_OK with *finish EOG or
 * LENGTH: the end, no token. Otherwise an error, the same at every further call. Tokens that were produced before an
 * end or an error are all delivered first. `cancel` (may be NULL) being set ends the wait at once with
 * MR_ERR_CANCELLED; the request itself goes on until it is freed. One thread at a time. */
mr_status mr_request_next(mr_request *request, mr_cancel *cancel, int32_t *token, mr_finish *finish, mr_error *err);

/* The vector of a request with pooling, [n_embd], once mr_request_next has told its end; valid until it is freed. */
const float *mr_request_pooled(const mr_request *request);

mr_request_stats mr_request_get_stats(const mr_request *request);

/* Gives the request up: a running one is cancelled (inside a forward pass too), without waiting for the pass. NULL is
 * allowed. After it returns mask is not called again (a call in progress is waited for). */
void mr_request_free(mr_request *request);

typedef struct mr_engine_stats {
    uint32_t n_running, n_waiting;
    uint64_t n_requests, n_prompt_tokens, n_prompt_cached, n_generated;
    uint64_t n_rows_fetched; /* rows of logits that were fetched from a device because the best few did not tell */
    uint64_t n_passes, n_aborted, n_preempted; /* forward passes, those broken off, sequences that had to give way */
    uint64_t n_drafted, n_accepted;            /* guesses, and those of them that were generated */
    size_t n_blocks, n_blocks_used, n_blocks_cached; /* cached: unreferenced, kept for reuse */
    size_t kv_bytes;
    size_t n_states, state_bytes; /* recurrent states that there is room for, snapshots included, and their bytes */
} mr_engine_stats;

mr_engine_stats mr_engine_get_stats(mr_engine *engine);

#endif
