#include "model/device.h"

static void project(const mr_device_pass *p, const mr_layer *layer) {
    const mr_device_buffers *b = &p->device->buffers;
    const mr_recurrent *r = layer->recurrent;
    const float *in =
        mr_device_norm(p, &layer->attn_norm, b->x, b->normed, p->model->hparams.n_embd, p->batch.n_tokens);
    mr_product_args items[4];
    size_t n = 0, at = 0;
    for (; n < 4 && r->in[n].w != NULL; n++) {
        items[n] = mr_device_product(&r->in[n], in, b->mix + at);
        items[n].ld_y = r->n_in;
        at += mr_matrix_n_out(r->in[n].w);
    }
    p->ops->products(p->backend, items, n, p->batch.n_tokens);
}

void mr_device_recurrent(const mr_device_pass *p, uint32_t il) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    const mr_layer *layer = &p->model->layers[il];
    const mr_recurrent *r = layer->recurrent;
    bool short_conv = r->kind == MR_MIXER_CONV;
    project(p, layer);
    const mr_conv_args conv = {.mix = b->mix,
                               .n_in = r->n_in,
                               .conv_from = r->conv_from,
                               .n_conv = r->n_conv,
                               .width = h->conv_width,
                               .gated = short_conv,
                               .weight = r->conv_weight,
                               .bias = r->conv_bias,
                               .state_at = r->conv_at,
                               .out = b->conv,
                               .batch = &p->batch};
    p->ops->conv(p->backend, &conv);
    const mr_scan_args scan = {.delta = r->kind == MR_MIXER_DELTA,
                               .mix = b->mix,
                               .conv = b->conv,
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
                               .out = b->mixed,
                               .batch = &p->batch};
    if (!short_conv) p->ops->scan(p->backend, &scan);
    mr_device_add_block(p, short_conv ? b->conv : b->mixed, &r->out, &layer->attn_post_norm);
}
