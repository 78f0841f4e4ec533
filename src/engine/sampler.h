/* Choosing the next token from logits. Deterministic: the same logits, parameters and history give the same token on any
 * machine. */
#ifndef MR_ENGINE_SAMPLER_H
#define MR_ENGINE_SAMPLER_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_sampling {
    float temperature;    /* 0 = greedy (the smallest id among equals) */
    int32_t top_k;        /* 0 = all */
    float top_p;          /* 1 = all */
    float min_p;          /* 0 = all */
    float repeat_penalty; /* 1 = none (Keskar et al., arXiv:1909.05858, as llama.cpp applies it) */
    int32_t repeat_last_n; /* tokens looked back on: -1 = all, 0 = none */
    uint64_t seed;
} mr_sampling;

/* temperature 1, top_k 0, top_p 1, min_p 0, repeat_penalty 1, repeat_last_n 64, seed 0. */
mr_sampling mr_sampling_default(void);

/* MR_ERR_INVALID with a sentence that names the field when a value is NaN, infinite, negative or out of range. */
mr_status mr_sampling_check(const mr_sampling *sampling, mr_error *err);

/* The state of one sequence's sampler: a counter-based generator, so that token number i depends on (seed, i) alone. */
typedef struct mr_sampler mr_sampler;

mr_status mr_sampler_new(mr_sampler **sampler, const mr_sampling *sampling, size_t n_vocab, mr_error *err);
void mr_sampler_free(mr_sampler *sampler);

/* Chooses from logits [n_vocab] (changed in place). history[0..n_history) are all tokens so far, prompt included. mask, when not
 * NULL, is a bitset of n_vocab bits: ids whose bit is 0 are impossible. At least one id must be possible. Order as in
 * llama.cpp's default chain: mask, repeat penalty, top_k, top_p, min_p, temperature, draw. */
int32_t mr_sampler_next(mr_sampler *sampler, float *logits, const int32_t *history, size_t n_history,
                        const uint64_t *mask);

#endif
