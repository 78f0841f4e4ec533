// Products on tensor cores with float weights: bfloat16 as it is; F32, F16 and F8, whose inputs are floats, as sums of
// products of tf32 parts, which keep the exactness of floats (a float is the sum of its upper 11 bits, the next 11 and
// little more; F16 and F8 have no lower part).
//
// Fragments: lane 4g + t takes for its row 16 consecutive bytes of quarter t of a chunk. So the k of an instruction are not
// consecutive ones, but the same for both factors.
#include "compute/cuda/gemm.cuh"

enum { F_STRIDE = 320 }; // bytes of a token in a stage: 128 bfloat16 or 64 floats, and what moves rows to other banks

// Stages of 256 bytes of each token for each share. Rows of activations are padded to them by zeros.
template <int n_tokens, int shares>
MR_DEVICE void ask_for_floats(const uint8_t *const *x, size_t row_bytes, uint32_t n_valid, size_t at, uint8_t *stage) {
    for (uint32_t i = threadIdx.x; i < n_tokens * shares * 16; i += blockDim.x) {
        uint32_t token = i / (shares * 16), piece = i % (shares * 16), share = piece / 16;
        bool valid = token < n_valid && at + 16 * piece < row_bytes;
        copy_async16(stage + (share * n_tokens + token) * F_STRIDE + piece % 16 * 16,
                     x[token] + (valid ? at + 16 * piece : 0), valid);
    }
    copy_commit();
}

MR_DEVICE uint32_t upper(float v) { // the nearest tf32
    return (float_bits(v) + 0x1000u) & 0xFFFFE000u;
}

// A lane's 16 bytes of a chunk of two rows by all tokens; x is this lane's place in the chunk of token g.
template <int n_tokens> MR_DEVICE void multiply_bf16(const uint4 w[2], const uint8_t *x, float (*acc)[4]) {
    MR_UNROLL
    for (int i = 0; i < n_tokens / 8; i++) {
        uint4 b = *(const uint4 *)(x + 8 * i * F_STRIDE);
        mma_bf16(acc[i], w[0].x, w[1].x, w[0].y, w[1].y, b.x, b.y);
        mma_bf16(acc[i], w[0].z, w[1].z, w[0].w, w[1].w, b.z, b.w);
    }
}

template <int layout, int n_tokens> MR_DEVICE void multiply_floats(const uint4 w[2], const uint8_t *x, float (*acc)[4]) {
    constexpr int N = values_of<layout>;
    float v[2][N];
    decode_values<layout>(w[0], v[0]);
    decode_values<layout>(w[1], v[1]);
    MR_UNROLL
    for (int k = 0; k < N; k += 2) {
        uint32_t a[4], low[4];
        MR_UNROLL
        for (int j = 0; j < 4; j++) {
            float value = v[j % 2][k + j / 2];
            a[j] = upper(value);
            low[j] = float_bits(value - bits_float(a[j]));
        }
        MR_UNROLL
        for (int i = 0; i < n_tokens / 8; i++) {
            float2 b = *(const float2 *)(x + 8 * i * F_STRIDE + 4 * k);
            uint32_t b0 = upper(b.x), b1 = upper(b.y);
            uint32_t low0 = float_bits(b.x - bits_float(b0)), low1 = float_bits(b.y - bits_float(b1));
            mma_tf32(acc[i], a[0], a[1], a[2], a[3], low0, low1);
            if (layout == MR_CUDA_F32) mma_tf32(acc[i], low[0], low[1], low[2], low[3], b0, b1);
            mma_tf32(acc[i], a[0], a[1], a[2], a[3], b0, b1);
        }
    }
}

// A lane's 16 bytes of a chunk of its row. Behind the end it is the last chunk again: activations are zero there.
MR_DEVICE uint4 load_chunk(const uint8_t *tile, uint32_t chunk, uint32_t n_chunks, uint32_t g, uint32_t t) {
    chunk = chunk < n_chunks ? chunk : n_chunks - 1;
    return load<uint4>(tile + (size_t)chunk * 512 + t * 128 + g * 16);
}

// rows16: pieces of 16 rows that a warp takes.
template <int layout, int n_tokens, int shares, int rows16> MR_DEVICE void gemm_floats(const mr_k_matmul_args &a) {
    constexpr int ROW_WARPS = 8 / shares, N8 = n_tokens / 8, STAGE = shares * n_tokens * F_STRIDE, N = values_of<layout>;
    constexpr int X_BYTES = layout == MR_CUDA_BF16 ? 2 : 4, CHUNK_BYTES = 4 * N * X_BYTES; // of activations
    constexpr int CHUNKS = 256 / CHUNK_BYTES;                                             // of a stage
    __shared__ const uint8_t *x[n_tokens];
    uint8_t *stages = (uint8_t *)dynamic_shared();
    gemm_place p;
    if (!gemm_begin<n_tokens, 16 * rows16 * ROW_WARPS>(a, blockIdx.x, blockIdx.y, p)) return;
    uint32_t warp = threadIdx.x / 32, share = warp / ROW_WARPS, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    uint32_t row = p.row + warp % ROW_WARPS * 16 * rows16, n_chunks = (a.n_in + 4 * N - 1) / (4 * N);
    size_t row_bytes = (size_t)(a.n_in + 63) / 64 * 64 * X_BYTES;
    size_t bytes = (size_t)n_chunks * (layout == MR_CUDA_F8 ? 512 + 32 : 512);
    gemm_rows<n_tokens>(a, p, row_bytes, x);

    // Tiles behind the last are read as the first one; what comes of them is not stored.
    const uint8_t *w[2 * rows16];
    uint4 next[2 * rows16]; // weights of the next chunk, asked for while this one is multiplied
    MR_UNROLL
    for (int i = 0; i < 2 * rows16; i++) {
        w[i] = p.w + (row + 8 * i < a.m[p.matrix].n_out ? row / 8 + i : 0) * bytes;
        next[i] = load_chunk(w[i], share * CHUNKS, n_chunks, g, t);
    }
    float acc[rows16][N8][4];
    MR_UNROLL
    for (int m = 0; m < rows16; m++) {
        MR_UNROLL
        for (int i = 0; i < N8; i++) acc[m][i][0] = acc[m][i][1] = acc[m][i][2] = acc[m][i][3] = 0.0f;
    }
    uint32_t n_stages = (n_chunks + CHUNKS * shares - 1) / (CHUNKS * shares);
    ask_for_floats<n_tokens, shares>(x, row_bytes, p.n, 0, stages);
    for (uint32_t s = 0; s < n_stages; s++) {
        uint8_t *stage = stages + s % 2 * STAGE;
        if (s + 1 < n_stages) {
            ask_for_floats<n_tokens, shares>(x, row_bytes, p.n, (size_t)(s + 1) * 256 * shares, stages + (s + 1) % 2 * STAGE);
            copy_wait<1>();
        } else {
            copy_wait<0>();
        }
        sync_block();
        uint32_t first = (s * shares + share) * CHUNKS;
        const uint8_t *tokens = stage + (share * n_tokens + g) * F_STRIDE + t * N * X_BYTES;
        MR_NO_UNROLL
        for (int c = 0; c < CHUNKS; c++) {
            uint4 codes[2 * rows16];
            uint32_t after = c + 1 < CHUNKS ? first + c + 1 : first + shares * CHUNKS;
            MR_UNROLL
            for (int i = 0; i < 2 * rows16; i++) {
                codes[i] = next[i];
                next[i] = load_chunk(w[i], after, n_chunks, g, t);
            }
            MR_UNROLL
            for (int m = 0; m < rows16; m++) {
                const uint8_t *at = tokens + c * CHUNK_BYTES;
                if (layout == MR_CUDA_BF16) {
                    multiply_bf16<n_tokens>(codes + 2 * m, at, acc[m]);
                } else if (layout == MR_CUDA_F8) { // products without scales of a block, then both rows' scales
                    float part[N8][4];
                    MR_UNROLL
                    for (int i = 0; i < N8; i++) part[i][0] = part[i][1] = part[i][2] = part[i][3] = 0.0f;
                    multiply_floats<layout, n_tokens>(codes + 2 * m, at, part);
                    MR_UNROLL
                    for (int half = 0; half < 2; half++) {
                        const uint8_t *scales = w[2 * m + half] + (size_t)n_chunks * 512;
                        uint32_t chunk = first + c < n_chunks ? first + c : n_chunks - 1;
                        float d = load<float>(scales + chunk * 32 + 4 * g) * 256.0f;
                        MR_UNROLL
                        for (int i = 0; i < N8; i++) {
                            acc[m][i][2 * half] = fmaf(d, part[i][2 * half], acc[m][i][2 * half]);
                            acc[m][i][2 * half + 1] = fmaf(d, part[i][2 * half + 1], acc[m][i][2 * half + 1]);
                        }
                    }
                } else {
                    multiply_floats<layout, n_tokens>(codes + 2 * m, at, acc[m]);
                }
            }
        }
        sync_block();
    }
    MR_UNROLL
    for (int m = 0; m < rows16; m++) {
        if (shares > 1) add_shares<4 * N8>(acc[m][0], (float *)stages, share, ROW_WARPS, shares);
        if (share == 0) store_rows<N8>(a, p, row + 16 * m, acc[m]);
    }
}

#define MR_GEMM_FLOATS(layout, name, rows16)                                                                           \
    MR_KERNEL(mr_gemm_##name##_32, mr_k_matmul_args, 256, 1) {                                                         \
        gemm_floats<layout, 32, 4, 1>(a);                                                                              \
    }                                                                                                                  \
    MR_KERNEL(mr_gemm_##name##_64, mr_k_matmul_args, 256, 2) {                                                         \
        gemm_floats<layout, 64, 1, rows16>(a);                                                                         \
    }
MR_GEMM_FLOATS(MR_CUDA_F32, f32, 1)
MR_GEMM_FLOATS(MR_CUDA_F16, f16, 1)
MR_GEMM_FLOATS(MR_CUDA_BF16, bf16, 2)
MR_GEMM_FLOATS(MR_CUDA_F8, f8, 1)
