/* What goes to a device while a model is loaded, and how it is freed. */
#include "model/device.h"

#include <stdlib.h>
#include <string.h>

/* Vectors on their way to the device: where the pointer is, and how many values it points to. */
enum { MAX_VECTORS = 96 };
typedef struct vectors {
    float **at[MAX_VECTORS];
    size_t n_values[MAX_VECTORS], n;
} vectors;

static void add(vectors *v, float **at, size_t n_values) {
    if (*at == NULL || v->n == MAX_VECTORS) return;
    v->at[v->n] = at;
    v->n_values[v->n++] = n_values;
}

static void add_norm(vectors *v, mr_norm_weights *norm, size_t n) {
    add(v, &norm->weight, n);
    add(v, &norm->bias, n);
}

static void add_bias(vectors *v, mr_linear *linear) {
    if (linear->w != NULL) add(v, &linear->bias, mr_matrix_n_out(linear->w));
}

static void add_mla(vectors *v, const mr_hparams *h, mr_mla *mla) {
    add_bias(v, &mla->q_down);
    add_bias(v, &mla->q_up);
    add_bias(v, &mla->kv_down);
    add_norm(v, &mla->q_norm, h->q_lora_rank);
    add(v, &mla->kv_norm, h->kv_lora_rank);
}

static void add_recurrent(vectors *v, const mr_hparams *h, mr_recurrent *r) {
    for (size_t i = 0; i < sizeof r->in / sizeof r->in[0]; i++) add_bias(v, &r->in[i]);
    add_bias(v, &r->out);
    add(v, &r->conv_weight, (size_t)h->conv_width * r->n_conv);
    add(v, &r->conv_bias, r->n_conv);
    add(v, &r->dt_bias, h->n_head_mix);
    add(v, &r->a, h->n_head_mix);
    add(v, &r->d, h->n_head_mix);
    add(v, &r->norm, r->kind == MR_MIXER_MAMBA2 ? r->n_inner : h->dim_v_mix);
}

static void add_experts(vectors *v, const mr_hparams *h, mr_experts *e) {
    size_t n = h->n_expert;
    mr_linear *linears[] = {&e->router, &e->shared_gate, &e->shared_up, &e->shared_down, &e->shared_router};
    for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) add_bias(v, linears[i]);
    add(v, &e->choice_bias, n);
    add(v, &e->gate_bias, n * h->n_ff_expert);
    add(v, &e->up_bias, n * h->n_ff_expert);
    add(v, &e->down_bias, n * h->n_embd);
    add(v, &e->scales, n);
    mr_norm_weights *norms[] = {&e->router_norm, &e->experts_norm, &e->experts_post_norm, &e->shared_post_norm};
    for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) add_norm(v, norms[i], h->n_embd);
}

static void add_altup(vectors *v, const mr_hparams *h, mr_altup *altup) {
    size_t n = h->n_stream;
    add_bias(v, &altup->router);
    add_bias(v, &altup->laurel_down);
    add_bias(v, &altup->laurel_up);
    add_norm(v, &altup->router_norm, h->n_embd);
    add_norm(v, &altup->laurel_norm, h->n_embd);
    add(v, &altup->predict, n * n * n);
    add(v, &altup->correct, n * n);
    add(v, &altup->correct_scale, h->n_embd);
}

static size_t head_norm_values(const mr_head_norm *norm, size_t n_heads) {
    return norm->weight_step > 0 ? norm->weight_step * n_heads : norm->dim;
}

static void list_vectors(vectors *v, const mr_hparams *h, mr_layer *layer) {
    mr_norm_weights *norms[] = {&layer->attn_norm,     &layer->attn_post_norm, &layer->ffn_norm,
                                &layer->ffn_post_norm, &layer->attn_sum_norm,  &layer->ffn_sum_norm,
                                &layer->own.post_norm};
    mr_linear *linears[] = {&layer->q,  &layer->k,    &layer->v,        &layer->o,     &layer->gate,
                            &layer->up, &layer->down, &layer->own.gate, &layer->own.up};
    v->n = 0;
    for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) add_norm(v, norms[i], h->n_embd);
    for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) add_bias(v, linears[i]);
    add(v, &layer->sinks, h->n_head);
    add(v, &layer->q_norm.weight, head_norm_values(&layer->q_norm, h->n_head));
    add(v, &layer->k_norm.weight, head_norm_values(&layer->k_norm, layer->dims.n_head_kv));
    if (layer->mla != NULL) add_mla(v, h, layer->mla);
    if (layer->recurrent != NULL) add_recurrent(v, h, layer->recurrent);
    if (layer->experts != NULL) add_experts(v, h, layer->experts);
    if (layer->altup.router.w != NULL) add_altup(v, h, &layer->altup);
}

static size_t padded(size_t n_values) {
    return (n_values + 63) / 64 * 64;
}

/* Copies all vectors into one piece of device memory and lets the pointers lead there; what they led to is freed when
 * `free_old`. */
static mr_status move_vectors(mr_device *d, const vectors *v, bool free_old, void **memory, mr_error *err) {
    size_t total = 64, at = 0;
    for (size_t i = 0; i < v->n; i++) total += padded(v->n_values[i]);
    float *gathered = calloc(total, sizeof *gathered);
    if (gathered == NULL) return mr_fail_nomem(err, total * sizeof *gathered, "the norms of a layer");
    for (size_t i = 0; i < v->n; at += padded(v->n_values[i++]))
        memcpy(gathered + at, *v->at[i], v->n_values[i] * sizeof *gathered);
    mr_status status =
        d->backend->ops->alloc(d->backend, total * sizeof *gathered, "the norms of a layer", memory, err);
    if (status == MR_OK) status = d->backend->ops->upload(d->backend, *memory, gathered, total * sizeof *gathered, err);
    free(gathered);
    if (status != MR_OK) {
        d->backend->ops->release(d->backend, *memory);
        *memory = NULL;
        return status;
    }
    at = 0;
    for (size_t i = 0; i < v->n; at += padded(v->n_values[i++])) {
        if (free_old) free(*v->at[i]);
        *v->at[i] = (float *)*memory + at;
    }
    d->n_bytes += total * sizeof *gathered;
    return MR_OK;
}

static mr_status make_stack(mr_device *d, mr_matrix *const *matrices, size_t n, mr_stack **stack, mr_error *err) {
    return matrices == NULL ? MR_OK : d->backend->ops->stack(d->backend, stack, matrices, n, err);
}

static mr_status make_stacks(mr_device *d, const mr_hparams *h, mr_layer *layer, mr_error *err) {
    struct mr_device_layer *dl = layer->device;
    const mr_experts *e = layer->experts;
    const mr_mla *mla = layer->mla;
    mr_status status = MR_OK;
    if (e != NULL) status = make_stack(d, e->gate, h->n_expert, &dl->gate, err);
    if (e != NULL && status == MR_OK) status = make_stack(d, e->up, h->n_expert, &dl->up, err);
    if (e != NULL && status == MR_OK) status = make_stack(d, e->down, h->n_expert, &dl->down, err);
    if (mla != NULL && status == MR_OK) status = make_stack(d, mla->k_up, h->n_head, &dl->k_up, err);
    if (mla != NULL && status == MR_OK) status = make_stack(d, mla->v_up, h->n_head, &dl->v_up, err);
    return status;
}

mr_status mr_device_place_layer(mr_model *model, uint32_t il, mr_error *err) {
    mr_device *d = model->device;
    mr_layer *layer = &model->layers[il];
    vectors v;
    layer->device = calloc(1, sizeof *layer->device);
    if (layer->device == NULL) return mr_fail_nomem(err, sizeof *layer->device, "a layer");
    mr_status status = make_stacks(d, &model->hparams, layer, err);
    if (status != MR_OK) return status;
    list_vectors(&v, &model->hparams, layer);
    return move_vectors(d, &v, true, &layer->device->vectors, err);
}

void mr_device_free_layer(mr_model *model, mr_layer *layer) {
    struct mr_device_layer *dl = layer->device;
    if (dl == NULL) return;
    mr_backend *b = model->device->backend;
    mr_stack *stacks[] = {dl->gate, dl->up, dl->down, dl->k_up, dl->v_up};
    for (size_t i = 0; i < sizeof stacks / sizeof stacks[0]; i++) b->ops->stack_free(b, stacks[i]);
    if (dl->vectors != NULL) {
        vectors v;
        list_vectors(&v, &model->hparams, layer);
        for (size_t i = 0; i < v.n; i++) *v.at[i] = NULL;
        b->ops->release(b, dl->vectors);
    }
    free(dl);
    layer->device = NULL;
}

mr_status mr_device_alloc(mr_device *d, size_t n_bytes, const char *what, void *address, mr_error *err) {
    void *memory = NULL;
    if (d->n_allocations == MR_DEVICE_ALLOCATIONS)
        return mr_fail(err, MR_ERR_INTERNAL, "a model has more than %d buffers", MR_DEVICE_ALLOCATIONS);
    mr_status status = d->backend->ops->alloc(d->backend, n_bytes, what, &memory, err);
    if (status != MR_OK) return status;
    d->allocations[d->n_allocations++] = memory;
    d->n_bytes += n_bytes;
    memcpy(address, &memory, sizeof memory);
    return MR_OK;
}

/* Rows that embed reads: a table of their own unless the output matrix, packed, serves. */
static mr_status place_tables(mr_model *model, mr_error *err) {
    mr_device *d = model->device;
    const mr_hparams *h = &model->hparams;
    const mr_backend_ops *ops = d->backend->ops;
    mr_status status = MR_OK;
    if (d->first_layer > 0) return MR_OK; /* the CPU reads the rows */
    bool tied = ops->packed_tables && model->output.w != NULL && model->output_is_embd &&
                mr_matrix_dtype(model->output.w) == model->embd_type->type;
    if (tied) {
        d->embd_table = model->output.w;
        d->table_is_output = true;
    } else {
        status = ops->table(d->backend, &d->embd_table, model->embd_type->type, model->embd_rows, h->n_vocab, h->n_embd,
                            model->team, err);
        if (status == MR_OK) model->info.weight_bytes += mr_matrix_bytes(d->embd_table);
    }
    if (status == MR_OK && h->n_embd_per_layer > 0) {
        size_t n_rows = model->per_layer.n_rows < h->n_vocab ? model->per_layer.n_rows : h->n_vocab;
        status = ops->table(d->backend, &d->per_layer_table, model->per_layer.type->type, model->per_layer.rows, n_rows,
                            (size_t)h->n_layer * h->n_embd_per_layer, model->team, err);
        if (status == MR_OK) model->info.weight_bytes += mr_matrix_bytes(d->per_layer_table);
    }
    return status;
}

mr_status mr_device_place_model(mr_model *model, mr_error *err) {
    mr_device *d = model->device;
    const mr_hparams *h = &model->hparams;
    vectors v = {.n = 0};
    d->output_norm = model->output_norm;
    d->output_bias = model->output.bias;
    add_norm(&v, &d->output_norm, h->n_embd);
    add(&v, &d->output_bias, h->n_vocab);
    if (d->first_layer == 0) { /* else the CPU embeds */
        d->embd_norm = model->embd_norm;
        d->per_layer_norm = model->per_layer.norm;
        d->positions = model->positions;
        add_norm(&v, &d->embd_norm, h->n_embd);
        add_norm(&v, &d->per_layer_norm, h->n_embd_per_layer);
        add(&v, &d->positions, (size_t)h->n_ctx_train * h->n_embd);
    }
    for (int i = 0; i < MR_N_ROPES; i++) {
        d->inv_freq[i] = model->ropes[i].inv_freq;
        add(&v, &d->inv_freq[i], model->ropes[i].n_rot / 2);
    }
    mr_status status = move_vectors(d, &v, false, &d->vectors, err);
    return status == MR_OK ? place_tables(model, err) : status;
}

void mr_device_free(mr_device *d) {
    if (d == NULL) return;
    const mr_backend_ops *ops = d->backend->ops;
    ops->forget(d->backend);
    if (!d->table_is_output) mr_matrix_free(d->embd_table);
    mr_matrix_free(d->per_layer_table);
    ops->release(d->backend, d->vectors);
    for (size_t i = 0; i < d->n_allocations; i++) ops->release(d->backend, d->allocations[i]);
    ops->release(d->backend, d->step);
    ops->host_release(d->backend, d->step_host);
    ops->host_release(d->backend, d->candidates);
    if (d->owned) mr_backend_close(d->backend);
    free(d);
}
