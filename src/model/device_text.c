/* On a device: texts of an encoder that are longer than a pass, part by part as forward_text.c computes them. */
#include "model/device.h"

#include "base/cancel.h"

typedef struct text {
    const mr_pass *p;     /* the parts as the runs of a batch */
    mr_device_pass whole; /* that batch, whose arrays the parts point into */
    mr_device_pass part;
    float *x, *cosines[MR_N_ROPES], *sines[MR_N_ROPES]; /* [tokens, …] as in the buffers */
} text;

static mr_status alloc_rows(const text *t, size_t n, float **rows, mr_error *err) {
    const mr_device_pass *p = &t->whole;
    void *memory = NULL;
    mr_status status = p->ops->alloc(p->backend, t->p->n_tokens * n * sizeof(float), "a long text", &memory, err);
    *rows = memory;
    return status;
}

static mr_status alloc_text(text *t, mr_error *err) {
    const mr_model *model = t->p->model;
    mr_status status = alloc_rows(t, model->hparams.n_embd, &t->x, err);
    for (int i = 0; i < MR_N_ROPES && status == MR_OK; i++) {
        size_t n_pairs = model->ropes[i].n_rot / 2;
        if (model->ropes[i].inv_freq == NULL || n_pairs == 0) continue;
        status = alloc_rows(t, n_pairs, &t->cosines[i], err);
        if (status == MR_OK) status = alloc_rows(t, n_pairs, &t->sines[i], err);
    }
    return status;
}

static void free_text(text *t) {
    const mr_device_pass *p = &t->whole;
    p->ops->release(p->backend, t->x);
    for (int i = 0; i < MR_N_ROPES; i++) {
        p->ops->release(p->backend, t->cosines[i]);
        p->ops->release(p->backend, t->sines[i]);
    }
}

/* Makes part i the batch, and its rows the buffers'. */
static void set_part(text *t, size_t i) {
    const mr_model *model = t->p->model;
    const mr_batch_run *run = &t->p->runs[i];
    mr_device_buffers *b = &t->whole.device->buffers;
    size_t first = t->p->run_first[i];
    mr_device_batch batch = t->whole.batch;
    batch.n_tokens = batch.most_tokens = run->n_tokens;
    batch.n_runs = 1;
    batch.tokens += first;
    batch.positions += first;
    batch.slots += first;
    batch.run_tokens += i; /* its first token is the batch's, as the first part's is */
    batch.pos0 += i;
    batch.ends += i;
    batch.blocks += i * batch.ld_blocks;
    t->part.batch = batch;
    b->x = t->x + first * model->hparams.n_embd;
    for (int r = 0; r < MR_N_ROPES; r++) {
        if (t->cosines[r] == NULL) continue;
        b->cosines[r] = t->cosines[r] + first * (model->ropes[r].n_rot / 2);
        b->sines[r] = t->sines[r] + first * (model->ropes[r].n_rot / 2);
    }
}

/* Issues layer il, or what comes before the first; false when the pass is broken off. */
static bool issue_layer(text *t, uint32_t il, mr_share_of_attention attention) {
    t->part.attention = attention;
    for (size_t i = 0; i < t->p->n_runs; i++) {
        if (mr_cancel_is_set(t->p->abort_flag)) return false;
        set_part(t, i);
        if (attention == MR_ATTENTION_ALL)
            mr_device_begin_tokens(&t->part);
        else if (attention == MR_ATTENTION_KEYS)
            mr_device_attention(&t->part, il);
        else
            mr_device_layer(&t->part, il);
    }
    return true;
}

static bool issue(text *t) {
    bool go_on = issue_layer(t, 0, MR_ATTENTION_ALL);
    for (uint32_t il = t->whole.device->first_layer; go_on && il < t->p->model->hparams.n_layer; il++)
        go_on = issue_layer(t, il, MR_ATTENTION_KEYS) && issue_layer(t, il, MR_ATTENTION_QUERIES);
    for (size_t i = 0; go_on && i < t->p->n_runs; i++) {
        set_part(t, i);
        mr_device_fetch_hidden(&t->part, &t->p->runs[i], 0);
    }
    return go_on;
}

mr_status mr_device_text(const mr_pass *p, const float *x, mr_error *err) {
    mr_device *d = p->model->device;
    const mr_backend_ops *ops = d->backend->ops;
    text t = {.p = p};
    t.whole = (mr_device_pass){.model = p->model, .device = d, .backend = d->backend, .ops = ops, .pool = p->pool};
    t.part = t.whole;
    d->n_logits = d->first_logits = 0;
    mr_status status = alloc_text(&t, err);
    if (status == MR_OK) status = mr_device_fill_step(p, &t.whole, err);
    if (status == MR_OK) {
        const mr_device_buffers own = d->buffers;
        if (d->first_layer > 0)
            ops->send(d->backend, t.x, x, (size_t)p->n_tokens * p->model->hparams.n_embd * sizeof *x);
        ops->step_begin(d->backend, 0);
        bool whole = issue(&t);
        ops->step_end(d->backend);
        d->buffers = own;
        status = ops->sync(d->backend, err);
        if (status == MR_OK && !whole) status = mr_fail(err, MR_ERR_CANCELLED, "the forward pass was interrupted");
    }
    free_text(&t);
    return status;
}
