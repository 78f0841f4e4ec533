// What the kernels use of the machine: a thin layer over CUDA C++ and a few PTX instructions. The tests compile the same
// kernels as ordinary C++ with an emulation of this layer (tests/cuda/emulator.h).
#pragma once

#include "compute/cuda/kernels.h"

#if defined(__CUDACC__)

#define MR_DEVICE static __device__ __forceinline__
#define MR_UNROLL _Pragma("unroll")
#define MR_NO_UNROLL _Pragma("unroll 1")
// A kernel of at most `threads` threads, at least `blocks` of which are to fit on a processor.
#define MR_KERNEL(name, args, threads, blocks)                                                                         \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ args a)

MR_DEVICE void *dynamic_shared() {
    extern __shared__ __align__(128) unsigned char mr_shared[];
    return mr_shared;
}

MR_DEVICE void sync_block() {
    __syncthreads();
}
MR_DEVICE void sync_warp() {
    __syncwarp();
}

template <typename T> MR_DEVICE T shuffle_xor(T v, int mask) {
    return __shfl_xor_sync(0xFFFFFFFFu, v, mask);
}
template <typename T> MR_DEVICE T shuffle(T v, int lane) {
    return __shfl_sync(0xFFFFFFFFu, v, lane);
}
MR_DEVICE uint32_t warp_ballot(bool v) {
    return __ballot_sync(0xFFFFFFFFu, v);
}

MR_DEVICE int dot4(uint32_t a, uint32_t b, int c) {
    return __dp4a((int)a, (int)b, c);
}
// Four bytes chosen from the eight of (b, a) by the low three bits of each nibble of `selector`.
MR_DEVICE uint32_t pick_bytes(uint32_t a, uint32_t b, uint32_t selector) {
    return __byte_perm(a, b, selector);
}

// Weights are read once: they should not push anything else out of the first-level cache.
MR_DEVICE uint4 load_once16(const void *p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}
MR_DEVICE uint2 load_once8(const void *p) {
    uint2 v;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
    return v;
}
MR_DEVICE uint32_t load_once4(const void *p) {
    uint32_t v;
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
}
template <typename T> MR_DEVICE T load(const void *p) { // through the read-only path
    return __ldg((const T *)p);
}

MR_DEVICE float half_to_float(uint16_t h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}
MR_DEVICE uint16_t float_to_half(float f) {
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}
MR_DEVICE uint32_t bit_count(uint32_t v) {
    return (uint32_t)__popc(v);
}
MR_DEVICE uint32_t float_bits(float f) {
    return __float_as_uint(f);
}
MR_DEVICE float bits_float(uint32_t u) {
    return __uint_as_float(u);
}
// Products and sums that stay apart.
MR_DEVICE float mul(float a, float b) {
    return __fmul_rn(a, b);
}
MR_DEVICE float add(float a, float b) {
    return __fadd_rn(a, b);
}

// Matrix fragments as PTX has them, for lane 4g + t. D += A B; A [16, k], B [k, 8], D [16, 8]: d[0..1] is row g, columns 2t
// and 2t + 1, d[2..3] row g + 8.
// int8, k = 32: a[0] row g, k 4t..4t+3; a[1] row g + 8; a[2], a[3] the same from k 16 on. b[0] column g, k 4t..; b[1] 16 on.
MR_DEVICE void mma_s8_k32(int d[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// int8, k = 16: a0 row g, k 4t..4t+3; a1 row g + 8; b column g.
MR_DEVICE void mma_s8_k16(int d[4], uint32_t a0, uint32_t a1, uint32_t b) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a0), "r"(a1), "r"(b));
}
// bfloat16 and half, k = 16: a[0] row g, k 2t, 2t+1; a[1] row g + 8; a[2], a[3] from k 8 on; b[0] column g, k 2t..; b[1] 8 on.
MR_DEVICE void mma_bf16(float d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
MR_DEVICE void mma_f16(float d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// tf32 (floats whose low 13 bits do not count), k = 8: a0 row g, k t; a1 row g + 8; a2, a3 k t + 4; b0 column g, k t; b1 t + 4.
MR_DEVICE void mma_tf32(float d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Four 8x8 matrices of 16-bit values, transposed: lane l names row l % 8 of matrix l / 8 (16 bytes, shared memory); r[i]
// becomes rows 2t, 2t + 1 of column g of matrix i.
MR_DEVICE void load_transposed(uint32_t r[4], const void *row) {
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

// Copies 16 bytes to shared memory in the background; zeros when not valid. Copies between two commits are a group.
MR_DEVICE void copy_async16(void *shared, const void *global, bool valid) {
    uint32_t at = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(global), "r"(valid ? 16 : 0) : "memory");
}
MR_DEVICE void copy_async8(void *shared, const void *global, bool valid) {
    uint32_t at = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(at), "l"(global), "r"(valid ? 8 : 0) : "memory");
}
MR_DEVICE void copy_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits for all but the newest n groups of this thread.
template <int n> MR_DEVICE void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

#else
#include "emulator.h"
#endif

MR_DEVICE float bf16_to_float(uint32_t bits) {
    return bits_float(bits << 16);
}

// Sums and maxima over the lanes of a warp, the same in all of them.
MR_DEVICE float warp_sum(float v) {
    for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
    return v;
}
MR_DEVICE float warp_max(float v) {
    for (int mask = 16; mask > 0; mask /= 2) v = fmaxf(v, shuffle_xor(v, mask));
    return v;
}

// The sum over the threads of a block, the same in all of them. `scratch` [32] is shared and may be used again after the
// next sync_block.
MR_DEVICE float block_sum(float v, float *scratch) {
    uint32_t n_warps = blockDim.x / 32;
    v = warp_sum(v);
    if (n_warps == 1) return v;
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
    sync_block();
    v = threadIdx.x % 32 < n_warps ? scratch[threadIdx.x % 32] : 0.0f;
    v = warp_sum(v);
    sync_block();
    return v;
}
MR_DEVICE float block_max(float v, float *scratch) {
    uint32_t n_warps = blockDim.x / 32;
    v = warp_max(v);
    if (n_warps == 1) return v;
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
    sync_block();
    v = warp_max(scratch[threadIdx.x % 32 < n_warps ? threadIdx.x % 32 : 0]);
    sync_block();
    return v;
}
