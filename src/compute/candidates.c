#include "compute/candidates.h"
#include "compute/exact_exp.h"

#include <math.h>
#include <stdlib.h>

typedef struct entry {
    float logit;
    int32_t id;
} entry;

/* Ids come in ascending order, so one of an equal logit is behind those that are there. */
static size_t insert(entry *sorted, size_t n, entry e) {
    if (n == MR_CANDIDATES && !(e.logit > sorted[n - 1].logit)) return n;
    size_t at = n < MR_CANDIDATES ? n++ : n - 1;
    for (; at > 0 && sorted[at - 1].logit < e.logit; at--) sorted[at] = sorted[at - 1];
    sorted[at] = e;
    return n;
}

static int compare_ids(const void *a, const void *b) {
    const entry *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Adding 0 makes -0 into 0. */
static uint64_t total_weight(const float *logits, size_t n, float largest) {
    double rounder = mr_weight_rounder(n), sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (isfinite(logits[i])) sum += ((double)mr_exact_exp(logits[i] + 0.0f - largest) + rounder) - rounder;
    }
    return (uint64_t)(sum / mr_weight_quantum(n));
}

void mr_candidates_of(const float *logits, size_t n, mr_candidates *candidates) {
    entry sorted[MR_CANDIDATES];
    size_t n_sorted = 0;
    for (size_t i = 0; i < n; i++) {
        if (isfinite(logits[i])) n_sorted = insert(sorted, n_sorted, (entry){logits[i] + 0.0f, (int32_t)i});
    }
    *candidates = (mr_candidates){.n = (uint32_t)n_sorted};
    if (n_sorted == 0) return;
    candidates->best = sorted[0].id;
    candidates->total = total_weight(logits, n, sorted[0].logit);
    qsort(sorted, n_sorted, sizeof *sorted, compare_ids);
    for (size_t i = 0; i < n_sorted; i++) {
        candidates->ids[i] = sorted[i].id;
        candidates->logits[i] = sorted[i].logit;
    }
}
