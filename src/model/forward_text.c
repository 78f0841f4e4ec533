/* Texts of an encoder that are longer than a pass. The residual stream and the angles of the whole text lie in memory
 * of their own; the buffers of the pass are for one part at a time. */
#include "model/forward.h"

#include "base/cancel.h"
#include "model/device.h"

#include <stdlib.h>

typedef struct text {
    mr_pass all;         /* the parts as runs of a batch */
    mr_pass part;        /* one of them as a batch of its own */
    mr_batch_run *parts; /* [all.n_runs] */
    uint32_t *first, *positions;
    float *x, *cosines[MR_N_ROPES], *sines[MR_N_ROPES]; /* [tokens, …] as in the buffers */
    uint32_t il;
} text;

static void free_text(text *t) {
    free(t->parts);
    free(t->first);
    free(t->positions);
    free(t->x);
    for (int i = 0; i < MR_N_ROPES; i++) free(t->cosines[i]), free(t->sines[i]);
}

/* The rows that the CPU's layers need. */
static bool alloc_rows(text *t, const mr_model *model) {
    size_t n = t->all.n_tokens;
    if (t->all.n_layer == 0) return true;
    bool ok = (t->x = malloc(n * model->hparams.n_embd * sizeof *t->x)) != NULL;
    for (int i = 0; i < MR_N_ROPES; i++) {
        size_t n_pairs = model->ropes[i].n_rot / 2;
        if (model->ropes[i].inv_freq == NULL || n_pairs == 0) continue;
        ok = (t->cosines[i] = malloc(n * n_pairs * sizeof(float))) != NULL && ok;
        ok = (t->sines[i] = malloc(n * n_pairs * sizeof(float))) != NULL && ok;
    }
    return ok;
}

/* Cuts the text into parts of part_tokens; each wants the hidden rows that the text wants of it. */
static void cut(text *t, const mr_batch_run *run, uint32_t part_tokens, size_t n_embd) {
    uint32_t unwanted = run->n_tokens - run->n_hidden;
    for (uint32_t at = 0, i = 0; at < run->n_tokens; at += part_tokens, i++) {
        uint32_t n = run->n_tokens - at < part_tokens ? run->n_tokens - at : part_tokens;
        uint32_t from = at > unwanted ? at : unwanted < at + n ? unwanted : at + n;
        t->first[i] = at;
        t->parts[i] = (mr_batch_run){.tokens = run->tokens + at,
                                     .n_tokens = n,
                                     .pos0 = at,
                                     .blocks = run->blocks,
                                     .n_hidden = at + n - from,
                                     .hidden = at + n > from ? run->hidden + (from - unwanted) * n_embd : NULL};
    }
    for (uint32_t i = 0; i < run->n_tokens; i++) t->positions[i] = i;
}

static mr_status begin(text *t, const mr_batch_run *run, uint32_t part_tokens, mr_error *err) {
    const mr_model *model = t->all.model;
    size_t n_parts = ((size_t)run->n_tokens + part_tokens - 1) / part_tokens;
    t->all.n_runs = n_parts;
    t->all.n_tokens = t->all.n_text = run->n_tokens;
    t->all.tokens = run->tokens;
    t->all.runs = t->parts = calloc(n_parts, sizeof *t->parts);
    t->all.run_first = t->first = calloc(n_parts, sizeof *t->first);
    t->all.positions = t->positions = calloc(run->n_tokens, sizeof *t->positions);
    if (t->parts == NULL || t->first == NULL || t->positions == NULL || !alloc_rows(t, model))
        return mr_fail_nomem(err, run->n_tokens * (size_t)model->hparams.n_embd * sizeof(float), "a text");
    cut(t, run, part_tokens, model->hparams.n_embd);
    return MR_OK;
}

/* Makes part i the batch, and its rows the buffers'. */
static void set_part(text *t, size_t i) {
    static const uint32_t zero = 0;
    mr_model *model = t->all.model;
    mr_forward_buffers *b = &model->buffers;
    size_t first = t->first[i];
    t->part.runs = &t->parts[i];
    t->part.run_first = &zero;
    t->part.n_tokens = t->parts[i].n_tokens;
    t->part.tokens = t->all.tokens + first;
    t->part.positions = t->positions + first;
    b->x = t->x + first * model->hparams.n_embd;
    for (int r = 0; r < MR_N_ROPES; r++) {
        if (t->cosines[r] == NULL) continue;
        b->cosines[r] = t->cosines[r] + first * (model->ropes[r].n_rot / 2);
        b->sines[r] = t->sines[r] + first * (model->ropes[r].n_rot / 2);
    }
}

static void embed_part(mr_worker *worker, void *arg) {
    text *t = arg;
    mr_embed_tokens(&t->part, worker);
}

static void store_keys(mr_worker *worker, void *arg) {
    text *t = arg;
    mr_attention_block(&t->part, worker, t->il);
}

static void compute_layer(mr_worker *worker, void *arg) {
    text *t = arg;
    mr_forward_layer(&t->part, worker, t->il);
}

static void write_part(mr_worker *worker, void *arg) {
    text *t = arg;
    mr_write_hidden(&t->part, worker);
}

/* Runs body for each part; false when the pass is broken off. */
static bool each_part(text *t, mr_share_of_attention attention, void (*body)(mr_worker *worker, void *arg)) {
    t->part.attention = attention;
    for (size_t i = 0; i < t->all.n_runs; i++) {
        if (mr_cancel_is_set(t->all.abort_flag)) return false;
        set_part(t, i);
        mr_team_run(t->all.model->team, body, t);
        if (atomic_load(&t->part.aborted[0]) || atomic_load(&t->part.aborted[1])) return false;
    }
    return true;
}

static bool compute(text *t) {
    const mr_model *model = t->all.model;
    if (!each_part(t, MR_ATTENTION_ALL, embed_part)) return false;
    for (t->il = 0; t->il < t->all.n_layer; t->il++) {
        if (!each_part(t, MR_ATTENTION_KEYS, store_keys)) return false;
        if (!each_part(t, MR_ATTENTION_QUERIES, compute_layer)) return false;
    }
    return t->all.n_layer < model->hparams.n_layer || each_part(t, MR_ATTENTION_ALL, write_part);
}

/* The CPU's layers; the buffers are the pass's again afterwards. */
static bool compute_here(text *t) {
    mr_forward_buffers *b = &t->all.model->buffers;
    const mr_forward_buffers own = *b;
    bool whole = compute(t);
    b->x = own.x;
    for (int i = 0; i < MR_N_ROPES; i++) b->cosines[i] = own.cosines[i], b->sines[i] = own.sines[i];
    return whole;
}

static mr_status check(const mr_model *model, const mr_batch_run *run, mr_error *err) {
    mr_status status = mr_check_whole_text(model, run, err);
    if (status == MR_OK && (run->n_tokens == 0 || run->n_hidden > run->n_tokens))
        status = mr_fail(err, MR_ERR_INVALID, "a text holds at least one token");
    for (uint32_t i = 0; i < run->n_tokens && status == MR_OK; i++) status = mr_check_token(model, run->tokens[i], err);
    return status;
}

mr_status mr_forward_text(mr_model *model, const mr_kv_pool *pool, const mr_batch_run *run, uint32_t part_tokens,
                          const mr_cancel *abort_flag, mr_error *err) {
    uint32_t n_layer = mr_model_first_device_layer(model);
    text t = {.all = {.model = model, .pool = pool, .n_layer = n_layer, .abort_flag = abort_flag},
              .part = {.model = model,
                       .pool = pool,
                       .n_runs = 1,
                       .n_layer = n_layer,
                       .n_text = run->n_tokens,
                       .abort_flag = abort_flag}};
    mr_status status = check(model, run, err);
    if (status == MR_OK) status = begin(&t, run, part_tokens, err);
    if (status == MR_OK) {
        mr_pass_layers(&t.all);
        if (n_layer > 0 && !compute_here(&t))
            status = mr_fail(err, MR_ERR_CANCELLED, "the forward pass was interrupted");
    }
    if (status == MR_OK && model->device != NULL) status = mr_device_text(&t.all, t.x, err);
    free_text(&t);
    return status;
}
