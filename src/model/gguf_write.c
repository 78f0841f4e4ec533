#define _DEFAULT_SOURCE
#include "model/gguf_write.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/hash.h"
#include "compute/dtype.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_KEY_BYTES = 65535, MAX_NAME_BYTES = 63, MAX_ALIGNMENT = 1 << 20, HEADER_BYTES = 4 + 4 + 8 + 8 };

typedef struct tensor {
    const char *name;
    uint64_t offset; /* from the start of the data */
    size_t n_bytes;
} tensor;

struct mr_gguf_writer {
    mr_arena arena; /* names and keys */
    mr_strmap *keys, *names;
    char *path, *temporary;
    int fd;
    mr_error failure; /* the first of the puts */
    mr_buf pairs, infos;
    uint64_t n_pairs;
    tensor *tensors;
    size_t n_tensors, tensors_cap;
    uint32_t alignment;
    uint64_t data_start, data_bytes; /* data_bytes includes the padding between tensors */
    bool begun;
    size_t next, next_offset; /* where mr_gguf_append goes on */
    _Atomic uint64_t n_written;
};

static bool failed(const mr_gguf_writer *w) {
    return w->failure.status != MR_OK;
}

static mr_status io_failure(const mr_gguf_writer *w, const char *action, mr_error *err) {
    return mr_fail(err, MR_ERR_IO, "cannot %s %s: %s", action, w->temporary, strerror(errno));
}

static int create_temporary(mr_gguf_writer *w) {
    for (unsigned i = 0; i < 1000; i++) {
        mr_buf name = {0};
        mr_buf_printf(&name, "%s.part-%ld-%u", w->path, (long)getpid(), i);
        free(w->temporary);
        w->temporary = mr_buf_take(&name);
        if (w->temporary == NULL) return -1;
        int fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST) return fd;
    }
    return -1;
}

mr_status mr_gguf_writer_new(mr_gguf_writer **writer, const char *path, mr_error *err) {
    *writer = NULL;
    mr_gguf_writer *w = calloc(1, sizeof(*w));
    if (w == NULL) return mr_fail_nomem(err, sizeof(*w), "a GGUF writer");
    w->fd = -1;
    w->alignment = 32;
    w->path = strdup(path);
    w->keys = mr_strmap_new(64);
    w->names = mr_strmap_new(512);
    mr_status status = MR_OK;
    if (w->path == NULL || w->keys == NULL || w->names == NULL) {
        status = mr_fail_nomem(err, strlen(path), "a GGUF writer");
    } else if ((w->fd = create_temporary(w)) < 0) {
        status = w->temporary != NULL ? io_failure(w, "create", err) : mr_fail_nomem(err, strlen(path), "a file name");
        free(w->temporary);
        w->temporary = NULL;
    }
    if (status != MR_OK) {
        mr_gguf_writer_free(w);
        return status;
    }
    *writer = w;
    return MR_OK;
}

void mr_gguf_writer_free(mr_gguf_writer *w) {
    if (w == NULL) return;
    if (w->fd >= 0) close(w->fd);
    if (w->temporary != NULL) unlink(w->temporary);
    mr_strmap_free(w->keys);
    mr_strmap_free(w->names);
    mr_arena_free(&w->arena);
    mr_buf_free(&w->pairs);
    mr_buf_free(&w->infos);
    free(w->tensors);
    free(w->temporary);
    free(w->path);
    free(w);
}

/* ---- metadata */

static void put_u32(mr_buf *buf, uint32_t value) {
    mr_buf_append(buf, &value, sizeof(value));
}

static void put_u64(mr_buf *buf, uint64_t value) {
    mr_buf_append(buf, &value, sizeof(value));
}

static void put_str(mr_buf *buf, const char *data, size_t len) {
    put_u64(buf, len);
    mr_buf_append(buf, data, len);
}

/* Whether name[0..len) may be used, and notes that it is. `what` names it in errors. */
static bool claim(mr_gguf_writer *w, mr_strmap *taken, const char *name, size_t len, size_t max, const char *what) {
    if (failed(w)) return false;
    uint32_t seen;
    if (w->begun) {
        mr_fail(&w->failure, MR_ERR_INVALID, "%s \"%.64s\" comes after the header of %s was written", what, name,
                w->path);
    } else if (len == 0 || len > max) {
        mr_fail(&w->failure, MR_ERR_INVALID, "%s \"%.64s\" has %zu bytes; a GGUF file takes 1 to %zu", what, name, len,
                max);
    } else if (mr_strmap_get(taken, name, len, &seen)) {
        mr_fail(&w->failure, MR_ERR_INVALID, "%s \"%.64s\" is given twice for %s", what, name, w->path);
    } else {
        char *copy = mr_arena_strndup(&w->arena, name, len);
        if (copy == NULL || !mr_strmap_put(taken, copy, len, 0)) mr_fail_nomem(&w->failure, len, what);
    }
    return !failed(w);
}

/* Begins a pair; the value's bytes are appended to w->pairs by the caller. */
static bool begin_pair(mr_gguf_writer *w, const char *key, size_t len, mr_gguf_type type) {
    if (!claim(w, w->keys, key, len, MAX_KEY_BYTES, "the metadata key")) return false;
    put_str(&w->pairs, key, len);
    put_u32(&w->pairs, (uint32_t)type);
    w->n_pairs++;
    return true;
}

static void put_scalar(mr_gguf_writer *w, const char *key, mr_gguf_type type, const void *value, size_t size) {
    if (begin_pair(w, key, strlen(key), type)) mr_buf_append(&w->pairs, value, size);
}

static void set_alignment(mr_gguf_writer *w, uint32_t alignment) {
    if (alignment < 8 || alignment > MAX_ALIGNMENT || (alignment & (alignment - 1)) != 0) {
        if (!failed(w))
            mr_fail(&w->failure, MR_ERR_INVALID, "an alignment of %u is none; use a power of two from 8 to %d",
                    alignment, MAX_ALIGNMENT);
        return;
    }
    w->alignment = alignment;
}

void mr_gguf_put_u8(mr_gguf_writer *w, const char *key, uint8_t value) {
    put_scalar(w, key, MR_GGUF_UINT8, &value, sizeof(value));
}
void mr_gguf_put_i8(mr_gguf_writer *w, const char *key, int8_t value) {
    put_scalar(w, key, MR_GGUF_INT8, &value, sizeof(value));
}
void mr_gguf_put_u16(mr_gguf_writer *w, const char *key, uint16_t value) {
    put_scalar(w, key, MR_GGUF_UINT16, &value, sizeof(value));
}
void mr_gguf_put_i16(mr_gguf_writer *w, const char *key, int16_t value) {
    put_scalar(w, key, MR_GGUF_INT16, &value, sizeof(value));
}
void mr_gguf_put_u32(mr_gguf_writer *w, const char *key, uint32_t value) {
    if (strcmp(key, "general.alignment") == 0) set_alignment(w, value);
    put_scalar(w, key, MR_GGUF_UINT32, &value, sizeof(value));
}
void mr_gguf_put_i32(mr_gguf_writer *w, const char *key, int32_t value) {
    put_scalar(w, key, MR_GGUF_INT32, &value, sizeof(value));
}
void mr_gguf_put_u64(mr_gguf_writer *w, const char *key, uint64_t value) {
    put_scalar(w, key, MR_GGUF_UINT64, &value, sizeof(value));
}
void mr_gguf_put_i64(mr_gguf_writer *w, const char *key, int64_t value) {
    put_scalar(w, key, MR_GGUF_INT64, &value, sizeof(value));
}
void mr_gguf_put_f32(mr_gguf_writer *w, const char *key, float value) {
    put_scalar(w, key, MR_GGUF_FLOAT32, &value, sizeof(value));
}
void mr_gguf_put_f64(mr_gguf_writer *w, const char *key, double value) {
    put_scalar(w, key, MR_GGUF_FLOAT64, &value, sizeof(value));
}
void mr_gguf_put_bool(mr_gguf_writer *w, const char *key, bool value) {
    uint8_t byte = value;
    put_scalar(w, key, MR_GGUF_BOOL, &byte, sizeof(byte));
}

void mr_gguf_put_string(mr_gguf_writer *w, const char *key, const char *value) {
    if (begin_pair(w, key, strlen(key), MR_GGUF_STRING)) put_str(&w->pairs, value, strlen(value));
}

/* 0 for strings, arrays and unknown types. */
static size_t scalar_size(mr_gguf_type type) {
    switch (type) {
    case MR_GGUF_UINT8:
    case MR_GGUF_INT8:
    case MR_GGUF_BOOL:
        return 1;
    case MR_GGUF_UINT16:
    case MR_GGUF_INT16:
        return 2;
    case MR_GGUF_UINT32:
    case MR_GGUF_INT32:
    case MR_GGUF_FLOAT32:
        return 4;
    case MR_GGUF_UINT64:
    case MR_GGUF_INT64:
    case MR_GGUF_FLOAT64:
        return 8;
    case MR_GGUF_STRING:
    case MR_GGUF_ARRAY:
        break;
    }
    return 0;
}

void mr_gguf_put_array(mr_gguf_writer *w, const char *key, mr_gguf_type elem, const void *data, size_t n) {
    size_t size = scalar_size(elem);
    if (failed(w)) return;
    if (size == 0 || n > SIZE_MAX / size) {
        mr_fail(&w->failure, MR_ERR_INVALID, "the metadata array \"%.64s\" has elements of type %d, which is no number",
                key, (int)elem);
        return;
    }
    if (!begin_pair(w, key, strlen(key), MR_GGUF_ARRAY)) return;
    put_u32(&w->pairs, (uint32_t)elem);
    put_u64(&w->pairs, n);
    mr_buf_append(&w->pairs, data, n * size);
}

void mr_gguf_put_strings(mr_gguf_writer *w, const char *key, const mr_gguf_str *strings, size_t n) {
    if (!begin_pair(w, key, strlen(key), MR_GGUF_ARRAY)) return;
    put_u32(&w->pairs, MR_GGUF_STRING);
    put_u64(&w->pairs, n);
    for (size_t i = 0; i < n; i++) put_str(&w->pairs, strings[i].data, strings[i].len);
}

void mr_gguf_put_value(mr_gguf_writer *w, const mr_gguf_value *value) {
    static const char alignment[] = "general.alignment";
    if (value->key.len == sizeof(alignment) - 1 && memcmp(value->key.data, alignment, sizeof(alignment) - 1) == 0 &&
        value->type == MR_GGUF_UINT32 && value->n_bytes == 4) {
        uint32_t number;
        memcpy(&number, value->data, 4);
        set_alignment(w, number);
    }
    if (!begin_pair(w, value->key.data, value->key.len, value->type)) return;
    if (value->type == MR_GGUF_ARRAY) {
        put_u32(&w->pairs, (uint32_t)value->elem);
        put_u64(&w->pairs, value->n);
    }
    mr_buf_append(&w->pairs, value->data, value->n_bytes);
}

/* ---- tensors */

static bool tensor_bytes(mr_gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *shape,
                         size_t *n_bytes) {
    const mr_dtype_info *info = mr_dtype_find(type);
    if (info == NULL || !mr_dtype_in_files(type) || n_dims < 1 || n_dims > MR_GGUF_MAX_DIMS) {
        mr_fail(&w->failure, MR_ERR_INVALID,
                "tensor %.64s has type %u and %u dimensions; known types and 1 to %d are allowed", name, type, n_dims,
                MR_GGUF_MAX_DIMS);
        return false;
    }
    if (!mr_dtype_row_bytes(info, shape[0], n_bytes)) {
        mr_fail(&w->failure, MR_ERR_INVALID,
                "tensor %.64s: rows of %" PRIu64 " values are no whole blocks of %s (%u values)", name, shape[0],
                info->name, info->block_values);
        return false;
    }
    for (uint32_t i = 0; i < n_dims; i++) {
        if (shape[i] != 0) continue;
        mr_fail(&w->failure, MR_ERR_INVALID, "tensor %.64s: dimension %u is 0", name, i);
        return false;
    }
    for (uint32_t i = 1; i < n_dims; i++) {
        if (*n_bytes > (SIZE_MAX >> 1) / shape[i]) {
            mr_fail(&w->failure, MR_ERR_LIMIT, "tensor %.64s is too large for a file", name);
            return false;
        }
        *n_bytes *= (size_t)shape[i];
    }
    return true;
}

static tensor *grow_tensors(mr_gguf_writer *w) {
    if (w->n_tensors == w->tensors_cap) {
        size_t cap = w->tensors_cap != 0 ? 2 * w->tensors_cap : 256;
        tensor *grown = realloc(w->tensors, cap * sizeof(*grown));
        if (grown == NULL) return NULL;
        w->tensors = grown;
        w->tensors_cap = cap;
    }
    return &w->tensors[w->n_tensors];
}

size_t mr_gguf_put_tensor(mr_gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *shape) {
    size_t n_bytes, len = strlen(name);
    if (!claim(w, w->names, name, len, MAX_NAME_BYTES, "the tensor name")) return w->n_tensors;
    if (!tensor_bytes(w, name, type, n_dims, shape, &n_bytes)) return w->n_tensors;
    tensor *t = grow_tensors(w);
    char *copy = mr_arena_strndup(&w->arena, name, len);
    if (t == NULL || copy == NULL) {
        mr_fail_nomem(&w->failure, len, "a tensor's name");
        return w->n_tensors;
    }
    *t = (tensor){copy, 0, n_bytes};
    put_str(&w->infos, name, len);
    put_u32(&w->infos, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) put_u64(&w->infos, shape[i]);
    put_u32(&w->infos, type);
    put_u64(&w->infos, 0); /* the offset, known once the alignment is; see place_tensors */
    return w->n_tensors++;
}

static uint64_t aligned(const mr_gguf_writer *w, uint64_t n) {
    return (n + w->alignment - 1) / w->alignment * w->alignment;
}

/* Gives each tensor its offset, also in the encoded infos. False when the sum overflows. */
static bool place_tensors(mr_gguf_writer *w) {
    uint64_t offset = 0;
    char *info = w->infos.data;
    for (size_t i = 0; i < w->n_tensors; i++) {
        tensor *t = &w->tensors[i];
        t->offset = offset;
        uint32_t n_dims;
        info += 8 + strlen(t->name);
        memcpy(&n_dims, info, 4);
        info += 4 + 8 * (size_t)n_dims + 4;
        memcpy(info, &offset, 8);
        info += 8;
        if (t->n_bytes > (UINT64_MAX >> 2) - offset) return false;
        offset = aligned(w, offset + t->n_bytes);
    }
    w->data_bytes = offset;
    return true;
}

static mr_status write_all(mr_gguf_writer *w, const void *data, size_t n, uint64_t at, mr_error *err) {
    const char *bytes = data;
    while (n > 0) {
        ssize_t done = pwrite(w->fd, bytes, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return io_failure(w, "write", err);
        bytes += done;
        n -= (size_t)done;
        at += (uint64_t)done;
    }
    return MR_OK;
}

mr_status mr_gguf_begin(mr_gguf_writer *w, mr_error *err) {
    if (!failed(w) && w->begun) mr_fail(&w->failure, MR_ERR_INVALID, "the header of %s is written twice", w->path);
    if (!failed(w) && (w->pairs.failed || w->infos.failed)) mr_fail_nomem(&w->failure, w->pairs.len, "a GGUF header");
    if (!failed(w) && !place_tensors(w))
        mr_fail(&w->failure, MR_ERR_LIMIT, "the tensors of %s are too large for a file", w->path);
    if (failed(w)) return mr_fail(err, w->failure.status, "%s", w->failure.text);
    mr_buf head = {0};
    mr_buf_puts(&head, "GGUF");
    put_u32(&head, 3);
    put_u64(&head, w->n_tensors);
    put_u64(&head, w->n_pairs);
    uint64_t infos_at = HEADER_BYTES + w->pairs.len;
    w->data_start = aligned(w, infos_at + w->infos.len);
    w->begun = true;
    mr_status status =
        head.failed ? mr_fail_nomem(err, HEADER_BYTES, "a GGUF header") : write_all(w, head.data, head.len, 0, err);
    mr_buf_free(&head);
    if (status == MR_OK) status = write_all(w, w->pairs.data, w->pairs.len, HEADER_BYTES, err);
    if (status == MR_OK) status = write_all(w, w->infos.data, w->infos.len, infos_at, err);
    /* The size is set at once, so padding is zeros and a full disk with no room for holes shows up early enough. */
    if (status == MR_OK && ftruncate(w->fd, (off_t)(w->data_start + w->data_bytes)) != 0)
        status = io_failure(w, "extend", err);
    return status;
}

size_t mr_gguf_tensor_size(const mr_gguf_writer *w, size_t index) {
    return index < w->n_tensors ? w->tensors[index].n_bytes : 0;
}

mr_status mr_gguf_write_at(mr_gguf_writer *w, size_t index, size_t offset, const void *data, size_t n, mr_error *err) {
    if (!w->begun || index >= w->n_tensors)
        return mr_fail(err, MR_ERR_INVALID, "%s has no tensor %zu to write, or no header yet", w->path, index);
    const tensor *t = &w->tensors[index];
    if (offset > t->n_bytes || n > t->n_bytes - offset)
        return mr_fail(err, MR_ERR_INVALID, "bytes %zu to %zu are outside of tensor %s, which has %zu", offset,
                       offset + n, t->name, t->n_bytes);
    mr_status status = write_all(w, data, n, w->data_start + t->offset + offset, err);
    if (status == MR_OK) atomic_fetch_add_explicit(&w->n_written, n, memory_order_relaxed);
    return status;
}

mr_status mr_gguf_append(mr_gguf_writer *w, const void *data, size_t n, mr_error *err) {
    const char *bytes = data;
    while (n > 0) {
        if (w->next >= w->n_tensors)
            return mr_fail(err, MR_ERR_INVALID, "%zu bytes come after the last tensor of %s", n, w->path);
        size_t room = w->tensors[w->next].n_bytes - w->next_offset;
        size_t part = n < room ? n : room;
        mr_status status = mr_gguf_write_at(w, w->next, w->next_offset, bytes, part, err);
        if (status != MR_OK) return status;
        bytes += part;
        n -= part;
        w->next_offset += part;
        if (part == room) {
            w->next++;
            w->next_offset = 0;
        }
    }
    return MR_OK;
}

/* Makes the rename itself durable; a folder that cannot be synced is no error. */
static void sync_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    if (folder == NULL) return;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(folder);
}

mr_status mr_gguf_finish(mr_gguf_writer *w, mr_error *err) {
    uint64_t expected = 0, written = atomic_load(&w->n_written);
    for (size_t i = 0; i < w->n_tensors; i++) expected += w->tensors[i].n_bytes;
    if (!w->begun || written != expected)
        return mr_fail(err, MR_ERR_INVALID, "%" PRIu64 " bytes of tensors were written to %s, which needs %" PRIu64,
                       written, w->path, expected);
    if (fsync(w->fd) != 0) return io_failure(w, "flush", err);
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0) return io_failure(w, "close", err);
    if (rename(w->temporary, w->path) != 0)
        return mr_fail(err, MR_ERR_IO, "cannot rename %s to %s: %s", w->temporary, w->path, strerror(errno));
    free(w->temporary);
    w->temporary = NULL;
    sync_folder(w->path);
    return MR_OK;
}
