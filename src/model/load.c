#include "model/load.h"

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
    type->dequantize(tensor->data, *values, n);
    return mr_load_progress(l, tensor->n_bytes);
}

mr_status mr_load_vector(mr_loader *l, const char *name, size_t n, float **vector) {
    return mr_load_floats(l, name, 1, n, vector);
}

mr_status mr_load_rows(mr_loader *l, const char *name, size_t first_row, size_t n_out, size_t total_rows, size_t n_in,
                       mr_matrix **matrix) {
    const mr_gguf_tensor *tensor;
    mr_status status = find_tensor(l, name, total_rows, n_in, &tensor);
    if (status != MR_OK) return status;
    size_t row_bytes = tensor->n_bytes / total_rows, n_bytes = n_out * row_bytes;
    status = mr_matrix_pack(matrix, (mr_dtype)tensor->type, tensor->data + first_row * row_bytes, n_out, n_in,
                            l->model->team, l->err);
    if (status != MR_OK) {
        mr_fail_prefix(l->err, "tensor %s", name);
        return status;
    }
    if (first_row + n_out == total_rows) mr_gguf_drop_tensor_pages(l->gguf, tensor);
    l->model->info.weight_bytes += mr_matrix_bytes(*matrix);
    l->model->info.n_params += (uint64_t)n_out * n_in;
    if (tensor->type < sizeof l->bytes_of_type / sizeof l->bytes_of_type[0]) l->bytes_of_type[tensor->type] += n_bytes;
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
