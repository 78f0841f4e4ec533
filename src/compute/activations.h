/* Activation functions over vec16.h. */
#ifndef MR_COMPUTE_ACTIVATIONS_H
#define MR_COMPUTE_ACTIVATIONS_H

#include "compute/matrix.h"
#include "compute/vec16.h"

static inline vf16 vf_silu(vf16 x) {
    return vf_div(x, vf_add(vf_set1(1.0f), vf_exp(vf_sub(vf_set1(0.0f), x))));
}

/* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) = x / (1 + e^(-2 sqrt(2/pi) (x + 0.044715 x^3))). */
static inline vf16 vf_gelu_tanh(vf16 x) {
    vf16 cubic = vf_mul(vf_mul(x, x), vf_set1(-1.5957691216f * 0.044715f));
    vf16 minus_2u = vf_mul(x, vf_add(cubic, vf_set1(-1.5957691216f)));
    return vf_div(x, vf_add(vf_set1(1.0f), vf_exp(minus_2u)));
}

/* 0.5 x (1 + erf(x / sqrt 2)), with erfc(z) for z >= 0 by Abramowitz & Stegun 7.1.26 (absolute error below 1.5e-7). */
static inline vf16 vf_gelu_erf(vf16 x) {
    vf16 zero = vf_set1(0.0f), one = vf_set1(1.0f);
    vf16 z = vf_mul(vf_max(x, vf_sub(zero, x)), vf_set1(0.70710678118f));
    vf16 t = vf_div(one, vf_fma(vf_set1(0.3275911f), z, one));
    vf16 p = vf_set1(1.061405429f);
    p = vf_fma(p, t, vf_set1(-1.453152027f));
    p = vf_fma(p, t, vf_set1(1.421413741f));
    p = vf_fma(p, t, vf_set1(-0.284496736f));
    p = vf_fma(p, t, vf_set1(0.254829592f));
    vf16 erfc = vf_mul(vf_mul(p, t), vf_exp(vf_sub(zero, vf_mul(z, z))));
    vf16 upper = vf_select_lt(x, zero, erfc, vf_sub(vf_set1(2.0f), erfc));
    return vf_mul(vf_mul(vf_set1(0.5f), x), upper);
}

static inline vf16 vf_relu2(vf16 x) {
    vf16 positive = vf_max(x, vf_set1(0.0f));
    return vf_mul(positive, positive);
}

/* y sigmoid(1.702 y) for y = min(x, 7) */
static inline vf16 vf_silu_clamped(vf16 x) {
    vf16 y = vf_min(x, vf_set1(7.0f));
    return vf_div(y, vf_add(vf_set1(1.0f), vf_exp(vf_mul(y, vf_set1(-1.702f)))));
}

static inline vf16 vf_activate(mr_glu act, vf16 x) {
    switch (act) {
    case MR_GLU_SILU:
        return vf_silu(x);
    case MR_GLU_GELU_TANH:
        return vf_gelu_tanh(x);
    case MR_GLU_GELU_ERF:
        return vf_gelu_erf(x);
    case MR_GLU_RELU2:
        return vf_relu2(x);
    case MR_GLU_SILU_CLAMPED:
        return vf_silu_clamped(x);
    }
    return x;
}

static inline vf16 vf_glu(mr_glu act, vf16 gate, vf16 up) {
    if (act == MR_GLU_SILU_CLAMPED) {
        up = vf_add(vf_max(vf_min(up, vf_set1(7.0f)), vf_set1(-7.0f)), vf_set1(1.0f));
    }
    return vf_mul(vf_activate(act, gate), up);
}

#endif
