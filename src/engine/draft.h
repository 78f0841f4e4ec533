/* Guessing what comes next from the text itself (prompt lookup decoding, Saxena 2023): where the last tokens have stood
 * before, the tokens that followed there are proposed. A forward pass then computes them all at once, and what the
 * sampler chooses decides how many of them stand (scheduler.c): guesses change the speed and never the text.
 *
 * Each new token is compared with the guess for its place whether it was proposed or not, so a draft knows at no cost
 * how often guesses come true after a repetition of some length, and proposes where that pays. A text that repeats
 * nothing is not slowed down by attempts. One thread at a time. */
#ifndef MR_ENGINE_DRAFT_H
#define MR_ENGINE_DRAFT_H

#include <stddef.h>
#include <stdint.h>

typedef struct mr_draft mr_draft;

enum {
    MR_DRAFT_ROWS = 16, /* most tokens of all that generate in a pass with guesses, which are among them */
    MR_MAX_DRAFT = MR_DRAFT_ROWS - 1, /* most guesses for one request in a pass */
};

/* For a text with a prompt of n_prompt tokens. At most about 1 MiB, which grows with the text. NULL without memory. */
mr_draft *mr_draft_new(size_t n_prompt);
void mr_draft_free(mr_draft *draft); /* NULL is allowed */

/* Takes note of the text so far: tokens[0..n), of which the first are those of the last call. Constant time for each
 * new token. */
void mr_draft_see(mr_draft *draft, const int32_t *tokens, size_t n);

/* Guesses tokens[n..n+count), with tokens[0..n) as in the last mr_draft_see and room for `most` more; returns count.
 * row_cost: what one guess costs, as a part of what a token costs without guesses. */
size_t mr_draft_propose(const mr_draft *draft, int32_t *tokens, size_t n, size_t most, double row_cost);

/* What guesses cost here, measured on passes over one sequence. Zero-initialise. */
typedef struct mr_draft_cost {
    double plain; /* seconds of a pass without guesses; 0 = not measured yet */
    double row;   /* what one guess adds, as a part of that; 0 = not measured yet */
} mr_draft_cost;

void mr_draft_cost_note(mr_draft_cost *cost, size_t n_draft, double seconds);
double mr_draft_cost_row(const mr_draft_cost *cost); /* for mr_draft_propose */

#endif
