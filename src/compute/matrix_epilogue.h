/* What happens to a finished tile of sums, written once over vec16.h. Include from one file per instruction set. */
#ifndef MR_COMPUTE_MATRIX_EPILOGUE_H
#define MR_COMPUTE_MATRIX_EPILOGUE_H

#include "compute/matrix_impl.h"
#include "compute/vec16.h"

static void store_row(float *y, const float *value, size_t n_rows) {
    memcpy(y, value, n_rows * sizeof(float));
}

static void store_tile(const float *sum, size_t n_tokens, size_t n_rows, const float *bias, bool accumulate, float *y,
                       size_t ldy) {
    float row[16] = {0};
    vf16 b = vf_set1(0.0f);
    if (bias != NULL) {
        memcpy(row, bias, n_rows * sizeof(float));
        b = vf_load(row);
    }
    for (size_t t = 0; t < n_tokens; t++, sum += 16, y += ldy) {
        vf16 v = vf_load(sum);
        if (bias != NULL) v = vf_add(v, b);
        if (n_rows == 16) {
            vf_store(y, accumulate ? vf_add(v, vf_load(y)) : v);
            continue;
        }
        if (accumulate) {
            memcpy(row, y, n_rows * sizeof(float));
            v = vf_add(v, vf_load(row));
        }
        vf_store(row, v);
        store_row(y, row, n_rows);
    }
}

static vf16 vf_silu(vf16 x) {
    return vf_div(x, vf_add(vf_set1(1.0f), vf_exp(vf_sub(vf_set1(0.0f), x))));
}

/* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) = x / (1 + e^(-2 sqrt(2/pi) (x + 0.044715 x^3))). */
static vf16 vf_gelu_tanh(vf16 x) {
    vf16 cubic = vf_mul(vf_mul(x, x), vf_set1(-1.5957691216f * 0.044715f));
    vf16 minus_2u = vf_mul(x, vf_add(cubic, vf_set1(-1.5957691216f)));
    return vf_div(x, vf_add(vf_set1(1.0f), vf_exp(minus_2u)));
}

/* 0.5 x (1 + erf(x / sqrt 2)), with erfc(z) for z >= 0 by Abramowitz & Stegun 7.1.26 (absolute error below 1.5e-7). */
static vf16 vf_gelu_erf(vf16 x) {
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

static vf16 vf_relu2(vf16 x) {
    vf16 positive = vf_max(x, vf_set1(0.0f));
    return vf_mul(positive, positive);
}

static void store_glu_tile(const float *gate, const float *up, size_t n_tokens, size_t n_rows, mr_glu act, float *y,
                           size_t ldy) {
    for (size_t t = 0; t < n_tokens; t++, gate += 16, up += 16, y += ldy) {
        vf16 g = vf_load(gate);
        switch (act) {
        case MR_GLU_SILU: g = vf_silu(g); break;
        case MR_GLU_GELU_TANH: g = vf_gelu_tanh(g); break;
        case MR_GLU_GELU_ERF: g = vf_gelu_erf(g); break;
        case MR_GLU_RELU2: g = vf_relu2(g); break;
        }
        vf16 v = vf_mul(g, vf_load(up));
        if (n_rows == 16) {
            vf_store(y, v);
        } else {
            float row[16];
            vf_store(row, v);
            store_row(y, row, n_rows);
        }
    }
}

#endif
