#include "compute/cuda/driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#define LIBRARY "libcuda.so.1"

/* Where the table has each function, by its exported name. */
typedef struct symbol {
    const char *name;
    size_t offset;
} symbol;

static const symbol SYMBOLS[] = {
    {"cuGetErrorString", offsetof(mr_cuda_driver, cuGetErrorString)},
    {"cuGetErrorName", offsetof(mr_cuda_driver, cuGetErrorName)},
    {"cuInit", offsetof(mr_cuda_driver, cuInit)},
    {"cuDriverGetVersion", offsetof(mr_cuda_driver, cuDriverGetVersion)},
    {"cuDeviceGetCount", offsetof(mr_cuda_driver, cuDeviceGetCount)},
    {"cuDeviceGet", offsetof(mr_cuda_driver, cuDeviceGet)},
    {"cuDeviceGetName", offsetof(mr_cuda_driver, cuDeviceGetName)},
    {"cuDeviceGetAttribute", offsetof(mr_cuda_driver, cuDeviceGetAttribute)},
    {"cuDevicePrimaryCtxRetain", offsetof(mr_cuda_driver, cuDevicePrimaryCtxRetain)},
    {"cuDevicePrimaryCtxRelease_v2", offsetof(mr_cuda_driver, cuDevicePrimaryCtxRelease_v2)},
    {"cuDevicePrimaryCtxGetState", offsetof(mr_cuda_driver, cuDevicePrimaryCtxGetState)},
    {"cuCtxSetCurrent", offsetof(mr_cuda_driver, cuCtxSetCurrent)},
    {"cuCtxGetCurrent", offsetof(mr_cuda_driver, cuCtxGetCurrent)},
    {"cuModuleLoadData", offsetof(mr_cuda_driver, cuModuleLoadData)},
    {"cuModuleUnload", offsetof(mr_cuda_driver, cuModuleUnload)},
    {"cuModuleGetFunction", offsetof(mr_cuda_driver, cuModuleGetFunction)},
    {"cuMemGetInfo_v2", offsetof(mr_cuda_driver, cuMemGetInfo_v2)},
    {"cuMemAlloc_v2", offsetof(mr_cuda_driver, cuMemAlloc_v2)},
    {"cuMemFree_v2", offsetof(mr_cuda_driver, cuMemFree_v2)},
    {"cuMemAllocHost_v2", offsetof(mr_cuda_driver, cuMemAllocHost_v2)},
    {"cuMemFreeHost", offsetof(mr_cuda_driver, cuMemFreeHost)},
    {"cuMemcpyHtoDAsync_v2", offsetof(mr_cuda_driver, cuMemcpyHtoDAsync_v2)},
    {"cuMemcpyDtoHAsync_v2", offsetof(mr_cuda_driver, cuMemcpyDtoHAsync_v2)},
    {"cuMemcpyDtoDAsync_v2", offsetof(mr_cuda_driver, cuMemcpyDtoDAsync_v2)},
    {"cuStreamCreate", offsetof(mr_cuda_driver, cuStreamCreate)},
    {"cuStreamSynchronize", offsetof(mr_cuda_driver, cuStreamSynchronize)},
    {"cuStreamDestroy_v2", offsetof(mr_cuda_driver, cuStreamDestroy_v2)},
    {"cuStreamBeginCapture_v2", offsetof(mr_cuda_driver, cuStreamBeginCapture_v2)},
    {"cuStreamEndCapture", offsetof(mr_cuda_driver, cuStreamEndCapture)},
    {"cuFuncSetAttribute", offsetof(mr_cuda_driver, cuFuncSetAttribute)},
    {"cuLaunchKernel", offsetof(mr_cuda_driver, cuLaunchKernel)},
    {"cuGraphInstantiateWithFlags", offsetof(mr_cuda_driver, cuGraphInstantiateWithFlags)},
    {"cuGraphLaunch", offsetof(mr_cuda_driver, cuGraphLaunch)},
    {"cuGraphExecDestroy", offsetof(mr_cuda_driver, cuGraphExecDestroy)},
    {"cuGraphDestroy", offsetof(mr_cuda_driver, cuGraphDestroy)},
};

static mr_cuda_driver driver;
static mr_error failure; /* status MR_OK: the driver is there */

mr_status mr_cuda_fail(const mr_cuda_driver *d, int result, const char *call, mr_error *err) {
    const char *text = NULL, *name = NULL;
    d->cuGetErrorString(result, &text);
    d->cuGetErrorName(result, &name);
    return mr_fail(err, result == MR_CU_OUT_OF_MEMORY ? MR_ERR_NOMEM : MR_ERR_UNAVAILABLE, "%s failed: %s (%s, %d)",
                   call, text != NULL ? text : "an error that the driver does not know",
                   name != NULL ? name : "no name", result);
}

/* A driver too old for a function that is used cannot serve. The library stays open for good: the driver has threads of
 * its own. */
static void open_driver(void) {
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        mr_fail(&failure, MR_ERR_NOT_FOUND, "no GPU driver (%s)", LIBRARY);
        return;
    }
    for (size_t i = 0; i < sizeof SYMBOLS / sizeof *SYMBOLS; i++) {
        void *function = dlsym(library, SYMBOLS[i].name);
        if (function == NULL) {
            mr_fail(&failure, MR_ERR_UNSUPPORTED, "the GPU driver (%s) lacks %s: it is too old; install a newer one",
                    LIBRARY, SYMBOLS[i].name);
            dlclose(library);
            return;
        }
        memcpy((char *)&driver + SYMBOLS[i].offset, &function, sizeof function);
    }
    int result = driver.cuInit(0);
    if (result == MR_CU_NO_DEVICE)
        mr_fail(&failure, MR_ERR_NOT_FOUND, "the GPU driver finds no GPU");
    else if (result != MR_CU_SUCCESS)
        mr_cuda_fail(&driver, result, "cuInit", &failure);
}

mr_status mr_cuda_driver_get(const mr_cuda_driver **out, mr_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_driver);
    *out = &driver;
    return failure.status == MR_OK ? MR_OK : mr_fail(err, failure.status, "%s", failure.text);
}
