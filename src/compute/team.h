/* A team of threads that runs one function at a time on all of its members (SPMD), with cheap barriers inside.
 *
 * The members spin for a short while when they wait and then sleep, so an idle team costs nothing. */
#ifndef MR_COMPUTE_TEAM_H
#define MR_COMPUTE_TEAM_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct mr_team mr_team;

/* What a member knows of itself inside a run. */
typedef struct mr_worker {
    mr_team *team;
    int ith; /* 0 .. nth-1; member 0 is the thread that called mr_team_run */
    int nth;
    uint64_t n_loops; /* parallel loops this member has passed in the life of the team; private */
} mr_worker;

/* Physical cores that this process may use (affinity mask and CPU topology), at least 1. */
int mr_physical_cores(void);

/* A team of n_threads members (1 .. 256); 0 = mr_physical_cores(). */
mr_status mr_team_new(mr_team **team, int n_threads, mr_error *err);
void mr_team_free(mr_team *team);
int mr_team_size(const mr_team *team);

/* Calls body(worker, arg) on every member and returns when all have returned. One run at a time. */
void mr_team_run(mr_team *team, void (*body)(mr_worker *worker, void *arg), void *arg);

/* Waits until every member has come here; what each wrote before is visible to all after. */
void mr_barrier(mr_worker *worker);

/* A parallel loop over 0 .. n-1 in the order of claims: every member calls mr_loop_begin once with the same n, then
 * mr_loop_next until it returns false; [*begin, *end) is a claimed range of at most `grain` items. Claims are dynamic,
 * so a member that is held up does less. No barrier is implied at either end; between a loop's begin and the begin of
 * the 64th loop after it there must be a barrier. */
typedef struct mr_loop {
    mr_worker *worker;
    uint64_t slot;
    size_t n, grain;
    int share; /* the member whose share is being taken from, in loops by shares; -1 in others */
} mr_loop;
mr_loop mr_loop_begin(mr_worker *worker, size_t n, size_t grain);
int mr_loop_next(mr_loop *loop, size_t *begin, size_t *end);

/* A loop by shares, for items that lie in memory one behind the other (n < 2^32 - 1): every member takes its static
 * share from the front, one item after the other, and when that is done what the others have left, from the back. So
 * each member reads one long stream, which is faster than claims in turns by a third: the hardware prefetches behind
 * the end of a claim, where another member reads. Otherwise as mr_loop_begin, with mr_loop_next_of_share. */
mr_loop mr_loop_begin_shares(mr_worker *worker, size_t n);
int mr_loop_next_of_share(mr_loop *loop, size_t *item);

/* The static share of member ith of n items: [*begin, *end), multiples of `unit` except at the end. */
static inline void mr_share(const mr_worker *worker, size_t n, size_t unit, size_t *begin, size_t *end) {
    size_t n_units = (n + unit - 1) / unit;
    *begin = n_units * (size_t)worker->ith / (size_t)worker->nth * unit;
    *end = n_units * (size_t)(worker->ith + 1) / (size_t)worker->nth * unit;
    if (*begin > n) *begin = n;
    if (*end > n) *end = n;
}

#endif
