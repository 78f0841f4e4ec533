// Layers with a recurrent state (forward_recurrent.c): a thread has a channel of the convolution, or a value dimension of a
// head, and goes through the tokens of a run in order, so that chunks do not change results. Values are asked for many at
// once: stores between loads, which might be of the same place, would make each wait for the memory.
#include "compute/cuda/values.cuh"

enum { MAX_WIDTH = 16, TOKENS_AHEAD = 8, STATES_AHEAD = 16 };

MR_KERNEL(mr_k_conv, mr_k_conv_args, 64, 1) {
    uint32_t c = blockIdx.x * blockDim.x + threadIdx.x, run = blockIdx.y;
    if (c >= a.n_conv) return;
    uint32_t n_tokens = a.n_tokens[run], n_mid = a.n_mid != nullptr ? a.n_mid[run] : 0, n_past = a.width - 1;
    float *mix = a.mix + (size_t)a.first[run] * a.ld_mix;
    const float *in = a.state_in[run];
    float *state_out = a.state_out[run] + a.state_at, *state_mid = n_mid > 0 ? a.state_mid[run] + a.state_at : nullptr;
    float past[MAX_WIDTH], weight[MAX_WIDTH], ahead[TOKENS_AHEAD], gates[TOKENS_AHEAD];
    MR_UNROLL
    for (uint32_t j = 0; j < MAX_WIDTH; j++) {
        past[j] = j < n_past && in != nullptr ? in[a.state_at + (size_t)j * a.n_conv + c] : 0.0f;
        weight[j] = j < n_past ? a.weight[(size_t)j * a.n_conv + c] : 0.0f;
    }
    float bias = a.bias != nullptr ? a.bias[c] : 0.0f, last = a.weight[(size_t)n_past * a.n_conv + c];
    for (uint32_t t = 0; t < n_tokens; t++) {
        if (t % TOKENS_AHEAD == 0) {
            MR_UNROLL
            for (uint32_t j = 0; j < TOKENS_AHEAD; j++) {
                const float *row = mix + (size_t)(t + j < n_tokens ? t + j : t) * a.ld_mix;
                ahead[j] = row[a.x_from + c];
                gates[j] = a.gated ? row[c] : 1.0f;
            }
        }
        float *row = mix + (size_t)t * a.ld_mix, x = 0.0f, sum = bias;
        MR_UNROLL
        for (uint32_t j = 0; j < TOKENS_AHEAD; j++) {
            if (t % TOKENS_AHEAD == j) x = ahead[j] * gates[j];
        }
        if (a.gated) row[a.x_from + c] = x;
        MR_UNROLL
        for (uint32_t j = 0; j < MAX_WIDTH; j++) {
            if (j < n_past) sum = fmaf(weight[j], past[j], sum);
        }
        sum = fmaf(last, x, sum);
        MR_UNROLL
        for (uint32_t j = 0; j + 1 < MAX_WIDTH; j++) {
            if (j + 1 < n_past) past[j] = past[j + 1];
            if (j + 1 == n_past) past[j] = x;
        }
        a.out[(size_t)(a.first[run] + t) * a.n_conv + c] = a.gated ? sum * row[a.n_conv + c] : activate(GLU_SILU, sum);
        if (t + 1 != n_mid && t + 1 != n_tokens) continue;
        float *to = t + 1 == n_tokens ? state_out : state_mid;
        MR_UNROLL
        for (uint32_t j = 0; j < MAX_WIDTH; j++) {
            if (j < n_past) to[(size_t)j * a.n_conv + c] = past[j];
        }
    }
}

MR_DEVICE float softplus(float x) {
    return x > 20.0f ? x : log1pf(expf(x));
}

// Values first .. of column i of a state [dk, dv]; none is zeros.
MR_DEVICE void load_states(const float *from, uint32_t first, uint32_t dk, uint32_t dv, uint32_t i,
                           float states[STATES_AHEAD]) {
    MR_UNROLL
    for (uint32_t j = 0; j < STATES_AHEAD; j++)
        states[j] = from != nullptr && first + j < dk ? from[(size_t)(first + j) * dv + i] : 0.0f;
}

// Column i of a state [dk, dv] becomes decay * column + change * k; its product with q comes back. k, q: shared [dk].
MR_DEVICE float change_state(const float *from, float *to, float decay, float change, const float *k, const float *q,
                             uint32_t dk, uint32_t dv, uint32_t i) {
    float y = 0.0f, old[STATES_AHEAD];
    for (uint32_t first = 0; first < dk; first += STATES_AHEAD) {
        load_states(from, first, dk, dv, i, old);
        MR_UNROLL
        for (uint32_t j = 0; j < STATES_AHEAD; j++) {
            uint32_t d = first + j;
            if (d >= dk) break;
            float s = fmaf(change, k[d], decay * old[j]);
            to[(size_t)d * dv + i] = s;
            y = fmaf(s, q[d], y);
        }
    }
    return y;
}

// One token of a head of the gated delta net: the state learns what it did not know of v.
MR_DEVICE float delta(const float *from, float *to, float decay, float beta, float v, const float *q, const float *k,
                      uint32_t dk, uint32_t dv, uint32_t i) {
    float known = 0.0f, old[STATES_AHEAD];
    for (uint32_t first = 0; from != nullptr && first < dk; first += STATES_AHEAD) {
        load_states(from, first, dk, dv, i, old);
        MR_UNROLL
        for (uint32_t j = 0; j < STATES_AHEAD; j++) {
            if (first + j < dk) known = fmaf(decay * old[j], k[first + j], known);
        }
    }
    return change_state(from, to, decay, (v - known) * beta, k, q, dk, dv, i);
}

// out = factor * x / |x|, in shared memory.
MR_DEVICE void to_length(const float *x, uint32_t n, float factor, float *out, float *scratch) {
    float sum = 0.0f;
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) sum += x[i] * x[i];
    float scale = 1.0f / sqrtf(block_sum(sum, scratch) / (float)n + 1e-6f / (float)n) * (factor / sqrtf((float)n));
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) out[i] = x[i] * scale;
}

// A block for each head of each run. Shared: two vectors of dk, and room for sums.
MR_KERNEL(mr_k_scan, mr_k_scan_args, 1024, 1) {
    float *first = (float *)dynamic_shared(), *second = first + a.dk, *scratch = second + a.dk;
    uint32_t head = blockIdx.x, run = blockIdx.y, i = threadIdx.x, n_each = a.n_head / a.n_group;
    uint32_t group = a.delta && a.heads_tiled ? head % a.n_group : head / n_each;
    uint32_t n_tokens = a.n_tokens[run], n_mid = a.n_mid != nullptr ? a.n_mid[run] : 0;
    size_t at = a.state_at + (size_t)head * a.dk * a.dv;
    const float *from = a.state_in[run] != nullptr ? a.state_in[run] + at : nullptr;
    uint32_t beta_at = a.betas_by_group ? head / n_each * 2 * n_each + head % n_each : head;
    uint32_t alpha_at = beta_at + (a.betas_by_group ? n_each : a.n_head);
    for (uint32_t t = 0; t < n_tokens; t++) {
        size_t token = a.first[run] + t;
        const float *conv = a.conv + token * a.n_conv, *mix = a.mix + token * a.ld_mix;
        float *to = (t < n_mid ? a.state_mid[run] : a.state_out[run]) + at, y = 0.0f;
        if (a.delta) {
            const float *q = conv + (size_t)group * a.dk, *k = q + (size_t)a.n_group * a.dk;
            to_length(q, a.dk, 1.0f / sqrtf((float)a.dk), first, scratch);
            to_length(k, a.dk, 1.0f, second, scratch);
            sync_block();
            float decay = expf(a.a[head] * softplus(mix[a.dt_from + alpha_at] + a.dt_bias[head]));
            float v = i < a.dv ? conv[2 * (size_t)a.n_group * a.dk + (size_t)head * a.dv + i] : 0.0f;
            if (i < a.dv) y = delta(from, to, decay, sigmoid(mix[a.dt_from + beta_at]), v, first, second, a.dk, a.dv, i);
            float scale = 1.0f / sqrtf(block_sum(y * y, scratch) / (float)a.dv + a.eps);
            if (i < a.dv) y = gated(GLU_SILU, mix[a.z_from + (size_t)head * a.dv + i], y * scale * a.norm[i]);
        } else {
            const float *b = conv + (size_t)a.n_head * a.dv + (size_t)group * a.dk, *c = b + (size_t)a.n_group * a.dk;
            for (uint32_t s = i; s < a.dk; s += blockDim.x) first[s] = b[s], second[s] = c[s];
            sync_block();
            float dt = softplus(mix[a.dt_from + head] + a.dt_bias[head]);
            float x = i < a.dv ? conv[(size_t)head * a.dv + i] : 0.0f;
            if (i < a.dv) y = change_state(from, to, expf(dt * a.a[head]), dt * x, first, second, a.dk, a.dv, i);
            y = fmaf(x, a.d[head], y);
        }
        if (i < a.dv) a.out[token * a.n_head * a.dv + (size_t)head * a.dv + i] = y;
        from = to;
        sync_block();
    }
}
