/* Loading of mixtures of experts. */
#include "model/forward.h"
#include "model/load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAME_BYTES = 128 };

/* "blk.IL.NAME" */
static const char *in_layer(uint32_t il, const char *name, char buffer[static NAME_BYTES]) {
    snprintf(buffer, NAME_BYTES, "blk.%u.%s", il, name);
    return buffer;
}

static bool layer_has(const mr_loader *l, uint32_t il, const char *name) {
    char full[NAME_BYTES];
    return mr_load_has(l, in_layer(il, name, full));
}

/* Where expert i of a stack is: WHAT_exps.weight holds all, one after the other; older files have WHAT.0.weight and so
 * on. */
typedef struct expert_rows {
    char name[NAME_BYTES];
    size_t first, total; /* rows */
} expert_rows;

static expert_rows find_expert(const mr_loader *l, uint32_t il, const char *what, size_t i, size_t n_out) {
    expert_rows rows = {.total = n_out};
    snprintf(rows.name, sizeof rows.name, "blk.%u.%s.%zu.weight", il, what, i);
    if (mr_load_has(l, rows.name)) return rows;
    snprintf(rows.name, sizeof rows.name, "blk.%u.%s_exps.weight", il, what);
    rows.first = i * n_out;
    rows.total = l->model->hparams.n_expert * n_out;
    return rows;
}

/* The experts of a layer read the same inputs. */
static mr_status check_kinds(mr_loader *l, uint32_t il, const char *what, mr_matrix *const *matrices) {
    for (size_t i = 1; i < l->model->hparams.n_expert; i++) {
        if (mr_kind_of(matrices[i]) == mr_kind_of(matrices[0])) continue;
        return mr_fail(l->err, MR_ERR_UNSUPPORTED,
                       "experts 0 and %zu of blk.%u.%s have types that do not go together; quantize the model to one "
                       "type",
                       i, il, what);
    }
    return MR_OK;
}

/* Fills a stack of n_expert matrices, which are NULL or reserved. */
static mr_status load_stack(mr_loader *l, uint32_t il, const char *what, size_t n_out, size_t n_in,
                            mr_matrix **matrices) {
    mr_status status = MR_OK;
    for (size_t i = 0; i < l->model->hparams.n_expert && status == MR_OK; i++) {
        expert_rows rows = find_expert(l, il, what, i, n_out);
        status = mr_load_rows(l, rows.name, rows.first, n_out, rows.total, n_in, &matrices[i]);
    }
    return status == MR_OK ? check_kinds(l, il, what, matrices) : status;
}

static mr_status new_stack(mr_loader *l, mr_matrix ***matrices) {
    size_t n = l->model->hparams.n_expert;
    *matrices = calloc(n, sizeof(mr_matrix *));
    return *matrices != NULL ? MR_OK : mr_fail_nomem(l->err, n * sizeof(mr_matrix *), "the experts");
}

/* Gates and ups of each expert may be one tensor, gates first. */
static mr_status load_gates_ups(mr_loader *l, uint32_t il, mr_experts *e) {
    const mr_hparams *h = &l->model->hparams;
    size_t n = h->n_expert, ff = h->n_ff_expert;
    char name[NAME_BYTES];
    bool joint = mr_load_has(l, in_layer(il, "ffn_gate_up_exps.weight", name));
    mr_status status = new_stack(l, &e->gate);
    if (status == MR_OK) status = new_stack(l, &e->up);
    for (size_t i = 0; i < n && status == MR_OK; i++) {
        expert_rows gate = find_expert(l, il, "ffn_gate", i, ff), up = find_expert(l, il, "ffn_up", i, ff);
        if (joint)
            mr_load_reserve_pair(l, name, name, ff, 2 * n * ff, h->n_embd, &e->gate[i], &e->up[i]);
        else
            mr_load_reserve_pair(l, gate.name, up.name, ff, gate.total, h->n_embd, &e->gate[i], &e->up[i]);
    }
    for (size_t i = 0; joint && i < 2 * n && status == MR_OK; i++) {
        mr_matrix **matrices = i % 2 == 0 ? e->gate : e->up;
        status = mr_load_rows(l, name, i * ff, ff, 2 * n * ff, h->n_embd, &matrices[i / 2]);
    }
    if (joint || status != MR_OK) return status;
    status = load_stack(l, il, "ffn_gate", ff, h->n_embd, e->gate);
    return status == MR_OK ? load_stack(l, il, "ffn_up", ff, h->n_embd, e->up) : status;
}

/* Biases of all experts, [n_expert, n], where there are any. */
static mr_status load_stack_bias(mr_loader *l, uint32_t il, const char *what, size_t n, float **bias) {
    char name[NAME_BYTES];
    if (!mr_load_has(l, in_layer(il, what, name))) return MR_OK;
    return mr_load_floats(l, name, l->model->hparams.n_expert, n, bias);
}

/* A shared expert whose gate and up are one tensor, gate first. */
static mr_status load_fused_shared(mr_loader *l, uint32_t il, const mr_gguf_tensor *tensor, mr_experts *e) {
    size_t n_embd = l->model->hparams.n_embd, n = (size_t)tensor->shape[1] / 2;
    char name[NAME_BYTES];
    if (tensor->shape[1] > (uint64_t)1 << 20 || tensor->shape[1] % 2 != 0)
        return mr_fail(l->err, MR_ERR_INVALID, "tensor %s has an impossible shape", tensor->name);
    e->n_ff_shared = (uint32_t)n;
    in_layer(il, "ffn_up_shexp", name);
    mr_status status = mr_load_linear_rows(l, name, 0, n, 2 * n, n_embd, &e->shared_gate);
    if (status == MR_OK) status = mr_load_linear_rows(l, name, n, n, 2 * n, n_embd, &e->shared_up);
    return status == MR_OK ? mr_load_linear(l, in_layer(il, "ffn_down_shexp", name), n_embd, n, &e->shared_down)
                           : status;
}

/* The shared expert is a plain FFN where one stands beside the experts. */
static mr_status load_shared_expert(mr_loader *l, uint32_t il, mr_experts *e) {
    const mr_hparams *h = &l->model->hparams;
    char name[NAME_BYTES], gate[NAME_BYTES], up[NAME_BYTES], down[NAME_BYTES];
    bool plain = mr_load_has(l, in_layer(il, "ffn_gate.weight", name));
    const mr_gguf_tensor *tensor =
        mr_gguf_find_tensor(l->gguf, plain ? name : in_layer(il, "ffn_gate_shexp.weight", name));
    if (tensor == NULL && layer_has(l, il, "ffn_up_shexp.weight"))
        return load_fused_shared(l, il, mr_gguf_find_tensor(l->gguf, in_layer(il, "ffn_up_shexp.weight", name)), e);
    if (tensor == NULL) return MR_OK;
    in_layer(il, plain ? "ffn_gate" : "ffn_gate_shexp", gate);
    in_layer(il, plain ? "ffn_up" : "ffn_up_shexp", up);
    in_layer(il, plain ? "ffn_down" : "ffn_down_shexp", down);
    if (tensor->shape[1] > (uint64_t)1 << 20)
        return mr_fail(l->err, MR_ERR_INVALID, "tensor %s has an impossible shape", name);
    e->n_ff_shared = (uint32_t)tensor->shape[1];
    mr_status status = mr_load_linear(l, gate, e->n_ff_shared, h->n_embd, &e->shared_gate);
    if (status == MR_OK) status = mr_load_linear(l, up, e->n_ff_shared, h->n_embd, &e->shared_up);
    if (status == MR_OK && mr_kind_of(e->shared_gate.w) != mr_kind_of(e->shared_up.w)) {
        return mr_fail(l->err, MR_ERR_UNSUPPORTED, "tensors %s and %s have types that do not go together", gate, up);
    }
    if (status == MR_OK) status = mr_load_linear(l, down, h->n_embd, e->n_ff_shared, &e->shared_down);
    if (status == MR_OK && layer_has(l, il, "ffn_gate_inp_shexp.weight")) {
        status = mr_load_linear(l, in_layer(il, "ffn_gate_inp_shexp", name), 1, h->n_embd, &e->shared_router);
    }
    return status;
}

/* Gemma 4's router norms its input itself, divides it by the root of its size and multiplies it by a scale. */
static mr_status load_own_norms(mr_loader *l, uint32_t il, mr_experts *e) {
    const mr_hparams *h = &l->model->hparams;
    char name[NAME_BYTES];
    mr_status status = mr_load_vector(l, in_layer(il, "ffn_gate_inp.scale", name), h->n_embd, &e->router_norm.weight);
    if (status != MR_OK) return status;
    for (size_t i = 0; i < h->n_embd; i++) e->router_norm.weight[i] /= sqrtf((float)h->n_embd);
    status = mr_load_norm(l, in_layer(il, "pre_ffw_norm_2", name), h->n_embd, true, &e->experts_norm);
    if (status == MR_OK)
        status = mr_load_norm(l, in_layer(il, "post_ffw_norm_1", name), h->n_embd, true, &e->shared_post_norm);
    if (status == MR_OK)
        status = mr_load_norm(l, in_layer(il, "post_ffw_norm_2", name), h->n_embd, true, &e->experts_post_norm);
    if (status == MR_OK && mr_load_has(l, in_layer(il, "ffn_down_exps.scale", name)))
        status = mr_load_vector(l, name, h->n_expert, &e->scales);
    return status;
}

mr_status mr_load_experts(mr_loader *l, uint32_t il, mr_layer *layer) {
    const mr_hparams *h = &l->model->hparams;
    mr_experts *e = layer->experts = calloc(1, sizeof *e);
    char name[NAME_BYTES];
    if (e == NULL) return mr_fail_nomem(l->err, sizeof *e, "the experts");
    mr_status status = mr_load_linear(l, in_layer(il, "ffn_gate_inp", name), h->n_expert, h->n_embd, &e->router);
    if (status == MR_OK && layer_has(l, il, "exp_probs_b.bias")) {
        status = mr_load_vector(l, in_layer(il, "exp_probs_b.bias", name), h->n_expert, &e->choice_bias);
    }
    if (status == MR_OK) status = load_gates_ups(l, il, e);
    if (status == MR_OK) status = new_stack(l, &e->down);
    if (status == MR_OK) status = load_stack(l, il, "ffn_down", h->n_embd, h->n_ff_expert, e->down);
    if (status == MR_OK) status = load_stack_bias(l, il, "ffn_gate_exps.bias", h->n_ff_expert, &e->gate_bias);
    if (status == MR_OK) status = load_stack_bias(l, il, "ffn_up_exps.bias", h->n_ff_expert, &e->up_bias);
    if (status == MR_OK) status = load_stack_bias(l, il, "ffn_down_exps.bias", h->n_embd, &e->down_bias);
    if (status == MR_OK) status = load_shared_expert(l, il, e);
    if (status == MR_OK && mr_load_has(l, in_layer(il, "pre_ffw_norm_2.weight", name)))
        status = load_own_norms(l, il, e);
    return status;
}

void mr_free_stack(mr_matrix **matrices, uint32_t n) {
    for (uint32_t i = 0; matrices != NULL && i < n; i++) mr_matrix_free(matrices[i]);
    free(matrices);
}

void mr_free_experts(mr_experts *e, uint32_t n_expert) {
    if (e == NULL) return;
    mr_linear *linears[] = {&e->router, &e->shared_gate, &e->shared_up, &e->shared_down, &e->shared_router};
    for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) mr_free_linear(linears[i]);
    mr_norm_weights *norms[] = {&e->router_norm, &e->experts_norm, &e->experts_post_norm, &e->shared_post_norm};
    for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) free(norms[i]->weight), free(norms[i]->bias);
    free(e->scales);
    free(e->choice_bias);
    free(e->gate_bias);
    free(e->up_bias);
    free(e->down_bias);
    mr_free_stack(e->gate, n_expert);
    mr_free_stack(e->up, n_expert);
    mr_free_stack(e->down, n_expert);
    free(e);
}
