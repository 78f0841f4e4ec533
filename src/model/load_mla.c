/* Loading of attention with compressed keys and values. Newer files hold the maps to a head's space as two stacks, that
 * of the keys transposed; older ones hold both as one matrix, from which the stacks are made here. */
#include "model/load.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAME_BYTES = 128 };

static const char *in_layer(uint32_t il, const char *name, char buffer[static NAME_BYTES]) {
    snprintf(buffer, NAME_BYTES, "blk.%u.%s", il, name);
    return buffer;
}

static mr_status load_stack(mr_loader *l, const char *name, size_t n_out, size_t n_in, mr_matrix **stack) {
    size_t n = l->model->hparams.n_head;
    mr_status status = MR_OK;
    for (size_t i = 0; i < n && status == MR_OK; i++) {
        status = mr_load_rows(l, name, i * n_out, n_out, n * n_out, n_in, &stack[i]);
    }
    return status;
}

/* Packs the transpose of rows [n_nope, rank] as matrix [rank, n_nope], in half precision unless the file is in single.
 */
static mr_status pack_transposed(mr_loader *l, const float *rows, bool single, mr_matrix **matrix) {
    size_t rank = l->model->hparams.kv_lora_rank, n_nope = l->model->hparams.n_nope;
    void *data = malloc(rank * n_nope * sizeof(float));
    if (data == NULL) return mr_fail_nomem(l->err, rank * n_nope * sizeof(float), "a transposed matrix");
    float *floats = data;
    uint16_t *halves = data;
    for (size_t r = 0; r < rank; r++) {
        for (size_t i = 0; i < n_nope; i++) {
            float value = rows[i * rank + r];
            if (single)
                floats[r * n_nope + i] = value;
            else
                halves[r * n_nope + i] = mr_f32_to_f16(value);
        }
    }
    mr_status status = mr_load_pack(l, single ? MR_F32 : MR_F16, data, rank, n_nope, matrix);
    free(data);
    if (status == MR_OK) l->model->info.weight_bytes += mr_matrix_bytes(*matrix);
    return status;
}

/* attn_kv_b [n_head, n_nope + mla_dim_v, rank]: the keys' rows of a head, then its values' rows. */
static mr_status split_kv_b(mr_loader *l, uint32_t il, mr_mla *mla) {
    const mr_hparams *h = &l->model->hparams;
    char name[NAME_BYTES];
    size_t rows = (size_t)h->n_nope + h->mla_dim_v, total = h->n_head * rows;
    float *values = NULL;
    mr_status status = mr_load_floats(l, in_layer(il, "attn_kv_b.weight", name), total, h->kv_lora_rank, &values);
    if (status != MR_OK) return status;
    bool single = mr_gguf_find_tensor(l->gguf, name)->type == MR_F32;
    for (size_t i = 0; i < h->n_head && status == MR_OK; i++) {
        status = pack_transposed(l, values + i * rows * h->kv_lora_rank, single, &mla->k_up[i]);
        if (status == MR_OK) {
            status = mr_load_rows(l, name, i * rows + h->n_nope, h->mla_dim_v, total, h->kv_lora_rank, &mla->v_up[i]);
        }
    }
    free(values);
    return status;
}

static mr_status load_queries(mr_loader *l, uint32_t il, mr_layer *layer, mr_mla *mla) {
    const mr_hparams *h = &l->model->hparams;
    size_t n_q = (size_t)h->n_head * (h->n_nope + h->n_rot);
    char name[NAME_BYTES];
    if (h->q_lora_rank == 0) return mr_load_linear(l, in_layer(il, "attn_q", name), n_q, h->n_embd, &layer->q);
    mr_status status = mr_load_linear(l, in_layer(il, "attn_q_a", name), h->q_lora_rank, h->n_embd, &mla->q_down);
    if (status == MR_OK)
        status = mr_load_norm(l, in_layer(il, "attn_q_a_norm", name), h->q_lora_rank, true, &mla->q_norm);
    if (status == MR_OK) status = mr_load_linear(l, in_layer(il, "attn_q_b", name), n_q, h->q_lora_rank, &mla->q_up);
    return status;
}

static mr_status load_keys_values(mr_loader *l, uint32_t il, mr_mla *mla) {
    const mr_hparams *h = &l->model->hparams;
    size_t rank = h->kv_lora_rank;
    char name[NAME_BYTES];
    mla->k_up = calloc(h->n_head, sizeof(mr_matrix *));
    mla->v_up = calloc(h->n_head, sizeof(mr_matrix *));
    if (mla->k_up == NULL || mla->v_up == NULL)
        return mr_fail_nomem(l->err, h->n_head * sizeof(mr_matrix *), "the heads' matrices");
    mr_status status =
        mr_load_linear(l, in_layer(il, "attn_kv_a_mqa", name), rank + h->n_rot, h->n_embd, &mla->kv_down);
    if (status == MR_OK) status = mr_load_vector(l, in_layer(il, "attn_kv_a_norm.weight", name), rank, &mla->kv_norm);
    if (status != MR_OK) return status;
    if (mr_load_has(l, in_layer(il, "attn_kv_b.weight", name)) &&
        !mr_load_has(l, in_layer(il, "attn_k_b.weight", name)))
        return split_kv_b(l, il, mla);
    status = load_stack(l, in_layer(il, "attn_k_b.weight", name), rank, h->n_nope, mla->k_up);
    return status == MR_OK ? load_stack(l, in_layer(il, "attn_v_b.weight", name), h->mla_dim_v, rank, mla->v_up)
                           : status;
}

mr_status mr_load_mla(mr_loader *l, uint32_t il, mr_layer *layer) {
    const mr_hparams *h = &l->model->hparams;
    mr_mla *mla = layer->mla = calloc(1, sizeof *mla);
    char name[NAME_BYTES];
    if (mla == NULL) return mr_fail_nomem(l->err, sizeof *mla, "the attention");
    mr_status status = load_queries(l, il, layer, mla);
    if (status == MR_OK) status = load_keys_values(l, il, mla);
    if (status != MR_OK) return status;
    size_t n_values = (size_t)h->n_head * h->mla_dim_v;
    return mr_load_linear(l, in_layer(il, "attn_output", name), h->n_embd, n_values, &layer->o);
}

void mr_free_mla(mr_mla *mla, uint32_t n_head) {
    if (mla == NULL) return;
    mr_free_linear(&mla->q_down);
    mr_free_linear(&mla->q_up);
    mr_free_linear(&mla->kv_down);
    free(mla->q_norm.weight);
    free(mla->q_norm.bias);
    free(mla->kv_norm);
    mr_free_stack(mla->k_up, n_head);
    mr_free_stack(mla->v_up, n_head);
    free(mla);
}
