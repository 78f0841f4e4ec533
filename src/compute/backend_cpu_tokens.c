/* The CPU's back end: what depends on where a token is. */
#include "compute/backend_cpu.h"

#include "compute/recurrent.h"
#include "compute/routing.h"

#include <math.h>
#include <string.h>

static mr_cpu_backend *cpu(mr_backend *b) {
    return (mr_cpu_backend *)b;
}

static void angles_rows(const void *ctx, size_t begin, size_t end, void *scratch) {
    const mr_angles_args *a = ctx;
    (void)scratch;
    for (size_t i = begin * a->n_pairs; i < end * a->n_pairs; i++) {
        float angle = (float)a->positions[i / a->n_pairs] * a->inv_freq[i % a->n_pairs];
        a->cosines[i] = (float)cos((double)angle) * a->factor;
        a->sines[i] = (float)sin((double)angle) * a->factor;
    }
}

static void angles(mr_backend *b, const mr_angles_args *a) {
    mr_cpu_for(cpu(b), a->n_tokens, 0, angles_rows, a);
}

/* ---- keys and values
 * -------------------------------------------------------------------------------------------------- */

static mr_kv_pool pool_of(const mr_kv_view *kv) {
    return (mr_kv_pool){.layout = kv->layout, .data = kv->data};
}

static void norm_head(const mr_heads_end_args *a, float *x, size_t head) {
    const mr_ops *ops = mr_ops_active();
    size_t n = a->latent > 0 ? a->latent : a->dim;
    if (a->norm_weight == NULL) return;
    if (a->layer)
        ops->layer_norm(x, a->norm_weight + head * a->weight_step, NULL, n, a->eps, x);
    else
        ops->rms_norm(x, a->norm_weight + head * a->weight_step, n, a->eps, x);
}

static void rotate_head(const mr_heads_end_args *a, float *x, size_t t) {
    if (a->cosines == NULL) return;
    mr_ops_active()->rope(x + a->rot_from, a->cosines + t * a->n_pairs, a->sines + t * a->n_pairs, a->n_pairs, a->neox);
}

static void end_heads(const void *ctx, size_t begin, size_t end, void *scratch) {
    const mr_heads_end_args *a = ctx;
    const mr_ops *ops = mr_ops_active();
    bool keys = a->kv.data != NULL;
    for (size_t i = begin; i < end; i++) {
        size_t t = i / a->n_heads, head = i % a->n_heads, dv = keys ? a->kv.layout.head_dim_v : 0;
        float *x = a->x + i * a->dim, *v = a->v != NULL ? a->v + i * dv : scratch;
        if (keys && a->v == NULL && a->latent == 0) memcpy(v, x, dv * sizeof *v);
        if (!a->norm_late) norm_head(a, x, head);
        if (keys && a->latent > 0) memcpy(v, x, dv * sizeof *v);
        rotate_head(a, x, t);
        if (a->norm_late) norm_head(a, x, head);
        if (a->temperature != 0.0f)
            ops->scale(x, 1.0f + a->temperature * logf(1.0f + (float)(a->batch->positions[t] / a->period)), a->dim);
        if (!keys) continue;
        if (a->v_norm) ops->rms_norm(v, NULL, dv, a->eps, v);
        mr_kv_pool pool = pool_of(&a->kv);
        int32_t slot = a->batch->slots[t];
        mr_kv_store(&pool, mr_kv_piece(&pool, slot / MR_KV_BLOCK, 0, (uint32_t)head), (uint32_t)slot % MR_KV_BLOCK, x,
                    v);
    }
}

static void heads_end(mr_backend *b, const mr_heads_end_args *a) {
    size_t dv = a->kv.data != NULL ? a->kv.layout.head_dim_v : 0;
    mr_cpu_for(cpu(b), a->batch->n_tokens * a->n_heads, dv * sizeof(float), end_heads, a);
}

enum { STRETCH = 32 };

/* Tokens [t0, t0 + n) of a run against one kv head. */
static void attend_stretch(const mr_attend_args *a, size_t run, uint32_t head_kv, uint32_t t0, uint32_t n,
                           float *scratch) {
    const mr_kv_layout *l = &a->kv.layout;
    mr_kv_pool pool = pool_of(&a->kv);
    uint32_t n_group = a->n_head / l->n_head_kv, head = head_kv * n_group;
    const mr_device_batch *batch = a->batch;
    size_t token = batch->first[run] + t0;
    size_t q_stride = (size_t)a->n_head * l->head_dim_k, out_stride = (size_t)a->n_head * l->head_dim_v;
    mr_attention_args args = {.pool = &pool,
                              .blocks = batch->blocks + run * batch->ld_blocks,
                              .head_kv = head_kv,
                              .n_tokens = n,
                              .pos0 = batch->pos0[run] + t0,
                              .n_group = n_group,
                              .q = a->q + token * q_stride + (size_t)head * l->head_dim_k,
                              .q_stride = q_stride,
                              .out = a->out + token * out_stride + (size_t)head * l->head_dim_v,
                              .out_stride = out_stride,
                              .scale = a->scale,
                              .softcap = a->softcap,
                              .window = a->window,
                              .sinks = a->sinks != NULL ? a->sinks + head : NULL,
                              .scratch = scratch};
    if (a->whole) args.n_text = batch->ends[run];
    mr_attention(&args);
}

static void attend_items(const void *ctx, size_t begin, size_t end, void *scratch) {
    const mr_attend_args *a = ctx;
    uint32_t n_heads = a->kv.layout.n_head_kv;
    size_t n_stretches = (a->batch->most_tokens + STRETCH - 1) / STRETCH;
    for (size_t i = begin; i < end; i++) {
        uint32_t head = (uint32_t)(i % n_heads), t0 = (uint32_t)(i / n_heads % n_stretches) * STRETCH;
        size_t run = i / n_heads / n_stretches, n_tokens = a->batch->run_tokens[run];
        if (t0 >= n_tokens) continue;
        uint32_t n = n_tokens - t0 < STRETCH ? (uint32_t)n_tokens - t0 : STRETCH;
        attend_stretch(a, run, head, t0, n, scratch);
    }
}

static void attend(mr_backend *b, const mr_attend_args *a) {
    const mr_kv_layout *l = &a->kv.layout;
    size_t n_stretches = (a->batch->most_tokens + STRETCH - 1) / STRETCH;
    mr_cpu_for(cpu(b), a->batch->n_runs * n_stretches * l->n_head_kv, mr_attention_scratch(l, a->n_head / l->n_head_kv),
               attend_items, a);
}

/* ---- experts
 * ---------------------------------------------------------------------------------------------------------- */

static void route_rows(const void *ctx, size_t begin, size_t end, void *scratch) {
    const mr_route_args *a = ctx;
    float *scores = scratch;
    mr_choice choice = {.scores = scores, .groups = (int32_t *)(scores + a->n_expert + a->n_group)};
    for (size_t t = begin; t < end; t++) mr_route_token(a, &choice, t);
}

static void route(mr_backend *b, const mr_route_args *a) {
    mr_cpu_for(cpu(b), a->n_tokens, (a->n_expert + 2 * (size_t)a->n_group) * sizeof(float), route_rows, a);
}

static void slots(mr_backend *b, const mr_slots *s) {
    (void)b;
    mr_slots_fill(s);
}

static void combine_rows(const void *ctx, size_t begin, size_t end, void *scratch) {
    const mr_combine_args *a = ctx;
    const mr_slots *s = a->slots;
    (void)scratch;
    for (size_t t = begin; t < end; t++) {
        float *out = a->out + t * a->n;
        for (size_t i = 0; i < a->n; i++) out[i] = 0.0f;
        for (size_t i = t * s->n_used; i < (t + 1) * s->n_used; i++)
            mr_ops_active()->add_scaled(out, a->x + s->slot_of[i] * a->n, a->weights[i], a->n);
        if (a->shared == NULL) continue;
        float weight = 1.0f;
        if (a->shared_weight != NULL) {
            weight = a->shared_weight[t];
            mr_ops_active()->sigmoid(&weight, 1);
        }
        mr_ops_active()->add_scaled(out, a->shared + t * a->n, weight, a->n);
    }
}

static void combine(mr_backend *b, const mr_combine_args *a) {
    mr_cpu_for(cpu(b), a->slots->n_tokens, 0, combine_rows, a);
}

/* ---- recurrent layers
 * ------------------------------------------------------------------------------------------------- */

static mr_state_run run_of(const mr_device_batch *batch, size_t i) {
    return (mr_state_run){.first_token = batch->first[i],
                          .n_tokens = batch->run_tokens[i],
                          .n_mid = batch->n_mid[i],
                          .state = batch->state_in[i],
                          .state_out = batch->state_out[i],
                          .state_mid = batch->state_mid[i]};
}

static void conv_items(const void *ctx, size_t begin, size_t end, void *scratch) {
    const mr_conv_args *a = ctx;
    size_t n_parts = (a->n_conv + MR_CONV_PART - 1) / MR_CONV_PART;
    (void)scratch;
    for (size_t i = begin; i < end; i++) {
        size_t first = i % n_parts * MR_CONV_PART, left = a->n_conv - first;
        const mr_state_run run = run_of(a->batch, i / n_parts);
        mr_convolve_run(a, &run, first, left < MR_CONV_PART ? left : MR_CONV_PART);
    }
}

static void conv(mr_backend *b, const mr_conv_args *a) {
    mr_cpu_for(cpu(b), a->batch->n_runs * ((a->n_conv + MR_CONV_PART - 1) / MR_CONV_PART), 0, conv_items, a);
}

static void scan_items(const void *ctx, size_t begin, size_t end, void *scratch) {
    const mr_scan_args *a = ctx;
    for (size_t i = begin; i < end; i++) {
        const mr_state_run run = run_of(a->batch, i / a->n_head);
        mr_scan_head(a, &run, i % a->n_head, scratch);
    }
}

static void finish_items(const void *ctx, size_t begin, size_t end, void *scratch) {
    (void)scratch;
    for (size_t t = begin; t < end; t++) mr_scan_finish(ctx, t);
}

static void scan(mr_backend *b, const mr_scan_args *a) {
    mr_cpu_for(cpu(b), (size_t)a->batch->n_runs * a->n_head, (2 * (size_t)a->dim_k + a->dim_v) * sizeof(float),
               scan_items, a);
    if (!a->delta) mr_cpu_for(cpu(b), a->batch->n_tokens, 0, finish_items, a);
}

void mr_cpu_set_tokens(mr_backend_ops *ops) {
    ops->angles = angles;
    ops->heads_end = heads_end;
    ops->attend = attend;
    ops->route = route;
    ops->slots = slots;
    ops->combine = combine;
    ops->conv = conv;
    ops->scan = scan;
}
