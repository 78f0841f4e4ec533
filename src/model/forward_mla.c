/* Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1) on compressed keys and values. The maps from
 * and to a head's own space are one small matrix for each head; their products are listed in private memory. */
#include "model/forward.h"

#include <string.h>

size_t mr_mla_scratch(const mr_hparams *hparams) {
    return hparams->kv_lora_rank == 0 ? 0 : hparams->n_head * (sizeof(mr_matmul_item) + sizeof(mr_acts));
}

/* For each head h and token t: y + t*ldy + h*n_out = matrices[h] (x + t*ldx + h*x_step). The barrier behind it is the
 * caller's; x must be complete. */
static void multiply_heads(const mr_pass *p, mr_worker *worker, mr_matrix *const *matrices, const float *x, size_t ldx,
                           size_t x_step, float *y, size_t ldy, size_t y_step) {
    const mr_forward_buffers *b = &p->model->buffers;
    size_t n_head = p->model->hparams.n_head, n_in = mr_matrix_n_in(matrices[0]), begin, end;
    mr_acts_kind kind = mr_kind_of(matrices[0]);
    mr_acts all = mr_acts_view(kind, n_in, b->acts[kind]);
    mr_share(worker, n_head * p->n_tokens, 1, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        size_t head = i / p->n_tokens, t = i % p->n_tokens;
        mr_acts_set(&all, i, x + t * ldx + head * x_step);
    }
    mr_barrier(worker);
    uint8_t *mine = mr_private_data(p, worker);
    mr_matmul_item *items = (mr_matmul_item *)(void *)(mine + b->private_mla);
    mr_acts *acts = (mr_acts *)(void *)(mine + b->private_mla + n_head * sizeof *items);
    for (size_t head = 0; head < n_head; head++) {
        acts[head] = mr_acts_view(kind, n_in, all.data + head * p->n_tokens * all.stride);
        items[head] = (mr_matmul_item){.w = matrices[head], .x = &acts[head], .y = y + head * y_step, .ldy = ldy};
    }
    mr_matmul(worker, items, n_head, p->n_tokens);
}

/* The queries' parts that are rotated go beside those that meet the compressed keys. */
static void copy_rotated(const mr_pass *p, mr_worker *worker) {
    const mr_hparams *h = &p->model->hparams;
    const mr_forward_buffers *b = &p->model->buffers;
    size_t begin, end;
    mr_share(worker, (size_t)p->n_tokens * h->n_head, 1, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        memcpy(b->q + i * h->head_dim_k + h->rot_from, b->q_heads + i * (h->n_nope + h->n_rot) + h->n_nope,
               h->n_rot * sizeof(float));
    }
}

void mr_mla_queries(const mr_pass *p, mr_worker *worker, const mr_layer *layer) {
    const mr_hparams *h = &p->model->hparams;
    const mr_forward_buffers *b = &p->model->buffers;
    const mr_mla *mla = layer->mla;
    bool direct = mla->q_down.w == NULL;
    mr_inputs in = {0}, latent = {0};
    mr_want_input(&in, direct ? layer->q.w : mla->q_down.w);
    mr_want_input(&in, mla->kv_down.w);
    mr_prepare_inputs(p, worker, &in, b->x, h->n_embd, &layer->attn_norm, p->n_tokens, NULL);
    const mr_matmul_item down[] = {direct ? mr_product(&in, &layer->q, b->q_heads, false)
                                          : mr_product(&in, &mla->q_down, b->q_latent, false),
                                   mr_product(&in, &mla->kv_down, b->k, false)};
    mr_matmul(worker, down, 2, p->n_tokens);
    mr_barrier(worker);
    if (!direct) {
        mr_want_input(&latent, mla->q_up.w);
        mr_prepare_inputs(p, worker, &latent, b->q_latent, h->q_lora_rank, &mla->q_norm, p->n_tokens, NULL);
        const mr_matmul_item up = mr_product(&latent, &mla->q_up, b->q_heads, false);
        mr_matmul(worker, &up, 1, p->n_tokens);
        mr_barrier(worker);
    }
    size_t head_dim = h->n_nope + h->n_rot;
    copy_rotated(p, worker);
    multiply_heads(p, worker, mla->k_up, b->q_heads, h->n_head * head_dim, head_dim, b->q,
                   (size_t)h->n_head * h->head_dim_k, h->head_dim_k);
    mr_barrier(worker);
}

void mr_mla_values(const mr_pass *p, mr_worker *worker, const mr_layer *layer) {
    const mr_hparams *h = &p->model->hparams;
    const mr_forward_buffers *b = &p->model->buffers;
    multiply_heads(p, worker, layer->mla->v_up, b->attn, (size_t)h->n_head * h->head_dim_v, h->head_dim_v, b->v_heads,
                   (size_t)h->n_head * h->mla_dim_v, h->mla_dim_v);
    mr_barrier(worker);
}
