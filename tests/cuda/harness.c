#include "harness.h"

#include <dlfcn.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MODULES = 32, MAX_BUFFERS = 4096, NO_BINARY = 209 };

/* The parts of the driver's interface that tests need. */
static struct {
    int (*init)(unsigned);
    int (*device_count)(int *);
    int (*device_get)(int *, int);
    int (*device_name)(char *, int, int);
    int (*device_attribute)(int *, int, int);
    int (*retain)(void **, int);
    int (*set_current)(void *);
    int (*get_current)(void **);
    int (*load)(void **, const void *);
    int (*function)(void **, void *, const char *);
    int (*set_attribute)(void *, int, int);
    int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
                  void **);
    int (*alloc)(uint64_t *, size_t);
    int (*release)(uint64_t);
    int (*to_device)(uint64_t, const void *, size_t);
    int (*to_host)(void *, uint64_t, size_t);
    int (*synchronize)(void);
    int (*event_create)(void **, unsigned);
    int (*event_record)(void *, void *);
    int (*event_synchronize)(void *);
    int (*elapsed)(float *, void *, void *);
    int (*event_destroy)(void *);
    int (*stream_create)(void **, unsigned);
    int (*stream_destroy)(void *);
    int (*begin_capture)(void *, int);
    int (*end_capture)(void *, void **);
    int (*instantiate)(void **, void *, unsigned long long);
    int (*graph_launch)(void *, void *);
    int (*graph_destroy)(void *);
    int (*exec_destroy)(void *);
} cu;

static void *modules[MAX_MODULES];
static size_t n_modules, n_buffers;
static uint64_t buffers[MAX_BUFFERS];
static int n_tests;
static void *stream; /* of launches */

void fail_test(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fputs("# ", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    printf("\nnot ok %d\n", n_tests + 1);
    exit(1);
}

static void must(const char *what, int status) {
    if (status != 0) fail_test("the driver's answer to %s is error %d", what, status);
}

static bool find_functions(void *lib) {
    const struct {
        const char *name;
        void *to;
    } names[] = {{"cuInit", &cu.init},
                 {"cuDeviceGetCount", &cu.device_count},
                 {"cuDeviceGet", &cu.device_get},
                 {"cuDeviceGetName", &cu.device_name},
                 {"cuDeviceGetAttribute", &cu.device_attribute},
                 {"cuDevicePrimaryCtxRetain", &cu.retain},
                 {"cuCtxSetCurrent", &cu.set_current},
                 {"cuCtxGetCurrent", &cu.get_current},
                 {"cuModuleLoadData", &cu.load},
                 {"cuModuleGetFunction", &cu.function},
                 {"cuFuncSetAttribute", &cu.set_attribute},
                 {"cuLaunchKernel", &cu.launch},
                 {"cuMemAlloc_v2", &cu.alloc},
                 {"cuMemFree_v2", &cu.release},
                 {"cuMemcpyHtoD_v2", &cu.to_device},
                 {"cuMemcpyDtoH_v2", &cu.to_host},
                 {"cuCtxSynchronize", &cu.synchronize},
                 {"cuEventCreate", &cu.event_create},
                 {"cuEventRecord", &cu.event_record},
                 {"cuEventSynchronize", &cu.event_synchronize},
                 {"cuEventElapsedTime", &cu.elapsed},
                 {"cuEventDestroy_v2", &cu.event_destroy},
                 {"cuStreamCreate", &cu.stream_create},
                 {"cuStreamDestroy_v2", &cu.stream_destroy},
                 {"cuStreamBeginCapture_v2", &cu.begin_capture},
                 {"cuStreamEndCapture", &cu.end_capture},
                 {"cuGraphInstantiateWithFlags", &cu.instantiate},
                 {"cuGraphLaunch", &cu.graph_launch},
                 {"cuGraphDestroy", &cu.graph_destroy},
                 {"cuGraphExecDestroy", &cu.exec_destroy}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *symbol = dlsym(lib, names[i].name);
        if (symbol == NULL) return false;
        memcpy(names[i].to, &symbol, sizeof symbol);
    }
    return true;
}

bool gpu_begin(void) {
    void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL), *context;
    int n = 0, device;
    if (lib == NULL || !find_functions(lib) || cu.init(0) != 0 || cu.device_count(&n) != 0 || n == 0) {
        printf("1..1\nok 1 # SKIP there is no CUDA device here\n");
        return false;
    }
    must("cuDeviceGet", cu.device_get(&device, 0));
    must("cuDevicePrimaryCtxRetain", cu.retain(&context, device));
    must("cuCtxSetCurrent", cu.set_current(context));
    mr_cuda_image image;
    for (size_t i = 0; n_modules < MAX_MODULES && (image = mr_cuda_image_get(i)).data != NULL; i++) {
        int status = cu.load(&modules[n_modules], image.data);
        if (status == NO_BINARY && image.only != 0) continue;
        must("cuModuleLoadData", status);
        n_modules++;
    }
    if (n_modules == 0) fail_test("this program was built without the kernels");
    return true;
}

static void *find_function(const char *name) {
    void *function = NULL;
    for (size_t i = 0; i < n_modules && function == NULL; i++) {
        if (cu.function(&function, modules[i], name) != 0) function = NULL;
    }
    return function;
}

bool gpu_has(const char *kernel) {
    return find_function(kernel) != NULL;
}

void *gpu_context(void *context) {
    void *before = NULL;
    must("cuCtxGetCurrent", cu.get_current(&before));
    must("cuCtxSetCurrent", cu.set_current(context));
    return before;
}

uint32_t gpu_processors(void) {
    enum { PROCESSORS = 16 };
    int n = 0;
    must("cuDeviceGetAttribute", cu.device_attribute(&n, PROCESSORS, 0));
    return n > 0 ? (uint32_t)n : 1;
}

void gpu_describe(char *text, size_t n) {
    must("cuDeviceGetName", cu.device_name(text, (int)n, 0));
}

void gpu_write(void *to, const void *from, size_t n) {
    if (n > 0) must("cuMemcpyHtoD", cu.to_device((uint64_t)(uintptr_t)to, from, n));
}

void *gpu_put(const void *data, size_t n) {
    if (n_buffers == MAX_BUFFERS) fail_test("too many buffers");
    must("cuMemAlloc", cu.alloc(&buffers[n_buffers], n > 0 ? n : 1));
    void *at = (void *)(uintptr_t)buffers[n_buffers++];
    if (data != NULL) gpu_write(at, data, n);
    return at;
}

void gpu_get(void *to, const void *from, size_t n) {
    must("a kernel", cu.synchronize());
    must("cuMemcpyDtoH", cu.to_host(to, (uint64_t)(uintptr_t)from, n));
}

void gpu_forget(void) {
    must("a kernel", cu.synchronize());
    while (n_buffers > 0) must("cuMemFree", cu.release(buffers[--n_buffers]));
}

void gpu_launch(mr_k_launch l, const void *args) {
    enum { MAX_DYNAMIC_SHARED = 8 };
    if (l.grid[0] == 0 || l.grid[1] == 0 || l.grid[2] == 0) return;
    void *function = find_function(l.name), *params[1];
    if (function == NULL) fail_test("there is no kernel %s", l.name);
    if (l.shared > 48 << 10) must(l.name, cu.set_attribute(function, MAX_DYNAMIC_SHARED, (int)l.shared));
    memcpy(params, &(const void *){args}, sizeof args);
    must(l.name, cu.launch(function, l.grid[0], l.grid[1], l.grid[2], l.block, 1, 1, l.shared, stream, params, NULL));
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* `again` rounds of body(arg) as a graph for a new stream: single launches take longer than a small kernel. */
static void *record(void (*body)(void *arg), void *arg, int again) {
    enum { RELAXED = 2 };
    void *graph, *exec;
    must("cuStreamCreate", cu.stream_create(&stream, 0));
    must("cuStreamBeginCapture", cu.begin_capture(stream, RELAXED));
    for (int i = 0; i < again; i++) body(arg);
    must("cuStreamEndCapture", cu.end_capture(stream, &graph));
    must("cuGraphInstantiate", cu.instantiate(&exec, graph, 0));
    must("cuGraphDestroy", cu.graph_destroy(graph));
    return exec;
}

float gpu_time(void (*body)(void *arg), void *arg, int again) {
    float times[9];
    void *begin, *end;
    must("cuEventCreate", cu.event_create(&begin, 0));
    must("cuEventCreate", cu.event_create(&end, 0));
    body(arg);
    must("a kernel", cu.synchronize());
    void *exec = record(body, arg, again);
    for (int i = 0; i < 9; i++) {
        must("cuEventRecord", cu.event_record(begin, stream));
        must("cuGraphLaunch", cu.graph_launch(exec, stream));
        must("cuEventRecord", cu.event_record(end, stream));
        must("cuEventSynchronize", cu.event_synchronize(end));
        must("cuEventElapsedTime", cu.elapsed(&times[i], begin, end));
    }
    must("cuGraphExecDestroy", cu.exec_destroy(exec));
    must("cuStreamDestroy", cu.stream_destroy(stream));
    must("cuEventDestroy", cu.event_destroy(begin));
    must("cuEventDestroy", cu.event_destroy(end));
    stream = NULL;
    qsort(times, 9, sizeof times[0], by_size);
    return times[4];
}

void run_test(const char *name, void (*test)(void)) {
    test();
    gpu_forget();
    printf("ok %d %s\n", ++n_tests, name);
    fflush(stdout);
}

int end_tests(void) {
    printf("1..%d\n", n_tests);
    return 0;
}

void expect_near(const char *what, const float *a, const float *b, size_t n, double tolerance) {
    double largest = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (isfinite(b[i]) && fabs((double)b[i]) > largest) largest = fabs((double)b[i]);
    }
    for (size_t i = 0; i < n; i++) {
        if (isnan(b[i]) && isnan(a[i])) continue;
        if (a[i] == b[i] || fabs((double)a[i] - (double)b[i]) <= tolerance * largest) continue;
        fail_test("%s: number %zu of %zu is %g, not %g (largest: %g)", what, i, n, (double)a[i], (double)b[i], largest);
    }
}

static uint64_t random_state = 88172645463325252u;

uint32_t random_bits(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 16);
}

float random_float(void) {
    return (float)(int32_t)random_bits() * 0x1p-31f;
}

float *random_floats(size_t n, float size) {
    float *x = must_alloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = random_float() * size;
    return x;
}

void *must_alloc(size_t n) {
    void *p = aligned_alloc(64, (n + 127) / 64 * 64);
    if (p == NULL) fail_test("no memory");
    return memset(p, 0, (n + 127) / 64 * 64);
}
