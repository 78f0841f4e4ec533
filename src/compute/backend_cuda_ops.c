/* The CUDA back end: everything between the products. */
#include "compute/backend_cuda.h"

#include "base/min.h"

static void launch_elementwise(mr_cuda_backend *b, const mr_k_elementwise_args *a) {
    const mr_k_launch l = mr_k_elementwise_launch(a);
    mr_cuda_launch(b, &l, a);
}

static void launch_norm(mr_cuda_backend *b, const mr_norm_args *n) {
    const mr_k_norm_args a = {.x = n->x,
                              .weight = n->weight,
                              .bias = n->bias,
                              .out = n->out,
                              .n_rows = (uint32_t)n->n_rows,
                              .n_heads = (uint32_t)n->n_groups,
                              .n = (uint32_t)n->n,
                              .ld = (uint32_t)n->ld_x,
                              .head_step = (uint32_t)n->step,
                              .weight_step = (uint32_t)n->weight_step,
                              .norm = n->layer ? MR_K_NORM_LAYER : MR_K_NORM_RMS,
                              .eps = n->eps};
    const mr_k_launch l = mr_k_norm_launch(&a);
    mr_cuda_launch(b, &l, &a);
}

static void launch_activation(mr_cuda_backend *b, const mr_activate_args *c) {
    const mr_k_elementwise_args a = {.x = c->gate,
                                     .y = c->up,
                                     .out = c->out,
                                     .n_rows = (uint32_t)c->n_rows,
                                     .n = (uint32_t)c->n,
                                     .ldx = (uint32_t)c->ld_gate,
                                     .ldy = (uint32_t)c->ld_up,
                                     .ld_out = (uint32_t)c->ld_out,
                                     .op = MR_K_GLU,
                                     .act = (int32_t)c->act};
    launch_elementwise(b, &a);
}

void mr_cuda_flush(mr_cuda_backend *b) {
    mr_cuda_pending pending = b->pending;
    b->pending = MR_CUDA_PENDING_NONE;
    if (pending == MR_CUDA_PENDING_NORM) launch_norm(b, &b->norm);
    if (pending == MR_CUDA_PENDING_GLU) launch_activation(b, &b->glu);
}

void mr_cuda_begin(mr_cuda_backend *b) {
    mr_cuda_flush(b);
    b->made_of = NULL;
}

static mr_cuda_backend *begin(mr_backend *backend) {
    mr_cuda_begin(mr_cuda(backend));
    return mr_cuda(backend);
}

/* ---- rows
 * ------------------------------------------------------------------------------------------------------------- */

static void embed(mr_backend *backend, const mr_embed_args *e) {
    mr_cuda_backend *b = begin(backend);
    const mr_cuda_matrix *m = mr_cuda_matrix_of(e->table);
    size_t n = mr_matrix_n_in(e->table);
    mr_k_rows_args a = {.w = mr_cuda_pointer(m->address),
                        .ids = e->tokens,
                        .out = e->out,
                        .n_tokens = (uint32_t)e->n_tokens,
                        .n_in = (uint32_t)n,
                        .ld_out = (uint32_t)n,
                        .scale = e->scale,
                        .layout = (int32_t)m->layout};
    const mr_k_launch l = mr_k_rows_launch(&a);
    mr_cuda_launch(b, &l, &a);
}

/* A norm of whole rows into other memory waits for the product that reads it. */
static void norm(mr_backend *backend, const mr_norm_args *a) {
    mr_cuda_backend *b = begin(backend);
    if (a->n_groups == 1 && a->out != a->x && a->ld_x == a->ld_out) {
        b->norm = *a;
        b->pending = MR_CUDA_PENDING_NORM;
        return;
    }
    launch_norm(b, a);
}

static void activate(mr_backend *backend, const mr_activate_args *a) {
    mr_cuda_backend *b = begin(backend);
    if (a->out == a->gate && a->ld_out == a->ld_gate) {
        b->glu = *a;
        b->pending = MR_CUDA_PENDING_GLU;
        return;
    }
    launch_activation(b, a);
}

static void xielu(mr_backend *backend, const mr_xielu_args *x) {
    const mr_k_elementwise_args a = {.x = x->x,
                                     .out = x->x,
                                     .n_rows = 1,
                                     .n = (uint32_t)x->n,
                                     .op = MR_K_XIELU,
                                     .p = {x->alpha_p, x->alpha_n, x->beta, x->eps}};
    launch_elementwise(begin(backend), &a);
}

static void cut(mr_backend *backend, float *x, size_t n_rows, size_t n, float sparsity) {
    mr_cuda_backend *b = begin(backend);
    const mr_k_cut_args a = {
        .x = x, .n_rows = (uint32_t)n_rows, .n = (uint32_t)n, .ld = (uint32_t)n, .sparsity = sparsity};
    const mr_k_launch l = mr_k_cut_launch(&a);
    mr_cuda_launch(b, &l, &a);
}

static void copy_rows(mr_backend *backend, const mr_copy_rows_args *c) {
    mr_cuda_backend *b = begin(backend);
    if (c->rows == NULL) {
        const mr_k_elementwise_args a = {.x = c->from,
                                         .out = c->to,
                                         .n_rows = (uint32_t)c->n_rows,
                                         .n = (uint32_t)c->n,
                                         .ldx = (uint32_t)c->ld_from,
                                         .ld_out = (uint32_t)c->ld_to,
                                         .op = MR_K_COPY};
        launch_elementwise(b, &a);
        return;
    }
    const mr_k_prepare_args a = {.x = c->from,
                                 .rows = (const int32_t *)c->rows,
                                 .out = c->to,
                                 .n_rows = (uint32_t)c->n_rows,
                                 .n_in = (uint32_t)c->n,
                                 .ldx = (uint32_t)c->ld_from,
                                 .ld_out = (uint32_t)c->ld_to,
                                 .norm = MR_K_NORM_NONE,
                                 .act = MR_K_ACT_NONE};
    const mr_k_launch l = mr_k_prepare_launch(&a);
    mr_cuda_launch(b, &l, &a);
}

static void add(mr_backend *backend, const mr_add_args *c) {
    const mr_k_elementwise_args a = {.x = c->x,
                                     .y = c->y,
                                     .out = c->x,
                                     .n_rows = (uint32_t)c->n_rows,
                                     .n = (uint32_t)c->n,
                                     .ldx = (uint32_t)c->ld_x,
                                     .ldy = (uint32_t)c->ld_y,
                                     .ld_out = (uint32_t)c->ld_x,
                                     .op = MR_K_ADD_SCALED,
                                     .p = {c->factor}};
    launch_elementwise(begin(backend), &a);
}

/* An operation on n values with one parameter, in place. */
static void in_place(mr_backend *backend, mr_k_op op, float *x, size_t n, float parameter) {
    const mr_k_elementwise_args a = {
        .x = x, .out = x, .n_rows = 1, .n = (uint32_t)n, .op = (int32_t)op, .p = {parameter}};
    launch_elementwise(begin(backend), &a);
}

static void scale(mr_backend *backend, float *x, size_t n, float factor) {
    in_place(backend, MR_K_SCALE, x, n, factor);
}

static void softcap(mr_backend *backend, float *x, size_t n, float cap) {
    in_place(backend, MR_K_SOFTCAP, x, n, cap);
}

static void gate(mr_backend *backend, const mr_gate_args *g) {
    const mr_k_elementwise_args a = {.x = g->out,
                                     .y = g->gate,
                                     .out = g->out,
                                     .n_rows = (uint32_t)g->n_rows,
                                     .n = (uint32_t)g->n,
                                     .ldx = (uint32_t)g->ld_out,
                                     .ldy = (uint32_t)g->ld_gate,
                                     .ld_out = (uint32_t)g->ld_out,
                                     .op = MR_K_MUL_SIGMOID};
    launch_elementwise(begin(backend), &a);
}

/* Ids, and unless it is NULL the values, of at most MR_CUDA_BEST_ROWS rows. */
static void launch_best(mr_cuda_backend *b, const float *logits, size_t n_rows, size_t n, int32_t *ids, float *values) {
    const mr_k_argmax_args a = {.logits = logits,
                                .parts = b->best_parts,
                                .ids = ids,
                                .values = values,
                                .n_rows = (uint32_t)n_rows,
                                .n_vocab = (uint32_t)n,
                                .ld = (uint32_t)n};
    const mr_k_launch parts = mr_k_argmax_launch(&a), join = mr_k_argmax_join_launch(&a);
    mr_cuda_launch(b, &parts, &a);
    mr_cuda_launch(b, &join, &a);
}

static void best(mr_backend *backend, const mr_best_args *c) {
    mr_cuda_backend *b = begin(backend);
    for (size_t first = 0; first < c->n_rows; first += MR_CUDA_BEST_ROWS) {
        size_t n = mr_min_size(c->n_rows - first, MR_CUDA_BEST_ROWS);
        launch_best(b, c->logits + first * c->n, n, c->n, c->ids + first, NULL);
    }
}

/* Lists of candidates [n_rows, n_lists] become one for each row. */
static void join_lists(mr_cuda_backend *b, size_t n_rows, uint32_t n_lists, mr_candidates *to) {
    mr_k_top_join_args a = {.from = b->lists, .n_rows = (uint32_t)n_rows, .n_lists = n_lists};
    for (; a.n_lists > 1; a.n_lists = mr_k_div_up(a.n_lists, MR_K_JOIN_LISTS)) {
        a.to = a.n_lists <= MR_K_JOIN_LISTS ? to : b->joined;
        const mr_k_launch l = mr_k_top_join_launch(&a);
        mr_cuda_launch(b, &l, &a);
        a.from = a.to;
    }
}

static void candidates(mr_backend *backend, const mr_candidates_args *c) {
    mr_cuda_backend *b = begin(backend);
    uint32_t n_vocab = (uint32_t)c->n, parts = mr_k_top_parts(n_vocab);
    if (parts > MR_CUDA_LISTS) {
        if (b->error.status == MR_OK)
            mr_fail(&b->error, MR_ERR_UNSUPPORTED, "a vocabulary of %u tokens is too large for %s", n_vocab,
                    b->base.name);
        return;
    }
    size_t most = mr_min_size(MR_CUDA_LISTS / parts, MR_CUDA_BEST_ROWS);
    for (size_t first = 0; first < c->n_rows; first += most) {
        size_t n = mr_min_size(c->n_rows - first, most);
        const float *logits = c->logits + first * c->n;
        launch_best(b, logits, n, c->n, b->row_best, b->row_largest);
        const mr_k_top_args a = {.logits = logits,
                                 .best = b->row_best,
                                 .largest = b->row_largest,
                                 .lists = parts > 1 ? b->lists : c->candidates + first,
                                 .rounder = mr_weight_rounder(c->n),
                                 .quantum = mr_weight_quantum(c->n),
                                 .n_rows = (uint32_t)n,
                                 .n_vocab = n_vocab,
                                 .ld = n_vocab};
        const mr_k_launch l = mr_k_top_launch(&a);
        mr_cuda_launch(b, &l, &a);
        join_lists(b, n, parts, c->candidates + first);
    }
}

/* ---- heads and attention
 * ---------------------------------------------------------------------------------------------- */

static void angles(mr_backend *backend, const mr_angles_args *c) {
    mr_cuda_backend *b = begin(backend);
    const mr_k_angles_args a = {.inv_freq = c->inv_freq,
                                .positions = c->positions,
                                .cosines = c->cosines,
                                .sines = c->sines,
                                .n_tokens = (uint32_t)c->n_tokens,
                                .n_pairs = (uint32_t)c->n_pairs,
                                .factor = c->factor};
    const mr_k_launch l = mr_k_angles_launch(&a);
    mr_cuda_launch(b, &l, &a);
}

static mr_k_kv kv_of(const mr_kv_view *kv) {
    const mr_kv_layout *l = &kv->layout;
    return (mr_k_kv){.data = kv->data,
                     .block_bytes = l->block_bytes,
                     .head_bytes = (uint32_t)l->head_bytes,
                     .value_offset = (uint32_t)l->value_offset,
                     .n_head_kv = l->n_head_kv,
                     .dk = l->head_dim_k,
                     .dv = l->head_dim_v,
                     .type = (int32_t)l->type};
}

static void heads_end(mr_backend *backend, const mr_heads_end_args *c) {
    mr_cuda_backend *b = begin(backend);
    bool keys = c->kv.data != NULL;
    mr_k_heads_args a = {.x = c->x,
                         .v = keys ? c->v : NULL,
                         .norm_weight = c->norm_weight,
                         .cosines = c->cosines,
                         .sines = c->sines,
                         .positions = c->batch->positions,
                         .slots = c->batch->slots,
                         .n_tokens = c->batch->n_tokens,
                         .n_heads = (uint32_t)c->n_heads,
                         .dim = (uint32_t)c->dim,
                         .ldx = (uint32_t)(c->n_heads * c->dim),
                         .weight_step = (uint32_t)c->weight_step,
                         .n_pairs = (uint32_t)c->n_pairs,
                         .rot_from = (uint32_t)c->rot_from,
                         .latent = (uint32_t)c->latent,
                         .n_ctx_orig = c->period,
                         .neox = c->neox,
                         .norm = c->norm_weight == NULL ? MR_K_NORM_NONE
                                 : c->layer             ? MR_K_NORM_LAYER
                                                        : MR_K_NORM_RMS,
                         .norm_late = c->norm_late,
                         .v_norm = c->v_norm,
                         .eps = c->eps,
                         .temperature = c->temperature};
    if (keys) {
        a.kv = kv_of(&c->kv);
        a.ldv = (uint32_t)(c->n_heads * a.kv.dv);
    }
    if (!keys && a.norm == MR_K_NORM_NONE && a.cosines == NULL && a.temperature == 0.0f) return;
    const mr_k_launch l = mr_k_heads_launch(&a);
    mr_cuda_launch(b, &l, &a);
}

/* One token for each run: parts of sequences side by side, then their sum. */
static void decode(mr_cuda_backend *b, mr_k_attention_args a, uint32_t most_positions) {
    mr_k_attention_split(&a, most_positions, b->n_sm);
    if (a.n_splits > 1) a.partial = b->partial;
    if ((size_t)a.n_runs * a.n_head * a.n_splits * (a.kv.dv + 2) > b->partial_values && a.n_splits > 1) {
        a.split_blocks = mr_k_div_up(most_positions, MR_KV_BLOCK);
        a.n_splits = 1;
        a.partial = NULL;
    }
    const mr_k_launch parts = mr_k_attention_decode_launch(&a);
    mr_cuda_launch(b, &parts, &a);
    if (a.n_splits <= 1) return;
    const mr_k_launch join = mr_k_attention_join_launch(&a);
    mr_cuda_launch(b, &join, &a);
}

static void attend(mr_backend *backend, const mr_attend_args *c) {
    mr_cuda_backend *b = begin(backend);
    const mr_device_batch *batch = c->batch;
    const mr_k_attention_args a = {.kv = kv_of(&c->kv),
                                   .q = c->q,
                                   .out = c->out,
                                   .sinks = c->sinks,
                                   .first = batch->first,
                                   .n_tokens = batch->run_tokens,
                                   .pos0 = batch->pos0,
                                   .ends = batch->ends,
                                   .blocks = batch->blocks,
                                   .n_runs = batch->n_runs,
                                   .n_head = c->n_head,
                                   .ld_blocks = batch->ld_blocks,
                                   .most_tokens = batch->most_tokens,
                                   .window = c->window,
                                   .whole = c->whole,
                                   .scale = c->scale,
                                   .softcap = c->softcap};
    if (batch->most_tokens > 1 || c->whole) {
        const mr_k_launch l = mr_k_attention_prefill_launch(&a);
        mr_cuda_launch(b, &l, &a);
    }
    /* A batch whose runs are all longer has nothing for the decode kernel; one run of several tokens shows that. */
    if (!c->whole && (batch->most_tokens == 1 || batch->n_runs > 1)) decode(b, a, batch->most_positions);
}

/* ---- experts
 * ---------------------------------------------------------------------------------------------------------- */

static void route(mr_backend *backend, const mr_route_args *c) {
    mr_cuda_backend *b = begin(backend);
    const mr_k_route_args a = {.scores = c->scores,
                               .bias = c->choice_bias,
                               .scales = c->scales,
                               .chosen = c->chosen,
                               .weight = c->weights,
                               .n_tokens = (uint32_t)c->n_tokens,
                               .n_expert = c->n_expert,
                               .n_used = c->n_used,
                               .n_group = c->n_group,
                               .n_group_used = c->n_group_used,
                               .gating = (int32_t)c->routing,
                               .normed = c->normed,
                               .factor = c->factor};
    const mr_k_launch l = mr_k_route_launch(&a);
    mr_cuda_launch(b, &l, &a);
}

/* ---- several residual streams
 * --------------------------------------------------------------------------------------------- */

static void match_size(mr_backend *backend, float *y, const float *x, size_t n_rows, size_t n) {
    mr_cuda_backend *b = begin(backend);
    const mr_k_match_size_args a = {.y = y, .x = x, .n_rows = (uint32_t)n_rows, .n = (uint32_t)n};
    const mr_k_launch l = mr_k_match_size_launch(&a);
    mr_cuda_launch(b, &l, &a);
}

static mr_k_streams_args streams_of(const mr_streams_args *c) {
    mr_k_streams_args a = {.modal = c->modal,
                           .factors = c->factors,
                           .correct_scale = c->correct_scale,
                           .predicted = c->predicted,
                           .n_stream = c->n_stream,
                           .n_tokens = (uint32_t)c->n_tokens,
                           .n = (uint32_t)c->n};
    for (uint32_t i = 0; i < c->n_stream; i++) a.streams[i] = c->streams[i];
    return a;
}

static void streams_predict(mr_backend *backend, const mr_streams_args *c) {
    mr_cuda_backend *b = begin(backend);
    const mr_k_streams_args a = streams_of(c);
    const mr_k_launch l = mr_k_streams_predict_launch(&a);
    mr_cuda_launch(b, &l, &a);
}

static void streams_correct(mr_backend *backend, const mr_streams_args *c) {
    mr_cuda_backend *b = begin(backend);
    const mr_k_streams_args a = streams_of(c);
    const mr_k_launch l = mr_k_streams_correct_launch(&a);
    mr_cuda_launch(b, &l, &a);
}

/* ---- recurrent layers
 * ------------------------------------------------------------------------------------------------- */

static void conv(mr_backend *backend, const mr_conv_args *c) {
    mr_cuda_backend *b = begin(backend);
    const mr_device_batch *batch = c->batch;
    const mr_k_conv_args a = {.mix = c->mix,
                              .out = c->out,
                              .weight = c->weight,
                              .bias = c->bias,
                              .first = batch->first,
                              .n_tokens = batch->run_tokens,
                              .n_mid = batch->n_mid,
                              .state_in = batch->state_in,
                              .state_out = batch->state_out,
                              .state_mid = batch->state_mid,
                              .state_at = c->state_at,
                              .n_runs = batch->n_runs,
                              .n_conv = (uint32_t)c->n_conv,
                              .ld_mix = (uint32_t)c->n_in,
                              .x_from = (uint32_t)c->conv_from,
                              .width = (uint32_t)c->width,
                              .gated = c->gated};
    const mr_k_launch l = mr_k_conv_launch(&a);
    mr_cuda_launch(b, &l, &a);
}

/* Mamba-2's gate, and the norm of groups behind it. */
static void finish_mamba(mr_cuda_backend *b, const mr_scan_args *c) {
    const mr_activate_args act = {.act = MR_GLU_SILU,
                                  .gate = c->mix + c->z_from,
                                  .ld_gate = c->n_in,
                                  .up = c->out,
                                  .ld_up = c->n_inner,
                                  .out = c->out,
                                  .ld_out = c->n_inner,
                                  .n_rows = c->batch->n_tokens,
                                  .n = c->n_inner};
    size_t n = c->n_inner / c->n_group;
    const mr_norm_args norm_groups = {.x = c->out,
                                      .ld_x = c->n_inner,
                                      .out = c->out,
                                      .ld_out = c->n_inner,
                                      .n_rows = c->batch->n_tokens,
                                      .n_groups = c->n_group,
                                      .step = n,
                                      .n = n,
                                      .weight = c->norm,
                                      .weight_step = n,
                                      .eps = c->eps};
    launch_activation(b, &act);
    launch_norm(b, &norm_groups);
}

static void scan(mr_backend *backend, const mr_scan_args *c) {
    mr_cuda_backend *b = begin(backend);
    const mr_device_batch *batch = c->batch;
    const mr_k_scan_args a = {.conv = c->conv,
                              .mix = c->mix,
                              .out = c->out,
                              .a = c->a,
                              .dt_bias = c->dt_bias,
                              .d = c->d,
                              .norm = c->delta ? c->norm : NULL,
                              .first = batch->first,
                              .n_tokens = batch->run_tokens,
                              .n_mid = batch->n_mid,
                              .state_in = batch->state_in,
                              .state_out = batch->state_out,
                              .state_mid = batch->state_mid,
                              .state_at = c->state_at,
                              .n_runs = batch->n_runs,
                              .n_head = c->n_head,
                              .n_group = c->n_group,
                              .dk = c->dim_k,
                              .dv = c->dim_v,
                              .n_conv = (uint32_t)c->n_conv,
                              .ld_mix = (uint32_t)c->n_in,
                              .dt_from = (uint32_t)(c->delta ? c->z_from + c->n_inner : c->conv_from + c->n_conv),
                              .z_from = (uint32_t)c->z_from,
                              .delta = c->delta,
                              .heads_tiled = c->value_heads_tiled,
                              .betas_by_group = c->betas_by_group,
                              .eps = c->eps};
    const mr_k_launch l = mr_k_scan_launch(&a);
    mr_cuda_launch(b, &l, &a);
    if (!c->delta) finish_mamba(b, c);
}

void mr_cuda_set_ops(mr_backend_ops *ops) {
    ops->embed = embed;
    ops->norm = norm;
    ops->activate = activate;
    ops->xielu = xielu;
    ops->cut = cut;
    ops->copy_rows = copy_rows;
    ops->add = add;
    ops->scale = scale;
    ops->softcap = softcap;
    ops->gate = gate;
    ops->angles = angles;
    ops->heads_end = heads_end;
    ops->attend = attend;
    ops->route = route;
    ops->match_size = match_size;
    ops->streams_predict = streams_predict;
    ops->streams_correct = streams_correct;
    ops->conv = conv;
    ops->scan = scan;
    ops->best = best;
    ops->candidates = candidates;
}
