// Products with many tokens, on tensor cores.
//
// Quantized weights are multiplied as int8 by the CPU path's int8 activations, so that the sums inside a block are the
// CPU's exactly and a prompt read here gives the text it gives there; int8 also has twice the rate of bfloat16. Each warp
// reads its weights from memory straight into fragments (the layout is theirs: 128 bytes in one piece), while the tokens'
// activations come into shared memory by asynchronous copies, one stage ahead. A stage is 256 k.
//
// With up to 32 tokens a block takes 32 rows, and 4 warps share the k of each 16 of them; with more, 128 rows x 64 tokens.
#pragma once

#include "compute/cuda/gemv.cuh"

// A block's part of a product: rows of one matrix (of one expert) by `n` tokens from `first` on.
struct gemm_place {
    uint32_t matrix, row, first, n;
    const uint8_t *w;
    const float *bias;
};

// The place of block `index` of the rows (of all matrices) and block `part` of the tokens; false where there is nothing to do.
template <int n_tokens, int block_rows>
MR_DEVICE bool gemm_begin(const mr_k_matmul_args &a, uint32_t index, uint32_t part, gemm_place &p) {
    uint32_t end = a.n_tokens;
    p.matrix = find_matrix(a, index, block_rows / 8);
    p.row = index * block_rows;
    p.first = part * n_tokens;
    size_t expert = 0;
    if (a.expert_begin != nullptr) {
        expert = blockIdx.z;
        p.first += (uint32_t)a.expert_begin[expert];
        end = (uint32_t)a.expert_begin[expert + 1];
    }
    if (p.first >= end) return false;
    p.n = end - p.first < n_tokens ? end - p.first : n_tokens;
    const mr_k_matrix &m = a.m[p.matrix];
    p.w = (const uint8_t *)m.w + expert * a.expert_bytes;
    p.bias = m.bias == nullptr ? nullptr : m.bias + expert * m.n_out;
    return true;
}

// The rows of x that the block's tokens read.
template <int n_tokens>
MR_DEVICE void gemm_rows(const mr_k_matmul_args &a, const gemm_place &p, size_t x_stride, const uint8_t *x[n_tokens]) {
    for (uint32_t t = threadIdx.x; t < n_tokens; t += blockDim.x) {
        uint32_t token = p.first + (t < p.n ? t : 0);
        uint32_t row = a.rows != nullptr ? (uint32_t)a.rows[token] : a.x_div > 1 ? token / a.x_div : token;
        x[t] = (const uint8_t *)a.x + row * x_stride;
    }
    sync_block();
}

// Adds the warps that share rows: those of share 0 get the sums. `scratch`: n floats for each thread but those of share 0.
template <int n> MR_DEVICE void add_shares(float *acc, float *scratch, uint32_t share, uint32_t n_row_warps, uint32_t n_shares) {
    uint32_t lane = threadIdx.x % 32, row_warp = threadIdx.x / 32 % n_row_warps;
    if (share > 0) {
        MR_UNROLL
        for (int i = 0; i < n; i++) scratch[(((share - 1) * n_row_warps + row_warp) * n + i) * 32 + lane] = acc[i];
    }
    sync_block();
    if (share > 0) return;
    for (uint32_t s = 1; s < n_shares; s++) {
        MR_UNROLL
        for (int i = 0; i < n; i++) acc[i] += scratch[(((s - 1) * n_row_warps + row_warp) * n + i) * 32 + lane];
    }
}

// Writes a warp's 16 rows from `row` on; acc is [n8][4] as fragments have it.
template <int n8>
MR_DEVICE void store_rows(const mr_k_matmul_args &a, const gemm_place &p, uint32_t row, const float (*acc)[4]) {
    const mr_k_matrix &m = a.m[p.matrix];
    uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    MR_UNROLL
    for (int half = 0; half < 2; half++) {
        uint32_t r = row + g + 8 * half;
        if (r >= m.n_out) continue;
        float bias = p.bias != nullptr ? p.bias[r] : 0.0f;
        MR_UNROLL
        for (int i = 0; i < n8; i++) {
            MR_UNROLL
            for (int j = 0; j < 2; j++) {
                uint32_t token = 8 * i + 2 * t + j;
                if (token >= p.n) continue;
                float *y = m.y + (size_t)(p.first + token) * m.ldy + r, v = acc[i][2 * half + j] + bias;
                *y = m.accumulate ? v + *y : v;
            }
        }
    }
}

// ---- quantized weights ---------------------------------------------------------------------------------------------------

enum { Q_STRIDE = 256 + 32, Q_TOKEN_BYTES = Q_STRIDE + 64 }; // bytes of a token in a stage; rows apart fall on other banks

// Asks for one stage: of each token `shares` pieces of 256 values and 8 mr_k_q8_meta, from group `group` on. In shared memory
// [share][token][Q_STRIDE], then [share][group][token] of metas.
template <int n_tokens, int shares>
MR_DEVICE void ask_for_stage(const uint8_t *const *x, uint32_t n_in, uint32_t n_valid, uint32_t group, uint8_t *stage) {
    uint32_t n_groups = n_in / 32;
    for (uint32_t i = threadIdx.x; i < n_tokens * shares * 16; i += blockDim.x) {
        uint32_t token = i / (shares * 16), piece = i % (shares * 16), share = piece / 16, g = group + piece / 2;
        bool valid = token < n_valid && g < n_groups;
        copy_async16(stage + (share * n_tokens + token) * Q_STRIDE + piece % 16 * 16,
                     x[token] + (valid ? 32 * (size_t)group + 16 * piece : 0), valid);
    }
    uint8_t *metas = stage + shares * n_tokens * Q_STRIDE;
    for (uint32_t i = threadIdx.x; i < n_tokens * shares * 8; i += blockDim.x) {
        uint32_t token = i / (shares * 8), g = i % (shares * 8);
        bool valid = token < n_valid && group + g < n_groups;
        copy_async8(metas + ((size_t)g * n_tokens + token) * 8, x[token] + n_in + (valid ? 8 * (size_t)(group + g) : 0),
                    valid);
    }
    copy_commit();
}

// Turns the sums of metas into d * (sum of 32) as floats, where a product needs them as such.
template <int n_tokens, int shares> MR_DEVICE void scale_sums(uint8_t *stage) {
    mr_k_q8_meta *metas = (mr_k_q8_meta *)(stage + shares * n_tokens * Q_STRIDE);
    for (uint32_t i = threadIdx.x; i < n_tokens * shares * 8; i += blockDim.x) {
        float sum = metas[i].d * (float)(metas[i].sum[0] + metas[i].sum[1]);
        ((float *)&metas[i])[1] = sum;
    }
    sync_block();
}

// What a lane holds of a group of its two rows (8 apart): word t of each, and their shared planes.
template <int layout> struct row_pair {
    uint32_t code[2], code_high[2], bits[2];
    uint2 pairs[2];
};

template <int layout>
MR_DEVICE row_pair<layout> load_rows(const tile_planes planes[2], uint32_t group, uint32_t g, uint32_t t) {
    using f = format<layout>;
    row_pair<layout> r;
    MR_UNROLL
    for (int i = 0; i < 2; i++) {
        r.code[i] = r.code_high[i] = r.bits[i] = 0;
        r.pairs[i] = make_uint2(0, 0);
        const uint8_t *codes = planes[i].codes + (size_t)group * f::codes + 16 * g + 4 * t;
        if (f::codes > 0) r.code[i] = load<uint32_t>(codes);
        if (f::codes == 256) r.code_high[i] = load<uint32_t>(codes + 128);
        if (f::pairs > 0) r.pairs[i] = load<uint2>(planes[i].pairs + (size_t)group * f::pairs + 8 * g);
        if (f::bits > 0) r.bits[i] = load<uint32_t>(planes[i].bits + (size_t)group * f::bits + 4 * g);
    }
    return r;
}

// Adds one group of a warp's 16 rows by all tokens to acc.
template <int layout, int n_tokens>
MR_DEVICE void multiply_group(const row_pair<layout> &rows, const group_scale scale[2], const uint8_t *q, const uint8_t *metas,
                              uint32_t g, uint32_t t, float (*acc)[4]) {
    using f = format<layout>;
    uint32_t a[4];
    words_of<layout>(rows.code[0], rows.code_high[0], rows.pairs[0], rows.bits[0], (int)t, a[0], a[2]);
    words_of<layout>(rows.code[1], rows.code_high[1], rows.pairs[1], rows.bits[1], (int)t, a[1], a[3]);
    float min[2];
    MR_UNROLL
    for (int i = 0; i < 2; i++) min[i] = f::unit == 32 ? scale[i].dmin : -(scale[i].dmin * (float)scale[i].m[0]);
    MR_UNROLL
    for (int i = 0; i < n_tokens / 8; i++) {
        uint2 b = *(const uint2 *)(q + (8 * i + g) * Q_STRIDE + 8 * t);
        uint4 meta = *(const uint4 *)(metas + (8 * i + 2 * t) * 8); // of tokens 8i + 2t and the next: d, sums
        int c[4] = {0, 0, 0, 0};
        if (f::sub == 32) {
            mma_s8_k32(c, a, b.x, b.y);
        } else {
            int high[4] = {0, 0, 0, 0};
            mma_s8_k16(c, a[0], a[1], b.x);
            mma_s8_k16(high, a[2], a[3], b.y);
            MR_UNROLL
            for (int j = 0; j < 4; j++) c[j] = scale[j / 2].s[0] * c[j] + scale[j / 2].s[1] * high[j];
        }
        MR_UNROLL
        for (int j = 0; j < 4; j++) {
            uint32_t sums = j % 2 == 0 ? meta.y : meta.w;
            float d = bits_float(j % 2 == 0 ? meta.x : meta.z);
            if (has_small<layout> && f::sub == 32) c[j] *= scale[j / 2].s[0];
            acc[i][j] = fmaf(scale[j / 2].d * d, (float)c[j], acc[i][j]);
            if (f::has_min && f::sub == 32) acc[i][j] = fmaf(min[j / 2], bits_float(sums), acc[i][j]);
            if (f::has_min && f::sub == 16) {
                int m = scale[j / 2].m[0] * (int16_t)(sums & 0xFFFF) + scale[j / 2].m[1] * (int16_t)(sums >> 16);
                acc[i][j] = fmaf(-(scale[j / 2].dmin * d), (float)m, acc[i][j]);
            }
        }
    }
}

template <int layout, int n_tokens, int shares> MR_DEVICE void gemm_quantized(const mr_k_matmul_args &a) {
    using f = format<layout>;
    constexpr int ROW_WARPS = 8 / shares, N8 = n_tokens / 8, STAGE = shares * n_tokens * Q_TOKEN_BYTES;
    constexpr int AHEAD = f::pairs > 0 || f::codes == 256 || f::unit == 256 ? 2 : 4; // groups whose weights are asked for at once
    __shared__ const uint8_t *x[n_tokens];
    uint8_t *stages = (uint8_t *)dynamic_shared();
    gemm_place p;
    if (!gemm_begin<n_tokens, 16 * ROW_WARPS>(a, blockIdx.x, blockIdx.y, p)) return;
    uint32_t n_in = a.n_in, n_groups = n_in / 32, warp = threadIdx.x / 32, share = warp / ROW_WARPS;
    uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, row = p.row + warp % ROW_WARPS * 16;
    gemm_rows<n_tokens>(a, p, (n_in + n_in / 32 * sizeof(mr_k_q8_meta) + 15) / 16 * 16, x);

    tile_planes planes[2];
    MR_UNROLL
    for (int i = 0; i < 2; i++) { // tiles behind the last are read as the first one; what comes of them is not stored
        uint32_t tile = row + 8 * i < a.m[p.matrix].n_out ? row / 8 + i : 0;
        planes[i] = planes_of<layout>(p.w + tile * (size_t)tile_bytes<layout>(n_in), n_in);
    }
    float acc[N8][4];
    MR_UNROLL
    for (int i = 0; i < N8; i++) {
        MR_UNROLL
        for (int j = 0; j < 4; j++) acc[i][j] = 0.0f;
    }
    uint32_t n_stages = (n_groups + 8 * shares - 1) / (8 * shares);
    ask_for_stage<n_tokens, shares>(x, n_in, p.n, 0, stages);
    for (uint32_t s = 0; s < n_stages; s++) {
        uint8_t *stage = stages + s % 2 * STAGE;
        if (s + 1 < n_stages) {
            ask_for_stage<n_tokens, shares>(x, n_in, p.n, (s + 1) * 8 * shares, stages + (s + 1) % 2 * STAGE);
            copy_wait<1>();
        } else {
            copy_wait<0>();
        }
        sync_block();
        if (f::has_min && f::sub == 32) scale_sums<n_tokens, shares>(stage);
        uint32_t first = (s * shares + share) * 8;
        const uint8_t *q = stage + share * n_tokens * Q_STRIDE;
        const uint8_t *metas = stage + shares * n_tokens * Q_STRIDE + share * 8 * n_tokens * 8;
        for (uint32_t part = 0; part < 8 && first + part < n_groups; part += AHEAD) {
            row_pair<layout> rows[AHEAD];
            MR_UNROLL
            for (int i = 0; i < AHEAD; i++) {
                // Past the end, the last group is read again and multiplied by zeros.
                uint32_t group = first + part + i < n_groups ? first + part + i : n_groups - 1;
                rows[i] = load_rows<layout>(planes, group, g, t);
            }
            MR_UNROLL
            for (int i = 0; i < AHEAD; i++) {
                uint32_t group = first + part + i < n_groups ? first + part + i : n_groups - 1;
                group_scale scale[2];
                MR_UNROLL
                for (int j = 0; j < 2; j++) scale[j] = load_scale<layout>(planes[j], group, g);
                multiply_group<layout, n_tokens>(rows[i], scale, q + (part + i) * 32, metas + (part + i) * n_tokens * 8, g, t,
                                                 acc);
            }
        }
        sync_block();
    }
    if (shares > 1) add_shares<4 * N8>(acc[0], (float *)stages, share, ROW_WARPS, shares);
    if (share == 0) store_rows<N8>(a, p, row, acc);
}

#define MR_GEMM(layout, name)                                                                                          \
    MR_KERNEL(mr_gemm_##name##_32, mr_k_matmul_args, 256, 1) {                                                         \
        gemm_quantized<layout, 32, 4>(a);                                                                              \
    }                                                                                                                  \
    MR_KERNEL(mr_gemm_##name##_64, mr_k_matmul_args, 256, 2) {                                                         \
        gemm_quantized<layout, 64, 1>(a);                                                                              \
    }
