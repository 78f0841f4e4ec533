/* The CUDA back end: the device, its memory, and the steps that are recorded as graphs. */
#define MR_LOG_TARGET "mistral_runner::compute"
#include "compute/backend_cuda.h"

#include "base/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mr_cuda_note(mr_cuda_backend *b, int result, const char *call) {
    if (b->error.status != MR_OK) return;
    mr_cuda_fail(b->driver, result, call, &b->error);
    mr_fail_prefix(&b->error, "%s", b->base.name);
}

/* The context is the thread's that calls; loading and computing are different threads. */
static void make_current(mr_cuda_backend *b) {
    int result = b->driver->cuCtxSetCurrent(b->context);
    if (result != MR_CU_SUCCESS) mr_cuda_note(b, result, "cuCtxSetCurrent");
}

mr_cu_context *mr_cuda_enter(mr_cuda_backend *b) {
    mr_cu_context *before = NULL;
    if (b->driver->cuCtxGetCurrent(&before) != MR_CU_SUCCESS) before = NULL;
    make_current(b);
    return before;
}

void mr_cuda_leave(mr_cuda_backend *b, mr_cu_context *before) {
    if (before != b->context) b->driver->cuCtxSetCurrent(before);
}

static mr_status fail(mr_cuda_backend *b, int result, const char *call, mr_error *err) {
    mr_cuda_fail(b->driver, result, call, err);
    return mr_fail_prefix(err, "%s", b->base.name);
}

/* ---- memory
 * ----------------------------------------------------------------------------------------------------------- */

static void memory(mr_backend *backend, size_t *n_total, size_t *n_free) {
    mr_cuda_backend *b = mr_cuda(backend);
    mr_cu_context *before = mr_cuda_enter(b);
    *n_total = *n_free = 0;
    if (b->driver->cuMemGetInfo_v2(n_free, n_total) != MR_CU_SUCCESS) *n_total = *n_free = 0;
    mr_cuda_leave(b, before);
}

static double mib(size_t n_bytes) {
    return (double)n_bytes / (1 << 20);
}

static mr_status alloc(mr_backend *backend, size_t n_bytes, const char *what, void **address, mr_error *err) {
    mr_cuda_backend *b = mr_cuda(backend);
    mr_cu_address device = 0;
    size_t n_total, n_free;
    *address = NULL;
    mr_cu_context *before = mr_cuda_enter(b);
    int result = b->driver->cuMemAlloc_v2(&device, n_bytes > 0 ? n_bytes : 1);
    mr_cuda_leave(b, before);
    if (result == MR_CU_SUCCESS) {
        *address = mr_cuda_pointer(device);
        return MR_OK;
    }
    if (result != MR_CU_OUT_OF_MEMORY) return fail(b, result, "cuMemAlloc", err);
    memory(backend, &n_total, &n_free);
    return mr_fail(
        err, MR_ERR_NOMEM,
        "%s has no %.1f MiB for %s: %.1f of %.1f MiB are free; lower context_size or max_concurrent, choose a "
        "smaller quantization, or the device cpu",
        b->base.name, mib(n_bytes), what, mib(n_free), mib(n_total));
}

static void release(mr_backend *backend, void *address) {
    mr_cuda_backend *b = mr_cuda(backend);
    if (address == NULL) return;
    mr_cu_context *before = mr_cuda_enter(b);
    b->driver->cuMemFree_v2((mr_cu_address)(uintptr_t)address);
    mr_cuda_leave(b, before);
}

static mr_status host_alloc(mr_backend *backend, size_t n_bytes, void **address, mr_error *err) {
    mr_cuda_backend *b = mr_cuda(backend);
    mr_cu_context *before = mr_cuda_enter(b);
    int result = b->driver->cuMemAllocHost_v2(address, n_bytes);
    mr_cuda_leave(b, before);
    return result == MR_CU_SUCCESS ? MR_OK : fail(b, result, "cuMemAllocHost", err);
}

static void host_release(mr_backend *backend, void *address) {
    mr_cuda_backend *b = mr_cuda(backend);
    if (address == NULL) return;
    mr_cu_context *before = mr_cuda_enter(b);
    b->driver->cuMemFreeHost(address);
    mr_cuda_leave(b, before);
}

static void send(mr_backend *backend, void *to, const void *from, size_t n_bytes) {
    mr_cuda_backend *b = mr_cuda(backend);
    make_current(b);
    mr_cuda_begin(b);
    int result = b->driver->cuMemcpyHtoDAsync_v2((mr_cu_address)(uintptr_t)to, from, n_bytes, b->stream);
    if (result != MR_CU_SUCCESS) mr_cuda_note(b, result, "cuMemcpyHtoDAsync");
}

static void fetch(mr_backend *backend, void *to, const void *from, size_t n_bytes) {
    mr_cuda_backend *b = mr_cuda(backend);
    make_current(b);
    mr_cuda_begin(b);
    int result = b->driver->cuMemcpyDtoHAsync_v2(to, (mr_cu_address)(uintptr_t)from, n_bytes, b->stream);
    if (result != MR_CU_SUCCESS) mr_cuda_note(b, result, "cuMemcpyDtoHAsync");
}

static void copy(mr_backend *backend, void *to, const void *from, size_t n_bytes) {
    mr_cuda_backend *b = mr_cuda(backend);
    make_current(b);
    mr_cuda_begin(b);
    int result = b->driver->cuMemcpyDtoDAsync_v2((mr_cu_address)(uintptr_t)to, (mr_cu_address)(uintptr_t)from, n_bytes,
                                                 b->stream);
    if (result != MR_CU_SUCCESS) mr_cuda_note(b, result, "cuMemcpyDtoDAsync");
}

static mr_status sync_stream(mr_backend *backend, mr_error *err) {
    mr_cuda_backend *b = mr_cuda(backend);
    make_current(b);
    mr_cuda_begin(b);
    int result = b->driver->cuStreamSynchronize(b->stream);
    if (result != MR_CU_SUCCESS) mr_cuda_note(b, result, "cuStreamSynchronize");
    mr_error error = b->error;
    b->error = (mr_error){0};
    return error.status == MR_OK ? MR_OK : mr_fail(err, error.status, "%s", error.text);
}

static mr_status upload(mr_backend *backend, void *to, const void *from, size_t n_bytes, mr_error *err) {
    mr_cuda_backend *b = mr_cuda(backend);
    mr_cu_context *before = mr_cuda_enter(b);
    send(backend, to, from, n_bytes);
    mr_status status = sync_stream(backend, err);
    mr_cuda_leave(b, before);
    return status;
}

/* ---- kernels
 * ---------------------------------------------------------------------------------------------------------- */

static uint32_t hash_of(const char *name) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *name != '\0'; name++) hash = (hash ^ (uint8_t)*name) * 16777619u;
    return hash;
}

/* The kernel of that name; NULL after noting the error. */
static mr_cuda_function *find_function(mr_cuda_backend *b, const char *name) {
    size_t at = hash_of(name) % MR_CUDA_FUNCTIONS;
    for (; b->functions[at].function != NULL; at = (at + 1) % MR_CUDA_FUNCTIONS) {
        if (strcmp(b->functions[at].name, name) == 0) return &b->functions[at];
    }
    mr_cu_function *function = NULL;
    int result = MR_CU_SUCCESS;
    for (size_t i = 0; i < b->n_modules && function == NULL; i++) {
        result = b->driver->cuModuleGetFunction(&function, b->modules[i], name);
        if (result != MR_CU_SUCCESS) function = NULL;
    }
    if (function == NULL || b->n_functions == MR_CUDA_FUNCTIONS - 1) {
        char call[96];
        snprintf(call, sizeof call, "cuModuleGetFunction of %s", name);
        mr_cuda_note(b, result, call);
        return NULL;
    }
    mr_cuda_function *f = &b->functions[at];
    snprintf(f->name, sizeof f->name, "%s", name);
    f->function = function;
    f->shared = 48 << 10; /* what every kernel may have */
    b->n_functions++;
    return f;
}

void mr_cuda_launch(mr_cuda_backend *b, const mr_k_launch *l, const void *args) {
    char call[96];
    if (b->error.status != MR_OK || l->grid[0] == 0 || l->grid[1] == 0 || l->grid[2] == 0) return;
    mr_cuda_function *f = find_function(b, l->name);
    if (f == NULL) return;
    if (l->shared > f->shared) {
        int result = b->driver->cuFuncSetAttribute(f->function, MR_CU_FUNCTION_SHARED, (int)l->shared);
        snprintf(call, sizeof call, "cuFuncSetAttribute of %s to %u bytes", l->name, l->shared);
        if (result != MR_CU_SUCCESS) {
            mr_cuda_note(b, result, call);
            return;
        }
        f->shared = l->shared;
    }
    void *arguments[] = {(void *)(uintptr_t)args};
    int result = b->driver->cuLaunchKernel(f->function, l->grid[0], l->grid[1], l->grid[2], l->block, 1, 1, l->shared,
                                           b->stream, arguments, NULL);
    snprintf(call, sizeof call, "cuLaunchKernel of %s", l->name);
    if (result != MR_CU_SUCCESS) mr_cuda_note(b, result, call);
}

/* ---- steps
 * ------------------------------------------------------------------------------------------------------------ */

static void drop_step(mr_cuda_backend *b, mr_cuda_step *step) {
    if (step->exec != NULL) b->driver->cuGraphExecDestroy(step->exec);
    *step = (mr_cuda_step){0};
}

static mr_cuda_step *find_step(mr_cuda_backend *b, uint64_t key) {
    mr_cuda_step *oldest = &b->steps[0];
    for (size_t i = 0; i < MR_CUDA_GRAPHS; i++) {
        if (b->steps[i].key == key) return &b->steps[i];
        if (b->steps[i].used < oldest->used) oldest = &b->steps[i];
    }
    return oldest;
}

/* Graphs save time, but take memory of the device: without them, steps are issued one by one. Nothing of the step that
 * the failing call was for has run; where the device itself has failed, the next call tells so. */
static void give_up_graphs(mr_cuda_backend *b, int result, const char *call) {
    mr_error err = {0};
    mr_cuda_fail(b->driver, result, call, &err);
    MR_WARN("%s: steps are no longer recorded as CUDA graphs: %s", b->base.name, err.text);
    b->no_graphs = true;
    for (size_t i = 0; i < MR_CUDA_GRAPHS; i++) drop_step(b, &b->steps[i]);
}

/* A step is recorded when it comes for the second time: what comes once is not worth it, and by then every kernel has
 * been loaded, which a capture does not allow. */
static mr_step step_begin(mr_backend *backend, uint64_t key) {
    mr_cuda_backend *b = mr_cuda(backend);
    make_current(b);
    mr_cuda_begin(b);
    if (key == 0 || b->error.status != MR_OK) return MR_STEP_RUN;
    mr_cuda_step *step = find_step(b, key);
    bool known = step->key == key;
    if (!known) drop_step(b, step);
    step->key = key;
    step->used = ++b->now;
    if (step->exec != NULL) {
        int result = b->driver->cuGraphLaunch(step->exec, b->stream);
        if (result == MR_CU_SUCCESS) return MR_STEP_REPLAYED;
        give_up_graphs(b, result, "cuGraphLaunch");
    }
    if (known && !b->no_graphs && b->driver->cuStreamBeginCapture_v2(b->stream, MR_CU_CAPTURE_RELAXED) == MR_CU_SUCCESS)
        b->recording = step;
    return MR_STEP_RUN;
}

static mr_step step_end(mr_backend *backend) {
    mr_cuda_backend *b = mr_cuda(backend);
    mr_cuda_step *step = b->recording;
    mr_cu_graph *graph = NULL;
    mr_cuda_begin(b);
    b->recording = NULL;
    if (step == NULL) return MR_STEP_DONE;
    int result = b->driver->cuStreamEndCapture(b->stream, &graph);
    bool failed = b->error.status != MR_OK; /* an operation, which sync tells */
    if (result == MR_CU_SUCCESS && !failed) result = b->driver->cuGraphInstantiateWithFlags(&step->exec, graph, 0);
    if (graph != NULL) b->driver->cuGraphDestroy(graph);
    if (result == MR_CU_SUCCESS && !failed) result = b->driver->cuGraphLaunch(step->exec, b->stream);
    if (result == MR_CU_SUCCESS || failed) return MR_STEP_DONE;
    give_up_graphs(b, result, "making a graph of a step");
    return MR_STEP_RUN;
}

static void forget(mr_backend *backend) {
    mr_cuda_backend *b = mr_cuda(backend);
    mr_cu_context *before = mr_cuda_enter(b);
    b->driver->cuStreamSynchronize(b->stream);
    for (size_t i = 0; i < MR_CUDA_GRAPHS; i++) drop_step(b, &b->steps[i]);
    mr_cuda_leave(b, before);
}

/* Inputs of matrices, and what attention and the choice of the best need. */
static mr_status reserve(mr_backend *backend, size_t n_rows, size_t n_in, mr_error *err) {
    mr_cuda_backend *b = mr_cuda(backend);
    for (int kind = 0; kind < MR_K_N_ACTS; kind++) {
        bool blocks = kind >= MR_K_ACTS_Q8_32;
        size_t n_bytes = n_rows * mr_k_acts_stride(kind, blocks ? (n_in + 255) / 256 * 256 : n_in);
        if (n_bytes <= b->acts_bytes[kind]) continue;
        forget(backend);
        release(backend, b->acts[kind]);
        b->acts[kind] = NULL;
        b->acts_bytes[kind] = 0;
        mr_status status = alloc(backend, n_bytes, "the inputs of products", &b->acts[kind], err);
        if (status != MR_OK) return status;
        b->acts_bytes[kind] = n_bytes;
    }
    return MR_OK;
}

/* ---- opening and closing
 * ---------------------------------------------------------------------------------------------- */

/* The thread gets back what it had, but not a context that ended with this back end. */
static void give_back_context(mr_cuda_backend *b, mr_cu_context *before) {
    unsigned flags;
    int active = 0;
    if (before == b->context && b->driver->cuDevicePrimaryCtxGetState(b->device, &flags, &active) == MR_CU_SUCCESS &&
        active == 0)
        before = NULL;
    b->driver->cuCtxSetCurrent(before);
}

static void close_backend(mr_backend *backend) {
    mr_cuda_backend *b = mr_cuda(backend);
    if (b->context != NULL) {
        mr_cu_context *before = mr_cuda_enter(b);
        if (b->stream != NULL) forget(backend);
        for (int kind = 0; kind < MR_K_N_ACTS; kind++) release(backend, b->acts[kind]);
        release(backend, b->partial);
        release(backend, b->best_parts);
        release(backend, b->lists);
        for (size_t i = 0; i < b->n_modules; i++) b->driver->cuModuleUnload(b->modules[i]);
        if (b->stream != NULL) b->driver->cuStreamDestroy_v2(b->stream);
        b->driver->cuDevicePrimaryCtxRelease_v2(b->device);
        give_back_context(b, before);
    }
    free(b);
}

enum { LEAST_CAPABILITY = 8 }; /* cmake/cuda.cmake */

/* A module for another device alone does not load, and is left out. */
static mr_status load_modules(mr_cuda_backend *b, mr_error *err) {
    mr_cuda_image image;
    for (size_t i = 0; (image = mr_cuda_image_get(i)).data != NULL; i++) {
        if (b->n_modules == MR_CUDA_MODULES)
            return mr_fail(err, MR_ERR_INTERNAL, "the kernels are more than %d modules", MR_CUDA_MODULES);
        int result = b->driver->cuModuleLoadData(&b->modules[b->n_modules], image.data);
        if (result == MR_CU_NO_BINARY && image.only != 0) continue;
        if (result != MR_CU_SUCCESS) {
            int version = 0;
            fail(b, result, "cuModuleLoadData", err);
            b->driver->cuDriverGetVersion(&version);
            return mr_fail_prefix(
                err,
                "this build's kernels do not load; the driver is one for CUDA %d.%d, and has to be at "
                "least as new as the toolkit of the build",
                version / 1000, version % 1000 / 10);
        }
        b->n_modules++;
        if (image.only == 90) b->wgmma = true;
    }
    return MR_OK;
}

/* What the choice of tokens needs. */
static mr_status alloc_choice(mr_cuda_backend *b, mr_error *err) {
    void *address = NULL;
    mr_status status =
        alloc(&b->base, MR_CUDA_BEST_ROWS * MR_K_ARGMAX_PARTS * sizeof(uint64_t), "the best of rows", &address, err);
    b->best_parts = address;
    if (status != MR_OK) return status;
    size_t of_row = sizeof *b->row_best + sizeof *b->row_largest;
    size_t n_bytes = (MR_CUDA_LISTS + MR_CUDA_JOINED) * sizeof *b->lists + MR_CUDA_BEST_ROWS * of_row;
    status = alloc(&b->base, n_bytes, "the candidates of rows", &address, err);
    b->lists = address;
    if (status != MR_OK) return status;
    b->joined = b->lists + MR_CUDA_LISTS;
    b->row_best = (int32_t *)(b->joined + MR_CUDA_JOINED);
    b->row_largest = (float *)(b->row_best + MR_CUDA_BEST_ROWS);
    return MR_OK;
}

static mr_status check_capability(mr_cuda_backend *b, mr_error *err) {
    int major = 0, minor = 0;
    int result = b->driver->cuDeviceGetAttribute(&major, MR_CU_ATTRIBUTE_MAJOR, b->device);
    if (result == MR_CU_SUCCESS) result = b->driver->cuDeviceGetAttribute(&minor, MR_CU_ATTRIBUTE_MINOR, b->device);
    if (result != MR_CU_SUCCESS) return fail(b, result, "cuDeviceGetAttribute", err);
    if (major >= LEAST_CAPABILITY) return MR_OK;
    return mr_fail(err, MR_ERR_UNSUPPORTED, "%s has compute capability %d.%d; the kernels need %d.0 or higher (Ampere)",
                   b->base.name, major, minor, LEAST_CAPABILITY);
}

static mr_status open_device(mr_cuda_backend *b, int number, mr_error *err) {
    const mr_cuda_driver *d = b->driver;
    char name[96] = "";
    int n_devices = 0, n_sm = 0;
    mr_cu_context *context = NULL;
    snprintf(b->base.name, sizeof b->base.name, "cuda:%d", number);
    int result = d->cuDeviceGetCount(&n_devices);
    if (result != MR_CU_SUCCESS) return fail(b, result, "cuDeviceGetCount", err);
    if (number < 0 || number >= n_devices)
        return mr_fail(err, MR_ERR_NOT_FOUND, "there is no GPU number %d; the driver finds %d", number, n_devices);
    if ((result = d->cuDeviceGet(&b->device, number)) != MR_CU_SUCCESS) return fail(b, result, "cuDeviceGet", err);
    if (d->cuDeviceGetName(name, (int)sizeof name, b->device) == MR_CU_SUCCESS)
        snprintf(b->base.name, sizeof b->base.name, "cuda:%d (%s)", number, name);
    if ((result = d->cuDeviceGetAttribute(&n_sm, MR_CU_ATTRIBUTE_PROCESSORS, b->device)) != MR_CU_SUCCESS)
        return fail(b, result, "cuDeviceGetAttribute", err);
    b->n_sm = n_sm > 0 ? (uint32_t)n_sm : 1;
    mr_status status = check_capability(b, err);
    if (status != MR_OK) return status;
    if ((result = d->cuDevicePrimaryCtxRetain(&context, b->device)) != MR_CU_SUCCESS)
        return fail(b, result, "cuDevicePrimaryCtxRetain", err);
    b->context = context;
    make_current(b);
    if ((result = d->cuStreamCreate(&b->stream, MR_CU_STREAM_NON_BLOCKING)) != MR_CU_SUCCESS)
        return fail(b, result, "cuStreamCreate", err);
    status = load_modules(b, err);
    if (status == MR_OK) status = alloc_choice(b, err);
    if (status != MR_OK) return status;
    void *address = NULL;
    /* Splits of attention are made until the processors are busy: never more parts than this. */
    b->partial_values = (size_t)2 * MR_K_DECODE_HEADS * (2 * b->n_sm + 64) * (1024 + 2);
    status = alloc(&b->base, b->partial_values * sizeof(float), "parts of attention", &address, err);
    b->partial = address;
    return status;
}

static mr_backend_ops operations = {.close = close_backend,
                                    .alloc = alloc,
                                    .release = release,
                                    .memory = memory,
                                    .host_alloc = host_alloc,
                                    .host_release = host_release,
                                    .upload = upload,
                                    .send = send,
                                    .fetch = fetch,
                                    .copy = copy,
                                    .sync = sync_stream,
                                    .step_begin = step_begin,
                                    .step_end = step_end,
                                    .forget = forget,
                                    .reserve = reserve,
                                    .packed_tables = true};

static void fill_operations(void) {
    mr_cuda_set_weights(&operations);
    mr_cuda_set_products(&operations);
    mr_cuda_set_ops(&operations);
}

mr_status mr_backend_cuda_open(mr_backend **backend, int device, mr_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const mr_cuda_driver *driver;
    *backend = NULL;
    if (mr_cuda_image_get(0).data == NULL)
        return mr_fail(err, MR_ERR_UNSUPPORTED, "this build has no CUDA kernels; build it with make CUDA=1");
    mr_status status = mr_cuda_driver_get(&driver, err);
    if (status != MR_OK) return status;
    pthread_once(&once, fill_operations);
    mr_cuda_backend *b = calloc(1, sizeof *b);
    if (b == NULL) return mr_fail_nomem(err, sizeof *b, "a back end");
    b->base.ops = &operations;
    b->driver = driver;
    mr_cu_context *before = NULL;
    driver->cuCtxGetCurrent(&before);
    status = open_device(b, device, err);
    if (status == MR_OK) mr_cuda_leave(b, before);
    if (status == MR_OK && b->error.status != MR_OK) status = mr_fail(err, b->error.status, "%s", b->error.text);
    if (status != MR_OK) {
        close_backend(&b->base);
        driver->cuCtxSetCurrent(before);
        return status;
    }
    *backend = &b->base;
    return MR_OK;
}
