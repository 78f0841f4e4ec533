#include "compute/backend_cpu.h"

#include "base/memory.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static mr_cpu_backend *cpu(mr_backend *b) {
    return (mr_cpu_backend *)b;
}

static void close_backend(mr_backend *b) {
    free(cpu(b)->scratch);
    free(b);
}

/* ---- memory
 * ----------------------------------------------------------------------------------------------------------- */

static mr_status alloc(mr_backend *b, size_t n_bytes, const char *what, void **address, mr_error *err) {
    (void)b;
    *address = n_bytes > SIZE_MAX - 512 ? NULL : aligned_alloc(256, (n_bytes + 511) / 256 * 256);
    return *address != NULL ? MR_OK : mr_fail_nomem(err, n_bytes, what);
}

static void release(mr_backend *b, void *address) {
    (void)b;
    free(address);
}

static void memory(mr_backend *b, size_t *n_total, size_t *n_free) {
    (void)b;
    *n_total = *n_free = mr_available_memory();
}

static mr_status host_alloc(mr_backend *b, size_t n_bytes, void **address, mr_error *err) {
    return alloc(b, n_bytes, "a buffer for transfers", address, err);
}

static mr_status upload(mr_backend *b, void *to, const void *from, size_t n_bytes, mr_error *err) {
    (void)b;
    (void)err;
    memcpy(to, from, n_bytes);
    return MR_OK;
}

static void copy(mr_backend *b, void *to, const void *from, size_t n_bytes) {
    (void)b;
    memcpy(to, from, n_bytes);
}

static mr_status sync_backend(mr_backend *b, mr_error *err) {
    mr_error error = cpu(b)->error;
    cpu(b)->error = (mr_error){0};
    return error.status == MR_OK ? MR_OK : mr_fail(err, error.status, "%s", error.text);
}

static mr_step step_begin(mr_backend *b, uint64_t key) {
    (void)b;
    (void)key;
    return MR_STEP_RUN;
}

static mr_step step_end(mr_backend *b) {
    (void)b;
    return MR_STEP_DONE;
}

static void nothing(mr_backend *b) {
    (void)b;
}

/* ---- weights
 * ---------------------------------------------------------------------------------------------------------- */

static mr_status pack(mr_backend *b, mr_matrix **matrix, mr_dtype type, const void *rows, size_t n_out, size_t n_in,
                      mr_team *team, mr_error *err) {
    (void)b;
    return mr_matrix_pack(matrix, type, rows, n_out, n_in, team, err);
}

static bool pack_bytes(mr_backend *b, mr_dtype type, size_t n_out, size_t n_in, size_t *n_bytes) {
    (void)b;
    mr_acts_kind kind;
    const mr_dtype_info *info = mr_dtype_find((uint32_t)type);
    if (info == NULL || !mr_matrix_acts_kind(type, &kind) || !mr_dtype_row_bytes(info, n_in, n_bytes)) return false;
    *n_bytes *= n_out;
    return true;
}

static void free_table(void *owner, void *values) {
    (void)owner;
    free(values);
}

/* Rows as they are in files. */
static mr_status table_of(mr_backend *b, mr_matrix **table, mr_dtype type, const void *rows, size_t n_rows, size_t n_in,
                          mr_team *team, mr_error *err) {
    size_t n_bytes;
    (void)team;
    *table = NULL;
    const mr_dtype_info *info = mr_dtype_find((uint32_t)type);
    if (info == NULL || info->dequantize == NULL || !mr_dtype_row_bytes(info, n_in, &n_bytes) ||
        n_rows > SIZE_MAX / n_bytes)
        return mr_fail(err, MR_ERR_UNSUPPORTED, "a table of %zu rows of %zu values is not possible", n_rows, n_in);
    void *values;
    mr_status status = alloc(b, n_rows * n_bytes, "a table of embeddings", &values, err);
    if (status != MR_OK) return status;
    memcpy(values, rows, n_rows * n_bytes);
    status = mr_matrix_remote(table, type, n_rows, n_in, n_rows * n_bytes, values, free_table, NULL, err);
    if (status != MR_OK) free(values);
    return status;
}

static mr_status reserve(mr_backend *b, size_t n_rows, size_t n_in, mr_error *err) {
    (void)b, (void)n_rows, (void)n_in, (void)err;
    return MR_OK; /* memory grows as it is used */
}

static mr_status stack(mr_backend *b, mr_stack **out, mr_matrix *const *matrices, size_t n, mr_error *err) {
    (void)b;
    mr_stack *s = *out = calloc(1, sizeof *s);
    if (s != NULL) s->matrices = malloc(n * sizeof(mr_matrix *));
    if (s == NULL || s->matrices == NULL) {
        free(s);
        *out = NULL;
        return mr_fail_nomem(err, n * sizeof(mr_matrix *), "a stack of matrices");
    }
    memcpy(s->matrices, matrices, n * sizeof(mr_matrix *));
    s->n = n;
    return MR_OK;
}

static void stack_free(mr_backend *b, mr_stack *s) {
    (void)b;
    if (s != NULL) free(s->matrices);
    free(s);
}

/* ---- what the operations share
 * ---------------------------------------------------------------------------------------- */

void *mr_cpu_scratch(mr_cpu_backend *b, size_t n_bytes) {
    if (n_bytes <= b->n_scratch) return b->scratch;
    free(b->scratch);
    b->n_scratch = 0;
    b->scratch = aligned_alloc(64, (n_bytes + 127) / 64 * 64);
    if (b->scratch != NULL)
        b->n_scratch = n_bytes;
    else if (b->error.status == MR_OK)
        mr_fail_nomem(&b->error, n_bytes, "the inputs of a product");
    return b->scratch;
}

typedef struct for_job {
    mr_cpu_body body;
    const void *ctx;
    size_t n, n_scratch;
    uint8_t *scratch;
} for_job;

static void run_for(mr_worker *worker, void *arg) {
    const for_job *job = arg;
    uint8_t *mine = job->n_scratch > 0 ? job->scratch + (size_t)worker->ith * job->n_scratch : NULL;
    mr_loop loop = mr_loop_begin(worker, job->n, 1 + job->n / 64);
    for (size_t begin, end; mr_loop_next(&loop, &begin, &end);) job->body(job->ctx, begin, end, mine);
}

void mr_cpu_for(mr_cpu_backend *b, size_t n, size_t n_scratch, mr_cpu_body body, const void *ctx) {
    enum { FEW = 4 };
    for_job job = {.body = body, .ctx = ctx, .n = n, .n_scratch = (n_scratch + 63) / 64 * 64};
    if (job.n_scratch > 0) {
        job.scratch = mr_cpu_scratch(b, job.n_scratch * (size_t)mr_team_size(b->team));
        if (job.scratch == NULL) return;
    }
    if (n <= FEW)
        body(ctx, 0, n, job.scratch);
    else
        mr_team_run(b->team, run_for, &job);
}

static mr_backend_ops operations = {.close = close_backend,
                                    .alloc = alloc,
                                    .release = release,
                                    .memory = memory,
                                    .host_alloc = host_alloc,
                                    .host_release = release,
                                    .upload = upload,
                                    .send = copy,
                                    .fetch = copy,
                                    .copy = copy,
                                    .sync = sync_backend,
                                    .step_begin = step_begin,
                                    .step_end = step_end,
                                    .forget = nothing,
                                    .pack = pack,
                                    .reserve = reserve,
                                    .table = table_of,
                                    .pack_bytes = pack_bytes,
                                    .stack = stack,
                                    .stack_free = stack_free};

static void fill_table(void) {
    mr_cpu_set_products(&operations);
    mr_cpu_set_rows(&operations);
    mr_cpu_set_tokens(&operations);
}

mr_status mr_backend_cpu_open(mr_backend **backend, mr_team *team, mr_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    *backend = NULL;
    pthread_once(&once, fill_table);
    mr_cpu_backend *b = calloc(1, sizeof *b);
    if (b == NULL) return mr_fail_nomem(err, sizeof *b, "a back end");
    b->base.ops = &operations;
    b->team = team;
    b->ops = mr_ops_active();
    snprintf(b->base.name, sizeof b->base.name, "cpu");
    *backend = &b->base;
    return MR_OK;
}

void mr_backend_close(mr_backend *backend) {
    if (backend != NULL) backend->ops->close(backend);
}
