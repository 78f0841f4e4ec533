/* Choosing the next token from logits. Deterministic: the same logits, parameters and history give the same token on
 * any machine. */
#ifndef MR_ENGINE_SAMPLER_H
#define MR_ENGINE_SAMPLER_H

#include "base/error.h"
#include "compute/candidates.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_sampling {
    float temperature;     /* 0 = greedy (the smallest id among equals) */
    int32_t top_k;         /* 0 = all */
    float top_p;           /* 1 = all */
    float min_p;           /* 0 = all */
    float repeat_penalty;  /* 1 = none (Keskar et al., arXiv:1909.05858, as llama.cpp applies it) */
    int32_t repeat_last_n; /* tokens looked back on: -1 = all, 0 = none */
    uint64_t seed;
} mr_sampling;

/* temperature 1, top_k 0, top_p 1, min_p 0, repeat_penalty 1, repeat_last_n 64, seed 0. */
mr_sampling mr_sampling_default(void);

/* MR_ERR_INVALID with a sentence that names the field when a value is NaN, infinite, negative or out of range. */
mr_status mr_sampling_check(const mr_sampling *sampling, mr_error *err);

/* The state of one sequence's sampler: a counter-based generator (random.h), so that the draw of token number i depends
 * on (seed, i) alone. May be used from one thread at a time. */
typedef struct mr_sampler mr_sampler;

/* n_vocab is 1 .. 2^24. Checks the parameters as mr_sampling_check. Holds about 8 bytes per vocabulary entry, and next
 * to nothing when greedy. */
mr_status mr_sampler_new(mr_sampler **sampler, const mr_sampling *sampling, size_t n_vocab, mr_error *err);
void mr_sampler_free(mr_sampler *sampler);

/* Whether it takes the largest logit as it is: greedy, without a penalty. */
bool mr_sampler_is_greedy(const mr_sampler *sampler);

/* Chooses from logits [n_vocab] (changed in place). history[0..n_history) are all tokens so far, prompt included; ids
 * out of range are ignored. mask, when not NULL, is a bitset of n_vocab bits: ids whose bit is 0 are impossible, as are
 * NaN and infinite logits. When nothing is possible the first id of the mask is taken, or 0.
 *
 * Order as in llama.cpp's default chain: mask, repeat penalty, top_k, top_p, min_p, temperature, draw. So top_p and
 * min_p see the probabilities at temperature 1. Among equal logits the smaller id comes first. The draw goes by
 * ascending id. */
int32_t mr_sampler_next(mr_sampler *sampler, float *logits, const int32_t *history, size_t n_history,
                        const uint64_t *mask);

/* The same from the candidates of the row of logits as they were before mask and penalty: *token is what
 * mr_sampler_next would choose. False, and nothing has happened, where the candidates cannot tell; then the row is
 * needed. That depends on what the settings keep: few enough of the largest (top_k, or top_p and min_p of a
 * distribution that is not flat), on how many of them mask and penalty lower, and where everything is kept, on whether
 * the draw falls clear of where the others may lie. */
bool mr_sampler_next_of(mr_sampler *sampler, const mr_candidates *from, const int32_t *history, size_t n_history,
                        const uint64_t *mask, int32_t *token);

/* Whether the settings let candidates tell, some time at least. */
bool mr_sampler_takes_candidates(const mr_sampler *sampler);

#endif
