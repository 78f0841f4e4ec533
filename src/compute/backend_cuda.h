/* The parts of the CUDA back end (backend.h) over the kernels (cuda/kernels.h). */
#ifndef MR_COMPUTE_BACKEND_CUDA_H
#define MR_COMPUTE_BACKEND_CUDA_H

#include "compute/backend.h"
#include "compute/cuda/driver.h"
#include "compute/cuda/kernels.h"

enum { MR_CUDA_MODULES = 32, MR_CUDA_FUNCTIONS = 512, MR_CUDA_GRAPHS = 64 };

/* A kernel that has been looked up. */
typedef struct mr_cuda_function {
    char name[48];
    mr_cu_function *function;
    uint32_t shared; /* most dynamic shared memory that it was allowed */
} mr_cuda_function;

/* A step that has come before; exec NULL: once, and not recorded. */
typedef struct mr_cuda_step {
    uint64_t key, used;
    mr_cu_graph_exec *exec;
} mr_cuda_step;

/* Rows that are still to be made where a product reads them: a norm, or a gated activation. */
typedef enum mr_cuda_pending { MR_CUDA_PENDING_NONE, MR_CUDA_PENDING_NORM, MR_CUDA_PENDING_GLU } mr_cuda_pending;

typedef struct mr_cuda_backend {
    mr_backend base;
    const mr_cuda_driver *driver;
    int device;
    uint32_t n_sm;
    mr_cu_context *context;
    mr_cu_stream *stream;
    mr_cu_module *modules[MR_CUDA_MODULES];
    size_t n_modules;
    bool wgmma;                                    /* the kernels for compute capability 9.0 are loaded */
    mr_cuda_function functions[MR_CUDA_FUNCTIONS]; /* a hash table */
    size_t n_functions;

    mr_cuda_step steps[MR_CUDA_GRAPHS];
    uint64_t now;
    mr_cuda_step *recording; /* the step that is being captured */
    bool no_graphs;          /* the driver has failed to make one: steps are not recorded any more */

    /* Inputs of matrices in each form, and which rows they were made of. */
    void *acts[MR_K_N_ACTS];
    size_t acts_bytes[MR_K_N_ACTS];
    const float *made_of; /* NULL: nothing that may be used again */
    size_t made_ld, made_rows, made_n;
    bool made[MR_K_N_ACTS];

    mr_cuda_pending pending;
    mr_norm_args norm;
    mr_activate_args glu;

    float *partial; /* of attention */
    size_t partial_values;
    uint64_t *best_parts;
    /* Of candidates: lists of parts of rows, and once more of those; the largest logit of each row. */
    mr_candidates *lists, *joined;
    int32_t *row_best;
    float *row_largest;
    mr_error error; /* the first since the last sync; status MR_OK: none */
} mr_cuda_backend;

static inline mr_cuda_backend *mr_cuda(mr_backend *b) {
    return (mr_cuda_backend *)b;
}

/* A packed matrix on the device. */
typedef struct mr_cuda_matrix {
    mr_cu_address address;
    size_t n_bytes;
    mr_cuda_layout layout;
    int acts;
    bool borrowed; /* the values are a stack's */
} mr_cuda_matrix;

static inline const mr_cuda_matrix *mr_cuda_matrix_of(const mr_matrix *w) {
    return mr_matrix_values(w);
}

/* The values of a stack, its matrices one behind the other. */
typedef struct mr_cuda_stack {
    mr_cu_address address;
    size_t matrix_bytes;
    mr_cu_address numbers; /* int32 i modulo n, for n * MR_CUDA_STACK_TOKENS slots */
} mr_cuda_stack;

enum {
    MR_CUDA_STACK_TOKENS = 512,
    MR_CUDA_BEST_ROWS = 64,
    MR_CUDA_LISTS = 1024, /* of candidates: those of a row of 2^24 logits, or of many rows */
    MR_CUDA_JOINED = 64,
};

static inline void *mr_cuda_pointer(mr_cu_address address) {
    return (void *)(uintptr_t)address;
}

/* Makes the context current for operations that the host's threads call, and gives the thread back what it had: others
 * in the process may use CUDA from it. Operations of a step belong to the engine's own thread and leave theirs. */
mr_cu_context *mr_cuda_enter(mr_cuda_backend *b);
void mr_cuda_leave(mr_cuda_backend *b, mr_cu_context *before);

/* Notes the failure of a call in b->error unless there is one already. */
void mr_cuda_note(mr_cuda_backend *b, int result, const char *call);

/* Starts a kernel whose argument struct is at `args`. A launch with an empty grid is left out. */
void mr_cuda_launch(mr_cuda_backend *b, const mr_k_launch *launch, const void *args);

/* Begins an operation: makes what is pending, forgets what inputs were made of. Products do it themselves. */
void mr_cuda_begin(mr_cuda_backend *b);
void mr_cuda_flush(mr_cuda_backend *b); /* the first half alone */

/* The operations of backend_cuda_products.c and backend_cuda_ops.c. */
void mr_cuda_set_products(mr_backend_ops *ops);
void mr_cuda_set_ops(mr_backend_ops *ops);

/* backend_cuda_products.c: weights. */
void mr_cuda_set_weights(mr_backend_ops *ops);

#endif
