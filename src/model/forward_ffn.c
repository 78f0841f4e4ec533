#include "compute/rows.h"
#include "model/forward.h"

bool mr_gate_up_apart(const mr_layer *layer) {
    return layer->sparsity != 0.0f || layer->gate.bias != NULL || layer->up.bias != NULL ||
           mr_kind_of(layer->gate.w) != mr_kind_of(layer->up.w);
}

static void cut_gates(const mr_pass *p, mr_worker *worker, const mr_layer *layer) {
    const mr_forward_buffers *b = &p->model->buffers;
    size_t n = layer->dims.n_ff, begin, end;
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) mr_cut_row(b->h + t * n, n, layer->sparsity);
    mr_barrier(worker);
}

/* h = act(h) (* h_up), shared out over the members. A barrier before is the caller's. */
static void activate(const mr_pass *p, mr_worker *worker, const mr_layer *layer, const float *up) {
    const mr_forward_buffers *b = &p->model->buffers;
    size_t n = (size_t)layer->dims.n_ff * p->n_tokens, begin, end;
    mr_share(worker, n, 64, &begin, &end);
    if (begin == end) return;
    if (p->model->hparams.arch->xielu) {
        p->model->ops->xielu(b->h + begin, layer->xielu.alpha_p, layer->xielu.alpha_n, layer->xielu.beta,
                             layer->xielu.eps, end - begin);
        return;
    }
    p->model->ops->glu(p->model->hparams.arch->act, b->h + begin, up != NULL ? up + begin : NULL, end - begin,
                       b->h + begin);
}

void mr_ffn_hidden(const mr_pass *p, mr_worker *worker, const mr_inputs *in, const mr_layer *layer) {
    const mr_forward_buffers *b = &p->model->buffers;
    const mr_hparams *h = &p->model->hparams;
    if (layer->gate.w == NULL) {
        const mr_matmul_item up = mr_product(in, &layer->up, b->h, false);
        mr_matmul(worker, &up, 1, p->n_tokens);
        mr_barrier(worker);
        activate(p, worker, layer, NULL);
    } else if (mr_gate_up_apart(layer)) {
        const mr_matmul_item items[] = {mr_product(in, &layer->gate, b->h, false),
                                        mr_product(in, &layer->up, b->h_up, false)};
        mr_matmul(worker, items, 2, p->n_tokens);
        mr_barrier(worker);
        if (layer->sparsity != 0.0f) cut_gates(p, worker, layer);
        activate(p, worker, layer, b->h_up);
    } else {
        mr_matmul_glu(worker, layer->gate.w, layer->up.w, h->arch->act, mr_input_for(in, layer->gate.w), b->h,
                      layer->dims.n_ff, p->n_tokens);
    }
}

void mr_ffn_block(const mr_pass *p, mr_worker *worker, uint32_t il) {
    const mr_forward_buffers *b = &p->model->buffers;
    const mr_hparams *h = &p->model->hparams;
    const mr_layer *layer = &p->model->layers[il];
    if (layer->experts != NULL) {
        mr_experts_block(p, worker, layer);
        return;
    }
    if (!h->arch->ffn_parallel) {
        mr_inputs in = {0};
        mr_want_input(&in, layer->gate.w);
        mr_want_input(&in, layer->up.w);
        mr_prepare_inputs(p, worker, &in, b->x, h->n_embd, &layer->ffn_norm, p->n_tokens, NULL);
        mr_ffn_hidden(p, worker, &in, layer);
        mr_barrier(worker);
    }
    mr_inputs down = {0};
    mr_want_input(&down, layer->down.w);
    mr_prepare_inputs(p, worker, &down, b->h, layer->dims.n_ff, NULL, p->n_tokens, NULL);
    mr_add_block(p, worker, &down, &layer->down, &layer->ffn_post_norm);
    mr_norm_stream(p, worker, &layer->ffn_sum_norm);
}
