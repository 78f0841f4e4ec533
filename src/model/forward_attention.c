#include "model/forward.h"

#include <math.h>
#include <string.h>

/* ---- queries and keys
 * ------------------------------------------------------------------------------------------------- */

/* The norm of a token's heads first .. first+n-1, of which `heads` is the first. */
static void norm_heads(const mr_model *model, const mr_head_norm *norm, float *heads, size_t first, size_t n) {
    const mr_hparams *h = &model->hparams;
    for (size_t i = 0; i < n; i++) {
        const float *weight = norm->weight + (first + i) * norm->weight_step;
        float *head = heads + i * norm->dim;
        if (h->arch->norm == MR_NORM_LAYER)
            model->ops->layer_norm(head, weight, NULL, norm->dim, h->norm_eps, head);
        else
            model->ops->rms_norm(head, weight, norm->dim, h->norm_eps, head);
    }
}

static bool norms_whole_token(const mr_head_norm *norm, const mr_layer *layer) {
    return norm->weight != NULL && norm->dim > layer->dims.head_dim_k;
}

static bool norms_head(const mr_head_norm *norm, const mr_layer *layer) {
    return norm->weight != NULL && norm->dim == layer->dims.head_dim_k;
}

/* The norms that need all heads of a token together. Ends with a barrier where there is one. */
static void norm_whole_tokens(const mr_pass *p, mr_worker *worker, const mr_layer *layer) {
    const mr_forward_buffers *b = &p->model->buffers;
    bool whole_q = norms_whole_token(&layer->q_norm, layer) && p->attention != MR_ATTENTION_KEYS;
    bool whole_k = norms_whole_token(&layer->k_norm, layer) && p->attention != MR_ATTENTION_QUERIES;
    if (!whole_q && !whole_k) return;
    size_t begin, end;
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        if (whole_q) norm_heads(p->model, &layer->q_norm, b->q + t * layer->q_norm.dim, 0, 1);
        if (whole_k) norm_heads(p->model, &layer->k_norm, b->k + t * layer->k_norm.dim, 0, 1);
    }
    mr_barrier(worker);
}

/* Queries that are farther in the text are sharper (Nakanishi, arXiv:2501.19399, as Llama 4 has it). */
static float temperature(const mr_hparams *h, uint32_t pos) {
    return 1.0f + h->attn_temperature_scale * logf(1.0f + (float)(pos / h->rope_n_ctx_orig));
}

/* Norms and rotates n heads of a token, of which `heads` is number `first`. */
static void norm_and_rotate(const mr_pass *p, const mr_layer *layer, const mr_head_norm *norm, size_t token,
                            float *heads, size_t first, size_t n) {
    const mr_model *model = p->model;
    const mr_hparams *h = &model->hparams;
    const mr_forward_buffers *b = &model->buffers;
    bool late = h->arch->qk_norm_after_rope, normed = norms_head(norm, layer);
    if (normed && !late) norm_heads(model, norm, heads, first, n);
    if (layer->rope >= 0) {
        size_t n_pairs = model->ropes[layer->rope].n_rot / 2;
        const float *cosines = b->cosines[layer->rope] + token * n_pairs,
                    *sines = b->sines[layer->rope] + token * n_pairs;
        for (size_t i = 0; i < n; i++) {
            model->ops->rope(heads + i * layer->dims.head_dim_k + h->rot_from, cosines, sines, n_pairs, h->rope_neox);
        }
    }
    if (normed && late) norm_heads(model, norm, heads, first, n);
}

/* Norms, rotates and stores the key and value of one token and kv head. */
static void finish_key_value(const mr_pass *p, const mr_layer *layer, uint32_t il, uint32_t head_kv,
                             const mr_batch_run *run, size_t token, uint32_t pos) {
    const mr_model *model = p->model;
    const mr_hparams *h = &model->hparams;
    const mr_forward_buffers *b = &model->buffers;
    const mr_layer_dims *d = &layer->dims;
    float *k = b->k + (token * d->n_head_kv + head_kv) * d->head_dim_k;
    float *v = b->v + (token * d->n_head_kv + head_kv) * d->head_dim_v;
    if (layer->mla != NULL) {
        model->ops->rms_norm(k, layer->mla->kv_norm, h->kv_lora_rank, h->norm_eps, k);
        v = k;
    } else if (layer->v.w == NULL) {
        memcpy(v, k, d->head_dim_v * sizeof(float)); /* values are the keys before their norm */
    }
    if (h->arch->v_norm) model->ops->rms_norm(v, NULL, d->head_dim_v, h->norm_eps, v);
    norm_and_rotate(p, layer, &layer->k_norm, token, k, head_kv, 1);
    const mr_kv_pool *pool = &b->kv[il];
    mr_kv_store(pool, mr_kv_piece(pool, run->blocks[pos / MR_KV_BLOCK], 0, head_kv), pos % MR_KV_BLOCK, k, v);
}

/* Norms and rotates the query heads of one token that share a kv head. */
static void finish_queries(const mr_pass *p, const mr_layer *layer, uint32_t head_kv, size_t token, uint32_t pos) {
    const mr_hparams *h = &p->model->hparams;
    size_t n_group = h->n_head / layer->dims.n_head_kv, dk = layer->dims.head_dim_k;
    float *q = p->model->buffers.q + (token * h->n_head + head_kv * n_group) * dk;
    norm_and_rotate(p, layer, &layer->q_norm, token, q, head_kv * n_group, n_group);
    if (h->attn_temperature_scale != 0.0f) p->model->ops->scale(q, temperature(h, pos), n_group * dk);
}

/* Everything between the projections and the attention for one token, kv head and the query heads that share it. */
static void finish_head(const mr_pass *p, const mr_layer *layer, uint32_t il, uint32_t head_kv, const mr_batch_run *run,
                        uint32_t first, uint32_t t) {
    size_t token = first + t;
    uint32_t pos = run->pos0 + t;
    if (p->attention != MR_ATTENTION_KEYS) finish_queries(p, layer, head_kv, token, pos);
    if (layer->kv_source == il && p->attention != MR_ATTENTION_QUERIES)
        finish_key_value(p, layer, il, head_kv, run, token, pos);
}

/* ---- attention
 * -------------------------------------------------------------------------------------------------------- */

/* Query tokens [t0, t0 + n) of a run against kv head head_kv, for query heads [g0, g0 + n_g) of its group. */
static void attend(const mr_pass *p, const mr_worker *worker, uint32_t il, uint32_t head_kv, size_t run_index,
                   uint32_t t0, uint32_t n, uint32_t g0, uint32_t n_g) {
    const mr_hparams *h = &p->model->hparams;
    const mr_forward_buffers *b = &p->model->buffers;
    const mr_batch_run *run = &p->runs[run_index];
    const mr_layer *layer = &p->model->layers[il];
    const mr_layer_dims *d = &layer->dims;
    size_t token = p->run_first[run_index] + t0, head = head_kv * (h->n_head / d->n_head_kv) + g0;
    size_t q_stride = (size_t)h->n_head * d->head_dim_k, out_stride = (size_t)h->n_head * d->head_dim_v;
    mr_attention_args args = {
        .pool = &b->kv[il],
        .blocks = run->blocks,
        .head_kv = head_kv,
        .n_tokens = n,
        .pos0 = run->pos0 + t0,
        .n_group = n_g,
        .q = b->q + token * q_stride + head * d->head_dim_k,
        .q_stride = q_stride,
        .out = b->attn + token * out_stride + head * d->head_dim_v,
        .out_stride = out_stride,
        .scale = h->attn_scale,
        .softcap = h->attn_softcap,
        .window = layer->window,
        .sinks = layer->sinks != NULL ? layer->sinks + head : NULL,
        .scratch = (float *)(void *)(mr_private_data(p, worker) + b->private_attention),
    };
    if (h->arch->encoder) args.n_text = p->n_text > 0 ? p->n_text : run->n_tokens;
    mr_attention(&args);
}

/* One token for each run: an item is a run's kv head, or a part of its query heads when there are fewer than members.
 */
static void attention_decode(const mr_pass *p, mr_worker *worker, const mr_layer *layer, uint32_t il) {
    const mr_hparams *h = &p->model->hparams;
    size_t n_group = h->n_head / layer->dims.n_head_kv, n_heads = p->n_runs * layer->dims.n_head_kv;
    size_t n_parts = n_heads >= (size_t)worker->nth ? 1 : ((size_t)worker->nth + n_heads - 1) / n_heads;
    if (n_parts > n_group) n_parts = n_group;
    if (n_parts > 1) {
        mr_loop loop = mr_loop_begin(worker, n_heads, 1);
        for (size_t i, end; mr_loop_next(&loop, &i, &end);) {
            size_t run = i / layer->dims.n_head_kv;
            finish_head(p, layer, il, (uint32_t)(i % layer->dims.n_head_kv), &p->runs[run], p->run_first[run], 0);
        }
        mr_barrier(worker);
    }
    mr_loop loop = mr_loop_begin(worker, n_heads * n_parts, 1);
    for (size_t i, end; mr_loop_next(&loop, &i, &end);) {
        size_t part = i % n_parts, head = i / n_parts, run = head / layer->dims.n_head_kv;
        uint32_t head_kv = (uint32_t)(head % layer->dims.n_head_kv);
        if (n_parts == 1) finish_head(p, layer, il, head_kv, &p->runs[run], p->run_first[run], 0);
        uint32_t g0 = (uint32_t)(n_group * part / n_parts), g1 = (uint32_t)(n_group * (part + 1) / n_parts);
        attend(p, worker, il, head_kv, run, 0, 1, g0, g1 - g0);
    }
}

/* Runs of many tokens: all keys are stored first; then an item is a kv head and a stretch of tokens. */
static void attention_prefill(const mr_pass *p, mr_worker *worker, const mr_layer *layer, uint32_t il) {
    const mr_hparams *h = &p->model->hparams;
    enum { STRETCH = 32 };
    mr_loop store = mr_loop_begin(worker, (size_t)p->n_tokens * layer->dims.n_head_kv, 16);
    for (size_t i, end; mr_loop_next(&store, &i, &end);) {
        size_t run = 0;
        for (; i < end; i++) {
            uint32_t token = (uint32_t)(i / layer->dims.n_head_kv);
            while (run + 1 < p->n_runs && p->run_first[run + 1] <= token) run++;
            finish_head(p, layer, il, (uint32_t)(i % layer->dims.n_head_kv), &p->runs[run], p->run_first[run],
                        token - p->run_first[run]);
        }
    }
    mr_barrier(worker);
    if (p->attention == MR_ATTENTION_KEYS) return;
    /* Large groups of query heads are shared out, too. */
    enum { GROUP_PART = 16 };
    uint32_t n_group = h->n_head / layer->dims.n_head_kv, n_parts = (n_group + GROUP_PART - 1) / GROUP_PART;
    size_t n_heads = (size_t)layer->dims.n_head_kv * n_parts;
    for (size_t run = p->n_runs; run-- > 0;) {
        uint32_t n_tokens = p->runs[run].n_tokens;
        size_t n_stretches = (n_tokens + STRETCH - 1) / STRETCH;
        mr_loop loop = mr_loop_begin(worker, n_stretches * n_heads, 1);
        for (size_t i, end; mr_loop_next(&loop, &i, &end);) {
            /* The last tokens see the most positions: they go first, so that the members end together. */
            uint32_t t0 = (uint32_t)(n_stretches - 1 - i / n_heads) * STRETCH;
            uint32_t head_kv = (uint32_t)(i % n_heads / n_parts), g0 = (uint32_t)(i % n_parts) * GROUP_PART;
            uint32_t n_g = n_group - g0 < GROUP_PART ? n_group - g0 : GROUP_PART;
            uint32_t n = n_tokens - t0 < STRETCH ? n_tokens - t0 : STRETCH;
            attend(p, worker, il, head_kv, run, t0, n, g0, n_g);
        }
        /* The ring of loop counters holds 64 loops between two barriers. */
        if (run % 32 == 31) mr_barrier(worker);
    }
}

/* Takes the queries out of the rows that hold each head's query and gate. Ends with a barrier. */
static void take_queries(const mr_pass *p, mr_worker *worker, const mr_layer *layer) {
    const mr_forward_buffers *b = &p->model->buffers;
    size_t n = layer->dims.head_dim_k, begin, end;
    mr_share(worker, (size_t)p->n_tokens * p->model->hparams.n_head, 1, &begin, &end);
    for (size_t i = begin; i < end; i++) memcpy(b->q + i * n, b->q_gates + i * 2 * n, n * sizeof *b->q);
    mr_barrier(worker);
}

/* Multiplies the heads' outputs by the sigmoids of their gates. Ends with a barrier. */
static void apply_gates(const mr_pass *p, mr_worker *worker, const mr_layer *layer) {
    const mr_forward_buffers *b = &p->model->buffers;
    size_t n = layer->dims.head_dim_k, begin, end;
    mr_share(worker, (size_t)p->n_tokens * p->model->hparams.n_head, 1, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        float *gate = b->q_gates + i * 2 * n + n, *out = b->attn + i * n;
        p->model->ops->sigmoid(gate, n);
        for (size_t j = 0; j < n; j++) out[j] *= gate[j];
    }
    mr_barrier(worker);
}

/* Queries, keys and values of all tokens, or what of them the pass is for; and in models whose FFN runs in parallel its
 * hidden values. Ends with a barrier. */
static void project(const mr_pass *p, mr_worker *worker, const mr_layer *layer) {
    const mr_forward_buffers *b = &p->model->buffers;
    const mr_hparams *h = &p->model->hparams;
    if (layer->mla != NULL) {
        mr_mla_queries(p, worker, layer);
        return;
    }
    bool queries = p->attention != MR_ATTENTION_KEYS, keys = p->attention != MR_ATTENTION_QUERIES;
    const mr_linear *q = queries ? &layer->q : NULL, *k = keys && layer->k.w != NULL ? &layer->k : NULL,
                    *v = keys && layer->v.w != NULL ? &layer->v : NULL;
    mr_inputs in = {0};
    if (q != NULL) mr_want_input(&in, q->w);
    if (k != NULL) mr_want_input(&in, k->w);
    if (v != NULL) mr_want_input(&in, v->w);
    if (h->arch->ffn_parallel) {
        mr_want_input(&in, layer->gate.w);
        mr_want_input(&in, layer->up.w);
    }
    mr_prepare_inputs(p, worker, &in, b->x, h->n_embd, &layer->attn_norm, p->n_tokens, NULL);
    bool gated = h->arch->gated_attention;
    mr_matmul_item qkv[3];
    size_t n = 0;
    if (q != NULL) qkv[n++] = mr_product(&in, q, gated ? b->q_gates : b->q, false);
    if (k != NULL) qkv[n++] = mr_product(&in, k, b->k, false);
    if (v != NULL) qkv[n++] = mr_product(&in, v, b->v, false);
    mr_matmul(worker, qkv, n, p->n_tokens);
    if (h->arch->ffn_parallel) mr_ffn_hidden(p, worker, &in, layer);
    mr_barrier(worker);
    if (gated) take_queries(p, worker, layer);
    norm_whole_tokens(p, worker, layer);
}

void mr_attention_block(const mr_pass *p, mr_worker *worker, uint32_t il) {
    const mr_forward_buffers *b = &p->model->buffers;
    const mr_layer *layer = &p->model->layers[il];
    project(p, worker, layer);
    if (p->one_token_runs)
        attention_decode(p, worker, layer, il);
    else
        attention_prefill(p, worker, layer, il);
    mr_barrier(worker);
    if (p->attention == MR_ATTENTION_KEYS) return;
    if (layer->mla != NULL) mr_mla_values(p, worker, layer);
    if (p->model->hparams.arch->gated_attention) apply_gates(p, worker, layer);

    mr_inputs out = {0};
    mr_want_input(&out, layer->o.w);
    mr_prepare_inputs(p, worker, &out, layer->mla != NULL ? b->v_heads : b->attn, mr_matrix_n_in(layer->o.w), NULL,
                      p->n_tokens, NULL);
    mr_add_block(p, worker, &out, &layer->o, &layer->attn_post_norm);
    mr_norm_stream(p, worker, &layer->attn_sum_norm);
}
