/* Layers with a recurrent state: gated short convolutions, Mamba-2, gated delta nets.
 *
 * Projections are made for all tokens at once; then the convolution goes channel by channel and the recurrence head by
 * head through the tokens of a run, in order. So what a token gets depends on the state and the tokens before it, never
 * on chunks or company. */
#include "compute/recurrent.h"
#include "model/forward.h"

static void project(const mr_pass *p, mr_worker *worker, const mr_layer *layer) {
    const mr_forward_buffers *b = &p->model->buffers;
    const mr_recurrent *r = layer->recurrent;
    mr_inputs in = {0};
    mr_matmul_item items[4];
    size_t n = 0, at = 0;
    for (; n < 4 && r->in[n].w != NULL; n++) mr_want_input(&in, r->in[n].w);
    mr_prepare_inputs(p, worker, &in, b->x, p->model->hparams.n_embd, &layer->attn_norm, p->n_tokens, NULL);
    for (size_t i = 0; i < n; i++) {
        items[i] = mr_product(&in, &r->in[i], b->mix + at, false);
        items[i].ldy = r->n_in;
        at += mr_matrix_n_out(r->in[i].w);
    }
    mr_matmul(worker, items, n, p->n_tokens);
    mr_barrier(worker);
}

/* A run as compute/recurrent.h takes it. */
static mr_state_run run_of(const mr_pass *p, size_t i) {
    const mr_batch_run *run = &p->runs[i];
    return (mr_state_run){.first_token = p->run_first[i],
                          .n_tokens = run->n_tokens,
                          .n_mid = run->n_mid,
                          .state = run->pos0 > 0 ? run->state.data : NULL,
                          .state_out = run->state_out.data,
                          .state_mid = run->state_mid.data};
}

static void convolve(const mr_pass *p, mr_worker *worker, const mr_recurrent *r) {
    const mr_conv_args args = {.mix = p->model->buffers.mix,
                               .n_in = r->n_in,
                               .conv_from = r->conv_from,
                               .n_conv = r->n_conv,
                               .width = p->model->hparams.conv_width,
                               .gated = r->kind == MR_MIXER_CONV,
                               .weight = r->conv_weight,
                               .bias = r->conv_bias,
                               .state_at = r->conv_at,
                               .out = p->model->buffers.conv};
    size_t n_parts = (r->n_conv + MR_CONV_PART - 1) / MR_CONV_PART;
    mr_loop loop = mr_loop_begin(worker, p->n_runs * n_parts, 1);
    for (size_t i, end; mr_loop_next(&loop, &i, &end);) {
        size_t first = i % n_parts * MR_CONV_PART, left = r->n_conv - first;
        const mr_state_run run = run_of(p, i / n_parts);
        mr_convolve_run(&args, &run, first, left < MR_CONV_PART ? left : MR_CONV_PART);
    }
    mr_barrier(worker);
}

mr_scan_args mr_recurrent_scan(const mr_hparams *h, const mr_recurrent *r, const float *mix, const float *conv,
                               float *out) {
    return (mr_scan_args){.delta = r->kind == MR_MIXER_DELTA,
                          .mix = mix,
                          .conv = conv,
                          .n_in = r->n_in,
                          .n_conv = r->n_conv,
                          .n_inner = r->n_inner,
                          .conv_from = r->conv_from,
                          .z_from = r->z_from,
                          .betas_by_group = r->betas_by_group,
                          .value_heads_tiled = h->value_heads_tiled,
                          .n_head = h->n_head_mix,
                          .n_group = h->n_group_mix,
                          .dim_k = h->dim_k_mix,
                          .dim_v = h->dim_v_mix,
                          .dt_bias = r->dt_bias,
                          .a = r->a,
                          .d = r->d,
                          .norm = r->norm,
                          .eps = h->norm_eps,
                          .state_at = r->heads_at,
                          .out = out};
}

static void scan(const mr_pass *p, mr_worker *worker, const mr_recurrent *r) {
    const mr_forward_buffers *b = &p->model->buffers;
    const mr_scan_args args = mr_recurrent_scan(&p->model->hparams, r, b->mix, b->conv, b->mixed);
    size_t n_heads = p->model->hparams.n_head_mix;
    float *scratch = (float *)(void *)(mr_private_data(p, worker) + p->model->buffers.private_norm);
    mr_loop loop = mr_loop_begin(worker, p->n_runs * n_heads, 1);
    for (size_t i, end; mr_loop_next(&loop, &i, &end);) {
        const mr_state_run run = run_of(p, i / n_heads);
        mr_scan_head(&args, &run, i % n_heads, scratch);
    }
    mr_barrier(worker);
    if (args.delta) return;
    size_t begin, end;
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) mr_scan_finish(&args, t);
    mr_barrier(worker);
}

void mr_recurrent_block(const mr_pass *p, mr_worker *worker, uint32_t il) {
    const mr_forward_buffers *b = &p->model->buffers;
    const mr_layer *layer = &p->model->layers[il];
    const mr_recurrent *r = layer->recurrent;
    project(p, worker, layer);
    convolve(p, worker, r);
    if (r->kind != MR_MIXER_CONV) scan(p, worker, r);
    mr_inputs out = {0};
    mr_want_input(&out, r->out.w);
    mr_prepare_inputs(p, worker, &out, r->kind == MR_MIXER_CONV ? b->conv : b->mixed, r->n_inner, NULL, p->n_tokens,
                      NULL);
    mr_add_block(p, worker, &out, &r->out, &layer->attn_post_norm);
}
