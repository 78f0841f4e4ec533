/* In place of compute/cuda/image.c: modules that the stand-in driver takes. */
#include "compute/cuda/kernels.h"

mr_cuda_image mr_cuda_image_get(size_t i) {
    static const char image[16] = "emulated", for_90[16] = "emulated 90a";
    if (i == 0) return (mr_cuda_image){image, sizeof image, 0};
    return i == 1 ? (mr_cuda_image){for_90, sizeof for_90, 90} : (mr_cuda_image){0};
}
