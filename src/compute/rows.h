/* Operations on one row that more than one forward pass needs; the same bits on every instruction set. */
#ifndef MR_COMPUTE_ROWS_H
#define MR_COMPUTE_ROWS_H

#include "compute/backend.h"

/* x[i] = max(x[i] - (mean + sparsity * standard deviation), 0): what all but the largest gates of a normally
 * distributed token are below is cut (Gemma 3n). */
void mr_cut_row(float *x, size_t n, float sparsity);

/* Gives y the root mean square of x. */
void mr_match_size(float *y, const float *x, size_t n);

/* Each stream of token t becomes itself plus a mix of all (backend.h: streams_predict). old: [n_stream, n] scratch. */
void mr_streams_predict_token(const mr_streams_args *args, size_t t, float *old);

/* All streams of token t move by what the layer changed of its prediction (streams_correct). change: [n] scratch. */
void mr_streams_correct_token(const mr_streams_args *args, size_t t, float *change);

/* The smallest id of the largest finite value; 0 when there is none. */
int32_t mr_best_of(const float *x, size_t n);

#endif
