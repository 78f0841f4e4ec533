#include "model/forward.h"

mr_acts_kind mr_kind_of(const mr_matrix *w) {
    mr_acts_kind kind = MR_ACTS_F32;
    mr_matrix_acts_kind(mr_matrix_dtype(w), &kind);
    return kind;
}

void mr_want_input(mr_inputs *in, const mr_matrix *w) {
    if (w != NULL) in->wanted[mr_kind_of(w)] = true;
}

const mr_acts *mr_input_for(const mr_inputs *in, const mr_matrix *w) {
    return &in->acts[mr_kind_of(w)];
}

void mr_apply_norm(const mr_model *model, const mr_norm_weights *norm, const float *x, size_t n, float *out) {
    const mr_hparams *h = &model->hparams;
    if (h->arch->norm == MR_NORM_LAYER)
        model->ops->layer_norm(x, norm->weight, norm->bias, n, h->norm_eps, out);
    else
        model->ops->rms_norm(x, norm->weight, n, h->norm_eps, out);
}

void mr_prepare_inputs(const mr_pass *p, mr_worker *worker, mr_inputs *in, const float *x, size_t n_in,
                       const mr_norm_weights *norm, size_t n_rows, const uint32_t *rows) {
    const mr_forward_buffers *b = &p->model->buffers;
    uint8_t *mine = mr_private_data(p, worker);
    float *normed = (float *)(void *)(mine + b->private_norm);
    bool private = n_rows <= MR_PRIVATE_TOKENS;
    for (int kind = 0; kind < MR_N_ACTS_KINDS; kind++) {
        if (!in->wanted[kind]) continue;
        in->acts[kind] = mr_acts_view((mr_acts_kind)kind, n_in, private ? mine + b->private_acts[kind] : b->acts[kind]);
    }
    size_t begin = 0, end = n_rows;
    if (!private) mr_share(worker, n_rows, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        const float *row = x + (rows != NULL ? rows[t] : t) * n_in;
        if (norm != NULL && norm->weight != NULL) {
            mr_apply_norm(p->model, norm, row, n_in, normed);
            row = normed;
        }
        for (int kind = 0; kind < MR_N_ACTS_KINDS; kind++) {
            if (in->wanted[kind]) mr_acts_set(&in->acts[kind], t, row);
        }
    }
    if (!private) mr_barrier(worker);
}

mr_matmul_item mr_product(const mr_inputs *in, const mr_linear *linear, float *y, bool accumulate) {
    return (mr_matmul_item){.w = linear->w,
                            .x = mr_input_for(in, linear->w),
                            .bias = linear->bias,
                            .y = y,
                            .ldy = mr_matrix_n_out(linear->w),
                            .accumulate = accumulate};
}

void mr_add_block(const mr_pass *p, mr_worker *worker, const mr_inputs *in, const mr_linear *last,
                  const mr_norm_weights *post_norm) {
    const mr_model *model = p->model;
    const mr_forward_buffers *b = &model->buffers;
    const mr_hparams *h = &model->hparams;
    bool direct = post_norm->weight == NULL && h->residual_scale == 1.0f;
    const mr_matmul_item item = mr_product(in, last, direct ? b->x : b->block, direct);
    mr_matmul(worker, &item, 1, p->n_tokens);
    if (direct) return;
    mr_barrier(worker);
    size_t begin, end;
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        float *block = b->block + t * h->n_embd;
        if (post_norm->weight != NULL) mr_apply_norm(model, post_norm, block, h->n_embd, block);
        model->ops->add_scaled(b->x + t * h->n_embd, block, h->residual_scale, h->n_embd);
    }
}

void mr_norm_stream(const mr_pass *p, mr_worker *worker, const mr_norm_weights *norm) {
    size_t n_embd = p->model->hparams.n_embd, begin, end;
    if (norm->weight == NULL) return;
    mr_barrier(worker);
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        float *x = p->model->buffers.x + t * n_embd;
        mr_apply_norm(p->model, norm, x, n_embd, x);
    }
}
