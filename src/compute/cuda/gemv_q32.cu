// GEMV on the layouts with blocks of 32.
#include "compute/cuda/gemv.cuh"

MR_GEMV(quantized, MR_CUDA_Q4_0, q4_0)
MR_GEMV(quantized, MR_CUDA_Q4_1, q4_1)
MR_GEMV(quantized, MR_CUDA_Q5_0, q5_0)
MR_GEMV(quantized, MR_CUDA_Q5_1, q5_1)
MR_GEMV(quantized, MR_CUDA_Q8_0, q8_0)
MR_GEMV(quantized, MR_CUDA_Q8_M, q8_m)
MR_GEMV(quantized, MR_CUDA_IQ4_NL, iq4_nl)
MR_GEMV(quantized, MR_CUDA_MXFP4, mxfp4)
