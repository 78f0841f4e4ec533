/* The largest logits of a row, and what the others weigh: enough for a sampler to choose as from the whole row in
 * nearly all cases, in 2 KiB instead of 4 bytes for every token. Plain C, read by nvcc, too. */
#ifndef MR_COMPUTE_CANDIDATES_H
#define MR_COMPUTE_CANDIDATES_H

#include <stddef.h>
#include <stdint.h>

enum { MR_CANDIDATES = 256 };

/* NaN and infinities are no logits here, and -0 is 0. Of equal logits those with smaller ids come first. */
typedef struct mr_candidates {
    uint64_t total;             /* the weights exp(logit - largest) of the whole row, each in whole quanta (below) */
    uint32_t n;                 /* as many as there are logits, MR_CANDIDATES at most */
    int32_t best;               /* id of the largest; 0 where there is none */
    int32_t ids[MR_CANDIDATES]; /* ascending */
    float logits[MR_CANDIDATES];
} mr_candidates;

/* A weight is mr_exact_exp(logit - largest), a float, rounded to a multiple of 2^(bits - 52), half to even: sums over a
 * row of n are below 2^bits, so that they are exact in a double, in any order. */
static inline int mr_weight_bits(size_t n) {
    int bits = 18;
    while (bits < 52 && ((size_t)1 << bits) < n) bits++;
    return bits;
}

/* (w + rounder) - rounder is w in whole quanta: the last place of the sum is one quantum. */
static inline double mr_weight_rounder(size_t n) {
    return 1.5 * (double)((uint64_t)1 << mr_weight_bits(n));
}

static inline double mr_weight_quantum(size_t n) {
    return 1.0 / (double)((uint64_t)1 << (52 - mr_weight_bits(n)));
}

/* The candidates of logits [n]. */
void mr_candidates_of(const float *logits, size_t n, mr_candidates *candidates);

#endif
