// Attention of runs of several tokens without tensor cores, for any size and type of the cache: a block takes 16 queries
// (token, head of a group) of a kv head and goes through the positions in blocks of 32.
#include "compute/cuda/attention.cuh"

static constexpr uint32_t QUERIES = 16;

// Shared: queries [QUERIES][dk], outputs [QUERIES][dv], weights [QUERIES][32], and for each query maximum, sum, factor.
template <int type> MR_DEVICE void prefill(const mr_k_attention_args &a) {
    uint32_t run = blockIdx.z, head_kv = blockIdx.y, group = a.n_head / a.kv.n_head_kv, n_tokens = a.n_tokens[run];
    uint32_t n_queries = n_tokens * group, base = blockIdx.x * QUERIES;
    if ((n_tokens == 1 && !a.whole) || base >= n_queries) return;
    uint32_t n = n_queries - base < QUERIES ? n_queries - base : QUERIES;
    uint32_t dk = a.kv.dk, dv = a.kv.dv, warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_warps = blockDim.x / 32;
    float *q = (float *)dynamic_shared(), *out = q + QUERIES * dk, *p = out + QUERIES * dv, *state = p + QUERIES * 32;
    for (uint32_t i = threadIdx.x; i < QUERIES * dk; i += blockDim.x) {
        uint32_t query = base + (i / dk < n ? i / dk : 0), head = head_kv * group + query % group;
        q[i] = a.q[((size_t)(a.first[run] + query / group) * a.n_head + head) * dk + i % dk] * a.scale;
    }
    for (uint32_t i = threadIdx.x; i < QUERIES * dv; i += blockDim.x) out[i] = 0.0f;
    for (uint32_t i = threadIdx.x; i < QUERIES; i += blockDim.x) {
        float sink = sink_of(a, head_kv * group + (base + (i < n ? i : 0)) % group);
        state[4 * i] = sink, state[4 * i + 1] = sink == -INFINITY ? 0.0f : 1.0f;
    }
    sync_block();
    uint32_t pos0 = a.pos0[run], first_block = positions_of(a, run, pos0 + base / group).begin / 32;
    uint32_t end = positions_of(a, run, pos0 + (base + n - 1) / group).end;
    for (uint32_t b = first_block; 32 * b < end; b++) {
        const uint8_t *keys = piece_of(a, run, b, head_kv), *values = keys + a.kv.value_offset;
        for (uint32_t i = warp; i < QUERIES; i += n_warps) { // a warp has a query, a lane a position
            seen s = positions_of(a, run, pos0 + (base + (i < n ? i : 0)) / group);
            uint32_t pos = 32 * b + lane;
            float x = 0.0f;
            for (uint32_t d = 0; d < dk; d++) x = fmaf(q[i * dk + d], key_at<type>(keys, dk, d, lane), x);
            if (a.softcap > 0.0f) x = softcap(x, a.softcap);
            if (pos < s.begin || pos >= s.end) x = -INFINITY;
            float before = state[4 * i], now = fmaxf(before, warp_max(x)), w = weight_of(x, now), all = warp_sum(w);
            p[i * 32 + lane] = w;
            sync_warp();
            if (lane == 0) {
                float factor = weight_of(before, now);
                state[4 * i] = now, state[4 * i + 1] = fmaf(state[4 * i + 1], factor, all), state[4 * i + 2] = factor;
            }
        }
        sync_block();
        uint32_t hi = end - 32 * b < 32 ? end - 32 * b : 32;
        for (uint32_t d = threadIdx.x; d < dv; d += blockDim.x) {
            float sum[QUERIES];
            MR_UNROLL
            for (uint32_t i = 0; i < QUERIES; i++) sum[i] = out[i * dv + d] * state[4 * i + 2];
            for (uint32_t j = 0; j < hi; j++) {
                float v = value_at<type>(values, dv, j, d);
                MR_UNROLL
                for (uint32_t i = 0; i < QUERIES; i++) sum[i] = fmaf(p[i * 32 + j], v, sum[i]);
            }
            MR_UNROLL
            for (uint32_t i = 0; i < QUERIES; i++) out[i * dv + d] = sum[i];
        }
        sync_block();
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t query = base + i, head = head_kv * group + query % group;
        float inverse = 1.0f / state[4 * i + 1];
        float *to = a.out + ((size_t)(a.first[run] + query / group) * a.n_head + head) * dv;
        for (uint32_t d = threadIdx.x; d < dv; d += blockDim.x) to[d] = out[i * dv + d] * inverse;
    }
}

MR_KERNEL(mr_attn_prefill_f16, mr_k_attention_args, 128, 1) {
    prefill<MR_K_KV_F16>(a);
}
MR_KERNEL(mr_attn_prefill_q8, mr_k_attention_args, 128, 1) {
    prefill<MR_K_KV_Q8_0>(a);
}
MR_KERNEL(mr_attn_prefill_f32, mr_k_attention_args, 128, 1) {
    prefill<MR_K_KV_F32>(a);
}
