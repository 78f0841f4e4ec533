/* The compiled kernels inside of the library. With MR_CUDA, the build makes an assembler file of the fatbins and a
 * table of them; without, there are none. */
#include "compute/cuda/kernels.h"

#ifdef MR_CUDA
extern const mr_cuda_image mr_cuda_images[];
#else
static const mr_cuda_image mr_cuda_images[] = {{NULL, 0, 0}};
#endif

mr_cuda_image mr_cuda_image_get(size_t i) {
    size_t n = 0;
    while (mr_cuda_images[n].data != NULL) n++;
    return mr_cuda_images[i < n ? i : n];
}
