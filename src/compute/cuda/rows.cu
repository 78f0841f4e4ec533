// Rows of packed matrices as floats: embeddings. Each is what the file's type decodes to, bit for bit.
#include "compute/cuda/gemv.cuh"

// A lane has a group of 32 values.
template <int layout> MR_DEVICE void decode_quantized(const mr_k_rows_args &a) {
    using f = format<layout>;
    uint32_t id = (uint32_t)a.ids[blockIdx.y], group = blockIdx.x * 32 + threadIdx.x, row = id % 8, w[8];
    if (32 * group >= a.n_in) return;
    tile_planes planes = planes_of<layout>((const uint8_t *)a.w + id / 8 * (size_t)tile_bytes<layout>(a.n_in), a.n_in);
    group_scale s = load_scale<layout>(planes, group, row);
    unpack_group<layout>(load_group<layout>(planes, group, row), w);
    float *out = a.out + (size_t)blockIdx.y * a.ld_out + 32 * group;
    MR_UNROLL
    for (int i = 0; i < 32; i++) {
        float q = (float)(int8_t)(w[i / 4] >> 8 * (i % 4) & 255);
        float d = has_small<layout> ? mul(s.d, (float)s.s[i / 16]) : s.d, v = mul(d, q);
        if (f::has_min) v = f::unit == 32 ? add(v, s.dmin) : add(v, -mul(s.dmin, (float)s.m[i / 16]));
        out[i] = a.scale == 1.0f ? v : mul(v, a.scale);
    }
}

template <int layout> MR_DEVICE void decode_float(const mr_k_rows_args &a) {
    constexpr int N = values_of<layout>;
    uint32_t id = (uint32_t)a.ids[blockIdx.y], n_chunks = (a.n_in + 4 * N - 1) / (4 * N);
    const uint8_t *w = (const uint8_t *)a.w + id / 8 * (size_t)n_chunks * (layout == MR_CUDA_F8 ? 512 + 32 : 512);
    float *out = a.out + (size_t)blockIdx.y * a.ld_out;
    for (uint32_t k = blockIdx.x * 1024 + threadIdx.x * N; k < a.n_in && k < (blockIdx.x + 1) * 1024; k += 32 * N) {
        float v[N];
        decode_values<layout>(load<uint4>(w + k / (4 * N) * 512 + k / N % 4 * 128 + id % 8 * 16), v);
        MR_UNROLL
        for (uint32_t i = 0; i < (uint32_t)N; i++) {
            if (layout == MR_CUDA_F8)
                v[i] = mul(load<float>(w + (size_t)n_chunks * 512 + k / 64 * 32 + id % 8 * 4), mul(v[i], 256.0f));
            if (k + i < a.n_in) out[k + i] = a.scale == 1.0f ? v[i] : mul(v[i], a.scale);
        }
    }
}

#define MR_ROWS(kind, layout, name)                                                                                    \
    MR_KERNEL(mr_rows_##name, mr_k_rows_args, 32, 1) {                                                                 \
        decode_##kind<layout>(a);                                                                                      \
    }
MR_ROWS(float, MR_CUDA_F32, f32)
MR_ROWS(float, MR_CUDA_F16, f16)
MR_ROWS(float, MR_CUDA_BF16, bf16)
MR_ROWS(float, MR_CUDA_F8, f8)
MR_ROWS(quantized, MR_CUDA_Q4_0, q4_0)
MR_ROWS(quantized, MR_CUDA_Q4_1, q4_1)
MR_ROWS(quantized, MR_CUDA_Q5_0, q5_0)
MR_ROWS(quantized, MR_CUDA_Q5_1, q5_1)
MR_ROWS(quantized, MR_CUDA_Q8_0, q8_0)
MR_ROWS(quantized, MR_CUDA_Q8_M, q8_m)
MR_ROWS(quantized, MR_CUDA_IQ4_NL, iq4_nl)
MR_ROWS(quantized, MR_CUDA_MXFP4, mxfp4)
MR_ROWS(quantized, MR_CUDA_Q4_K, q4_k)
MR_ROWS(quantized, MR_CUDA_Q5_K, q5_k)
MR_ROWS(quantized, MR_CUDA_Q6_K, q6_k)
MR_ROWS(quantized, MR_CUDA_Q3_K, q3_k)
MR_ROWS(quantized, MR_CUDA_Q2_K, q2_k)
MR_ROWS(quantized, MR_CUDA_IQ4_XS, iq4_xs)
MR_ROWS(quantized, MR_CUDA_IQ1, iq1)
MR_ROWS(quantized, MR_CUDA_IQ2, iq2)
MR_ROWS(quantized, MR_CUDA_IQ3_XXS, iq3_xxs)
MR_ROWS(quantized, MR_CUDA_IQ3_S, iq3_s)
MR_ROWS(quantized, MR_CUDA_TERNARY, ternary)
