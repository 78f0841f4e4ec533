/* The memory of a pass on a device, worked out from the model's sizes alone. */
#include "model/device.h"

enum { MAX_BUFFERS = 48 };

/* Buffers and their sizes in values of 4 bytes. */
typedef struct wanted {
    void *at[MAX_BUFFERS];
    size_t n_values[MAX_BUFFERS], n;
} wanted;

static void want(wanted *w, void *at, size_t n_rows, size_t n) {
    if (n_rows * n == 0) return;
    w->at[w->n] = at;
    w->n_values[w->n++] = n_rows * n;
}

/* What only the tensors tell. */
typedef struct widths {
    size_t shared; /* the widest shared expert */
    size_t laurel; /* rank */
    size_t n_in, n_conv, n_inner;
} widths;

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static widths widths_of(const mr_model *model) {
    widths w = {0};
    for (uint32_t il = 0; il < model->hparams.n_layer; il++) {
        const mr_layer *layer = &model->layers[il];
        if (layer->experts != NULL) w.shared = larger(w.shared, layer->experts->n_ff_shared);
        if (layer->altup.laurel_down.w != NULL)
            w.laurel = larger(w.laurel, mr_matrix_n_out(layer->altup.laurel_down.w));
        if (layer->recurrent == NULL) continue;
        w.n_in = larger(w.n_in, layer->recurrent->n_in);
        w.n_conv = larger(w.n_conv, layer->recurrent->n_conv);
        w.n_inner = larger(w.n_inner, layer->recurrent->n_inner);
    }
    return w;
}

static bool has_states(const mr_hparams *h) {
    for (uint32_t il = 0; il < h->n_layer; il++) {
        if (mr_layer_state_floats(h, il) > 0) return true;
    }
    return false;
}

/* Before the tensors are known, a little more than needed. */
static widths guess_widths(const mr_hparams *h) {
    widths w = {.shared = h->n_expert > 0 ? larger(h->n_ff, h->n_ff_expert) : 0, .laurel = h->n_stream > 1 ? 64 : 0};
    if (has_states(h)) {
        w.n_inner = larger((size_t)h->n_head_mix * h->dim_v_mix, h->n_embd);
        w.n_conv = w.n_inner + 2 * (size_t)h->n_group_mix * h->dim_k_mix;
        w.n_in = w.n_inner + w.n_conv + larger(2 * h->n_head_mix, h->n_embd);
    }
    return w;
}

static mr_layer_dims widest_dims(const mr_hparams *h) {
    mr_layer_dims widest = {0};
    for (uint32_t il = 0; il < h->n_layer; il++) {
        mr_layer_dims d = mr_layer_dims_of(h, il);
        if (d.n_head_kv > widest.n_head_kv) widest.n_head_kv = d.n_head_kv;
        if (d.head_dim_k > widest.head_dim_k) widest.head_dim_k = d.head_dim_k;
        if (d.head_dim_v > widest.head_dim_v) widest.head_dim_v = d.head_dim_v;
    }
    return widest;
}

static size_t hidden_values(const mr_hparams *h, const widths *widths) {
    size_t experts = (size_t)MR_BATCH_MAX * (h->n_expert_used * (size_t)h->n_ff_expert + widths->shared);
    return larger((size_t)MR_BATCH_MAX * h->n_ff, experts);
}

static void want_attention(wanted *w, mr_device_buffers *b, const mr_hparams *h) {
    const size_t T = MR_BATCH_MAX;
    mr_layer_dims d = widest_dims(h);
    want(w, &b->q, T, (size_t)h->n_head * d.head_dim_k);
    want(w, &b->k, T, (size_t)d.n_head_kv * d.head_dim_k);
    want(w, &b->v, T, (size_t)d.n_head_kv * d.head_dim_v);
    want(w, &b->attn, T, (size_t)h->n_head * d.head_dim_v);
    want(w, &b->q_gates, h->arch->gated_attention ? T : 0, 2 * (size_t)h->n_head * d.head_dim_k);
    if (h->kv_lora_rank > 0) {
        want(w, &b->q_latent, T, h->q_lora_rank);
        want(w, &b->q_heads, T, (size_t)h->n_head * (h->n_nope + h->n_rot));
        want(w, &b->v_heads, T, (size_t)h->n_head * h->mla_dim_v);
    }
    size_t n_rot = larger(h->n_rot, h->n_rot_local);
    for (int i = 0; i < MR_N_ROPES; i++) {
        want(w, &b->cosines[i], T, n_rot / 2);
        want(w, &b->sines[i], T, n_rot / 2);
    }
}

/* embeds: the layers' own embeddings are made there. */
static void list_buffers(wanted *w, mr_device_buffers *b, const mr_hparams *h, const widths *widths, bool embeds) {
    const size_t T = MR_BATCH_MAX, n_slots = T * h->n_expert_used, n_hidden = hidden_values(h, widths);
    w->n = 0;
    want(w, &b->x, T, h->n_embd);
    want(w, &b->normed, T, h->n_embd);
    want_attention(w, b, h);
    want(w, &b->mix, T, widths->n_in);
    want(w, &b->conv, T, widths->n_conv);
    want(w, &b->mixed, T, widths->n_inner);
    want(w, &b->h, 1, n_hidden);
    want(w, &b->h_up, 1, n_hidden);
    want(w, &b->block, n_slots + T, h->n_embd);
    want(w, &b->logits, MR_LOGITS_ROWS, h->n_vocab);
    want(w, &b->best, MR_LOGITS_ROWS, 1);
    want(w, &b->candidates, MR_LOGITS_ROWS, sizeof(mr_candidates) / sizeof(float));
    want(w, &b->per_layer, T, (size_t)h->n_layer * h->n_embd_per_layer);
    want(w, &b->per_token, embeds ? T : 0, (size_t)h->n_layer * h->n_embd_per_layer);
    want(w, &b->own, T, h->n_embd_per_layer);
    if (h->n_stream > 1) {
        for (uint32_t i = 1; i < h->n_stream; i++) want(w, &b->streams[i], T, h->n_embd);
        want(w, &b->predicted, T, h->n_embd);
        want(w, &b->laurel, T, h->n_embd);
        want(w, &b->laurel_low, T, widths->laurel);
        want(w, &b->modal, T, h->n_stream);
    }
    if (h->n_expert > 0) {
        want(w, &b->sum, T, h->n_embd);
        want(w, &b->router, T, h->n_expert);
        want(w, &b->shared_weight, T, 1);
        want(w, &b->chosen, n_slots, 1);
        want(w, &b->chosen_weight, n_slots, 1);
        want(w, &b->slot_begin, h->n_expert + 1, 1);
        want(w, &b->slot_token, n_slots, 1);
        want(w, &b->slot_of, n_slots, 1);
    }
}

size_t mr_device_buffer_bytes(const mr_hparams *hparams) {
    mr_device_buffers none;
    widths guessed = guess_widths(hparams);
    wanted w;
    size_t total = 0;
    list_buffers(&w, &none, hparams, &guessed, true);
    for (size_t i = 0; i < w.n; i++) total += (w.n_values[i] * sizeof(float) + 511) / 256 * 256;
    return total + total / 4; /* the back end's own: inputs in the forms that matrices want */
}

/* The inputs that products will have. */
static mr_status reserve_inputs(mr_model *model, const widths *widths, mr_error *err) {
    mr_backend *b = model->device->backend;
    const mr_hparams *h = &model->hparams;
    const size_t T = MR_BATCH_MAX;
    mr_layer_dims d = widest_dims(h);
    const size_t shapes[][2] = {{T, h->n_embd},
                                {T, (size_t)h->n_head * d.head_dim_v},
                                {T, h->n_ff},
                                {T * h->n_expert_used, h->n_ff_expert},
                                {T, widths->shared},
                                {T, h->q_lora_rank},
                                {T, (size_t)h->n_head * h->mla_dim_v},
                                {h->kv_lora_rank > 0 ? T * h->n_head : 0, larger(h->kv_lora_rank, h->n_nope)},
                                {T, widths->n_inner},
                                {T, h->n_embd_per_layer},
                                {T, widths->laurel}};
    mr_status status = MR_OK;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0] && status == MR_OK; i++) {
        if (shapes[i][0] * shapes[i][1] > 0) status = b->ops->reserve(b, shapes[i][0], shapes[i][1], err);
    }
    return status;
}

mr_status mr_device_buffers_init(mr_model *model, mr_error *err) {
    mr_device *d = model->device;
    widths widths = widths_of(model);
    wanted w;
    list_buffers(&w, &d->buffers, &model->hparams, &widths, d->first_layer == 0);
    mr_status status = MR_OK;
    for (size_t i = 0; i < w.n && status == MR_OK; i++) {
        status = mr_device_alloc(d, w.n_values[i] * sizeof(float), "the buffers of the forward pass", w.at[i], err);
    }
    d->buffers.streams[0] = d->buffers.x;
    return status == MR_OK ? reserve_inputs(model, &widths, err) : status;
}

mr_status mr_device_check(const mr_backend *backend, const mr_hparams *h, mr_error *err) {
    const mr_backend_ops *o = backend->ops;
    const char *lacks = NULL;
    bool recurrent = has_states(h);
    if (h->arch->altup && (o->match_size == NULL || o->streams_predict == NULL || o->streams_correct == NULL))
        lacks = "several residual streams";
    if (h->arch->xielu && o->xielu == NULL) lacks = "xIELU activations";
    if (h->arch->altup && o->cut == NULL) lacks = "sparse gates";
    if (recurrent && (o->conv == NULL || o->scan == NULL)) lacks = "recurrent layers";
    if (h->n_expert > 0 && (o->route == NULL || o->expert_products == NULL)) lacks = "mixtures of experts";
    if (h->kv_lora_rank > 0 && o->heads == NULL) lacks = "attention with compressed keys and values";
    if (lacks == NULL) return MR_OK;
    return mr_fail(err, MR_ERR_UNSUPPORTED, "%s has no kernels for models with %s (%s); choose the device cpu",
                   backend->name, lacks, h->arch->name);
}
