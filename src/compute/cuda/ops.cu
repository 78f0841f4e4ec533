// The small operations between matrix products (ops.h), on rows.
#include "compute/cuda/values.cuh"

// ---- norms, softmax, sparse gates -----------------------------------------------------------------------------------------

// Sum over n values of (x - shift)^2, or of x - shift.
MR_DEVICE float sum_of(const float *x, uint32_t n, float shift, bool squares, float *scratch) {
    float sum = 0.0f;
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
        float d = x[i] - shift;
        sum += squares ? d * d : d;
    }
    return block_sum(sum, scratch);
}

MR_KERNEL(mr_k_norm, mr_k_norm_args, 512, 1) {
    __shared__ float scratch[32];
    size_t at = (size_t)blockIdx.y * a.ld + (size_t)blockIdx.x * a.head_step;
    const float *x = a.x + at;
    float mean = a.norm == MR_K_NORM_LAYER ? sum_of(x, a.n, 0.0f, false, scratch) / (float)a.n : 0.0f;
    float scale = 1.0f / sqrtf(sum_of(x, a.n, mean, true, scratch) / (float)a.n + a.eps);
    const float *weight = a.weight != nullptr ? a.weight + (size_t)blockIdx.x * a.weight_step : nullptr;
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) {
        float v = mul(x[i] - mean, scale);
        if (weight != nullptr) v = mul(v, weight[i]);
        if (a.bias != nullptr) v += a.bias[i];
        a.out[at + i] = v;
    }
}

MR_KERNEL(mr_k_softmax, mr_k_softmax_args, 256, 1) {
    __shared__ float scratch[32];
    float *x = a.x + (size_t)blockIdx.x * a.ld, most = -INFINITY, sum = 0.0f;
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) most = fmaxf(most, x[i]);
    most = block_max(most, scratch);
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) sum += x[i] = expf(x[i] - most);
    float inverse = 1.0f / block_sum(sum, scratch);
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) x[i] *= inverse;
}

MR_KERNEL(mr_k_cut, mr_k_cut_args, 256, 1) {
    __shared__ float scratch[32];
    float *x = a.x + (size_t)blockIdx.x * a.ld;
    float mean = sum_of(x, a.n, 0.0f, false, scratch) / (float)a.n;
    float cutoff = mean + sqrtf(sum_of(x, a.n, mean, true, scratch) / (float)a.n) * a.sparsity;
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) x[i] = x[i] > cutoff ? x[i] - cutoff : 0.0f;
}

// ---- elementwise -----------------------------------------------------------------------------------------------------------

MR_DEVICE float xielu(float x, const float p[4]) {
    float linear = p[2] * x;
    if (x > 0.0f) return fmaf(x * x, p[0], linear);
    return fmaf(expm1f(fminf(x, p[3])) - x, p[1], linear);
}

MR_KERNEL(mr_k_elementwise, mr_k_elementwise_args, 256, 1) {
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.n) return;
    for (uint32_t r = blockIdx.y; r < a.n_rows; r += gridDim.y) {
        float x = a.x[(size_t)r * a.ldx + i], y = a.y != nullptr ? a.y[(size_t)r * a.ldy + i] : 0.0f, v = x;
        switch (a.op) {
        case MR_K_COPY: break;
        case MR_K_ADD_SCALED: v = fmaf(y, a.p[0], x); break;
        case MR_K_SCALE: v = x * a.p[0]; break;
        case MR_K_MUL: v = x * y; break;
        case MR_K_SOFTCAP: v = softcap(x, a.p[0]); break;
        case MR_K_GLU: v = a.y != nullptr ? gated(a.act, x, y) : activate(a.act, x); break;
        case MR_K_XIELU: v = xielu(x, a.p); break;
        case MR_K_SIGMOID: v = sigmoid(x); break;
        case MR_K_MUL_SIGMOID: v = x * sigmoid(y); break;
        case MR_K_ADD_TIMES: v = (x + y) * a.p[0]; break;
        }
        a.out[(size_t)r * a.ld_out + i] = v;
    }
}

// ---- heads -----------------------------------------------------------------------------------------------------------------

MR_KERNEL(mr_k_angles, mr_k_angles_args, 64, 1) {
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y;
    if (i >= a.n_pairs) return;
    double angle = (double)mul((float)a.positions[t], a.inv_freq[i]);
    a.cosines[(size_t)t * a.n_pairs + i] = mul((float)cos(angle), a.factor);
    a.sines[(size_t)t * a.n_pairs + i] = mul((float)sin(angle), a.factor);
}

// x = x / sqrt(mean(x^2) + eps) * weight, or a layer norm; x is in shared memory.
MR_DEVICE void norm_shared(float *x, uint32_t n, const float *weight, int norm, float eps, float *scratch) {
    float mean = norm == MR_K_NORM_LAYER ? sum_of(x, n, 0.0f, false, scratch) / (float)n : 0.0f;
    float scale = 1.0f / sqrtf(sum_of(x, n, mean, true, scratch) / (float)n + eps);
    sync_block();
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
        float v = mul(x[i] - mean, scale);
        x[i] = weight != nullptr ? mul(v, weight[i]) : v;
    }
    sync_block();
}

// One key or value of n values to place `at` of a piece, [dim][32] where `transposed` (keys), [32][dim] otherwise.
MR_DEVICE void store_kv(int type, uint8_t *piece, uint32_t n, uint32_t at, const float *x, bool transposed) {
    if (type == MR_K_KV_Q8_0) { // a warp takes 32 values, which share a scale
        uint16_t *scales = (uint16_t *)(piece + (size_t)n * 32);
        for (uint32_t g = threadIdx.x / 32; 32 * g < n; g += blockDim.x / 32) {
            uint32_t d = 32 * g + threadIdx.x % 32;
            float v = d < n ? x[d] : 0.0f, most = warp_max(fabsf(v));
            uint16_t bits = float_to_half(most / 127.0f);
            float scale = half_to_float(bits), inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
            float q = fminf(fmaxf(rintf(mul(v, inverse)), -127.0f), 127.0f);
            if (d < n) ((int8_t *)piece)[transposed ? (size_t)d * 32 + at : (size_t)at * n + d] = (int8_t)q;
            if (threadIdx.x % 32 == 0) scales[g * 32 + at] = bits;
        }
        return;
    }
    for (uint32_t d = threadIdx.x; d < n; d += blockDim.x) {
        size_t i = transposed ? (size_t)d * 32 + at : (size_t)at * n + d;
        if (type == MR_K_KV_F16)
            ((uint16_t *)piece)[i] = float_to_half(x[d]);
        else
            ((float *)piece)[i] = x[d];
    }
}

MR_KERNEL(mr_k_heads, mr_k_heads_args, 128, 1) {
    __shared__ float scratch[32];
    uint32_t head = blockIdx.x, t = blockIdx.y;
    bool keys = a.kv.data != nullptr;
    float *x = (float *)dynamic_shared(), *v = x + a.dim, *row = a.x + (size_t)t * a.ldx + (size_t)head * a.dim;
    for (uint32_t i = threadIdx.x; i < a.dim; i += blockDim.x) x[i] = row[i];
    sync_block();
    if (keys && a.latent == 0) {
        const float *from = a.v != nullptr ? a.v + (size_t)t * a.ldv + (size_t)head * a.kv.dv : x;
        for (uint32_t i = threadIdx.x; i < a.kv.dv; i += blockDim.x) v[i] = from[i];
        sync_block();
    }
    const float *weight = a.norm_weight != nullptr ? a.norm_weight + (size_t)head * a.weight_step : nullptr;
    uint32_t n_norm = a.latent > 0 ? a.latent : a.dim;
    if (a.norm != MR_K_NORM_NONE && !a.norm_late) norm_shared(x, n_norm, weight, a.norm, a.eps, scratch);
    if (keys && a.latent > 0) {
        for (uint32_t i = threadIdx.x; i < a.kv.dv; i += blockDim.x) v[i] = x[i];
        sync_block();
    }
    if (keys && a.v_norm) norm_shared(v, a.kv.dv, nullptr, MR_K_NORM_RMS, a.eps, scratch);
    if (a.cosines != nullptr) {
        const float *cosines = a.cosines + (size_t)t * a.n_pairs, *sines = a.sines + (size_t)t * a.n_pairs;
        for (uint32_t i = threadIdx.x; i < a.n_pairs; i += blockDim.x) {
            float *first = x + a.rot_from + (a.neox ? i : 2 * i), *second = first + (a.neox ? a.n_pairs : 1);
            float p = *first, q = *second;
            *first = fmaf(p, cosines[i], -mul(q, sines[i]));
            *second = fmaf(p, sines[i], mul(q, cosines[i]));
        }
        sync_block();
    }
    if (a.norm != MR_K_NORM_NONE && a.norm_late) norm_shared(x, n_norm, weight, a.norm, a.eps, scratch);
    float factor = 1.0f;
    if (a.temperature != 0.0f) factor += a.temperature * logf(1.0f + (float)(a.positions[t] / a.n_ctx_orig));
    for (uint32_t i = threadIdx.x; i < a.dim; i += blockDim.x) row[i] = x[i] = x[i] * factor;
    if (!keys) return;
    sync_block();
    uint32_t slot = (uint32_t)a.slots[t];
    uint8_t *piece = (uint8_t *)a.kv.data + (size_t)(slot / 32) * a.kv.block_bytes + (size_t)head * a.kv.head_bytes;
    store_kv(a.kv.type, piece, a.kv.dk, slot % 32, x, true);
    store_kv(a.kv.type, piece + a.kv.value_offset, a.kv.dv, slot % 32, v, false);
}
