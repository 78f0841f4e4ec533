// What the attention kernels share: values of the paged cache (kv.h), the positions that a query sees, and softmax.
#pragma once

#include "compute/cuda/values.cuh"

// The piece of a (block, kv head) of a run.
MR_DEVICE const uint8_t *piece_of(const mr_k_attention_args &a, uint32_t run, uint32_t block, uint32_t head_kv) {
    uint32_t number = (uint32_t)a.blocks[(size_t)run * a.ld_blocks + block];
    return (const uint8_t *)a.kv.data + number * a.kv.block_bytes + (size_t)head_kv * a.kv.head_bytes;
}

// The key of position `at` of a piece at dimension d.
template <int type> MR_DEVICE float key_at(const uint8_t *keys, uint32_t dk, uint32_t d, uint32_t at) {
    if (type == MR_K_KV_F32) return ((const float *)keys)[d * 32 + at];
    if (type == MR_K_KV_F16) return half_to_float(((const uint16_t *)keys)[d * 32 + at]);
    float scale = half_to_float(((const uint16_t *)(keys + (size_t)dk * 32))[d / 32 * 32 + at]);
    return (float)((const int8_t *)keys)[d * 32 + at] * scale;
}

template <int type> MR_DEVICE float value_at(const uint8_t *values, uint32_t dv, uint32_t at, uint32_t d) {
    if (type == MR_K_KV_F32) return ((const float *)values)[at * dv + d];
    if (type == MR_K_KV_F16) return half_to_float(((const uint16_t *)values)[at * dv + d]);
    float scale = half_to_float(((const uint16_t *)(values + (size_t)dv * 32))[d / 32 * 32 + at]);
    return (float)((const int8_t *)values)[at * dv + d] * scale;
}

MR_DEVICE void halves8(const void *p, float v[8]) {
    uint4 u = *(const uint4 *)p;
    MR_UNROLL
    for (int i = 0; i < 4; i++) {
        uint32_t w = i == 0 ? u.x : i == 1 ? u.y : i == 2 ? u.z : u.w;
        v[2 * i] = half_to_float((uint16_t)(w & 0xFFFF)), v[2 * i + 1] = half_to_float((uint16_t)(w >> 16));
    }
}

MR_DEVICE void bytes8(const void *p, float v[8]) {
    uint2 u = *(const uint2 *)p;
    MR_UNROLL
    for (int i = 0; i < 8; i++) v[i] = (float)(int8_t)((i < 4 ? u.x : u.y) >> 8 * (i % 4) & 255);
}

MR_DEVICE void floats8(const void *p, float v[8]) {
    load8((const float *)p, 0, 8, v);
}

// Keys of positions at .. at + 7 (a multiple of 8) at dimension d.
template <int type> MR_DEVICE void keys8(const uint8_t *keys, uint32_t dk, uint32_t d, uint32_t at, float v[8]) {
    if (type == MR_K_KV_F32) {
        floats8((const float *)keys + d * 32 + at, v);
    } else if (type == MR_K_KV_F16) {
        halves8((const uint16_t *)keys + d * 32 + at, v);
    } else {
        float scale[8];
        halves8((const uint16_t *)(keys + (size_t)dk * 32) + d / 32 * 32 + at, scale);
        bytes8(keys + d * 32 + at, v);
        MR_UNROLL
        for (int i = 0; i < 8; i++) v[i] *= scale[i];
    }
}

// Values d .. d + 7 of position `at`; zeros behind dv.
template <int type> MR_DEVICE void values8(const uint8_t *values, uint32_t dv, uint32_t at, uint32_t d, float v[8]) {
    if (dv % 8 != 0) {
        MR_UNROLL
        for (uint32_t i = 0; i < 8; i++) v[i] = d + i < dv ? value_at<type>(values, dv, at, d + i) : 0.0f;
    } else if (type == MR_K_KV_F32) {
        floats8((const float *)values + at * dv + d, v);
    } else if (type == MR_K_KV_F16) {
        halves8((const uint16_t *)values + at * dv + d, v);
    } else {
        float scale = half_to_float(((const uint16_t *)(values + (size_t)dv * 32))[d / 32 * 32 + at]);
        bytes8(values + at * dv + d, v);
        MR_UNROLL
        for (int i = 0; i < 8; i++) v[i] *= scale;
    }
}

// Positions [begin, end) that the query at `pos` of a run sees.
struct seen {
    uint32_t begin, end;
};

MR_DEVICE seen positions_of(const mr_k_attention_args &a, uint32_t run, uint32_t pos) {
    seen s;
    if (a.whole) {
        uint32_t n = a.ends[run], half = a.window > 0 ? a.window / 2 : n;
        s.begin = pos > half ? pos - half : 0;
        s.end = half < n - 1 - pos ? pos + half + 1 : n;
        return s;
    }
    s.end = pos + 1;
    s.begin = a.window > 0 && s.end > a.window ? s.end - a.window : 0;
    return s;
}

// The running maximum and sum of a query, and what takes part in the sum only.
MR_DEVICE float sink_of(const mr_k_attention_args &a, uint32_t head) {
    return a.sinks != nullptr ? a.sinks[head] : -INFINITY;
}

// e^(x - most), 0 for -inf.
MR_DEVICE float weight_of(float x, float most) {
    return x == -INFINITY ? 0.0f : expf(x - most);
}
