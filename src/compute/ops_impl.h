/* The operations of ops.h, written once over vec16.h. The including file defines MR_OPS, the name of the table. */
#include "compute/ops.h"
#include "compute/vec16.h"

enum { LANES = 16 };

static void rms_norm(const float *x, const float *weight, size_t n, float eps, float *out) {
    vf16 squares = vf_set1(0.0f);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf16 v = vf_load(x + i);
        squares = vf_fma(v, v, squares);
    }
    float sum = vf_sum(squares);
    for (size_t tail = i; tail < n; tail++) sum = fmaf(x[tail], x[tail], sum);
    float scale = 1.0f / sqrtf(sum / (float)n + eps);
    for (i = 0; i + LANES <= n; i += LANES) {
        vf_store(out + i, vf_mul(vf_mul(vf_load(x + i), vf_set1(scale)), vf_load(weight + i)));
    }
    for (; i < n; i++) out[i] = x[i] * scale * weight[i];
}

static vf16 silu(vf16 x) {
    return vf_div(x, vf_add(vf_set1(1.0f), vf_exp(vf_sub(vf_set1(0.0f), x))));
}

static void silu_mul(const float *gate, const float *up, size_t n, float *out) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vf_store(out + i, vf_mul(silu(vf_load(gate + i)), vf_load(up + i)));
    for (; i < n; i++) {
        float result[LANES];
        vf_store(result, silu(vf_set1(gate[i])));
        out[i] = result[0] * up[i];
    }
}

static void add(float *x, const float *y, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] += y[i];
}

static void rope(float *head, const float *cosines, const float *sines, size_t n_pairs, bool neox) {
    size_t step = neox ? 1 : 2, apart = neox ? n_pairs : 1;
    for (size_t i = 0; i < n_pairs; i++) {
        float *a = head + i * step, *b = a + apart;
        float x = *a, y = *b;
        *a = fmaf(x, cosines[i], -(y * sines[i]));
        *b = fmaf(x, sines[i], y * cosines[i]);
    }
}

const mr_ops MR_OPS = {.rms_norm = rms_norm, .silu_mul = silu_mul, .add = add, .rope = rope};
