/* Loading of layers with a recurrent state. */
#include "model/load.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAME_BYTES = 128 };

/* "blk.IL.NAME" */
static const char *in_layer(uint32_t il, const char *name, char buffer[static NAME_BYTES]) {
    snprintf(buffer, NAME_BYTES, "blk.%u.%s", il, name);
    return buffer;
}

static mr_status load_conv(mr_loader *l, uint32_t il, const char *what, mr_recurrent *r) {
    size_t width = l->model->hparams.conv_width, n = r->n_conv;
    char name[NAME_BYTES], weight[NAME_BYTES + 8], bias[NAME_BYTES + 8];
    float *by_channel = NULL;
    in_layer(il, what, name);
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    mr_status status = mr_load_floats(l, weight, n, width, &by_channel);
    if (status != MR_OK) return status;
    r->conv_weight = malloc(width * n * sizeof *r->conv_weight);
    for (size_t i = 0; r->conv_weight != NULL && i < width * n; i++)
        r->conv_weight[i % width * n + i / width] = by_channel[i];
    free(by_channel);
    if (r->conv_weight == NULL) return mr_fail_nomem(l->err, width * n * sizeof *r->conv_weight, weight);
    return mr_load_has(l, bias) ? mr_load_vector(l, bias, n, &r->conv_bias) : MR_OK;
}

/* Biases of steps and rates of decay of each head. */
static mr_status load_steps(mr_loader *l, uint32_t il, mr_recurrent *r) {
    size_t n = l->model->hparams.n_head_mix;
    char name[NAME_BYTES];
    mr_status status = mr_load_flat(l, in_layer(il, "ssm_dt.bias", name), n, &r->dt_bias);
    return status == MR_OK ? mr_load_flat(l, in_layer(il, "ssm_a", name), n, &r->a) : status;
}

static mr_status load_short_conv(mr_loader *l, uint32_t il, mr_recurrent *r) {
    size_t n = l->model->hparams.n_embd;
    char name[NAME_BYTES];
    r->n_conv = r->n_inner = (uint32_t)n;
    r->n_in = (uint32_t)(3 * n);
    r->conv_from = 2 * n;
    mr_status status = mr_load_linear(l, in_layer(il, "shortconv.in_proj", name), r->n_in, n, &r->in[0]);
    if (status == MR_OK) status = load_conv(l, il, "shortconv.conv", r);
    return status == MR_OK ? mr_load_linear(l, in_layer(il, "shortconv.out_proj", name), n, n, &r->out) : status;
}

static mr_status load_mamba2(mr_loader *l, uint32_t il, mr_recurrent *r) {
    const mr_hparams *h = &l->model->hparams;
    char name[NAME_BYTES];
    r->n_inner = h->n_head_mix * h->dim_v_mix;
    r->n_conv = r->n_inner + 2 * h->n_group_mix * h->dim_k_mix;
    r->n_in = r->n_inner + r->n_conv + h->n_head_mix;
    r->conv_from = r->n_inner;
    mr_status status = mr_load_linear(l, in_layer(il, "ssm_in", name), r->n_in, h->n_embd, &r->in[0]);
    if (status == MR_OK) status = load_conv(l, il, "ssm_conv1d", r);
    if (status == MR_OK) status = load_steps(l, il, r);
    if (status == MR_OK) status = mr_load_flat(l, in_layer(il, "ssm_d", name), h->n_head_mix, &r->d);
    if (status == MR_OK) status = mr_load_flat(l, in_layer(il, "ssm_norm.weight", name), r->n_inner, &r->norm);
    return status == MR_OK ? mr_load_linear(l, in_layer(il, "ssm_out", name), h->n_embd, r->n_inner, &r->out) : status;
}

static mr_status load_delta(mr_loader *l, uint32_t il, mr_recurrent *r) {
    const mr_hparams *h = &l->model->hparams;
    char name[NAME_BYTES];
    r->n_inner = h->n_head_mix * h->dim_v_mix;
    r->n_conv = r->n_inner + 2 * h->n_group_mix * h->dim_k_mix;
    r->n_in = r->n_conv + r->n_inner + 2 * h->n_head_mix;
    r->z_from = r->n_conv;
    r->betas_by_group = mr_load_has(l, in_layer(il, "ssm_ba.weight", name));
    mr_status status = mr_load_linear(l, in_layer(il, "attn_qkv", name), r->n_conv, h->n_embd, &r->in[0]);
    if (status == MR_OK) status = mr_load_linear(l, in_layer(il, "attn_gate", name), r->n_inner, h->n_embd, &r->in[1]);
    if (status == MR_OK && r->betas_by_group) {
        status = mr_load_linear(l, in_layer(il, "ssm_ba", name), 2 * (size_t)h->n_head_mix, h->n_embd, &r->in[2]);
    } else if (status == MR_OK) {
        status = mr_load_linear(l, in_layer(il, "ssm_beta", name), h->n_head_mix, h->n_embd, &r->in[2]);
        if (status == MR_OK)
            status = mr_load_linear(l, in_layer(il, "ssm_alpha", name), h->n_head_mix, h->n_embd, &r->in[3]);
    }
    if (status == MR_OK) status = load_conv(l, il, "ssm_conv1d", r);
    if (status == MR_OK) status = load_steps(l, il, r);
    if (status == MR_OK) status = mr_load_vector(l, in_layer(il, "ssm_norm.weight", name), h->dim_v_mix, &r->norm);
    return status == MR_OK ? mr_load_linear(l, in_layer(il, "ssm_out", name), h->n_embd, r->n_inner, &r->out) : status;
}

mr_status mr_load_recurrent(mr_loader *l, uint32_t il, mr_layer *layer) {
    mr_model *model = l->model;
    const mr_hparams *h = &model->hparams;
    mr_recurrent *r = layer->recurrent = calloc(1, sizeof *r);
    if (r == NULL) return mr_fail_nomem(l->err, sizeof *r, "a recurrent layer");
    r->kind = h->mixer_of[il];
    mr_status status = r->kind == MR_MIXER_CONV     ? load_short_conv(l, il, r)
                       : r->kind == MR_MIXER_MAMBA2 ? load_mamba2(l, il, r)
                                                    : load_delta(l, il, r);
    if (status != MR_OK) return status;
    size_t n_past = (size_t)(h->conv_width - 1) * r->n_conv;
    bool here = il < mr_model_first_device_layer(model);
    size_t *n_floats = here ? &model->n_state_floats : &model->n_device_state_floats;
    r->conv_at = *n_floats;
    r->heads_at = r->conv_at + (n_past + 15) / 16 * 16;
    *n_floats += mr_layer_state_floats(h, il);
    return MR_OK;
}

void mr_free_recurrent(mr_recurrent *r) {
    if (r == NULL) return;
    for (size_t i = 0; i < sizeof r->in / sizeof r->in[0]; i++) mr_free_linear(&r->in[i]);
    mr_free_linear(&r->out);
    float *floats[] = {r->conv_weight, r->conv_bias, r->dt_bias, r->a, r->d, r->norm};
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) free(floats[i]);
    free(r);
}
