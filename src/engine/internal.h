/* What the parts of the engine share.
 *
 * Two kinds of fields: those of the scheduler's thread, which no lock guards, and those that `lock` guards. The lock is
 * never held during compute, a mask, or a copy of KV. */
#ifndef MR_ENGINE_INTERNAL_H
#define MR_ENGINE_INTERNAL_H

#include "engine/draft.h"
#include "engine/engine.h"
#include "engine/sequence.h"

#include <pthread.h>

enum { MR_MAX_CONCURRENT = 256 };

typedef enum mr_request_state { MR_REQUEST_WAITING, MR_REQUEST_RUNNING, MR_REQUEST_ENDED } mr_request_state;

struct mr_request {
    /* Constant after submission. */
    mr_engine *engine;
    uint64_t arrival; /* order of submission */
    size_t n_prompt;
    size_t max_len; /* tokens of prompt and answer together */
    int32_t *eog;
    size_t n_eog;
    mr_sampler *sampler; /* used by the scheduler */
    uint64_t submit_ns;
    mr_pooling pooling;
    float *pooled; /* [n_embd], complete once the state is ENDED; NULL without pooling */

    /* Guarded by engine->lock. Only the scheduler appends to tokens, so it reads them without the lock. */
    mr_request_state state;
    mr_request *next; /* in the waiting list */
    bool abandoned;   /* its owner is gone */
    int32_t *tokens;  /* prompt and generated tokens; during a pass guesses lie behind them */
    size_t n_tokens, cap;
    size_t n_delivered; /* of the generated ones */
    mr_finish finish;
    mr_error error;
    mr_request_stats stats;
    uint64_t start_ns, first_token_ns;
    size_t n_in_pass; /* tokens in the running forward pass */
    pthread_cond_t changed;

    /* The scheduler's, while the state is RUNNING. */
    mr_sequence sequence;
    float *logits; /* [n_vocab]; NULL with pooling */
    float *hidden; /* rows of a pass, [MR_BATCH_MAX, n_embd], an encoder's of its whole text; or [1, n_embd]; with
                      pooling only */
    double *sums;  /* [n_embd] of the rows so far; mean pooling only */
    bool was_preempted;
    mr_draft *draft; /* NULL: nothing is guessed */

    /* Guarded by mask_lock, which is held during a call of the mask. */
    pthread_mutex_t mask_lock;
    mr_mask_fn mask;
    void *mask_ctx;
    uint64_t *mask_bits; /* the scheduler's */
};

/* What the model gives of a row of logits. Its device can do with less than all of them: the best alone, or candidates,
 * behind which the row follows where they do not tell. */
typedef enum mr_row_form { MR_ROW_LOGITS, MR_ROW_BEST, MR_ROW_CANDIDATES } mr_row_form;

/* One request's part of a forward pass. */
typedef struct mr_pass_entry {
    mr_request *request;
    uint32_t n_tokens; /* guesses included */
    uint32_t n_draft;  /* guesses, the last tokens: logits are wanted behind each of them and the one before */
    bool wants_logits;
    float *logits; /* [1 + n_draft, n_vocab] */
    mr_row_form form;
    int32_t best[MR_MAX_DRAFT + 1];
    mr_candidates *candidates; /* [1 + n_draft] */
    uint32_t first_row;        /* number of the first in the pass */
    bool needs_row;            /* candidates did not tell: the next token is chosen from logits */
    uint32_t n_hidden;         /* last rows that are wanted for pooling */
    bool masked;
    mr_status status;
    mr_error error;
    bool sampling;       /* there is a row to choose from: the next of logits */
    uint32_t n_accepted; /* guesses that the sampler chose, too */
    int32_t token;       /* chosen behind them */
} mr_pass_entry;

struct mr_engine {
    /* Constant. */
    mr_model *model;
    uint32_t n_vocab, n_embd, context_size, max_concurrent, max_queue, prefill_chunk;
    uint32_t n_draft;        /* most guesses for a request in a pass */
    double fixed_draft_cost; /* 0 = measured */
    bool use_cache;
    bool encoder;   /* the model's: a text goes through one pass as a whole */
    bool on_device; /* the model's head is on a device */
    mr_kv_layout layout;

    pthread_mutex_t lock;
    /* Guarded by lock. */
    pthread_cond_t wake; /* for the scheduler: work has come or it shall stop */
    bool stopping;
    size_t n_holders; /* the engine's owner and every request; the last frees this struct */
    mr_request *first_waiting, *last_waiting;
    size_t n_waiting, n_running;
    size_t n_admitting; /* taken from the waiting list and not yet among the running: 0 or 1 */
    uint64_t n_arrivals;
    mr_cancel *abort; /* breaks the running forward pass off; NULL when there was no memory for one */
    size_t n_in_pass; /* tokens in the running forward pass, 0 between passes */
    mr_engine_stats stats;

    /* The scheduler's. */
    pthread_t thread;
    mr_kv_memory memory;
    mr_request **running;      /* [max_concurrent], n_running of them, in order of arrival */
    mr_pass_entry *entries;    /* [max_concurrent] */
    mr_batch_run *runs;        /* [max_concurrent] */
    mr_candidates *candidates; /* [max_concurrent + MR_DRAFT_ROWS] of a pass; NULL without a device */
    uint64_t n_rows_fetched;   /* for which candidates did not tell */
    size_t n_refused_at;       /* available blocks when the first waiting request did not fit */
    uint64_t refused;          /* its arrival */
    double prefill_rate;       /* tokens per second, 0 = not measured yet */
    float *draft_logits;       /* [MR_DRAFT_ROWS, n_vocab] of requests with guesses; NULL when nothing is guessed */
    mr_draft_cost draft_cost;
};

/* request.c */
void mr_request_destroy(mr_request *request);               /* drops its hold on the engine; lock not held */
void mr_engine_release(mr_engine *engine);                  /* drops one hold on the struct */
bool mr_request_append(mr_request *request, int32_t token); /* lock held */
bool mr_request_reserve(mr_request *request, size_t n);     /* room for n more tokens; lock held */
bool mr_request_is_eog(const mr_request *request, int32_t token);
void mr_request_end(mr_request *request, mr_finish finish, const mr_error *error); /* lock held; wakes its owner */
void mr_waiting_push_front(mr_engine *engine, mr_request *request);                /* lock held */
mr_request *mr_waiting_pop(mr_engine *engine);                                     /* lock held; NULL when empty */

/* pooling.c, the scheduler's, for requests with pooling. */
mr_status mr_pooling_begin(mr_request *request, mr_error *err);       /* before the first token is computed */
uint32_t mr_pooling_rows(const mr_request *request, size_t n_tokens); /* hidden rows wanted of the next n_tokens */
void mr_pooling_add(mr_request *request, const mr_pass_entry *entry); /* takes the rows of a pass; not advanced yet */
bool mr_pooling_may_reuse(const mr_request *request);                 /* whether KV of other requests may be used */

/* scheduler.c: the thread; arg is the engine. */
void *mr_scheduler_main(void *arg);

/* scheduler.c, lock held, for a running request: gives its blocks back and ends it, or puts it back to the front of the
 * waiting list. Both take it out of engine->running. */
void mr_running_end(mr_request *request, mr_finish finish, const mr_error *error);
void mr_running_preempt(mr_request *request);

/* plan.c: chooses what the next pass computes for the running requests: fills engine->entries and returns their number.
 * When KV blocks run out, the requests that came last give way. */
size_t mr_plan_pass(mr_engine *engine);

#endif
