#include "compute/rows.h"

#include "compute/ops.h"

#include <math.h>
#include <string.h>

void mr_cut_row(float *x, size_t n, float sparsity) {
    float sums[16] = {0}, mean = 0.0f, square = 0.0f;
    for (size_t i = 0; i < n; i++) sums[i % 16] += x[i];
    for (size_t i = 0; i < 16; i++) mean += sums[i] / (float)n, sums[i] = 0.0f;
    for (size_t i = 0; i < n; i++) sums[i % 16] += (x[i] - mean) * (x[i] - mean);
    for (size_t i = 0; i < 16; i++) square += sums[i] / (float)n;
    float cutoff = mean + sqrtf(square) * sparsity;
    for (size_t i = 0; i < n; i++) x[i] = x[i] > cutoff ? x[i] - cutoff : 0.0f;
}

/* Mean of squares, in an order that does not depend on the instruction set. */
static float mean_square(const float *x, size_t n) {
    float sums[16] = {0}, sum = 0.0f;
    for (size_t i = 0; i < n; i++) sums[i % 16] += x[i] * x[i];
    for (size_t i = 0; i < 16; i++) sum += sums[i];
    return sum / (float)n;
}

void mr_match_size(float *y, const float *x, size_t n) {
    float of_y = mean_square(y, n);
    mr_ops_active()->scale(y, sqrtf(mean_square(x, n)) / sqrtf(of_y > 1e-5f ? of_y : 1e-5f), n);
}

static float dot(const float *a, const float *b, uint32_t n) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

void mr_streams_predict_token(const mr_streams_args *a, size_t t, float *old) {
    size_t n = a->n;
    for (uint32_t i = 0; i < a->n_stream; i++) memcpy(old + i * n, a->streams[i] + t * n, n * sizeof *old);
    for (uint32_t to = 0; to < a->n_stream; to++) {
        for (uint32_t from = 0; from < a->n_stream; from++) {
            const float *predict = a->factors + (size_t)(to * a->n_stream + from) * a->n_stream;
            float factor = dot(predict, a->modal + t * a->n_stream, a->n_stream);
            mr_ops_active()->add_scaled(a->streams[to] + t * n, old + from * n, factor, n);
        }
    }
    memcpy(a->predicted + t * n, a->streams[0] + t * n, n * sizeof *old);
}

void mr_streams_correct_token(const mr_streams_args *a, size_t t, float *change) {
    size_t n = a->n;
    float *x = a->streams[0] + t * n, *predicted = a->predicted + t * n;
    for (size_t i = 0; i < n; i++) change[i] = x[i] - predicted[i];
    memcpy(x, predicted, n * sizeof *x);
    for (uint32_t i = 0; i < a->n_stream; i++) {
        float factor = dot(a->factors + (size_t)i * a->n_stream, a->modal + t * a->n_stream, a->n_stream) + 1.0f;
        mr_ops_active()->add_scaled(a->streams[i] + t * n, change, factor, n);
    }
    for (size_t i = 0; i < n; i++) predicted[i] = x[i] * a->correct_scale[i];
}

int32_t mr_best_of(const float *x, size_t n) {
    size_t best = n;
    for (size_t i = 0; i < n; i++) {
        if (isfinite(x[i]) && (best == n || x[i] > x[best])) best = i;
    }
    return best == n ? 0 : (int32_t)best;
}
