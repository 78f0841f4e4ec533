// Products of bfloat16 weights with many tokens on Hopper: by wgmma, which alone reaches the full rate of its tensor cores.
// Compiled for sm_90a only; other devices have gemm_float.cu.
//
// A block takes 128 rows, 64 of each of its two warpgroups, and 64, 128 or 256 tokens. A stage is 64 k of both, as tiles of
// 8 rows (or tokens) of 8 core matrices: 1024 bytes, which for weights are the very bytes of two chunks of a packed tile.
// Both come by asynchronous copies; what rows, tokens or k lack is zero.
#include "compute/cuda/gemm.cuh"
#include "compute/cuda/wgmma.cuh"

enum { TILE = MR_K_WGMMA_STAGE_TILE, W_TILES = MR_K_WGMMA_ROWS / 8, W_STAGE = W_TILES * TILE };

// One block's copies: where this thread's 16 bytes of each tile come from.
template <int n_tokens> struct source {
    const uint8_t *w;        // of the block's first tile
    size_t tile_bytes;       // of a packed tile
    uint32_t n_tiles;        // of weights that are there
    const uint8_t *const *x; // rows of the tokens, shared
    uint32_t n;              // tokens that are there
    uint32_t n_chunks;
};

// Asks for stage s. Thread i takes 16 bytes at 16 * (i % 64) of every fourth tile. Of weights they are consecutive ones; of
// tokens, row i % 8 of core matrix i % 64 / 8.
template <int n_tokens> MR_DEVICE void ask_for_stage(const source<n_tokens> &from, uint32_t s, uint8_t *stage) {
    uint32_t piece = threadIdx.x % 64, first = threadIdx.x / 64;
    MR_UNROLL
    for (uint32_t i = 0; i < W_TILES / 4; i++) {
        uint32_t tile = first + 4 * i;
        bool valid = tile < from.n_tiles && 2 * s + piece / 32 < from.n_chunks;
        const uint8_t *at = from.w + tile * from.tile_bytes + (size_t)s * TILE + 16 * piece;
        copy_async16(stage + tile * TILE + 16 * piece, valid ? at : from.w, valid);
    }
    MR_UNROLL
    for (uint32_t i = 0; i < n_tokens / 32; i++) {
        uint32_t tile = first + 4 * i, token = 8 * tile + piece % 8;
        copy_async16(stage + W_STAGE + tile * TILE + 16 * piece, from.x[token] + (size_t)s * 128 + piece / 8 * 16,
                     token < from.n);
    }
}

// The 64 k of a stage: 4 products of 16 k, which are two core matrices.
template <int n8> MR_DEVICE void multiply_stage(const uint8_t *stage, float (&acc)[n8][4]) {
    uint32_t group = threadIdx.x / 128;
    wgmma_fence();
    MR_UNROLL
    for (int k = 0; k < 4; k++) {
        const uint8_t *w = stage + group * (W_STAGE / 2) + k * 256, *x = stage + W_STAGE + k * 256;
        wgmma_bf16(acc, core_matrices(w, 128, TILE), core_matrices(x, 128, TILE));
    }
    wgmma_commit();
}

// stages: buffers of stages. busy: stages that may still be multiplied while the next is waited for; the buffer of the one
// before them is filled again.
template <int n_tokens, int stages, int busy> MR_DEVICE void gemm_wgmma(const mr_k_matmul_args &a) {
    constexpr int N8 = n_tokens / 8, STAGE = W_STAGE + N8 * TILE, AHEAD = stages - 1 - busy;
    __shared__ const uint8_t *x[n_tokens];
    uint8_t *buffers = (uint8_t *)dynamic_shared();
    gemm_place p;
    if (!gemm_begin<n_tokens, 8 * W_TILES>(a, blockIdx.y, blockIdx.x, p)) return;
    uint32_t n_chunks = (a.n_in + 31) / 32, n_stages = (n_chunks + 1) / 2;
    size_t tile_bytes = (size_t)n_chunks * 512;
    gemm_rows<n_tokens>(a, p, (size_t)n_stages * 128, x);
    uint32_t n_tiles = (a.m[p.matrix].n_out - p.row + 7) / 8;
    source<n_tokens> from = {p.w + p.row / 8 * tile_bytes, tile_bytes, n_tiles, x, p.n, n_chunks};

    float acc[N8][4];
    MR_UNROLL
    for (int i = 0; i < N8; i++) acc[i][0] = acc[i][1] = acc[i][2] = acc[i][3] = 0.0f;
    MR_UNROLL
    for (uint32_t s = 0; s < AHEAD; s++) {
        if (s < n_stages) ask_for_stage(from, s, buffers + s * STAGE);
        copy_commit();
    }
    uint32_t buffer = 0, free_buffer = AHEAD;
    MR_NO_UNROLL
    for (uint32_t s = 0; s < n_stages; s++) {
        copy_wait<AHEAD - 1>();
        fence_async();
        sync_block(); // all copies of stage s are there, and all warps are through with the stage that `busy` are behind
        multiply_stage(buffers + buffer * STAGE, acc);
        if (s + AHEAD < n_stages) ask_for_stage(from, s + AHEAD, buffers + free_buffer * STAGE);
        copy_commit();
        wgmma_wait<busy>(acc);
        buffer = buffer + 1 < stages ? buffer + 1 : 0;
        free_buffer = free_buffer + 1 < stages ? free_buffer + 1 : 0;
    }
    wgmma_wait<0>(acc);
    store_rows<N8>(a, p, p.row + threadIdx.x / 32 * 16, acc);
}

MR_KERNEL(mr_gemm_bf16_wgmma_64, mr_k_matmul_args, 256, 2) {
    gemm_wgmma<64, 4, 0>(a);
}
MR_KERNEL(mr_gemm_bf16_wgmma_128, mr_k_matmul_args, 256, 2) {
    gemm_wgmma<128, 3, 0>(a);
}
MR_KERNEL(mr_gemm_bf16_wgmma_256, mr_k_matmul_args, 256, 1) {
    gemm_wgmma<256, 4, 1>(a);
}
