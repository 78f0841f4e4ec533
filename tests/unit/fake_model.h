/* A model for tests of the engine in place of the real one: cheap, exact, and unforgiving. It stores in every KV slot a
 * hash of the token and all before it, checks the whole chain at each token, and derives the logits from it. So any
 * wrong block, stale share or lost position changes the text or stops the test. */
#ifndef MR_TESTS_FAKE_MODEL_H
#define MR_TESTS_FAKE_MODEL_H

#undef NDEBUG
#include "engine/engine.h"
#include "engine/random.h"

#include <assert.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_VOCAB = 100, POISON = 99 };

struct mr_model {
    mr_model_info info;
    mr_team *team;
    atomic_int fail_status; /* of passes with the token POISON */
    atomic_uint_fast64_t n_computed, n_passes, n_errors;
    /* When closed, a pass with more than one token of prefill stops inside until it is aborted or the gate opens. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool gate_closed, inside, hold_mask;
    atomic_bool only_answers; /* prompts are of one token, so that all that is computed are answers and guesses */
    atomic_bool fail_guesses; /* passes in which a run wants several logits */
    /* For the fairness test. */
    uint32_t last_decodes, most_prefill_with_decodes;
};

/* For all models of a test program. */
extern size_t fake_state_bytes; /* of the recurrent state, 0 = it has none. The state is the hash behind the logits,
                                   once in memory here and once on what stands for a device */
extern size_t fake_device_block_bytes, fake_device_free; /* blocks that are said to be there, and its free memory */
extern size_t fake_period;    /* not 0: seven of eight tokens like those so many places before best */
extern uint32_t fake_n_draft; /* put into the configuration of each engine */

mr_model *new_model(uint32_t n_ctx_train);
void free_model(mr_model *model); /* fails the test when the model saw an error */
void set_gate(mr_model *model, bool closed);
void wait_inside(mr_model *model); /* until a pass stands at the gate */
mr_engine *new_engine(mr_model *model, mr_engine_config config);

mr_sampling greedy(void);

/* A prompt of small tokens that begins as others of the same style do. */
size_t make_prompt(int32_t *prompt, size_t n, int style, uint64_t seed);

/* The text that the fake model must give, without any engine. Returns the number of tokens. mask may be NULL. */
size_t expected_masked(const int32_t *prompt, size_t n_prompt, const mr_sampling *sampling, size_t n_max, int32_t eog,
                       mr_mask_fn mask, void *mask_ctx, int32_t *text);
size_t expected_text(const int32_t *prompt, size_t n_prompt, const mr_sampling *sampling, size_t n_max, int32_t eog,
                     int32_t *text);

mr_request *submit(mr_engine *engine, const int32_t *prompt, size_t n_prompt, uint32_t max_tokens,
                   const mr_sampling *sampling);

/* Collects all tokens; returns their number, or -1 on an error. */
long collect(mr_request *request, int32_t *text, mr_finish *finish, mr_error *err);

/* Runs one request and compares; returns its stats. */
mr_request_stats run_and_check(mr_engine *engine, const int32_t *prompt, size_t n_prompt, uint32_t max_tokens,
                               const mr_sampling *sampling);

#endif
