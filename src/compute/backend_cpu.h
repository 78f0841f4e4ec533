/* The parts of the CPU's back end (backend.h). Each operation runs on the team at once. */
#ifndef MR_COMPUTE_BACKEND_CPU_H
#define MR_COMPUTE_BACKEND_CPU_H

#include "compute/backend.h"
#include "compute/ops.h"
#include "compute/team.h"

typedef struct mr_cpu_backend {
    mr_backend base;
    mr_team *team;
    const mr_ops *ops;
    uint8_t *scratch; /* grows */
    size_t n_scratch;
    mr_error error; /* the first since the last sync; status MR_OK: none */
} mr_cpu_backend;

/* `n_bytes` of memory, aligned to 64, that lasts until the next call; NULL after noting the error. */
void *mr_cpu_scratch(mr_cpu_backend *b, size_t n_bytes);

/* Calls body(ctx, begin, end, scratch) on shares of 0 .. n-1 in parallel; scratch is n_scratch bytes of the member's
 * own (NULL when 0). Few items are done on this thread. */
typedef void (*mr_cpu_body)(const void *ctx, size_t begin, size_t end, void *scratch);
void mr_cpu_for(mr_cpu_backend *b, size_t n, size_t n_scratch, mr_cpu_body body, const void *ctx);

/* The operations of backend_cpu_products.c, backend_cpu_rows.c and backend_cpu_tokens.c. */
void mr_cpu_set_products(mr_backend_ops *ops);
void mr_cpu_set_rows(mr_backend_ops *ops);
void mr_cpu_set_tokens(mr_backend_ops *ops);

#endif
