// Routing of tokens to experts, lists of each expert's tokens, and the sum of what experts made (forward_experts.c).
#include "compute/cuda/values.cuh"

// Values of mr_gating.
enum { GATING_SOFTMAX = 1, GATING_SIGMOID = 2, GATING_SOFTMAX_CHOSEN = 3, GATING_SPARSEMIXER = 100 };

// The index of the largest of n scores, of equals the smallest; -1 where none is above -inf (taken ones are -inf; `low` lets
// a score of -inf itself be chosen). All lanes of the warp get it.
MR_DEVICE int best_of(const float *scores, const float *taken, uint32_t n) {
    float best = 0.0f;
    int at = -1;
    for (uint32_t i = threadIdx.x; i < n; i += 32) {
        if (taken[i] == 0.0f && (at < 0 || scores[i] > best)) best = scores[i], at = (int)i;
    }
    for (int mask = 16; mask > 0; mask /= 2) {
        float other = shuffle_xor(best, mask);
        int other_at = shuffle_xor(at, mask);
        bool better = other_at >= 0 && (at < 0 || other > best || (other == best && other_at < at));
        if (better) best = other, at = other_at;
    }
    return at;
}

// Scores of the experts outside of the best groups become -inf. of_group, taken: [n_group].
MR_DEVICE void keep_groups(const mr_k_route_args &a, float *scores, float *of_group, float *taken) {
    uint32_t n = a.n_expert / a.n_group;
    bool two = a.gating == GATING_SIGMOID && n > 1;
    for (uint32_t g = threadIdx.x; g < a.n_group; g += 32) {
        float best = -INFINITY, second = -INFINITY;
        for (uint32_t e = g * n; e < (g + 1) * n; e++) {
            if (scores[e] > best)
                second = best, best = scores[e];
            else if (scores[e] > second)
                second = scores[e];
        }
        of_group[g] = two ? best + second : best;
        taken[g] = 0.0f;
    }
    sync_warp();
    for (uint32_t k = 0; k < a.n_group_used; k++) {
        int g = best_of(of_group, taken, a.n_group);
        if (threadIdx.x == 0 && g >= 0) taken[g] = 1.0f;
        sync_warp();
    }
    for (uint32_t e = threadIdx.x; e < n * a.n_group; e += 32) {
        if (taken[e / n] == 0.0f) scores[e] = -INFINITY;
    }
    sync_warp();
}

// SparseMixer's weight of an expert: its share of the softmax over those that it does not beat clearly.
MR_DEVICE float mixer_weight(const mr_k_route_args &a, const float *logits, const float *taken, int chosen) {
    float best = logits[chosen], sum = 0.0f;
    for (uint32_t e = threadIdx.x; e < a.n_expert; e += 32) {
        float size = fmaxf(fabsf(logits[e]), best);
        if (taken[e] == 0.0f && (best - logits[e]) / size <= 2.0f * 0.01f) sum += expf(logits[e] - best);
    }
    return 1.0f / warp_sum(sum);
}

// A warp for each token. Shared: scores and marks of experts, of groups.
MR_KERNEL(mr_k_route, mr_k_route_args, 32, 1) {
    float *choice = (float *)dynamic_shared(), *taken = choice + a.n_expert, *groups = taken + a.n_expert;
    uint32_t t = blockIdx.x;
    float *scores = a.scores + (size_t)t * a.n_expert, most = -INFINITY, sum = 0.0f;
    int32_t *chosen = a.chosen + (size_t)t * a.n_used;
    float *weight = a.weight + (size_t)t * a.n_used;
    if (a.gating == GATING_SOFTMAX) {
        for (uint32_t e = threadIdx.x; e < a.n_expert; e += 32) most = fmaxf(most, scores[e]);
        most = warp_max(most);
        for (uint32_t e = threadIdx.x; e < a.n_expert; e += 32) sum += scores[e] = expf(scores[e] - most);
        float inverse = 1.0f / warp_sum(sum);
        for (uint32_t e = threadIdx.x; e < a.n_expert; e += 32) scores[e] *= inverse;
    } else if (a.gating == GATING_SIGMOID) {
        for (uint32_t e = threadIdx.x; e < a.n_expert; e += 32) scores[e] = sigmoid(scores[e]);
    }
    for (uint32_t e = threadIdx.x; e < a.n_expert; e += 32) {
        choice[e] = scores[e] + (a.bias != nullptr ? a.bias[e] : 0.0f);
        taken[e] = 0.0f;
    }
    sync_warp();
    if (a.n_group > 1) keep_groups(a, choice, groups, groups + a.n_group);
    for (uint32_t k = 0; k < a.n_used; k++) {
        int e = best_of(choice, taken, a.n_expert);
        float w = a.gating == GATING_SPARSEMIXER ? mixer_weight(a, scores, taken, e) : scores[e];
        sync_warp();
        if (threadIdx.x == 0) chosen[k] = e, weight[k] = w, taken[e] = 1.0f;
        sync_warp();
    }
    if (threadIdx.x != 0) return;
    bool over_chosen = a.gating == GATING_SOFTMAX_CHOSEN;
    float total = 0.0f, factor = a.factor;
    if (over_chosen) {
        float best = -INFINITY, of_chosen = 0.0f;
        for (uint32_t k = 0; k < a.n_used; k++) best = fmaxf(best, weight[k]);
        for (uint32_t k = 0; k < a.n_used; k++) of_chosen += weight[k] = expf(weight[k] - best);
        for (uint32_t k = 0; k < a.n_used; k++) weight[k] *= 1.0f / of_chosen;
    }
    for (uint32_t k = 0; k < a.n_used; k++) total += weight[k];
    if (a.normed && !over_chosen && a.gating != GATING_SPARSEMIXER)
        factor /= total + (a.gating == GATING_SIGMOID ? 1e-20f : 0.0f);
    for (uint32_t k = 0; k < a.n_used; k++) {
        weight[k] *= factor;
        if (a.scales != nullptr) weight[k] *= a.scales[chosen[k]];
    }
}

// A single block: a warp's lanes look at 32 slots at a time, so that each expert's slots stay in order without atomics.
MR_KERNEL(mr_k_lists, mr_k_lists_args, 1024, 1) {
    int32_t *begin = (int32_t *)dynamic_shared(); // [n_expert + 1]
    uint32_t n_slots = a.n_tokens * a.n_used, warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_warps = blockDim.x / 32;
    for (uint32_t e = warp; e < a.n_expert; e += n_warps) {
        int32_t n = 0;
        for (uint32_t i = 0; i < n_slots; i += 32) {
            uint32_t hits = warp_ballot(i + lane < n_slots && a.chosen[i + lane] == (int32_t)e);
            n += (int32_t)bit_count(hits);
        }
        if (lane == 0) begin[e + 1] = n;
    }
    if (threadIdx.x == 0) begin[0] = 0;
    sync_block();
    if (threadIdx.x == 0) {
        for (uint32_t e = 0; e < a.n_expert; e++) begin[e + 1] += begin[e];
    }
    sync_block();
    for (uint32_t e = threadIdx.x; e <= a.n_expert; e += blockDim.x) a.begin[e] = begin[e];
    for (uint32_t e = warp; e < a.n_expert; e += n_warps) {
        int32_t slot = begin[e];
        for (uint32_t i = 0; i < n_slots; i += 32) {
            bool hit = i + lane < n_slots && a.chosen[i + lane] == (int32_t)e;
            uint32_t hits = warp_ballot(hit);
            int32_t at = slot + (int32_t)bit_count(hits & ((1u << lane) - 1));
            if (hit) {
                a.slot_token[at] = (int32_t)((i + lane) / a.n_used);
                a.slot_of[i + lane] = at;
            }
            slot += (int32_t)bit_count(hits);
        }
    }
}

MR_KERNEL(mr_k_combine, mr_k_combine_args, 128, 1) {
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y;
    if (i >= a.n) return;
    float sum = 0.0f;
    for (uint32_t k = 0; k < a.n_used; k++) {
        size_t at = (size_t)t * a.n_used + k;
        size_t slot = a.slot_of != nullptr ? (size_t)a.slot_of[at] : at;
        sum = fmaf(a.y[slot * a.n + i], a.weight[at], sum);
    }
    if (a.shared != nullptr) {
        float weight = a.shared_weight != nullptr ? sigmoid(a.shared_weight[t]) : 1.0f;
        sum = fmaf(a.shared[(size_t)t * a.n + i], weight, sum);
    }
    a.out[(size_t)t * a.n + i] = sum;
}
