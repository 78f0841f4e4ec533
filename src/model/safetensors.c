#include "model/safetensors.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/hash.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILES = 1024, MAX_INDEX_BYTES = 64 << 20 };
static const uint64_t MAX_HEADER_BYTES = 100u << 20; /* the bound of the reference implementation */

struct mr_safetensors {
    mr_arena arena;
    mr_mapping *maps;
    size_t n_maps;
    mr_st_tensor *tensors;
    size_t n_tensors, cap_tensors;
    mr_strmap *index;
};

static const struct {
    const char *name;
    uint8_t n_bytes;
} DTYPES[] = {
    [MR_ST_F32] = {"F32", 4}, [MR_ST_F16] = {"F16", 2},         [MR_ST_BF16] = {"BF16", 2},
    [MR_ST_F64] = {"F64", 8}, [MR_ST_F8_E4M3] = {"F8_E4M3", 1}, [MR_ST_F8_E5M2] = {"F8_E5M2", 1},
    [MR_ST_I64] = {"I64", 8}, [MR_ST_I32] = {"I32", 4},         [MR_ST_I16] = {"I16", 2},
    [MR_ST_I8] = {"I8", 1},   [MR_ST_U8] = {"U8", 1},           [MR_ST_BOOL] = {"BOOL", 1},
};

const char *mr_st_dtype_name(mr_st_dtype dtype) {
    return DTYPES[dtype].name;
}

static bool find_dtype(const char *name, mr_st_dtype *dtype) {
    for (size_t i = 0; i < sizeof DTYPES / sizeof DTYPES[0]; i++) {
        if (strcmp(DTYPES[i].name, name) != 0) continue;
        *dtype = (mr_st_dtype)i;
        return true;
    }
    return false;
}

/* Reads one entry of a header: {"dtype": …, "shape": […], "data_offsets": [begin, end]}. */
static mr_status read_tensor(mr_st_tensor *t, const json_t *entry, const uint8_t *data, size_t n_data, const char *path,
                             mr_error *err) {
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (dtype == NULL || !json_is_array(shape) || json_array_size(offsets) != 2) {
        return mr_fail(err, MR_ERR_INVALID, "%s: the entry of tensor %s lacks dtype, shape or data_offsets", path,
                       t->name);
    }
    if (!find_dtype(dtype, &t->dtype)) {
        return mr_fail(err, MR_ERR_UNSUPPORTED, "%s: tensor %s has type %s, which is not supported", path, t->name,
                       dtype);
    }
    if (json_array_size(shape) > MR_ST_MAX_DIMS) {
        return mr_fail(err, MR_ERR_UNSUPPORTED, "%s: tensor %s has more than %d dimensions", path, t->name,
                       MR_ST_MAX_DIMS);
    }
    t->n_dims = (uint32_t)json_array_size(shape);
    uint64_t n_bytes = DTYPES[t->dtype].n_bytes;
    for (uint32_t d = 0; d < t->n_dims; d++) {
        const json_t *dim = json_array_get(shape, d);
        json_int_t value = json_integer_value(dim);
        if (!json_is_integer(dim) || value < 0 || (value > 0 && n_bytes > UINT64_MAX / (uint64_t)value)) {
            return mr_fail(err, MR_ERR_INVALID, "%s: tensor %s has an impossible shape", path, t->name);
        }
        t->shape[d] = (uint64_t)value;
        n_bytes *= (uint64_t)value;
    }
    json_int_t begin = json_integer_value(json_array_get(offsets, 0)),
               end = json_integer_value(json_array_get(offsets, 1));
    if (begin < 0 || end < begin || (uint64_t)end > n_data || (uint64_t)(end - begin) != n_bytes) {
        return mr_fail(err, MR_ERR_INVALID,
                       "%s is truncated or corrupt: tensor %s claims bytes %" JSON_INTEGER_FORMAT
                       " to %" JSON_INTEGER_FORMAT " of %zu for %" PRIu64 " bytes of values",
                       path, t->name, begin, end, n_data, n_bytes);
    }
    t->data = data + begin;
    t->n_bytes = (size_t)n_bytes;
    return MR_OK;
}

static mr_st_tensor *add_tensor(mr_safetensors *st, const char *name) {
    if (st->n_tensors == st->cap_tensors) {
        size_t cap = st->cap_tensors == 0 ? 256 : st->cap_tensors * 2;
        mr_st_tensor *tensors = realloc(st->tensors, cap * sizeof *tensors);
        if (tensors == NULL) return NULL;
        st->tensors = tensors;
        st->cap_tensors = cap;
    }
    mr_st_tensor *t = &st->tensors[st->n_tensors];
    *t = (mr_st_tensor){.name = mr_arena_strndup(&st->arena, name, strlen(name))};
    return t->name == NULL ? NULL : t;
}

static mr_status read_header(mr_safetensors *st, const mr_mapping *map, const char *path, mr_error *err) {
    uint64_t n_header = 0;
    for (size_t i = 0; map->size >= 8 && i < 8; i++) n_header |= (uint64_t)map->data[i] << (8 * i);
    if (map->size < 8 || n_header > map->size - 8 || n_header > MAX_HEADER_BYTES) {
        return mr_fail(err, MR_ERR_INVALID,
                       "%s is no safetensors file, or truncated: its header would have %" PRIu64 " bytes of %zu", path,
                       n_header, map->size);
    }
    json_error_t json_err;
    json_t *header = json_loadb((const char *)map->data + 8, (size_t)n_header, JSON_REJECT_DUPLICATES, &json_err);
    if (!json_is_object(header)) {
        json_decref(header);
        return mr_fail(err, MR_ERR_INVALID, "%s: the safetensors header is no JSON object (%s)", path, json_err.text);
    }
    const uint8_t *data = map->data + 8 + n_header;
    size_t n_data = map->size - 8 - (size_t)n_header;
    mr_status status = MR_OK;
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) continue;
        mr_st_tensor *t = add_tensor(st, name);
        status = t == NULL ? mr_fail_nomem(err, sizeof *t, "the tensor list")
                           : read_tensor(t, entry, data, n_data, path, err);
        if (status != MR_OK) break;
        st->n_tensors++;
    }
    json_decref(header);
    return status;
}

static mr_status add_file(mr_safetensors *st, const char *path, mr_error *err) {
    mr_mapping *maps = realloc(st->maps, (st->n_maps + 1) * sizeof *maps);
    if (maps == NULL) return mr_fail_nomem(err, sizeof *maps, "the file list");
    st->maps = maps;
    mr_status status = mr_file_map(&maps[st->n_maps], path, err);
    if (status != MR_OK) return status;
    st->n_maps++;
    return read_header(st, &maps[st->n_maps - 1], path, err);
}

static mr_status build_index(mr_safetensors *st, mr_error *err) {
    st->index = mr_strmap_new(st->n_tensors);
    if (st->index == NULL) return mr_fail_nomem(err, st->n_tensors, "the tensor index");
    for (size_t i = 0; i < st->n_tensors; i++) {
        const char *name = st->tensors[i].name;
        uint32_t seen;
        if (mr_strmap_get(st->index, name, strlen(name), &seen)) {
            return mr_fail(err, MR_ERR_INVALID, "the safetensors files hold tensor %s twice", name);
        }
        if (!mr_strmap_put(st->index, name, strlen(name), (uint32_t)i))
            return mr_fail_nomem(err, 0, "the tensor index");
    }
    return MR_OK;
}

/* Adds every file that the index names, once each. A name is a plain file name: an index can't lead out of its folder.
 */
static mr_status add_indexed_files(mr_safetensors *st, const char *folder, const json_t *index, const char *index_path,
                                   mr_error *err) {
    json_t *weight_map = json_object_get(index, "weight_map"), *seen = json_object(), *file;
    const char *name;
    mr_status status = json_is_object(weight_map)
                           ? MR_OK
                           : mr_fail(err, MR_ERR_INVALID, "%s has no object \"weight_map\"", index_path);
    json_object_foreach(weight_map, name, file) {
        const char *file_name = json_string_value(file);
        if (status != MR_OK) break;
        if (file_name == NULL || strchr(file_name, '/') != NULL || file_name[0] == '.' || file_name[0] == '\0') {
            status = mr_fail(err, MR_ERR_INVALID, "%s names a file for tensor %s that is no plain file name",
                             index_path, name);
            break;
        }
        if (json_object_get(seen, file_name) != NULL) continue;
        json_object_set_new(seen, file_name, json_true());
        if (json_object_size(seen) > MAX_FILES) {
            status = mr_fail(err, MR_ERR_LIMIT, "%s names more than %d files", index_path, MAX_FILES);
            break;
        }
        char *path = mr_path_join(folder, file_name);
        status = path == NULL ? mr_fail_nomem(err, 0, "a path") : add_file(st, path, err);
        free(path);
    }
    json_decref(seen);
    return status;
}

static mr_status add_folder(mr_safetensors *st, const char *folder, mr_error *err) {
    char *single = mr_path_join(folder, "model.safetensors"),
         *index_path = mr_path_join(folder, "model.safetensors.index.json");
    mr_status status = single == NULL || index_path == NULL ? mr_fail_nomem(err, 0, "a path") : MR_OK;
    if (status == MR_OK && mr_path_is_file(index_path)) {
        mr_buf text = {0};
        json_error_t json_err;
        status = mr_file_read(&text, index_path, MAX_INDEX_BYTES, err);
        json_t *index = status == MR_OK ? json_loadb(mr_buf_cstr(&text), text.len, 0, &json_err) : NULL;
        if (status == MR_OK && index == NULL) {
            status = mr_fail(err, MR_ERR_INVALID, "%s line %d: %s", index_path, json_err.line, json_err.text);
        }
        if (status == MR_OK) status = add_indexed_files(st, folder, index, index_path, err);
        json_decref(index);
        mr_buf_free(&text);
    } else if (status == MR_OK && mr_path_is_file(single)) {
        status = add_file(st, single, err);
    } else if (status == MR_OK) {
        status = mr_fail(err, MR_ERR_NOT_FOUND, "%s holds neither model.safetensors nor model.safetensors.index.json",
                         folder);
    }
    free(single);
    free(index_path);
    return status;
}

static mr_status open_with(mr_safetensors **out, mr_status (*add)(mr_safetensors *, const char *, mr_error *),
                           const char *path, mr_error *err) {
    *out = NULL;
    mr_safetensors *st = calloc(1, sizeof *st);
    if (st == NULL) return mr_fail_nomem(err, sizeof *st, "safetensors files");
    mr_status status = add(st, path, err);
    if (status == MR_OK) status = build_index(st, err);
    if (status != MR_OK) {
        mr_safetensors_close(st);
        return status;
    }
    *out = st;
    return MR_OK;
}

mr_status mr_safetensors_open_folder(mr_safetensors **st, const char *folder, mr_error *err) {
    return open_with(st, add_folder, folder, err);
}

mr_status mr_safetensors_open_file(mr_safetensors **st, const char *path, mr_error *err) {
    return open_with(st, add_file, path, err);
}

void mr_safetensors_close(mr_safetensors *st) {
    if (st == NULL) return;
    for (size_t i = 0; i < st->n_maps; i++) mr_file_unmap(&st->maps[i]);
    free(st->maps);
    free(st->tensors);
    mr_strmap_free(st->index);
    mr_arena_free(&st->arena);
    free(st);
}

size_t mr_safetensors_n(const mr_safetensors *st) {
    return st->n_tensors;
}

const mr_st_tensor *mr_safetensors_at(const mr_safetensors *st, size_t i) {
    return i < st->n_tensors ? &st->tensors[i] : NULL;
}

const mr_st_tensor *mr_safetensors_find(const mr_safetensors *st, const char *name) {
    uint32_t i;
    return mr_strmap_get(st->index, name, strlen(name), &i) ? &st->tensors[i] : NULL;
}

void mr_safetensors_drop_pages(const mr_safetensors *st, const uint8_t *data, size_t n) {
    for (size_t i = 0; i < st->n_maps; i++) {
        const mr_mapping *map = &st->maps[i];
        if (data < map->data || data >= map->data + map->size) continue;
        mr_file_drop_pages(map, (size_t)(data - map->data), n);
    }
}
