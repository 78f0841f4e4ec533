// Products with few tokens, which the weights' way from memory bounds: each block takes one tile of 8 rows, and its warps
// share the tile's k. In a warp, lane 8q + r works on row r and on every fourth group (quarter q of a chunk, in floats), so
// that a warp reads 512 bytes in one piece; the lanes of a row, then the warps, are added at the end.
#pragma once

#include "compute/cuda/formats.cuh"

// The matrix that block `index` of a launch is for; index becomes the tile inside of it.
MR_DEVICE uint32_t find_matrix(const mr_k_matmul_args &a, uint32_t &index, uint32_t tiles_each) {
    uint32_t i = 0;
    for (; i + 1 < a.n_matrices; i++) {
        uint32_t n = (a.m[i].n_out + 8 * tiles_each - 1) / (8 * tiles_each);
        if (index < n) break;
        index -= n;
    }
    return i;
}

// Rows of x of a block's tokens, and where its expert's weights and bias are.
template <int n_tokens> struct gemv_place {
    uint32_t matrix, tile, first, n;
    const uint8_t *w;
    const float *bias;
    const uint8_t *x[n_tokens];
};

template <int n_tokens>
MR_DEVICE gemv_place<n_tokens> gemv_begin(const mr_k_matmul_args &a, size_t tile_bytes, size_t x_stride) {
    gemv_place<n_tokens> p;
    p.tile = blockIdx.x;
    p.matrix = find_matrix(a, p.tile, 1);
    const mr_k_matrix &m = a.m[p.matrix];
    p.first = a.expert_of != nullptr ? blockIdx.y : 0;
    p.n = a.expert_of != nullptr ? 1 : a.n_tokens;
    size_t expert = a.expert_of != nullptr ? (size_t)a.expert_of[p.first] : 0;
    p.w = (const uint8_t *)m.w + expert * a.expert_bytes + p.tile * tile_bytes;
    p.bias = m.bias == nullptr ? nullptr : m.bias + expert * m.n_out;
    MR_UNROLL
    for (int t = 0; t < n_tokens; t++) {
        uint32_t token = p.first + ((uint32_t)t < p.n ? t : 0);
        uint32_t row = a.rows != nullptr ? (uint32_t)a.rows[token] : a.x_div > 1 ? token / a.x_div : token;
        p.x[t] = (const uint8_t *)a.x + row * x_stride;
    }
    return p;
}

// Adds the lanes of each row and the warps, and writes y.
template <int n_tokens>
MR_DEVICE void gemv_end(const mr_k_matmul_args &a, const gemv_place<n_tokens> &p, float sum[n_tokens]) {
    __shared__ float of_warps[8][n_tokens * 8];
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
    MR_UNROLL
    for (int t = 0; t < n_tokens; t++) {
        sum[t] += shuffle_xor(sum[t], 8);
        sum[t] += shuffle_xor(sum[t], 16);
    }
    if (lane < 8) {
        MR_UNROLL
        for (int t = 0; t < n_tokens; t++) of_warps[warp][8 * t + lane] = sum[t];
    }
    sync_block();
    const mr_k_matrix &m = a.m[p.matrix];
    for (uint32_t i = threadIdx.x; i < 8 * p.n; i += blockDim.x) {
        uint32_t row = 8 * p.tile + i % 8;
        if (row >= m.n_out) continue;
        float v = of_warps[0][i];
        for (uint32_t w = 1; w < n_warps; w++) v += of_warps[w][i];
        float *y = m.y + (size_t)(p.first + i / 8) * m.ldy + row;
        if (p.bias != nullptr) v += p.bias[row];
        *y = m.accumulate ? v + *y : v;
    }
}

// ---- quantized weights ---------------------------------------------------------------------------------------------------

template <int layout, int n_tokens>
MR_DEVICE void gemv_group(const group_codes<layout> &g, const group_scale &s, const gemv_place<n_tokens> &p, uint32_t n_in,
                          uint32_t group, float sum[n_tokens]) {
    uint32_t w[8];
    unpack_group<layout>(g, w);
    MR_UNROLL
    for (int t = 0; t < n_tokens; t++) {
        group_acts x = load_acts(p.x[t], n_in, group);
        sum[t] = fmaf(x.d, group_product<layout>(w, s, x), sum[t]);
    }
}

template <int layout, int n_tokens> MR_DEVICE void gemv_quantized(const mr_k_matmul_args &a) {
    constexpr int AHEAD = n_tokens <= 2 ? 4 : n_tokens <= 4 ? 2 : 1; // groups that a lane asks for at once
    uint32_t n_in = a.n_in, n_groups = n_in / 32;
    size_t x_stride = (n_in + n_in / 32 * sizeof(mr_k_q8_meta) + 15) / 16 * 16;
    gemv_place<n_tokens> p = gemv_begin<n_tokens>(a, tile_bytes<layout>(n_in), x_stride);
    tile_planes planes = planes_of<layout>(p.w, n_in);
    uint32_t row = threadIdx.x % 8, group = threadIdx.x / 8, step = blockDim.x / 8;
    float sum[n_tokens];
    MR_UNROLL
    for (int t = 0; t < n_tokens; t++) sum[t] = 0.0f;
    // The same number of whole rounds for all lanes of a warp. `group | 3` is the last of the warp's four.
    for (; (group | 3) + (AHEAD - 1) * step < n_groups; group += AHEAD * step) {
        group_codes<layout> g[AHEAD];
        group_scale s[AHEAD];
        MR_UNROLL
        for (int i = 0; i < AHEAD; i++) g[i] = load_group<layout>(planes, group + i * step, row);
        MR_UNROLL
        for (int i = 0; i < AHEAD; i++) s[i] = load_scale<layout>(planes, group + i * step, row);
        MR_UNROLL
        for (int i = 0; i < AHEAD; i++) gemv_group<layout, n_tokens>(g[i], s[i], p, n_in, group + i * step, sum);
    }
    for (; group < n_groups; group += step) {
        group_codes<layout> g = load_group<layout>(planes, group, row);
        group_scale s = load_scale<layout>(planes, group, row);
        gemv_group<layout, n_tokens>(g, s, p, n_in, group, sum);
    }
    sync_warp();
    gemv_end<n_tokens>(a, p, sum);
}

// ---- floats ----------------------------------------------------------------------------------------------------------------

// 16 bytes of weights as floats: 4, 8 or 16.
template <int layout> constexpr int values_of = layout == MR_CUDA_F32 ? 4 : layout == MR_CUDA_F8 ? 16 : 8;

template <int layout> MR_DEVICE void decode_values(const uint4 &v, float *w) {
    MR_UNROLL
    for (int i = 0; i < 4; i++) {
        uint32_t u = word(v, i);
        if (layout == MR_CUDA_F32) {
            w[i] = bits_float(u);
        } else if (layout == MR_CUDA_BF16) {
            w[2 * i] = bits_float(u << 16), w[2 * i + 1] = bits_float(u & 0xFFFF0000u);
        } else if (layout == MR_CUDA_F16) {
            w[2 * i] = half_to_float((uint16_t)(u & 0xFFFF)), w[2 * i + 1] = half_to_float((uint16_t)(u >> 16));
        } else { // E4M3 has the digits of a half whose exponent is 8 too small
            MR_UNROLL
            for (int j = 0; j < 4; j++) {
                uint32_t b = u >> 8 * j & 255;
                w[4 * i + j] = half_to_float((uint16_t)((b & 0x80) << 8 | (b & 0x7F) << 7));
            }
        }
    }
}

// The activations beside them.
template <int layout> MR_DEVICE void load_values(const uint8_t *x, uint32_t k, float *v) {
    if (layout == MR_CUDA_BF16) {
        decode_values<MR_CUDA_BF16>(load<uint4>(x + 2 * (size_t)k), v);
    } else {
        MR_UNROLL
        for (int i = 0; i < values_of<layout>; i += 4) {
            float4 f = load<float4>(x + 4 * (size_t)(k + i));
            v[i] = f.x, v[i + 1] = f.y, v[i + 2] = f.z, v[i + 3] = f.w;
        }
    }
}

template <int layout, int n_tokens>
MR_DEVICE void gemv_chunk(const uint4 &codes, float d, const gemv_place<n_tokens> &p, uint32_t k, float sum[n_tokens]) {
    constexpr int N = values_of<layout>;
    float w[N], x[N];
    decode_values<layout>(codes, w);
    MR_UNROLL
    for (int t = 0; t < n_tokens; t++) {
        load_values<layout>(p.x[t], k, x);
        float part = layout == MR_CUDA_F8 ? 0.0f : sum[t];
        MR_UNROLL
        for (int i = 0; i < N; i++) part = fmaf(w[i], x[i], part);
        sum[t] = layout == MR_CUDA_F8 ? fmaf(d, part, sum[t]) : part;
    }
}

template <int layout, int n_tokens> MR_DEVICE void gemv_float(const mr_k_matmul_args &a) {
    constexpr int N = values_of<layout>, AHEAD = n_tokens <= 2 ? 4 : n_tokens <= 4 ? 2 : 1;
    uint32_t n_chunks = (a.n_in + 4 * N - 1) / (4 * N);
    size_t bytes = (size_t)n_chunks * (layout == MR_CUDA_F8 ? 512 + 32 : 512);
    size_t x_stride = (size_t)(a.n_in + 63) / 64 * 64 * (layout == MR_CUDA_BF16 ? 2 : 4);
    gemv_place<n_tokens> p = gemv_begin<n_tokens>(a, bytes, x_stride);
    uint32_t lane = threadIdx.x % 32, chunk = threadIdx.x / 32, step = blockDim.x / 32;
    const uint8_t *w = p.w + 16 * lane;
    const float *scales = (const float *)(p.w + (size_t)n_chunks * 512) + lane % 8;
    float sum[n_tokens];
    MR_UNROLL
    for (int t = 0; t < n_tokens; t++) sum[t] = 0.0f;
    for (; chunk + (AHEAD - 1) * step < n_chunks; chunk += AHEAD * step) {
        uint4 codes[AHEAD];
        MR_UNROLL
        for (int i = 0; i < AHEAD; i++) codes[i] = load_once16(w + (size_t)(chunk + i * step) * 512);
        MR_UNROLL
        for (int i = 0; i < AHEAD; i++) {
            uint32_t at = chunk + i * step;
            float d = layout == MR_CUDA_F8 ? load<float>(scales + (size_t)at * 8) * 256.0f : 1.0f;
            gemv_chunk<layout, n_tokens>(codes[i], d, p, at * 4 * N + lane / 8 * N, sum);
        }
    }
    for (; chunk < n_chunks; chunk += step) {
        float d = layout == MR_CUDA_F8 ? load<float>(scales + (size_t)chunk * 8) * 256.0f : 1.0f;
        gemv_chunk<layout, n_tokens>(load_once16(w + (size_t)chunk * 512), d, p, chunk * 4 * N + lane / 8 * N, sum);
    }
    gemv_end<n_tokens>(a, p, sum);
}

// The kernels of a layout: mr_gemv_NAME_1, _2, _4, _8.
#define MR_GEMV_OF(kind, layout, name, n)                                                                              \
    MR_KERNEL(mr_gemv_##name##_##n, mr_k_matmul_args, 256, n <= 1 ? 4 : n <= 2 ? 3 : 2) {                                           \
        gemv_##kind<layout, n>(a);                                                                                     \
    }
#define MR_GEMV(kind, layout, name)                                                                                    \
    MR_GEMV_OF(kind, layout, name, 1)                                                                                  \
    MR_GEMV_OF(kind, layout, name, 2) MR_GEMV_OF(kind, layout, name, 4) MR_GEMV_OF(kind, layout, name, 8)
