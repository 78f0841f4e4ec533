#include "model/load.h"

#include "compute/backend.h"
#include "model/quant_mix.h"
#include "model/tensor_rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

mr_status mr_load_progress(mr_loader *l, size_t n_bytes) {
    l->bytes_done += n_bytes;
    float fraction = l->bytes_total == 0 ? 1.0f : (float)((double)l->bytes_done / (double)l->bytes_total);
    bool go_on = l->options->progress == NULL ||
                 l->options->progress(l->options->progress_ctx, fraction > 1.0f ? 1.0f : fraction);
    if (!go_on || mr_cancel_is_set(l->options->cancel)) {
        return mr_fail(l->err, MR_ERR_CANCELLED, "loading the model was cancelled");
    }
    return MR_OK;
}

bool mr_load_has(const mr_loader *l, const char *name) {
    return mr_gguf_find_tensor(l->gguf, name) != NULL;
}

/* A tensor that must have the shape [n_out rows, n_in] (n_out 1 for a vector). */
static mr_status find_tensor(mr_loader *l, const char *name, uint64_t n_out, uint64_t n_in,
                             const mr_gguf_tensor **tensor) {
    *tensor = mr_gguf_find_tensor(l->gguf, name);
    if (*tensor == NULL) return mr_fail(l->err, MR_ERR_INVALID, "the model file has no tensor %s", name);
    const uint64_t *shape = (*tensor)->shape;
    /* A stack of matrices [n_expert, n_out, n_in] is taken as n_expert * n_out rows. */
    uint64_t n_rows = shape[1] * shape[2];
    if (shape[0] != n_in || n_rows != n_out || shape[3] != 1) {
        return mr_fail(l->err, MR_ERR_INVALID,
                       "tensor %s has the shape [%" PRIu64 ", %" PRIu64 "], but the model's metadata ask for [%" PRIu64
                       ", %" PRIu64 "]",
                       name, n_rows, shape[0], n_out, n_in);
    }
    return MR_OK;
}

mr_status mr_load_floats(mr_loader *l, const char *name, size_t n_rows, size_t n_columns, float **values) {
    const mr_gguf_tensor *tensor;
    size_t n = n_rows * n_columns;
    mr_status status = find_tensor(l, name, n_rows, n_columns, &tensor);
    if (status != MR_OK) return status;
    const mr_dtype_info *type = mr_dtype_find(tensor->type);
    if (type == NULL || type->dequantize == NULL) {
        return mr_fail(l->err, MR_ERR_UNSUPPORTED, "tensor %s has type %s, which is not supported", name,
                       type != NULL ? type->name : "?");
    }
    *values = aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64);
    if (*values == NULL) return mr_fail_nomem(l->err, n * sizeof(float), name);
    mr_tensor_rows rows;
    status = mr_tensor_rows_get(tensor, 0, n_rows, tensor->n_bytes / n_rows, l->model->team, &rows, l->err);
    if (status != MR_OK) return status;
    type->dequantize(rows.rows, *values, n);
    mr_tensor_rows_free(&rows);
    return mr_load_progress(l, tensor->n_bytes);
}

mr_status mr_load_vector(mr_loader *l, const char *name, size_t n, float **vector) {
    return mr_load_floats(l, name, 1, n, vector);
}

mr_status mr_load_flat(mr_loader *l, const char *name, size_t n, float **values) {
    const mr_gguf_tensor *tensor = mr_gguf_find_tensor(l->gguf, name);
    size_t n_row = tensor != NULL && n % tensor->shape[0] == 0 ? (size_t)tensor->shape[0] : n;
    return mr_load_floats(l, name, n / n_row, n_row, values);
}

/* Rows of a float matrix on their way into a quantized one. */
typedef struct quantizing {
    const mr_dtype_info *from, *to;
    const uint8_t *rows;
    size_t n_rows, n_in, from_bytes, to_bytes; /* bytes of a row */
    uint8_t *out;
    float *scratch; /* [members, n_in] */
} quantizing;

static void quantize_body(mr_worker *worker, void *arg) {
    const quantizing *q = arg;
    float *row = q->scratch + (size_t)worker->ith * q->n_in;
    mr_loop loop = mr_loop_begin(worker, q->n_rows, 4);
    for (size_t i, end; mr_loop_next(&loop, &i, &end);) {
        for (; i < end; i++) {
            q->from->dequantize(q->rows + i * q->from_bytes, row, q->n_in);
            q->to->quantize(row, q->out + i * q->to_bytes, q->n_in, NULL);
        }
    }
}

/* The type that the load's mix gives the tensor; its own where the mix leaves it as it is. */
static mr_dtype target_type(const mr_loader *l, const mr_gguf_tensor *tensor) {
    const mr_quant_mix *mix = l->options->quantize;
    bool is_float =
        tensor->type == MR_F32 || tensor->type == MR_F16 || tensor->type == MR_BF16 || tensor->type == MR_F8_E4M3;
    if (mix == NULL || !is_float || !mr_quant_allowed(tensor->name, tensor->n_dims)) return (mr_dtype)tensor->type;
    const mr_hparams *h = &l->model->hparams;
    mr_quant_tensor what = {.name = tensor->name,
                            .n_dims = tensor->n_dims,
                            .n_in = tensor->shape[0],
                            .n_layer = h->n_layer,
                            .n_gqa = h->n_head / h->n_head_kv,
                            .n_expert = h->n_expert,
                            .tied = mr_gguf_find_tensor(l->gguf, "output.weight") == NULL};
    return mr_quant_mix_type(mix, &what);
}

/* Quantizes n_out rows of the tensor into *out, which the caller frees; one matrix at a time is held twice. */
static mr_status quantize_rows(mr_loader *l, const mr_gguf_tensor *tensor, const uint8_t *rows, size_t n_out,
                               size_t n_in, mr_dtype type, uint8_t **out) {
    quantizing q = {
        .from = mr_dtype_find(tensor->type), .to = mr_dtype_find(type), .rows = rows, .n_rows = n_out, .n_in = n_in};
    if (q.to->quantize == NULL || !mr_dtype_row_bytes(q.from, n_in, &q.from_bytes) ||
        !mr_dtype_row_bytes(q.to, n_in, &q.to_bytes)) {
        return mr_fail(l->err, MR_ERR_UNSUPPORTED, "rows of %zu values cannot be quantized to %s", n_in, q.to->name);
    }
    q.out = *out = malloc(n_out * q.to_bytes);
    q.scratch = malloc((size_t)mr_team_size(l->model->team) * n_in * sizeof(float));
    mr_status status = MR_OK;
    if (q.out == NULL || q.scratch == NULL)
        status = mr_fail_nomem(l->err, n_out * q.to_bytes, "a quantized matrix");
    else
        mr_team_run(l->model->team, quantize_body, &q);
    free(q.scratch);
    return status;
}

void mr_load_reserve_pair(mr_loader *l, const char *name, const char *second_name, size_t n_out, size_t total_rows,
                          size_t n_in, mr_matrix **matrix, mr_matrix **second) {
    const mr_gguf_tensor *tensor, *other;
    if (l->backend != NULL) return; /* a device lays its matrices out as it likes */
    mr_error later = {0}, *err = l->err;
    l->err = &later;
    if (find_tensor(l, name, total_rows, n_in, &tensor) == MR_OK &&
        find_tensor(l, second_name, total_rows, n_in, &other) == MR_OK &&
        target_type(l, tensor) == target_type(l, other))
        mr_matrix_reserve(matrix, second, target_type(l, tensor), n_out, n_in, &later);
    l->err = err;
}

mr_status mr_load_pack(mr_loader *l, mr_dtype type, const void *rows, size_t n_out, size_t n_in, mr_matrix **matrix) {
    mr_team *team = l->model->team;
    return l->backend != NULL ? l->backend->ops->pack(l->backend, matrix, type, rows, n_out, n_in, team, l->err)
                              : mr_matrix_pack(matrix, type, rows, n_out, n_in, team, l->err);
}

mr_status mr_load_rows(mr_loader *l, const char *name, size_t first_row, size_t n_out, size_t total_rows, size_t n_in,
                       mr_matrix **matrix) {
    const mr_gguf_tensor *tensor;
    mr_status status = find_tensor(l, name, total_rows, n_in, &tensor);
    if (status != MR_OK) return status;
    size_t row_bytes = tensor->n_bytes / total_rows, n_bytes = n_out * row_bytes;
    mr_tensor_rows rows;
    mr_dtype type = target_type(l, tensor);
    uint8_t *quantized = NULL;
    status = mr_tensor_rows_get(tensor, first_row, n_out, row_bytes, l->model->team, &rows, l->err);
    if (status == MR_OK && type != (mr_dtype)tensor->type)
        status = quantize_rows(l, tensor, rows.rows, n_out, n_in, type, &quantized);
    const void *packed_rows = quantized != NULL ? quantized : rows.rows;
    if (status == MR_OK && *matrix == NULL)
        status = mr_load_pack(l, type, packed_rows, n_out, n_in, matrix);
    else if (status == MR_OK)
        mr_matrix_fill(*matrix, packed_rows, l->model->team);
    free(quantized);
    mr_tensor_rows_free(&rows);
    if (status != MR_OK) {
        mr_fail_prefix(l->err, "tensor %s", name);
        return status;
    }
    if (first_row + n_out == total_rows) mr_gguf_drop_tensor_pages(l->gguf, tensor);
    l->model->info.weight_bytes += mr_matrix_bytes(*matrix);
    l->model->info.n_params += (uint64_t)n_out * n_in;
    if ((size_t)type < sizeof l->bytes_of_type / sizeof l->bytes_of_type[0]) l->bytes_of_type[type] += n_bytes;
    return mr_load_progress(l, n_bytes);
}

/* Entries first_row .. of the vector NAME.bias of total_rows, when it exists. */
static mr_status load_bias(mr_loader *l, const char *name, size_t first_row, size_t n_out, size_t total_rows,
                           float **bias) {
    char full[160];
    snprintf(full, sizeof full, "%s.bias", name);
    if (!mr_load_has(l, full)) return MR_OK;
    mr_status status = mr_load_vector(l, full, total_rows, bias);
    for (size_t i = 0; status == MR_OK && first_row > 0 && i < n_out; i++) (*bias)[i] = (*bias)[first_row + i];
    return status;
}

mr_status mr_load_linear_rows(mr_loader *l, const char *name, size_t first_row, size_t n_out, size_t total_rows,
                              size_t n_in, mr_linear *linear) {
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    mr_status status = mr_load_rows(l, full, first_row, n_out, total_rows, n_in, &linear->w);
    return status == MR_OK ? load_bias(l, name, first_row, n_out, total_rows, &linear->bias) : status;
}

mr_status mr_load_linear(mr_loader *l, const char *name, size_t n_out, size_t n_in, mr_linear *linear) {
    return mr_load_linear_rows(l, name, 0, n_out, n_out, n_in, linear);
}

mr_status mr_load_norm(mr_loader *l, const char *name, size_t n, bool required, mr_norm_weights *norm) {
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    if (!required && !mr_load_has(l, full)) return MR_OK;
    mr_status status = mr_load_vector(l, full, n, &norm->weight);
    return status == MR_OK ? load_bias(l, name, 0, n, n, &norm->bias) : status;
}

void mr_free_linear(mr_linear *linear) {
    mr_matrix_free(linear->w);
    free(linear->bias);
}
