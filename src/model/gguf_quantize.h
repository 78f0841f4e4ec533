/* A model written anew as one GGUF file, its matrices in other tensor types. */
#ifndef MR_MODEL_GGUF_QUANTIZE_H
#define MR_MODEL_GGUF_QUANTIZE_H

#include "base/cancel.h"
#include "base/error.h"
#include "model/gguf.h"
#include "model/gguf_write.h"
#include "model/model.h"
#include "model/quant_mix.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct mr_gguf_quantize_options {
    const mr_quant_mix *mix;
    bool again;              /* quantize also what is quantized already; an error otherwise */
    int n_threads;           /* 0 = physical cores */
    mr_progress_fn progress; /* may be NULL; returning false cancels */
    void *progress_ctx;
    mr_cancel *cancel; /* may be NULL */
    /* Puts metadata that `model` lacks (the tokenizer of a folder); may be NULL. */
    mr_status (*put_more)(void *ctx, mr_gguf_writer *writer, mr_error *err);
    void *put_ctx;
} mr_gguf_quantize_options;

/* Writes `model` to `path` in the types of the mix. The metadata are carried over, but for those of the split and of
 * the type; vectors, norms and routers become F32. What other readers of GGUF do not know is put into their form: the
 * experts of a layer become one tensor, and queries and keys whose rotated pairs are halves apart (`rope.halves`) get
 * their rows in the order of neighbours. About 16 MiB of rows are held at a time. `path` appears when it is complete
 * and may be the file that is read. *n_bytes (may be NULL) is what the tensors take.
 *
 * Errors: MR_ERR_UNSUPPORTED (an unknown architecture, a tensor that cannot be read or that is quantized already),
 * MR_ERR_INVALID (values that are not finite, a model that contradicts itself), MR_ERR_IO, MR_ERR_CANCELLED,
 * MR_ERR_NOMEM. */
mr_status mr_gguf_quantize(const mr_gguf *model, const char *path, const mr_gguf_quantize_options *options,
                           size_t *n_bytes, mr_error *err);

#endif
