// What Hopper's tensor cores can do at best: products of warpgroups of one place in shared memory, with nothing around them.
#include "compute/cuda/wgmma.cuh"

MR_KERNEL(mr_k_rate_wgmma, mr_k_ceiling_args, 256, 1) {
    uint32_t *shared = (uint32_t *)dynamic_shared();
    for (uint32_t i = threadIdx.x; i < MR_K_RATE_WGMMA_SHARED / 4; i += blockDim.x) shared[i] = i * 0x00010001u;
    fence_async();
    sync_block();
    uint64_t rows = core_matrices(shared, 128, 256), columns = core_matrices(shared + 512, 128, 256);
    float d[32][4] = {};
    MR_NO_UNROLL
    for (uint64_t n = 0; n < a.n; n++) {
        wgmma_fence();
        MR_UNROLL
        for (int i = 0; i < 64; i++) wgmma_bf16(d, rows, columns);
        wgmma_commit();
        wgmma_wait<1>(d);
    }
    wgmma_wait<0>(d);
    float sum = 0.0f;
    MR_UNROLL
    for (int i = 0; i < 32; i++) sum += d[i][0] + d[i][1] + d[i][2] + d[i][3];
    ((float *)a.to)[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
