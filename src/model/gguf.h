/* GGUF model files, versions 2 and 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), mapped read-only.
 *
 * Everything in the header is checked when the file is opened: counts against the file's size, string and array bounds,
 * unique keys and tensor names, tensor shapes against their byte ranges. What the accessors return can be trusted. */
#ifndef MR_MODEL_GGUF_H
#define MR_MODEL_GGUF_H

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum mr_gguf_type {
    MR_GGUF_UINT8 = 0,
    MR_GGUF_INT8,
    MR_GGUF_UINT16,
    MR_GGUF_INT16,
    MR_GGUF_UINT32,
    MR_GGUF_INT32,
    MR_GGUF_FLOAT32,
    MR_GGUF_BOOL,
    MR_GGUF_STRING,
    MR_GGUF_ARRAY,
    MR_GGUF_UINT64,
    MR_GGUF_INT64,
    MR_GGUF_FLOAT64,
} mr_gguf_type;

enum { MR_GGUF_MAX_DIMS = 4 };

typedef struct mr_gguf mr_gguf;

/* A string of the file: not NUL-terminated, any bytes. */
typedef struct mr_gguf_str {
    const char *data;
    size_t len;
} mr_gguf_str;

/* A metadata value. `data` points at its first byte in the file (little-endian, unaligned); for an array, `elem` is the
 * elements' type, `n` their number and `data` the first element. */
typedef struct mr_gguf_value {
    mr_gguf_str key;
    mr_gguf_type type;
    mr_gguf_type elem;
    uint64_t n;
    const uint8_t *data;
    size_t n_bytes;
} mr_gguf_value;

/* Makes rows [first, first + n) of a tensor that is stored in another form, in the tensor's type; false when stored
 * values are not finite. Threads may call it at the same time. */
typedef bool (*mr_gguf_read_rows)(const void *ctx, uint64_t first, size_t n, uint8_t *out);

/* A tensor. `shape[0]` is the fastest dimension (columns, n_in); dims beyond n_dims are 1. `type` is the ggml type id
 * as stored. `data` is in the mapping and has n_bytes; it is NULL where the rows are made by read(read_ctx, …), which
 * only matrices of assembled models have (tensor_rows.h reads both). */
typedef struct mr_gguf_tensor {
    const char *name; /* NUL-terminated, owned by the mr_gguf */
    uint32_t n_dims;
    uint64_t shape[MR_GGUF_MAX_DIMS];
    uint32_t type;
    const uint8_t *data;
    size_t n_bytes;
    mr_gguf_read_rows read;
    const void *read_ctx;
} mr_gguf_tensor;

/* Opens one model: `paths[0..n_paths)` are its files in order. With one path that ends in -00001-of-0000N.gguf the
 * other parts are found beside it. Metadata is that of the first file; tensors are those of all. The result is freed
 * with mr_gguf_close. Errors name the file and what is wrong at which byte. */
mr_status mr_gguf_open(mr_gguf **gguf, const char *const *paths, size_t n_paths, mr_error *err);

/* Opens a GGUF image in memory, which must outlive the result (fuzzing, the embedded model). */
mr_status mr_gguf_open_memory(mr_gguf **gguf, const void *data, size_t size, mr_error *err);
void mr_gguf_close(mr_gguf *gguf);

/* A model from parts that are not in one GGUF file. */
typedef struct mr_gguf_assembly {
    mr_buf *header;                /* a GGUF image without tensors; taken over (and emptied) on success */
    const mr_gguf_tensor *tensors; /* copied; their data and names belong to the owner */
    size_t n_tensors;
    void *owner; /* freed by free_owner(owner) when the result is closed */
    void (*free_owner)(void *owner);
    void (*drop_pages)(void *owner, const mr_gguf_tensor *tensor); /* may be NULL */
} mr_gguf_assembly;

mr_status mr_gguf_assemble(mr_gguf **gguf, const mr_gguf_assembly *parts, mr_error *err);

size_t mr_gguf_n_values(const mr_gguf *gguf);
const mr_gguf_value *mr_gguf_value_at(const mr_gguf *gguf, size_t i);

/* The value with this key, or NULL. */
const mr_gguf_value *mr_gguf_find(const mr_gguf *gguf, const char *key);

size_t mr_gguf_n_tensors(const mr_gguf *gguf);
const mr_gguf_tensor *mr_gguf_tensor_at(const mr_gguf *gguf, size_t i);
const mr_gguf_tensor *mr_gguf_find_tensor(const mr_gguf *gguf, const char *name);

/* Typed readers: true and *out set when the key exists and its value converts without loss (any integer type for the
 * integer readers, any float type for f32); *out is untouched otherwise. */
bool mr_gguf_u32(const mr_gguf *gguf, const char *key, uint32_t *out);
bool mr_gguf_u64(const mr_gguf *gguf, const char *key, uint64_t *out);
bool mr_gguf_f32(const mr_gguf *gguf, const char *key, float *out);
bool mr_gguf_bool(const mr_gguf *gguf, const char *key, bool *out);
bool mr_gguf_string(const mr_gguf *gguf, const char *key, mr_gguf_str *out);

/* Element i of an array value. The integer reader takes any integer or bool element type, sign-extended. False when the
 * index or the type does not fit. */
bool mr_gguf_array_i64(const mr_gguf_value *array, uint64_t i, int64_t *out);
bool mr_gguf_array_f32(const mr_gguf_value *array, uint64_t i, float *out);

/* Strings have no fixed size, so they are walked: *cursor starts at 0 and is advanced by each call; false at the end
 * (or when it is no array of strings). */
bool mr_gguf_array_next_string(const mr_gguf_value *array, size_t *cursor, mr_gguf_str *out);

/* Gives the pages of a tensor's data back to the kernel; they are read from the file again when touched. */
void mr_gguf_drop_tensor_pages(const mr_gguf *gguf, const mr_gguf_tensor *tensor);

/* Total bytes of the mapped files, and of the tensors in them. */
size_t mr_gguf_file_bytes(const mr_gguf *gguf);
size_t mr_gguf_tensor_bytes(const mr_gguf *gguf);

#endif
