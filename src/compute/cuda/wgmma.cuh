// Products of warpgroups (4 warps) on sm_90a: asynchronous, both factors in shared memory. Included by what is compiled for
// that target alone. The emulation is tests/cuda/emulator_wgmma.cpp.
//
// Matrices in shared memory are made of core matrices: 8 rows of 16 bytes (8 values of k), 128 bytes in one piece. No
// swizzling: each core matrix lies in 128 bytes, all banks once.
#pragma once

#include "compute/cuda/device.cuh"

#if defined(__CUDACC__)

MR_DEVICE uint32_t shared_address(const void *shared) {
    return (uint32_t)__cvta_generic_to_shared(shared);
}
// Lets asynchronous reads behind the next barrier see what this thread has written to shared memory (by finished copies too).
MR_DEVICE void fence_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// Before the first product, and whenever a thread has touched its sums.
MR_DEVICE void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// The products since the last commit are a group.
MR_DEVICE void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits for all but the newest n groups. Sums may be touched when n is 0, shared memory when no group left reads it.
template <int n, int n8> MR_DEVICE void wgmma_wait(float (&d)[n8][4]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory");
    if constexpr (n == 0) { // the compiler moves no use of the sums to before the wait
        MR_UNROLL
        for (int i = 0; i < n8; i++) {
            MR_UNROLL
            for (int j = 0; j < 4; j++) asm volatile("" : "+f"(d[i][j])::"memory");
        }
    }
}

#define MR_D1(d, i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define MR_D4(d, i) MR_D1(d, i), MR_D1(d, i + 1), MR_D1(d, i + 2), MR_D1(d, i + 3)

// D += A B for 64 rows A [64, 16] and 64, 128 or 256 columns B [n, 16], both with consecutive k. Warp w of the warpgroup has
// rows 16w to 16w + 15; lane 4g + t: d[i][0..1] is row g, columns 8i + 2t and 8i + 2t + 1, d[i][2..3] row g + 8.
MR_DEVICE void wgmma_bf16(float (&d)[8][4], uint64_t a, uint64_t b) {
    asm volatile("{.reg .pred all; setp.ne.b32 all, 1, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
                 "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
                 "}, %32, %33, all, 1, 1, 0, 0;}"
                 : MR_D4(d, 0), MR_D4(d, 4)
                 : "l"(a), "l"(b));
}

MR_DEVICE void wgmma_bf16(float (&d)[16][4], uint64_t a, uint64_t b) {
    asm volatile("{.reg .pred all; setp.ne.b32 all, 1, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
                 "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "
                 "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
                 "%62, %63"
                 "}, %64, %65, all, 1, 1, 0, 0;}"
                 : MR_D4(d, 0), MR_D4(d, 4), MR_D4(d, 8), MR_D4(d, 12)
                 : "l"(a), "l"(b));
}

MR_DEVICE void wgmma_bf16(float (&d)[32][4], uint64_t a, uint64_t b) {
    asm volatile("{.reg .pred all; setp.ne.b32 all, 1, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
                 "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "
                 "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
                 "%62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, "
                 "%82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, "
                 "%101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, "
                 "%117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
                 "}, %128, %129, all, 1, 1, 0, 0;}"
                 : MR_D4(d, 0), MR_D4(d, 4), MR_D4(d, 8), MR_D4(d, 12), MR_D4(d, 16), MR_D4(d, 20),
                   MR_D4(d, 24), MR_D4(d, 28)
                 : "l"(a), "l"(b));
}

#endif

// Where a matrix of bfloat16 begins (aligned to 16), the bytes from a core matrix to the next of higher k, and to the next 8
// rows. The matrix descriptor of PTX: in units of 16 bytes, address at bit 0, offsets at bits 16 and 32; without swizzling
// the "leading" offset is the one along k, the "stride" offset the one along rows.
MR_DEVICE uint64_t core_matrices(const void *shared, uint32_t k_step, uint32_t row_step) {
    uint64_t at = (shared_address(shared) & 0x3FFFF) >> 4;
    return at | (uint64_t)(k_step >> 4) << 16 | (uint64_t)(row_step >> 4) << 32;
}
