#include "model/tensor_rows.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { ROWS_AT_ONCE = 32 }; /* neighbours in formats that store columns */

typedef struct making {
    const mr_gguf_tensor *tensor;
    size_t first, n, row_bytes;
    uint8_t *out;
    atomic_bool failed;
} making;

static void make_range(making *m, size_t begin, size_t end) {
    if (!m->tensor->read(m->tensor->read_ctx, m->first + begin, end - begin, m->out + begin * m->row_bytes))
        atomic_store(&m->failed, true);
}

static void make_rows(mr_worker *worker, void *arg) {
    making *m = arg;
    mr_loop loop = mr_loop_begin(worker, m->n, ROWS_AT_ONCE);
    for (size_t i, end; mr_loop_next(&loop, &i, &end);) make_range(m, i, end);
}

mr_status mr_tensor_rows_get(const mr_gguf_tensor *tensor, size_t first, size_t n, size_t row_bytes, mr_team *team,
                             mr_tensor_rows *rows, mr_error *err) {
    *rows = (mr_tensor_rows){0};
    if (tensor->read == NULL) {
        rows->rows = tensor->data + first * row_bytes;
        return MR_OK;
    }
    making m = {.tensor = tensor, .first = first, .n = n, .row_bytes = row_bytes, .out = malloc(n * row_bytes + 1)};
    if (m.out == NULL) return mr_fail_nomem(err, n * row_bytes, tensor->name);
    if (team != NULL) {
        mr_team_run(team, make_rows, &m);
    } else {
        for (size_t i = 0; i < n; i += ROWS_AT_ONCE) make_range(&m, i, n - i < ROWS_AT_ONCE ? n : i + ROWS_AT_ONCE);
    }
    if (atomic_load(&m.failed)) {
        free(m.out);
        return mr_fail(err, MR_ERR_INVALID, "tensor %s has values that are not finite", tensor->name);
    }
    rows->rows = rows->made = m.out;
    return MR_OK;
}

void mr_tensor_rows_free(mr_tensor_rows *rows) {
    free(rows->made);
    *rows = (mr_tensor_rows){0};
}
