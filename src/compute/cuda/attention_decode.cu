// Attention of runs of one token: a block takes a part of a sequence's blocks for up to 4 query heads that share a kv head;
// its warps take blocks of 32 positions in turn. Then the parts are joined.
#include "compute/cuda/attention.cuh"

static constexpr uint32_t HEADS = MR_K_DECODE_HEADS;

// Scores of a block's 32 positions: a lane sums 8 positions over every eighth dimension. score [HEADS][32].
template <int type>
MR_DEVICE void score_block(const uint8_t *keys, uint32_t dk, const float *q, float *score) {
    uint32_t lane = threadIdx.x % 32, at = lane % 4 * 8;
    float sum[HEADS][8], k[8];
    MR_UNROLL
    for (uint32_t h = 0; h < HEADS; h++) {
        MR_UNROLL
        for (int i = 0; i < 8; i++) sum[h][i] = 0.0f;
    }
    for (uint32_t d = lane / 4; d < dk; d += 8) {
        keys8<type>(keys, dk, d, at, k);
        MR_UNROLL
        for (uint32_t h = 0; h < HEADS; h++) {
            float x = q[h * dk + d];
            MR_UNROLL
            for (int i = 0; i < 8; i++) sum[h][i] = fmaf(x, k[i], sum[h][i]);
        }
    }
    sync_warp();
    MR_UNROLL
    for (uint32_t h = 0; h < HEADS; h++) {
        MR_UNROLL
        for (int i = 0; i < 8; i++) {
            for (int mask = 4; mask < 32; mask *= 2) sum[h][i] += shuffle_xor(sum[h][i], mask);
            if (lane < 4) score[h * 32 + at + i] = sum[h][i];
        }
    }
    sync_warp();
}

// out[h] = out[h] * factor[h] + sum over positions lo .. hi - 1 of p[h][j] v_j. Lanes share the dimensions, 8 each, and where
// there are fewer, the positions.
template <int type>
MR_DEVICE void gather_values(const uint8_t *values, uint32_t dv, uint32_t lo, uint32_t hi, const float *p,
                             const float factor[HEADS], float *out) {
    uint32_t lane = threadIdx.x % 32, n_chunks = (dv + 7) / 8, across = 1;
    while (across < 32 && across < n_chunks) across *= 2;
    for (uint32_t first = 0; first < n_chunks; first += across) {
        uint32_t chunk = first + lane % across, d = 8 * chunk;
        float sum[HEADS][8], v[8];
        MR_UNROLL
        for (uint32_t h = 0; h < HEADS; h++) {
            MR_UNROLL
            for (int i = 0; i < 8; i++) sum[h][i] = 0.0f;
        }
        if (chunk < n_chunks) {
            for (uint32_t j = lo + lane / across; j < hi; j += 32 / across) {
                values8<type>(values, dv, j, d, v);
                MR_UNROLL
                for (uint32_t h = 0; h < HEADS; h++) {
                    MR_UNROLL
                    for (int i = 0; i < 8; i++) sum[h][i] = fmaf(p[h * 32 + j], v[i], sum[h][i]);
                }
            }
        }
        sync_warp();
        for (uint32_t mask = across; mask < 32; mask *= 2) {
            MR_UNROLL
            for (uint32_t h = 0; h < HEADS; h++) {
                MR_UNROLL
                for (int i = 0; i < 8; i++) sum[h][i] += shuffle_xor(sum[h][i], (int)mask);
            }
        }
        if (lane >= across || chunk >= n_chunks) continue;
        MR_UNROLL
        for (uint32_t h = 0; h < HEADS; h++) { // 16 bytes at a time: lanes 8 floats apart would share banks otherwise
            load8(out + h * dv, d, dv, v);
            MR_UNROLL
            for (uint32_t i = 0; i < 8; i++) v[i] = fmaf(v[i], factor[h], sum[h][i]);
            store8(out + h * dv, d, dv, v);
        }
    }
    sync_warp();
}

// Shared: queries [HEADS][dk]; for each warp scores [HEADS][32], outputs [HEADS][dv], maximum and sum [HEADS][2].
template <int type> MR_DEVICE void decode(const mr_k_attention_args &a) {
    uint32_t run = blockIdx.z, group = a.n_head / a.kv.n_head_kv, n_parts = (group + HEADS - 1) / HEADS;
    if (a.n_tokens[run] != 1) return;
    uint32_t head_kv = blockIdx.y / n_parts, head = head_kv * group + blockIdx.y % n_parts * HEADS;
    uint32_t n_heads = (head_kv + 1) * group - head < HEADS ? (head_kv + 1) * group - head : HEADS;
    uint32_t dk = a.kv.dk, dv = a.kv.dv, warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_warps = blockDim.x / 32;
    float *q = (float *)dynamic_shared(), *scores = q + HEADS * dk, *outs = scores + n_warps * HEADS * 32;
    float *ends = outs + n_warps * HEADS * dv, *score = scores + warp * HEADS * 32, *out = outs + warp * HEADS * dv;
    const float *from = a.q + ((size_t)a.first[run] * a.n_head + head) * dk;
    for (uint32_t i = threadIdx.x; i < HEADS * dk; i += blockDim.x) q[i] = i < n_heads * dk ? from[i] * a.scale : 0.0f;
    for (uint32_t i = lane; i < HEADS * dv; i += 32) out[i] = 0.0f;
    sync_block();

    seen s = positions_of(a, run, a.pos0[run]);
    uint32_t b = blockIdx.x * a.split_blocks, last = (s.end - 1) / 32, end = b + a.split_blocks;
    if (b < s.begin / 32) b = s.begin / 32;
    if (end > last + 1) end = last + 1;
    float most[HEADS], sum[HEADS], factor[HEADS];
    MR_UNROLL
    for (uint32_t h = 0; h < HEADS; h++) most[h] = -INFINITY, sum[h] = 0.0f;
    for (b += warp; b < end; b += n_warps) {
        const uint8_t *keys = piece_of(a, run, b, head_kv), *values = keys + a.kv.value_offset;
        score_block<type>(keys, dk, q, score);
        bool sees = 32 * b + lane >= s.begin && 32 * b + lane < s.end;
        MR_UNROLL
        for (uint32_t h = 0; h < HEADS; h++) {
            float x = score[h * 32 + lane];
            if (a.softcap > 0.0f) x = softcap(x, a.softcap);
            if (!sees) x = -INFINITY;
            float now = fmaxf(most[h], warp_max(x)), p = weight_of(x, now);
            factor[h] = weight_of(most[h], now);
            sum[h] = fmaf(sum[h], factor[h], p);
            most[h] = now;
            score[h * 32 + lane] = p;
        }
        sync_warp();
        uint32_t lo = s.begin > 32 * b ? s.begin - 32 * b : 0, hi = s.end - 32 * b < 32 ? s.end - 32 * b : 32;
        gather_values<type>(values, dv, lo, hi, score, factor, out);
    }
    MR_UNROLL
    for (uint32_t h = 0; h < HEADS; h++) {
        float all = warp_sum(sum[h]);
        if (lane == 0) ends[(warp * HEADS + h) * 2] = most[h], ends[(warp * HEADS + h) * 2 + 1] = all;
    }
    sync_block();

    for (uint32_t h = 0; h < n_heads; h++) {
        float of_all = -INFINITY, total = 0.0f;
        for (uint32_t w = 0; w < n_warps; w++) of_all = fmaxf(of_all, ends[(w * HEADS + h) * 2]);
        float sink = a.n_splits == 1 ? sink_of(a, head + h) : -INFINITY, base = fmaxf(of_all, sink);
        for (uint32_t w = 0; w < n_warps; w++)
            total = fmaf(ends[(w * HEADS + h) * 2 + 1], weight_of(ends[(w * HEADS + h) * 2], base), total);
        total += weight_of(sink, base);
        float *to = a.n_splits == 1
                        ? a.out + ((size_t)a.first[run] * a.n_head + head + h) * dv
                        : a.partial + (((size_t)run * a.n_head + head + h) * a.n_splits + blockIdx.x) * (dv + 2) + 2;
        float divide = a.n_splits == 1 ? 1.0f / total : 1.0f;
        for (uint32_t d = threadIdx.x; d < dv; d += blockDim.x) {
            float v = 0.0f;
            for (uint32_t w = 0; w < n_warps; w++)
                v = fmaf(outs[(w * HEADS + h) * dv + d], weight_of(ends[(w * HEADS + h) * 2], base), v);
            to[d] = v * divide;
        }
        if (a.n_splits > 1 && threadIdx.x == 0) to[-2] = base, to[-1] = total;
    }
}

MR_KERNEL(mr_attn_decode_f16, mr_k_attention_args, 128, 4) {
    decode<MR_K_KV_F16>(a);
}
MR_KERNEL(mr_attn_decode_q8, mr_k_attention_args, 128, 4) {
    decode<MR_K_KV_Q8_0>(a);
}
MR_KERNEL(mr_attn_decode_f32, mr_k_attention_args, 128, 4) {
    decode<MR_K_KV_F32>(a);
}

MR_KERNEL(mr_attn_join, mr_k_attention_args, 64, 1) {
    uint32_t head = blockIdx.x, run = blockIdx.y, dv = a.kv.dv;
    if (a.n_tokens[run] != 1) return;
    const float *parts = a.partial + ((size_t)run * a.n_head + head) * a.n_splits * (dv + 2);
    float sink = sink_of(a, head), most = sink, total = 0.0f;
    for (uint32_t s = 0; s < a.n_splits; s++) most = fmaxf(most, parts[s * (dv + 2)]);
    for (uint32_t s = 0; s < a.n_splits; s++)
        total = fmaf(parts[s * (dv + 2) + 1], weight_of(parts[s * (dv + 2)], most), total);
    float inverse = 1.0f / (total + weight_of(sink, most));
    for (uint32_t d = threadIdx.x; d < dv; d += blockDim.x) {
        float v = 0.0f;
        for (uint32_t s = 0; s < a.n_splits; s++)
            v = fmaf(parts[s * (dv + 2) + 2 + d], weight_of(parts[s * (dv + 2)], most), v);
        a.out[((size_t)a.first[run] * a.n_head + head) * dv + d] = v * inverse;
    }
}
