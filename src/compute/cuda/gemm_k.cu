// Products on tensor cores with the layouts that have super-blocks of 256.
#include "compute/cuda/gemm.cuh"

MR_GEMM(MR_CUDA_Q4_K, q4_k)
MR_GEMM(MR_CUDA_Q5_K, q5_k)
MR_GEMM(MR_CUDA_Q6_K, q6_k)
MR_GEMM(MR_CUDA_Q3_K, q3_k)
MR_GEMM(MR_CUDA_Q2_K, q2_k)
MR_GEMM(MR_CUDA_IQ4_XS, iq4_xs)
MR_GEMM(MR_CUDA_TERNARY, ternary)
