/* Recurrent layers over one run (backend.h: mr_conv_args, mr_scan_args). In order through the tokens of a run, so what
 * a token gets depends on the state and the tokens before it, never on chunks or company. */
#ifndef MR_COMPUTE_RECURRENT_H
#define MR_COMPUTE_RECURRENT_H

#include "compute/backend.h"

/* A run of consecutive tokens of one sequence. */
typedef struct mr_state_run {
    uint32_t first_token, n_tokens;
    uint32_t n_mid;     /* as mr_batch_run's; 0 = none */
    const float *state; /* recurrent states: before the run, NULL = zeros; behind it; behind n_mid tokens */
    float *state_out, *state_mid;
} mr_state_run;

enum { MR_CONV_PART = 256, MR_MAX_CONV_WIDTH = 16 };

/* Channels first .. first+n-1 of a run's convolution; n <= MR_CONV_PART. */
void mr_convolve_run(const mr_conv_args *args, const mr_state_run *run, size_t first, size_t n);

/* One head of a run's recurrence. scratch: [2 * dim_k + dim_v]. */
void mr_scan_head(const mr_scan_args *args, const mr_state_run *run, size_t head, float *scratch);

/* Mamba-2's gate, and the norm of each group behind it, for token t: what is left when all heads are done. */
void mr_scan_finish(const mr_scan_args *args, size_t t);

#endif
