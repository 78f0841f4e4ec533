/* On a device: several residual streams, and the layers' own embeddings of a token. */
#include "model/device.h"

#include <math.h>

/* x[t] += factor * y[t] for rows without gaps. */
static void add_rows(const mr_device_pass *p, float *x, const float *y, float factor, size_t n) {
    const mr_add_args args = {
        .x = x, .ld_x = n, .y = y, .ld_y = n, .factor = factor, .n_rows = p->batch.n_tokens, .n = n};
    p->ops->add(p->backend, &args);
}

static void copy_tokens(const mr_device_pass *p, float *to, const float *from, size_t n) {
    const mr_copy_rows_args args = {
        .from = from, .ld_from = n, .to = to, .ld_to = n, .n_rows = p->batch.n_tokens, .n = n};
    p->ops->copy_rows(p->backend, &args);
}

/* ---- embeddings of the layers
 * -------------------------------------------------------------------------------------------- */

void mr_device_per_layer_inputs(const mr_device_pass *p) {
    const mr_model *model = p->model;
    const mr_hparams *h = &model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    size_t n = h->n_embd_per_layer, n_all = n * h->n_layer, n_tokens = p->batch.n_tokens;
    const mr_product_args item = mr_device_product(&model->per_layer.from_embd, b->x, b->per_layer);
    p->ops->products(p->backend, &item, 1, n_tokens);
    p->ops->scale(p->backend, b->per_layer, n_tokens * n_all, 1.0f / sqrtf((float)h->n_embd));
    const mr_embed_args embed = {.table = p->device->per_layer_table,
                                 .tokens = p->table_tokens,
                                 .n_tokens = n_tokens,
                                 .scale = 1.0f,
                                 .out = b->per_token};
    p->ops->embed(p->backend, &embed);
    mr_device_norm(p, &p->device->per_layer_norm, b->per_layer, b->per_layer, n, n_tokens * h->n_layer);
    add_rows(p, b->per_layer, b->per_token, sqrtf((float)n), n_all);
    p->ops->scale(p->backend, b->per_layer, n_tokens * n_all, sqrtf(0.5f));
}

/* buffers.block = up(act(gate x) * the layer's own embedding of the token). */
static void own_embedding_block(const mr_device_pass *p, uint32_t il, const float *x) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    const mr_own_embedding *own = &p->model->layers[il].own;
    size_t n = h->n_embd_per_layer, n_tokens = p->batch.n_tokens;
    const mr_product_args gate = mr_device_product(&own->gate, x, b->own);
    p->ops->products(p->backend, &gate, 1, n_tokens);
    const mr_activate_args act = {.act = h->arch->act,
                                  .gate = b->own,
                                  .ld_gate = n,
                                  .up = b->per_layer + il * n,
                                  .ld_up = n * h->n_layer,
                                  .out = b->own,
                                  .ld_out = n,
                                  .n_rows = n_tokens,
                                  .n = n};
    p->ops->activate(p->backend, &act);
    const mr_product_args up = mr_device_product(&own->up, b->own, b->block);
    p->ops->products(p->backend, &up, 1, n_tokens);
}

void mr_device_layer_tail(const mr_device_pass *p, uint32_t il) {
    const mr_layer *layer = &p->model->layers[il];
    const mr_device_buffers *b = &p->device->buffers;
    size_t n_embd = p->model->hparams.n_embd;
    if (layer->own.gate.w != NULL) {
        own_embedding_block(p, il, b->x);
        mr_device_norm(p, &layer->own.post_norm, b->block, b->block, n_embd, p->batch.n_tokens);
        add_rows(p, b->x, b->block, 1.0f, n_embd);
    }
    if (layer->out_scale != 1.0f) p->ops->scale(p->backend, b->x, p->batch.n_tokens * n_embd, layer->out_scale);
}

/* ---- streams
 * ---------------------------------------------------------------------------------------------------------- */

void mr_device_altup_begin(const mr_device_pass *p) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    for (uint32_t i = 1; i < h->n_stream; i++) {
        const mr_product_args item = mr_device_product(&p->model->streams_in[i - 1], b->x, b->streams[i]);
        p->ops->products(p->backend, &item, 1, p->batch.n_tokens);
        p->ops->match_size(p->backend, b->streams[i], b->x, p->batch.n_tokens, h->n_embd);
    }
}

static void route_streams(const mr_device_pass *p, const mr_altup *altup) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    const float *in = mr_device_norm(p, &altup->router_norm, b->x, b->normed, h->n_embd, p->batch.n_tokens);
    const mr_product_args item = mr_device_product(&altup->router, in, b->modal);
    p->ops->products(p->backend, &item, 1, p->batch.n_tokens);
    p->ops->softcap(p->backend, b->modal, (size_t)p->batch.n_tokens * h->n_stream, 1.0f);
}

static mr_streams_args streams_args(const mr_device_pass *p, const mr_altup *altup, const float *factors) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    mr_streams_args args = {.n_stream = h->n_stream,
                            .n_tokens = p->batch.n_tokens,
                            .n = h->n_embd,
                            .modal = b->modal,
                            .factors = factors,
                            .correct_scale = altup->correct_scale,
                            .predicted = b->predicted};
    for (uint32_t i = 0; i < h->n_stream; i++) args.streams[i] = b->streams[i];
    return args;
}

/* What LAuReL makes of the normed x: itself, and what a low rank keeps of it. */
static void compute_laurel(const mr_device_pass *p, const mr_layer *layer) {
    const mr_device_buffers *b = &p->device->buffers;
    const mr_altup *altup = &layer->altup;
    size_t n = p->model->hparams.n_embd, n_tokens = p->batch.n_tokens;
    const float *in = mr_device_norm(p, &layer->attn_norm, b->x, b->normed, n, n_tokens);
    const mr_product_args down = mr_device_product(&altup->laurel_down, in, b->laurel_low);
    p->ops->products(p->backend, &down, 1, n_tokens);
    const mr_product_args up = mr_device_product(&altup->laurel_up, b->laurel_low, b->laurel);
    p->ops->products(p->backend, &up, 1, n_tokens);
    mr_device_norm(p, &altup->laurel_norm, b->laurel, b->laurel, n, n_tokens);
    add_rows(p, b->laurel, in, 1.0f, n);
}

void mr_device_altup_predict(const mr_device_pass *p, uint32_t il) {
    const mr_layer *layer = &p->model->layers[il];
    route_streams(p, &layer->altup);
    const mr_streams_args args = streams_args(p, &layer->altup, layer->altup.predict);
    p->ops->streams_predict(p->backend, &args);
    compute_laurel(p, layer);
}

void mr_device_altup_join(const mr_device_pass *p) {
    const mr_device_buffers *b = &p->device->buffers;
    size_t n = p->model->hparams.n_embd;
    add_rows(p, b->x, b->laurel, 1.0f, n);
    p->ops->scale(p->backend, b->x, p->batch.n_tokens * n, sqrtf(0.5f));
}

void mr_device_altup_correct(const mr_device_pass *p, uint32_t il) {
    const mr_hparams *h = &p->model->hparams;
    const mr_layer *layer = &p->model->layers[il];
    const mr_device_buffers *b = &p->device->buffers;
    route_streams(p, &layer->altup);
    const mr_streams_args args = streams_args(p, &layer->altup, layer->altup.correct);
    p->ops->streams_correct(p->backend, &args);
    own_embedding_block(p, il, b->predicted);
    mr_device_norm(p, &layer->own.post_norm, b->block, b->block, h->n_embd, p->batch.n_tokens);
    for (uint32_t i = 1; i < h->n_stream; i++) add_rows(p, b->streams[i], b->block, 1.0f, h->n_embd);
}

void mr_device_altup_end(const mr_device_pass *p) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    size_t n = h->n_embd, n_tokens = p->batch.n_tokens;
    /* One after the other, in the room of the predictions; sums gather in that of LAuReL. */
    copy_tokens(p, b->laurel, b->x, n);
    for (uint32_t i = 1; i < h->n_stream; i++) {
        const mr_product_args item = mr_device_product(&p->model->streams_out[i - 1], b->streams[i], b->predicted);
        p->ops->products(p->backend, &item, 1, n_tokens);
        p->ops->match_size(p->backend, b->predicted, b->x, n_tokens, n);
        add_rows(p, b->laurel, b->predicted, 1.0f, n);
    }
    copy_tokens(p, b->x, b->laurel, n);
    p->ops->scale(p->backend, b->x, n_tokens * n, 1.0f / (float)h->n_stream);
}
