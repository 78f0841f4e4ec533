/* The operations of ops.h, written once over vec16.h. The including file defines MR_OPS, the name of the table. */
#include "compute/activations.h"
#include "compute/ops.h"
#include "compute/vec16.h"

enum { LANES = 16 };

/* A vector of the n < LANES values that are left at the end of an array, with `fill` in the other lanes. */
static vf16 load_tail(const float *x, size_t n, float fill) {
    float lanes[LANES];
    for (size_t i = 0; i < LANES; i++) lanes[i] = i < n ? x[i] : fill;
    return vf_load(lanes);
}

static void store_tail(float *x, vf16 v, size_t n) {
    float lanes[LANES];
    vf_store(lanes, v);
    memcpy(x, lanes, n * sizeof *x);
}

/* out[i] = expression of v, the value x[i], over whole vectors and the tail. */
#define FOR_EACH_VALUE(x, out, n, fill, expression)                                                                    \
    do {                                                                                                               \
        size_t i = 0;                                                                                                  \
        for (; i + LANES <= (n); i += LANES) {                                                                         \
            vf16 v = vf_load((x) + i);                                                                                 \
            vf_store((out) + i, expression);                                                                           \
        }                                                                                                              \
        if (i < (n)) {                                                                                                 \
            vf16 v = load_tail((x) + i, (n)-i, fill);                                                                  \
            store_tail((out) + i, expression, (n)-i);                                                                  \
        }                                                                                                              \
    } while (0)

static float sum_of(const float *x, size_t n) {
    vf16 sums = vf_set1(0.0f);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) sums = vf_add(sums, vf_load(x + i));
    return vf_sum(vf_add(sums, load_tail(x + i, n - i, 0.0f)));
}

/* Sum of (x - shift)^2. */
static float sum_of_squares(const float *x, float shift, size_t n) {
    vf16 sums = vf_set1(0.0f), s = vf_set1(shift);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf16 d = vf_sub(vf_load(x + i), s);
        sums = vf_fma(d, d, sums);
    }
    vf16 d = vf_sub(load_tail(x + i, n - i, shift), s);
    return vf_sum(vf_fma(d, d, sums));
}

static void rms_norm(const float *x, const float *weight, size_t n, float eps, float *out) {
    float scale = 1.0f / sqrtf(sum_of_squares(x, 0.0f, n) / (float)n + eps);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf16 v = vf_mul(vf_load(x + i), vf_set1(scale));
        vf_store(out + i, weight != NULL ? vf_mul(v, vf_load(weight + i)) : v);
    }
    for (; i < n; i++) out[i] = x[i] * scale * (weight != NULL ? weight[i] : 1.0f);
}

static void layer_norm(const float *x, const float *weight, const float *bias, size_t n, float eps, float *out) {
    float mean = sum_of(x, n) / (float)n;
    float scale = 1.0f / sqrtf(sum_of_squares(x, mean, n) / (float)n + eps);
    for (size_t i = 0; i < n; i++) {
        float v = (x[i] - mean) * scale * (weight != NULL ? weight[i] : 1.0f);
        out[i] = bias != NULL ? v + bias[i] : v;
    }
}

static void glu(mr_glu act, const float *gate, const float *up, size_t n, float *out) {
    FOR_EACH_VALUE(gate, out, n, 0.0f,
                   up == NULL ? vf_activate(act, v)
                              : vf_glu(act, v, i + LANES <= n ? vf_load(up + i) : load_tail(up + i, n - i, 0.0f)));
}

static vf16 xielu_value(vf16 v, float alpha_p, float alpha_n, float beta, float eps) {
    vf16 linear = vf_mul(v, vf_set1(beta));
    vf16 above = vf_fma(vf_mul(v, v), vf_set1(alpha_p), linear);
    vf16 expm1 = vf_sub(vf_exp(vf_min(v, vf_set1(eps))), vf_set1(1.0f));
    vf16 below = vf_fma(vf_sub(expm1, v), vf_set1(alpha_n), linear);
    return vf_select_lt(vf_set1(0.0f), v, above, below);
}

static void xielu(float *x, float alpha_p, float alpha_n, float beta, float eps, size_t n) {
    FOR_EACH_VALUE(x, x, n, 0.0f, xielu_value(v, alpha_p, alpha_n, beta, eps));
}

static void add_scaled(float *x, const float *y, float factor, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = fmaf(y[i], factor, x[i]);
}

static void scale(float *x, float factor, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] *= factor;
}

/* cap * tanh(v / cap), with tanh(u) = 1 - 2 / (e^2u + 1) */
static vf16 capped(vf16 v, float cap) {
    vf16 e = vf_exp(vf_mul(v, vf_set1(2.0f / cap)));
    vf16 t = vf_sub(vf_set1(1.0f), vf_div(vf_set1(2.0f), vf_add(e, vf_set1(1.0f))));
    return vf_mul(t, vf_set1(cap));
}

static void softcap(float *x, float cap, size_t n) {
    FOR_EACH_VALUE(x, x, n, 0.0f, capped(v, cap));
}

static void softmax(float *x, size_t n) {
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    FOR_EACH_VALUE(x, x, n, 0.0f, vf_exp(vf_sub(v, vf_set1(max))));
    scale(x, 1.0f / sum_of(x, n), n);
}

static void sigmoid(float *x, size_t n) {
    FOR_EACH_VALUE(x, x, n, 0.0f, vf_div(vf_set1(1.0f), vf_add(vf_set1(1.0f), vf_exp(vf_sub(vf_set1(0.0f), v)))));
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

#include "compute/ops_recurrent.h"

const mr_ops MR_OPS = {.rms_norm = rms_norm,
                       .layer_norm = layer_norm,
                       .glu = glu,
                       .xielu = xielu,
                       .add_scaled = add_scaled,
                       .scale = scale,
                       .softcap = softcap,
                       .softmax = softmax,
                       .sigmoid = sigmoid,
                       .conv1d = conv1d,
                       .ssd_step = ssd_step,
                       .delta_step = delta_step,
                       .rope = rope};
