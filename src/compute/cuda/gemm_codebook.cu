// Products on tensor cores with the layouts of the codebook types.
#include "compute/cuda/gemm.cuh"

MR_GEMM(MR_CUDA_IQ1, iq1)
MR_GEMM(MR_CUDA_IQ2, iq2)
MR_GEMM(MR_CUDA_IQ3_XXS, iq3_xxs)
MR_GEMM(MR_CUDA_IQ3_S, iq3_s)
