/* The GPU driver's library, libcuda.so.1, opened at run time: nothing is linked, so the library loads on machines that
 * have no GPU software. Declarations are our own, from the documentation of the CUDA driver API; only what is used.
 *
 * Handles are opaque pointers, a device address is a 64-bit number, and every function returns 0 or an error number. */
#ifndef MR_COMPUTE_CUDA_DRIVER_H
#define MR_COMPUTE_CUDA_DRIVER_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum {
    MR_CU_SUCCESS = 0,
    MR_CU_OUT_OF_MEMORY = 2,
    MR_CU_NO_DEVICE = 100,
    MR_CU_NO_BINARY = 209, /* CUDA_ERROR_NO_BINARY_FOR_GPU */

    MR_CU_ATTRIBUTE_PROCESSORS = 16, /* CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT */
    MR_CU_ATTRIBUTE_MAJOR = 75,      /* CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR */
    MR_CU_ATTRIBUTE_MINOR = 76,

    MR_CU_FUNCTION_SHARED = 8, /* CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES */
    MR_CU_STREAM_NON_BLOCKING = 1,
    MR_CU_CAPTURE_RELAXED = 2,
};

typedef struct mr_cu_context mr_cu_context;
typedef struct mr_cu_module mr_cu_module;
typedef struct mr_cu_function mr_cu_function;
typedef struct mr_cu_stream mr_cu_stream;
typedef struct mr_cu_graph mr_cu_graph;
typedef struct mr_cu_graph_exec mr_cu_graph_exec;
typedef uint64_t mr_cu_address;

/* The functions under their exported names, in the order of the documentation. */
typedef struct mr_cuda_driver {
    int (*cuGetErrorString)(int error, const char **text);
    int (*cuGetErrorName)(int error, const char **name);
    int (*cuInit)(unsigned flags);
    int (*cuDriverGetVersion)(int *version); /* 1000 * major + 10 * minor, of CUDA */
    int (*cuDeviceGetCount)(int *n);
    int (*cuDeviceGet)(int *device, int ordinal);
    int (*cuDeviceGetName)(char *name, int n, int device);
    int (*cuDeviceGetAttribute)(int *value, int attribute, int device);
    int (*cuDevicePrimaryCtxRetain)(mr_cu_context **context, int device);
    int (*cuDevicePrimaryCtxRelease_v2)(int device);
    int (*cuDevicePrimaryCtxGetState)(int device, unsigned *flags, int *active);
    int (*cuCtxSetCurrent)(mr_cu_context *context);
    int (*cuCtxGetCurrent)(mr_cu_context **context); /* NULL: the thread has none */
    int (*cuModuleLoadData)(mr_cu_module **module, const void *image);
    int (*cuModuleUnload)(mr_cu_module *module);
    int (*cuModuleGetFunction)(mr_cu_function **function, mr_cu_module *module, const char *name);
    int (*cuMemGetInfo_v2)(size_t *n_free, size_t *n_total);
    int (*cuMemAlloc_v2)(mr_cu_address *address, size_t n_bytes);
    int (*cuMemFree_v2)(mr_cu_address address);
    int (*cuMemAllocHost_v2)(void **address, size_t n_bytes);
    int (*cuMemFreeHost)(void *address);
    int (*cuMemcpyHtoDAsync_v2)(mr_cu_address to, const void *from, size_t n_bytes, mr_cu_stream *stream);
    int (*cuMemcpyDtoHAsync_v2)(void *to, mr_cu_address from, size_t n_bytes, mr_cu_stream *stream);
    int (*cuMemcpyDtoDAsync_v2)(mr_cu_address to, mr_cu_address from, size_t n_bytes, mr_cu_stream *stream);
    int (*cuStreamCreate)(mr_cu_stream **stream, unsigned flags);
    int (*cuStreamSynchronize)(mr_cu_stream *stream);
    int (*cuStreamDestroy_v2)(mr_cu_stream *stream);
    int (*cuStreamBeginCapture_v2)(mr_cu_stream *stream, int mode);
    int (*cuStreamEndCapture)(mr_cu_stream *stream, mr_cu_graph **graph);
    int (*cuFuncSetAttribute)(mr_cu_function *function, int attribute, int value);
    int (*cuLaunchKernel)(mr_cu_function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned shared, mr_cu_stream *stream, void **arguments,
                          void **extra);
    int (*cuGraphInstantiateWithFlags)(mr_cu_graph_exec **exec, mr_cu_graph *graph, unsigned long long flags);
    int (*cuGraphLaunch)(mr_cu_graph_exec *exec, mr_cu_stream *stream);
    int (*cuGraphExecDestroy)(mr_cu_graph_exec *exec);
    int (*cuGraphDestroy)(mr_cu_graph *graph);
} mr_cuda_driver;

/* The driver, opened and initialized once for the process. Errors: MR_ERR_NOT_FOUND "no GPU driver (libcuda.so.1)" or
 * no GPU; MR_ERR_UNSUPPORTED when the library lacks a function, which the sentence names. */
mr_status mr_cuda_driver_get(const mr_cuda_driver **driver, mr_error *err);

/* Fills err with "CALL failed: what the driver says of it (NAME, number)"; MR_ERR_NOMEM for a lack of memory, else
 * MR_ERR_UNAVAILABLE. Returns the status. */
mr_status mr_cuda_fail(const mr_cuda_driver *driver, int result, const char *call, mr_error *err);

#endif
