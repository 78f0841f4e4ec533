// GEMV on floats.
#include "compute/cuda/gemv.cuh"

MR_GEMV(float, MR_CUDA_F32, f32)
MR_GEMV(float, MR_CUDA_F16, f16)
MR_GEMV(float, MR_CUDA_BF16, bf16)
MR_GEMV(float, MR_CUDA_F8, f8)
