/* Several residual streams of which each layer updates the first and corrects the others by it (AltUp,
 * arXiv:2301.13310), and low-rank residual branches beside the attention (LAuReL, arXiv:2411.07501), as Gemma 3n has
 * them. */
#include "compute/rows.h"
#include "model/forward.h"

#include <math.h>
#include <string.h>

void mr_altup_begin(const mr_pass *p, mr_worker *worker) {
    const mr_model *model = p->model;
    const mr_hparams *h = &model->hparams;
    const mr_forward_buffers *b = &model->buffers;
    mr_matmul_item items[MR_MAX_STREAMS];
    mr_inputs in = {0};
    size_t begin, end;
    for (uint32_t i = 1; i < h->n_stream; i++) mr_want_input(&in, model->streams_in[i - 1].w);
    mr_prepare_inputs(p, worker, &in, b->x, h->n_embd, NULL, p->n_tokens, NULL);
    for (uint32_t i = 1; i < h->n_stream; i++)
        items[i - 1] = mr_product(&in, &model->streams_in[i - 1], b->streams[i], false);
    mr_matmul(worker, items, h->n_stream - 1, p->n_tokens);
    mr_barrier(worker);
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        for (uint32_t i = 1; i < h->n_stream; i++)
            mr_match_size(b->streams[i] + t * h->n_embd, b->x + t * h->n_embd, h->n_embd);
    }
    mr_barrier(worker);
}

/* buffers.modal = the router's view of buffers.x, with a barrier behind it. */
static void route_streams(const mr_pass *p, mr_worker *worker, const mr_altup *altup) {
    const mr_model *model = p->model;
    const mr_hparams *h = &model->hparams;
    const mr_forward_buffers *b = &model->buffers;
    mr_inputs in = {0};
    size_t begin, end;
    mr_want_input(&in, altup->router.w);
    mr_prepare_inputs(p, worker, &in, b->x, h->n_embd, &altup->router_norm, p->n_tokens, NULL);
    const mr_matmul_item item = mr_product(&in, &altup->router, b->modal, false);
    mr_matmul(worker, &item, 1, p->n_tokens);
    mr_barrier(worker);
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) model->ops->softcap(b->modal + t * h->n_stream, 1.0f, h->n_stream);
    mr_barrier(worker);
}

/* What LAuReL makes of the normed x: itself, and what a low rank keeps of it. Reads x. */
static void compute_laurel(const mr_pass *p, mr_worker *worker, const mr_layer *layer) {
    const mr_model *model = p->model;
    const mr_hparams *h = &model->hparams;
    const mr_forward_buffers *b = &model->buffers;
    const mr_altup *altup = &layer->altup;
    size_t n = h->n_embd, begin, end;
    mr_inputs in = {0}, low = {0};
    mr_want_input(&in, altup->laurel_down.w);
    mr_prepare_inputs(p, worker, &in, b->x, n, &layer->attn_norm, p->n_tokens, NULL);
    const mr_matmul_item down = mr_product(&in, &altup->laurel_down, b->laurel_low, false);
    mr_matmul(worker, &down, 1, p->n_tokens);
    mr_barrier(worker);
    mr_want_input(&low, altup->laurel_up.w);
    mr_prepare_inputs(p, worker, &low, b->laurel_low, mr_matrix_n_in(altup->laurel_up.w), NULL, p->n_tokens, NULL);
    const mr_matmul_item up = mr_product(&low, &altup->laurel_up, b->laurel, false);
    mr_matmul(worker, &up, 1, p->n_tokens);
    mr_barrier(worker);
    float *normed = (float *)(void *)(mr_private_data(p, worker) + b->private_norm);
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        float *laurel = b->laurel + t * n;
        mr_apply_norm(model, &altup->laurel_norm, laurel, n, laurel);
        mr_apply_norm(model, &layer->attn_norm, b->x + t * n, n, normed);
        model->ops->add_scaled(laurel, normed, 1.0f, n);
    }
    mr_barrier(worker);
}

static mr_streams_args streams_args(const mr_pass *p, const mr_altup *altup, const float *factors) {
    const mr_hparams *h = &p->model->hparams;
    const mr_forward_buffers *b = &p->model->buffers;
    mr_streams_args args = {.n_stream = h->n_stream,
                            .n_tokens = p->n_tokens,
                            .n = h->n_embd,
                            .modal = b->modal,
                            .factors = factors,
                            .correct_scale = altup->correct_scale,
                            .predicted = b->predicted};
    for (uint32_t i = 0; i < h->n_stream; i++) args.streams[i] = b->streams[i];
    return args;
}

void mr_altup_predict(const mr_pass *p, mr_worker *worker, uint32_t il) {
    const mr_layer *layer = &p->model->layers[il];
    size_t begin, end;
    route_streams(p, worker, &layer->altup);
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    const mr_streams_args args = streams_args(p, &layer->altup, layer->altup.predict);
    float *old = (float *)(void *)(mr_private_data(p, worker) + p->model->buffers.private_norm);
    for (size_t t = begin; t < end; t++) mr_streams_predict_token(&args, t, old);
    mr_barrier(worker);
    compute_laurel(p, worker, layer);
}

void mr_altup_join(const mr_pass *p, mr_worker *worker) {
    const mr_model *model = p->model;
    const mr_forward_buffers *b = &model->buffers;
    size_t n = model->hparams.n_embd, begin, end;
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        model->ops->add_scaled(b->x + t * n, b->laurel + t * n, 1.0f, n);
        model->ops->scale(b->x + t * n, sqrtf(0.5f), n);
    }
    mr_barrier(worker);
}

void mr_altup_correct(const mr_pass *p, mr_worker *worker, uint32_t il) {
    const mr_model *model = p->model;
    const mr_layer *layer = &model->layers[il];
    const mr_forward_buffers *b = &model->buffers;
    size_t n = model->hparams.n_embd, begin, end;
    route_streams(p, worker, &layer->altup);
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    /* The layer's own embedding is to meet the corrected x, scaled, which goes where the prediction was. */
    const mr_streams_args args = streams_args(p, &layer->altup, layer->altup.correct);
    for (size_t t = begin; t < end; t++) mr_streams_correct_token(&args, t, b->laurel + t * n);
    mr_barrier(worker);
    mr_own_embedding_block(p, worker, il, b->predicted);
    for (size_t t = begin; t < end; t++) {
        float *block = b->block + t * n;
        mr_apply_norm(model, &layer->own.post_norm, block, n, block);
        for (uint32_t i = 1; i < model->hparams.n_stream; i++)
            model->ops->add_scaled(b->streams[i] + t * n, block, 1.0f, n);
    }
    mr_barrier(worker);
}

void mr_altup_end(const mr_pass *p, mr_worker *worker) {
    const mr_model *model = p->model;
    const mr_hparams *h = &model->hparams;
    const mr_forward_buffers *b = &model->buffers;
    size_t n = h->n_embd, begin, end;
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    /* One after the other, in the room of the predictions; sums gather in that of LAuReL. */
    for (size_t t = begin; t < end; t++) memcpy(b->laurel + t * n, b->x + t * n, n * sizeof(float));
    for (uint32_t i = 1; i < h->n_stream; i++) {
        mr_inputs in = {0};
        mr_want_input(&in, model->streams_out[i - 1].w);
        mr_prepare_inputs(p, worker, &in, b->streams[i], n, NULL, p->n_tokens, NULL);
        const mr_matmul_item item = mr_product(&in, &model->streams_out[i - 1], b->predicted, false);
        mr_matmul(worker, &item, 1, p->n_tokens);
        mr_barrier(worker);
        for (size_t t = begin; t < end; t++) {
            mr_match_size(b->predicted + t * n, b->x + t * n, n);
            model->ops->add_scaled(b->laurel + t * n, b->predicted + t * n, 1.0f, n);
        }
        mr_barrier(worker);
    }
    for (size_t t = begin; t < end; t++) {
        memcpy(b->x + t * n, b->laurel + t * n, n * sizeof(float));
        model->ops->scale(b->x + t * n, 1.0f / (float)h->n_stream, n);
    }
    mr_barrier(worker);
}
