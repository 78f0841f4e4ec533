#include "model/gguf.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/hash.h"
#include "compute/dtype.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_KEY_BYTES = 65535,
    MAX_NAME_BYTES = 255,
    MAX_ARRAY_DEPTH = 4,
    MAX_PARTS = 512,
    DEFAULT_ALIGNMENT = 32,
    MAX_ALIGNMENT = 1 << 20,
};

/* The smallest encodings: an empty key with a one-byte value; a one-byte name with one dimension. */
enum { MIN_VALUE_BYTES = 8 + 4 + 1, MIN_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8 };

typedef struct part {
    mr_mapping map;
    bool owned; /* false: an image in memory of the caller */
    char *path;
} part;

struct mr_gguf {
    mr_arena arena;
    part *parts;
    size_t n_parts;
    mr_gguf_value *values;
    size_t n_values;
    mr_strmap *value_index;
    mr_gguf_tensor *tensors;
    size_t n_tensors;
    mr_strmap *tensor_index;
    char *header; /* of an assembled model */
    void *owner;
    void (*free_owner)(void *owner);
    void (*drop_pages)(void *owner, const mr_gguf_tensor *tensor);
};

/* A cursor over one file's header. */
typedef struct reader {
    const uint8_t *data;
    size_t size, at;
    const char *path;
    mr_error *err;
} reader;

static mr_status torn(const reader *r, const char *what) {
    return mr_fail(r->err, MR_ERR_INVALID,
                   "%s is truncated or corrupt: %s at byte %zu goes beyond the end of the file (%zu bytes)", r->path,
                   what, r->at, r->size);
}

static bool take(reader *r, size_t n, const uint8_t **bytes) {
    if (n > r->size - r->at) return false;
    *bytes = r->data + r->at;
    r->at += n;
    return true;
}

static uint64_t load_le(const uint8_t *p, size_t n) {
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++) value |= (uint64_t)p[i] << (8 * i);
    return value;
}

static bool take_uint(reader *r, size_t n, uint64_t *value) {
    const uint8_t *p;
    if (!take(r, n, &p)) return false;
    *value = load_le(p, n);
    return true;
}

static bool take_string(reader *r, mr_gguf_str *str) {
    uint64_t len;
    const uint8_t *p;
    size_t start = r->at;
    if (!take_uint(r, 8, &len) || len > r->size - r->at || !take(r, (size_t)len, &p)) {
        r->at = start;
        return false;
    }
    *str = (mr_gguf_str){(const char *)p, (size_t)len};
    return true;
}

/* Bytes of a scalar, 0 for strings, arrays and unknown types. */
static size_t scalar_bytes(uint32_t type) {
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof sizes ? sizes[type] : 0;
}

static mr_status skip_elements(reader *r, uint32_t type, uint64_t n, int depth);

static mr_status skip_array(reader *r, int depth, uint32_t *elem, uint64_t *n, size_t *first) {
    uint64_t type;
    if (!take_uint(r, 4, &type) || !take_uint(r, 8, n)) return torn(r, "an array header");
    *elem = (uint32_t)type;
    *first = r->at;
    if (type > MR_GGUF_FLOAT64) {
        return mr_fail(r->err, MR_ERR_INVALID, "%s: array with unknown element type %" PRIu64 " at byte %zu", r->path,
                       type, r->at);
    }
    return skip_elements(r, *elem, *n, depth + 1);
}

static mr_status skip_elements(reader *r, uint32_t type, uint64_t n, int depth) {
    if (depth > MAX_ARRAY_DEPTH) {
        return mr_fail(r->err, MR_ERR_LIMIT, "%s: arrays nested deeper than %d at byte %zu", r->path, MAX_ARRAY_DEPTH,
                       r->at);
    }
    size_t size = scalar_bytes(type);
    if (size > 0) {
        const uint8_t *p;
        if (n > (r->size - r->at) / size || !take(r, (size_t)n * size, &p)) return torn(r, "an array");
        return MR_OK;
    }
    for (uint64_t i = 0; i < n; i++) {
        mr_gguf_str str;
        uint32_t elem;
        uint64_t inner;
        size_t first;
        if (type == MR_GGUF_STRING && !take_string(r, &str)) return torn(r, "a string");
        if (type == MR_GGUF_ARRAY) {
            mr_status status = skip_array(r, depth, &elem, &inner, &first);
            if (status != MR_OK) return status;
        }
    }
    return MR_OK;
}

static mr_status read_value(reader *r, mr_gguf_value *value) {
    uint64_t type;
    if (!take_string(r, &value->key) || !take_uint(r, 4, &type)) return torn(r, "a metadata key");
    if (value->key.len > MAX_KEY_BYTES || memchr(value->key.data, 0, value->key.len) != NULL) {
        return mr_fail(r->err, MR_ERR_INVALID, "%s: the metadata key before byte %zu is too long or holds a NUL",
                       r->path, r->at);
    }
    if (type > MR_GGUF_FLOAT64) {
        return mr_fail(r->err, MR_ERR_INVALID, "%s: metadata %.*s has unknown type %" PRIu64, r->path,
                       (int)value->key.len, value->key.data, type);
    }
    value->type = (mr_gguf_type)type;
    value->n = 1;
    size_t first = r->at;
    mr_status status = MR_OK;
    if (type == MR_GGUF_ARRAY) {
        uint32_t elem;
        status = skip_array(r, 0, &elem, &value->n, &first);
        value->elem = (mr_gguf_type)elem;
    } else {
        status = skip_elements(r, (uint32_t)type, 1, 0);
    }
    value->data = r->data + first;
    value->n_bytes = r->at - first;
    return status;
}

static mr_status check_header(reader *r, uint64_t *n_tensors, uint64_t *n_values) {
    const uint8_t *magic;
    uint64_t version;
    if (!take(r, 4, &magic) || memcmp(magic, "GGUF", 4) != 0) {
        return mr_fail(r->err, MR_ERR_INVALID, "%s is no GGUF file: it does not begin with \"GGUF\"", r->path);
    }
    if (!take_uint(r, 4, &version)) return torn(r, "the header");
    if ((version & 0xFFFF) == 0 && version != 0) {
        return mr_fail(r->err, MR_ERR_UNSUPPORTED, "%s is a big-endian GGUF file; convert it to little-endian",
                       r->path);
    }
    if (version != 2 && version != 3) {
        return mr_fail(r->err, MR_ERR_UNSUPPORTED, "%s has GGUF version %" PRIu64 "; versions 2 and 3 are supported",
                       r->path, version);
    }
    if (!take_uint(r, 8, n_tensors) || !take_uint(r, 8, n_values)) return torn(r, "the header");
    size_t left = r->size - r->at;
    if (*n_values > left / MIN_VALUE_BYTES || *n_tensors > left / MIN_TENSOR_BYTES) {
        return mr_fail(r->err, MR_ERR_INVALID,
                       "%s is truncated or corrupt: its header counts %" PRIu64 " metadata values and %" PRIu64
                       " tensors, more than its %zu bytes can hold",
                       r->path, *n_values, *n_tensors, r->size);
    }
    return MR_OK;
}

/* Metadata of part `index`; only that of the first part is kept. */
static mr_status read_values(mr_gguf *gguf, reader *r, uint64_t n, bool keep, uint64_t *alignment) {
    if (keep) {
        gguf->values = mr_arena_calloc(&gguf->arena, (size_t)n, sizeof *gguf->values);
        gguf->value_index = mr_strmap_new((size_t)n);
        if (gguf->values == NULL || gguf->value_index == NULL) return mr_fail_nomem(r->err, (size_t)n, "GGUF metadata");
    }
    for (uint64_t i = 0; i < n; i++) {
        mr_gguf_value value = {0};
        mr_status status = read_value(r, &value);
        if (status != MR_OK) return status;
        if (value.key.len == 17 && memcmp(value.key.data, "general.alignment", 17) == 0) {
            *alignment = value.type == MR_GGUF_UINT32 ? load_le(value.data, 4) : 0;
            if (*alignment == 0 || *alignment > MAX_ALIGNMENT || (*alignment & (*alignment - 1)) != 0) {
                return mr_fail(r->err, MR_ERR_INVALID, "%s: general.alignment must be a power of two up to %d", r->path,
                               MAX_ALIGNMENT);
            }
        }
        if (!keep) continue;
        uint32_t seen;
        if (mr_strmap_get(gguf->value_index, value.key.data, value.key.len, &seen)) {
            return mr_fail(r->err, MR_ERR_INVALID, "%s: metadata key %.*s occurs twice", r->path, (int)value.key.len,
                           value.key.data);
        }
        gguf->values[gguf->n_values] = value;
        if (!mr_strmap_put(gguf->value_index, value.key.data, value.key.len, (uint32_t)gguf->n_values++)) {
            return mr_fail_nomem(r->err, 0, "GGUF metadata");
        }
    }
    return MR_OK;
}

/* Shape and bytes of a tensor whose n_dims and type are known. */
static mr_status measure_tensor(reader *r, mr_gguf_tensor *tensor, uint64_t offset, size_t *n_bytes) {
    const mr_dtype_info *info = mr_dtype_find(tensor->type);
    if (info == NULL || !mr_dtype_in_files(tensor->type)) {
        return mr_fail(r->err, MR_ERR_UNSUPPORTED, "%s: tensor %s has type %u, which is not known", r->path,
                       tensor->name, tensor->type);
    }
    uint64_t n_rows = 1, n_values = tensor->shape[0];
    for (uint32_t d = 1; d < MR_GGUF_MAX_DIMS; d++) {
        if (tensor->shape[d] != 0 && n_rows > UINT64_MAX / tensor->shape[d]) n_values = 0;
        n_rows *= tensor->shape[d];
    }
    size_t row_bytes;
    if (n_values == 0 || n_rows == 0) {
        return mr_fail(r->err, MR_ERR_INVALID, "%s: tensor %s has an empty or impossible shape", r->path, tensor->name);
    }
    if (!mr_dtype_row_bytes(info, n_values, &row_bytes)) {
        return mr_fail(r->err, MR_ERR_INVALID,
                       "%s: tensor %s has rows of %" PRIu64 " values, no multiple of the %u of %s", r->path,
                       tensor->name, n_values, info->block_values, info->name);
    }
    if (row_bytes == 0 || n_rows > SIZE_MAX / row_bytes || offset > r->size || n_rows * row_bytes > r->size) {
        return mr_fail(r->err, MR_ERR_INVALID,
                       "%s is truncated or corrupt: tensor %s (%" PRIu64
                       " rows of %zu bytes) is larger than the file (%zu bytes)",
                       r->path, tensor->name, n_rows, row_bytes, r->size);
    }
    *n_bytes = (size_t)(n_rows * row_bytes);
    return MR_OK;
}

static mr_status read_tensor(mr_gguf *gguf, reader *r, mr_gguf_tensor *tensor, uint64_t *offset) {
    mr_gguf_str name;
    uint64_t n_dims, type;
    if (!take_string(r, &name) || !take_uint(r, 4, &n_dims)) return torn(r, "a tensor's name");
    if (name.len == 0 || name.len > MAX_NAME_BYTES || memchr(name.data, 0, name.len) != NULL) {
        return mr_fail(r->err, MR_ERR_INVALID, "%s: the tensor name before byte %zu is empty, too long or holds a NUL",
                       r->path, r->at);
    }
    tensor->name = mr_arena_strndup(&gguf->arena, name.data, name.len);
    if (tensor->name == NULL) return mr_fail_nomem(r->err, name.len, "a tensor's name");
    if (n_dims < 1 || n_dims > MR_GGUF_MAX_DIMS) {
        return mr_fail(r->err, MR_ERR_INVALID, "%s: tensor %s has %" PRIu64 " dimensions; 1 to %d are possible",
                       r->path, tensor->name, n_dims, MR_GGUF_MAX_DIMS);
    }
    tensor->n_dims = (uint32_t)n_dims;
    for (uint32_t d = 0; d < MR_GGUF_MAX_DIMS; d++) {
        tensor->shape[d] = 1;
        if (d < n_dims && !take_uint(r, 8, &tensor->shape[d])) return torn(r, "a tensor's shape");
    }
    if (!take_uint(r, 4, &type) || !take_uint(r, 8, offset)) return torn(r, "a tensor's type and offset");
    tensor->type = (uint32_t)type;
    return measure_tensor(r, tensor, *offset, &tensor->n_bytes);
}

static mr_status read_tensors(mr_gguf *gguf, reader *r, uint64_t n, uint64_t alignment) {
    if (n > SIZE_MAX / sizeof *gguf->tensors - gguf->n_tensors)
        return mr_fail_nomem(r->err, SIZE_MAX, "the tensor list");
    size_t total = gguf->n_tensors + (size_t)n;
    mr_gguf_tensor *tensors = realloc(gguf->tensors, (total == 0 ? 1 : total) * sizeof *tensors);
    uint64_t *offsets = calloc(n == 0 ? 1 : (size_t)n, sizeof *offsets);
    if (tensors != NULL) gguf->tensors = tensors;
    if (tensors == NULL || offsets == NULL) {
        free(offsets);
        return mr_fail_nomem(r->err, total * sizeof *tensors, "the tensor list");
    }
    mr_status status = MR_OK;
    for (uint64_t i = 0; i < n && status == MR_OK; i++) {
        tensors[gguf->n_tensors + i] = (mr_gguf_tensor){0};
        status = read_tensor(gguf, r, &tensors[gguf->n_tensors + i], &offsets[i]);
    }
    uint64_t base = (r->at + alignment - 1) / alignment * alignment;
    for (uint64_t i = 0; i < n && status == MR_OK; i++) {
        mr_gguf_tensor *tensor = &tensors[gguf->n_tensors + i];
        if (offsets[i] % alignment != 0) {
            status = mr_fail(r->err, MR_ERR_INVALID, "%s: tensor %s is not aligned to %" PRIu64 " bytes", r->path,
                             tensor->name, alignment);
        } else if (base > r->size || offsets[i] > r->size - base || tensor->n_bytes > r->size - base - offsets[i]) {
            status = mr_fail(r->err, MR_ERR_INVALID,
                             "%s is truncated or corrupt: tensor %s needs bytes %" PRIu64 " to %" PRIu64
                             ", but the file has %zu; download it again",
                             r->path, tensor->name, base + offsets[i], base + offsets[i] + tensor->n_bytes, r->size);
        } else {
            tensor->data = r->data + base + offsets[i];
        }
    }
    free(offsets);
    if (status == MR_OK) gguf->n_tensors = total;
    return status;
}

static mr_status read_part(mr_gguf *gguf, size_t index, mr_error *err) {
    const part *p = &gguf->parts[index];
    reader r = {.data = p->map.data, .size = p->map.size, .path = p->path, .err = err};
    uint64_t n_tensors = 0, n_values = 0, alignment = DEFAULT_ALIGNMENT;
    mr_status status = check_header(&r, &n_tensors, &n_values);
    if (status == MR_OK) status = read_values(gguf, &r, n_values, index == 0, &alignment);
    if (status == MR_OK) status = read_tensors(gguf, &r, n_tensors, alignment);
    return status;
}

static mr_status index_tensors(mr_gguf *gguf, mr_error *err) {
    gguf->tensor_index = mr_strmap_new(gguf->n_tensors);
    if (gguf->tensor_index == NULL) return mr_fail_nomem(err, gguf->n_tensors, "the tensor index");
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        const char *name = gguf->tensors[i].name;
        uint32_t seen;
        if (mr_strmap_get(gguf->tensor_index, name, strlen(name), &seen)) {
            return mr_fail(err, MR_ERR_INVALID, "%s: tensor %s occurs twice", gguf->parts[0].path, name);
        }
        if (!mr_strmap_put(gguf->tensor_index, name, strlen(name), (uint32_t)i)) {
            return mr_fail_nomem(err, gguf->n_tensors, "the tensor index");
        }
    }
    return MR_OK;
}

/* Reads "-IIIII-of-NNNNN.gguf" at the end of path: the offset of the part number, and both numbers. */
static bool parse_split_name(const char *path, size_t *digits_at, unsigned *no, unsigned *count) {
    size_t len = strlen(path);
    enum { TAIL = sizeof "-00001-of-00002.gguf" - 1 };
    if (len < TAIL) return false;
    const char *tail = path + len - TAIL;
    int used = 0;
    if (sscanf(tail, "-%5u-of-%5u.gguf%n", no, count, &used) != 2 || used != TAIL) return false;
    *digits_at = len - TAIL + 1;
    return true;
}

static mr_status add_part(mr_gguf *gguf, const char *path, mr_error *err) {
    part *p = &gguf->parts[gguf->n_parts];
    p->path = mr_arena_strndup(&gguf->arena, path, strlen(path));
    if (p->path == NULL) return mr_fail_nomem(err, strlen(path), "a path");
    mr_status status = mr_file_map(&p->map, path, err);
    if (status != MR_OK) return status;
    p->owned = true;
    gguf->n_parts++;
    return read_part(gguf, gguf->n_parts - 1, err);
}

/* A list of parts, or the parts that belong to the one path that was given. */
static mr_status open_parts(mr_gguf *gguf, const char *const *paths, size_t n_paths, mr_error *err) {
    size_t digits_at = 0;
    unsigned no = 1, count = 1;
    bool split = n_paths == 1 && parse_split_name(paths[0], &digits_at, &no, &count);
    if (split && no != 1) {
        return mr_fail(err, MR_ERR_INVALID, "%s is part %u of %u; name the first part (-00001-of-%05u.gguf)", paths[0],
                       no, count, count);
    }
    size_t n = split ? count : n_paths;
    if (n == 0 || n > MAX_PARTS) {
        return mr_fail(err, MR_ERR_INVALID, "a model has 1 to %d GGUF files, not %zu", MAX_PARTS, n);
    }
    gguf->parts = mr_arena_calloc(&gguf->arena, n, sizeof *gguf->parts);
    if (gguf->parts == NULL) return mr_fail_nomem(err, n * sizeof *gguf->parts, "the file list");
    for (size_t i = 0; i < n; i++) {
        char digits[16];
        char *path = mr_arena_strndup(&gguf->arena, paths[split ? 0 : i], strlen(paths[split ? 0 : i]));
        if (path == NULL) return mr_fail_nomem(err, 0, "a path");
        if (split) {
            snprintf(digits, sizeof digits, "%05u", (unsigned)(i + 1) % 100000u);
            memcpy(path + digits_at, digits, 5);
        }
        mr_status status = add_part(gguf, path, err);
        if (status != MR_OK) return status;
    }
    uint32_t declared;
    if (mr_gguf_u32(gguf, "split.count", &declared) && declared > 1 && declared != n) {
        return mr_fail(err, MR_ERR_INVALID, "%s is one of %u parts, but %zu %s given; list all of them in order",
                       paths[0], declared, n, n == 1 ? "is" : "are");
    }
    return MR_OK;
}

mr_status mr_gguf_open(mr_gguf **out, const char *const *paths, size_t n_paths, mr_error *err) {
    *out = NULL;
    mr_gguf *gguf = calloc(1, sizeof *gguf);
    if (gguf == NULL) return mr_fail_nomem(err, sizeof *gguf, "a GGUF file");
    mr_status status = open_parts(gguf, paths, n_paths, err);
    if (status == MR_OK) {
        status = index_tensors(gguf, err);
    }
    if (status != MR_OK) {
        mr_gguf_close(gguf);
        return status;
    }
    *out = gguf;
    return MR_OK;
}

mr_status mr_gguf_open_memory(mr_gguf **out, const void *data, size_t size, mr_error *err) {
    *out = NULL;
    mr_gguf *gguf = calloc(1, sizeof *gguf);
    if (gguf == NULL) return mr_fail_nomem(err, sizeof *gguf, "a GGUF file");
    gguf->parts = mr_arena_calloc(&gguf->arena, 1, sizeof *gguf->parts);
    char *path = mr_arena_strndup(&gguf->arena, "GGUF image", strlen("GGUF image"));
    mr_status status = MR_OK;
    if (gguf->parts == NULL || path == NULL) {
        status = mr_fail_nomem(err, sizeof *gguf->parts, "a GGUF file");
    } else {
        gguf->parts[0] = (part){.map = {.data = data, .size = size}, .path = path};
        gguf->n_parts = 1;
        status = read_part(gguf, 0, err);
    }
    if (status == MR_OK) status = index_tensors(gguf, err);
    if (status != MR_OK) {
        mr_gguf_close(gguf);
        return status;
    }
    *out = gguf;
    return MR_OK;
}

mr_status mr_gguf_assemble(mr_gguf **out, const mr_gguf_assembly *parts, mr_error *err) {
    mr_gguf *gguf;
    mr_status status = mr_gguf_open_memory(&gguf, parts->header->data, parts->header->len, err);
    *out = NULL;
    if (status != MR_OK) return status;
    mr_strmap_free(gguf->tensor_index);
    gguf->tensor_index = NULL;
    free(gguf->tensors);
    gguf->n_tensors = 0;
    gguf->tensors = malloc((parts->n_tensors + 1) * sizeof *gguf->tensors);
    if (gguf->tensors == NULL) {
        status = mr_fail_nomem(err, parts->n_tensors * sizeof *gguf->tensors, "the tensor list");
    } else {
        if (parts->n_tensors > 0) memcpy(gguf->tensors, parts->tensors, parts->n_tensors * sizeof *gguf->tensors);
        gguf->n_tensors = parts->n_tensors;
        status = index_tensors(gguf, err);
    }
    if (status != MR_OK) {
        mr_gguf_close(gguf);
        return status;
    }
    gguf->header = mr_buf_take(parts->header); /* the same memory: what was parsed stays where it is */
    gguf->owner = parts->owner;
    gguf->free_owner = parts->free_owner;
    gguf->drop_pages = parts->drop_pages;
    *out = gguf;
    return MR_OK;
}

void mr_gguf_close(mr_gguf *gguf) {
    if (gguf == NULL) return;
    if (gguf->free_owner != NULL) gguf->free_owner(gguf->owner);
    free(gguf->header);
    for (size_t i = 0; i < gguf->n_parts; i++) {
        if (gguf->parts[i].owned) mr_file_unmap(&gguf->parts[i].map);
    }
    mr_strmap_free(gguf->value_index);
    mr_strmap_free(gguf->tensor_index);
    free(gguf->tensors);
    mr_arena_free(&gguf->arena);
    free(gguf);
}

void mr_gguf_drop_tensor_pages(const mr_gguf *gguf, const mr_gguf_tensor *tensor) {
    if (gguf->drop_pages != NULL) gguf->drop_pages(gguf->owner, tensor);
    for (size_t i = 0; i < gguf->n_parts; i++) {
        const part *p = &gguf->parts[i];
        if (!p->owned || tensor->data < p->map.data || tensor->data >= p->map.data + p->map.size) continue;
        mr_file_drop_pages(&p->map, (size_t)(tensor->data - p->map.data), tensor->n_bytes);
    }
}

size_t mr_gguf_n_values(const mr_gguf *gguf) {
    return gguf->n_values;
}

const mr_gguf_value *mr_gguf_value_at(const mr_gguf *gguf, size_t i) {
    return i < gguf->n_values ? &gguf->values[i] : NULL;
}

const mr_gguf_value *mr_gguf_find(const mr_gguf *gguf, const char *key) {
    uint32_t i;
    if (gguf->value_index == NULL || !mr_strmap_get(gguf->value_index, key, strlen(key), &i)) return NULL;
    return &gguf->values[i];
}

size_t mr_gguf_n_tensors(const mr_gguf *gguf) {
    return gguf->n_tensors;
}

const mr_gguf_tensor *mr_gguf_tensor_at(const mr_gguf *gguf, size_t i) {
    return i < gguf->n_tensors ? &gguf->tensors[i] : NULL;
}

const mr_gguf_tensor *mr_gguf_find_tensor(const mr_gguf *gguf, const char *name) {
    uint32_t i;
    return mr_strmap_get(gguf->tensor_index, name, strlen(name), &i) ? &gguf->tensors[i] : NULL;
}

/* An integer of any type as sign and magnitude-safe int64; values over INT64_MAX do not convert. */
static bool load_integer(mr_gguf_type type, const uint8_t *p, int64_t *out) {
    uint64_t raw;
    switch (type) {
    case MR_GGUF_UINT8:
    case MR_GGUF_BOOL:
        *out = p[0];
        return true;
    case MR_GGUF_INT8:
        *out = (int8_t)p[0];
        return true;
    case MR_GGUF_UINT16:
        *out = (int64_t)load_le(p, 2);
        return true;
    case MR_GGUF_INT16:
        *out = (int16_t)load_le(p, 2);
        return true;
    case MR_GGUF_UINT32:
        *out = (int64_t)load_le(p, 4);
        return true;
    case MR_GGUF_INT32:
        *out = (int32_t)load_le(p, 4);
        return true;
    case MR_GGUF_UINT64:
        raw = load_le(p, 8);
        if (raw > INT64_MAX) return false;
        *out = (int64_t)raw;
        return true;
    case MR_GGUF_INT64:
        *out = (int64_t)load_le(p, 8);
        return true;
    default:
        return false;
    }
}

static bool load_float(mr_gguf_type type, const uint8_t *p, float *out) {
    union {
        uint32_t u;
        float f;
    } f32;
    union {
        uint64_t u;
        double f;
    } f64;
    if (type == MR_GGUF_FLOAT32) {
        f32.u = (uint32_t)load_le(p, 4);
        *out = f32.f;
        return true;
    }
    if (type == MR_GGUF_FLOAT64) {
        f64.u = load_le(p, 8);
        *out = (float)f64.f;
        return true;
    }
    return false;
}

bool mr_gguf_u64(const mr_gguf *gguf, const char *key, uint64_t *out) {
    const mr_gguf_value *value = mr_gguf_find(gguf, key);
    int64_t integer;
    if (value == NULL || value->type == MR_GGUF_BOOL || !load_integer(value->type, value->data, &integer)) return false;
    if (integer < 0) return false;
    *out = (uint64_t)integer;
    return true;
}

bool mr_gguf_u32(const mr_gguf *gguf, const char *key, uint32_t *out) {
    uint64_t value;
    if (!mr_gguf_u64(gguf, key, &value) || value > UINT32_MAX) return false;
    *out = (uint32_t)value;
    return true;
}

bool mr_gguf_f32(const mr_gguf *gguf, const char *key, float *out) {
    const mr_gguf_value *value = mr_gguf_find(gguf, key);
    return value != NULL && load_float(value->type, value->data, out);
}

bool mr_gguf_bool(const mr_gguf *gguf, const char *key, bool *out) {
    const mr_gguf_value *value = mr_gguf_find(gguf, key);
    if (value == NULL || value->type != MR_GGUF_BOOL) return false;
    *out = value->data[0] != 0;
    return true;
}

bool mr_gguf_string(const mr_gguf *gguf, const char *key, mr_gguf_str *out) {
    const mr_gguf_value *value = mr_gguf_find(gguf, key);
    if (value == NULL || value->type != MR_GGUF_STRING) return false;
    *out = (mr_gguf_str){(const char *)value->data + 8, value->n_bytes - 8};
    return true;
}

bool mr_gguf_array_i64(const mr_gguf_value *array, uint64_t i, int64_t *out) {
    if (array->type != MR_GGUF_ARRAY || i >= array->n) return false;
    return load_integer(array->elem, array->data + (size_t)i * scalar_bytes(array->elem), out);
}

bool mr_gguf_array_f32(const mr_gguf_value *array, uint64_t i, float *out) {
    if (array->type != MR_GGUF_ARRAY || i >= array->n) return false;
    return load_float(array->elem, array->data + (size_t)i * scalar_bytes(array->elem), out);
}

bool mr_gguf_array_next_string(const mr_gguf_value *array, size_t *cursor, mr_gguf_str *out) {
    if (array->type != MR_GGUF_ARRAY || array->elem != MR_GGUF_STRING || *cursor >= array->n_bytes) return false;
    size_t len = (size_t)load_le(array->data + *cursor, 8);
    *out = (mr_gguf_str){(const char *)array->data + *cursor + 8, len};
    *cursor += 8 + len;
    return true;
}

size_t mr_gguf_file_bytes(const mr_gguf *gguf) {
    size_t total = 0;
    for (size_t i = 0; i < gguf->n_parts; i++) total += gguf->parts[i].map.size;
    return total;
}

size_t mr_gguf_tensor_bytes(const mr_gguf *gguf) {
    size_t total = 0;
    for (size_t i = 0; i < gguf->n_tensors; i++) total += gguf->tensors[i].n_bytes;
    return total;
}
