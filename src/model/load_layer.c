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
    if (h->mixer_of[il] == MR_MIXER_NONE) return MR_OK;
    if (h->mixer_of[il] != MR_MIXER_ATTENTION) return mr_load_recurrent(l, il, layer);
    if (h->kv_lora_rank > 0) return mr_load_mla(l, il, layer);
    size_t n_q = (size_t)h->n_head * d->head_dim_k * (h->arch->gated_attention ? 2 : 1),
           n_k = (size_t)d->n_head_kv * d->head_dim_k;
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
        bool has_kv = layer->kv_source == il;
        /* Where values are the keys, they have no matrix. */
        bool may_lack_v = h->keys_are_values && layer->window == 0;
        bool has_v = has_kv && !(may_lack_v && !layer_has(l, il, "attn_v.weight"));
        status = mr_load_linear(l, in_layer(il, "attn_q", name), n_q, h->n_embd, &layer->q);
        if (status == MR_OK && has_kv)
            status = mr_load_linear(l, in_layer(il, "attn_k", name), n_k, h->n_embd, &layer->k);
        if (status == MR_OK && has_v)
            status = mr_load_linear(l, in_layer(il, "attn_v", name), n_v, h->n_embd, &layer->v);
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

static mr_status load_sum_norms(mr_loader *l, uint32_t il, mr_layer *layer) {
    size_t n = l->model->hparams.n_embd;
    char name[NAME_BYTES];
    mr_status status = mr_load_norm(l, in_layer(il, "attn_output_norm", name), n, true, &layer->attn_sum_norm);
    if (status != MR_OK) return status;
    return mr_load_norm(l, in_layer(il, "layer_output_norm", name), n, true, &layer->ffn_sum_norm);
}

static mr_status load_norms(mr_loader *l, uint32_t il, mr_layer *layer) {
    const mr_hparams *h = &l->model->hparams;
    char name[NAME_BYTES];
    if (h->arch->encoder && !h->arch->norms_before) return load_sum_norms(l, il, layer);
    /* A block has a norm before it, behind it, or both; only models with one behind may lack the one before. */
    bool ffn_norm_there = layer_has(l, il, "ffn_norm.weight");
    bool post_is_ffn = h->arch->post_attention_norm_is_ffn_norm;
    bool behind = layer_has(l, il, "post_attention_norm.weight") && !post_is_ffn;
    bool one_block = h->arch->one_block_layers;
    if (h->mixer_of[il] == MR_MIXER_NONE) /* the layer's norm is that of its only block */
        return mr_load_norm(l, in_layer(il, "attn_norm", name), h->n_embd, true, &layer->ffn_norm);
    bool needs_attn_norm = !behind && !(h->arch->encoder && il == 0);
    mr_status status = mr_load_norm(l, in_layer(il, "attn_norm", name), h->n_embd, needs_attn_norm, &layer->attn_norm);
    if (status == MR_OK && behind) {
        status = mr_load_norm(l, in_layer(il, "post_attention_norm", name), h->n_embd, true, &layer->attn_post_norm);
    }
    bool needs_ffn_norm = !behind && !h->arch->ffn_parallel && !one_block;
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

/* One parameter of xIELU, metadata in GGUF files and a tensor in safetensors. */
static mr_status load_xielu_part(mr_loader *l, uint32_t il, const char *part, float *value) {
    char name[NAME_BYTES];
    float *one = NULL;
    snprintf(name, sizeof name, "blk.%u.xielu_%s", il, part);
    if (mr_load_has(l, name)) {
        mr_status status = mr_load_vector(l, name, 1, &one);
        if (status == MR_OK) *value = *one;
        free(one);
        return status;
    }
    snprintf(name, sizeof name, "xielu.%s", part);
    return read_of_layer(l, name, il, value);
}

/* The file holds what softplus makes positive. */
static mr_status load_xielu(mr_loader *l, uint32_t il, mr_layer *layer) {
    float p = 0.0f, n = 0.0f;
    mr_status status = load_xielu_part(l, il, "alpha_p", &p);
    if (status == MR_OK) status = load_xielu_part(l, il, "alpha_n", &n);
    if (status == MR_OK) status = load_xielu_part(l, il, "beta", &layer->xielu.beta);
    if (status == MR_OK) status = load_xielu_part(l, il, "eps", &layer->xielu.eps);
    layer->xielu.alpha_p = p > 20.0f ? p : log1pf(expf(p));
    layer->xielu.alpha_n = layer->xielu.beta + (n > 20.0f ? n : log1pf(expf(n)));
    return status;
}

/* gate and up may be one tensor, gate first. */
static mr_status load_gate_up(mr_loader *l, uint32_t il, size_t n_ff, mr_linear *gate, mr_linear *up) {
    const mr_hparams *h = &l->model->hparams;
    char name[NAME_BYTES], up_name[NAME_BYTES];
    if (h->arch->ffn_plain) return mr_load_linear(l, in_layer(il, "ffn_up", name), n_ff, h->n_embd, up);
    in_layer(il, "ffn_up.weight", up_name);
    if (!layer_has(l, il, "ffn_gate.weight")) {
        mr_load_reserve_pair(l, up_name, up_name, n_ff, 2 * n_ff, h->n_embd, &gate->w, &up->w);
        in_layer(il, "ffn_up", name);
        mr_status status = mr_load_linear_rows(l, name, 0, n_ff, 2 * n_ff, h->n_embd, gate);
        return status == MR_OK ? mr_load_linear_rows(l, name, n_ff, n_ff, 2 * n_ff, h->n_embd, up) : status;
    }
    mr_load_reserve_pair(l, in_layer(il, "ffn_gate.weight", name), up_name, n_ff, n_ff, h->n_embd, &gate->w, &up->w);
    mr_status status = mr_load_linear(l, in_layer(il, "ffn_gate", name), n_ff, h->n_embd, gate);
    return status == MR_OK ? mr_load_linear(l, in_layer(il, "ffn_up", name), n_ff, h->n_embd, up) : status;
}

/* A layer's own embedding of the token, and the factor behind everything. */
static mr_status load_tail(mr_loader *l, uint32_t il, mr_layer *layer) {
    const mr_hparams *h = &l->model->hparams;
    char name[NAME_BYTES];
    mr_status status = MR_OK;
    float *scale = NULL;
    layer->out_scale = 1.0f;
    if (h->n_embd_per_layer > 0) {
        status = mr_load_linear(l, in_layer(il, "inp_gate", name), h->n_embd_per_layer, h->n_embd, &layer->own.gate);
        if (status == MR_OK)
            status = mr_load_linear(l, in_layer(il, "proj", name), h->n_embd, h->n_embd_per_layer, &layer->own.up);
        if (status == MR_OK)
            status = mr_load_norm(l, in_layer(il, "post_norm", name), h->n_embd, true, &layer->own.post_norm);
    }
    if (status != MR_OK || !layer_has(l, il, "layer_output_scale.weight")) return status;
    status = mr_load_vector(l, in_layer(il, "layer_output_scale.weight", name), 1, &scale);
    if (status == MR_OK) layer->out_scale = *scale;
    free(scale);
    return status;
}

/* The rank of LAuReL shows in its matrices. */
static mr_status load_altup(mr_loader *l, uint32_t il, mr_altup *altup) {
    const mr_hparams *h = &l->model->hparams;
    size_t n = h->n_stream, n_embd = h->n_embd;
    char name[NAME_BYTES];
    mr_status status = mr_load_linear(l, in_layer(il, "altup_router", name), n, n_embd, &altup->router);
    if (status == MR_OK)
        status = mr_load_norm(l, in_layer(il, "altup_router_norm", name), n_embd, true, &altup->router_norm);
    for (size_t i = 0; status == MR_OK && i < n_embd; i++) altup->router_norm.weight[i] /= (float)n_embd;
    if (status == MR_OK)
        status = mr_load_floats(l, in_layer(il, "altup_predict_coef.weight", name), n * n, n, &altup->predict);
    if (status == MR_OK)
        status = mr_load_floats(l, in_layer(il, "altup_correct_coef.weight", name), n, n, &altup->correct);
    if (status == MR_OK)
        status = mr_load_vector(l, in_layer(il, "altup_correct_scale.weight", name), n_embd, &altup->correct_scale);
    if (status != MR_OK) return status;
    const mr_gguf_tensor *tensor = mr_gguf_find_tensor(l->gguf, in_layer(il, "laurel_l.weight", name));
    size_t rank = tensor != NULL && tensor->shape[1] <= n_embd ? (size_t)tensor->shape[1] : 1;
    status = mr_load_linear(l, in_layer(il, "laurel_l", name), rank, n_embd, &altup->laurel_down);
    if (status == MR_OK) status = mr_load_linear(l, in_layer(il, "laurel_r", name), n_embd, rank, &altup->laurel_up);
    if (status == MR_OK)
        status = mr_load_norm(l, in_layer(il, "laurel_post_norm", name), n_embd, true, &altup->laurel_norm);
    return status;
}

static void free_altup(mr_altup *altup) {
    mr_linear *linears[] = {&altup->router, &altup->laurel_down, &altup->laurel_up};
    for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) mr_free_linear(linears[i]);
    float *floats[] = {altup->router_norm.weight, altup->router_norm.bias, altup->laurel_norm.weight,
                       altup->laurel_norm.bias,   altup->predict,          altup->correct,
                       altup->correct_scale};
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) free(floats[i]);
}

/* How many standard deviations above their mean gates begin to count; minus infinity where all do. */
static void read_sparsity(mr_loader *l, uint32_t il, mr_layer *layer) {
    char key[NAME_BYTES];
    float scale = 0.0f;
    snprintf(key, sizeof key, "%s.activation_sparsity_scale", l->model->hparams.arch->name);
    const mr_gguf_value *list = mr_gguf_find(l->gguf, key);
    if (list != NULL && mr_gguf_array_f32(list, il, &scale) && isfinite(scale)) layer->sparsity = scale;
}

static mr_status load_ffn(mr_loader *l, uint32_t il, mr_layer *layer) {
    const mr_hparams *h = &l->model->hparams;
    char name[NAME_BYTES];
    read_sparsity(l, il, layer);
    mr_status status = h->arch->xielu ? load_xielu(l, il, layer) : MR_OK;
    if (status == MR_OK) status = load_gate_up(l, il, layer->dims.n_ff, &layer->gate, &layer->up);
    if (status != MR_OK) return status;
    return mr_load_linear(l, in_layer(il, "ffn_down", name), h->n_embd, layer->dims.n_ff, &layer->down);
}

mr_status mr_load_layer(mr_loader *l, uint32_t il) {
    const mr_hparams *h = &l->model->hparams;
    mr_layer *layer = &l->model->layers[il];
    layer->dims = mr_layer_dims_of(h, il);
    layer->kv_source = mr_layer_kv_source(h, il);
    layer->window = mr_layer_has_window(h, il) ? h->window : 0;
    bool local = layer->window > 0 && h->local_rope_freq_base > 0.0f;
    layer->rope = !mr_layer_has_rope(h, il) ? -1 : local ? MR_ROPE_LOCAL : MR_ROPE_MAIN;
    mr_status status = load_norms(l, il, layer);
    if (status == MR_OK) status = load_attention(l, il, layer);
    bool has_ffn = !h->arch->one_block_layers || h->mixer_of[il] == MR_MIXER_NONE;
    if (status == MR_OK && has_ffn)
        status = mr_layer_has_experts(h, il) ? mr_load_experts(l, il, layer) : load_ffn(l, il, layer);
    if (status == MR_OK) status = load_tail(l, il, layer);
    if (status == MR_OK && h->arch->altup) status = load_altup(l, il, &layer->altup);
    return status;
}

void mr_free_layer(mr_layer *layer, uint32_t n_head, uint32_t n_expert) {
    mr_free_mla(layer->mla, n_head);
    mr_free_recurrent(layer->recurrent);
    mr_linear *linears[] = {&layer->q,  &layer->k,    &layer->v,        &layer->o,     &layer->gate,
                            &layer->up, &layer->down, &layer->own.gate, &layer->own.up};
    for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) mr_free_linear(linears[i]);
    mr_norm_weights *norms[] = {&layer->attn_norm,     &layer->attn_post_norm, &layer->ffn_norm,
                                &layer->ffn_post_norm, &layer->own.post_norm,  &layer->attn_sum_norm,
                                &layer->ffn_sum_norm};
    for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) {
        free(norms[i]->weight);
        free(norms[i]->bias);
    }
    free_altup(&layer->altup);
    free(layer->sinks);
    free(layer->q_norm.weight);
    free(layer->k_norm.weight);
    mr_free_experts(layer->experts, n_expert);
}
