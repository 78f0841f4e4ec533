// CUDA kernels as ordinary C++: the layer of device.cuh without a GPU.
//
// A block's threads are fibres that run one at a time and change over where they meet: at barriers, shuffles, matrix
// products. Blocks run one after the other. A thread that never comes to where the others wait, lanes that meet at different
// operations, and copies to shared memory that are used before they were waited for (they are made as late as may be) do not
// pass; memory errors are found by AddressSanitizer, as all device memory is from malloc.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

struct uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
    return {x, y, z, w};
}
static inline uint2 make_uint2(uint32_t x, uint32_t y) {
    return {x, y};
}
struct emu_dim {
    uint32_t x, y, z;
};

// Of the running thread and its block.
struct emu_thread {
    emu_dim thread;
};
extern emu_dim emu_thread_index, emu_block_index, emu_block_size, emu_grid_size;
extern void *emu_shared;
#define threadIdx emu_thread_index
#define blockIdx emu_block_index
#define blockDim emu_block_size
#define gridDim emu_grid_size

// An operation of all 32 lanes of a warp. Each gives its input; the last to come calls `all` with those of all lanes (which
// writes their outputs); every lane gets its own.
enum emu_op { EMU_SYNC, EMU_SHUFFLE, EMU_BALLOT, EMU_S8_K32, EMU_S8_K16, EMU_BF16, EMU_F16, EMU_TF32, EMU_TRANSPOSED };
struct emu_lane {
    uint32_t in[12], out[4];
    const void *row;
};
emu_lane *emu_warp(emu_op op, const uint32_t *in, size_t n_in, const void *row, void (*all)(emu_lane lanes[32]));
emu_lane *emu_warp_lanes(); // of the last operation, by lane
void emu_sync_block();
void emu_copy_async(void *shared, const void *global, size_t n, bool valid);
void emu_copy_commit();
void emu_copy_wait(size_t newest);

// Reads of shared memory by asynchronous operations (PTX's async proxy). Dynamic shared memory has addresses as on a GPU,
// where static arrays come first. emu_shared_row: the 16 bytes at an address; the program ends where a copy to them is not
// finished, or its thread has passed no fence_async and no barrier since.
enum : uint32_t { EMU_SHARED_BASE = 1024 };
uint32_t emu_shared_address(const void *shared);
const uint8_t *emu_shared_row(uint32_t address);
void emu_fence_async();

// An operation of all 128 threads of a warpgroup: the last to come calls `all` with what all gave.
enum emu_group_op { EMU_GROUP_FENCE, EMU_GROUP_PRODUCT, EMU_GROUP_COMMIT, EMU_GROUP_WAIT };
struct emu_member {
    float *d;      // this thread's sums
    uint64_t a, b; // matrix descriptors
    size_t n;      // columns, or groups that are not waited for
};
void emu_warpgroup(emu_group_op op, const emu_member &member, void (*all)(uint32_t group, const emu_member members[128]));
void emu_wgmma_begin(); // of a block
void emu_wgmma_end();
void emu_wgmma_fence(uint32_t group, const emu_member members[128]);
void emu_wgmma_product(uint32_t group, const emu_member members[128]);
void emu_wgmma_commit(uint32_t group, const emu_member members[128]);
void emu_wgmma_wait(uint32_t group, const emu_member members[128]);

[[noreturn]] void emu_fail(const char *what);

struct emu_kernel {
    const char *name;
    size_t args_bytes;
    void (*run)(const void *args);
    emu_kernel *next;
    emu_kernel(const char *name, size_t args_bytes, void (*run)(const void *args));
};
const emu_kernel *emu_find(const char *name);
// Runs all blocks. false where the launch is not possible on a GPU.
bool emu_launch(const emu_kernel *kernel, emu_dim grid, uint32_t block, uint32_t shared_bytes, const void *args);

#define __shared__ static
#define __align__(n) alignas(n)
#define __constant__ static const
#define MR_DEVICE static inline __attribute__((unused))
#define MR_UNROLL
#define MR_NO_UNROLL
#define MR_KERNEL(name, args_type, threads, blocks)                                                                    \
    static void name(const args_type &a);                                                                              \
    static emu_kernel emu_kernel_##name(#name, sizeof(args_type), [](const void *p) {                                  \
        if (blockDim.x * blockDim.y * blockDim.z > (threads)) emu_fail(#name ": more threads than its launch bound");  \
        name(*(const args_type *)p);                                                                                   \
    });                                                                                                                \
    static void name(const args_type &a)

MR_DEVICE void *dynamic_shared() {
    return emu_shared;
}
MR_DEVICE void sync_block() {
    emu_sync_block();
}
MR_DEVICE void sync_warp() {
    emu_warp(EMU_SYNC, nullptr, 0, nullptr, nullptr);
}

template <typename T> MR_DEVICE T shuffle(T v, int lane) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move words");
    uint32_t in[2] = {0, 0};
    memcpy(in, &v, sizeof v);
    emu_lane *lanes = emu_warp(EMU_SHUFFLE, in, 2, nullptr, nullptr) - threadIdx.x % 32;
    memcpy(&v, lanes[lane & 31].in, sizeof v);
    return v;
}
template <typename T> MR_DEVICE T shuffle_xor(T v, int mask) {
    return shuffle(v, (int)(threadIdx.x % 32) ^ mask);
}
MR_DEVICE uint32_t warp_ballot(bool v) {
    uint32_t in = v, bits = 0;
    emu_lane *lanes = emu_warp(EMU_BALLOT, &in, 1, nullptr, nullptr) - threadIdx.x % 32;
    for (int l = 0; l < 32; l++) bits |= lanes[l].in[0] << l;
    return bits;
}

MR_DEVICE int dot4(uint32_t a, uint32_t b, int c) {
    for (int i = 0; i < 4; i++) c += (int8_t)(a >> 8 * i) * (int8_t)(b >> 8 * i);
    return c;
}
MR_DEVICE uint32_t pick_bytes(uint32_t a, uint32_t b, uint32_t selector) {
    uint64_t both = (uint64_t)b << 32 | a;
    uint32_t r = 0;
    for (int i = 0; i < 4; i++) {
        if (selector >> 4 * i & 8) emu_fail("pick_bytes: bit 3 of a selector repeats the sign");
        r |= (uint32_t)(both >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    }
    return r;
}

template <typename T> MR_DEVICE T emu_load(const void *p, size_t alignment) {
    if ((uintptr_t)p % alignment != 0) emu_fail("a load is not aligned");
    T v;
    memcpy(&v, p, sizeof v);
    return v;
}
MR_DEVICE uint4 load_once16(const void *p) {
    return emu_load<uint4>(p, 16);
}
MR_DEVICE uint2 load_once8(const void *p) {
    return emu_load<uint2>(p, 8);
}
MR_DEVICE uint32_t load_once4(const void *p) {
    return emu_load<uint32_t>(p, 4);
}
template <typename T> MR_DEVICE T load(const void *p) {
    return emu_load<T>(p, sizeof(T));
}

extern "C" float mr_f16_to_f32(uint16_t half);
extern "C" uint16_t mr_f32_to_f16(float value);
MR_DEVICE float half_to_float(uint16_t h) {
    return mr_f16_to_f32(h);
}
MR_DEVICE uint16_t float_to_half(float f) {
    return mr_f32_to_f16(f);
}
MR_DEVICE uint32_t bit_count(uint32_t v) {
    return (uint32_t)__builtin_popcount(v);
}
MR_DEVICE uint32_t float_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
MR_DEVICE float bits_float(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
MR_DEVICE float mul(float a, float b) {
    return a * b;
}
MR_DEVICE float add(float a, float b) {
    return a + b;
}

void emu_mma_s8_k32(emu_lane lanes[32]);
void emu_mma_s8_k16(emu_lane lanes[32]);
void emu_mma_bf16(emu_lane lanes[32]);
void emu_mma_f16(emu_lane lanes[32]);
void emu_mma_tf32(emu_lane lanes[32]);
void emu_load_transposed(emu_lane lanes[32]);

// Inputs: A in 0..3, B in 4..5, D in 8..11.
template <typename T>
MR_DEVICE void emu_mma(emu_op op, T d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1,
                       void (*all)(emu_lane lanes[32])) {
    uint32_t in[12] = {a0, a1, a2, a3, b0, b1};
    memcpy(in + 8, d, 16);
    memcpy(d, emu_warp(op, in, 12, nullptr, all)->out, 16);
}
MR_DEVICE void mma_s8_k32(int d[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    emu_mma(EMU_S8_K32, d, a[0], a[1], a[2], a[3], b0, b1, emu_mma_s8_k32);
}
MR_DEVICE void mma_s8_k16(int d[4], uint32_t a0, uint32_t a1, uint32_t b) {
    emu_mma(EMU_S8_K16, d, a0, a1, 0, 0, b, 0, emu_mma_s8_k16);
}
MR_DEVICE void mma_bf16(float d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    emu_mma(EMU_BF16, d, a0, a1, a2, a3, b0, b1, emu_mma_bf16);
}
MR_DEVICE void mma_f16(float d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    emu_mma(EMU_F16, d, a0, a1, a2, a3, b0, b1, emu_mma_f16);
}
MR_DEVICE void mma_tf32(float d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    emu_mma(EMU_TF32, d, a0, a1, a2, a3, b0, b1, emu_mma_tf32);
}
MR_DEVICE void load_transposed(uint32_t r[4], const void *row) {
    if ((uintptr_t)row % 16 != 0) emu_fail("load_transposed: a row is not aligned to 16 bytes");
    memcpy(r, emu_warp(EMU_TRANSPOSED, nullptr, 0, row, emu_load_transposed)->out, 16);
}

MR_DEVICE void copy_async16(void *shared, const void *global, bool valid) {
    if (((uintptr_t)shared | (uintptr_t)(valid ? global : nullptr)) % 16 != 0) emu_fail("copy_async16: not aligned");
    emu_copy_async(shared, global, 16, valid);
}
MR_DEVICE void copy_async8(void *shared, const void *global, bool valid) {
    if (((uintptr_t)shared | (uintptr_t)(valid ? global : nullptr)) % 8 != 0) emu_fail("copy_async8: not aligned");
    emu_copy_async(shared, global, 8, valid);
}
MR_DEVICE void copy_commit() {
    emu_copy_commit();
}
template <int n> MR_DEVICE void copy_wait() {
    emu_copy_wait(n);
}

MR_DEVICE uint32_t shared_address(const void *shared) {
    return emu_shared_address(shared);
}
MR_DEVICE void fence_async() {
    emu_fence_async();
}
MR_DEVICE void wgmma_fence() {
    emu_warpgroup(EMU_GROUP_FENCE, {nullptr, 0, 0, 0}, emu_wgmma_fence);
}
MR_DEVICE void wgmma_commit() {
    emu_warpgroup(EMU_GROUP_COMMIT, {nullptr, 0, 0, 0}, emu_wgmma_commit);
}
template <int n, int n8> MR_DEVICE void wgmma_wait(float (&)[n8][4]) {
    emu_warpgroup(EMU_GROUP_WAIT, {nullptr, 0, 0, n}, emu_wgmma_wait);
}
template <int n8> MR_DEVICE void wgmma_bf16(float (&d)[n8][4], uint64_t a, uint64_t b) {
    emu_warpgroup(EMU_GROUP_PRODUCT, {d[0], a, b, 8 * n8}, emu_wgmma_product);
}
