#include "compute/matrix.h"

#include "base/min.h"
#include "compute/cpu.h"
#include "compute/matrix_impl.h"

#include <stdlib.h>

struct mr_matrix {
    mr_dtype type;
    mr_layout layout;
    size_t n_out, n_in;
    size_t n_panels, panel_bytes;
    size_t step;             /* from one panel to the next */
    uint8_t *panels, *pages; /* the first panel, and the memory that it is in */
    mr_matrix *partner;      /* the other one in this memory, which frees it when it lives longer; or NULL */
    /* Of a matrix on a device; panels is then NULL. */
    void *values, *owner;
    void (*release)(void *owner, void *values);
    size_t remote_bytes;
};

const mr_kernels *mr_kernels_active(void) {
    switch (mr_isa_active()) {
#if defined(__x86_64__)
    case MR_ISA_AVX512:
        return &mr_kernels_avx512;
    case MR_ISA_AVX2:
        return &mr_kernels_avx2;
#elif defined(__aarch64__)
    case MR_ISA_NEON:
        return &mr_kernels_neon;
#endif
    default:
        return &mr_kernels_plain;
    }
}

bool mr_matrix_acts_kind(mr_dtype type, mr_acts_kind *kind) {
    mr_layout layout;
    size_t block;
    return mr_layout_of(type, &layout, kind, &block);
}

size_t mr_matrix_n_out(const mr_matrix *matrix) {
    return matrix->n_out;
}
size_t mr_matrix_n_in(const mr_matrix *matrix) {
    return matrix->n_in;
}
mr_dtype mr_matrix_dtype(const mr_matrix *matrix) {
    return matrix->type;
}
size_t mr_matrix_bytes(const mr_matrix *matrix) {
    return matrix->values != NULL ? matrix->remote_bytes : matrix->n_panels * matrix->panel_bytes;
}
void *mr_matrix_values(const mr_matrix *matrix) {
    return matrix->values;
}

mr_status mr_matrix_remote(mr_matrix **out, mr_dtype type, size_t n_out, size_t n_in, size_t n_bytes, void *values,
                           void (*release)(void *owner, void *values), void *owner, mr_error *err) {
    mr_matrix *matrix = *out = calloc(1, sizeof *matrix);
    if (matrix == NULL) return mr_fail_nomem(err, sizeof *matrix, "a matrix");
    *matrix = (mr_matrix){.type = type,
                          .n_out = n_out,
                          .n_in = n_in,
                          .values = values,
                          .owner = owner,
                          .release = release,
                          .remote_bytes = n_bytes};
    return MR_OK;
}

void mr_matrix_free(mr_matrix *matrix) {
    if (matrix == NULL) return;
    if (matrix->release != NULL) matrix->release(matrix->owner, matrix->values);
    if (matrix->partner != NULL)
        matrix->partner->partner = NULL;
    else
        mr_pages_free(matrix->pages);
    free(matrix);
}

/* -- Packing. */

typedef struct pack_job {
    mr_matrix *matrix;
    const uint8_t *rows;
    size_t row_bytes;
} pack_job;

static void pack_panel(const pack_job *job, size_t p) {
    mr_matrix *m = job->matrix;
    size_t row = p * MR_PANEL_ROWS, n_rows = m->n_out - row < MR_PANEL_ROWS ? m->n_out - row : MR_PANEL_ROWS;
    mr_pack_panel(m->type, m->panels + p * m->step, job->rows + row * job->row_bytes, n_rows, job->row_bytes, m->n_in);
}

static void pack_member(mr_worker *worker, void *arg) {
    pack_job *job = arg;
    const mr_matrix *m = job->matrix;
    size_t n_unit = 1 + (256u << 10) / m->panel_bytes; /* panels of a unit of work */
    mr_loop loop = mr_loop_begin_shares(worker, (m->n_panels - 1) / n_unit + 1);
    for (size_t unit; mr_loop_next_of_share(&loop, &unit);) {
        size_t begin = unit * n_unit, end = m->n_panels - begin < n_unit ? m->n_panels : begin + n_unit;
        size_t first = begin * MR_PANEL_ROWS, last = end * MR_PANEL_ROWS < m->n_out ? end * MR_PANEL_ROWS : m->n_out;
        mr_pages_will_read(job->rows + first * job->row_bytes, (last - first) * job->row_bytes);
        for (size_t p = begin; p < end; p++) pack_panel(job, p);
    }
}

/* What a matrix of the type and shape takes. */
static mr_status shape_matrix(mr_matrix *m, mr_dtype type, size_t n_out, size_t n_in, mr_error *err) {
    const mr_dtype_info *info = mr_dtype_find((uint32_t)type);
    mr_acts_kind kind;
    size_t block, row_bytes;
    *m = (mr_matrix){.type = type, .n_out = n_out, .n_in = n_in};
    if (info == NULL || !mr_layout_of(type, &m->layout, &kind, &block)) {
        return mr_fail(err, MR_ERR_UNSUPPORTED, "there is no matrix kernel for tensors of type %s",
                       info == NULL ? "(unknown)" : info->name);
    }
    if (n_out == 0 || n_in == 0 || n_in % block != 0 || !mr_dtype_row_bytes(info, n_in, &row_bytes)) {
        return mr_fail(err, MR_ERR_UNSUPPORTED,
                       "a matrix of %zu x %zu can't have type %s, whose blocks hold %zu values", n_out, n_in,
                       info->name, block);
    }
    m->n_panels = (n_out - 1) / MR_PANEL_ROWS + 1;
    m->panel_bytes = m->step = mr_panel_bytes(m->layout, n_in);
    if (n_in > SIZE_MAX / 256 || m->panel_bytes > SIZE_MAX / 4 / m->n_panels)
        return mr_fail(err, MR_ERR_NOMEM, "a matrix of %zu x %zu is larger than the address space", n_out, n_in);
    return MR_OK;
}

mr_status mr_matrix_reserve(mr_matrix **out, mr_matrix **second, mr_dtype type, size_t n_out, size_t n_in,
                            mr_error *err) {
    mr_matrix shape;
    *out = NULL;
    if (second != NULL) *second = NULL;
    mr_status status = shape_matrix(&shape, type, n_out, n_in, err);
    if (status != MR_OK) return status;
    if (second != NULL) shape.step = 2 * shape.panel_bytes;
    size_t n_bytes = shape.n_panels * shape.step;
    mr_matrix *m = malloc(sizeof *m), *other = second != NULL ? malloc(sizeof *other) : NULL;
    shape.panels = shape.pages = m == NULL || (second != NULL && other == NULL) ? NULL : mr_pages_alloc(n_bytes);
    if (shape.pages == NULL) {
        free(m);
        free(other);
        return mr_fail_nomem(err, n_bytes, "a packed weight matrix");
    }
    *out = m;
    *m = shape;
    if (second == NULL) return MR_OK;
    *second = other;
    *other = shape;
    other->panels += shape.panel_bytes;
    other->partner = m;
    m->partner = other;
    return MR_OK;
}

void mr_matrix_fill(mr_matrix *matrix, const void *rows, mr_team *team) {
    pack_job job = {.matrix = matrix, .rows = rows};
    mr_dtype_row_bytes(mr_dtype_find((uint32_t)matrix->type), matrix->n_in, &job.row_bytes);
    if (team != NULL) {
        mr_team_run(team, pack_member, &job);
    } else {
        for (size_t p = 0; p < matrix->n_panels; p++) pack_panel(&job, p);
    }
}

mr_status mr_matrix_pack(mr_matrix **matrix, mr_dtype type, const void *rows, size_t n_out, size_t n_in, mr_team *team,
                         mr_error *err) {
    mr_status status = mr_matrix_reserve(matrix, NULL, type, n_out, n_in, err);
    if (status == MR_OK) mr_matrix_fill(*matrix, rows, team);
    return status;
}

/* -- Products. */

enum {
    UNIT_BYTES = 256 << 10,       /* weights of a unit of work, when few tokens make it bound by memory */
    ACTS_BLOCK_BYTES = 384 << 10, /* activations that stay in the second-level cache while panels stream by */
};

/* How the work on one item is cut: blocks of tokens, and groups of panels inside. */
typedef struct cut {
    size_t n_tokens;
    size_t block; /* tokens */
    size_t group; /* panels */
    size_t n_groups, n_units;
} cut;

static cut cut_work(const mr_matrix *w, const mr_acts *x, size_t n_tokens, int n_threads) {
    cut c = {.n_tokens = n_tokens, .block = MR_TILE_TOKENS};
    if (n_tokens == 0) return c;
    if (n_tokens > MR_TILE_TOKENS) {
        size_t most = ACTS_BLOCK_BYTES / (MR_TILE_TOKENS * x->stride);
        most = most < 1 ? 1 : most > 16 ? 16 : most;
        size_t n_tiles = (n_tokens - 1) / MR_TILE_TOKENS + 1, n_blocks = (n_tiles - 1) / most + 1;
        c.block = ((n_tiles - 1) / n_blocks + 1) * MR_TILE_TOKENS;
        c.group = 2;
    } else {
        c.group = UNIT_BYTES / w->panel_bytes;
        size_t even = w->n_panels / (8 * (size_t)n_threads);
        if (c.group > even) c.group = even;
        if (c.group > MR_TILE_PANELS) c.group = c.group / MR_TILE_PANELS * MR_TILE_PANELS;
        if (c.group < 1) c.group = 1;
    }
    c.n_groups = (w->n_panels - 1) / c.group + 1;
    c.n_units = c.n_groups * ((n_tokens - 1) / c.block + 1);
    return c;
}

/* A product of the two kinds: gate alone is a plain one. */
typedef struct job {
    const mr_matrix *w, *up;
    const mr_acts *x;
    const int32_t *rows;
    float *y;
    size_t ldy;
    const float *bias;
    bool accumulate;
    mr_glu act;
} job;

static void run_tile(const mr_kernels *kernels, const job *job, size_t panel, size_t n_panels, size_t token,
                     size_t n_tokens) {
    _Alignas(64) float sums[2][MR_TILE_PANELS * MR_TILE_TOKENS * 16];
    const uint8_t *x[MR_TILE_TOKENS];
    for (size_t t = 0; t < n_tokens; t++) {
        size_t row = job->rows == NULL ? token + t : (size_t)job->rows[token + t];
        x[t] = job->x->data + row * job->x->stride;
    }
    const mr_matrix *w = job->w;
    mr_tile tile = {w->panels + panel * w->step, w->step, n_panels, w->n_in, x, n_tokens, sums[0]};
    kernels->tile[w->layout](&tile);
    if (job->up != NULL) {
        tile.panels = job->up->panels + panel * job->up->step;
        tile.step = job->up->step;
        tile.out = sums[1];
        kernels->tile[job->up->layout](&tile);
    }
    for (size_t p = 0; p < n_panels; p++) {
        size_t row = (panel + p) * MR_PANEL_ROWS, n_rows = w->n_out - row < 16 ? w->n_out - row : 16;
        float *y = job->y + token * job->ldy + row;
        const float *sum = sums[0] + p * n_tokens * 16, *up = sums[1] + p * n_tokens * 16;
        if (job->up != NULL) {
            kernels->store_glu(sum, up, n_tokens, n_rows, job->act, y, job->ldy);
        } else {
            kernels->store(sum, n_tokens, n_rows, job->bias == NULL ? NULL : job->bias + row, job->accumulate, y,
                           job->ldy);
        }
    }
}

static void run_unit(const mr_kernels *kernels, const job *job, const cut *c, size_t unit) {
    size_t first_token = unit / c->n_groups * c->block, first_panel = unit % c->n_groups * c->group;
    size_t last_token = mr_min_size(first_token + c->block, c->n_tokens);
    size_t last_panel = mr_min_size(first_panel + c->group, job->w->n_panels);
    /* Many tokens: one panel at a time stays in the first-level cache. Two matrices in one memory: a panel of each, in
     * the order of the memory. */
    size_t n_panels = c->n_tokens > MR_TILE_TOKENS / 2 || job->w->partner != NULL ? 1 : MR_TILE_PANELS;
    for (size_t panel = first_panel; panel < last_panel; panel += n_panels) {
        for (size_t token = first_token; token < last_token; token += MR_TILE_TOKENS) {
            run_tile(kernels, job, panel, mr_min_size(n_panels, last_panel - panel), token,
                     mr_min_size(MR_TILE_TOKENS, last_token - token));
        }
    }
}

typedef job (*job_at_fn)(const void *items, size_t i, size_t *n_tokens);

/* Several products as one row of units, and the place in it. */
typedef struct job_row {
    job_at_fn job_at;
    const void *items;
    size_t n_tokens;
    int n_threads;
    size_t i, first; /* the item at hand and its first unit */
    job job;
    cut cut;
} job_row;

static void enter_job(job_row *row, size_t i, size_t first) {
    size_t n = row->n_tokens;
    row->i = i;
    row->first = first;
    row->job = row->job_at(row->items, i, &n);
    row->cut = cut_work(row->job.w, row->job.x, n, row->n_threads);
}

static void run_unit_of_row(job_row *row, size_t unit) {
    if (unit < row->first) enter_job(row, 0, 0);
    while (unit - row->first >= row->cut.n_units) enter_job(row, row->i + 1, row->first + row->cut.n_units);
    run_unit(mr_kernels_active(), &row->job, &row->cut, unit - row->first);
}

/* Runs n jobs, which job_at gives, as one loop over their units. With few tokens memory is what binds, so each member
 * reads a stream of its own; with many, all read the same weights at about the same time. */
static void run_jobs(mr_worker *worker, job_at_fn job_at, const void *items, size_t n_items, size_t n_tokens) {
    job_row row = {.job_at = job_at, .items = items, .n_tokens = n_tokens, .n_threads = worker->nth};
    size_t n_units = 0;
    for (size_t i = 0; i < n_items; i++) {
        enter_job(&row, i, n_units);
        n_units += row.cut.n_units;
    }
    enter_job(&row, 0, 0);
    size_t unit, end;
    if (n_tokens <= MR_TILE_TOKENS) {
        mr_loop loop = mr_loop_begin_shares(worker, n_units);
        while (mr_loop_next_of_share(&loop, &unit)) run_unit_of_row(&row, unit);
    } else {
        mr_loop loop = mr_loop_begin(worker, n_units, 1);
        while (mr_loop_next(&loop, &unit, &end)) run_unit_of_row(&row, unit);
    }
}

static job matmul_job(const void *items, size_t i, size_t *n_tokens) {
    const mr_matmul_item *item = (const mr_matmul_item *)items + i;
    if (item->rows != NULL) *n_tokens = item->n_rows;
    return (job){.w = item->w,
                 .x = item->x,
                 .rows = item->rows,
                 .y = item->y,
                 .ldy = item->ldy,
                 .bias = item->bias,
                 .accumulate = item->accumulate};
}

static job glu_job(const void *items, size_t i, size_t *n_tokens) {
    const mr_glu_item *item = (const mr_glu_item *)items + i;
    if (item->rows != NULL) *n_tokens = item->n_rows;
    return (job){.w = item->gate,
                 .up = item->up,
                 .x = item->x,
                 .rows = item->rows,
                 .y = item->y,
                 .ldy = item->ldy,
                 .act = item->act};
}

void mr_matmul(mr_worker *worker, const mr_matmul_item *items, size_t n_items, size_t n_tokens) {
    if (n_items != 0) run_jobs(worker, matmul_job, items, n_items, n_tokens);
}

void mr_matmul_glu_items(mr_worker *worker, const mr_glu_item *items, size_t n_items, size_t n_tokens) {
    if (n_items != 0) run_jobs(worker, glu_job, items, n_items, n_tokens);
}

void mr_matmul_glu(mr_worker *worker, const mr_matrix *gate, const mr_matrix *up, mr_glu act, const mr_acts *x,
                   float *y, size_t ldy, size_t n_tokens) {
    mr_glu_item item = {.gate = gate, .up = up, .act = act, .x = x, .y = y, .ldy = ldy};
    mr_matmul_glu_items(worker, &item, 1, n_tokens);
}
