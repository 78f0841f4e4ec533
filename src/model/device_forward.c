/* The pass on a device: what changes from step to step goes there in one transfer, the layers are issued (or, for a
 * step like one before, replayed), and what the runs ask for comes back. */
#include "model/device.h"

#include <stdlib.h>
#include <string.h>

/* ---- parts of blocks
 * -------------------------------------------------------------------------------------------------- */

const float *mr_device_norm(const mr_device_pass *p, const mr_norm_weights *norm, const float *x, float *out, size_t n,
                            size_t n_rows) {
    if (norm->weight == NULL) return x;
    const mr_norm_args args = {.layer = p->model->hparams.arch->norm == MR_NORM_LAYER,
                               .x = x,
                               .ld_x = n,
                               .out = out,
                               .ld_out = n,
                               .n_rows = n_rows,
                               .n_groups = 1,
                               .step = n,
                               .n = n,
                               .weight = norm->weight,
                               .bias = norm->bias,
                               .eps = p->model->hparams.norm_eps};
    p->ops->norm(p->backend, &args);
    return out;
}

mr_product_args mr_device_product(const mr_linear *linear, const float *x, float *y) {
    return (mr_product_args){.w = linear->w,
                             .bias = linear->bias,
                             .x = x,
                             .ld_x = mr_matrix_n_in(linear->w),
                             .y = y,
                             .ld_y = mr_matrix_n_out(linear->w)};
}

void mr_device_add_block(const mr_device_pass *p, const float *in, const mr_linear *last,
                         const mr_norm_weights *post_norm) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    bool direct = post_norm->weight == NULL && h->residual_scale == 1.0f;
    mr_product_args item = mr_device_product(last, in, direct ? b->x : b->block);
    item.accumulate = direct;
    p->ops->products(p->backend, &item, 1, p->batch.n_tokens);
    if (direct) return;
    mr_device_norm(p, post_norm, b->block, b->block, h->n_embd, p->batch.n_tokens);
    const mr_add_args add = {.x = b->x,
                             .ld_x = h->n_embd,
                             .y = b->block,
                             .ld_y = h->n_embd,
                             .factor = h->residual_scale,
                             .n_rows = p->batch.n_tokens,
                             .n = h->n_embd};
    p->ops->add(p->backend, &add);
}

void mr_device_norm_stream(const mr_device_pass *p, const mr_norm_weights *norm) {
    float *x = p->device->buffers.x;
    mr_device_norm(p, norm, x, x, p->model->hparams.n_embd, p->batch.n_tokens);
}

/* ---- the layers
 * ------------------------------------------------------------------------------------------------------- */

/* x += the learned position of each token. */
static void add_positions(const mr_device_pass *p) {
    const mr_device_buffers *b = &p->device->buffers;
    size_t n = p->model->hparams.n_embd;
    const mr_copy_rows_args rows = {.from = p->device->positions,
                                    .ld_from = n,
                                    .rows = p->batch.positions,
                                    .to = b->block,
                                    .ld_to = n,
                                    .n_rows = p->batch.n_tokens,
                                    .n = n};
    p->ops->copy_rows(p->backend, &rows);
    const mr_add_args add = {
        .x = b->x, .ld_x = n, .y = b->block, .ld_y = n, .factor = 1.0f, .n_rows = p->batch.n_tokens, .n = n};
    p->ops->add(p->backend, &add);
}

void mr_device_begin_tokens(const mr_device_pass *p) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    if (p->device->first_layer == 0) {
        const mr_embed_args embed = {.table = p->device->embd_table,
                                     .tokens = p->batch.tokens,
                                     .n_tokens = p->batch.n_tokens,
                                     .scale = h->embd_scale,
                                     .out = b->x};
        p->ops->embed(p->backend, &embed);
        if (p->device->positions != NULL) add_positions(p);
        if (h->arch->encoder) mr_device_norm_stream(p, &p->device->embd_norm);
    }
    for (int i = 0; i < MR_N_ROPES; i++) {
        const mr_rope *rope = &p->model->ropes[i];
        const mr_angles_args angles = {.inv_freq = p->device->inv_freq[i],
                                       .n_pairs = rope->n_rot / 2,
                                       .factor = rope->mscale,
                                       .positions = p->batch.positions,
                                       .n_tokens = p->batch.n_tokens,
                                       .cosines = b->cosines[i],
                                       .sines = b->sines[i]};
        if (rope->inv_freq != NULL && rope->n_rot > 0) p->ops->angles(p->backend, &angles);
    }
    if (p->device->first_layer > 0) return; /* what follows is made of the embeddings and came over the border */
    if (h->n_embd_per_layer > 0) mr_device_per_layer_inputs(p);
    if (h->arch->altup) mr_device_altup_begin(p);
}

void mr_device_layer(const mr_device_pass *p, uint32_t il) {
    const mr_layer *l = &p->model->layers[il];
    bool altup = p->model->hparams.arch->altup;
    if (altup) mr_device_altup_predict(p, il);
    if (l->recurrent != NULL)
        mr_device_recurrent(p, il);
    else if (l->o.w != NULL)
        mr_device_attention(p, il);
    if (altup) mr_device_altup_join(p);
    if (l->down.w != NULL || l->experts != NULL) mr_device_ffn(p, il);
    if (altup) mr_device_altup_correct(p, il);
    if (mr_layer_has_tail(l)) mr_device_layer_tail(p, il);
}

/* What choosing needs of n rows of logits: the best of each, or all its candidates. */
static void head_choice(const mr_device_pass *p, uint32_t n) {
    const mr_device_buffers *b = &p->device->buffers;
    size_t n_vocab = p->model->hparams.n_vocab;
    const mr_best_args best = {.logits = b->logits, .n_rows = n, .n = n_vocab, .ids = b->best};
    const mr_candidates_args candidates = {.logits = b->logits, .n_rows = n, .n = n_vocab, .candidates = b->candidates};
    if (p->candidates)
        p->ops->candidates(p->backend, &candidates);
    else
        p->ops->best(p->backend, &best);
}

/* Final norm and vocabulary projection of rows first .. first+n-1 of those that are wanted, and what choosing needs. */
static void head(const mr_device_pass *p, uint32_t first, uint32_t n) {
    const mr_hparams *h = &p->model->hparams;
    const mr_device_buffers *b = &p->device->buffers;
    const mr_copy_rows_args rows = {.from = b->x,
                                    .ld_from = h->n_embd,
                                    .rows = p->logit_tokens + first,
                                    .to = b->normed,
                                    .ld_to = h->n_embd,
                                    .n_rows = n,
                                    .n = h->n_embd};
    p->ops->copy_rows(p->backend, &rows);
    mr_device_norm(p, &p->device->output_norm, b->normed, b->normed, h->n_embd, n);
    mr_product_args item = mr_device_product(&p->model->output, b->normed, b->logits);
    item.bias = p->device->output_bias;
    p->ops->products(p->backend, &item, 1, n);
    if (h->logit_scale != 1.0f) p->ops->scale(p->backend, b->logits, (size_t)n * h->n_vocab, h->logit_scale);
    if (h->logit_softcap > 0.0f) p->ops->softcap(p->backend, b->logits, (size_t)n * h->n_vocab, h->logit_softcap);
    p->device->first_logits = first;
    head_choice(p, n);
}

static uint32_t head_rows(const mr_device_pass *p, uint32_t first) {
    uint32_t left = p->n_logits - first;
    return left < MR_LOGITS_ROWS ? left : MR_LOGITS_ROWS;
}

/* ---- the step
 * ---------------------------------------------------------------------------------------------------------- */

/* Arrays of a step: written here, to be read there at the same distance from the beginning. */
typedef struct step {
    mr_device *device;
    size_t at;
} step;

static size_t aligned(size_t n_bytes) {
    return (n_bytes + 15) / 16 * 16;
}

/* Room for an array; *there is its address on the device. */
static void *array(step *s, size_t n_bytes, const void **there) {
    void *here = s->device->step_host + s->at;
    *there = s->device->step + s->at;
    s->at += aligned(n_bytes);
    return here;
}

static mr_status ensure_step(mr_device *d, size_t n_bytes, mr_error *err) {
    if (n_bytes <= d->step_bytes) return MR_OK;
    const mr_backend_ops *ops = d->backend->ops;
    ops->forget(d->backend);
    ops->release(d->backend, d->step);
    ops->host_release(d->backend, d->step_host);
    d->step = d->step_host = NULL;
    d->step_bytes = 0;
    void *there = NULL, *here = NULL;
    n_bytes += n_bytes / 2;
    mr_status status = ops->alloc(d->backend, n_bytes, "the numbers of a step", &there, err);
    d->step = there;
    if (status == MR_OK) status = ops->host_alloc(d->backend, n_bytes, &here, err);
    d->step_host = here;
    if (status == MR_OK) d->step_bytes = n_bytes;
    return status;
}

/* A bound of the positions that changes seldom, so that recorded steps serve for long. */
static uint32_t round_positions(uint32_t n) {
    uint32_t bound = 512;
    while (bound < n && bound < UINT32_MAX / 2) bound *= 2;
    return bound;
}

static void fill_tokens(step *s, const mr_pass *p, mr_device_batch *batch) {
    size_t n = p->n_tokens * sizeof(int32_t);
    memcpy(array(s, n, (const void **)&batch->tokens), p->tokens, n);
    memcpy(array(s, n, (const void **)&batch->positions), p->positions, n);
    int32_t *slots = array(s, n, (const void **)&batch->slots);
    for (size_t i = 0; i < p->n_runs; i++) {
        const mr_batch_run *run = &p->runs[i];
        for (uint32_t t = 0; t < run->n_tokens; t++) {
            uint32_t pos = run->pos0 + t;
            slots[p->run_first[i] + t] = run->blocks[pos / MR_KV_BLOCK] * MR_KV_BLOCK + (int32_t)(pos % MR_KV_BLOCK);
        }
    }
}

static void fill_runs(step *s, const mr_pass *p, mr_device_batch *batch) {
    size_t n = p->n_runs, n_blocks = batch->ld_blocks;
    uint32_t *first = array(s, n * sizeof *first, (const void **)&batch->first);
    uint32_t *run_tokens = array(s, n * sizeof *run_tokens, (const void **)&batch->run_tokens);
    uint32_t *pos0 = array(s, n * sizeof *pos0, (const void **)&batch->pos0);
    uint32_t *ends = array(s, n * sizeof *ends, (const void **)&batch->ends);
    int32_t *blocks = array(s, n * n_blocks * sizeof *blocks, (const void **)&batch->blocks);
    memset(blocks, 0, n * n_blocks * sizeof *blocks);
    for (size_t i = 0; i < n; i++) {
        const mr_batch_run *run = &p->runs[i];
        first[i] = p->run_first[i];
        run_tokens[i] = run->n_tokens;
        pos0[i] = run->pos0;
        ends[i] = p->n_text > 0 ? p->n_text : run->pos0 + run->n_tokens;
        size_t used = (ends[i] + (size_t)MR_KV_BLOCK - 1) / MR_KV_BLOCK;
        memcpy(blocks + i * n_blocks, run->blocks, used * sizeof *blocks);
    }
}

/* As on the CPU: tokens that have no row have the first. */
static const int32_t *fill_table_tokens(step *s, const mr_pass *p) {
    const int32_t *there;
    int32_t *rows = array(s, p->n_tokens * sizeof *rows, (const void **)&there);
    for (size_t t = 0; t < p->n_tokens; t++)
        rows[t] = (uint64_t)p->tokens[t] < p->model->per_layer.n_rows ? p->tokens[t] : 0;
    return there;
}

static void fill_states(step *s, const mr_pass *p, mr_device_batch *batch) {
    size_t n = p->n_runs;
    uint32_t *n_mid = array(s, n * sizeof *n_mid, (const void **)&batch->n_mid);
    const float **in = array(s, n * sizeof *in, (const void **)&batch->state_in);
    float **out = array(s, n * sizeof *out, (const void **)&batch->state_out);
    float **mid = array(s, n * sizeof *mid, (const void **)&batch->state_mid);
    for (size_t i = 0; i < n; i++) {
        const mr_batch_run *run = &p->runs[i];
        n_mid[i] = run->n_mid;
        in[i] = run->pos0 > 0 ? run->state.device_data : NULL;
        out[i] = run->state_out.device_data;
        mid[i] = run->n_mid > 0 ? run->state_mid.device_data : NULL;
    }
}

mr_status mr_device_fill_step(const mr_pass *p, mr_device_pass *dp, mr_error *err) {
    mr_device_batch *batch = &dp->batch;
    *batch = (mr_device_batch){.n_tokens = p->n_tokens, .n_runs = (uint32_t)p->n_runs};
    for (size_t i = 0; i < p->n_runs; i++) {
        const mr_batch_run *run = &p->runs[i];
        if (run->n_tokens > batch->most_tokens) batch->most_tokens = run->n_tokens;
        if (run->pos0 + run->n_tokens > batch->most_positions) batch->most_positions = run->pos0 + run->n_tokens;
    }
    batch->most_positions = round_positions(batch->most_positions);
    batch->ld_blocks = batch->most_positions / MR_KV_BLOCK;
    size_t most = (3 + 2) * aligned(p->n_tokens * 4) + 5 * aligned(p->n_runs * 4) + 3 * aligned(p->n_runs * 8) +
                  aligned(p->n_runs * batch->ld_blocks * 4);
    mr_status status = ensure_step(dp->device, most, err);
    if (status != MR_OK) return status;
    step s = {.device = dp->device};
    fill_tokens(&s, p, batch);
    uint32_t *rows = array(&s, p->n_tokens * sizeof *rows, (const void **)&dp->logit_tokens);
    if (p->n_logits > 0) memcpy(rows, p->logit_tokens, p->n_logits * sizeof *rows);
    fill_runs(&s, p, batch);
    if (p->model->hparams.n_embd_per_layer > 0) dp->table_tokens = fill_table_tokens(&s, p);
    if (p->model->n_device_state_floats > 0) fill_states(&s, p, batch);
    dp->ops->send(dp->backend, dp->device->step, dp->device->step_host, s.at);
    return MR_OK;
}

/* Steps with equal keys are the same operations on the same addresses; 0: a step of its own. */
static uint64_t key_of(const mr_pass *p, const mr_device_pass *dp) {
    if (!p->one_token_runs || p->n_logits > MR_LOGITS_ROWS) return 0;
    const uint64_t parts[] = {p->n_runs,
                              p->n_logits,
                              dp->candidates,
                              dp->batch.most_positions,
                              (uint64_t)(uintptr_t)p->pool->device_data,
                              (uint64_t)p->pool->layout.type,
                              p->pool->device_block_bytes};
    uint64_t key = 14695981039346656037u; /* FNV-1a */
    const uint8_t *bytes = (const uint8_t *)parts;
    for (size_t i = 0; i < sizeof parts; i++) key = (key ^ bytes[i]) * 1099511628211u;
    return key | 1;
}

/* Issues everything up to the first logits; false when the pass was broken off, which it is not while it is recorded.
 */
static bool issue_layers(const mr_pass *p, const mr_device_pass *dp, bool may_stop) {
    mr_device_begin_tokens(dp);
    for (uint32_t il = dp->device->first_layer; il < p->model->hparams.n_layer; il++) {
        mr_device_layer(dp, il);
        if (may_stop && mr_cancel_is_set(p->abort_flag)) return false;
    }
    if (p->model->hparams.arch->altup) mr_device_altup_end(dp);
    if (p->n_logits > 0) head(dp, 0, head_rows(dp, 0));
    return true;
}

static bool issue(const mr_pass *p, const mr_device_pass *dp) {
    uint64_t key = key_of(p, dp);
    if (dp->ops->step_begin(dp->backend, key) == MR_STEP_REPLAYED) return true;
    bool whole = issue_layers(p, dp, key == 0);
    if (dp->ops->step_end(dp->backend) == MR_STEP_RUN) whole = issue_layers(p, dp, true);
    return whole;
}

/* What is on its way from the head, for rows from `first` on, to where it is wanted. */
static void hand_out(const mr_pass *p, const mr_device_pass *dp, uint32_t first, uint32_t n, const int32_t *best) {
    const mr_candidates *candidates = dp->device->candidates;
    for (uint32_t i = 0; i < n; i++) {
        if (p->best_rows[first + i] != NULL) *p->best_rows[first + i] = dp->candidates ? candidates[i].best : best[i];
        if (p->candidate_rows[first + i] != NULL) *p->candidate_rows[first + i] = candidates[i];
    }
}

/* The logits that are wanted, a few rows at a time, and in one transfer the best of each row or its candidates. */
static mr_status fetch_logits(const mr_pass *p, const mr_device_pass *dp, mr_error *err) {
    const mr_device_buffers *b = &dp->device->buffers;
    size_t n_vocab = p->model->hparams.n_vocab;
    int32_t best[MR_LOGITS_ROWS];
    mr_status status = MR_OK;
    for (uint32_t first = 0; first < p->n_logits && status == MR_OK; first += MR_LOGITS_ROWS) {
        uint32_t n = head_rows(dp, first);
        if (first > 0) head(dp, first, n);
        for (uint32_t i = 0; i < n; i++) {
            if (p->logit_rows[first + i] != NULL)
                dp->ops->fetch(dp->backend, p->logit_rows[first + i], b->logits + i * n_vocab, n_vocab * sizeof(float));
        }
        if (dp->candidates)
            dp->ops->fetch(dp->backend, dp->device->candidates, b->candidates, n * sizeof *b->candidates);
        else
            dp->ops->fetch(dp->backend, best, b->best, n * sizeof *best);
        status = dp->ops->sync(dp->backend, err);
        if (status == MR_OK) hand_out(p, dp, first, n, best);
    }
    return status;
}

void mr_device_fetch_hidden(const mr_device_pass *p, const mr_batch_run *run, size_t first) {
    const mr_device_buffers *b = &p->device->buffers;
    size_t n = p->model->hparams.n_embd, n_rows = run->n_hidden;
    if (n_rows == 0) return;
    const float *x = b->x + (first + run->n_tokens - n_rows) * n;
    const float *rows = mr_device_norm(p, &p->device->output_norm, x, b->normed, n, n_rows);
    p->ops->fetch(p->backend, run->hidden, rows, n_rows * n * sizeof *rows);
}

/* What the CPU's layers leave to those of the device: the residual streams, and the layers' own embeddings, which are
 * made of the tokens' embeddings for all layers at once. */
static void cross_border(const mr_pass *p, const mr_device_pass *dp) {
    const mr_hparams *h = &p->model->hparams;
    const mr_forward_buffers *from = &p->model->buffers;
    const mr_device_buffers *to = &dp->device->buffers;
    size_t n = p->n_tokens * sizeof(float);
    for (uint32_t i = 0; i < h->n_stream; i++)
        dp->ops->send(dp->backend, to->streams[i], from->streams[i], n * h->n_embd);
    if (h->n_embd_per_layer > 0)
        dp->ops->send(dp->backend, to->per_layer, from->per_layer, n * h->n_layer * h->n_embd_per_layer);
}

/* Whether candidates of some row are wanted; then there is room for them. */
static mr_status prepare_candidates(const mr_pass *p, mr_device_pass *dp, mr_error *err) {
    mr_device *d = dp->device;
    for (uint32_t i = 0; i < p->n_logits; i++) dp->candidates = dp->candidates || p->candidate_rows[i] != NULL;
    if (!dp->candidates || d->candidates != NULL) return MR_OK;
    void *here = NULL;
    mr_status status = dp->ops->host_alloc(d->backend, MR_LOGITS_ROWS * sizeof *d->candidates, &here, err);
    d->candidates = here;
    return status;
}

mr_status mr_device_fetch_logits(mr_model *model, const uint32_t *rows, float *const *to, size_t n, mr_error *err) {
    mr_device *d = model->device;
    size_t n_vocab = model->hparams.n_vocab;
    const mr_device_pass dp = {.model = model,
                               .device = d,
                               .backend = d->backend,
                               .ops = d->backend->ops,
                               .logit_tokens = d->logit_tokens,
                               .n_logits = d->n_logits};
    for (size_t i = 0; i < n; i++) {
        uint32_t first = rows[i] / MR_LOGITS_ROWS * MR_LOGITS_ROWS;
        if (rows[i] >= d->n_logits) {
            dp.ops->sync(d->backend, NULL);
            return mr_fail(err, MR_ERR_INVALID, "the last pass had %u rows of logits; there is no row %u", d->n_logits,
                           rows[i]);
        }
        if (first != d->first_logits) head(&dp, first, head_rows(&dp, first));
        dp.ops->fetch(d->backend, to[i], d->buffers.logits + (rows[i] - first) * n_vocab, n_vocab * sizeof(float));
    }
    return dp.ops->sync(d->backend, err);
}

mr_status mr_device_forward(const mr_pass *p, mr_error *err) {
    mr_device *d = p->model->device;
    mr_device_pass dp = {.model = p->model,
                         .device = d,
                         .backend = d->backend,
                         .ops = d->backend->ops,
                         .pool = p->pool,
                         .n_logits = p->n_logits};
    d->n_logits = d->first_logits = 0;
    mr_status status = prepare_candidates(p, &dp, err);
    if (status == MR_OK) status = mr_device_fill_step(p, &dp, err);
    if (status != MR_OK) return status;
    if (d->first_layer > 0) cross_border(p, &dp);
    bool whole = issue(p, &dp);
    if (whole) status = fetch_logits(p, &dp, err);
    for (size_t i = 0; i < p->n_runs && whole && status == MR_OK; i++)
        mr_device_fetch_hidden(&dp, &p->runs[i], p->run_first[i]);
    mr_status end = dp.ops->sync(d->backend, status == MR_OK ? err : NULL);
    if (status == MR_OK) status = end;
    if (whole && status == MR_OK) d->logit_tokens = dp.logit_tokens, d->n_logits = p->n_logits;
    return whole || status != MR_OK ? status : mr_fail(err, MR_ERR_CANCELLED, "the forward pass was interrupted");
}
