// Choosing tokens: the largest logit, and the largest 1,024.
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

// The number of threads before this one whose v is set, and of all; for 1,024 threads. scratch [32] is shared.
MR_DEVICE uint32_t count_before(bool v, uint32_t *scratch, uint32_t &all) {
    uint32_t lane = threadIdx.x % 32, hits = warp_ballot(v), before = bit_count(hits & ((1u << lane) - 1));
    sync_block();
    if (lane == 0) scratch[threadIdx.x / 32] = bit_count(hits);
    sync_block();
    all = 0;
    for (uint32_t w = 0; w < 32; w++) {
        if (w < threadIdx.x / 32) before += scratch[w];
        all += scratch[w];
    }
    return before;
}

// The key of rank MR_K_TOP is found bit by bit, then keys above it, and of those equal to it the first ones, are taken in
// order of ids. 1,024 threads, one row.
MR_KERNEL(mr_k_top, mr_k_top_args, 1024, 1) {
    __shared__ float float_scratch[32];
    __shared__ uint32_t scratch[32];
    const float *logits = a.logits + (size_t)blockIdx.x * a.ld;
    uint32_t least = 0, n_above = 0; // keys >= least are at least MR_K_TOP, or least is 0
    for (int bit = 31; bit >= 0; bit--) {
        uint32_t candidate = least | 1u << bit, n = 0;
        for (uint32_t i = threadIdx.x; i < a.n_vocab; i += blockDim.x) n += sortable(logits[i]) >= candidate;
        // Counts below 2^24 are exact as floats.
        if (block_sum((float)n, float_scratch) >= (float)MR_K_TOP) least = candidate;
    }
    if (least == 0) least = 1; // all that are numbers
    uint32_t above = 0;
    for (uint32_t i = threadIdx.x; i < a.n_vocab; i += blockDim.x) above += sortable(logits[i]) > least;
    n_above = (uint32_t)block_sum((float)above, float_scratch);
    uint32_t n_equal = MR_K_TOP - n_above, n_taken = 0, n_equal_seen = 0;
    for (uint32_t base = 0; base < a.n_vocab; base += blockDim.x) {
        uint32_t i = base + threadIdx.x, key = i < a.n_vocab ? sortable(logits[i]) : 0, all, equals;
        uint32_t rank = n_equal_seen + count_before(key == least, scratch, equals);
        n_equal_seen += equals;
        bool taken = key > least || (key == least && rank < n_equal);
        uint32_t at = n_taken + count_before(taken, scratch, all);
        n_taken += all;
        if (!taken) continue;
        a.ids[(size_t)blockIdx.x * MR_K_TOP + at] = (int32_t)i;
        a.values[(size_t)blockIdx.x * MR_K_TOP + at] = from_sortable(key);
    }
    if (threadIdx.x == 0) a.count[blockIdx.x] = n_taken;
}
