// GEMV on the layouts of the codebook types.
#include "compute/cuda/gemv.cuh"

MR_GEMV(quantized, MR_CUDA_IQ1, iq1)
MR_GEMV(quantized, MR_CUDA_IQ2, iq2)
MR_GEMV(quantized, MR_CUDA_IQ3_XXS, iq3_xxs)
MR_GEMV(quantized, MR_CUDA_IQ3_S, iq3_s)
