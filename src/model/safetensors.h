/* Safetensors files (https://github.com/huggingface/safetensors, "Format"), single or sharded, mapped read-only.
 *
 * The header is checked when a file is opened: its size, each tensor's type, shape and byte range. */
#ifndef MR_MODEL_SAFETENSORS_H
#define MR_MODEL_SAFETENSORS_H

#include "base/error.h"
#include "compute/dtype.h"

#include <stddef.h>
#include <stdint.h>

typedef struct mr_safetensors mr_safetensors;

typedef enum mr_st_dtype {
    MR_ST_F32,
    MR_ST_F16,
    MR_ST_BF16,
    MR_ST_F64,
    MR_ST_F8_E4M3,
    MR_ST_F8_E5M2,
    MR_ST_I64,
    MR_ST_I32,
    MR_ST_I16,
    MR_ST_I8,
    MR_ST_U8,
    MR_ST_BOOL
} mr_st_dtype;

enum { MR_ST_MAX_DIMS = 8 };

/* A tensor in row-major order: shape[n_dims - 1] is the fastest dimension. */
typedef struct mr_st_tensor {
    const char *name;
    mr_st_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[MR_ST_MAX_DIMS];
    const uint8_t *data; /* in the mapping; not always aligned */
    size_t n_bytes;
} mr_st_tensor;

/* Opens model.safetensors of a folder, or all files that its model.safetensors.index.json names. */
mr_status mr_safetensors_open_folder(mr_safetensors **st, const char *folder, mr_error *err);

/* Opens one file. */
mr_status mr_safetensors_open_file(mr_safetensors **st, const char *path, mr_error *err);
void mr_safetensors_close(mr_safetensors *st);

size_t mr_safetensors_n(const mr_safetensors *st);
const mr_st_tensor *mr_safetensors_at(const mr_safetensors *st, size_t i);
const mr_st_tensor *mr_safetensors_find(const mr_safetensors *st, const char *name);

/* Gives the pages of n bytes of a mapping back to the kernel; they are read from the file again when touched. Bytes of
 * no mapping are ignored. */
void mr_safetensors_drop_pages(const mr_safetensors *st, const uint8_t *data, size_t n);

/* "BF16" */
const char *mr_st_dtype_name(mr_st_dtype dtype);

#endif
