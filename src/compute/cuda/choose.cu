// Choosing tokens: the largest logit, and the candidates for a draw.
#include "compute/cuda/device.cuh"

// A logit as an integer that sorts as the sampler sorts: NaN and infinities are below all, and equals by smaller ids first.
MR_DEVICE uint32_t sortable(float v) {
    uint32_t bits = float_bits(v + 0.0f);
    if ((bits & 0x7F800000u) == 0x7F800000u) return 0;
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
MR_DEVICE float from_sortable(uint32_t key) {
    return key == 0 ? -INFINITY : bits_float(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key);
}

MR_DEVICE uint64_t warp_most(uint64_t v) {
    for (int mask = 16; mask > 0; mask /= 2) {
        uint64_t other = shuffle_xor(v, mask);
        v = other > v ? other : v;
    }
    return v;
}

// Key and id in one number: the larger key, then the smaller id.
MR_KERNEL(mr_k_argmax, mr_k_argmax_args, 256, 1) {
    __shared__ uint64_t of_warps[8];
    const float *logits = a.logits + (size_t)blockIdx.y * a.ld;
    uint64_t best = 0;
    for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < a.n_vocab; i += gridDim.x * blockDim.x) {
        uint64_t v = (uint64_t)sortable(logits[i]) << 32 | (0xFFFFFFFFu - i);
        best = v > best ? v : best;
    }
    best = warp_most(best);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = best;
    sync_block();
    if (threadIdx.x >= 32) return;
    best = warp_most(threadIdx.x < 8 ? of_warps[threadIdx.x] : 0);
    if (threadIdx.x == 0) a.parts[(size_t)blockIdx.y * MR_K_ARGMAX_PARTS + blockIdx.x] = best;
}

MR_KERNEL(mr_k_argmax_join, mr_k_argmax_args, 32, 1) {
    uint64_t best = warp_most(a.parts[(size_t)blockIdx.x * MR_K_ARGMAX_PARTS + threadIdx.x]);
    if (threadIdx.x != 0) return;
    a.ids[blockIdx.x] = (int32_t)(0xFFFFFFFFu - (uint32_t)best);
    if (a.values != nullptr) a.values[blockIdx.x] = from_sortable((uint32_t)(best >> 32));
}

// The sampler's exp (compute/exact_exp.h), the same bits.
MR_DEVICE float exact_exp(float x) {
    uint32_t bits = float_bits(x);
    x = bits_float(bits < 0xC2AE0000u ? bits : 0xC2AE0000u);
    float n = add(add(mul(x, 1.44269504f), 12582912.0f), -12582912.0f);
    float r = add(add(x, -mul(n, 0.693359375f)), -mul(n, -2.12194440e-4f));
    float p = add(mul(r, 1.0f / 5040.0f), 1.0f / 720.0f);
    p = add(mul(p, r), 1.0f / 120.0f);
    p = add(mul(p, r), 1.0f / 24.0f);
    p = add(mul(p, r), 1.0f / 6.0f);
    p = add(mul(p, r), 0.5f);
    p = add(add(mul(mul(p, r), r), r), 1.0f);
    return mul(p, bits_float((uint32_t)((int)n + 127) << 23));
}

MR_DEVICE uint64_t warp_total(uint64_t v) {
    for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
    return v;
}
MR_DEVICE uint32_t warp_total(uint32_t v) {
    for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
    return v;
}

// The sum over the block, the same in all threads. scratch [32] is shared and may not be used again before the next
// sync_block.
template <typename T> MR_DEVICE T block_total(T v, T *scratch) {
    v = warp_total(v);
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
    sync_block();
    T all = 0;
    for (uint32_t w = 0; w < blockDim.x / 32; w++) all += scratch[w];
    return all;
}

// The sum of `v`, one number for each warp, over the warps before this one. scratch as above.
MR_DEVICE uint32_t warps_before(uint32_t v, uint32_t *scratch) {
    uint32_t before = 0;
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
    sync_block();
    for (uint32_t w = 0; w < threadIdx.x / 32; w++) before += scratch[w];
    return before;
}

// A thread has entries first_entry() + 32 j, j < MR_K_TOP_EACH, of its block's.
MR_DEVICE uint32_t first_entry() {
    return threadIdx.x / 32 * (32 * MR_K_TOP_EACH) + threadIdx.x % 32;
}

// The key of rank MR_CANDIDATES among those of the block, found bit by bit, or 1 where there are fewer; 0 is no key.
MR_DEVICE uint32_t find_least(const uint32_t key[MR_K_TOP_EACH], uint32_t scratch[2][32]) {
    uint32_t least = 0; // at least MR_CANDIDATES keys are as large, or it is 0
    MR_NO_UNROLL for (int bit = 31; bit >= 0; bit--) {
        uint32_t more = least | 1u << bit, n = 0;
        MR_UNROLL for (int j = 0; j < MR_K_TOP_EACH; j++) n += key[j] >= more;
        n = block_total(n, scratch[bit % 2]);
        if (n >= MR_CANDIDATES) least = more;
        if (n == MR_CANDIDATES) break;
    }
    return least > 0 ? least : 1;
}

// Where the block's MR_CANDIDATES largest keys, of equals the first, belong in a list that keeps their order. Bit j of
// the result is set where key j is one of them; they lie behind each other from `at` on for a warp's key 0, then 1 ...
MR_DEVICE uint32_t choose_keys(const uint32_t key[MR_K_TOP_EACH], uint32_t &at, uint32_t &n_all) {
    __shared__ uint32_t scratch[2][32], warps[3][32];
    uint32_t least = find_least(key, scratch), below = (1u << threadIdx.x % 32) - 1, n_above = 0, n_equal = 0;
    MR_UNROLL for (int j = 0; j < MR_K_TOP_EACH; j++) {
        n_above += key[j] > least;
        n_equal += bit_count(warp_ballot(key[j] == least));
    }
    uint32_t room = MR_CANDIDATES - block_total(n_above, warps[0]);
    uint32_t n_seen = warps_before(n_equal, warps[1]), taken = 0, n_taken = 0;
    MR_UNROLL for (int j = 0; j < MR_K_TOP_EACH; j++) {
        uint32_t equals = warp_ballot(key[j] == least);
        bool is_one = key[j] > least || (key[j] == least && n_seen + bit_count(equals & below) < room);
        n_seen += bit_count(equals);
        n_taken += bit_count(warp_ballot(is_one));
        taken |= (uint32_t)is_one << j;
    }
    at = warps_before(n_taken, warps[2]);
    n_all = 0;
    for (uint32_t w = 0; w < blockDim.x / 32; w++) n_all += warps[2][w];
    return taken;
}

// Calls put(j, place) for each chosen key of this thread.
template <typename Put> MR_DEVICE void each_chosen(uint32_t taken, uint32_t at, const Put &put) {
    uint32_t below = (1u << threadIdx.x % 32) - 1;
    MR_UNROLL for (int j = 0; j < MR_K_TOP_EACH; j++) {
        uint32_t hits = warp_ballot(taken >> j & 1);
        if (taken >> j & 1) put(j, at + bit_count(hits & below));
        at += bit_count(hits);
    }
}

MR_KERNEL(mr_k_top, mr_k_top_args, 1024, 1) {
    __shared__ uint64_t scratch[32];
    uint32_t row = blockIdx.y, first = blockIdx.x * blockDim.x * MR_K_TOP_EACH + first_entry(), key[MR_K_TOP_EACH], at, n;
    const float *logits = a.logits + (size_t)row * a.ld;
    mr_candidates *to = a.lists + (size_t)row * gridDim.x + blockIdx.x;
    float largest = a.largest[row];
    double sum = 0; // exact
    MR_UNROLL for (int j = 0; j < MR_K_TOP_EACH; j++) {
        uint32_t i = first + 32 * j;
        key[j] = i < a.n_vocab ? sortable(logits[i]) : 0;
        if (key[j] != 0) sum += ((double)exact_exp(add(from_sortable(key[j]), -largest)) + a.rounder) - a.rounder;
    }
    uint64_t total = block_total((uint64_t)(sum / a.quantum), scratch);
    uint32_t taken = choose_keys(key, at, n);
    each_chosen(taken, at, [&](int j, uint32_t place) {
        to->ids[place] = (int32_t)(first + 32 * j);
        to->logits[place] = from_sortable(key[j]);
    });
    if (threadIdx.x != 0) return;
    to->total = total;
    to->n = n;
    to->best = a.best[row];
}

MR_KERNEL(mr_k_top_join, mr_k_top_join_args, 1024, 1) {
    __shared__ uint64_t scratch[32];
    uint32_t first_list = blockIdx.x * MR_K_JOIN_LISTS, first = first_entry(), key[MR_K_TOP_EACH], at, n;
    uint32_t most = MR_K_JOIN_LISTS, n_left = a.n_lists - first_list, n_lists = n_left < most ? n_left : most;
    const mr_candidates *from = a.from + (size_t)blockIdx.y * a.n_lists + first_list;
    mr_candidates *to = a.to + (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    MR_UNROLL for (int j = 0; j < MR_K_TOP_EACH; j++) {
        uint32_t i = first + 32 * j, list = i / MR_CANDIDATES;
        bool is_one = list < n_lists && i % MR_CANDIDATES < from[list].n;
        key[j] = is_one ? sortable(from[list].logits[i % MR_CANDIDATES]) : 0;
    }
    uint64_t total = block_total(threadIdx.x < n_lists ? from[threadIdx.x].total : (uint64_t)0, scratch);
    uint32_t taken = choose_keys(key, at, n);
    each_chosen(taken, at, [&](int j, uint32_t place) {
        uint32_t i = first + 32 * j;
        to->ids[place] = from[i / MR_CANDIDATES].ids[i % MR_CANDIDATES];
        to->logits[place] = from_sortable(key[j]);
    });
    if (threadIdx.x != 0) return;
    to->total = total;
    to->n = n;
    to->best = from->best;
}
