// Functions of single values, and runs of 8 of them.
#pragma once

#include "compute/cuda/device.cuh"

// Values of mr_glu.
enum { GLU_SILU, GLU_GELU_TANH, GLU_GELU_ERF, GLU_RELU2, GLU_SILU_CLAMPED };

MR_DEVICE float sigmoid(float x) {
    return 1.0f / (1.0f + expf(-x));
}

MR_DEVICE float activate(int act, float x) {
    switch (act) {
    case GLU_SILU: return x / (1.0f + expf(-x));
    case GLU_GELU_TANH: return x / (1.0f + expf(-1.5957691216f * (x + 0.044715f * x * x * x)));
    case GLU_GELU_ERF: return 0.5f * x * (1.0f + erff(x * 0.70710678118f));
    case GLU_RELU2: return x > 0.0f ? x * x : 0.0f;
    case GLU_SILU_CLAMPED: {
        float y = fminf(x, 7.0f);
        return y / (1.0f + expf(-1.702f * y));
    }
    }
    return x;
}

MR_DEVICE float gated(int act, float gate, float up) {
    if (act == GLU_SILU_CLAMPED) up = fmaxf(fminf(up, 7.0f), -7.0f) + 1.0f;
    return activate(act, gate) * up;
}

MR_DEVICE float softcap(float x, float cap) {
    return cap * tanhf(x / cap);
}

// Values k .. k + 7 of a row of n; zeros behind its end.
MR_DEVICE void load8(const float *row, uint32_t k, uint32_t n, float v[8]) {
    if (k + 8 <= n && (size_t)(row + k) % 16 == 0) {
        float4 a = *(const float4 *)(row + k), b = *(const float4 *)(row + k + 4);
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    } else {
        MR_UNROLL
        for (uint32_t i = 0; i < 8; i++) v[i] = k + i < n ? row[k + i] : 0.0f;
    }
}

MR_DEVICE void store8(float *row, uint32_t k, uint32_t n, const float v[8]) {
    if (k + 8 <= n && (size_t)(row + k) % 16 == 0) {
        *(float4 *)(row + k) = make_float4(v[0], v[1], v[2], v[3]);
        *(float4 *)(row + k + 4) = make_float4(v[4], v[5], v[6], v[7]);
    } else {
        MR_UNROLL
        for (uint32_t i = 0; i < 8; i++) {
            if (k + i < n) row[k + i] = v[i];
        }
    }
}
