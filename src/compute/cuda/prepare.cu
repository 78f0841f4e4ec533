// Inputs of matrices: a norm or a gated activation, and the forms that matrices want (the CPU's acts_rows.h, whose bits they
// are). A warp takes 256 values at a time, a lane 8 of them.
#include "compute/cuda/values.cuh"

// The values of a row, k .. k + 7, behind the activation.
MR_DEVICE void row_values(const mr_k_prepare_args &a, const float *x, const float *up, uint32_t k, float v[8]) {
    load8(x, k, a.n_in, v);
    if (a.act < 0) return;
    float u[8];
    if (up != nullptr) load8(up, k, a.n_in, u);
    MR_UNROLL
    for (int i = 0; i < 8; i++) v[i] = up != nullptr ? gated(a.act, v[i], u[i]) : activate(a.act, v[i]);
}

// Sum over the row of (v - shift)^2, or of v.
MR_DEVICE float row_sum(const mr_k_prepare_args &a, const float *x, const float *up, float shift, bool squares,
                        float *scratch) {
    float sum = 0.0f, v[8];
    for (uint32_t k = 8 * threadIdx.x; k < a.n_in; k += 8 * blockDim.x) {
        row_values(a, x, up, k, v);
        MR_UNROLL
        for (uint32_t i = 0; i < 8; i++) {
            float d = k + i < a.n_in ? v[i] - shift : 0.0f;
            sum += squares ? d * d : d;
        }
    }
    return block_sum(sum, scratch);
}

// The factor from x to q of at most `levels` for the largest magnitude of a block, given as bits; sets d.
MR_DEVICE float q8_factor(uint32_t most, float levels, float &d) {
    float amax = bits_float(most);
    if (most >= 0x7F800000u) {
        d = bits_float(0x7FC00000u);
        return 0.0f;
    }
    if (amax < 1e-30f) {
        d = 0.0f;
        return 0.0f;
    }
    d = amax / levels;
    return levels / amax;
}

MR_DEVICE uint32_t most_of(uint32_t bits, int n_lanes) {
    for (int mask = 1; mask < n_lanes; mask *= 2) {
        uint32_t other = shuffle_xor(bits, mask);
        bits = other > bits ? other : bits;
    }
    return bits;
}

// The factor of 1 .. 8 of a group of 32 in a block of 256, from the largest magnitudes of both (acts_rows.h).
MR_DEVICE float group_factor(uint32_t most, uint32_t most_of_block) {
    float amax = bits_float(most_of_block), factor = 1.0f;
    for (int i = 1; i < 8; i++) factor += bits_float(most) > mul(amax, 0.125f * (float)i) ? 1.0f : 0.0f;
    return factor;
}

// A lane's 8 values of a row of int8 activations: 4 lanes share a scale. In blocks of 256, it is a multiple of the block's.
MR_DEVICE void put_q8(uint8_t *row, uint32_t n_in, uint32_t k, const float v[8], bool in_blocks) {
    uint32_t most = 0, q[2] = {0, 0};
    MR_UNROLL
    for (int i = 0; i < 8; i++) {
        uint32_t bits = float_bits(v[i]) & 0x7FFFFFFFu;
        most = bits > most ? bits : most;
    }
    most = most_of(most, 4);
    float d, factor;
    if (in_blocks) {
        uint32_t most_of_block = most_of(most, 32);
        float whole = q8_factor(most_of_block, 1016.0f, d), times = group_factor(most, most_of_block);
        factor = whole / times;
        d = mul(d, times);
    } else {
        factor = q8_factor(most, 127.0f, d);
    }
    int sum = 0;
    MR_UNROLL
    for (int i = 0; i < 8; i++) {
        // Adding 1.5 * 2^23 rounds to an integer in the low bits.
        uint32_t byte = factor == 0.0f ? 0 : float_bits(add(mul(v[i], factor), 12582912.0f)) & 255;
        q[i / 4] |= byte << 8 * (i % 4);
        sum += (int8_t)byte;
    }
    int first = sum + shuffle_xor(sum, 1), second = shuffle_xor(first, 2);
    if (k >= n_in) return;
    uint32_t group = k / 32, j = k % 32 / 8;
    uint32_t *out = (uint32_t *)(row + 32 * group);
    MR_UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t w = 2 * j + i;
        out[w < 4 ? 2 * w : 2 * (w - 4) + 1] = q[i];
    }
    if (j == 0) {
        uint2 meta = make_uint2(float_bits(d), ((uint32_t)first & 0xFFFF) | (uint32_t)second << 16);
        *(uint2 *)(row + n_in + 8 * group) = meta;
    }
}

// As the CPU rounds: subnormal results become zero.
MR_DEVICE uint32_t bf16_of(float v) {
    uint32_t bits = float_bits(v), magnitude = bits & 0x7FFFFFFFu;
    uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    if (magnitude > 0x7F800000u) rounded = bits >> 16 | 0x40u;
    return (rounded & 0x7F80u) == 0 ? rounded & 0x8000u : rounded;
}

MR_KERNEL(mr_k_prepare, mr_k_prepare_args, 512, 1) {
    __shared__ float scratch[32];
    uint32_t i = blockIdx.x, lane = threadIdx.x % 32;
    const float *x = a.x + (size_t)(a.rows != nullptr ? (uint32_t)a.rows[i] : i) * a.ldx;
    const float *up = a.up != nullptr ? a.up + (size_t)i * a.ld_up : nullptr;
    float mean = 0.0f, scale = 1.0f;
    if (a.norm == MR_K_NORM_LAYER) mean = row_sum(a, x, up, 0.0f, false, scratch) / (float)a.n_in;
    if (a.norm != MR_K_NORM_NONE)
        scale = 1.0f / sqrtf(row_sum(a, x, up, mean, true, scratch) / (float)a.n_in + a.eps);
    uint32_t n_warps = blockDim.x / 32, padded = (a.n_in + 63) / 64 * 64;
    for (uint32_t b = blockIdx.y * n_warps + threadIdx.x / 32; 256 * b < a.n_in; b += gridDim.y * n_warps) {
        uint32_t k = 256 * b + 8 * lane;
        float v[8], w[8];
        row_values(a, x, up, k, v);
        if (a.norm != MR_K_NORM_NONE) {
            MR_UNROLL
            for (int j = 0; j < 8; j++) v[j] = k + j < a.n_in ? mul(v[j] - mean, scale) : 0.0f;
            if (a.weight != nullptr) {
                load8(a.weight, k, a.n_in, w);
                MR_UNROLL
                for (int j = 0; j < 8; j++) v[j] = mul(v[j], w[j]);
            }
            if (a.bias != nullptr) {
                load8(a.bias, k, a.n_in, w);
                MR_UNROLL
                for (int j = 0; j < 8; j++) v[j] += w[j];
            }
        }
        if (a.out != nullptr) store8(a.out + (size_t)i * a.ld_out, k, a.n_in, v);
        if (a.acts[MR_K_ACTS_F32] != nullptr) store8((float *)a.acts[MR_K_ACTS_F32] + (size_t)i * padded, k, padded, v);
        if (a.acts[MR_K_ACTS_BF16] != nullptr && k < padded) {
            uint4 packed = make_uint4(bf16_of(v[0]) | bf16_of(v[1]) << 16, bf16_of(v[2]) | bf16_of(v[3]) << 16,
                                      bf16_of(v[4]) | bf16_of(v[5]) << 16, bf16_of(v[6]) | bf16_of(v[7]) << 16);
            *(uint4 *)((uint16_t *)a.acts[MR_K_ACTS_BF16] + (size_t)i * padded + k) = packed;
        }
        size_t q8_stride = (a.n_in + a.n_in / 32 * sizeof(mr_k_q8_meta) + 15) / 16 * 16;
        if (a.acts[MR_K_ACTS_Q8_32] != nullptr)
            put_q8((uint8_t *)a.acts[MR_K_ACTS_Q8_32] + i * q8_stride, a.n_in, k, v, false);
        if (a.acts[MR_K_ACTS_Q8_256] != nullptr)
            put_q8((uint8_t *)a.acts[MR_K_ACTS_Q8_256] + i * q8_stride, a.n_in, k, v, true);
    }
}
