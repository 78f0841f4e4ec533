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
    mr_scan_args scan = mr_recurrent_scan(h, r, b->mix, b->conv, b->mixed);
    scan.batch = &p->batch;
    if (!short_conv) p->ops->scan(p->backend, &scan);
    mr_device_add_block(p, short_conv ? b->conv : b->mixed, &r->out, &layer->attn_post_norm);
}
