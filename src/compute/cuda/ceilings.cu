// What the device can do at best, for comparison: copying, and products of fragments with nothing around them.
#include "compute/cuda/device.cuh"

MR_KERNEL(mr_k_copy, mr_k_ceiling_args, 512, 1) {
    const uint4 *from = (const uint4 *)a.from;
    uint4 *to = (uint4 *)a.to;
    uint64_t step = (uint64_t)gridDim.x * blockDim.x;
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < a.n; i += step) to[i] = load_once16(from + i);
}

MR_KERNEL(mr_k_rate_bf16, mr_k_ceiling_args, 256, 1) {
    float d[8][4] = {};
    uint32_t v = threadIdx.x * 0x00010001u;
    for (uint64_t n = 0; n < a.n; n++) {
        MR_UNROLL
        for (int i = 0; i < 64; i++) mma_bf16(d[i % 8], v, v, v, v, v, v);
    }
    float sum = 0.0f;
    MR_UNROLL
    for (int i = 0; i < 8; i++) sum += d[i][0] + d[i][1] + d[i][2] + d[i][3];
    ((float *)a.to)[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

MR_KERNEL(mr_k_rate_s8, mr_k_ceiling_args, 256, 1) {
    int d[8][4] = {};
    uint32_t v[4] = {threadIdx.x, threadIdx.x, threadIdx.x, threadIdx.x};
    for (uint64_t n = 0; n < a.n; n++) {
        MR_UNROLL
        for (int i = 0; i < 64; i++) mma_s8_k32(d[i % 8], v, v[0], v[1]);
    }
    int sum = 0;
    MR_UNROLL
    for (int i = 0; i < 8; i++) sum += d[i][0] + d[i][1] + d[i][2] + d[i][3];
    ((int *)a.to)[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
