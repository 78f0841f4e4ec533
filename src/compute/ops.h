/* The small operations between matrix products. Each works on one vector in one thread; results are the same bits on
 * every instruction set. */
#ifndef MR_COMPUTE_OPS_H
#define MR_COMPUTE_OPS_H

#include "compute/matrix.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct mr_ops {
    /* out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i] (Zhang & Sennrich, arXiv:1910.07467); weight NULL is all ones;
     * out may be x. */
    void (*rms_norm)(const float *x, const float *weight, size_t n, float eps, float *out);

    /* out[i] = (x[i] - mean) / sqrt(variance + eps) * weight[i] + bias[i] (Ba et al., arXiv:1607.06450); weight and
     * bias may be NULL; out may be x. */
    void (*layer_norm)(const float *x, const float *weight, const float *bias, size_t n, float eps, float *out);

    /* out[i] = act(gate[i]) * up[i]; up NULL is without that factor; out may be gate. */
    void (*glu)(mr_glu act, const float *gate, const float *up, size_t n, float *out);

    /* xIELU (Huang & Schlag, arXiv:2411.13010): x[i] = alpha_p x^2 + beta x above zero, alpha_n (e^min(x, eps) - 1 - x)
     * + beta x otherwise. */
    void (*xielu)(float *x, float alpha_p, float alpha_n, float beta, float eps, size_t n);

    /* x[i] += scale * y[i] */
    void (*add_scaled)(float *x, const float *y, float scale, size_t n);

    /* x[i] = scale * x[i] */
    void (*scale)(float *x, float scale, size_t n);

    /* x[i] = cap * tanh(x[i] / cap) (Gemma 2, arXiv:2408.00118) */
    void (*softcap)(float *x, float cap, size_t n);

    /* x[i] = e^(x[i] - max) / sum */
    void (*softmax)(float *x, size_t n);

    /* x[i] = 1 / (1 + e^-x[i]) */
    void (*sigmoid)(float *x, size_t n);

    /* One position of a causal convolution of n channels, each by itself: out[c] = bias[c] + sum over j of
     * weight[j * weight_step + c] * rows[j][c], from the oldest of `width` rows to the newest; bias NULL is 0. */
    void (*conv1d)(const float *const *rows, size_t width, const float *weight, size_t weight_step, const float *bias,
                   size_t n, float *out);

    /* One step of Mamba-2's recurrence for one head (Dao & Gu, arXiv:2405.21060, section 2): the state h [n_state, dim]
     * becomes to = decay * from + b x^T, and y = c^T to. x, y: [dim]; b, c: [n_state]; from may be to, y not x. */
    void (*ssd_step)(const float *from, float *to, float decay, const float *x, const float *b, const float *c,
                     size_t n_state, size_t dim, float *y);

    /* One step of the gated delta rule for one head (Yang et al., arXiv:2412.06464, eq. 10): with the state s [n_key,
     * dim], to = decay * from + k (beta * (v - k^T decay * from))^T, and y = q^T to. q, k: [n_key]; v, y: [dim]; from
     * may be to, y not v. */
    void (*delta_step)(const float *from, float *to, float decay, float beta, const float *q, const float *k,
                       const float *v, size_t n_key, size_t dim, float *y);

    /* Rotates the first 2*n_pairs values of a head by the angles whose cosines and sines are given, [n_pairs] each (Su
     * et al., arXiv:2104.09864). Pairs are (i, i + n_pairs) in neox order, (2i, 2i + 1) otherwise. */
    void (*rope)(float *head, const float *cosines, const float *sines, size_t n_pairs, bool neox);
} mr_ops;

/* The table for the active instruction set. */
const mr_ops *mr_ops_active(void);

#endif
