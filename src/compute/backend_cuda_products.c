/* The CUDA back end: weights, and products with them. Inputs are prepared in the forms that the matrices want; a norm
 * or a gated activation just before is done by the same kernel. */
#include "compute/backend_cuda.h"

#include <stdlib.h>
#include <string.h>

/* ---- weights
 * ---------------------------------------------------------------------------------------------------------- */

static void release_matrix(void *owner, void *values) {
    mr_backend *b = owner;
    mr_cuda_matrix *m = values;
    if (!m->borrowed) b->ops->release(b, mr_cuda_pointer(m->address));
    free(m);
}

static bool pack_bytes(mr_backend *b, mr_dtype type, size_t n_out, size_t n_in, size_t *n_bytes) {
    mr_cuda_layout layout;
    int acts;
    size_t block;
    (void)b;
    if (!mr_cuda_layout_of((uint32_t)type, &layout, &acts, &block) || n_in % block != 0) return false;
    *n_bytes = mr_cuda_packed_bytes(layout, n_out, n_in);
    return true;
}

/* A part of a matrix on its way into tiles. */
typedef struct part {
    mr_dtype type;
    uint8_t *tiles;
    const uint8_t *rows;
    size_t row_bytes, n_rows, n_in, tile_bytes;
} part;

static void pack_tiles(const part *p, size_t begin, size_t end) {
    size_t first = begin * MR_CUDA_TILE_ROWS, last = end * MR_CUDA_TILE_ROWS;
    if (last > p->n_rows) last = p->n_rows;
    mr_cuda_pack((uint32_t)p->type, p->tiles + begin * p->tile_bytes, p->rows + first * p->row_bytes, p->row_bytes,
                 last - first, p->n_in);
}

static void pack_member(mr_worker *worker, void *arg) {
    const part *p = arg;
    mr_loop loop = mr_loop_begin(worker, mr_cuda_n_tiles(p->n_rows), 8);
    for (size_t begin, end; mr_loop_next(&loop, &begin, &end);) pack_tiles(p, begin, end);
}

/* Packs and uploads a piece at a time, so that little memory is held twice. */
static mr_status pack_into(mr_backend *b, const mr_cuda_matrix *m, part p, size_t n_out, mr_team *team, mr_error *err) {
    const size_t PIECE = (size_t)32 << 20;
    size_t tiles_each = PIECE / p.tile_bytes > 0 ? PIECE / p.tile_bytes : 1, n_tiles = mr_cuda_n_tiles(n_out);
    if (tiles_each > n_tiles) tiles_each = n_tiles;
    const uint8_t *rows = p.rows;
    p.tiles = malloc(tiles_each * p.tile_bytes);
    if (p.tiles == NULL) return mr_fail_nomem(err, tiles_each * p.tile_bytes, "a part of a matrix");
    mr_status status = MR_OK;
    for (size_t tile = 0; tile < n_tiles && status == MR_OK; tile += tiles_each) {
        size_t first = tile * MR_CUDA_TILE_ROWS, n = n_tiles - tile < tiles_each ? n_tiles - tile : tiles_each;
        p.rows = rows + first * p.row_bytes;
        p.n_rows = n_out - first < n * MR_CUDA_TILE_ROWS ? n_out - first : n * MR_CUDA_TILE_ROWS;
        if (team != NULL)
            mr_team_run(team, pack_member, &p);
        else
            pack_tiles(&p, 0, n);
        status = b->ops->upload(b, (uint8_t *)mr_cuda_pointer(m->address) + tile * p.tile_bytes, p.tiles,
                                n * p.tile_bytes, err);
    }
    free(p.tiles);
    return status;
}

static mr_status pack(mr_backend *b, mr_matrix **matrix, mr_dtype type, const void *rows, size_t n_out, size_t n_in,
                      mr_team *team, mr_error *err) {
    const mr_dtype_info *info = mr_dtype_find((uint32_t)type);
    mr_cuda_layout layout;
    int acts;
    size_t block, row_bytes;
    *matrix = NULL;
    if (info == NULL || !mr_cuda_layout_of((uint32_t)type, &layout, &acts, &block) || n_out == 0 || n_in == 0 ||
        n_in % block != 0 || !mr_dtype_row_bytes(info, n_in, &row_bytes) || n_in > UINT32_MAX / 8 ||
        n_out > UINT32_MAX / 8 || n_out > SIZE_MAX / 64 / n_in) {
        return mr_fail(err, MR_ERR_UNSUPPORTED, "a matrix of %zu x %zu of type %s has no CUDA kernel", n_out, n_in,
                       info != NULL ? info->name : "(unknown)");
    }
    mr_cuda_matrix *m = calloc(1, sizeof *m);
    if (m == NULL) return mr_fail_nomem(err, sizeof *m, "a matrix");
    *m = (mr_cuda_matrix){.n_bytes = mr_cuda_packed_bytes(layout, n_out, n_in), .layout = layout, .acts = acts};
    void *address;
    mr_status status = b->ops->alloc(b, m->n_bytes, "a weight matrix", &address, err);
    m->address = (mr_cu_address)(uintptr_t)address;
    const part p = {.type = type,
                    .rows = rows,
                    .row_bytes = row_bytes,
                    .n_in = n_in,
                    .tile_bytes = mr_cuda_tile_bytes(layout, n_in)};
    if (status == MR_OK) status = pack_into(b, m, p, n_out, team, err);
    if (status == MR_OK) status = mr_matrix_remote(matrix, type, n_out, n_in, m->n_bytes, m, release_matrix, b, err);
    if (status != MR_OK) release_matrix(b, m);
    return status;
}

static void stack_free(mr_backend *b, mr_stack *s) {
    if (s == NULL) return;
    mr_cuda_stack *values = s->table;
    if (values != NULL) {
        b->ops->release(b, mr_cuda_pointer(values->address));
        b->ops->release(b, mr_cuda_pointer(values->numbers));
    }
    free(values);
    free(s->matrices);
    free(s);
}

static mr_status make_numbers(mr_backend *b, mr_cuda_stack *values, size_t n, mr_error *err) {
    size_t n_slots = n * MR_CUDA_STACK_TOKENS;
    int32_t *numbers = malloc(n_slots * sizeof *numbers);
    void *address = NULL;
    if (numbers == NULL) return mr_fail_nomem(err, n_slots * sizeof *numbers, "a stack of matrices");
    for (size_t i = 0; i < n_slots; i++) numbers[i] = (int32_t)(i % n);
    mr_status status = b->ops->alloc(b, n_slots * sizeof *numbers, "a stack of matrices", &address, err);
    values->numbers = (mr_cu_address)(uintptr_t)address;
    if (status == MR_OK) status = b->ops->upload(b, address, numbers, n_slots * sizeof *numbers, err);
    free(numbers);
    return status;
}

static mr_status gather_values(mr_backend *b, const mr_cuda_stack *values, mr_matrix *const *matrices, size_t n,
                               mr_error *err) {
    mr_cu_context *before = mr_cuda_enter(mr_cuda(b));
    for (size_t i = 0; i < n; i++) {
        const mr_cuda_matrix *m = mr_cuda_matrix_of(matrices[i]);
        b->ops->copy(b, mr_cuda_pointer(values->address + i * values->matrix_bytes), mr_cuda_pointer(m->address),
                     m->n_bytes);
    }
    mr_status status = b->ops->sync(b, err);
    mr_cuda_leave(mr_cuda(b), before);
    return status;
}

/* The matrices' values move to one piece of memory. */
static mr_status stack(mr_backend *b, mr_stack **out, mr_matrix *const *matrices, size_t n, mr_error *err) {
    const mr_cuda_matrix *first = mr_cuda_matrix_of(matrices[0]);
    *out = NULL;
    for (size_t i = 1; i < n; i++) {
        const mr_cuda_matrix *m = mr_cuda_matrix_of(matrices[i]);
        if (m->layout != first->layout || m->n_bytes != first->n_bytes)
            return mr_fail(err, MR_ERR_UNSUPPORTED,
                           "a layer's experts are of different types, which CUDA has no kernel for");
    }
    mr_stack *s = calloc(1, sizeof *s);
    mr_cuda_stack *values = calloc(1, sizeof *values);
    if (s != NULL) s->matrices = malloc(n * sizeof(mr_matrix *));
    if (s == NULL || values == NULL || s->matrices == NULL) {
        free(values);
        if (s != NULL) free(s->matrices);
        free(s);
        return mr_fail_nomem(err, n * sizeof(mr_matrix *), "a stack of matrices");
    }
    s->n = n;
    s->table = values;
    memcpy(s->matrices, matrices, n * sizeof(mr_matrix *));
    values->matrix_bytes = first->n_bytes;
    void *address = NULL;
    mr_status status = b->ops->alloc(b, n * first->n_bytes, "a stack of matrices", &address, err);
    values->address = (mr_cu_address)(uintptr_t)address;
    if (status == MR_OK) status = make_numbers(b, values, n, err);
    if (status == MR_OK) status = gather_values(b, values, matrices, n, err);
    if (status != MR_OK) {
        stack_free(b, s);
        return status;
    }
    for (size_t i = 0; i < n; i++) {
        mr_cuda_matrix *m = mr_matrix_values(matrices[i]);
        if (!m->borrowed) b->ops->release(b, mr_cuda_pointer(m->address));
        m->address = values->address + i * values->matrix_bytes;
        m->borrowed = true;
    }
    *out = s;
    return MR_OK;
}

void mr_cuda_set_weights(mr_backend_ops *ops) {
    ops->pack = pack;
    ops->pack_bytes = pack_bytes;
    ops->table = pack;
    ops->stack = stack;
    ops->stack_free = stack_free;
}

/* ---- inputs
 * ----------------------------------------------------------------------------------------------------------- */

/* Rows x [n_rows, n_in] in the wanted forms, into b->acts; what is pending for these very rows is done on the way. */
static void prepare(mr_cuda_backend *b, const float *x, size_t ld, size_t n_rows, size_t n_in, const bool *wanted) {
    mr_k_prepare_args a = {.x = x,
                           .n_rows = (uint32_t)n_rows,
                           .n_in = (uint32_t)n_in,
                           .ldx = (uint32_t)ld,
                           .act = MR_K_ACT_NONE,
                           .norm = MR_K_NORM_NONE};
    bool norm = b->pending == MR_CUDA_PENDING_NORM && b->norm.out == x && b->norm.ld_out == ld &&
                b->norm.n_rows == n_rows && b->norm.n == n_in;
    bool glu = b->pending == MR_CUDA_PENDING_GLU && b->glu.out == x && b->glu.ld_out == ld && b->glu.n_rows == n_rows &&
               b->glu.n == n_in;
    bool same = b->pending == MR_CUDA_PENDING_NONE && b->made_of == x && b->made_ld == ld && b->made_rows == n_rows &&
                b->made_n == n_in;
    if (norm) {
        a.x = b->norm.x, a.ldx = (uint32_t)b->norm.ld_x;
        a.weight = b->norm.weight, a.bias = b->norm.bias, a.eps = b->norm.eps;
        a.norm = b->norm.layer ? MR_K_NORM_LAYER : MR_K_NORM_RMS;
    } else if (glu) {
        a.x = b->glu.gate, a.ldx = (uint32_t)b->glu.ld_gate;
        a.up = b->glu.up, a.ld_up = (uint32_t)b->glu.ld_up;
        a.act = (int32_t)b->glu.act;
    }
    if (norm || glu) {
        a.out = (float *)(uintptr_t)x, a.ld_out = (uint32_t)ld;
        b->pending = MR_CUDA_PENDING_NONE;
    } else {
        mr_cuda_flush(b);
    }
    bool any = false;
    for (int kind = 0; kind < MR_K_N_ACTS; kind++) {
        if (!same) b->made[kind] = false;
        if (!wanted[kind] || b->made[kind]) continue;
        if (n_rows * mr_k_acts_stride(kind, n_in) > b->acts_bytes[kind]) {
            if (b->error.status == MR_OK)
                mr_fail(&b->error, MR_ERR_INTERNAL, "no room was reserved for %zu inputs of %zu values", n_rows, n_in);
            return;
        }
        a.acts[kind] = b->acts[kind];
        b->made[kind] = any = true;
    }
    b->made_of = x, b->made_ld = ld, b->made_rows = n_rows, b->made_n = n_in;
    if (!any && a.out == NULL) return;
    const mr_k_launch l = mr_k_prepare_launch(&a);
    mr_cuda_launch(b, &l, &a);
}

static void launch_product(mr_cuda_backend *b, const mr_k_matmul_args *a) {
    uint32_t n = b->wgmma ? mr_k_wgmma_tokens(a, b->n_sm) : 0;
    const mr_k_launch l = n > 0 ? mr_k_wgmma_launch(a, n) : mr_k_matmul_launch(a);
    mr_cuda_launch(b, &l, a);
}

/* ---- products
 * --------------------------------------------------------------------------------------------------------- */

static void products(mr_backend *backend, const mr_product_args *items, size_t n_items, size_t n_tokens) {
    mr_cuda_backend *b = mr_cuda(backend);
    bool done[16] = {false};
    if (n_items > 16) {
        products(backend, items, 16, n_tokens);
        products(backend, items + 16, n_items - 16, n_tokens);
        return;
    }
    for (size_t i = 0; i < n_items; i++) {
        if (done[i]) continue;
        const mr_product_args *first = &items[i];
        const mr_cuda_matrix *m = mr_cuda_matrix_of(first->w);
        size_t n_in = mr_matrix_n_in(first->w);
        bool wanted[MR_K_N_ACTS] = {false};
        for (size_t j = i; j < n_items; j++) {
            if (items[j].x == first->x && items[j].ld_x == first->ld_x && mr_matrix_n_in(items[j].w) == n_in)
                wanted[mr_cuda_matrix_of(items[j].w)->acts] = true;
        }
        prepare(b, first->x, first->ld_x, n_tokens, n_in, wanted);
        mr_k_matmul_args a = {.x = b->acts[m->acts],
                              .n_in = (uint32_t)n_in,
                              .n_tokens = (uint32_t)n_tokens,
                              .x_div = 1,
                              .layout = (int32_t)m->layout};
        for (size_t j = i; j < n_items && a.n_matrices < MR_K_MAX_MATRICES; j++) {
            const mr_product_args *item = &items[j];
            const mr_cuda_matrix *w = mr_cuda_matrix_of(item->w);
            if (done[j] || item->x != first->x || item->ld_x != first->ld_x || w->layout != m->layout ||
                mr_matrix_n_in(item->w) != n_in)
                continue;
            done[j] = true;
            a.m[a.n_matrices++] = (mr_k_matrix){.w = mr_cuda_pointer(w->address),
                                                .bias = item->bias,
                                                .y = item->y,
                                                .n_out = (uint32_t)mr_matrix_n_out(item->w),
                                                .ldy = (uint32_t)item->ld_y,
                                                .accumulate = item->accumulate};
        }
        launch_product(b, &a);
    }
}

/* y = act(y) * up, in the kernel that reads y next. */
static void set_pending_glu(mr_cuda_backend *b, mr_glu act, float *y, size_t ld_y, const float *up, size_t n,
                            size_t n_rows) {
    mr_cuda_flush(b);
    b->glu = (mr_activate_args){.act = act,
                                .gate = y,
                                .ld_gate = ld_y,
                                .up = up,
                                .ld_up = n,
                                .out = y,
                                .ld_out = ld_y,
                                .n_rows = n_rows,
                                .n = n};
    b->pending = MR_CUDA_PENDING_GLU;
}

static void gated(mr_backend *backend, const mr_gated_args *a, size_t n_tokens) {
    size_t n = mr_matrix_n_out(a->gate);
    const mr_product_args items[] = {{.w = a->gate, .x = a->x, .ld_x = a->ld_x, .y = a->y, .ld_y = a->ld_y},
                                     {.w = a->up, .x = a->x, .ld_x = a->ld_x, .y = a->scratch, .ld_y = n}};
    products(backend, items, 2, n_tokens);
    set_pending_glu(mr_cuda(backend), a->act, a->y, a->ld_y, a->scratch, n, n_tokens);
}

/* A slot is a token and a head; a grid has at most 65,535 rows of them. */
static void heads(mr_backend *backend, const mr_heads_args *a) {
    mr_cuda_backend *b = mr_cuda(backend);
    size_t most = 65535 / a->stack->n;
    if (a->n_tokens > most) {
        mr_heads_args first = *a, rest = *a;
        first.n_tokens = most;
        rest.n_tokens -= most;
        rest.x += most * a->ld_x;
        rest.y += most * a->ld_y;
        heads(backend, &first);
        heads(backend, &rest);
        return;
    }
    const mr_cuda_stack *values = a->stack->table;
    const mr_cuda_matrix *m = mr_cuda_matrix_of(a->stack->matrices[0]);
    size_t n_slots = a->n_tokens * a->stack->n, n_in = mr_matrix_n_in(a->stack->matrices[0]);
    bool wanted[MR_K_N_ACTS] = {false};
    wanted[m->acts] = true;
    prepare(b, a->x, a->x_step, n_slots, n_in, wanted);
    mr_k_matmul_args args = {.x = b->acts[m->acts],
                             .expert_of = mr_cuda_pointer(values->numbers),
                             .expert_bytes = values->matrix_bytes,
                             .n_matrices = 1,
                             .n_in = (uint32_t)n_in,
                             .n_tokens = (uint32_t)n_slots,
                             .x_div = 1,
                             .layout = (int32_t)m->layout};
    args.m[0] = (mr_k_matrix){.w = mr_cuda_pointer(values->address),
                              .y = a->y,
                              .n_out = (uint32_t)mr_matrix_n_out(a->stack->matrices[0]),
                              .ldy = (uint32_t)a->y_step};
    launch_product(b, &args);
    b->made_of = NULL;
}

/* ---- experts
 * ---------------------------------------------------------------------------------------------------------- */

/* Few tokens: slots are (token, choice) in order, and each names its expert. Many: they are ordered by expert. */
static bool few(const mr_slots *s) {
    return s->n_tokens <= MR_K_GEMV_TOKENS;
}

static void slots(mr_backend *backend, const mr_slots *s) {
    mr_cuda_backend *b = mr_cuda(backend);
    if (few(s)) return;
    const mr_k_lists_args a = {.chosen = s->chosen,
                               .begin = (int32_t *)s->begin,
                               .slot_token = (int32_t *)s->slot_token,
                               .slot_of = (int32_t *)s->slot_of,
                               .n_tokens = (uint32_t)s->n_tokens,
                               .n_expert = s->n_expert,
                               .n_used = s->n_used};
    const mr_k_launch l = mr_k_lists_launch(&a);
    mr_cuda_launch(b, &l, &a);
}

static mr_k_matmul_args expert_args(const mr_slots *s, const mr_stack *st, bool by_slot) {
    const mr_cuda_stack *values = st->table;
    mr_k_matmul_args a = {.expert_bytes = values->matrix_bytes,
                          .n_in = (uint32_t)mr_matrix_n_in(st->matrices[0]),
                          .n_tokens = (uint32_t)(s->n_tokens * s->n_used),
                          .x_div = 1,
                          .layout = (int32_t)mr_cuda_matrix_of(st->matrices[0])->layout};
    if (few(s)) {
        a.expert_of = s->chosen;
        if (!by_slot) a.x_div = s->n_used;
    } else {
        a.expert_begin = (const int32_t *)s->begin;
        a.n_expert = s->n_expert;
        if (!by_slot) a.rows = (const int32_t *)s->slot_token;
    }
    return a;
}

static void expert_products(mr_backend *backend, const mr_expert_product_args *items, size_t n_items) {
    mr_cuda_backend *b = mr_cuda(backend);
    for (size_t i = 0; i < n_items;) {
        const mr_expert_product_args *first = &items[i];
        const mr_cuda_matrix *m = mr_cuda_matrix_of(first->stack->matrices[0]);
        const mr_slots *s = first->slots;
        mr_k_matmul_args a = expert_args(s, first->stack, first->by_slot);
        bool wanted[MR_K_N_ACTS] = {false};
        wanted[m->acts] = true;
        prepare(b, first->x, first->ld_x, first->by_slot ? s->n_tokens * s->n_used : s->n_tokens, a.n_in, wanted);
        a.x = b->acts[m->acts];
        for (; i < n_items && a.n_matrices < MR_K_MAX_MATRICES; i++) {
            const mr_expert_product_args *item = &items[i];
            const mr_cuda_stack *values = item->stack->table;
            const mr_matrix *w = item->stack->matrices[0];
            if (item->x != first->x || mr_cuda_matrix_of(w)->layout != m->layout ||
                values->matrix_bytes != a.expert_bytes || mr_matrix_n_in(w) != a.n_in)
                break;
            a.m[a.n_matrices++] = (mr_k_matrix){.w = mr_cuda_pointer(values->address),
                                                .bias = item->bias,
                                                .y = item->y,
                                                .n_out = (uint32_t)mr_matrix_n_out(w),
                                                .ldy = (uint32_t)item->ld_y};
        }
        launch_product(b, &a);
    }
}

static void expert_gated(mr_backend *backend, const mr_expert_gated_args *a) {
    size_t n = mr_matrix_n_out(a->gate->matrices[0]);
    const mr_expert_product_args items[] = {
        {.slots = a->slots, .stack = a->gate, .x = a->x, .ld_x = a->ld_x, .y = a->y, .ld_y = a->ld_y},
        {.slots = a->slots, .stack = a->up, .x = a->x, .ld_x = a->ld_x, .y = a->scratch, .ld_y = n}};
    expert_products(backend, items, 2);
    set_pending_glu(mr_cuda(backend), a->act, a->y, a->ld_y, a->scratch, n, a->slots->n_tokens * a->slots->n_used);
}

static void combine(mr_backend *backend, const mr_combine_args *c) {
    mr_cuda_backend *b = mr_cuda(backend);
    mr_cuda_begin(b);
    const mr_k_combine_args a = {.y = c->x,
                                 .weight = c->weights,
                                 .shared = c->shared,
                                 .shared_weight = c->shared_weight,
                                 .slot_of = few(c->slots) ? NULL : (const int32_t *)c->slots->slot_of,
                                 .out = c->out,
                                 .n_tokens = (uint32_t)c->slots->n_tokens,
                                 .n_used = c->slots->n_used,
                                 .n = (uint32_t)c->n};
    const mr_k_launch l = mr_k_combine_launch(&a);
    mr_cuda_launch(b, &l, &a);
}

void mr_cuda_set_products(mr_backend_ops *ops) {
    ops->products = products;
    ops->gated = gated;
    ops->heads = heads;
    ops->slots = slots;
    ops->expert_products = expert_products;
    ops->expert_gated = expert_gated;
    ops->combine = combine;
}
