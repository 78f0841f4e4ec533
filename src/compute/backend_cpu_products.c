/* Matrix products of the CPU's back end: inputs are brought into the form that each matrix wants, then multiplied. */
#include "compute/backend_cpu.h"

#include "compute/routing.h"

/* Rows of floats on their way into a matrix's form. */
typedef struct input {
    mr_acts acts;
    const float *x;
    size_t ld, n_rows;
} input;

/* One parallel piece of work: inputs, then products with them. */
typedef struct job {
    input *inputs;
    size_t n_inputs;
    mr_matmul_item *products;
    mr_glu_item *gated;
    size_t n_items, n_tokens;
} job;

static void run_job(mr_worker *worker, void *arg) {
    job *j = arg;
    for (size_t i = 0; i < j->n_inputs; i++) {
        input *in = &j->inputs[i];
        size_t begin, end;
        mr_share(worker, in->n_rows, 1, &begin, &end);
        for (size_t t = begin; t < end; t++) mr_acts_set(&in->acts, t, in->x + t * in->ld);
    }
    mr_barrier(worker);
    if (j->products != NULL)
        mr_matmul(worker, j->products, j->n_items, j->n_tokens);
    else
        mr_matmul_glu_items(worker, j->gated, j->n_items, j->n_tokens);
}

static mr_acts_kind kind_of(const mr_matrix *w) {
    mr_acts_kind kind = MR_ACTS_F32;
    mr_matrix_acts_kind(mr_matrix_dtype(w), &kind);
    return kind;
}

static input input_for(const mr_matrix *w, const float *x, size_t ld, size_t n_rows) {
    return (input){.acts = mr_acts_view(kind_of(w), mr_matrix_n_in(w), NULL), .x = x, .ld = ld, .n_rows = n_rows};
}

static size_t input_bytes(const input *in) {
    return in->n_rows * in->acts.stride;
}

static bool same_input(const input *a, const input *b) {
    return a->acts.kind == b->acts.kind && a->acts.n_in == b->acts.n_in && a->x == b->x && a->ld == b->ld;
}

/* Gives all inputs their places in the scratch memory, behind `head` bytes, which it returns; NULL: no memory. */
static uint8_t *place_inputs(mr_cpu_backend *b, size_t head, input *inputs, size_t n) {
    size_t at = head = (head + 63) / 64 * 64;
    for (size_t i = 0; i < n; i++) at += input_bytes(&inputs[i]);
    uint8_t *memory = mr_cpu_scratch(b, at);
    if (memory == NULL) return NULL;
    at = head;
    for (size_t i = 0; i < n; i++) {
        inputs[i].acts.data = memory + at;
        at += input_bytes(&inputs[i]);
    }
    return memory;
}

enum { AT_ONCE = 8 };

static void products(mr_backend *backend, const mr_product_args *a, size_t n_items, size_t n_tokens) {
    mr_cpu_backend *b = (mr_cpu_backend *)backend;
    if (n_items > AT_ONCE) {
        products(backend, a, AT_ONCE, n_tokens);
        products(backend, a + AT_ONCE, n_items - AT_ONCE, n_tokens);
        return;
    }
    input inputs[AT_ONCE];
    mr_matmul_item items[AT_ONCE];
    size_t n_inputs = 0;
    for (size_t i = 0; i < n_items; i++) {
        size_t at = 0;
        inputs[n_inputs] = input_for(a[i].w, a[i].x, a[i].ld_x, n_tokens);
        while (at < n_inputs && !same_input(&inputs[at], &inputs[n_inputs])) at++;
        if (at == n_inputs) n_inputs++;
        items[i] = (mr_matmul_item){.w = a[i].w,
                                    .x = &inputs[at].acts,
                                    .bias = a[i].bias,
                                    .y = a[i].y,
                                    .ldy = a[i].ld_y,
                                    .accumulate = a[i].accumulate};
    }
    if (place_inputs(b, 0, inputs, n_inputs) == NULL) return;
    job j = {.inputs = inputs, .n_inputs = n_inputs, .products = items, .n_items = n_items, .n_tokens = n_tokens};
    mr_team_run(b->team, run_job, &j);
}

/* gate and up of kinds that differ: each for itself. */
static void gated_apart(mr_cpu_backend *b, const mr_gated_args *a, size_t n_tokens) {
    size_t n = mr_matrix_n_out(a->gate);
    const mr_product_args items[] = {{.w = a->gate, .x = a->x, .ld_x = a->ld_x, .y = a->y, .ld_y = a->ld_y},
                                     {.w = a->up, .x = a->x, .ld_x = a->ld_x, .y = a->scratch, .ld_y = n}};
    products(&b->base, items, 2, n_tokens);
    for (size_t t = 0; t < n_tokens; t++)
        b->ops->glu(a->act, a->y + t * a->ld_y, a->scratch + t * n, n, a->y + t * a->ld_y);
}

static void gated(mr_backend *backend, const mr_gated_args *a, size_t n_tokens) {
    mr_cpu_backend *b = (mr_cpu_backend *)backend;
    if (kind_of(a->gate) != kind_of(a->up)) {
        gated_apart(b, a, n_tokens);
        return;
    }
    input in = input_for(a->gate, a->x, a->ld_x, n_tokens);
    mr_glu_item item = {.gate = a->gate, .up = a->up, .act = a->act, .x = &in.acts, .y = a->y, .ldy = a->ld_y};
    if (place_inputs(b, 0, &in, 1) == NULL) return;
    job j = {.inputs = &in, .n_inputs = 1, .gated = &item, .n_items = 1, .n_tokens = n_tokens};
    mr_team_run(b->team, run_job, &j);
}

static void heads(mr_backend *backend, const mr_heads_args *a) {
    for (size_t h = 0; h < a->stack->n; h += AT_ONCE) {
        mr_product_args items[AT_ONCE];
        size_t n = a->stack->n - h < AT_ONCE ? a->stack->n - h : AT_ONCE;
        for (size_t i = 0; i < n; i++) {
            items[i] = (mr_product_args){.w = a->stack->matrices[h + i],
                                         .x = a->x + (h + i) * a->x_step,
                                         .ld_x = a->ld_x,
                                         .y = a->y + (h + i) * a->y_step,
                                         .ld_y = a->ld_y};
        }
        products(backend, items, n, a->n_tokens);
    }
}

/* ---- experts
 * ---------------------------------------------------------------------------------------------------------- */

/* Numbers 0 .. n-1 and a list of items, at the head of the scratch memory. */
static size_t head_bytes(size_t n_slots, size_t n_items, size_t item_bytes) {
    return (n_slots * sizeof(int32_t) + 63) / 64 * 64 + n_items * item_bytes;
}

static void *number(uint8_t *memory, size_t n_slots) {
    int32_t *numbers = (int32_t *)(void *)memory;
    for (size_t i = 0; i < n_slots; i++) numbers[i] = (int32_t)i;
    return memory + (n_slots * sizeof(int32_t) + 63) / 64 * 64;
}

static void expert_product(mr_cpu_backend *b, const mr_expert_product_args *a) {
    const mr_slots *s = a->slots;
    size_t n_slots = s->n_tokens * s->n_used, n_out = mr_matrix_n_out(a->stack->matrices[0]);
    input in = input_for(a->stack->matrices[0], a->x, a->ld_x, a->by_slot ? n_slots : s->n_tokens);
    uint8_t *memory = place_inputs(b, head_bytes(n_slots, s->n_expert, sizeof(mr_matmul_item)), &in, 1);
    if (memory == NULL) return;
    mr_matmul_item *items = number(memory, n_slots);
    const int32_t *rows = (const int32_t *)(a->by_slot ? (const void *)memory : (const void *)s->slot_token);
    size_t n = 0;
    for (uint32_t e = 0; e < s->n_expert; e++) {
        size_t first = s->begin[e], n_rows = s->begin[e + 1] - first;
        if (n_rows == 0) continue;
        items[n++] = (mr_matmul_item){.w = a->stack->matrices[e],
                                      .x = &in.acts,
                                      .bias = a->bias != NULL ? a->bias + e * n_out : NULL,
                                      .y = a->y + first * a->ld_y,
                                      .ldy = a->ld_y,
                                      .rows = rows + first,
                                      .n_rows = n_rows};
    }
    job j = {.inputs = &in, .n_inputs = 1, .products = items, .n_items = n, .n_tokens = s->n_tokens};
    mr_team_run(b->team, run_job, &j);
}

static void expert_products(mr_backend *backend, const mr_expert_product_args *items, size_t n_items) {
    for (size_t i = 0; i < n_items; i++) expert_product((mr_cpu_backend *)backend, &items[i]);
}

/* gate and up of kinds that differ, as above. */
static void expert_gated_apart(mr_cpu_backend *b, const mr_expert_gated_args *a) {
    size_t n = mr_matrix_n_out(a->gate->matrices[0]), n_slots = a->slots->n_tokens * a->slots->n_used;
    const mr_expert_product_args items[] = {
        {.slots = a->slots, .stack = a->gate, .x = a->x, .ld_x = a->ld_x, .y = a->y, .ld_y = a->ld_y},
        {.slots = a->slots, .stack = a->up, .x = a->x, .ld_x = a->ld_x, .y = a->scratch, .ld_y = n}};
    expert_products(&b->base, items, 2);
    for (size_t s = 0; s < n_slots; s++)
        b->ops->glu(a->act, a->y + s * a->ld_y, a->scratch + s * n, n, a->y + s * a->ld_y);
}

static void expert_gated(mr_backend *backend, const mr_expert_gated_args *a) {
    mr_cpu_backend *b = (mr_cpu_backend *)backend;
    const mr_slots *s = a->slots;
    if (kind_of(a->gate->matrices[0]) != kind_of(a->up->matrices[0])) {
        expert_gated_apart(b, a);
        return;
    }
    input in = input_for(a->gate->matrices[0], a->x, a->ld_x, s->n_tokens);
    uint8_t *memory = place_inputs(b, s->n_expert * sizeof(mr_glu_item), &in, 1);
    if (memory == NULL) return;
    mr_glu_item *items = (mr_glu_item *)(void *)memory;
    size_t n = 0;
    for (uint32_t e = 0; e < s->n_expert; e++) {
        size_t first = s->begin[e], n_rows = s->begin[e + 1] - first;
        if (n_rows == 0) continue;
        items[n++] = (mr_glu_item){.gate = a->gate->matrices[e],
                                   .up = a->up->matrices[e],
                                   .act = a->act,
                                   .x = &in.acts,
                                   .y = a->y + first * a->ld_y,
                                   .ldy = a->ld_y,
                                   .rows = (const int32_t *)s->slot_token + first,
                                   .n_rows = n_rows};
    }
    job j = {.inputs = &in, .n_inputs = 1, .gated = items, .n_items = n, .n_tokens = s->n_tokens};
    mr_team_run(b->team, run_job, &j);
}

void mr_cpu_set_products(mr_backend_ops *ops) {
    ops->products = products;
    ops->gated = gated;
    ops->heads = heads;
    ops->expert_products = expert_products;
    ops->expert_gated = expert_gated;
}
