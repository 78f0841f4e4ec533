// Attention of runs of several tokens on tensor cores, for a cache of halves (Dao, arXiv:2307.08691): a block takes 64 queries
// (token, head of a group) of a kv head, a warp 16 of them.
//
// Queries and weights of the softmax are floats; each is taken as the sum of two halves, so that products keep 22 bits and
// differ from the CPU's as rounding of floats does. Keys [dk][32] and values [32][dv] of a block of positions lie in shared
// memory as they do in the cache, with pieces of 16 bytes moved about so that the rows of a fragment fall on other banks.
#include "compute/cuda/attention.cuh"

static constexpr uint32_t QUERIES = 64;

// The upper halves of two floats in a word, and what is left of them as halves.
MR_DEVICE void split_halves(float x, float y, uint32_t &high, uint32_t &low) {
    uint32_t hx = float_to_half(x), hy = float_to_half(y);
    high = hx | hy << 16;
    low = float_to_half(x - half_to_float((uint16_t)hx)) |
          (uint32_t)float_to_half(y - half_to_float((uint16_t)hy)) << 16;
}

MR_DEVICE uint32_t key_place(uint32_t d, uint32_t piece) { // bytes; a row has 4 pieces
    return d * 64 + (piece ^ (d / 2 & 3)) * 16;
}
MR_DEVICE uint32_t value_place(uint32_t at, uint32_t piece, uint32_t dv) {
    return at * dv * 2 + (dv % 64 == 0 ? piece ^ (at & 7) : piece) * 16;
}

// Asks for keys and values of block b. Values behind `end`, which nobody has written, become zero: their weights are.
MR_DEVICE void ask_for_block(const mr_k_attention_args &a, uint32_t run, uint32_t head_kv, uint32_t b, uint32_t end,
                             uint8_t *stage) {
    const uint8_t *keys = piece_of(a, run, b, head_kv), *values = keys + a.kv.value_offset;
    uint32_t dk = a.kv.dk, dv = a.kv.dv;
    for (uint32_t i = threadIdx.x; i < dk * 4; i += blockDim.x)
        copy_async16(stage + key_place(i / 4, i % 4), keys + 16 * i, true);
    for (uint32_t i = threadIdx.x; i < dv * 4; i += blockDim.x) {
        uint32_t at = i / (dv / 8), piece = i % (dv / 8);
        copy_async16(stage + dk * 64 + value_place(at, piece, dv), values + 16 * i, 32 * b + at < end);
    }
    copy_commit();
}

// Scores of a warp's 16 queries by 32 positions; q: halves of its queries, [16][dk + 8], and of what they left.
MR_DEVICE void score(const uint16_t *q_high, const uint16_t *q_low, const uint8_t *keys, uint32_t dk, float s[4][4]) {
    uint32_t lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, stride = dk + 8;
    MR_UNROLL
    for (int i = 0; i < 4; i++) s[i][0] = s[i][1] = s[i][2] = s[i][3] = 0.0f;
    for (uint32_t k = 0; k < dk; k += 16) {
        uint32_t high[4], low[4];
        MR_UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t at = (g + i % 2 * 8) * stride + k + i / 2 * 8 + 2 * t;
            high[i] = *(const uint32_t *)(q_high + at), low[i] = *(const uint32_t *)(q_low + at);
        }
        MR_UNROLL
        for (uint32_t i = 0; i < 2; i++) { // 16 positions
            uint32_t b[4];
            load_transposed(b, keys + key_place(k + lane % 16, 2 * i + lane / 16));
            MR_UNROLL
            for (int j = 0; j < 2; j++) {
                mma_f16(s[2 * i + j], low[0], low[1], low[2], low[3], b[2 * j], b[2 * j + 1]);
                mma_f16(s[2 * i + j], high[0], high[1], high[2], high[3], b[2 * j], b[2 * j + 1]);
            }
        }
    }
}

// Scores become weights; factor is what earlier sums shrink by. Rows g and g + 8 of the warp's queries.
MR_DEVICE void soften(const mr_k_attention_args &a, const seen rows[2], uint32_t pos, float s[4][4], float most[2],
                      float sum[2], float factor[2]) {
    uint32_t t = threadIdx.x % 4;
    MR_UNROLL
    for (int r = 0; r < 2; r++) {
        float now = most[r];
        MR_UNROLL
        for (int i = 0; i < 8; i++) {
            float x = s[i / 2][2 * r + i % 2];
            uint32_t at = pos + i / 2 * 8 + 2 * t + i % 2;
            if (a.softcap > 0.0f) x = softcap(x, a.softcap);
            if (at < rows[r].begin || at >= rows[r].end) x = -INFINITY;
            s[i / 2][2 * r + i % 2] = x;
            now = fmaxf(now, x);
        }
        now = fmaxf(now, shuffle_xor(now, 1));
        now = fmaxf(now, shuffle_xor(now, 2));
        factor[r] = weight_of(most[r], now);
        most[r] = now;
        sum[r] *= factor[r];
        MR_UNROLL
        for (int i = 0; i < 8; i++) {
            float p = weight_of(s[i / 2][2 * r + i % 2], now);
            s[i / 2][2 * r + i % 2] = p;
            sum[r] += p;
        }
    }
}

// out = out * factor + p values. DV: room for dv / 8 fragments.
template <int DV>
MR_DEVICE void gather(const float p[4][4], const uint8_t *values, uint32_t dv, const float factor[2], float out[DV / 8][4]) {
    uint32_t lane = threadIdx.x % 32, high[2][4], low[2][4];
    MR_UNROLL
    for (int k = 0; k < 2; k++) { // 16 positions
        MR_UNROLL
        for (int i = 0; i < 4; i++) {
            const float *pair = &p[2 * k + i / 2][i % 2 * 2];
            split_halves(pair[0], pair[1], high[k][i], low[k][i]);
        }
    }
    MR_UNROLL
    for (uint32_t n = 0; n < DV / 8; n += 2) {
        if (8 * n >= dv) break;
        MR_UNROLL
        for (int i = 0; i < 4; i++) out[n][i] *= factor[i / 2], out[n + 1][i] *= factor[i / 2];
        MR_UNROLL
        for (uint32_t k = 0; k < 2; k++) {
            uint32_t b[4];
            load_transposed(b, values + value_place(16 * k + lane % 16, n + lane / 16, dv));
            MR_UNROLL
            for (uint32_t j = 0; j < 2; j++) {
                mma_f16(out[n + j], low[k][0], low[k][1], low[k][2], low[k][3], b[2 * j], b[2 * j + 1]);
                mma_f16(out[n + j], high[k][0], high[k][1], high[k][2], high[k][3], b[2 * j], b[2 * j + 1]);
            }
        }
    }
}

template <int DV> MR_DEVICE void prefill(const mr_k_attention_args &a) {
    uint32_t run = blockIdx.z, head_kv = blockIdx.y, group = a.n_head / a.kv.n_head_kv, n_tokens = a.n_tokens[run];
    uint32_t n_queries = n_tokens * group, base = blockIdx.x * QUERIES;
    if ((n_tokens == 1 && !a.whole) || base >= n_queries) return;
    uint32_t n = n_queries - base < QUERIES ? n_queries - base : QUERIES;
    uint32_t dk = a.kv.dk, dv = a.kv.dv, stride = dk + 8, warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    uint16_t *q_high = (uint16_t *)dynamic_shared(), *q_low = q_high + QUERIES * stride;
    uint8_t *stages = (uint8_t *)(q_low + QUERIES * stride);
    uint32_t stage_bytes = 64 * (dk + dv), n_stages = dk + dv <= 256 ? 2 : 1;
    for (uint32_t i = threadIdx.x; i < QUERIES * dk / 2; i += blockDim.x) {
        uint32_t row = 2 * i / dk, d = 2 * i % dk, query = base + (row < n ? row : 0);
        const float *q = a.q + ((size_t)(a.first[run] + query / group) * a.n_head + head_kv * group + query % group) * dk + d;
        uint32_t high, low;
        split_halves(q[0] * a.scale, q[1] * a.scale, high, low);
        *(uint32_t *)(q_high + row * stride + d) = high;
        *(uint32_t *)(q_low + row * stride + d) = low;
    }
    uint32_t pos0 = a.pos0[run], b = positions_of(a, run, pos0 + base / group).begin / 32;
    uint32_t end = positions_of(a, run, pos0 + (base + n - 1) / group).end, query[2];
    seen rows[2];
    MR_UNROLL
    for (int r = 0; r < 2; r++) {
        query[r] = base + 16 * warp + g + 8 * r;
        rows[r] = positions_of(a, run, pos0 + (query[r] < n_queries ? query[r] : base) / group);
    }
    float out[DV / 8][4], most[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f}, factor[2];
    MR_UNROLL
    for (int i = 0; i < DV / 8; i++) out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0.0f;
    ask_for_block(a, run, head_kv, b, end, stages);
    for (uint32_t i = 0; 32 * b < end; b++, i++) {
        const uint8_t *stage = stages + i % n_stages * stage_bytes;
        if (n_stages == 2 && 32 * (b + 1) < end) {
            ask_for_block(a, run, head_kv, b + 1, end, stages + (i + 1) % 2 * stage_bytes);
            copy_wait<1>();
        } else {
            copy_wait<0>();
        }
        sync_block();
        float s[4][4];
        score(q_high + 16 * warp * stride, q_low + 16 * warp * stride, stage, dk, s);
        soften(a, rows, 32 * b, s, most, sum, factor);
        gather<DV>(s, stage + dk * 64, dv, factor, out);
        sync_block();
        if (n_stages == 1 && 32 * (b + 1) < end) ask_for_block(a, run, head_kv, b + 1, end, stages);
    }
    MR_UNROLL
    for (int r = 0; r < 2; r++) {
        sum[r] += shuffle_xor(sum[r], 1);
        sum[r] += shuffle_xor(sum[r], 2);
        uint32_t head = head_kv * group + query[r] % group;
        float sink = sink_of(a, head), now = fmaxf(most[r], sink), shrink = weight_of(most[r], now);
        float inverse = shrink / fmaf(sum[r], shrink, weight_of(sink, now));
        if (query[r] >= n_queries) continue;
        float *to = a.out + ((size_t)(a.first[run] + query[r] / group) * a.n_head + head) * dv + 2 * t;
        MR_UNROLL
        for (int i = 0; i < DV / 8; i++) {
            if (8 * i >= (int)dv) break;
            to[8 * i] = out[i][2 * r] * inverse, to[8 * i + 1] = out[i][2 * r + 1] * inverse;
        }
    }
}

MR_KERNEL(mr_attn_mma_64, mr_k_attention_args, 128, 2) {
    prefill<64>(a);
}
MR_KERNEL(mr_attn_mma_128, mr_k_attention_args, 128, 2) {
    prefill<128>(a);
}
MR_KERNEL(mr_attn_mma_256, mr_k_attention_args, 128, 1) {
    prefill<256>(a);
}
