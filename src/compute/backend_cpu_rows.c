/* Operations on rows of the CPU's back end. */
#include "compute/backend_cpu.h"

#include "compute/rows.h"

#include <string.h>

static mr_cpu_backend *cpu(mr_backend *b) {
    return (mr_cpu_backend *)b;
}

static void embed_rows(const void *ctx, size_t begin, size_t end, void *scratch) {
    const mr_embed_args *a = ctx;
    const mr_dtype_info *type = mr_dtype_find((uint32_t)mr_matrix_dtype(a->table));
    const uint8_t *rows = mr_matrix_values(a->table);
    size_t n = mr_matrix_n_in(a->table), row_bytes;
    (void)scratch;
    if (!mr_dtype_row_bytes(type, n, &row_bytes)) return;
    for (size_t t = begin; t < end; t++) {
        float *out = a->out + t * n;
        type->dequantize(rows + (size_t)a->tokens[t] * row_bytes, out, n);
        if (a->scale != 1.0f) mr_ops_active()->scale(out, a->scale, n);
    }
}

static void embed(mr_backend *b, const mr_embed_args *a) {
    mr_cpu_for(cpu(b), a->n_tokens, 0, embed_rows, a);
}

static void norm_rows(const void *ctx, size_t begin, size_t end, void *scratch) {
    const mr_norm_args *a = ctx;
    const mr_ops *ops = mr_ops_active();
    (void)scratch;
    for (size_t i = begin; i < end; i++) {
        size_t t = i / a->n_groups, g = i % a->n_groups;
        const float *x = a->x + t * a->ld_x + g * a->step;
        const float *weight = a->weight != NULL ? a->weight + g * a->weight_step : NULL;
        float *out = a->out + t * a->ld_out + g * a->step;
        if (a->layer)
            ops->layer_norm(x, weight, a->bias, a->n, a->eps, out);
        else
            ops->rms_norm(x, weight, a->n, a->eps, out);
    }
}

static void norm(mr_backend *b, const mr_norm_args *a) {
    mr_cpu_for(cpu(b), a->n_rows * a->n_groups, 0, norm_rows, a);
}

static void activate_rows(const void *ctx, size_t begin, size_t end, void *scratch) {
    const mr_activate_args *a = ctx;
    (void)scratch;
    for (size_t t = begin; t < end; t++) {
        const float *up = a->up != NULL ? a->up + t * a->ld_up : NULL;
        mr_ops_active()->glu(a->act, a->gate + t * a->ld_gate, up, a->n, a->out + t * a->ld_out);
    }
}

static void activate(mr_backend *b, const mr_activate_args *a) {
    mr_cpu_for(cpu(b), a->n_rows, 0, activate_rows, a);
}

static void xielu(mr_backend *b, const mr_xielu_args *a) {
    cpu(b)->ops->xielu(a->x, a->alpha_p, a->alpha_n, a->beta, a->eps, a->n);
}

static void cut(mr_backend *b, float *x, size_t n_rows, size_t n, float sparsity) {
    (void)b;
    for (size_t t = 0; t < n_rows; t++) mr_cut_row(x + t * n, n, sparsity);
}

static void copy_rows(mr_backend *b, const mr_copy_rows_args *a) {
    (void)b;
    for (size_t t = 0; t < a->n_rows; t++) {
        size_t row = a->rows != NULL ? a->rows[t] : t;
        memcpy(a->to + t * a->ld_to, a->from + row * a->ld_from, a->n * sizeof(float));
    }
}

static void add(mr_backend *b, const mr_add_args *a) {
    for (size_t t = 0; t < a->n_rows; t++) {
        cpu(b)->ops->add_scaled(a->x + t * a->ld_x, a->y + t * a->ld_y, a->factor, a->n);
    }
}

static void scale(mr_backend *b, float *x, size_t n, float factor) {
    cpu(b)->ops->scale(x, factor, n);
}

static void softcap(mr_backend *b, float *x, size_t n, float cap) {
    cpu(b)->ops->softcap(x, cap, n);
}

static void gate_rows(const void *ctx, size_t begin, size_t end, void *scratch) {
    const mr_gate_args *a = ctx;
    float *gate = scratch;
    for (size_t t = begin; t < end; t++) {
        memcpy(gate, a->gate + t * a->ld_gate, a->n * sizeof *gate);
        mr_ops_active()->sigmoid(gate, a->n);
        for (size_t i = 0; i < a->n; i++) a->out[t * a->ld_out + i] *= gate[i];
    }
}

static void gate(mr_backend *b, const mr_gate_args *a) {
    mr_cpu_for(cpu(b), a->n_rows, a->n * sizeof(float), gate_rows, a);
}

static void match_size(mr_backend *b, float *y, const float *x, size_t n_rows, size_t n) {
    (void)b;
    for (size_t t = 0; t < n_rows; t++) mr_match_size(y + t * n, x + t * n, n);
}

static void predict_rows(const void *ctx, size_t begin, size_t end, void *scratch) {
    for (size_t t = begin; t < end; t++) mr_streams_predict_token(ctx, t, scratch);
}

static void streams_predict(mr_backend *b, const mr_streams_args *a) {
    mr_cpu_for(cpu(b), a->n_tokens, a->n_stream * a->n * sizeof(float), predict_rows, a);
}

static void correct_rows(const void *ctx, size_t begin, size_t end, void *scratch) {
    for (size_t t = begin; t < end; t++) mr_streams_correct_token(ctx, t, scratch);
}

static void streams_correct(mr_backend *b, const mr_streams_args *a) {
    mr_cpu_for(cpu(b), a->n_tokens, a->n * sizeof(float), correct_rows, a);
}

static void best(mr_backend *b, const mr_best_args *a) {
    (void)b;
    for (size_t t = 0; t < a->n_rows; t++) a->ids[t] = mr_best_of(a->logits + t * a->n, a->n);
}

static void candidates(mr_backend *b, const mr_candidates_args *a) {
    (void)b;
    for (size_t t = 0; t < a->n_rows; t++) mr_candidates_of(a->logits + t * a->n, a->n, &a->candidates[t]);
}

void mr_cpu_set_rows(mr_backend_ops *ops) {
    ops->embed = embed;
    ops->norm = norm;
    ops->activate = activate;
    ops->xielu = xielu;
    ops->cut = cut;
    ops->copy_rows = copy_rows;
    ops->add = add;
    ops->scale = scale;
    ops->softcap = softcap;
    ops->gate = gate;
    ops->match_size = match_size;
    ops->streams_predict = streams_predict;
    ops->streams_correct = streams_correct;
    ops->best = best;
    ops->candidates = candidates;
}
