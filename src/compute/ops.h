/* The small operations between matrix products. Each works on one vector in one thread; results are the same bits on every
 * instruction set. */
#ifndef MR_COMPUTE_OPS_H
#define MR_COMPUTE_OPS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct mr_ops {
    /* out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i] (Zhang & Sennrich, arXiv:1910.07467); out may be x. */
    void (*rms_norm)(const float *x, const float *weight, size_t n, float eps, float *out);

    /* out[i] = act(gate[i]) * up[i] with act(x) = x / (1 + e^-x) (SiLU). */
    void (*silu_mul)(const float *gate, const float *up, size_t n, float *out);

    /* x[i] += y[i] */
    void (*add)(float *x, const float *y, size_t n);

    /* Rotates the first 2*n_pairs values of a head by the angles whose cosines and sines are given, [n_pairs] each (Su et al.,
     * arXiv:2104.09864). Pairs are (i, i + n_pairs) in neox order, (2i, 2i + 1) otherwise. */
    void (*rope)(float *head, const float *cosines, const float *sines, size_t n_pairs, bool neox);
} mr_ops;

/* The table for the active instruction set. */
const mr_ops *mr_ops_active(void);

#endif
