/* Layers with a recurrent state: gated short convolutions, Mamba-2, gated delta nets.
 *
 * Projections are made for all tokens at once; then the convolution goes channel by channel and the recurrence head by
 * head through the tokens of a run, in order. So what a token gets depends on the state and the tokens before it, never
 * on chunks or company. */
#include "model/forward.h"

#include <math.h>
#include <string.h>

enum { CONV_PART = 256, MAX_WIDTH = 16 };

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

/* The state of a run at a layer's place of it: before the run, NULL at a text's begin. */
static const float *state_before(const mr_batch_run *run, size_t at) {
    return run->pos0 > 0 ? run->state + at : NULL;
}

/* ---- the convolution
 * -------------------------------------------------------------------------------------------------- */

/* Channels of a run. Row i of the inputs is that of token i, and rows before the run come from the state. */
typedef struct channels {
    const mr_recurrent *r;
    size_t first, n, n_before; /* n_before: width - 1 */
    const float *past;         /* [n_before, n_conv] from the first channel on, or NULL */
    const float *x;            /* row 0, from the first channel on */
} channels;

static const float *row_of(const channels *c, ptrdiff_t i) {
    static const float zeros[CONV_PART];
    if (i >= 0) return c->x + (size_t)i * c->r->n_in;
    return c->past == NULL ? zeros : c->past + ((ptrdiff_t)c->n_before + i) * (ptrdiff_t)c->r->n_conv;
}

/* Stores the last inputs before token n_tokens; `to` may be the past. */
static void store_past(const channels *c, size_t n_tokens, float *to) {
    for (size_t j = 0; j < c->n_before; j++) {
        const float *row = row_of(c, (ptrdiff_t)(n_tokens + j) - (ptrdiff_t)c->n_before);
        memmove(to + j * c->r->n_conv, row, c->n * sizeof *to);
    }
}

static void convolve_run(const mr_pass *p, const mr_recurrent *r, size_t run_index, size_t first, size_t n) {
    const mr_model *model = p->model;
    const mr_batch_run *run = &p->runs[run_index];
    size_t token0 = p->run_first[run_index], width = model->hparams.conv_width;
    float *mix = model->buffers.mix + token0 * r->n_in, *x = mix + r->conv_from + first;
    const float *past = state_before(run, r->conv_at + first), *rows[MAX_WIDTH];
    channels c = {.r = r, .first = first, .n = n, .n_before = width - 1, .past = past, .x = x};
    bool gated = r->kind == MR_MIXER_CONV;
    for (size_t t = 0; gated && t < run->n_tokens; t++) {
        const float *gate = mix + t * r->n_in + first;
        for (size_t i = 0; i < n; i++) x[t * r->n_in + i] *= gate[i];
    }
    for (size_t t = 0; t < run->n_tokens; t++) {
        float *out = model->buffers.conv + (token0 + t) * r->n_conv + first;
        for (size_t j = 0; j < width; j++) rows[j] = row_of(&c, (ptrdiff_t)(t + j) - (ptrdiff_t)c.n_before);
        const float *bias = r->conv_bias != NULL ? r->conv_bias + first : NULL;
        model->ops->conv1d(rows, width, r->conv_weight + first, r->n_conv, bias, n, out);
        if (!gated) {
            model->ops->glu(MR_GLU_SILU, out, NULL, n, out);
            continue;
        }
        const float *gate = mix + t * r->n_in + r->n_conv + first;
        for (size_t i = 0; i < n; i++) out[i] *= gate[i];
    }
    if (run->n_mid > 0) store_past(&c, run->n_mid, run->state_mid + r->conv_at + first);
    store_past(&c, run->n_tokens, run->state_out + r->conv_at + first);
}

static void convolve(const mr_pass *p, mr_worker *worker, const mr_recurrent *r) {
    size_t n_parts = (r->n_conv + CONV_PART - 1) / CONV_PART;
    mr_loop loop = mr_loop_begin(worker, p->n_runs * n_parts, 1);
    for (size_t i, end; mr_loop_next(&loop, &i, &end);) {
        size_t first = i % n_parts * CONV_PART, left = r->n_conv - first;
        convolve_run(p, r, i / n_parts, first, left < CONV_PART ? left : CONV_PART);
    }
    mr_barrier(worker);
}

/* ---- the recurrence
 * --------------------------------------------------------------------------------------------------- */

static float softplus(float x) {
    return x > 20.0f ? x : log1pf(expf(x));
}

static void mamba_token(const mr_model *model, const mr_recurrent *r, size_t head, size_t token, const float *from,
                        float *to, float *scratch) {
    const mr_hparams *h = &model->hparams;
    const float *row = model->buffers.conv + token * r->n_conv, *x = row + head * h->dim_v_mix;
    size_t group = head / (h->n_head_mix / h->n_group_mix);
    const float *b = row + r->n_inner + group * h->dim_k_mix, *c = b + (size_t)h->n_group_mix * h->dim_k_mix;
    float *y = model->buffers.mixed + token * r->n_inner + head * h->dim_v_mix;
    float dt = softplus(model->buffers.mix[token * r->n_in + r->conv_from + r->n_conv + head] + r->dt_bias[head]);
    for (size_t i = 0; i < h->dim_v_mix; i++) scratch[i] = dt * x[i];
    model->ops->ssd_step(from, to, expf(dt * r->a[head]), scratch, b, c, h->dim_k_mix, h->dim_v_mix, y);
    model->ops->add_scaled(y, x, r->d[head], h->dim_v_mix);
}

/* out = factor * x / |x| */
static void to_length(const mr_ops *ops, const float *x, size_t n, float factor, float *out) {
    ops->rms_norm(x, NULL, n, 1e-6f / (float)n, out);
    ops->scale(out, factor / sqrtf((float)n), n);
}

static void delta_token(const mr_model *model, const mr_recurrent *r, size_t head, size_t token, const float *from,
                        float *to, float *scratch) {
    const mr_hparams *h = &model->hparams;
    size_t dk = h->dim_k_mix, dv = h->dim_v_mix, n_each = h->n_head_mix / h->n_group_mix;
    size_t group = h->value_heads_tiled ? head % h->n_group_mix : head / n_each;
    const float *row = model->buffers.conv + token * r->n_conv, *mix = model->buffers.mix + token * r->n_in;
    const float *q = row + group * dk, *k = q + h->n_group_mix * dk, *v = row + 2 * h->n_group_mix * dk + head * dv;
    const float *betas = mix + r->z_from + r->n_inner;
    size_t beta_at = r->betas_by_group ? head / n_each * 2 * n_each + head % n_each : head;
    float beta = betas[beta_at], alpha = betas[beta_at + (r->betas_by_group ? n_each : h->n_head_mix)];
    float *y = model->buffers.mixed + token * r->n_inner + head * dv;
    model->ops->sigmoid(&beta, 1);
    to_length(model->ops, q, dk, 1.0f / sqrtf((float)dk), scratch);
    to_length(model->ops, k, dk, 1.0f, scratch + dk);
    float decay = expf(r->a[head] * softplus(alpha + r->dt_bias[head]));
    model->ops->delta_step(from, to, decay, beta, scratch, scratch + dk, v, dk, dv, y);
    model->ops->rms_norm(y, r->norm, dv, h->norm_eps, y);
    model->ops->glu(MR_GLU_SILU, mix + r->z_from + head * dv, y, dv, y);
}

/* One head of a run. */
static void scan_head(const mr_pass *p, const mr_recurrent *r, size_t run_index, size_t head, float *scratch) {
    const mr_hparams *h = &p->model->hparams;
    const mr_batch_run *run = &p->runs[run_index];
    size_t n = (size_t)h->dim_k_mix * h->dim_v_mix, at = r->heads_at + head * n;
    const float *from = state_before(run, at);
    for (size_t t = 0; t < run->n_tokens; t++) {
        float *to = (t < run->n_mid ? run->state_mid : run->state_out) + at;
        if (from == NULL) from = memset(to, 0, n * sizeof *to);
        size_t token = p->run_first[run_index] + t;
        if (r->kind == MR_MIXER_MAMBA2)
            mamba_token(p->model, r, head, token, from, to, scratch);
        else
            delta_token(p->model, r, head, token, from, to, scratch);
        from = to;
    }
}

/* Mamba-2's gate, and the norm of each group behind it. */
static void finish_mamba(const mr_pass *p, mr_worker *worker, const mr_recurrent *r) {
    const mr_model *model = p->model;
    size_t n_groups = model->hparams.n_group_mix, n = r->n_inner / n_groups, begin, end;
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        float *y = model->buffers.mixed + t * r->n_inner;
        model->ops->glu(MR_GLU_SILU, model->buffers.mix + t * r->n_in + r->z_from, y, r->n_inner, y);
        for (size_t g = 0; g < n_groups; g++)
            model->ops->rms_norm(y + g * n, r->norm + g * n, n, model->hparams.norm_eps, y + g * n);
    }
    mr_barrier(worker);
}

static void scan(const mr_pass *p, mr_worker *worker, const mr_recurrent *r) {
    size_t n_heads = p->model->hparams.n_head_mix;
    float *scratch = (float *)(void *)(mr_private_data(p, worker) + p->model->buffers.private_norm);
    mr_loop loop = mr_loop_begin(worker, p->n_runs * n_heads, 1);
    for (size_t i, end; mr_loop_next(&loop, &i, &end);) scan_head(p, r, i / n_heads, i % n_heads, scratch);
    mr_barrier(worker);
    if (r->kind == MR_MIXER_MAMBA2) finish_mamba(p, worker, r);
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
