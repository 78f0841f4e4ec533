// Several residual streams (Gemma 3n): what a layer expects of each, and what its change of one means for the others.
#include "compute/cuda/device.cuh"

MR_KERNEL(mr_k_match_size, mr_k_match_size_args, 256, 1) {
    __shared__ float scratch[32];
    const float *x = a.x + (size_t)blockIdx.x * a.n;
    float *y = a.y + (size_t)blockIdx.x * a.n, of_x = 0.0f, of_y = 0.0f;
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) of_x += x[i] * x[i], of_y += y[i] * y[i];
    of_x = block_sum(of_x, scratch) / (float)a.n;
    of_y = block_sum(of_y, scratch) / (float)a.n;
    float factor = sqrtf(of_x) / sqrtf(fmaxf(of_y, 1e-5f));
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) y[i] *= factor;
}

// factors . modal of token t, for row `row` of the factors.
MR_DEVICE float mix_factor(const mr_k_streams_args &a, uint32_t t, uint32_t row) {
    float sum = 0.0f;
    for (uint32_t k = 0; k < a.n_stream; k++)
        sum = fmaf(a.factors[row * a.n_stream + k], a.modal[(size_t)t * a.n_stream + k], sum);
    return sum;
}

MR_KERNEL(mr_k_streams_predict, mr_k_streams_args, 256, 1) {
    __shared__ float factors[MR_K_MAX_STREAMS * MR_K_MAX_STREAMS];
    uint32_t t = blockIdx.y, i = blockIdx.x * blockDim.x + threadIdx.x, n = a.n_stream;
    for (uint32_t row = threadIdx.x; row < n * n; row += blockDim.x) factors[row] = mix_factor(a, t, row);
    sync_block();
    if (i >= a.n) return;
    size_t at = (size_t)t * a.n + i;
    float old[MR_K_MAX_STREAMS];
    MR_UNROLL
    for (uint32_t s = 0; s < MR_K_MAX_STREAMS; s++) old[s] = s < n ? a.streams[s][at] : 0.0f;
    MR_UNROLL
    for (uint32_t to = 0; to < MR_K_MAX_STREAMS; to++) {
        if (to >= n) break;
        float v = old[to];
        MR_UNROLL
        for (uint32_t from = 0; from < MR_K_MAX_STREAMS; from++) {
            if (from < n) v = fmaf(old[from], factors[to * n + from], v);
        }
        a.streams[to][at] = v;
        if (to == 0) a.predicted[at] = v;
    }
}

MR_KERNEL(mr_k_streams_correct, mr_k_streams_args, 256, 1) {
    __shared__ float factors[MR_K_MAX_STREAMS];
    uint32_t t = blockIdx.y, i = blockIdx.x * blockDim.x + threadIdx.x, n = a.n_stream;
    for (uint32_t row = threadIdx.x; row < n; row += blockDim.x) factors[row] = mix_factor(a, t, row) + 1.0f;
    sync_block();
    if (i >= a.n) return;
    size_t at = (size_t)t * a.n + i;
    float predicted = a.predicted[at], change = a.streams[0][at] - predicted;
    MR_UNROLL
    for (uint32_t s = 0; s < MR_K_MAX_STREAMS; s++) {
        if (s >= n) break;
        float v = fmaf(change, factors[s], s == 0 ? predicted : a.streams[s][at]);
        a.streams[s][at] = v;
        if (s == 0) a.predicted[at] = v * a.correct_scale[i];
    }
}
