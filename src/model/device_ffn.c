#include "model/device.h"

static void activate(const mr_device_pass *p, const mr_layer *layer, bool with_up) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    size_t n = layer->dims.n_ff;
    if (h->arch->xielu) {
        const mr_xielu_args args = {.x = b->h,
                                    .n = n * p->batch.n_tokens,
                                    .alpha_p = layer->xielu.alpha_p,
                                    .alpha_n = layer->xielu.alpha_n,
                                    .beta = layer->xielu.beta,
                                    .eps = layer->xielu.eps};
        p->ops->xielu(p->backend, &args);
        return;
    }
    const mr_activate_args args = {.act = h->arch->act,
                                   .gate = b->h,
                                   .ld_gate = n,
                                   .up = with_up ? b->h_up : NULL,
                                   .ld_up = n,
                                   .out = b->h,
                                   .ld_out = n,
                                   .n_rows = p->batch.n_tokens,
                                   .n = n};
    p->ops->activate(p->backend, &args);
}

void mr_device_ffn_hidden(const mr_device_pass *p, const mr_layer *layer, const float *in) {
    const mr_device_buffers *b = &p->device->buffers;
    if (layer->gate.w == NULL) {
        const mr_product_args up = mr_device_product(&layer->up, in, b->h);
        p->ops->products(p->backend, &up, 1, p->batch.n_tokens);
        activate(p, layer, false);
    } else if (layer->sparsity != 0.0f || layer->gate.bias != NULL || layer->up.bias != NULL) {
        const mr_product_args items[] = {mr_device_product(&layer->gate, in, b->h),
                                         mr_device_product(&layer->up, in, b->h_up)};
        p->ops->products(p->backend, items, 2, p->batch.n_tokens);
        if (layer->sparsity != 0.0f)
            p->ops->cut(p->backend, b->h, p->batch.n_tokens, layer->dims.n_ff, layer->sparsity);
        activate(p, layer, true);
    } else {
        const mr_gated_args args = {.gate = layer->gate.w,
                                    .up = layer->up.w,
                                    .act = p->model->hparams.arch->act,
                                    .x = in,
                                    .ld_x = p->model->hparams.n_embd,
                                    .y = b->h,
                                    .ld_y = layer->dims.n_ff,
                                    .scratch = b->h_up};
        p->ops->gated(p->backend, &args, p->batch.n_tokens);
    }
}

void mr_device_ffn(const mr_device_pass *p, uint32_t il) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    const mr_layer *layer = &p->model->layers[il];
    if (layer->experts != NULL) {
        mr_device_experts(p, layer);
        return;
    }
    if (!h->arch->ffn_parallel) {
        const float *in = mr_device_norm(p, &layer->ffn_norm, b->x, b->normed, h->n_embd, p->batch.n_tokens);
        mr_device_ffn_hidden(p, layer, in);
    }
    mr_device_add_block(p, b->h, &layer->down, &layer->ffn_post_norm);
    mr_device_norm_stream(p, &layer->ffn_sum_norm);
}

/* ---- experts
 * ---------------------------------------------------------------------------------------------------------- */

static void route(const mr_device_pass *p, const mr_experts *e, const float *in) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    mr_product_args routers[2] = {mr_device_product(&e->router, in, b->router)};
    if (e->shared_router.w != NULL) routers[1] = mr_device_product(&e->shared_router, in, b->shared_weight);
    p->ops->products(p->backend, routers, e->shared_router.w != NULL ? 2 : 1, p->batch.n_tokens);
    const mr_route_args args = {.scores = b->router,
                                .choice_bias = e->choice_bias,
                                .scales = e->scales,
                                .n_tokens = p->batch.n_tokens,
                                .n_expert = h->n_expert,
                                .n_used = h->n_expert_used,
                                .n_group = h->n_expert_group,
                                .n_group_used = h->n_group_used,
                                .routing = (mr_routing)h->gating, /* the same numbers */
                                .normed = h->experts_normed,
                                .factor = h->expert_scale,
                                .chosen = b->chosen,
                                .weights = b->chosen_weight};
    p->ops->route(p->backend, &args);
}

static void shared_hidden(const mr_device_pass *p, const mr_experts *e, const float *in, float *h_shared) {
    if (e->shared_down.w == NULL) return;
    const mr_gated_args args = {.gate = e->shared_gate.w,
                                .up = e->shared_up.w,
                                .act = p->model->hparams.arch->act,
                                .x = in,
                                .ld_x = p->model->hparams.n_embd,
                                .y = h_shared,
                                .ld_y = e->n_ff_shared,
                                .scratch = p->device->buffers.h_up + (h_shared - p->device->buffers.h)};
    p->ops->gated(p->backend, &args, p->batch.n_tokens);
}

static void expert_hidden(const mr_device_pass *p, const mr_layer *layer, const mr_slots *slots, const float *in) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    const mr_experts *e = layer->experts;
    const struct mr_device_layer *stacks = layer->device;
    if (e->gate_bias == NULL && e->up_bias == NULL) {
        const mr_expert_gated_args args = {.slots = slots,
                                           .gate = stacks->gate,
                                           .up = stacks->up,
                                           .act = h->arch->act,
                                           .x = in,
                                           .ld_x = h->n_embd,
                                           .y = b->h,
                                           .ld_y = h->n_ff_expert,
                                           .scratch = b->h_up};
        p->ops->expert_gated(p->backend, &args);
        return;
    }
    mr_expert_product_args items[2] = {{.slots = slots,
                                        .stack = stacks->gate,
                                        .bias = e->gate_bias,
                                        .x = in,
                                        .ld_x = h->n_embd,
                                        .y = b->h,
                                        .ld_y = h->n_ff_expert}};
    items[1] = items[0];
    items[1].stack = stacks->up;
    items[1].bias = e->up_bias;
    items[1].y = b->h_up;
    p->ops->expert_products(p->backend, items, 2);
    const mr_activate_args act = {.act = h->arch->act,
                                  .gate = b->h,
                                  .ld_gate = h->n_ff_expert,
                                  .up = b->h_up,
                                  .ld_up = h->n_ff_expert,
                                  .out = b->h,
                                  .ld_out = h->n_ff_expert,
                                  .n_rows = slots->n_tokens * slots->n_used,
                                  .n = h->n_ff_expert};
    p->ops->activate(p->backend, &act);
}

/* What the shared expert makes of h_shared, into `shared`. */
static void shared_output(const mr_device_pass *p, const mr_experts *e, const float *h_shared, float *shared) {
    if (e->shared_down.w == NULL) return;
    const mr_product_args down = mr_device_product(&e->shared_down, h_shared, shared);
    p->ops->products(p->backend, &down, 1, p->batch.n_tokens);
    mr_device_norm(p, &e->shared_post_norm, shared, shared, p->model->hparams.n_embd, p->batch.n_tokens);
}

/* x += factor * y, [tokens, n_embd]. */
static void add_tokens(const mr_device_pass *p, float *x, const float *y, float factor) {
    size_t n = p->model->hparams.n_embd;
    const mr_add_args add = {
        .x = x, .ld_x = n, .y = y, .ld_y = n, .factor = factor, .n_rows = p->batch.n_tokens, .n = n};
    p->ops->add(p->backend, &add);
}

/* sum += what the shared expert made, by its router's weight where it has one. */
static void add_shared(const mr_device_pass *p, const mr_experts *e, const float *shared) {
    const mr_device_buffers *b = &p->device->buffers;
    const mr_slots none = {.n_tokens = p->batch.n_tokens};
    const mr_combine_args weighted = {.slots = &none,
                                      .shared = shared,
                                      .shared_weight = b->shared_weight,
                                      .n = p->model->hparams.n_embd,
                                      .out = b->block};
    if (e->shared_router.w != NULL) p->ops->combine(p->backend, &weighted);
    add_tokens(p, b->sum, e->shared_router.w != NULL ? b->block : shared, 1.0f);
}

void mr_device_experts(const mr_device_pass *p, const mr_layer *layer) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    const mr_experts *e = layer->experts;
    size_t n_tokens = p->batch.n_tokens, n_slots = n_tokens * h->n_expert_used;
    float *h_shared = b->h + n_slots * h->n_ff_expert, *shared = b->block + n_slots * h->n_embd;
    bool own_norms = e->router_norm.weight != NULL;
    const float *in =
        mr_device_norm(p, own_norms ? &e->router_norm : &layer->ffn_norm, b->x, b->normed, h->n_embd, n_tokens);
    route(p, e, in);
    if (own_norms) in = mr_device_norm(p, &layer->ffn_norm, b->x, b->normed, h->n_embd, n_tokens);
    shared_hidden(p, e, in, h_shared);
    if (own_norms) in = mr_device_norm(p, &e->experts_norm, b->x, b->normed, h->n_embd, n_tokens);
    const mr_slots slots = {.n_expert = h->n_expert,
                            .n_used = h->n_expert_used,
                            .n_tokens = n_tokens,
                            .chosen = b->chosen,
                            .begin = b->slot_begin,
                            .slot_token = b->slot_token,
                            .slot_of = b->slot_of};
    p->ops->slots(p->backend, &slots);
    expert_hidden(p, layer, &slots, in);
    const mr_expert_product_args down = {.slots = &slots,
                                         .stack = layer->device->down,
                                         .bias = e->down_bias,
                                         .x = b->h,
                                         .ld_x = h->n_ff_expert,
                                         .by_slot = true,
                                         .y = b->block,
                                         .ld_y = h->n_embd};
    p->ops->expert_products(p->backend, &down, 1);
    shared_output(p, e, h_shared, shared);
    /* A norm of the experts' sum stands between it and the shared expert. */
    bool apart = e->experts_post_norm.weight != NULL, has_shared = e->shared_down.w != NULL;
    const mr_combine_args combine = {.slots = &slots,
                                     .weights = b->chosen_weight,
                                     .x = b->block,
                                     .shared = has_shared && !apart ? shared : NULL,
                                     .shared_weight = e->shared_router.w != NULL ? b->shared_weight : NULL,
                                     .n = h->n_embd,
                                     .out = b->sum};
    p->ops->combine(p->backend, &combine);
    mr_device_norm(p, &e->experts_post_norm, b->sum, b->sum, h->n_embd, n_tokens);
    if (has_shared && apart) add_shared(p, e, shared);
    mr_device_norm(p, &layer->ffn_post_norm, b->sum, b->sum, h->n_embd, n_tokens);
    add_tokens(p, b->x, b->sum, h->residual_scale);
}
