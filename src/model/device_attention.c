#include "model/device.h"

/* ---- queries and keys
 * ------------------------------------------------------------------------------------------------- */

/* The norm of all heads of a token together. */
static void norm_whole(const mr_device_pass *p, const mr_layer *layer, const mr_head_norm *norm, float *x) {
    if (norm->weight == NULL || norm->dim == layer->dims.head_dim_k) return;
    const mr_norm_args args = {.layer = p->model->hparams.arch->norm == MR_NORM_LAYER,
                               .x = x,
                               .ld_x = norm->dim,
                               .out = x,
                               .ld_out = norm->dim,
                               .n_rows = p->batch.n_tokens,
                               .n_groups = 1,
                               .step = norm->dim,
                               .n = norm->dim,
                               .weight = norm->weight,
                               .eps = p->model->hparams.norm_eps};
    p->ops->norm(p->backend, &args);
}

/* Norm and rotation of heads. */
static mr_heads_end_args heads_end_args(const mr_device_pass *p, const mr_layer *layer, const mr_head_norm *norm,
                                        float *x, size_t n_heads) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    mr_heads_end_args args = {.x = x,
                              .n_heads = n_heads,
                              .dim = layer->dims.head_dim_k,
                              .layer = h->arch->norm == MR_NORM_LAYER,
                              .norm_late = h->arch->qk_norm_after_rope,
                              .eps = h->norm_eps,
                              .rot_from = h->rot_from,
                              .neox = h->rope_neox,
                              .batch = &p->batch};
    if (norm->weight != NULL && norm->dim == layer->dims.head_dim_k) {
        args.norm_weight = norm->weight;
        args.weight_step = norm->weight_step;
    }
    if (layer->rope >= 0) {
        args.cosines = b->cosines[layer->rope];
        args.sines = b->sines[layer->rope];
        args.n_pairs = p->model->ropes[layer->rope].n_rot / 2;
    }
    return args;
}

static void copy_heads(const mr_device_pass *p, const float *from, size_t ld_from, float *to, size_t ld_to, size_t n,
                       size_t n_heads) {
    const mr_copy_rows_args args = {
        .from = from, .ld_from = ld_from, .to = to, .ld_to = ld_to, .n_rows = p->batch.n_tokens * n_heads, .n = n};
    p->ops->copy_rows(p->backend, &args);
}

static mr_kv_view kv_of(const mr_device_pass *p, uint32_t il) {
    size_t offset;
    mr_kv_view view = {.layout = mr_layer_kv_layout(p->model, p->pool->layout.type, il, &offset)};
    view.layout.block_bytes = p->pool->device_block_bytes;
    view.data = p->pool->device_data + offset;
    return view;
}

/* Norms, rotates and stores keys and values. */
static void finish_keys_values(const mr_device_pass *p, const mr_layer *layer, uint32_t il) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    mr_heads_end_args args = heads_end_args(p, layer, &layer->k_norm, b->k, layer->dims.n_head_kv);
    args.kv = kv_of(p, il);
    args.v = layer->v.w != NULL ? b->v : NULL;
    args.v_norm = h->arch->v_norm;
    if (layer->mla != NULL) {
        args.layer = args.norm_late = false;
        args.norm_weight = layer->mla->kv_norm;
        args.weight_step = 0;
        args.latent = h->kv_lora_rank;
    }
    p->ops->heads_end(p->backend, &args);
}

static void finish_queries(const mr_device_pass *p, const mr_layer *layer) {
    const mr_hparams *h = &p->model->hparams;
    mr_heads_end_args args = heads_end_args(p, layer, &layer->q_norm, p->device->buffers.q, h->n_head);
    args.temperature = h->attn_temperature_scale;
    args.period = h->rope_n_ctx_orig;
    p->ops->heads_end(p->backend, &args);
}

/* ---- attention with compressed keys and values
 * ---------------------------------------------------------------------------------------------------------------- */

static void mla_queries(const mr_device_pass *p, const mr_layer *layer, const float *in) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    const mr_mla *mla = layer->mla;
    bool direct = mla->q_down.w == NULL;
    const mr_product_args down[] = {direct ? mr_device_product(&layer->q, in, b->q_heads)
                                           : mr_device_product(&mla->q_down, in, b->q_latent),
                                    mr_device_product(&mla->kv_down, in, b->k)};
    p->ops->products(p->backend, down, 2, p->batch.n_tokens);
    if (!direct) {
        const float *latent =
            mr_device_norm(p, &mla->q_norm, b->q_latent, b->q_latent, h->q_lora_rank, p->batch.n_tokens);
        const mr_product_args up = mr_device_product(&mla->q_up, latent, b->q_heads);
        p->ops->products(p->backend, &up, 1, p->batch.n_tokens);
    }
    size_t head_dim = (size_t)h->n_nope + h->n_rot;
    copy_heads(p, b->q_heads + h->n_nope, head_dim, b->q + h->rot_from, h->head_dim_k, h->n_rot, h->n_head);
    const mr_heads_args heads = {.stack = layer->device->k_up,
                                 .x = b->q_heads,
                                 .ld_x = h->n_head * head_dim,
                                 .x_step = head_dim,
                                 .y = b->q,
                                 .ld_y = (size_t)h->n_head * h->head_dim_k,
                                 .y_step = h->head_dim_k,
                                 .n_tokens = p->batch.n_tokens};
    p->ops->heads(p->backend, &heads);
}

static void mla_values(const mr_device_pass *p, const mr_layer *layer) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    const mr_heads_args heads = {.stack = layer->device->v_up,
                                 .x = b->attn,
                                 .ld_x = (size_t)h->n_head * h->head_dim_v,
                                 .x_step = h->head_dim_v,
                                 .y = b->v_heads,
                                 .ld_y = (size_t)h->n_head * h->mla_dim_v,
                                 .y_step = h->mla_dim_v,
                                 .n_tokens = p->batch.n_tokens};
    p->ops->heads(p->backend, &heads);
}

/* ---- the block
 * -------------------------------------------------------------------------------------------------------- */

static void project(const mr_device_pass *p, const mr_layer *layer) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    const float *in = mr_device_norm(p, &layer->attn_norm, b->x, b->normed, h->n_embd, p->batch.n_tokens);
    if (layer->mla != NULL) {
        mla_queries(p, layer, in);
        return;
    }
    bool gated = h->arch->gated_attention, queries = p->attention != MR_ATTENTION_KEYS;
    bool keys = layer->k.w != NULL && p->attention != MR_ATTENTION_QUERIES;
    mr_product_args qkv[3];
    size_t n = 0;
    if (queries) qkv[n++] = mr_device_product(&layer->q, in, gated ? b->q_gates : b->q);
    if (keys) qkv[n++] = mr_device_product(&layer->k, in, b->k);
    if (keys && layer->v.w != NULL) qkv[n++] = mr_device_product(&layer->v, in, b->v);
    p->ops->products(p->backend, qkv, n, p->batch.n_tokens);
    if (h->arch->ffn_parallel) mr_device_ffn_hidden(p, layer, in);
    size_t dk = layer->dims.head_dim_k;
    if (gated) copy_heads(p, b->q_gates, 2 * dk, b->q, dk, dk, h->n_head);
    if (queries) norm_whole(p, layer, &layer->q_norm, b->q);
    if (keys) norm_whole(p, layer, &layer->k_norm, b->k);
}

static void apply_gates(const mr_device_pass *p, const mr_layer *layer) {
    const mr_device_buffers *b = &p->device->buffers;
    size_t n = layer->dims.head_dim_k;
    const mr_gate_args args = {.out = b->attn,
                               .ld_out = n,
                               .gate = b->q_gates + n,
                               .ld_gate = 2 * n,
                               .n_rows = (size_t)p->batch.n_tokens * p->model->hparams.n_head,
                               .n = n};
    p->ops->gate(p->backend, &args);
}

void mr_device_attention(const mr_device_pass *p, uint32_t il) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    const mr_layer *layer = &p->model->layers[il];
    project(p, layer);
    if (p->attention != MR_ATTENTION_KEYS) finish_queries(p, layer);
    if (layer->kv_source == il && p->attention != MR_ATTENTION_QUERIES) finish_keys_values(p, layer, il);
    if (p->attention == MR_ATTENTION_KEYS) return;
    const mr_attend_args args = {.kv = kv_of(p, il),
                                 .q = b->q,
                                 .out = b->attn,
                                 .n_head = h->n_head,
                                 .scale = h->attn_scale,
                                 .softcap = h->attn_softcap,
                                 .window = layer->window,
                                 .sinks = layer->sinks,
                                 .whole = h->arch->encoder,
                                 .batch = &p->batch};
    p->ops->attend(p->backend, &args);
    if (layer->mla != NULL) mla_values(p, layer);
    if (h->arch->gated_attention) apply_gates(p, layer);
    mr_device_add_block(p, layer->mla != NULL ? b->v_heads : b->attn, &layer->o, &layer->attn_post_norm);
    mr_device_norm_stream(p, &layer->attn_sum_norm);
}
