// A stand-in for the CUDA driver, libcuda.so.1, whose one device is the emulator. Streams finish at once; device memory is
// from malloc, so that AddressSanitizer sees what kernels do; a captured graph is a list of what was asked for.
//
// MR_FAKE_CUDA_BYTES    memory of the device (1 GiB); allocations beyond it fail as on a full GPU
// MR_FAKE_CUDA_DEVICES  number of devices (1)
// MR_FAKE_CUDA_FAULT    name of a kernel whose launches fail, or of one of the functions below that ask for it
// MR_FAKE_CUDA_CAPABILITY compute capability (8.6, which has the least shared memory); the module of wgmma kernels is for
//                       9.0 alone
#include "emulator.h"

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
#define API extern "C" __attribute__((visibility("default"), used)) CUresult

enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
    INVALID_IMAGE = 200, INVALID_CONTEXT = 201, NO_BINARY = 209, UNSUPPORTED_PTX = 222, INVALID_HANDLE = 400, NOT_FOUND = 500, LAUNCH_FAILED = 719,
    STREAM_CAPTURE = 900,
};

namespace {

struct graph {
    std::vector<std::function<CUresult()>> nodes;
};
struct stream {
    std::unique_ptr<graph> capture;
};
struct function {
    const emu_kernel *kernel;
    size_t most_shared;
};
struct context {
    int n;
};

std::recursive_mutex lock;
std::map<uint64_t, size_t> memory;        // of the device: address, bytes
std::map<std::string, function> functions; // by name
size_t n_used;
bool ready;
context primary;
thread_local context *current;
stream default_stream;

size_t n_bytes_of_device() {
    const char *text = getenv("MR_FAKE_CUDA_BYTES");
    return text != nullptr ? strtoull(text, nullptr, 10) : (size_t)1 << 30;
}

int n_devices() {
    const char *text = getenv("MR_FAKE_CUDA_DEVICES");
    return text != nullptr ? atoi(text) : 1;
}

// Whether this function, or kernel, is to fail.
bool fault(const char *name) {
    const char *text = getenv("MR_FAKE_CUDA_FAULT");
    return text != nullptr && strcmp(text, name) == 0;
}

// 10 * compute capability.
int capability() {
    const char *text = getenv("MR_FAKE_CUDA_CAPABILITY");
    return text != nullptr ? (int)(10.0 * atof(text) + 0.5) : 86;
}

// What a block may have when it is asked for.
size_t largest_shared() {
    switch (capability()) {
    case 80:
    case 87: return 163 << 10;
    case 90:
    case 100:
    case 103: return 227 << 10;
    default: return 99 << 10;
    }
}

// Whether [at, at + n) lies in one allocation.
bool on_device(uint64_t at, size_t n) {
    auto next = memory.upper_bound(at);
    if (next == memory.begin()) return false;
    --next;
    return at >= next->first && n <= next->second && at - next->first <= next->second - n;
}

stream *stream_of(void *handle) {
    return handle == nullptr ? &default_stream : (stream *)handle;
}

// Does the work now, or records it.
CUresult submit(void *handle, std::function<CUresult()> work) {
    if (current == nullptr) return INVALID_CONTEXT;
    stream *s = stream_of(handle);
    if (s->capture == nullptr) return work();
    s->capture->nodes.push_back(std::move(work));
    return SUCCESS;
}

CUresult copy_checked(uint64_t to, uint64_t from, size_t n, bool to_device, bool from_device) {
    if ((to_device && !on_device(to, n)) || (from_device && !on_device(from, n))) {
        fprintf(stderr, "stand-in driver: a copy of %zu bytes leaves its allocation\n", n);
        return INVALID_VALUE;
    }
    memmove((void *)to, (const void *)from, n);
    return SUCCESS;
}

CUresult fill(uint64_t at, size_t n, uint32_t value, size_t unit) {
    if (!on_device(at, n * unit)) return INVALID_VALUE;
    for (size_t i = 0; i < n; i++) memcpy((uint8_t *)at + i * unit, &value, unit);
    return SUCCESS;
}

} // namespace

// ---- devices and contexts

API cuInit(unsigned) {
    ready = n_devices() > 0;
    return ready ? SUCCESS : NO_DEVICE;
}
API cuDriverGetVersion(int *version) {
    *version = 12040;
    return SUCCESS;
}
API cuDeviceGetCount(int *n) {
    *n = n_devices();
    return ready ? SUCCESS : NOT_INITIALIZED;
}
API cuDeviceGet(CUdevice *device, int ordinal) {
    *device = ordinal;
    return !ready ? NOT_INITIALIZED : ordinal >= 0 && ordinal < n_devices() ? SUCCESS : INVALID_DEVICE;
}
API cuDeviceGetName(char *name, int n, CUdevice) {
    snprintf(name, (size_t)n, "emulated device");
    return SUCCESS;
}
API cuDeviceTotalMem_v2(size_t *n, CUdevice) {
    *n = n_bytes_of_device();
    return SUCCESS;
}
API cuDeviceGetAttribute(int *value, int attribute, CUdevice) {
    switch (attribute) {
    case 1: *value = 1024; break;      // threads of a block
    case 8: *value = 48 << 10; break;  // shared memory of a block
    case 10: *value = 32; break;       // warp
    case 16: *value = 4; break;        // multiprocessors
    case 75: *value = capability() / 10; break;
    case 76: *value = capability() % 10; break;
    case 97: *value = (int)largest_shared(); break; // shared memory of a block, when asked for
    default: *value = 0;
    }
    return SUCCESS;
}
API cuDevicePrimaryCtxRetain(context **c, CUdevice) {
    *c = &primary;
    if (ready) primary.n++;
    return ready ? SUCCESS : NOT_INITIALIZED;
}
API cuDevicePrimaryCtxRelease_v2(CUdevice) {
    return primary.n-- > 0 ? SUCCESS : INVALID_CONTEXT;
}
API cuDevicePrimaryCtxGetState(CUdevice, unsigned *flags, int *active) {
    *flags = 0;
    *active = primary.n > 0;
    return SUCCESS;
}
API cuCtxCreate_v2(context **c, unsigned, CUdevice) {
    *c = current = &primary;
    return ready ? SUCCESS : NOT_INITIALIZED;
}
API cuCtxDestroy_v2(context *) {
    current = nullptr;
    return SUCCESS;
}
API cuCtxSetCurrent(context *c) {
    current = c;
    return SUCCESS;
}
API cuCtxGetCurrent(context **c) {
    *c = current;
    return SUCCESS;
}
API cuCtxPushCurrent_v2(context *c) {
    current = c;
    return SUCCESS;
}
API cuCtxPopCurrent_v2(context **c) {
    if (c != nullptr) *c = current;
    current = nullptr;
    return SUCCESS;
}
API cuCtxSynchronize() {
    return current != nullptr ? SUCCESS : INVALID_CONTEXT;
}
API cuGetErrorName(CUresult code, const char **text) {
    static const std::map<int, const char *> names = {{SUCCESS, "CUDA_SUCCESS"},
                                                      {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
                                                      {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
                                                      {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
                                                      {NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
                                                      {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
                                                      {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE"},
                                                      {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
                                                      {NO_BINARY, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
                                                      {UNSUPPORTED_PTX, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"},
                                                      {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
                                                      {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
                                                      {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"},
                                                      {STREAM_CAPTURE, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"}};
    auto found = names.find(code);
    *text = found != names.end() ? found->second : "unknown error";
    return SUCCESS;
}
API cuGetErrorString(CUresult code, const char **text) {
    return cuGetErrorName(code, text);
}

// ---- memory

API cuMemAlloc_v2(CUdeviceptr *at, size_t n) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (current == nullptr) return INVALID_CONTEXT;
    if (n == 0) return INVALID_VALUE;
    if (n > n_bytes_of_device() - n_used) return OUT_OF_MEMORY;
    void *p;
    if (posix_memalign(&p, 256, n) != 0) return OUT_OF_MEMORY;
    memset(p, 0xFF, n);
    memory[(uint64_t)p] = n;
    n_used += n;
    *at = (uint64_t)p;
    return SUCCESS;
}
API cuMemFree_v2(CUdeviceptr at) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (at == 0) return SUCCESS;
    auto found = memory.find(at);
    if (found == memory.end()) return INVALID_VALUE;
    n_used -= found->second;
    memory.erase(found);
    free((void *)at);
    return SUCCESS;
}
API cuMemAllocAsync(CUdeviceptr *at, size_t n, void *) {
    return cuMemAlloc_v2(at, n);
}
API cuMemFreeAsync(CUdeviceptr at, void *) {
    return cuMemFree_v2(at);
}
API cuMemGetInfo_v2(size_t *n_free, size_t *n_total) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    *n_total = n_bytes_of_device();
    *n_free = *n_total - n_used;
    return current != nullptr ? SUCCESS : INVALID_CONTEXT;
}
// Bytes that are allocated now, for tests that look for leaks.
extern "C" __attribute__((visibility("default"), used)) size_t mr_fake_cuda_used() {
    return n_used;
}
API cuMemHostAlloc(void **p, size_t n, unsigned) {
    return posix_memalign(p, 256, n > 0 ? n : 1) == 0 ? SUCCESS : OUT_OF_MEMORY;
}
API cuMemAllocHost_v2(void **p, size_t n) {
    return cuMemHostAlloc(p, n, 0);
}
API cuMemFreeHost(void *p) {
    free(p);
    return SUCCESS;
}
API cuMemHostRegister_v2(void *, size_t, unsigned) {
    return SUCCESS;
}
API cuMemHostUnregister(void *) {
    return SUCCESS;
}

static CUresult copy_on(void *s, uint64_t to, uint64_t from, size_t n, bool to_device, bool from_device) {
    return submit(s, [=] {
        std::lock_guard<std::recursive_mutex> guard(lock);
        return copy_checked(to, from, n, to_device, from_device);
    });
}
API cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t n, void *s) {
    if (fault("cuMemcpyHtoDAsync_v2")) return LAUNCH_FAILED;
    return copy_on(s, to, (uint64_t)from, n, true, false);
}
API cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t n, void *s) {
    return copy_on(s, (uint64_t)to, from, n, false, true);
}
API cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t n, void *s) {
    return copy_on(s, to, from, n, true, true);
}
API cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t n) {
    return cuMemcpyHtoDAsync_v2(to, from, n, nullptr);
}
API cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t n) {
    return cuMemcpyDtoHAsync_v2(to, from, n, nullptr);
}
API cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t n) {
    return cuMemcpyDtoDAsync_v2(to, from, n, nullptr);
}
API cuMemsetD8Async(CUdeviceptr at, unsigned char value, size_t n, void *s) {
    return submit(s, [=] { return fill(at, n, value, 1); });
}
API cuMemsetD32Async(CUdeviceptr at, unsigned value, size_t n, void *s) {
    return submit(s, [=] { return fill(at, n, value, 4); });
}
API cuMemsetD8_v2(CUdeviceptr at, unsigned char value, size_t n) {
    return cuMemsetD8Async(at, value, n, nullptr);
}
API cuMemsetD32_v2(CUdeviceptr at, unsigned value, size_t n) {
    return cuMemsetD32Async(at, value, n, nullptr);
}

// ---- modules and launches

static bool is_for_90(const void *image) {
    return strcmp((const char *)image, "emulated 90a") == 0;
}
API cuModuleLoadData(void **module, const void *image) {
    if (current == nullptr) return INVALID_CONTEXT;
    if (image == nullptr || memcmp(image, "emulated", 8) != 0) return INVALID_IMAGE;
    if (capability() < 80 || (is_for_90(image) && capability() != 90)) return NO_BINARY;
    if (fault("cuModuleLoadData")) return UNSUPPORTED_PTX;
    *module = (void *)image;
    return SUCCESS;
}
API cuModuleLoadDataEx(void **module, const void *image, unsigned, void *, void *) {
    return cuModuleLoadData(module, image);
}
API cuModuleUnload(void *) {
    return SUCCESS;
}
API cuModuleGetFunction(void **f, void *module, const char *name) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    const emu_kernel *kernel = emu_find(name);
    if (kernel == nullptr || is_for_90(module) != (strstr(name, "wgmma") != nullptr)) return NOT_FOUND;
    *f = &functions.insert({name, {kernel, 48 << 10}}).first->second;
    return SUCCESS;
}
API cuFuncSetAttribute(function *f, int attribute, int value) {
    if (value < 0 || (size_t)value > largest_shared()) return INVALID_VALUE;
    if (attribute == 8) f->most_shared = (size_t)value;
    return SUCCESS;
}
API cuFuncGetAttribute(int *value, int, function *) {
    *value = 0;
    return SUCCESS;
}
API cuLaunchKernel(function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   void *s, void **params, void **extra) {
    if (f == nullptr || params == nullptr || extra != nullptr || by != 1 || bz != 1 || shared > f->most_shared) {
        fprintf(stderr, "stand-in driver: a launch of %s with %u bytes of shared memory\n",
                f != nullptr ? f->kernel->name : "nothing", shared);
        return INVALID_VALUE;
    }
    const emu_kernel *kernel = f->kernel;
    if (fault(kernel->name)) return LAUNCH_FAILED;
    std::vector<uint8_t> args((const uint8_t *)params[0], (const uint8_t *)params[0] + kernel->args_bytes);
    return submit(s, [=] {
        return emu_launch(kernel, {gx, gy, gz}, bx, shared, args.data()) ? SUCCESS : INVALID_VALUE;
    });
}

// ---- streams, events, graphs

API cuStreamCreate(void **s, unsigned) {
    *s = new stream();
    return SUCCESS;
}
API cuStreamDestroy_v2(void *s) {
    delete (stream *)s;
    return SUCCESS;
}
API cuStreamSynchronize(void *s) {
    if (stream_of(s)->capture != nullptr) return STREAM_CAPTURE;
    return SUCCESS;
}
API cuStreamQuery(void *) {
    return SUCCESS;
}
API cuStreamWaitEvent(void *, void *, unsigned) {
    return SUCCESS;
}
API cuEventCreate(void **event, unsigned) {
    *event = malloc(1);
    return SUCCESS;
}
API cuEventDestroy_v2(void *event) {
    free(event);
    return SUCCESS;
}
API cuEventRecord(void *, void *) {
    return SUCCESS;
}
API cuEventSynchronize(void *) {
    return SUCCESS;
}
API cuEventQuery(void *) {
    return SUCCESS;
}
API cuEventElapsedTime(float *ms, void *, void *) {
    *ms = 1.0f;
    return SUCCESS;
}
API cuStreamBeginCapture_v2(void *s, int) {
    if (s == nullptr || stream_of(s)->capture != nullptr) return STREAM_CAPTURE;
    stream_of(s)->capture.reset(new graph());
    return SUCCESS;
}
API cuStreamEndCapture(void *s, void **g) {
    if (stream_of(s)->capture == nullptr) return STREAM_CAPTURE;
    *g = stream_of(s)->capture.release();
    return SUCCESS;
}
API cuStreamIsCapturing(void *s, int *status) {
    *status = stream_of(s)->capture != nullptr;
    return SUCCESS;
}
API cuGraphInstantiateWithFlags(void **exec, void *g, unsigned long long) {
    if (fault("cuGraphInstantiateWithFlags")) return OUT_OF_MEMORY;
    *exec = new graph(*(graph *)g);
    return SUCCESS;
}
API cuGraphDestroy(void *g) {
    delete (graph *)g;
    return SUCCESS;
}
API cuGraphExecDestroy(void *exec) {
    delete (graph *)exec;
    return SUCCESS;
}
API cuGraphUpload(void *, void *) {
    return SUCCESS;
}
API cuGraphLaunch(void *exec, void *s) {
    if (fault("cuGraphLaunch")) return OUT_OF_MEMORY;
    if (stream_of(s)->capture != nullptr) return STREAM_CAPTURE;
    for (const auto &node : ((graph *)exec)->nodes) {
        CUresult result = node();
        if (result != SUCCESS) return LAUNCH_FAILED;
    }
    return SUCCESS;
}
