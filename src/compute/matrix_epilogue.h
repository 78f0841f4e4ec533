/* What happens to a finished tile of sums, written once over vec16.h. Include from one file per instruction set. */
#ifndef MR_COMPUTE_MATRIX_EPILOGUE_H
#define MR_COMPUTE_MATRIX_EPILOGUE_H

#include "compute/activations.h"
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

static void store_glu_tile(const float *gate, const float *up, size_t n_tokens, size_t n_rows, mr_glu act, float *y,
                           size_t ldy) {
    for (size_t t = 0; t < n_tokens; t++, gate += 16, up += 16, y += ldy) {
        vf16 v = vf_glu(act, vf_load(gate), vf_load(up));
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
