#include "compute/recurrent.h"

#include "compute/ops.h"

#include <math.h>
#include <string.h>

/* The state of a run at a layer's place of it: before the run, NULL at a text's begin. */
static const float *state_before(const mr_state_run *run, size_t at) {
    return run->state != NULL ? run->state + at : NULL;
}

/* ---- the convolution
 * -------------------------------------------------------------------------------------------------- */

/* Channels of a run. Row i of the inputs is that of token i, and rows before the run come from the state. */
typedef struct channels {
    const mr_conv_args *a;
    size_t n;
    const float *past; /* [width - 1, n_conv] from the first channel on, or NULL */
    const float *x;    /* row 0, from the first channel on */
} channels;

static const float *row_of(const channels *c, ptrdiff_t i) {
    static const float zeros[MR_CONV_PART];
    if (i >= 0) return c->x + (size_t)i * c->a->n_in;
    return c->past == NULL ? zeros : c->past + ((ptrdiff_t)c->a->width - 1 + i) * (ptrdiff_t)c->a->n_conv;
}

/* Stores the last inputs before token n_tokens; `to` may be the past. */
static void store_past(const channels *c, size_t n_tokens, float *to) {
    size_t n_before = c->a->width - 1;
    for (size_t j = 0; j < n_before; j++) {
        const float *row = row_of(c, (ptrdiff_t)(n_tokens + j) - (ptrdiff_t)n_before);
        memmove(to + j * c->a->n_conv, row, c->n * sizeof *to);
    }
}

void mr_convolve_run(const mr_conv_args *a, const mr_state_run *run, size_t first, size_t n) {
    const mr_ops *ops = mr_ops_active();
    float *mix = a->mix + run->first_token * a->n_in, *x = mix + a->conv_from + first;
    const float *rows[MR_MAX_CONV_WIDTH];
    channels c = {.a = a, .n = n, .past = state_before(run, a->state_at + first), .x = x};
    for (size_t t = 0; a->gated && t < run->n_tokens; t++) {
        const float *gate = mix + t * a->n_in + first;
        for (size_t i = 0; i < n; i++) x[t * a->n_in + i] *= gate[i];
    }
    for (size_t t = 0; t < run->n_tokens; t++) {
        float *out = a->out + (run->first_token + t) * a->n_conv + first;
        for (size_t j = 0; j < a->width; j++) rows[j] = row_of(&c, (ptrdiff_t)(t + j + 1) - (ptrdiff_t)a->width);
        const float *bias = a->bias != NULL ? a->bias + first : NULL;
        ops->conv1d(rows, a->width, a->weight + first, a->n_conv, bias, n, out);
        if (!a->gated) {
            ops->glu(MR_GLU_SILU, out, NULL, n, out);
            continue;
        }
        const float *gate = mix + t * a->n_in + a->n_conv + first;
        for (size_t i = 0; i < n; i++) out[i] *= gate[i];
    }
    if (run->n_mid > 0) store_past(&c, run->n_mid, run->state_mid + a->state_at + first);
    store_past(&c, run->n_tokens, run->state_out + a->state_at + first);
}

/* ---- the recurrence
 * --------------------------------------------------------------------------------------------------- */

static float softplus(float x) {
    return x > 20.0f ? x : log1pf(expf(x));
}

static void mamba_token(const mr_scan_args *a, size_t head, size_t token, const float *from, float *to,
                        float *scratch) {
    const mr_ops *ops = mr_ops_active();
    const float *row = a->conv + token * a->n_conv, *x = row + head * a->dim_v;
    size_t group = head / (a->n_head / a->n_group);
    const float *b = row + a->n_inner + group * a->dim_k, *c = b + (size_t)a->n_group * a->dim_k;
    float *y = a->out + token * a->n_inner + head * a->dim_v;
    float dt = softplus(a->mix[token * a->n_in + a->conv_from + a->n_conv + head] + a->dt_bias[head]);
    for (size_t i = 0; i < a->dim_v; i++) scratch[i] = dt * x[i];
    ops->ssd_step(from, to, expf(dt * a->a[head]), scratch, b, c, a->dim_k, a->dim_v, y);
    ops->add_scaled(y, x, a->d[head], a->dim_v);
}

/* out = factor * x / |x| */
static void to_length(const mr_ops *ops, const float *x, size_t n, float factor, float *out) {
    ops->rms_norm(x, NULL, n, 1e-6f / (float)n, out);
    ops->scale(out, factor / sqrtf((float)n), n);
}

static void delta_token(const mr_scan_args *a, size_t head, size_t token, const float *from, float *to,
                        float *scratch) {
    const mr_ops *ops = mr_ops_active();
    size_t dk = a->dim_k, dv = a->dim_v, n_each = a->n_head / a->n_group;
    size_t group = a->value_heads_tiled ? head % a->n_group : head / n_each;
    const float *row = a->conv + token * a->n_conv, *mix = a->mix + token * a->n_in;
    const float *q = row + group * dk, *k = q + a->n_group * dk, *v = row + 2 * a->n_group * dk + head * dv;
    const float *betas = mix + a->z_from + a->n_inner;
    size_t beta_at = a->betas_by_group ? head / n_each * 2 * n_each + head % n_each : head;
    float beta = betas[beta_at], alpha = betas[beta_at + (a->betas_by_group ? n_each : a->n_head)];
    float *y = a->out + token * a->n_inner + head * dv;
    ops->sigmoid(&beta, 1);
    to_length(ops, q, dk, 1.0f / sqrtf((float)dk), scratch);
    to_length(ops, k, dk, 1.0f, scratch + dk);
    float decay = expf(a->a[head] * softplus(alpha + a->dt_bias[head]));
    ops->delta_step(from, to, decay, beta, scratch, scratch + dk, v, dk, dv, y);
    ops->rms_norm(y, a->norm, dv, a->eps, y);
    ops->glu(MR_GLU_SILU, mix + a->z_from + head * dv, y, dv, y);
}

void mr_scan_head(const mr_scan_args *a, const mr_state_run *run, size_t head, float *scratch) {
    size_t n = (size_t)a->dim_k * a->dim_v, at = a->state_at + head * n;
    const float *from = state_before(run, at);
    for (size_t t = 0; t < run->n_tokens; t++) {
        float *to = (t < run->n_mid ? run->state_mid : run->state_out) + at;
        if (from == NULL) from = memset(to, 0, n * sizeof *to);
        if (a->delta)
            delta_token(a, head, run->first_token + t, from, to, scratch);
        else
            mamba_token(a, head, run->first_token + t, from, to, scratch);
        from = to;
    }
}

void mr_scan_finish(const mr_scan_args *a, size_t t) {
    const mr_ops *ops = mr_ops_active();
    size_t n = a->n_inner / a->n_group;
    float *y = a->out + t * a->n_inner;
    ops->glu(MR_GLU_SILU, a->mix + t * a->n_in + a->z_from, y, a->n_inner, y);
    for (size_t g = 0; g < a->n_group; g++) ops->rms_norm(y + g * n, a->norm + g * n, n, a->eps, y + g * n);
}
