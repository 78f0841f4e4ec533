/* The forward pass of a decoder-only transformer: embeddings, layers, logits, and the batch around them. */
#include "model/forward.h"

#include "base/cancel.h"
#include "model/device.h"

#include <stdlib.h>
#include <string.h>

static void add_position(const mr_model *model, uint32_t pos, float *x) {
    size_t n = model->hparams.n_embd;
    if (model->positions != NULL) model->ops->add_scaled(x, model->positions + pos * n, 1.0f, n);
    mr_apply_norm(model, &model->embd_norm, x, n, x);
}

void mr_embed_tokens(const mr_pass *p, mr_worker *worker) {
    const mr_model *model = p->model;
    const mr_hparams *h = &model->hparams;
    const mr_forward_buffers *b = &model->buffers;
    size_t begin, end;
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        const uint8_t *row = model->embd_rows + (size_t)p->tokens[t] * model->embd_row_bytes;
        float *x = b->x + t * h->n_embd;
        model->embd_type->dequantize(row, x, h->n_embd);
        if (h->embd_scale != 1.0f) model->ops->scale(x, h->embd_scale, h->n_embd);
        if (h->arch->encoder) add_position(model, p->positions[t], x);
        for (int i = 0; i < MR_N_ROPES; i++) {
            const mr_rope *rope = &model->ropes[i];
            if (rope->inv_freq == NULL) continue;
            size_t n_pairs = rope->n_rot / 2;
            mr_rope_angles(rope->inv_freq, n_pairs, rope->mscale, p->positions[t], b->cosines[i] + t * n_pairs,
                           b->sines[i] + t * n_pairs);
        }
    }
}

/* What follows the vocabulary projection, on a share of one row. */
static void finish_logits(const mr_pass *p, mr_worker *worker, float *row) {
    const mr_hparams *h = &p->model->hparams;
    size_t begin, end;
    if (h->logit_scale == 1.0f && h->logit_softcap <= 0.0f) return;
    mr_share(worker, h->n_vocab, 16, &begin, &end);
    if (h->logit_scale != 1.0f) p->model->ops->scale(row + begin, h->logit_scale, end - begin);
    if (h->logit_softcap > 0.0f) p->model->ops->softcap(row + begin, h->logit_softcap, end - begin);
}

/* Final norm and vocabulary projection of the tokens whose logits are wanted. */
static void project_logits(const mr_pass *p, mr_worker *worker) {
    const mr_model *model = p->model;
    const mr_forward_buffers *b = &model->buffers;
    size_t n_vocab = model->hparams.n_vocab;
    for (uint32_t first = 0; first < p->n_logits; first += MR_LOGITS_ROWS) {
        uint32_t n = p->n_logits - first < MR_LOGITS_ROWS ? p->n_logits - first : MR_LOGITS_ROWS;
        mr_inputs in = {0};
        mr_want_input(&in, model->output.w);
        mr_prepare_inputs(p, worker, &in, b->x, model->hparams.n_embd, &model->output_norm, n, p->logit_tokens + first);
        /* A single row goes where it is wanted; several are computed together and then handed out. */
        mr_matmul_item item = mr_product(&in, &model->output, n == 1 ? p->logit_rows[first] : b->logits, false);
        mr_matmul(worker, &item, 1, n);
        mr_barrier(worker);
        for (uint32_t i = 0; i < n; i++) finish_logits(p, worker, item.y + i * n_vocab);
        if (n == 1) continue;
        mr_barrier(worker);
        size_t begin, end;
        mr_share(worker, n, 1, &begin, &end);
        for (size_t i = begin; i < end; i++)
            memcpy(p->logit_rows[first + i], b->logits + i * n_vocab, n_vocab * sizeof(float));
        mr_barrier(worker);
    }
}

/* The final norm of the tokens whose hidden rows are wanted; the residual stream is complete and stays. */
void mr_write_hidden(const mr_pass *p, mr_worker *worker) {
    const mr_model *model = p->model;
    size_t n_embd = model->hparams.n_embd;
    for (size_t i = 0; i < p->n_runs; i++) {
        const mr_batch_run *run = &p->runs[i];
        const float *x = model->buffers.x + (p->run_first[i] + run->n_tokens - run->n_hidden) * n_embd;
        size_t begin, end;
        mr_share(worker, run->n_hidden, 1, &begin, &end);
        for (size_t t = begin; t < end; t++) {
            float *row = run->hidden + t * n_embd;
            if (model->output_norm.weight != NULL)
                mr_apply_norm(model, &model->output_norm, x + t * n_embd, n_embd, row);
            else
                memcpy(row, x + t * n_embd, n_embd * sizeof *row);
        }
    }
}

/* A barrier that also settles whether the pass goes on. */
static bool barrier_go_on(mr_pass *p, mr_worker *worker, unsigned question) {
    atomic_bool *answer = &p->aborted[question % 2];
    if (worker->ith == 0) atomic_store_explicit(answer, mr_cancel_is_set(p->abort_flag), memory_order_relaxed);
    mr_barrier(worker);
    return !atomic_load_explicit(answer, memory_order_relaxed);
}

static void mix_tokens(const mr_pass *p, mr_worker *worker, uint32_t il) {
    const mr_layer *layer = &p->model->layers[il];
    if (layer->recurrent != NULL)
        mr_recurrent_block(p, worker, il);
    else if (layer->o.w != NULL)
        mr_attention_block(p, worker, il);
}

static bool has_ffn(const mr_layer *layer) {
    return layer->down.w != NULL || layer->experts != NULL;
}

bool mr_forward_layer(mr_pass *p, mr_worker *worker, uint32_t il) {
    bool altup = p->model->hparams.arch->altup;
    if (altup) mr_altup_predict(p, worker, il);
    mix_tokens(p, worker, il);
    if (!barrier_go_on(p, worker, 1)) return false;
    if (altup) mr_altup_join(p, worker);
    if (has_ffn(&p->model->layers[il])) mr_ffn_block(p, worker, il);
    if (!barrier_go_on(p, worker, 0)) return false;
    if (altup) mr_altup_correct(p, worker, il);
    if (!mr_layer_has_tail(&p->model->layers[il])) return true;
    mr_layer_tail(p, worker, il);
    mr_barrier(worker);
    return true;
}

static void forward_body(mr_worker *worker, void *arg) {
    mr_pass *p = arg;
    mr_embed_tokens(p, worker);
    if (!barrier_go_on(p, worker, 0)) return;
    if (p->model->hparams.n_embd_per_layer > 0) mr_per_layer_inputs(p, worker);
    bool altup = p->model->hparams.arch->altup;
    if (altup) mr_altup_begin(p, worker);
    for (uint32_t il = 0; il < p->n_layer; il++) {
        if (!mr_forward_layer(p, worker, il)) return;
    }
    if (p->n_layer < p->model->hparams.n_layer) return; /* the others are a device's */
    if (altup) mr_altup_end(p, worker);
    project_logits(p, worker);
    mr_write_hidden(p, worker);
}

/* ---- the batch
 * ------------------------------------------------------------------------------------------------------- */

/* Per-token arrays of a batch, on the caller's stack. */
typedef struct batch_index {
    uint32_t run_first[MR_BATCH_MAX];
    uint32_t positions[MR_BATCH_MAX];
    int32_t tokens[MR_BATCH_MAX];
    uint32_t logit_tokens[MR_BATCH_MAX];
    float *logit_rows[MR_BATCH_MAX];
    int32_t *best_rows[MR_BATCH_MAX];
    mr_candidates *candidate_rows[MR_BATCH_MAX];
} batch_index;

static bool has_parts(const mr_model *model, const mr_state *state) {
    return (model->n_state_floats == 0 || state->data != NULL) &&
           (model->n_device_state_floats == 0 || state->device_data != NULL);
}

static bool has_states(const mr_model *model, const mr_batch_run *run) {
    bool mid_ok = run->n_mid == 0 || (has_parts(model, &run->state_mid) && run->n_mid < run->n_tokens);
    return has_parts(model, &run->state_out) && (run->pos0 == 0 || has_parts(model, &run->state)) && mid_ok;
}

mr_status mr_check_token(const mr_model *model, int32_t token, mr_error *err) {
    uint32_t n_vocab = model->hparams.n_vocab;
    if (token >= 0 && (uint32_t)token < n_vocab) return MR_OK;
    return mr_fail(err, MR_ERR_INVALID, "token id %d is outside of the vocabulary of %u", token, n_vocab);
}

mr_status mr_check_whole_text(const mr_model *model, const mr_batch_run *run, mr_error *err) {
    uint32_t most = model->hparams.n_ctx_train;
    if (run->n_logits > 0)
        return mr_fail(err, MR_ERR_UNSUPPORTED, "the model makes vectors of texts; it does not write");
    if (run->pos0 > 0 || run->n_tokens > most)
        return mr_fail(err, MR_ERR_INVALID, "the model reads a text of at most %u tokens as a whole", most);
    return MR_OK;
}

static mr_status index_batch(mr_pass *p, batch_index *index, mr_error *err) {
    uint32_t n_vocab = p->model->hparams.n_vocab;
    p->one_token_runs = true;
    for (size_t i = 0; i < p->n_runs; i++) {
        const mr_batch_run *run = &p->runs[i];
        if (run->n_tokens == 0 || run->n_tokens > MR_BATCH_MAX - p->n_tokens || run->n_logits > run->n_tokens ||
            run->n_hidden > run->n_tokens) {
            return mr_fail(err, MR_ERR_INVALID, "a batch holds 1 to %d tokens", MR_BATCH_MAX);
        }
        if (mr_model_state_bytes(p->model) > 0 && !has_states(p->model, run))
            return mr_fail(err, MR_ERR_INVALID, "a run lacks room for the model's recurrent state");
        mr_status status = p->model->hparams.arch->encoder ? mr_check_whole_text(p->model, run, err) : MR_OK;
        if (status != MR_OK) return status;
        if (run->n_tokens != 1) p->one_token_runs = false;
        index->run_first[i] = p->n_tokens;
        for (uint32_t t = 0; t < run->n_tokens; t++) {
            status = mr_check_token(p->model, run->tokens[t], err);
            if (status != MR_OK) return status;
            if (t + run->n_logits >= run->n_tokens) {
                uint32_t row = t + run->n_logits - run->n_tokens;
                index->logit_tokens[p->n_logits] = p->n_tokens;
                index->candidate_rows[p->n_logits] = run->candidates != NULL ? run->candidates + row : NULL;
                index->best_rows[p->n_logits] = run->best != NULL ? run->best + row : NULL;
                index->logit_rows[p->n_logits++] = run->logits != NULL ? run->logits + (size_t)row * n_vocab : NULL;
            }
            index->positions[p->n_tokens] = run->pos0 + t;
            index->tokens[p->n_tokens++] = run->tokens[t];
        }
    }
    return MR_OK;
}

void mr_pass_layers(const mr_pass *p) {
    for (uint32_t il = 0; il < p->n_layer; il++) {
        size_t offset;
        mr_kv_layout layout = mr_layer_kv_layout(p->model, p->pool->layout.type, il, &offset);
        layout.block_bytes = p->pool->layout.block_bytes;
        p->model->buffers.kv[il] =
            (mr_kv_pool){.layout = layout, .data = p->pool->data + offset, .n_blocks = p->pool->n_blocks};
    }
}

mr_status mr_model_forward(mr_model *model, const mr_kv_pool *pool, const mr_batch_run *runs, size_t n_runs,
                           const mr_cancel *abort_flag, mr_error *err) {
    batch_index index;
    mr_pass p = {.model = model,
                 .pool = pool,
                 .runs = runs,
                 .n_runs = n_runs,
                 .run_first = index.run_first,
                 .positions = index.positions,
                 .tokens = index.tokens,
                 .logit_tokens = index.logit_tokens,
                 .logit_rows = index.logit_rows,
                 .best_rows = index.best_rows,
                 .candidate_rows = index.candidate_rows,
                 .n_layer = mr_model_first_device_layer(model),
                 .abort_flag = abort_flag};
    if (model->hparams.arch->encoder && n_runs == 1 && runs[0].n_tokens > MR_BATCH_MAX)
        return mr_forward_text(model, pool, &runs[0], MR_BATCH_MAX, abort_flag, err);
    if (n_runs == 0 || n_runs > MR_BATCH_MAX)
        return mr_fail(err, MR_ERR_INVALID, "a batch holds 1 to %d runs", MR_BATCH_MAX);
    mr_status status = index_batch(&p, &index, err);
    if (status != MR_OK) return status;
    mr_pass_layers(&p);
    if (p.n_layer > 0) mr_team_run(model->team, forward_body, &p);
    if (atomic_load(&p.aborted[0]) || atomic_load(&p.aborted[1])) {
        return mr_fail(err, MR_ERR_CANCELLED, "the forward pass was interrupted");
    }
    return model->device != NULL ? mr_device_forward(&p, err) : MR_OK;
}

mr_status mr_model_fetch_logits(mr_model *model, const uint32_t *rows, float *const *to, size_t n, mr_error *err) {
    if (model->device == NULL) return mr_fail(err, MR_ERR_INVALID, "the model is on no device that has kept logits");
    return mr_device_fetch_logits(model, rows, to, n, err);
}
