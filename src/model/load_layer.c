#include "model/forward.h"
#include "model/load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static mr_status load_attention(mr_loader *l, uint32_t il, mr_layer *layer) {
    const mr_hparams *h = &l->model->hparams;
    const mr_layer_dims *d = &layer->dims;
    if (h->kv_lora_rank > 0) return mr_load_mla(l, il, layer);
    size_t n_q = (size_t)h->n_head * d->head_dim_k, n_k = (size_t)d->n_head_kv * d->head_dim_k;
    size_t n_v = (size_t)d->n_head_kv * d->head_dim_v, n_attn = (size_t)h->n_head * d->head_dim_v,
           n_qkv = n_q + n_k + n_v;
    char name[NAME_BYTES];
    mr_status status;
    if (layer_has(l, il, "attn_qkv.weight")) {
        in_layer(il, "attn_qkv", name);
        status = mr_load_linear_rows(l, name, 0, n_q, n_qkv, h->n_embd, &layer->q);
        if (status == MR_OK) status = mr_load_linear_rows(l, name, n_q, n_k, n_qkv, h->n_embd, &layer->k);
        if (status == MR_OK) status = mr_load_linear_rows(l, name, n_q + n_k, n_v, n_qkv, h->n_embd, &layer->v);
    } else {
        status = mr_load_linear(l, in_layer(il, "attn_q", name), n_q, h->n_embd, &layer->q);
        if (status == MR_OK) status = mr_load_linear(l, in_layer(il, "attn_k", name), n_k, h->n_embd, &layer->k);
        if (status == MR_OK) status = mr_load_linear(l, in_layer(il, "attn_v", name), n_v, h->n_embd, &layer->v);
    }
    if (status == MR_OK) status = mr_load_linear(l, in_layer(il, "attn_output", name), h->n_embd, n_attn, &layer->o);
    if (status == MR_OK && layer_has(l, il, "attn_sinks.weight"))
        status = mr_load_vector(l, in_layer(il, "attn_sinks.weight", name), h->n_head, &layer->sinks);
    return status;
}

/* What a norm of queries or keys covers shows in its shape: [head_dim], [n_head, head_dim] or [n_head * head_dim]. */
static mr_status load_head_norm(mr_loader *l, uint32_t il, const char *what, uint32_t head_dim, uint32_t n_head,
                                mr_head_norm *norm) {
    char name[NAME_BYTES];
    const mr_gguf_tensor *tensor = mr_gguf_find_tensor(l->gguf, in_layer(il, what, name));
    if (tensor == NULL) return MR_OK;
    bool own_weights = tensor->shape[1] > 1;
    norm->dim = !own_weights && tensor->shape[0] == (uint64_t)head_dim * n_head ? head_dim * n_head : head_dim;
    norm->weight_step = own_weights ? head_dim : 0;
    return mr_load_floats(l, name, own_weights ? n_head : 1, norm->dim, &norm->weight);
}

static mr_status load_norms(mr_loader *l, uint32_t il, mr_layer *layer) {
    const mr_hparams *h = &l->model->hparams;
    char name[NAME_BYTES];
    /* A block has a norm before it, behind it, or both; only models with one behind may lack the one before. */
    bool ffn_norm_there = layer_has(l, il, "ffn_norm.weight");
    bool post_is_ffn = h->arch->post_attention_norm_is_ffn_norm;
    bool behind = layer_has(l, il, "post_attention_norm.weight") && !post_is_ffn;
    mr_status status = mr_load_norm(l, in_layer(il, "attn_norm", name), h->n_embd, !behind, &layer->attn_norm);
    if (status == MR_OK && behind) {
        status = mr_load_norm(l, in_layer(il, "post_attention_norm", name), h->n_embd, true, &layer->attn_post_norm);
    }
    bool needs_ffn_norm = !behind && !h->arch->ffn_parallel;
    const char *ffn_norm = post_is_ffn && !ffn_norm_there ? "post_attention_norm" : "ffn_norm";
    if (status == MR_OK)
        status = mr_load_norm(l, in_layer(il, ffn_norm, name), h->n_embd, needs_ffn_norm, &layer->ffn_norm);
    if (status == MR_OK)
        status = mr_load_norm(l, in_layer(il, "post_ffw_norm", name), h->n_embd, false, &layer->ffn_post_norm);
    if (status == MR_OK)
        status = load_head_norm(l, il, "attn_q_norm.weight", layer->dims.head_dim_k, h->n_head, &layer->q_norm);
    if (status == MR_OK)
        status =
            load_head_norm(l, il, "attn_k_norm.weight", layer->dims.head_dim_k, layer->dims.n_head_kv, &layer->k_norm);
    return status;
}

static mr_status read_of_layer(mr_loader *l, const char *key, uint32_t il, float *value) {
    const mr_gguf_value *list = mr_gguf_find(l->gguf, key);
    if (list != NULL && mr_gguf_array_f32(list, il, value)) return MR_OK;
    if (list != NULL && list->type != MR_GGUF_ARRAY && mr_gguf_f32(l->gguf, key, value)) return MR_OK;
    return mr_fail(l->err, MR_ERR_INVALID, "the model file has no metadata %s for layer %u", key, il);
}

/* The file holds what softplus makes positive. */
static mr_status load_xielu(mr_loader *l, uint32_t il, mr_layer *layer) {
    float p = 0.0f, n = 0.0f;
    mr_status status = read_of_layer(l, "xielu.alpha_p", il, &p);
    if (status == MR_OK) status = read_of_layer(l, "xielu.alpha_n", il, &n);
    if (status == MR_OK) status = read_of_layer(l, "xielu.beta", il, &layer->xielu.beta);
    if (status == MR_OK) status = read_of_layer(l, "xielu.eps", il, &layer->xielu.eps);
    layer->xielu.alpha_p = p > 20.0f ? p : log1pf(expf(p));
    layer->xielu.alpha_n = layer->xielu.beta + (n > 20.0f ? n : log1pf(expf(n)));
    return status;
}

/* gate and up may be one tensor, gate first. */
static mr_status load_gate_up(mr_loader *l, uint32_t il, size_t n_ff, mr_linear *gate, mr_linear *up) {
    const mr_hparams *h = &l->model->hparams;
    char name[NAME_BYTES];
    if (h->arch->ffn_plain) return mr_load_linear(l, in_layer(il, "ffn_up", name), n_ff, h->n_embd, up);
    if (!layer_has(l, il, "ffn_gate.weight")) {
        in_layer(il, "ffn_up", name);
        mr_status status = mr_load_linear_rows(l, name, 0, n_ff, 2 * n_ff, h->n_embd, gate);
        return status == MR_OK ? mr_load_linear_rows(l, name, n_ff, n_ff, 2 * n_ff, h->n_embd, up) : status;
    }
    mr_status status = mr_load_linear(l, in_layer(il, "ffn_gate", name), n_ff, h->n_embd, gate);
    return status == MR_OK ? mr_load_linear(l, in_layer(il, "ffn_up", name), n_ff, h->n_embd, up) : status;
}

/* A stack of n_expert matrices, one after the other: WHAT_exps.weight, or in older files WHAT.0.weight and so on. */
static mr_status load_stack(mr_loader *l, uint32_t il, const char *what, size_t n_out, size_t n_in,
                            mr_matrix ***matrices) {
    size_t n = l->model->hparams.n_expert;
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "blk.%u.%s.0.weight", il, what);
    bool apart = mr_load_has(l, name);
    if (!apart) snprintf(name, sizeof name, "blk.%u.%s_exps.weight", il, what);
    *matrices = calloc(n, sizeof(mr_matrix *));
    if (*matrices == NULL) return mr_fail_nomem(l->err, n * sizeof(mr_matrix *), "the experts");
    mr_status status = MR_OK;
    for (size_t i = 0; i < n && status == MR_OK; i++) {
        if (apart) snprintf(name, sizeof name, "blk.%u.%s.%zu.weight", il, what, i);
        status = apart ? mr_load_rows(l, name, 0, n_out, n_out, n_in, &(*matrices)[i])
                       : mr_load_rows(l, name, i * n_out, n_out, n * n_out, n_in, &(*matrices)[i]);
    }
    return status;
}

/* Biases of all experts, [n_expert, n], where there are any. */
static mr_status load_stack_bias(mr_loader *l, uint32_t il, const char *what, size_t n, float **bias) {
    char name[NAME_BYTES];
    if (!mr_load_has(l, in_layer(il, what, name))) return MR_OK;
    return mr_load_floats(l, name, l->model->hparams.n_expert, n, bias);
}

static mr_status load_shared_expert(mr_loader *l, uint32_t il, mr_experts *e) {
    const mr_hparams *h = &l->model->hparams;
    char name[NAME_BYTES];
    const mr_gguf_tensor *tensor = mr_gguf_find_tensor(l->gguf, in_layer(il, "ffn_gate_shexp.weight", name));
    if (tensor == NULL) return MR_OK;
    if (tensor->shape[1] > (uint64_t)1 << 20)
        return mr_fail(l->err, MR_ERR_INVALID, "tensor %s has an impossible shape", name);
    e->n_ff_shared = (uint32_t)tensor->shape[1];
    mr_status status =
        mr_load_linear(l, in_layer(il, "ffn_gate_shexp", name), e->n_ff_shared, h->n_embd, &e->shared_gate);
    if (status == MR_OK)
        status = mr_load_linear(l, in_layer(il, "ffn_up_shexp", name), e->n_ff_shared, h->n_embd, &e->shared_up);
    if (status == MR_OK && mr_kind_of(e->shared_gate.w) != mr_kind_of(e->shared_up.w)) {
        return mr_fail(l->err, MR_ERR_UNSUPPORTED, "tensors %s and its gate have types that do not go together", name);
    }
    if (status == MR_OK)
        status = mr_load_linear(l, in_layer(il, "ffn_down_shexp", name), h->n_embd, e->n_ff_shared, &e->shared_down);
    if (status == MR_OK && layer_has(l, il, "ffn_gate_inp_shexp.weight")) {
        status = mr_load_linear(l, in_layer(il, "ffn_gate_inp_shexp", name), 1, h->n_embd, &e->shared_router);
    }
    return status;
}

static mr_status load_experts(mr_loader *l, uint32_t il, mr_layer *layer) {
    const mr_hparams *h = &l->model->hparams;
    mr_experts *e = layer->experts = calloc(1, sizeof *e);
    char name[NAME_BYTES];
    if (e == NULL) return mr_fail_nomem(l->err, sizeof *e, "the experts");
    mr_status status = mr_load_linear(l, in_layer(il, "ffn_gate_inp", name), h->n_expert, h->n_embd, &e->router);
    if (status == MR_OK && layer_has(l, il, "exp_probs_b.bias")) {
        status = mr_load_vector(l, in_layer(il, "exp_probs_b.bias", name), h->n_expert, &e->choice_bias);
    }
    if (status == MR_OK) status = load_stack(l, il, "ffn_gate", h->n_ff_expert, h->n_embd, &e->gate);
    if (status == MR_OK) status = load_stack(l, il, "ffn_up", h->n_ff_expert, h->n_embd, &e->up);
    if (status == MR_OK) status = load_stack(l, il, "ffn_down", h->n_embd, h->n_ff_expert, &e->down);
    if (status == MR_OK) status = load_stack_bias(l, il, "ffn_gate_exps.bias", h->n_ff_expert, &e->gate_bias);
    if (status == MR_OK) status = load_stack_bias(l, il, "ffn_up_exps.bias", h->n_ff_expert, &e->up_bias);
    if (status == MR_OK) status = load_stack_bias(l, il, "ffn_down_exps.bias", h->n_embd, &e->down_bias);
    if (status == MR_OK) status = load_shared_expert(l, il, e);
    return status;
}

mr_status mr_load_layer(mr_loader *l, uint32_t il) {
    const mr_hparams *h = &l->model->hparams;
    mr_layer *layer = &l->model->layers[il];
    char name[NAME_BYTES];
    layer->dims = mr_layer_dims_of(h, il);
    layer->window = mr_layer_has_window(h, il) ? h->window : 0;
    bool local = layer->window > 0 && h->local_rope_freq_base > 0.0f;
    layer->rope = !mr_layer_has_rope(h, il) ? -1 : local ? MR_ROPE_LOCAL : MR_ROPE_MAIN;
    mr_status status = load_norms(l, il, layer);
    if (status == MR_OK) status = load_attention(l, il, layer);
    if (status != MR_OK) return status;
    if (mr_layer_has_experts(h, il)) return load_experts(l, il, layer);
    if (h->arch->xielu) status = load_xielu(l, il, layer);
    if (status != MR_OK) return status;
    status = load_gate_up(l, il, layer->dims.n_ff, &layer->gate, &layer->up);
    return status == MR_OK
               ? mr_load_linear(l, in_layer(il, "ffn_down", name), h->n_embd, layer->dims.n_ff, &layer->down)
               : status;
}

void mr_free_stack(mr_matrix **matrices, uint32_t n) {
    for (uint32_t i = 0; matrices != NULL && i < n; i++) mr_matrix_free(matrices[i]);
    free(matrices);
}

static void free_experts(mr_experts *e, uint32_t n_expert) {
    if (e == NULL) return;
    mr_linear *linears[] = {&e->router, &e->shared_gate, &e->shared_up, &e->shared_down, &e->shared_router};
    for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) mr_free_linear(linears[i]);
    free(e->choice_bias);
    free(e->gate_bias);
    free(e->up_bias);
    free(e->down_bias);
    mr_free_stack(e->gate, n_expert);
    mr_free_stack(e->up, n_expert);
    mr_free_stack(e->down, n_expert);
    free(e);
}

void mr_free_layer(mr_layer *layer, uint32_t n_head, uint32_t n_expert) {
    mr_free_mla(layer->mla, n_head);
    mr_linear *linears[] = {&layer->q, &layer->k, &layer->v, &layer->o, &layer->gate, &layer->up, &layer->down};
    for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) mr_free_linear(linears[i]);
    mr_norm_weights *norms[] = {&layer->attn_norm, &layer->attn_post_norm, &layer->ffn_norm, &layer->ffn_post_norm};
    for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) {
        free(norms[i]->weight);
        free(norms[i]->bias);
    }
    free(layer->sinks);
    free(layer->q_norm.weight);
    free(layer->k_norm.weight);
    free_experts(layer->experts, n_expert);
}
