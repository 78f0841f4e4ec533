/* Embeddings of each layer's own, and what a layer adds from its own (Gemma 3n and Gemma 4). */
#include "model/forward.h"

#include <math.h>

void mr_per_layer_inputs(const mr_pass *p, mr_worker *worker) {
    const mr_model *model = p->model;
    const mr_hparams *h = &model->hparams;
    const mr_forward_buffers *b = &model->buffers;
    size_t n = h->n_embd_per_layer, n_all = n * h->n_layer, begin, end;
    mr_inputs in = {0};
    mr_want_input(&in, model->per_layer.from_embd.w);
    mr_prepare_inputs(p, worker, &in, b->x, h->n_embd, NULL, p->n_tokens, NULL);
    const mr_matmul_item item = mr_product(&in, &model->per_layer.from_embd, b->per_layer, false);
    mr_matmul(worker, &item, 1, p->n_tokens);
    mr_barrier(worker);
    float *token = (float *)(void *)(mr_private_data(p, worker) + b->private_norm);
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        float *all = b->per_layer + t * n_all;
        model->ops->scale(all, 1.0f / sqrtf((float)h->n_embd), n_all);
        size_t row = (uint64_t)p->tokens[t] < model->per_layer.n_rows ? (size_t)p->tokens[t] : 0;
        model->per_layer.type->dequantize(model->per_layer.rows + row * model->per_layer.row_bytes, token, n_all);
        for (uint32_t il = 0; il < h->n_layer; il++) {
            mr_apply_norm(model, &model->per_layer.norm, all + il * n, n, all + il * n);
        }
        model->ops->add_scaled(all, token, sqrtf((float)n), n_all);
        model->ops->scale(all, sqrtf(0.5f), n_all);
    }
    mr_barrier(worker);
}

bool mr_layer_has_tail(const mr_layer *layer) {
    return layer->altup.router.w == NULL && (layer->own.gate.w != NULL || layer->out_scale != 1.0f);
}

void mr_own_embedding_block(const mr_pass *p, mr_worker *worker, uint32_t il, const float *x) {
    const mr_model *model = p->model;
    const mr_hparams *h = &model->hparams;
    const mr_forward_buffers *b = &model->buffers;
    const mr_own_embedding *own = &model->layers[il].own;
    size_t n = h->n_embd_per_layer, begin, end;
    mr_inputs in = {0}, gated = {0};
    mr_want_input(&in, own->gate.w);
    mr_prepare_inputs(p, worker, &in, x, h->n_embd, NULL, p->n_tokens, NULL);
    const mr_matmul_item gate = mr_product(&in, &own->gate, b->own, false);
    mr_matmul(worker, &gate, 1, p->n_tokens);
    mr_barrier(worker);
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        float *own_gate = b->own + t * n;
        model->ops->glu(h->arch->act, own_gate, b->per_layer + (t * h->n_layer + il) * n, n, own_gate);
    }
    mr_barrier(worker);
    mr_want_input(&gated, own->up.w);
    mr_prepare_inputs(p, worker, &gated, b->own, n, NULL, p->n_tokens, NULL);
    const mr_matmul_item up = mr_product(&gated, &own->up, b->block, false);
    mr_matmul(worker, &up, 1, p->n_tokens);
    mr_barrier(worker);
}

void mr_layer_tail(const mr_pass *p, mr_worker *worker, uint32_t il) {
    const mr_model *model = p->model;
    const mr_layer *layer = &model->layers[il];
    const mr_forward_buffers *b = &model->buffers;
    size_t n_embd = model->hparams.n_embd, begin, end;
    if (layer->own.gate.w != NULL) mr_own_embedding_block(p, worker, il, b->x);
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        float *x = b->x + t * n_embd, *block = b->block + t * n_embd;
        if (layer->own.gate.w != NULL) {
            mr_apply_norm(model, &layer->own.post_norm, block, n_embd, block);
            model->ops->add_scaled(x, block, 1.0f, n_embd);
        }
        if (layer->out_scale != 1.0f) model->ops->scale(x, layer->out_scale, n_embd);
    }
}
