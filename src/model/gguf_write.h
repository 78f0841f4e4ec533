/* Writing GGUF files, version 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
 *
 * Order of calls: mr_gguf_writer_new, the mr_gguf_put_* of the metadata and mr_gguf_put_tensor of all tensors,
 * mr_gguf_begin, the data with mr_gguf_append or mr_gguf_write_at, mr_gguf_finish, mr_gguf_writer_free. The file grows
 * under a temporary name beside `path` and gets its own in mr_gguf_finish; a writer freed before that leaves nothing
 * behind.
 *
 * The put functions return nothing: the first failure is kept (later puts are ignored) and returned by mr_gguf_begin.
 */
#ifndef MR_MODEL_GGUF_WRITE_H
#define MR_MODEL_GGUF_WRITE_H

#include "base/error.h"
#include "model/gguf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_gguf_writer mr_gguf_writer;

/* Errors: MR_ERR_IO when the temporary file cannot be created, MR_ERR_NOMEM. */
mr_status mr_gguf_writer_new(mr_gguf_writer **writer, const char *path, mr_error *err);
void mr_gguf_writer_free(mr_gguf_writer *writer); /* NULL is allowed */

/* One metadata pair; a key may be put once. Keys are 1 to 65535 bytes. What is given is copied. `general.alignment`
 * (uint32, a multiple of 8, power of two) also sets the alignment of the data, which is 32 otherwise. */
void mr_gguf_put_u8(mr_gguf_writer *writer, const char *key, uint8_t value);
void mr_gguf_put_i8(mr_gguf_writer *writer, const char *key, int8_t value);
void mr_gguf_put_u16(mr_gguf_writer *writer, const char *key, uint16_t value);
void mr_gguf_put_i16(mr_gguf_writer *writer, const char *key, int16_t value);
void mr_gguf_put_u32(mr_gguf_writer *writer, const char *key, uint32_t value);
void mr_gguf_put_i32(mr_gguf_writer *writer, const char *key, int32_t value);
void mr_gguf_put_u64(mr_gguf_writer *writer, const char *key, uint64_t value);
void mr_gguf_put_i64(mr_gguf_writer *writer, const char *key, int64_t value);
void mr_gguf_put_f32(mr_gguf_writer *writer, const char *key, float value);
void mr_gguf_put_f64(mr_gguf_writer *writer, const char *key, double value);
void mr_gguf_put_bool(mr_gguf_writer *writer, const char *key, bool value);
void mr_gguf_put_string(mr_gguf_writer *writer, const char *key, const char *value);

/* n numbers of type elem (neither string nor array), stored in memory as in the file: uint8_t for bool, float for
 * FLOAT32, … */
void mr_gguf_put_array(mr_gguf_writer *writer, const char *key, mr_gguf_type elem, const void *data, size_t n);
void mr_gguf_put_strings(mr_gguf_writer *writer, const char *key, const mr_gguf_str *strings, size_t n);

/* A value of another file, of any type, under its own key. */
void mr_gguf_put_value(mr_gguf_writer *writer, const mr_gguf_value *value);

/* Declares a tensor; data comes later, in this order. No dimension is 0; shape[0] is the fastest, a whole number of the
 * type's blocks. Names are unique, 1 to 63 bytes (the limit of other readers). Returns the tensor's index. */
size_t mr_gguf_put_tensor(mr_gguf_writer *writer, const char *name, uint32_t type, uint32_t n_dims,
                          const uint64_t *shape);

/* Ends the declarations and writes the header. Errors: what a put ran into (MR_ERR_INVALID, MR_ERR_NOMEM), MR_ERR_IO.
 */
mr_status mr_gguf_begin(mr_gguf_writer *writer, mr_error *err);

/* Bytes of tensor `index`. */
size_t mr_gguf_tensor_size(const mr_gguf_writer *writer, size_t index);

/* Writes n bytes at `offset` inside tensor `index`. Threads may write different places at the same time. Errors:
 * MR_ERR_IO, MR_ERR_INVALID for a place outside of the tensor. */
mr_status mr_gguf_write_at(mr_gguf_writer *writer, size_t index, size_t offset, const void *data, size_t n,
                           mr_error *err);

/* Writes the next n bytes of the tensors' data, in the order of declaration; a call may go over the end of a tensor.
 * One thread at a time. Errors as above. */
mr_status mr_gguf_append(mr_gguf_writer *writer, const void *data, size_t n, mr_error *err);

/* Completes the file: it is flushed to the disk and takes its name, replacing what was there. Errors: MR_ERR_INVALID
 * when fewer (or more) bytes were written than the tensors have, MR_ERR_IO. */
mr_status mr_gguf_finish(mr_gguf_writer *writer, mr_error *err);

#endif
